"""Losses for semantic networks. To add one: write the function here, add its name to LOSSES in `training/__init__.py`.

Every loss takes logits float (B, C, H, W) and a label map int64 (B, H, W) and returns a scalar. Pixels labelled VOID count
nowhere; where every pixel is VOID the loss is 0 and so is its gradient. Losses compute in float32 whatever precision the
network ran in (float64 stays float64).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from maskwright.core.errors import RecipeError
from maskwright.core.recipe import check_entry
from maskwright.core.registry import suggestion
from maskwright.core.types import VOID
from maskwright.training import LOSSES

Loss = Callable[[Tensor, Tensor], Tensor]
DICE_SMOOTH = 1.0  # pixels


def criterion(parts: Mapping[str, float | Mapping[str, Any]]) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    """The losses of a recipe as one callable: (logits, targets) -> {name: weighted loss}.

    parts: name -> weight, or name -> {"weight": 1.0, option: value, ...}. Raises RecipeError for an unknown loss or option
    and for weights that are negative, not finite, or all 0.
    """
    if not parts:
        raise RecipeError("names no loss", place="loss", hint=suggestion("", LOSSES))
    losses = {name: _part(name, value) for name, value in parts.items()}
    if not any(weight for weight, _ in losses.values()):
        raise RecipeError("all weights are 0, nothing would be learnt", place="loss")

    def losses_of(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        with torch.autocast(logits.device.type, enabled=False):
            return {name: weight * loss(logits, targets) for name, (weight, loss) in losses.items()}

    return losses_of


def cross_entropy(
    logits: Tensor, targets: Tensor, *, class_weights: list[float] | None = None, label_smoothing: float = 0.0
) -> Tensor:
    """Softmax cross-entropy, the mean over all pixels of the batch.

    class_weights: one factor a class, in class order; the mean is weighted by them.
    label_smoothing: share of the target spread evenly over all classes, 0 up to 1 (Szegedy et al. 2016).
    """
    scores, labels = _pixels(logits, targets)
    weight = _class_weights(class_weights, scores)
    losses = functional.cross_entropy(
        scores, labels, weight, ignore_index=VOID, label_smoothing=label_smoothing, reduction="sum"
    )
    counted = labels != VOID
    return _mean(losses, counted.sum() if weight is None else (weight[labels.where(counted, 0)] * counted).sum())


def bce(logits: Tensor, targets: Tensor) -> Tensor:
    """Binary cross-entropy of each class against all others (a sigmoid a channel), the mean over pixels and classes."""
    scores, labels = _pixels(logits, targets)
    counted = labels != VOID
    # -log sigmoid(z) for the pixel's class and -log(1 - sigmoid(z)) for the others, which is softplus(z) [- z]
    losses = functional.softplus(scores).sum(1) - _at_label(scores, labels.where(counted, 0))
    return _mean((losses * counted).sum(), counted.sum() * scores.shape[1])


def dice(logits: Tensor, targets: Tensor) -> Tensor:
    """Soft Dice (Milletari et al. 2016, V-Net), pooled over the batch and averaged over the classes present in it.

    1 - (2 sum(p t) + s) / (sum(p) + sum(t) + s) a class: p the softmax (the sigmoid where there is one class only), t one
    where the pixel has that class, s one pixel. The sums in the denominator are plain ones (V-Net squares p).
    """
    scores, labels = _pixels(logits, targets)
    num_classes = scores.shape[1]
    counted = (labels != VOID).to(scores.dtype)
    labels = labels.where(labels != VOID, 0)
    shares = scores.softmax(1) if num_classes > 1 else scores.sigmoid()
    hits = _per_class(_at_label(shares, labels) * counted, labels, targets.shape, num_classes)
    truth = _per_class(counted, labels, targets.shape, num_classes)
    rows, width = targets.shape[0] * targets.shape[1], targets.shape[2]  # row by row: float32 sums stay exact enough
    claimed = torch.bmm(counted.view(rows, 1, width), shares.reshape(rows, width, num_classes)).sum((0, 1))
    scored = 1 - (2 * hits + DICE_SMOOTH) / (claimed + truth + DICE_SMOOTH)
    present = truth > 0
    return _mean((scored * present).sum(), present.sum())


def _part(name: str, value: float | Mapping[str, Any]) -> tuple[float, Loss]:
    """Weight and loss of one entry of a recipe's `loss`."""
    LOSSES.check(name, place="loss")
    options = dict(value) if isinstance(value, Mapping) else {"weight": value}
    weight = options.pop("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not (weight >= 0 and math.isfinite(weight)):
        raise RecipeError(f"the weight of a loss is a number from 0, not `{weight}`", place=f"loss.{name}")
    known = LOSSES.options(name)
    for option in options:
        if option not in known:
            hint = suggestion(option, ["weight", *known])
            raise RecipeError("unknown option", place=f"loss.{name}.{option}", hint=hint)
    check_entry(LOSSES, name, options, place=f"loss.{name}")
    smoothing = options.get("label_smoothing", 0.0)
    if not 0 <= smoothing < 1:
        raise RecipeError(f"can be 0 up to 1, not {smoothing}", place=f"loss.{name}.label_smoothing")
    return float(weight), partial(LOSSES[name], **options)


def _pixels(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Logits as (N, C) and labels as (N,), N = B * H * W; a view where the logits lie channels last, and fast there."""
    wide = logits if logits.dtype == torch.float64 else logits.float()
    return wide.permute(0, 2, 3, 1).reshape(-1, logits.shape[1]), targets.reshape(-1)


def _at_label(scores: Tensor, labels: Tensor) -> Tensor:
    """The score (N,) that each pixel gives its own class."""
    return scores.gather(1, labels[:, None])[:, 0]


def _per_class(values: Tensor, labels: Tensor, shape: torch.Size, num_classes: int) -> Tensor:
    """Sums (C,) of values (N,) over the pixels of each class; row by row first, so that float32 stays exact enough."""
    rows = (shape[0] * shape[1], shape[2])
    sums = values.new_zeros(rows[0], num_classes).scatter_add(1, labels.reshape(rows), values.reshape(rows))
    return sums.sum(0)


def _mean(total: Tensor, count: Tensor) -> Tensor:
    """total / count; 0, with a gradient of 0, where nothing was counted."""
    return total / count.to(total.dtype).where(count > 0, 1)


def _class_weights(values: list[float] | None, scores: Tensor) -> Tensor | None:
    if values is None:
        return None
    if len(values) != scores.shape[1] or not all(math.isfinite(v) and v >= 0 for v in values):
        what = f"needs {scores.shape[1]} numbers from 0, one a class in class order, not {list(values)}"
        raise RecipeError(what, place="loss.cross_entropy.class_weights")
    return scores.new_tensor(values)
