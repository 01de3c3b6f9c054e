"""Overlaps: counts, image by image and class by class, how masks that may overlap agree; `scores()` makes Scores of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maskwright.core.errors import DataError
from maskwright.core.types import MAX_CLASSES, VOID
from maskwright.metrics.scores import Scores, scored_twice


class Overlaps:
    """How masks agree over a set of images. classes: names in the order of the masks, 1 to 255 of them."""

    def __init__(self, classes: Sequence[str]):
        assert 1 <= len(set(classes)) == len(classes) <= MAX_CLASSES
        self.classes = tuple(classes)
        self._counts: dict[str, np.ndarray] = {}  # id -> int32 (3, C): pixels in common, true, predicted
        self._void: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, id: str, truth: np.ndarray, predicted: np.ndarray) -> None:
        """Counts one image. truth: uint8 (C, H, W) of 0, 1 and VOID, predicted: bool (C, H, W). What is VOID for a class
        counts for that class nowhere.

        Raises DataError, and counts nothing, when the sizes differ, there are other values, or the id was counted before.
        """
        if id in self._counts:
            raise scored_twice(id)
        if truth.shape != predicted.shape or len(truth) != len(self.classes):
            what = f"the masks are {predicted.shape} (classes, height, width), the truth {truth.shape}"
            raise DataError(what, place=id, hint="masks are scored on the original pixels, one a class")
        true, void = truth == 1, truth == VOID
        if not (true | void | (truth == 0)).all():
            raise DataError("a true mask holds other values than 0, 1 and 255", place=id)
        claimed = predicted & ~void
        three = (claimed & true, true, claimed)
        self._counts[id] = np.array([np.count_nonzero(masks, axis=(1, 2)) for masks in three], np.int32)
        self._void[id] = int(np.count_nonzero(void))

    def merge(self, other: Overlaps) -> None:
        """Adds the images of another counter of the same classes."""
        assert other.classes == self.classes
        if both := self._counts.keys() & other._counts.keys():
            raise scored_twice(min(both))
        self._counts |= other._counts
        self._void |= other._void

    def scores(
        self,
        *,
        expected: int | None = None,
        resolution: str = "original pixels",
        decision: str = "above 0.5",
        resamples: int = 1000,
        seed: int = 0,
    ) -> Scores:
        """The scores of everything counted so far; see `Confusion.scores`.

        The matrix has what a class's mask found of it on its diagonal and what it missed in the last column.
        """
        ids = sorted(self._counts)
        none = np.zeros((0, 3, len(self.classes)), np.int32)
        counts = np.stack([self._counts[id] for id in ids]) if ids else none
        common, truth, _ = counts.sum(axis=0, dtype=np.int64)
        return Scores.of(
            classes=self.classes,
            ids=tuple(ids),
            counts=counts,
            void=np.array([self._void[id] for id in ids], np.int64),
            matrix=np.concatenate([np.diag(common), (truth - common)[:, None]], axis=1),
            expected=len(ids) if expected is None else expected,
            resolution=resolution,
            decision=decision,
            resamples=resamples,
            seed=seed,
            overlapping=True,
        )
