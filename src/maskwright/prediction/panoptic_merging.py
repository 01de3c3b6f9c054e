"""Objects and a semantic model's stuff as one map in which every pixel belongs to one segment, or to none.

The rule is that of Kirillov et al. 2019, "Panoptic Segmentation", section 6: objects by falling score, each gets what surer
ones left of it; then stuff on what is still free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskwright.core.errors import DataError, RecipeError
from maskwright.core.types import BACKGROUND, SURE, VOID, Instances
from maskwright.imaging.objects import from_counts
from maskwright.metrics.panoptic import NOTHING, Segments
from maskwright.prediction.predictor import AnyPredictor, Predictor

UNCOVERED = 0.5
LEAST_STUFF, REFERENCE = 64, 640  # the side of the smallest square of stuff that counts, on a photo of this longer side


@dataclass(frozen=True)
class Merging:
    """Objects -> segments, with the stuff that a semantic model sees in the same image; see `merged`.

    objects: the classes of things. stuff: indices of the semantic model's classes that are stuff.
    """

    predictor: Predictor
    objects: tuple[str, ...]
    stuff: tuple[int, ...]
    least_stuff: float = LEAST_STUFF
    least_score: float = SURE

    @property
    def classes(self) -> tuple[str, ...]:
        """Things, then stuff."""
        return (*self.objects, *(self.predictor.classes[index] for index in self.stuff))

    @property
    def things(self) -> tuple[bool, ...]:
        return tuple(index < len(self.objects) for index in range(len(self.classes)))

    def __call__(self, found: Instances, image: str | Path | np.ndarray) -> Segments:
        how = {"least_stuff": self.least_stuff, "least_score": self.least_score}
        return merged(found, self.predictor(image).label_map, self.stuff, **how)


def merging(
    objects: Sequence[str],
    semantic: AnyPredictor,
    *,
    least_stuff: float = LEAST_STUFF,
    least_score: float = SURE,
    place: str = "--panoptic",
) -> Merging:
    """How objects of these classes are merged with what `semantic` sees.

    Stuff are its classes that no object has, by name; a `background` is what nobody named, so it stays VOID. Raises
    RecipeError when it finds objects itself, when no class is left, and for a `least_stuff` below 0.
    """
    if not isinstance(semantic, Predictor):
        raise RecipeError("finds objects, too", place=place, hint="give a model that labels pixels")
    if not least_stuff >= 0:
        raise RecipeError(f"can be 0 or more, not {least_stuff}", place="--least-stuff")
    stuff = tuple(
        index for index, name in enumerate(semantic.classes) if name != BACKGROUND and name not in set(objects)
    )
    if not stuff:
        what = "has no class that could be stuff: all its classes are classes of objects, or background"
        raise RecipeError(what, place=place, hint="give a model that knows other classes, such as sky or road")
    return Merging(semantic, tuple(objects), stuff, least_stuff, least_score)


def merged(
    found: Instances,
    label_map: np.ndarray,
    stuff: Sequence[int],
    *,
    uncovered: float = UNCOVERED,
    least_stuff: float = LEAST_STUFF,
    least_score: float = 0.0,
) -> Segments:
    """One map of things and stuff. A thing has its position in `found`, from 1, as its number; stuff has those after.

    Labels are indices into `found.classes`, then those of stuff follow in the order of `stuff`. Both have at least a pixel.

    label_map: uint8 (H, W), of the size of `found`. stuff: the values in it that are stuff; a class is one segment.
    least_score: objects that are less sure are left out. uncovered: an object is dropped when surer ones leave less than this
    share of it. least_stuff: the stuff of a class is dropped when it is smaller than a square of this side would be on a photo
    whose longer side has 640 pixels.
    Raises DataError when sizes differ, or masks are not known.
    """
    if label_map.shape != tuple(found.size):
        what = f"the objects are on {found.size} pixels (height, width), the label map on {label_map.shape}"
        raise DataError(what, place=found.image)
    if len(found) and not found.counts:
        raise DataError("only boxes are known of these objects, no masks", place=found.image)
    map = np.full(label_map.shape, NOTHING, np.int64)
    numbers, labels = [], []
    for index in np.argsort(-np.asarray(found.scores, np.float64), kind="stable").tolist():
        if found.scores[index] >= least_score and _placed(map, found, index, uncovered):
            numbers.append(index + 1)
            labels.append(int(found.labels[index]))
    free = np.where(map == NOTHING, label_map, np.uint8(VOID))
    areas = np.bincount(free.reshape(-1), minlength=VOID + 1)
    least = (least_stuff * max(found.size) / REFERENCE) ** 2
    for position, value in enumerate(stuff):
        if value != VOID and areas[value] >= max(least, 1):
            map[free == value] = len(found) + 1 + position
            numbers.append(len(found) + 1 + position)
            labels.append(len(found.classes) + position)
    num = len(numbers)
    return Segments(map, np.array(numbers, np.int64), np.array(labels, np.int64), np.zeros(num, np.bool_))


def _placed(map: np.ndarray, found: Instances, index: int, uncovered: float) -> bool:
    """Gives an object the free pixels among its own; False, and nothing done, when they are too few."""
    one = from_counts([found.counts[index]], [0], found.size)
    if not len(one):
        return False
    left, top, right, bottom = one.boxes[0].astype(int).tolist()
    mask, window = one.cut(0), map[top:bottom, left:right]
    free = mask & (window == NOTHING)
    kept = int(free.sum())
    if not kept or kept < uncovered * int(mask.sum()):
        return False
    window[free] = index + 1
    return True


def stuff_map(segments: Segments, num_things: int) -> np.ndarray:
    """The stuff alone, as a label map uint8 (H, W): labels from `num_things` on, VOID elsewhere."""
    table = np.full(int(segments.numbers.max(initial=0)) + 1, VOID, np.uint8)
    stuff = segments.labels >= num_things
    table[segments.numbers[stuff]] = segments.labels[stuff]
    return table[segments.map]
