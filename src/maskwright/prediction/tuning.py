"""Which thresholds suit a model: the network sees every image once, then all settings of a grid are tried on what it found.

    found = look(predictor, data, exclusive=False)
    tuned = search(found, predictor.thresholds, "f1")      # Tuned: the best setting, its gain, and an honest gain

The gain on the images that thresholds were chosen on flatters them. So they are also chosen on each half of the images
alone and measured on the other half (cross-fitting); the interval of that gain is a paired bootstrap over images.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hotcoco import mask as coco

from maskwright.core import events
from maskwright.core.errors import DataError
from maskwright.core.table import Data
from maskwright.core.types import Instances, Record
from maskwright.core.words import counted
from maskwright.imaging.objects import Objects, objects_of
from maskwright.metrics import decided, matching
from maskwright.metrics.intervals import Estimate, resampled
from maskwright.metrics.matching import MOST, THRESHOLDS, Matches
from maskwright.prediction.evaluation import THREADS, ordered
from maskwright.prediction.instance_evaluation import FEWER, MANY, class_table
from maskwright.prediction.instances import InstancePredictor
from maskwright.tasks import instance
from maskwright.tasks.thresholds import Thresholds, settled, surviving

SCORES = tuple(round(0.05 * step, 2) for step in range(20))  # 0 to 0.95
NMS = (1.0, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
MASKS = (0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7)
AREAS = (0, 16, 64, 144, 256, 576, 1024)  # pixels
FEWEST = 4  # images: two halves of two
TINY = 1e-9  # less than between any two shares of pixels
SEED = 0  # of the halves and the resamples

Drawn = tuple[float, float | None]  # a mask threshold, and the NMS threshold where objects share no pixels


@dataclass(frozen=True, slots=True)
class Pixels:
    """What the findings look like at one mask threshold.

    areas: int64 (D,). detection, thing, iou: (P,), pairs that overlap enough for the loosest threshold.
    """

    areas: np.ndarray
    detection: np.ndarray
    thing: np.ndarray
    iou: np.ndarray


@dataclass(frozen=True, slots=True)
class Found:
    """All findings of a network on N images, as columns; no pixels are kept.

    classes: of the data. exclusive: whether the grid is of objects that share no pixels.
    image, label, score: (D,), of each finding, by image and class, the surest first. survives: NMS threshold -> bool (D,).
    pixels: what they look like. truth_image, truth_label, truth_areas, truth_crowd: (G,).
    """

    classes: tuple[str, ...]
    num_images: int
    exclusive: bool
    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    survives: dict[float, np.ndarray]
    pixels: dict[Drawn, Pixels]
    truth_image: np.ndarray
    truth_label: np.ndarray
    truth_areas: np.ndarray
    truth_crowd: np.ndarray

    def matches(self, rules: Thresholds, metric: str) -> Matches:
        """What comes of the findings under these rules but `score`, which is left to whoever cuts."""
        look = self.pixels[_drawn(rules)]
        left = self.survives[rules.nms] & (look.areas >= max(rules.min_area, 1))
        kept = np.flatnonzero(left)
        key = self.image[kept] * len(self.classes) + self.label[kept]
        rank = np.arange(len(kept)) - np.searchsorted(key, key)
        kept, rank = kept[rank < MOST], rank[rank < MOST]
        position = np.full(len(left), -1, np.int64)
        position[kept] = np.arange(len(kept))
        there = position[look.detection] >= 0
        iou = look.iou[there] - (TINY if metric in decided.STRICT else 0)
        pairs = (position[look.detection[there]], look.thing[there], iou)
        return matching.settled(
            pairs,
            rank,
            look.areas[kept],
            self.truth_areas,
            self.truth_crowd,
            image=self.image[kept],
            label=self.label[kept],
            score=self.score[kept],
            truth_image=self.truth_image,
            truth_label=self.truth_label,
        )


@dataclass(frozen=True, slots=True)
class Tuned:
    """before, after: thresholds. value_before, value_after: of the metric, on all images.

    gain: on the images that `after` was chosen on. honest: cross-fitted, what other images may gain, with its interval.
    settings: how many were tried.
    """

    metric: str
    before: Thresholds
    after: Thresholds
    value_before: float
    value_after: float
    gain: float
    honest: Estimate
    images: int
    settings: int

    @property
    def sure(self) -> bool:
        """Whether the honest gain can be told from none."""
        return self.honest.low is not None and self.honest.low > 0

    def to_json(self) -> dict[str, Any]:
        return {
            "metric": self.metric,
            "before": {**self.before.to_json(), "value": self.value_before},
            "after": {**self.after.to_json(), "value": self.value_after},
            "gain": self.gain,
            "held_out_gain": self.honest.to_json(),
            "images": self.images,
            "settings": self.settings,
        }


# ----------------------------------------------------------------------------------------------------------- look once


def look(predictor: InstancePredictor, data: Data, *, exclusive: bool | None = None) -> Found:
    """Runs the network once on each image and keeps what the grid needs. exclusive: None: as the predictor has it.

    Raises DataError for fewer than four images, for classes that the model lacks, and where there are no single objects.
    """
    if len(data) < FEWEST:
        what = f"{counted(len(data), 'image')} cannot tell which thresholds are better"
        raise DataError(what, hint=f"give {FEWEST} or more; some hundred tell small gains")
    before = predictor.thresholds
    exclusive = before.exclusive if exclusive is None else exclusive
    rules = list(_pictures(before, exclusive))
    table = class_table(predictor.classes, data.classes)

    def work(record: Record) -> _One:
        return _seen(predictor, record, data.classes, table, rules)

    done = ordered(work, data, THREADS)
    return _joined(list(events.progress(done, "looking for objects", len(data))), data.classes, rules, exclusive)


@dataclass(frozen=True, slots=True)
class _One:
    """Of one image: findings, the surest first of each class; see Found."""

    label: np.ndarray
    score: np.ndarray
    survives: dict[float, np.ndarray]
    pixels: dict[Drawn, Pixels]
    truth: Objects


def _pictures(before: Thresholds, exclusive: bool) -> Iterator[Thresholds]:
    """Every NMS and mask threshold of the grid, and what the model has now."""
    yield before
    for nms, mask in itertools.product(_with(NMS, before.nms), _with(MASKS, before.mask)):
        yield Thresholds(nms=nms, mask=mask, exclusive=exclusive)


def _drawn(rules: Thresholds) -> Drawn:
    return rules.mask, rules.nms if rules.exclusive else None


def _seen(
    predictor: InstancePredictor, record: Record, classes: tuple[str, ...], table: np.ndarray, rules: list[Thresholds]
) -> _One:
    answer, fitting = predictor.answer(record.image, upright=record.upright)
    boxes, labels, scores, masks = (np.asarray(part) for part in answer)
    known = table[labels.astype(np.int64) - 1]
    order = np.lexsort((-scores, known))
    order = order[known[order] >= 0]
    place = np.full(len(known), -1, np.int64)
    place[order] = np.arange(len(order))
    truth = objects_of(record, classes)
    theirs = [_rle(counts, truth.size) for counts in truth.counts]
    which = np.arange(1, len(labels) + 1)  # in place of labels: they say which finding an object is
    whole: dict[float, Instances] = {}
    survives, pixels = {}, {}
    for rule in rules:
        left = np.zeros(len(labels), np.bool_)
        left[surviving(boxes.astype(np.float64), labels, scores, Thresholds(nms=rule.nms))] = True
        survives[rule.nms] = left[order]
        if _drawn(rule) in pixels:
            continue
        if rule.mask not in whole:
            seen = (boxes, which, scores, masks)
            whole[rule.mask] = instance.decode(seen, fitting, classes, Thresholds(mask=rule.mask))
        found = whole[rule.mask]
        if rule.exclusive:
            found = settled(found.only(left[found.labels]), Thresholds(exclusive=True))
        found = found.only(place[found.labels] >= 0)
        overlap = _overlaps(found, theirs, truth.crowd)
        overlap[known[found.labels][:, None] != truth.labels] = 0
        pixels[_drawn(rule)] = _pixels(overlap, place[found.labels], found.areas(), len(order))
    return _One(known[order], scores[order], survives, pixels, truth)


def _pixels(overlap: np.ndarray, place: np.ndarray, sizes: np.ndarray, num: int) -> Pixels:
    """overlap: float64 (F, T). place, sizes: of F of the `num` findings, which one it is and its pixels; others have none."""
    areas = np.zeros(num, np.int64)
    areas[place] = sizes
    row, thing = np.nonzero(overlap >= THRESHOLDS[0])
    return Pixels(areas, place[row], thing, overlap[row, thing])


def _overlaps(found: Instances, theirs: Sequence[Any], crowd: np.ndarray) -> np.ndarray:
    """float64 (F, T): intersection over union, with a crowd over the finding's own pixels."""
    if not len(found) or not theirs:
        return np.zeros((len(found), len(theirs)))
    rles = [_rle(counts, found.size) for counts in found.counts]
    return np.array(coco.iou(rles, list(theirs), crowd.tolist()), np.float64).reshape(len(rles), len(theirs))


def _rle(counts: np.ndarray, size: tuple[int, int]) -> Any:
    return coco.fr_py_objects({"size": list(size), "counts": counts.tolist()}, *size)


def _joined(ones: Sequence[_One], classes: tuple[str, ...], rules: list[Thresholds], exclusive: bool) -> Found:
    first = np.cumsum([0, *(len(one.label) for one in ones)])
    things = np.cumsum([0, *(len(one.truth) for one in ones)])
    pixels = {}
    for drawn in {_drawn(rule) for rule in rules}:
        parts = [one.pixels[drawn] for one in ones]
        columns = [part.detection + start for part, start in zip(parts, first)]
        pixels[drawn] = Pixels(
            np.concatenate([part.areas for part in parts]),
            np.concatenate(columns),
            np.concatenate([part.thing + start for part, start in zip(parts, things)]),
            np.concatenate([part.iou for part in parts]),
        )
    return Found(
        classes=classes,
        num_images=len(ones),
        exclusive=exclusive,
        image=np.repeat(np.arange(len(ones)), np.diff(first)),
        label=np.concatenate([one.label for one in ones]),
        score=np.concatenate([one.score for one in ones]),
        survives={rule.nms: np.concatenate([one.survives[rule.nms] for one in ones]) for rule in rules},
        pixels=pixels,
        truth_image=np.repeat(np.arange(len(ones)), np.diff(things)),
        truth_label=np.concatenate([one.truth.labels for one in ones]),
        truth_areas=np.concatenate([one.truth.areas() for one in ones]).astype(np.float64),
        truth_crowd=np.concatenate([one.truth.crowd for one in ones]),
    )


# --------------------------------------------------------------------------------------------------------- try them all


def search(found: Found, before: Thresholds, metric: str) -> Tuned:
    """The best thresholds for a measure of `metrics.decided`, and what they gain over `before` (which `found` was made with).

    Every setting of the grid is tried. Of equal ones what the model has stays, or else the first of those near it is taken.
    """
    measure, num = decided.MEASURES[metric], found.num_images
    halves = np.random.default_rng(SEED).permutation(num) % 2 == 0
    groups = np.stack([np.ones(num), halves, ~halves]).astype(np.float64)  # all, and each half
    best, chosen = np.full(3, -np.inf), [before] * 3
    every: set[Thresholds] = set()
    for rules, values, cuts in events.progress(
        _values(found, before, metric, groups), "trying thresholds", unit="grids"
    ):
        every |= {replace(rules, score=float(cut)) for cut in cuts}
        for group, column in enumerate(values):
            equal = np.flatnonzero(column >= column.max() - TINY)
            top = equal[np.argmin(np.abs(cuts[equal] - before.score))]
            if column[top] > best[group] + TINY:
                best[group], chosen[group] = column[top], replace(rules, score=float(cuts[top]))
    after, of_one, of_other = chosen

    def made(rules: Thresholds) -> Matches:
        return decided.above(found.matches(rules, metric), rules.score)

    old, new = made(before), made(after)
    crossed = Matches.joined([decided.only(made(of_other), halves), decided.only(made(of_one), ~halves)])
    at = np.zeros(1)  # everything below the threshold is gone already
    was, now, other = (measure(one, len(found.classes), num, at) for one in (old, new, crossed))
    once = np.ones((1, num))
    value_before, value_after = (float(np.nan_to_num(one(once)[0, 0])) for one in (was, now))
    resamples = 1000 if len(found.score) <= MANY else FEWER
    honest = resampled(num, lambda weights: other(weights) - was(weights), resamples=resamples, seed=SEED)[0]
    gain = value_after - value_before
    return Tuned(metric, before, after, value_before, value_after, gain, honest, num, len(every))


def _values(
    found: Found, before: Thresholds, metric: str, groups: np.ndarray
) -> Iterator[tuple[Thresholds, np.ndarray, np.ndarray]]:
    """Rules, values of the groups (3, S) at the scores they were cut at, and those scores (S,)."""
    cuts = np.array([0.0] if metric in decided.NEVER_CUT else sorted(_with(SCORES, before.score)))
    measure, num = decided.MEASURES[metric], found.num_images

    def tried(rules: Thresholds, cuts: np.ndarray) -> tuple[Thresholds, np.ndarray, np.ndarray]:
        values = measure(found.matches(rules, metric), len(found.classes), num, cuts)(groups)
        return rules, np.nan_to_num(values), cuts

    if found.exclusive == before.exclusive:
        yield tried(before, np.array([before.score]))
    grid = itertools.product(_with(NMS, before.nms), _with(MASKS, before.mask), _with(AREAS, before.min_area))
    for nms, mask, min_area in grid:
        yield tried(Thresholds(0.0, nms, mask, int(min_area), found.exclusive), cuts)


def _with(grid: Sequence[float], own: float) -> list[float]:
    """A grid and what the model has now, the nearest to that first."""
    return sorted({*grid, own}, key=lambda value: (abs(value - own), value))
