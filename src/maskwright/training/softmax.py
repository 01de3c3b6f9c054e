"""The softmax of the logits and what it gives each pixel's own class: computed once and differentiated once for all losses.

`criterion` hands its losses the same `shared` logits; a loss that is called by itself gets a softmax of its own.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from maskwright.training.loss_targets import by_pixel

UNSURE = 1e-6  # below, the logarithm of a float32 probability is not exact enough


def shared(logits: Tensor) -> Tensor:
    """The same logits, for losses that are to share their softmax. They must not be changed in place in the meantime."""
    alias = logits.view_as(logits)
    alias.known_softmax = {}  # type: ignore[attr-defined]
    return alias


def softmax(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Probabilities (N, C) of the pixels of logits (B, C, H, W), and the logarithm of that of each pixel's own class (N,).

    targets: label map int64 (B, H, W); VOID pixels are asked for class 0. N = B * H * W.
    """
    known: dict[int, tuple[Tensor, Tensor]] = getattr(logits, "known_softmax", {})
    if id(targets) not in known:
        scores, labels, _ = by_pixel(logits, targets)
        known[id(targets)] = _Softmax.apply(scores, labels)
    return known[id(targets)]


class _Softmax(torch.autograd.Function):
    """(scores (N, C), labels (N,)) -> softmax (N, C), log softmax at the labels (N,)."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        shares = scores.softmax(1)
        own = shares.gather(1, labels[:, None])[:, 0]
        logs = own.log()
        unsure = (own < UNSURE).nonzero()[:, 0]
        if len(unsure):
            rows = scores[unsure]
            logs[unsure] = rows.log_softmax(1).gather(1, labels[unsure, None])[:, 0]
        ctx.save_for_backward(shares, labels)
        ctx.set_materialize_grads(False)
        return shares, logs

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        """slopes: of the loss by the probabilities and by the logarithms, each None where nothing depends on it."""
        (shares, labels), (by_share, by_log) = ctx.saved_tensors, slopes
        found = torch.zeros_like(shares)
        if by_share is not None:
            found = torch.ops.aten._softmax_backward_data(by_share, shares, 1, shares.dtype)
        if by_log is not None:
            found = found.addcmul_(shares, by_log[:, None], value=-1).scatter_add_(1, labels[:, None], by_log[:, None])
        return found, None
