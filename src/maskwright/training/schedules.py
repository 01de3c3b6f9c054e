"""Learning-rate schedules. To add one: write the function here, add its name in `training/__init__.py`.

A schedule is (moment, *, options) -> factor of the learning rate: a pure function of where the training stands and of the
validation scores so far, so that a resumed training needs nothing but its position.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from maskwright.core.errors import RecipeError
from maskwright.core.recipe import check_entry
from maskwright.training import SCHEDULES


@dataclass(frozen=True)
class Moment:
    """progress: share of the training that is done, from 0 (first step) to 1 (after the last). epoch: the same in epochs.

    scores: of the validations so far, higher is better.
    """

    progress: float
    epoch: float = 0.0
    scores: tuple[float, ...] = ()


Schedule = Callable[[Moment], float]


def schedule(name: str, options: Mapping[str, Any]) -> Schedule:
    """The schedule of a recipe. Raises RecipeError for an unknown name or option and for values that cannot be."""
    check_entry(SCHEDULES, name, options, place="train.schedule")
    chosen: Schedule = partial(SCHEDULES[name], **options)
    try:
        chosen(Moment(0.0))
    except ValueError as error:
        raise RecipeError(str(error), place=f"train.schedule: {name}") from error
    return chosen


def warmed_up(shape: Schedule, moment: Moment, step: int, total_steps: int, warmup_steps: int = 0) -> float:
    """The factor at a step (from 0): rises in equal parts over the warm-up, then follows `shape` over the steps left."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    left = max(1, total_steps - warmup_steps)
    return shape(replace(moment, progress=min(1.0, (step - warmup_steps) / left)))


def cosine(moment: Moment, *, final: float = 0.0) -> float:
    """Half a cosine down to `final` (Loshchilov and Hutter 2017).

    final: factor at the end.
    """
    _share("final", final)
    return final + (1 - final) * (1 + math.cos(math.pi * moment.progress)) / 2


def poly(moment: Moment, *, power: float = 0.9, final: float = 0.0) -> float:
    """(1 - progress) ** power, as DeepLab trains (Chen et al. 2017).

    power: above 1 falls early, below 1 late.
    final: factor at the end.
    """
    _share("final", final)
    if not 0 < power < math.inf:
        raise ValueError(f"`power` must be above 0, not {power}")
    return final + (1 - final) * (1 - moment.progress) ** power


def constant(moment: Moment) -> float:
    """The same learning rate throughout."""
    return 1.0


def exponential(moment: Moment, *, final: float = 0.01) -> float:
    """final ** progress: falls by the same share in every step.

    final: factor at the end, above 0.
    """
    if not 0 < final <= 1:
        raise ValueError(f"`final` must be above 0 and at most 1, not {final}")
    return final**moment.progress


def step(moment: Moment, *, factor: float = 0.1, at: list[float] | None = None, every: int | None = None) -> float:
    """Falls by `factor` at certain times; left to itself after a third and after two thirds.

    factor: what the learning rate is multiplied by each time.
    at: when; numbers from 1 are epochs, as in [10, 20], numbers below 1 are shares of what follows the warm-up, as in
      [0.5, 0.75].
    every: so many epochs apart, instead of `at`.
    """
    _share("factor", factor)
    if at is not None and every is not None:
        raise ValueError("give `at` or `every`, not both")
    if every is not None:
        if every < 1:
            raise ValueError(f"`every` must be 1 epoch or more, not {every}")
        return factor ** int(moment.epoch / every + 1e-9)
    times = [1 / 3, 2 / 3] if at is None else at
    if any(time <= 0 for time in times):
        raise ValueError(f"`at` must be above 0, not {min(times):g}")
    return factor ** sum((moment.progress if time < 1 else moment.epoch) >= time - 1e-9 for time in times)


def one_cycle(
    moment: Moment, *, pct_start: float = 0.3, div_factor: float = 25.0, final_div_factor: float = 1e4
) -> float:
    """Rises to the full learning rate and falls below the first one, both along half cosines (Smith and Topin 2018).

    Momentum stays as it is.

    pct_start: share of the training in which it rises.
    div_factor: the first learning rate is the full one divided by this.
    final_div_factor: the last learning rate is the first one divided by this.
    """
    if not 0 <= pct_start < 1 or div_factor < 1 or final_div_factor < 1:
        raise ValueError("`pct_start` goes from 0 to below 1, `div_factor` and `final_div_factor` from 1")
    first, progress = 1 / div_factor, moment.progress
    if progress < pct_start:
        return 1 + (first - 1) * (1 + math.cos(math.pi * progress / pct_start)) / 2
    return cosine(Moment((progress - pct_start) / (1 - pct_start)), final=first / final_div_factor)


def plateau(
    moment: Moment, *, factor: float = 0.1, patience: int = 3, tolerance: float = 1e-4, min_factor: float = 0.0
) -> float:
    """Falls by `factor` when the validation score has not risen for a while.

    factor: what the learning rate is multiplied by each time.
    patience: validations in a row without a better score that make it fall.
    tolerance: a score counts as better when it rises by more than this.
    min_factor: it never falls below this share of the full learning rate.
    """
    if patience < 1 or not 0 < factor < 1 or not tolerance >= 0:
        raise ValueError("`patience` goes from 1, `factor` lies between 0 and 1, `tolerance` is 0 or more")
    _share("min_factor", min_factor)
    return max(min_factor, factor ** (len(since_better(moment.scores, tolerance, patience)) - 1))


def _share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"`{name}` goes from 0 to 1, not {value}")


def since_better(scores: Sequence[float], tolerance: float, patience: int | None = None) -> list[int]:
    """How many scores in a row were no better than the best before them, counted anew each time it was `patience` many.

    One entry for each count: the last one is still open, the others came to `patience`.
    """
    best, counts = -math.inf, [0]
    for score in scores:
        if score > best + tolerance:
            best, counts[-1] = score, 0
        else:
            counts[-1] += 1
        if counts[-1] == patience:
            counts.append(0)
    return counts
