"""Confusion: counts, image by image, which class was predicted where which is true; `scores()` makes Scores of it.

Label maps are uint8 (H, W) with values 0..C-1 and VOID = 255. Pixels whose truth is VOID count nowhere. A predicted
VOID (a tool that abstains; our own models never do) is no class: wrong for the true class, a match for none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maskwright.core.errors import DataError
from maskwright.core.types import MAX_CLASSES, VOID
from maskwright.metrics.scores import Scores, scored_twice

_BLOCK = 1 << 18  # pixels counted at a time: the int64 copy that np.bincount makes stays in the processor's cache


class Confusion:
    """What was predicted where, over a set of images; counters of several workers are merged.

    classes: names in index order, 1 to 255 of them.
    matrix: int64 (C, C + 1), true class x predicted class; the last column is "no class".
    """

    def __init__(self, classes: Sequence[str]):
        assert 1 <= len(set(classes)) == len(classes) <= MAX_CLASSES
        self.classes = tuple(classes)
        self.matrix = np.zeros((len(self.classes), len(self.classes) + 1), np.int64)
        self._counts: dict[str, np.ndarray] = {}  # id -> int32 (3, C): pixels in common, true, predicted
        self._void: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, id: str, truth: np.ndarray, predicted: np.ndarray) -> None:
        """Counts one image; both label maps uint8 (H, W).

        Raises DataError, and counts nothing, when the sizes differ, a value is no class, or the id was counted before.
        """
        if id in self._counts:
            raise scored_twice(id)
        for name, label_map in (("truth", truth), ("prediction", predicted)):
            if label_map.dtype != np.uint8 or label_map.ndim != 2:
                what = f"the {name} must be a label map, uint8 (H, W); got {label_map.dtype} {label_map.shape}"
                raise DataError(what, place=id)
        if truth.shape != predicted.shape:
            (h, w), (rows, columns) = truth.shape, predicted.shape
            hint = "predictions are scored on the original pixels: write them at the size of the image"
            raise DataError(f"the prediction is {columns} x {rows} pixels, the truth {w} x {h}", place=id, hint=hint)
        pairs = _count_pairs(truth, predicted)
        num = len(self.classes)
        self._check_values(id, "truth", pairs.sum(axis=1))
        self._check_values(id, "prediction", pairs.sum(axis=0))
        matrix = np.concatenate([pairs[:num, :num], pairs[:num, VOID:]], axis=1)
        self.matrix += matrix
        counts = (matrix.diagonal(), matrix.sum(axis=1), matrix[:, :num].sum(axis=0))
        self._counts[id] = np.array(counts, np.int32)
        self._void[id] = int(pairs[VOID].sum())

    def merge(self, other: Confusion) -> None:
        """Adds the images of another counter of the same classes."""
        assert other.classes == self.classes
        if both := self._counts.keys() & other._counts.keys():
            raise scored_twice(min(both))
        self.matrix += other.matrix
        self._counts |= other._counts
        self._void |= other._void

    def scores(
        self,
        *,
        expected: int | None = None,
        resolution: str = "original pixels",
        decision: str = "argmax",
        resamples: int = 1000,
        seed: int = 0,
    ) -> Scores:
        """The scores of everything counted so far; images are put in the order of their ids, so that nothing depends on
        who counted first.

        expected: how many images should have been counted; None = those that were.
        resolution, decision: words for the convention: where pixels were compared, and how a label was chosen.
        resamples, seed: of the bootstrap intervals; 0 resamples = no intervals.
        """
        ids = sorted(self._counts)
        none = np.zeros((0, 3, len(self.classes)), np.int32)
        return Scores.of(
            classes=self.classes,
            ids=tuple(ids),
            counts=np.stack([self._counts[id] for id in ids]) if ids else none,
            void=np.array([self._void[id] for id in ids], np.int64),
            matrix=self.matrix.copy(),
            expected=len(ids) if expected is None else expected,
            resolution=resolution,
            decision=decision,
            resamples=resamples,
            seed=seed,
        )

    def _check_values(self, id: str, name: str, pixels: np.ndarray) -> None:
        """pixels: int64 (256,), how many pixels have each value."""
        num = len(self.classes)
        strays = num + np.flatnonzero(pixels[num:VOID])
        if len(strays):
            values = ", ".join(str(v) for v in strays[:5]) + (", ..." if len(strays) > 5 else "")
            count = int(pixels[strays].sum())
            what = f"the {name} has {count:,} pixel{'s' * (count > 1)} of value {values}, which is no class"
            known = "only 0 is one" if num == 1 else f"0 to {num - 1} are"
            raise DataError(what, place=id, hint=f"{known}, and {VOID} means void")


def _count_pairs(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """int64 (256, 256): how many pixels have each pair of values; two bytes make one 16-bit key."""
    first, second = truth.ravel(), predicted.ravel()
    pairs = np.zeros(1 << 16, np.int64)
    for start in range(0, len(first), _BLOCK):
        key = np.left_shift(first[start : start + _BLOCK], 8, dtype=np.uint16)
        key |= second[start : start + _BLOCK]
        pairs += np.bincount(key, minlength=1 << 16)
    return pairs.reshape(256, 256)
