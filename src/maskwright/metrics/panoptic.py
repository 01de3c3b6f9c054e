"""Panoptic quality: every pixel belongs to one segment, a thing or a stretch of stuff (Kirillov et al. 2019, "Panoptic
Segmentation").

A true and a predicted segment of one class match where they overlap more than half (no two can then want the same one).
PQ = SQ x RQ: the mean IoU of the matches, times matches / (matches + half of all that match nothing). `Panoptics` counts
images, `PanopticScores` holds the numbers, `panoptic_files` reads and writes the COCO format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from maskwright.core.errors import DataError
from maskwright.core.words import counted
from maskwright.metrics.intervals import CONFIDENCE, Estimate, bootstrap
from maskwright.metrics.scores import ratio, scored_twice

SCHEMA = 1
NOTHING = 0  # the segment number of pixels that belong to none: in the truth they count nowhere
_MATCHED, _MISSED, _WRONG, _IOU = range(4)
GROUPS = {"": "all classes", "_things": "things", "_stuff": "stuff"}
MEASURES = ("pq", "sq", "rq")


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """The segments of one image.

    map: int64 (H, W), the number of the segment that each pixel belongs to, NOTHING = 0 for none.
    numbers: int64 (N,), the segments, none of them 0. labels: int64 (N,), indices of classes. crowd: bool (N,).
    A segment without a pixel is no segment; a pixel's number must be in `numbers`.
    """

    map: np.ndarray
    numbers: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray

    @classmethod
    def of_masks(cls, masks: np.ndarray, labels: np.ndarray) -> Segments:
        """Of masks bool (N, H, W), the first on top; labels: int (N,)."""
        numbers = np.arange(1, len(labels) + 1)
        on_top = (masks * numbers[::-1, None, None].astype(np.int64)).max(axis=0, initial=0)
        map = np.where(on_top > 0, len(labels) + 1 - on_top, NOTHING)
        return cls(map, numbers, np.asarray(labels, np.int64), np.zeros(len(labels), np.bool_))


class Panoptics:
    """Panoptic quality over a set of images. classes: names; things: bool for each, False is stuff."""

    def __init__(self, classes: Sequence[str], things: Sequence[bool]):
        assert len(set(classes)) == len(classes) == len(things) >= 1
        self.classes, self.things = tuple(classes), tuple(bool(thing) for thing in things)
        self._counts: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, id: str, truth: Segments, found: Segments) -> None:
        """Counts one image. Raises DataError when the sizes differ, or the image was counted before."""
        if id in self._counts:
            raise scored_twice(id)
        if truth.map.shape != found.map.shape:
            what = f"the segments are on {found.map.shape} pixels (height, width), the true ones on {truth.map.shape}"
            raise DataError(what, place=id, hint="segments are scored on the original pixels")
        self._counts[id] = image_counts(truth, found, len(self.classes))

    def scores(
        self, *, expected: int | None = None, resamples: int = 1000, seed: int = 0, notes: Sequence[str] = ()
    ) -> PanopticScores:
        """The scores of everything counted so far, with 95 % intervals over images."""
        ids = sorted(self._counts)
        none = np.zeros((0, 4, len(self.classes)))
        return PanopticScores.of(
            classes=self.classes,
            things=self.things,
            ids=tuple(ids),
            counts=np.stack([self._counts[id] for id in ids]) if ids else none,
            expected=len(ids) if expected is None else expected,
            notes=tuple(notes),
            resamples=resamples,
            seed=seed,
        )


@dataclass(frozen=True, eq=False)
class PanopticScores:
    """`scores["pq"]` is the value of a headline: pq, sq, rq over all classes, and with `_things` or `_stuff` behind.

    counts: float64 (N, 4, C), per image and class: matches, true segments that match nothing, predicted segments that
    match nothing, sum of the matches' IoU.
    """

    classes: tuple[str, ...]
    things: tuple[bool, ...]
    ids: tuple[str, ...]
    counts: np.ndarray
    expected: int
    notes: tuple[str, ...]
    headlines: dict[str, Estimate]
    resamples: int
    seed: int

    @classmethod
    def of(
        cls, *, counts: np.ndarray, things: tuple[bool, ...], resamples: int, seed: int, **rest: Any
    ) -> PanopticScores:
        """Scores of these counts; computes the headlines. The arguments are the fields."""
        thing = np.array(things)
        groups = {"": np.ones(len(thing), np.bool_), "_things": thing, "_stuff": ~thing}

        def statistic(sums: np.ndarray) -> np.ndarray:
            quality = class_quality(sums)
            return np.concatenate([_mean(quality[:, :, group]) for group in groups.values()], axis=1)

        estimates = bootstrap(counts, statistic, resamples=resamples, seed=seed)
        names = [f"{measure}{group}" for group in groups for measure in MEASURES]
        headlines = dict(zip(names, estimates, strict=True))
        return cls(counts=counts, things=things, headlines=headlines, resamples=resamples, seed=seed, **rest)

    def __getitem__(self, headline: str) -> float | None:
        return self.headlines[headline].value

    @cached_property
    def per_class(self) -> tuple[dict[str, Any], ...]:
        """name, thing, pq, sq, rq (None where truth and prediction lack the class), matched, missed, wrong."""
        sums = self.counts.sum(axis=0)
        quality = class_quality(sums[None])[0]
        return tuple(
            {
                "name": name,
                "thing": self.things[c],
                **{m: _number(quality[i, c]) for i, m in enumerate(MEASURES)},
                **{n: int(sums[i, c]) for i, n in enumerate(("matched", "missed", "wrong"))},
            }
            for c, name in enumerate(self.classes)
        )

    @property
    def convention(self) -> str:
        known = any(estimate.low is not None for estimate in self.headlines.values())
        drawn = f"{CONFIDENCE:.0%} percentile bootstrap over images ({self.resamples:,} resamples, seed {self.seed})"
        present = sum(row["pq"] is not None for row in self.per_class)
        return (
            "Panoptic quality: segments of a class match where their IoU is above 0.5, pooled over all images, mean over the "
            f"{present} of {counted(len(self.classes), 'class')} that truth or prediction have; pixels that are void in the "
            "truth count nowhere, nor do predicted segments that lie mostly there or in a crowd of their class; intervals: "
            f"{drawn if known else 'none'}."
        )

    def to_json(self) -> dict[str, Any]:
        rows = [{"id": id, "counts": counts.tolist()} for id, counts in zip(self.ids, self.counts, strict=True)]
        return {
            "schema": SCHEMA,
            "headlines": {name: estimate.to_json() for name, estimate in self.headlines.items()},
            "images": {"scored": len(self.ids), "of": self.expected},
            "convention": self.convention,
            "notes": list(self.notes),
            "interval": {"confidence": CONFIDENCE, "resamples": self.resamples, "seed": self.seed},
            "classes": list(self.per_class),
            "per_image": rows,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> PanopticScores:
        """The scores that `to_json` wrote. Raises DataError for anything else."""
        try:
            if value["schema"] != SCHEMA:
                raise ValueError(f"schema {value['schema']}")
            rows, classes = value["per_image"], value["classes"]
            return cls(
                classes=tuple(row["name"] for row in classes),
                things=tuple(row["thing"] for row in classes),
                ids=tuple(row["id"] for row in rows),
                counts=np.array([row["counts"] for row in rows], np.float64).reshape(len(rows), 4, len(classes)),
                expected=value["images"]["of"],
                notes=tuple(value["notes"]),
                headlines={name: Estimate.from_json(e) for name, e in value["headlines"].items()},
                resamples=value["interval"]["resamples"],
                seed=value["interval"]["seed"],
            )
        except (KeyError, TypeError, ValueError) as error:
            what = f"not panoptic scores of schema {SCHEMA} ({type(error).__name__}: {error})"
            raise DataError(what, place="scores", hint="score again") from error


def image_counts(truth: Segments, found: Segments, num_classes: int) -> np.ndarray:
    """float64 (4, C): matches, missed, wrong, sum of IoU, of one image.

    As in the reference implementation: a predicted segment loses its pixels in the void of the truth before its union is
    taken; unmatched, it is wrong unless more than half of it lies in the void or in crowds of its class; crowds are no
    segments of their own.
    """
    counts = np.zeros((4, num_classes))
    places = [np.append(NOTHING, side.numbers[np.argsort(side.numbers)]) for side in (truth, found)]
    row, column = (np.searchsorted(p, side.map.reshape(-1)) for p, side in zip(places, (truth, found), strict=True))
    table = np.bincount(row * len(places[1]) + column, minlength=len(places[0]) * len(places[1]))
    table = table.reshape(len(places[0]), len(places[1]))
    true_order, found_order = np.argsort(truth.numbers), np.argsort(found.numbers)
    true_label, found_label = truth.labels[true_order], found.labels[found_order]
    crowd = truth.crowd[true_order]
    common, void = table[1:, 1:], table[0, 1:]
    true_area, found_area = table[1:].sum(axis=1), table[:, 1:].sum(axis=0)
    same = true_label[:, None] == found_label
    iou = ratio(common, true_area[:, None] + (found_area - void) - common)
    match = same & ~crowd[:, None] & (np.nan_to_num(iou) > 0.5)
    true_hit, found_hit = match.any(axis=1), match.any(axis=0)
    in_crowd = np.where(same & crowd[:, None], common, 0).sum(axis=0)
    wrong = ~found_hit & (found_area > 0) & ((void + in_crowd) * 2 <= found_area)
    missed = ~true_hit & ~crowd & (true_area > 0)
    np.add.at(counts[_MATCHED], true_label[true_hit], 1)
    np.add.at(counts[_MISSED], true_label[missed], 1)
    np.add.at(counts[_WRONG], found_label[wrong], 1)
    np.add.at(counts[_IOU], true_label[true_hit], iou[match])
    return counts


def class_quality(sums: np.ndarray) -> np.ndarray:
    """float64 (B, 4, C) counts -> (B, 3, C): PQ, SQ, RQ of each class; NaN where neither side has the class."""
    matched, missed, wrong, iou = np.moveaxis(sums, 1, 0)
    whole = matched + 0.5 * missed + 0.5 * wrong
    sq = np.where(whole > 0, np.nan_to_num(ratio(iou, matched)), np.nan)
    return np.stack([ratio(iou, whole), sq, ratio(matched, whole)], axis=1)


def _mean(quality: np.ndarray) -> np.ndarray:
    """(B, 3, C) -> (B, 3), over the classes that have a value."""
    known = np.isfinite(quality)
    return ratio(np.where(known, quality, 0.0).sum(axis=-1), known.sum(axis=-1))


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
