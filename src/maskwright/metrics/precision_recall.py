"""From matches to precision and recall, for many resamples of the images at once (pycocotools' `accumulate`, weighted).

Precision is that of 101 recalls from 0 to 1, made monotone from the right, each class by itself. Every image has a weight,
how often it was drawn; as the envelope's corners lie at detections that found something, only those are looked at, and a
weight counts as so many equal detections one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from maskwright.metrics.matching import SIZES, THRESHOLDS, Matches, counting, unpacked
from maskwright.metrics.scores import ratio

RECALLS = np.linspace(0.0, 1.0, 101)
FEW = (1, 10)  # the recalls that look at fewer detections of a class in an image than usual
_AT_ONCE = 1 << 22  # weights held at a time
_TOGETHER = 1 << 16  # detections from which on classes are looked at by themselves

# the measure -> what a person reads
MEASURES = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "AP small",
    "ap_medium": "AP medium",
    "ap_large": "AP large",
    "ar1": "AR1",
    "ar10": "AR10",
    "ar100": "AR100",
    "ar_small": "AR small",
    "ar_medium": "AR medium",
    "ar_large": "AR large",
}


@dataclass(frozen=True, slots=True)
class Curves:
    """precision, recall: float64 (B, C, sizes, thresholds), the mean over all recalls and the last one; few: float64
    (B, C, len(FEW), thresholds), the last recall with fewer detections. NaN where the class has no object that counts."""

    precision: np.ndarray
    recall: np.ndarray
    few: np.ndarray

    def measures(self) -> np.ndarray:
        """float64 (B, C, MEASURES), of each class; NaN where undefined."""
        last = self.recall.mean(axis=-1)
        columns = [self.precision[:, :, 0].mean(axis=-1), self.precision[:, :, 0, 0], self.precision[:, :, 0, 5]]
        columns += [self.precision[:, :, size].mean(axis=-1) for size in range(1, len(SIZES))]
        columns += [self.few[:, :, number].mean(axis=-1) for number in range(len(FEW))]
        columns += [last[:, :, size] for size in range(len(SIZES))]
        return np.stack(columns, axis=-1)


def measured(matches: Matches, num_classes: int) -> Callable[[np.ndarray], np.ndarray]:
    """The statistic: float (B, N), how often each image counts -> float64 (B, C, MEASURES); NaN where undefined."""
    groups = list(_groups(matches, num_classes))
    rows = max(1, _AT_ONCE // max(1, *(len(one.image) for one in groups)))

    def statistic(weights: np.ndarray) -> np.ndarray:
        parts = []
        for start in range(0, len(weights), rows):
            some = weights[start : start + rows].astype(np.int32)
            parts.append(np.concatenate([_curves(one, some).measures() for one in groups], axis=1))
        return np.concatenate(parts)

    return statistic


def averaged(measures: np.ndarray) -> np.ndarray:
    """float64 (B, C, M) -> (B, M): the mean over the classes that have a value."""
    known = np.isfinite(measures)
    return ratio(np.where(known, measures, 0.0).sum(axis=1), known.sum(axis=1))


@dataclass(frozen=True, slots=True)
class _Group:
    """Some classes that are looked at together: the detections of each, surest first, and the objects; bits unpacked.

    label, truth_label: from 0 to num - 1, ascending.
    """

    num: int
    image: np.ndarray
    label: np.ndarray
    rank: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray
    truth_image: np.ndarray
    truth_label: np.ndarray
    truth_counts: np.ndarray


def _groups(matches: Matches, num_classes: int) -> Iterator[_Group]:
    """All classes, in groups of as many detections as should be in memory at a time."""
    detections = np.lexsort((-matches.score, matches.label))
    objects = np.argsort(matches.truth_label, kind="stable")
    upto = np.cumsum(np.bincount(matches.label, minlength=num_classes))
    first = 0
    while first < num_classes:
        most = upto[first - 1] + _TOGETHER if first else _TOGETHER
        last = max(first + 1, int(np.searchsorted(upto, most, side="right")))
        some = slice(*np.searchsorted(matches.label[detections], [first, last]))
        true = slice(*np.searchsorted(matches.truth_label[objects], [first, last]))
        mine, theirs = detections[some], objects[true]
        yield _Group(
            num=last - first,
            image=matches.image[mine],
            label=matches.label[mine] - first,
            rank=matches.rank[mine],
            hits=unpacked(matches.hits[mine]),
            ignored=unpacked(matches.ignored[mine]),
            truth_image=matches.truth_image[theirs],
            truth_label=matches.truth_label[theirs] - first,
            truth_counts=counting(matches.truth_counts[theirs]),
        )
        first = last


def _curves(one: _Group, weights: np.ndarray) -> Curves:
    shape = (len(weights), one.num, len(SIZES), len(THRESHOLDS))
    curves = Curves(np.zeros(shape), np.zeros(shape), np.zeros((*shape[:2], len(FEW), shape[3])))
    begin = np.flatnonzero(np.diff(one.truth_label, prepend=-1))
    for size in range(len(SIZES)):
        objects = np.zeros((len(weights), one.num), np.int32)
        if len(begin):
            counts = weights[:, one.truth_image] * one.truth_counts[size]
            objects[:, one.truth_label[begin]] = np.add.reduceat(counts, begin, axis=1)
        for threshold in range(len(THRESHOLDS)):
            _draw(curves, one, size, threshold, weights, objects)
        for column in (curves.precision[:, :, size], curves.recall[:, :, size], *([curves.few] if size == 0 else [])):
            column[objects == 0] = np.nan
    return curves


def _draw(curves: Curves, one: _Group, size: int, threshold: int, weights: np.ndarray, objects: np.ndarray) -> None:
    """Fills in the mean precision and the last recalls of each class. objects: int32 (B, C)."""
    counted = np.flatnonzero(~one.ignored[size, threshold])
    hits = np.flatnonzero(one.hits[size, threshold, counted])
    if not len(hits):
        return
    labels, label = one.label[counted], one.label[counted[hits]]
    begin = np.flatnonzero(np.diff(label, prepend=-1))
    end = np.append(begin[1:], len(hits)) - 1
    present, place = label[begin], np.repeat(np.arange(len(begin)), end - begin + 1)
    num = np.maximum(objects[:, present], 1)

    found = weights[:, one.image[counted[hits]]]
    upto = _sums(weights[:, one.image[counted]], np.searchsorted(labels, present), hits, place)
    right = _sums(found, begin, np.arange(len(hits)), place)
    precision = right / np.maximum(upto, 1)
    for first, last in zip(begin.tolist(), end.tolist(), strict=True):
        backwards = precision[:, first : last + 1][:, ::-1]
        np.maximum.accumulate(backwards, axis=1, out=backwards)
    reached = np.searchsorted(RECALLS, right / num[:, place], side="right")
    steps = np.diff(reached, axis=1, prepend=0)
    steps[:, begin] = reached[:, begin]
    curves.precision[:, present, size, threshold] = np.add.reduceat(precision * steps, begin, axis=1) / len(RECALLS)
    curves.recall[:, present, size, threshold] = right[:, end] / num
    if size == 0:
        for number, most in enumerate(FEW):
            sure = np.add.reduceat(found * (one.rank[counted[hits]] < most), begin, axis=1)
            curves.few[:, present, number, threshold] = sure / num


def _sums(values: np.ndarray, begin: np.ndarray, wanted: np.ndarray, place: np.ndarray) -> np.ndarray:
    """int32 (B, E): at each wanted column the sum of the columns from the beginning of its class on; place: of that one."""
    sums = np.cumsum(values, axis=1, dtype=np.int32)
    return sums[:, wanted] - (sums[:, begin] - values[:, begin])[:, place]
