"""Losses for semantic networks: the `loss` of a recipe as one callable.

To add a loss: write its function in `pixel_losses.py` (a mean over pixels) or `region_losses.py` (a score of whole areas),
add its line to LOSSES in `training/__init__.py`. A loss is (logits, targets, *, options) -> scalar: logits float (B, C, H, W),
targets a label map int64 (B, H, W). One that `takes_masks` (loss_targets.py) also knows overlapping classes: targets
(B, C, H, W) of 0, 1 and VOID, each channel a sigmoid of its own. An option named `class_weights` reaches it as one number a
class.

Pixels labelled VOID count nowhere; where every pixel is VOID the loss is 0 and so is its gradient. Losses compute in float32
whatever precision the network ran in (float64 stays float64). None is ever below 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from maskwright.core.errors import RecipeError
from maskwright.core.recipe import check_entry
from maskwright.core.registry import suggestion
from maskwright.training import LOSSES, class_weights
from maskwright.training.softmax import shared

Loss = Callable[[Tensor, Tensor], Tensor]
RANGES: dict[str, tuple[Callable[[float], bool], str]] = {  # option -> what it may be
    "label_smoothing": (lambda v: 0 <= v < 1, "0 up to 1"),
    "class_beta": (lambda v: 0 <= v < 1, "0 up to 1"),
    "gamma": (lambda v: 0 <= v < math.inf, "0 or more"),
    "alpha": (lambda v: 0 <= v < math.inf, "0 or more"),
    "beta": (lambda v: 0 <= v < math.inf, "0 or more"),
    "threshold": (lambda v: 0 <= v <= 1, "0 to 1"),
    "min_kept": (lambda v: 0 < v <= 1, "above 0, at most 1"),
    "strength": (lambda v: 0 <= v < math.inf, "0 or more"),
    "width": (lambda v: 0 < v <= 50, "above 0, at most 50"),
}

COMPARING = {"cross_entropy", "focal", "ohem", "boundary"}  # with one class alone their loss is always 0


def criterion(
    parts: Mapping[str, float | Mapping[str, Any]],
    classes: Sequence[str] = (),
    pixels: np.ndarray | None = None,
    multilabel: bool = False,
) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    """The losses of a recipe as one callable: (logits, targets) -> {name: weighted loss}.

    parts: name -> weight, or name -> {"weight": 1.0, option: value, ...}.
    classes: names in index order; () before data are opened: all is checked that can be without them, and the callable
      knows no class weights. pixels: int64 (C,), how many training pixels each class has, for weights from the data.
    multilabel: targets are (B, C, H, W), one mask a class.

    Raises RecipeError for an unknown loss or option, values out of range, weights that are negative, not finite, or all 0,
    class weights that do not fit the classes, and losses that cannot be had with `multilabel`.
    """
    if not parts:
        raise RecipeError("names no loss", place="loss", hint=suggestion("", LOSSES))
    losses = {name: _part(name, value, classes, pixels, multilabel) for name, value in parts.items()}
    if len(classes) == 1 and not multilabel and not set(parts) - COMPARING:
        what = f"{' and '.join(parts)} compares classes, and the data have one, `{classes[0]}`, and no background"
        raise RecipeError(what, place="loss", hint="bce or dice, which ask of each pixel by itself")
    if not any(weight for weight, _ in losses.values()):
        raise RecipeError("all weights are 0, nothing would be learnt", place="loss")

    def losses_of(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
        with torch.autocast(logits.device.type, enabled=False):
            logits = shared(logits)
            return {name: weight * loss(logits, targets) for name, (weight, loss) in losses.items()}

    return losses_of


def _part(
    name: str,
    value: float | Mapping[str, Any],
    classes: Sequence[str],
    pixels: np.ndarray | None,
    multilabel: bool,
) -> tuple[float, Loss]:
    """Weight and loss of one entry of a recipe's `loss`."""
    place = f"loss.{name}"
    LOSSES.check(name, place="loss")
    options: dict[str, Any] = dict(value) if isinstance(value, Mapping) else {"weight": value}
    weight = options.pop("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not (weight >= 0 and math.isfinite(weight)):
        raise RecipeError(f"the weight of a loss is a number from 0, not `{weight}`", place=place)
    if multilabel and not getattr(LOSSES[name], "takes_masks", False):
        able = ", ".join(f"`{other}`" for other in LOSSES if getattr(LOSSES[other], "takes_masks", False))
        what = "gives each pixel one class, which `multilabel: true` does not"
        raise RecipeError(what, place=place, hint=f"it can be {able}")
    known = LOSSES.options(name)
    for option in options:
        if option not in known:
            raise RecipeError("unknown option", place=f"{place}.{option}", hint=suggestion(option, ["weight", *known]))
    given = options.pop("class_weights", None)
    check_entry(LOSSES, name, options, place=place)
    _check_ranges(options, place)
    if "class_beta" in options and given != "effective_number":
        hint = "set `class_weights: effective_number`, or leave it out"
        raise RecipeError("does nothing without effective numbers", place=f"{place}.class_beta", hint=hint)
    if "class_weights" in known:
        beta = options.get("class_beta", known["class_beta"].default if "class_beta" in known else class_weights.BETA)
        options["class_weights"] = class_weights.resolve(
            given, classes, pixels, beta=beta, place=f"{place}.class_weights"
        )
    return float(weight), partial(LOSSES[name], **options)


def _check_ranges(options: Mapping[str, Any], place: str) -> None:
    for option, value in options.items():
        allowed, words = RANGES.get(option, (None, ""))
        if allowed and isinstance(value, int | float) and not allowed(value):
            raise RecipeError(f"can be {words}, not {value}", place=f"{place}.{option}")
    if options.get("alpha") == options.get("beta") == 0:
        raise RecipeError("`alpha` and `beta` are both 0: no mistake would cost anything", place=place)
