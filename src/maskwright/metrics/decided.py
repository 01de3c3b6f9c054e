"""Scores of decisions: how good the objects are that a model still gives when everything below some score is cut off.

What thresholds are chosen by. Each measure is a function (matches, number of classes, number of images, cuts) that returns a
statistic: float64 (B, N), how often each image counts -> float64 (B, S), the value at each of S cuts (scores, ascending).
To add one: write the function, add its line to MEASURES. Matches must hold every detection whose score reaches the first cut.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from maskwright.metrics.matching import THRESHOLDS, Matches, unpacked
from maskwright.metrics.precision_recall import averaged, measured
from maskwright.metrics.scores import ratio

Statistic = Callable[[np.ndarray], np.ndarray]
Measure = Callable[[Matches, int, int, np.ndarray], Statistic]


@dataclass(frozen=True, slots=True)
class _Cells:
    """What came of each class in each image that has objects or detections of it.

    image, label: int64 (Q,). found, wrong: float64 (Q, T, S), detections at each IoU threshold and cut that found an
    object or should not be. missed: (Q, T, S), objects that none found.
    """

    image: np.ndarray
    label: np.ndarray
    found: np.ndarray
    wrong: np.ndarray
    missed: np.ndarray


def f1(matches: Matches, num_classes: int, num_images: int, cuts: np.ndarray) -> Statistic:
    """2 TP / (2 TP + FP + FN) of all images, mean over IoU .50, .55 ... .95 and the classes that truth or answers have."""
    return _f1(matches, num_classes, cuts, len(THRESHOLDS))


def f1_50(matches: Matches, num_classes: int, num_images: int, cuts: np.ndarray) -> Statistic:
    """F1 where an IoU of a half suffices: for counting objects. Where none share pixels it is panoptic quality's RQ."""
    return _f1(matches, num_classes, cuts, 1)


def imaterialist(matches: Matches, num_classes: int, num_images: int, cuts: np.ndarray) -> Statistic:
    """TP / (TP + FP + FN), mean over IoU .50, .55 ... .95, over an image's classes, over images (see metrics/imaterialist)."""
    cells = _cells(matches, cuts, len(THRESHOLDS))
    whole = cells.found + cells.wrong + cells.missed
    there = (whole > 0).any(axis=1)
    quality = np.where(whole > 0, ratio(cells.found, whole), 1.0).mean(axis=1)
    sums, counts = np.zeros((num_images, len(cuts))), np.zeros((num_images, len(cuts)))
    np.add.at(sums, cells.image, np.where(there, quality, 0.0))
    np.add.at(counts, cells.image, there)
    images = np.where(counts > 0, ratio(sums, counts), 1.0)
    return lambda weights: weights @ images / weights.sum(axis=1, keepdims=True)


def mask_ap(matches: Matches, num_classes: int, num_images: int, cuts: np.ndarray) -> Statistic:
    """Average precision as COCO defines it. No score threshold raises it: it only drops objects that might have counted."""
    at = [measured(above(matches, float(cut)), num_classes) for cut in cuts]
    return lambda weights: np.stack([averaged(statistic(weights))[:, 0] for statistic in at], axis=1)


MEASURES: dict[str, Measure] = {"f1": f1, "f1_50": f1_50, "imaterialist": imaterialist, "mask_ap": mask_ap}
NEVER_CUT = ("mask_ap",)  # measures that no score threshold raises
STRICT = ("imaterialist",)  # those where an IoU must be above a threshold, not just reach it


def only(matches: Matches, images: np.ndarray) -> Matches:
    """What came of some images. images: bool (N,)."""
    return _taken(matches, images[matches.image], images[matches.truth_image])


def above(matches: Matches, cut: float) -> Matches:
    """Without the detections whose score is below `cut`."""
    return _taken(matches, matches.score >= cut, np.ones(len(matches.truth_image), np.bool_))


def _taken(matches: Matches, detections: np.ndarray, objects: np.ndarray) -> Matches:
    names = Matches.__slots__
    return Matches(*(getattr(matches, n)[objects if n.startswith("truth") else detections] for n in names))


def _f1(matches: Matches, num_classes: int, cuts: np.ndarray, num_thresholds: int) -> Statistic:
    cells = _cells(matches, cuts, num_thresholds)
    shape = (num_thresholds, len(cuts))
    mine = [np.flatnonzero(cells.label == label) for label in range(num_classes)]

    def statistic(weights: np.ndarray) -> np.ndarray:
        values = np.full((num_classes, len(weights), *shape), np.nan)
        for value, rows in zip(values, mine, strict=True):
            often = weights[:, cells.image[rows]]
            found, rest = (
                (often @ column[rows].reshape(len(rows), math.prod(shape))).reshape(-1, *shape)
                for column in (cells.found, cells.wrong + cells.missed)
            )
            value[:] = ratio(2 * found, 2 * found + rest)
        known = np.isfinite(values)
        return ratio(np.where(known, values, 0.0).sum(axis=(0, 2)), known.sum(axis=(0, 2)))

    return statistic


def _cells(matches: Matches, cuts: np.ndarray, num_thresholds: int) -> _Cells:
    """Of the first so many IoU thresholds."""
    counts = (matches.truth_counts & 1).astype(np.bool_)
    num_classes = 1 + max(matches.label.max(initial=0), matches.truth_label.max(initial=0))
    key = matches.image.astype(np.int64) * num_classes + matches.label
    truth = matches.truth_image.astype(np.int64) * num_classes + matches.truth_label
    keys = np.unique(np.concatenate([key, truth[counts]]))
    objects = np.bincount(np.searchsorted(keys, truth[counts]), minlength=len(keys))
    reach = np.searchsorted(cuts, matches.score, side="right")  # the cuts that a detection survives
    place = np.searchsorted(keys, key) * (len(cuts) + 1) + reach
    hits, ignored = (unpacked(bits)[0, :num_thresholds] for bits in (matches.hits, matches.ignored))

    def surviving(which: np.ndarray) -> np.ndarray:
        """(T, D) -> (Q, T, S), how many of each cell survive each cut."""
        table = [np.bincount(place[row], minlength=len(keys) * (len(cuts) + 1)) for row in which]
        binned = np.array(table, np.float64).reshape(len(table), len(keys), len(cuts) + 1)
        return binned[..., :0:-1].cumsum(axis=-1)[..., ::-1].swapaxes(0, 1)

    found = surviving(hits)
    missed = objects[:, None, None] - found
    return _Cells(keys // num_classes, keys % num_classes, found, surviving(~hits & ~ignored), missed)
