"""Average precision the COCO way: how well objects are found, as masks and as boxes; `Detections` collects the images.

    detections = Detections(classes)
    detections.add(id, truth, found)        # imaging.objects.Objects, core.types.Instances
    detections.scores()                     # InstanceScores

`matching` decides which detection found which object, `precision_recall` averages, `instance_scores` holds the numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from hotcoco import mask as coco

from maskwright.core.errors import DataError
from maskwright.core.types import Instances
from maskwright.metrics.instance_scores import InstanceScores
from maskwright.metrics.matching import Kind, Matches, Shapes, match, shapes
from maskwright.metrics.scores import scored_twice

if TYPE_CHECKING:
    from maskwright.imaging.objects import Objects

_BLOCK = 256  # images matched at a time
PIXELS = "the pixels of its mask"


class Detections:
    """How well objects are found over a set of images. classes: names in index order.

    Masks are scored while every detection of every image has one; after a detection that is only a box, boxes alone.
    """

    def __init__(self, classes: Sequence[str]):
        assert len(set(classes)) == len(classes) >= 1
        self.classes = tuple(classes)
        self._ids: dict[str, int] = {}
        self._waiting: list[tuple[Shapes, Shapes]] = []
        self._matches: dict[Kind, list[Matches]] = {"mask": [], "box": []}

    def __len__(self) -> int:
        return len(self._ids)

    def add(self, id: str, truth: Objects, found: Instances, areas: np.ndarray | None = None) -> None:
        """Counts one image; of equal scores, the image that was added first comes first.

        areas: float64 (N,) of the true objects where the labels state them (COCO `area`); left out: their pixels.
        Raises DataError, and counts nothing, when the sizes differ, a score is not finite, the id was counted before, or
        a detection is of a class that is not there.
        """
        if tuple(truth.size) != tuple(found.size):
            what = f"objects found on {found.size} pixels (height, width), true ones on {truth.size}"
            raise DataError(what, place=id, hint="objects are scored on the original pixels")
        if not np.isfinite(found.scores).all():
            raise DataError("a score is not a finite number", place=id)
        if len(found) and not 0 <= found.labels.min() <= found.labels.max() < len(self.classes):
            raise DataError(f"a detection's class is none of the {len(self.classes)} that are scored", place=id)
        stated: dict[str, Any] = {} if areas is None else {"areas": np.asarray(areas, np.float64)}
        true = columns(truth, crowd=np.asarray(truth.crowd, np.bool_), **stated)
        self.add_shapes([id], true, columns(found, scores=found.scores.astype(np.float64)))

    def add_shapes(self, ids: Sequence[str], truth: Shapes, found: Shapes) -> None:
        """Counts images whose objects and detections lie in columns; their `image` are positions in `ids`."""
        twice = next((id for id in ids if id in self._ids), None)
        if twice is not None:
            raise scored_twice(twice)
        first = len(self._ids)
        self._ids |= {id: first + number for number, id in enumerate(ids)}
        assert len(self._ids) == first + len(ids)
        self._waiting.append(tuple(replace(side, image=side.image + first) for side in (truth, found)))  # type: ignore
        if len(self._waiting) >= _BLOCK or len(ids) > 1:
            self._match()

    def scores(
        self,
        *,
        expected: int | None = None,
        resolution: str = "original pixels",
        areas: str = PIXELS,
        notes: Sequence[str] = (),
        resamples: int = 1000,
        seed: int = 0,
    ) -> InstanceScores:
        """The scores of everything counted so far, with 95 % intervals over images.

        expected: how many images should have been scored; left out: those that were.
        resolution, areas: words for the convention; areas: what decides whether an object is small, medium or large.
        notes: what a reader of the numbers must know.
        resamples, seed: of the bootstrap; 0 resamples: no intervals.
        """
        if not self._ids or self._waiting:
            self._match()
        return InstanceScores.of(
            classes=self.classes,
            ids=tuple(self._ids),
            matches={kind: Matches.joined(parts) for kind, parts in self._matches.items()},
            expected=len(self._ids) if expected is None else expected,
            resolution=resolution,
            areas=areas,
            notes=tuple(notes),
            resamples=resamples,
            seed=seed,
        )

    def _match(self) -> None:
        """Matches the images that wait."""
        truth, found = (joined([pair[side] for pair in self._waiting]) for side in (0, 1))
        self._waiting = []
        if not found.drawn.all():
            self._matches.pop("mask", None)
        for kind, parts in self._matches.items():
            parts.append(match(truth, found, kind))


def columns(side: Any, image: int = 0, **known: np.ndarray) -> Shapes:
    """The objects of one image (Objects or Instances) as columns; their areas are their pixels unless given.

    image: its position.
    """
    num, size = len(side.labels), list(side.size)
    rles = [coco.fr_py_objects({"size": size, "counts": runs.tolist()}, *size) for runs in side.counts]
    if rles:
        known = {"areas": np.array(coco.area(rles), np.float64), **known}
    boxes = np.array(side.boxes, np.float64).reshape(-1, 4)
    boxes[:, 2:] -= boxes[:, :2]
    drawn = np.full(num, bool(rles))
    return shapes(np.full(num, image, np.int64), side.labels.astype(np.int64), boxes, rles, drawn=drawn, **known)


def joined(sides: Sequence[Shapes]) -> Shapes:
    """The columns of several, one after the other."""
    if len(sides) == 1:
        return sides[0]
    if not sides:
        none = np.zeros(0, np.int64)
        return shapes(none, none, np.zeros((0, 4)), [])
    columns = {n: np.concatenate([getattr(s, n) for s in sides]) for n in Shapes.__slots__ if n != "rles"}
    rles = [rle for side in sides for rle in (side.rles if len(side.rles) else [None] * len(side))]
    return Shapes(rles=rles, **columns)
