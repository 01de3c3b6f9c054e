"""Class weights of a loss: what a recipe says of them becomes one number a class."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from maskwright.core import events
from maskwright.core.errors import RecipeError
from maskwright.core.registry import suggestion
from maskwright.core.words import counted

FromData = Literal["inverse_frequency", "effective_number"]
ClassWeights = list[float] | dict[str, float] | FromData | None
BETA = 0.999999


def resolve(
    given: Any, classes: Sequence[str], pixels: np.ndarray | None, *, beta: float, place: str
) -> list[float] | None:
    """One factor a class, in class order; None where nothing is given, and, while `classes` are unknown, always.

    given: numbers in class order; {class name: number}, classes that are not named have 1; `inverse_frequency`, total /
      (classes that occur * pixels of the class); `effective_number`, (1 - beta) / (1 - beta ** pixels), scaled to a mean of
      1 over the classes that occur (Cui et al. 2019, Class-Balanced Loss, with pixels for samples). Weights from the data
      are told; a class without a training pixel gets 0.

    Raises RecipeError (with `place`) for numbers below 0, not finite or all 0, another count than there are classes,
    names that are no class, and words that are none of the two.
    """
    if given is None:
        return None
    if isinstance(given, str):
        return _from_data(given, classes, pixels, beta, place)
    named = isinstance(given, Mapping)
    if not named and not isinstance(given, Sequence):
        raise RecipeError(f"cannot be `{given}`", place=place, hint=_forms())
    numbers = list(given.values()) if isinstance(given, Mapping) else list(given)
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int | float) or not 0 <= number < math.inf:
            raise RecipeError(f"are numbers from 0, not `{number}`", place=place)
    if not classes:
        return None
    if isinstance(given, Mapping):
        for name in given:
            if name not in classes:
                raise RecipeError(f"no class is called `{name}`", place=place, hint=suggestion(str(name), classes))
        numbers = [given.get(name, 1.0) for name in classes]
    if len(numbers) != len(classes):
        what = f"has {counted(len(numbers), 'number')} for {counted(len(classes), 'class')}"
        raise RecipeError(what, place=place, hint=f"one a class, in this order: {', '.join(classes)}")
    if not any(numbers):
        raise RecipeError("are all 0, nothing would be learnt", place=place)
    return [float(number) for number in numbers]


def _from_data(
    how: str, classes: Sequence[str], pixels: np.ndarray | None, beta: float, place: str
) -> list[float] | None:
    if how not in ("inverse_frequency", "effective_number"):
        raise RecipeError(f"cannot be `{how}`", place=place, hint=_forms())
    if not classes:
        return None
    assert pixels is not None, "weights from the data need the pixels of each class"
    assert len(pixels) == len(classes)
    counts = pixels.astype(np.float64)
    present = counts > 0
    if not present.any():
        raise RecipeError("no class has a training pixel to be weighed by", place=place)
    counts = counts[present]
    if how == "inverse_frequency":
        found = counts.sum() / (len(counts) * counts)
    else:
        logarithm = math.log(beta) if beta else -math.inf
        found = 1 / -np.expm1(counts * logarithm)
        found /= found.mean()
    weights = np.zeros(len(classes))
    weights[present] = found
    shown = ", ".join(f"{name} {weight:.3g}" for name, weight in zip(classes, weights, strict=True))
    events.say(f"{place}: {how} of the training pixels: {shown}")
    return [float(weight) for weight in weights]


def _forms() -> str:
    return "it can be [numbers in class order], {class name: number}, `inverse_frequency` or `effective_number`"
