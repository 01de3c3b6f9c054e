"""What operations share: the chance that they take part, and ranges of options, checked and drawn from.

A range written as one number x means from -x to x. Every value that makes no sense raises a RecipeError with its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from maskwright.core.errors import RecipeError
from maskwright.training.change import Change, Operation

Range = tuple[float, float]
Number = float | Range  # x stands for -x to x


def sometimes(name: str, chance: float, operation: Operation) -> Operation:
    """The operation, for a share `chance` of the samples; the decision is the first thing it draws."""
    if not 0 <= chance <= 1:
        raise RecipeError(f"must be from 0 to 1 (got {chance})", place=f"augment: {name}.chance")

    def decided(change: Change, rng: np.random.Generator) -> None:
        if rng.random() < chance:
            operation(change, rng)

    return decided


def not_negative(name: str, value: float) -> float:
    """The value itself, when it is 0 or more."""
    if not 0 <= value < math.inf:
        raise RecipeError(f"must be 0 (off) or more (got {value})", place=f"augment: {name}")
    return value


def both_ways(name: str, value: Number, *, least: float = -math.inf, most: float = math.inf) -> Range:
    """A range about 0 from its largest value, or the range itself, within the limits."""
    if isinstance(value, int | float):
        value = (-not_negative(name, value), value)
    return between(name, value, least=max(least, -most), most=most)


def between(name: str, span: Range, *, above: float | None = None, least: float = 0.0, most: float = math.inf) -> Range:
    """The two ends of a range, in order and within the limits."""
    low, high = span
    if above is not None and not low > above:
        raise RecipeError(f"must be above {above:g} (got [{low}, {high}])", place=f"augment: {name}")
    if not (least <= low <= high <= most and math.isfinite(low) and math.isfinite(high)):
        limits = f" from {least:g} to {most:g}" if math.isfinite(most) else f", {least:g} or more"
        limits = limits if math.isfinite(least) else ""
        what = f"must be [least, most]{limits} (got [{low}, {high}])"
        raise RecipeError(what, place=f"augment: {name}")
    return low, high


def factor(name: str, span: Range, even: bool = False) -> Callable[[np.random.Generator], float]:
    """Draws factors from a range above 0: log-evenly, so that a half is as likely as two, or evenly."""
    low, high = between(name, span, above=0.0)
    if even:
        return lambda rng: rng.uniform(low, high)
    return lambda rng: low * (high / low) ** rng.random()
