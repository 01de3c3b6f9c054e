"""What all losses share: logits and truth pixel by pixel, means that survive having nothing to count.

A truth is a label map int64 (B, H, W), or, where classes overlap, masks (B, C, H, W) of 0, 1 and VOID.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from maskwright.core.types import VOID
from maskwright.training.class_weights import ClassWeights

L = TypeVar("L", bound=Callable[..., Tensor])


def takes_masks(loss: L) -> L:
    """Marks a loss that also takes masks (B, C, H, W) as targets, and so can be had with `multilabel: true`."""
    loss.takes_masks = True  # type: ignore[attr-defined]
    return loss


def are_masks(targets: Tensor) -> bool:
    return targets.ndim == 4


def widened(logits: Tensor) -> Tensor:
    """In float32 at least."""
    return logits if logits.dtype == torch.float64 else logits.float()


def by_pixel(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits as (N, C), labels as (N,) with 0 for VOID, and which of them count, bool (N,); N = B * H * W.

    The logits are a view where they lie channels last, and fast there.
    """
    labels = labels.reshape(-1)
    counted = labels != VOID
    return widened(logits).permute(0, 2, 3, 1).reshape(-1, logits.shape[1]), labels.where(counted, 0), counted


def at_label(scores: Tensor, labels: Tensor) -> Tensor:
    """The score (N,) that each pixel gives its own class."""
    return scores.gather(1, labels[:, None])[:, 0]


def mean(total: Tensor, count: Tensor) -> Tensor:
    """total / count; 0, with a gradient of 0, where nothing was counted."""
    return total / count.to(total.dtype).where(count > 0, 1)


def weighted_mean(losses: Tensor, weight: Tensor) -> Tensor:
    """The mean of losses (...) by weights (...) of the same shape, summed along the last side first.

    float32 sums of millions of numbers stay exact enough that way.
    """
    return mean((losses * weight).sum(-1).sum(), weight.sum(-1).sum())


def factors(class_weights: ClassWeights, scores: Tensor) -> Tensor | None:
    """Class weights (C,) beside the scores; None where there are none."""
    assert class_weights is None or isinstance(class_weights, list), "`criterion` makes numbers of them"
    return None if class_weights is None else scores.new_tensor(class_weights)
