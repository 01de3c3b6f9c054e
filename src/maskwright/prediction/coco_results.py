"""A COCO results file, of whatever tool, as columns for scoring: a list of detections with `image_id`, `category_id`,
`score` and a `segmentation` (run-lengths, compressed or not, or polygons), a `bbox`, or both.

What cannot be scored is counted with its reason. Compressed run-lengths are never decoded here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hotcoco import mask as coco

from maskwright.core.errors import DataError
from maskwright.core.words import counted
from maskwright.data.formats import coco_json
from maskwright.data.formats.coco_json import kind_of
from maskwright.imaging import masks
from maskwright.metrics.matching import Shapes, shapes
from maskwright.prediction.coco_entries import Unusable, box_of, find, is_finite, outline, run_lengths
from maskwright.prediction.coco_truth import Refusals, Truth

_AT_ONCE = 400  # run-lengths checked together: few enough to stay in the cache
_INFINITE = float("inf")


@dataclass(frozen=True)
class Results:
    """shapes: the detections that can be scored. total: of how many. refusals: why not the others; elsewhere: how many are on
    images that are not scored."""

    shapes: Shapes
    total: int
    refusals: Refusals
    elsewhere: int = 0


def read(path: Path, truth: Truth) -> Results:
    """The detections of a results file. Raises DataError when it is none."""
    entries, _ = coco_json.parsed(path)
    if not isinstance(entries, list):
        whole = isinstance(entries, dict) and "annotations" in entries
        what = "holds a data set, not detections" if whole else f"holds {kind_of(entries)}, not a list of detections"
        hint = "COCO results are a list of objects with `image_id`, `category_id`, `score` and `segmentation` or `bbox`"
        raise DataError(what, place=path, hint=hint)
    columns, refusals, elsewhere = _Columns(), Refusals(), 0
    for number, entry in enumerate(entries):
        try:
            columns.add(number, entry, truth)
        except Unusable as reason:
            if truth.others and _is_elsewhere(entry, truth):
                elsewhere += 1
            else:
                refusals.add(str(reason), f"entry {number}")
    columns.check(refusals)
    return Results(columns.shapes(), len(entries), refusals, elsewhere)


def checked(results: Results, truth: Truth, path: Path, allow_refused: bool) -> list[str]:
    """What a reader of the scores must know. Raises DataError when entries were refused, unless `allow_refused`."""
    notes = []
    for whose, place, refusals in (("detection", path, results.refusals), ("true object", truth.place, truth.refusals)):
        if len(refusals):
            what = f"{counted(len(refusals), whose)} cannot be scored: {'; '.join(refusals.lines())}"
            if not allow_refused:
                raise DataError(what, place=place, hint="mend the file, or score the rest with --allow-refused")
            notes.append(what)
    if results.elsewhere:
        notes.append(f"{counted(results.elsewhere, 'detection')} on images that are not scored left out")
    notes += truth.notes
    found, drawn = results.shapes.drawn, truth.shapes.drawn
    if empty := len(truth.ids) - len(np.unique(results.shapes.image)):
        notes.append(
            f"{empty:,} of {counted(len(truth.ids), 'image')} have no detection in {path.name}: nothing was found there"
        )
    if len(found) and not found.all():
        notes.append(
            f"{len(found) - found.sum():,} of {counted(len(found), 'detection')} have no mask: boxes are scored"
        )
    elif not drawn.all():
        notes.append(f"{counted((~drawn).sum(), 'true object')} without a mask left out of the mask scores")
    return notes


@dataclass
class _Columns:
    number: list[int] = field(default_factory=list)
    image: list[int] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    score: list[float] = field(default_factory=list)
    boxes: list[Any] = field(default_factory=list)
    rles: list[Any] = field(default_factory=list)

    def add(self, number: int, entry: Any, truth: Truth) -> None:
        """Adds a detection. Raises Unusable, and adds nothing."""
        try:
            image, label = truth.positions[entry["image_id"]], truth.labels[entry["category_id"]]
            score, drawn = entry["score"], entry.get("segmentation")
            plain = type(score) is float and -_INFINITE < score < _INFINITE
        except (KeyError, TypeError):
            plain = False
        if not plain:
            image, label, score = _searched(entry, truth)
            drawn = entry.get("segmentation")
        size = truth.sizes[image]
        if not (type(drawn) is dict and drawn.get("size") == size and type(drawn.get("counts")) is str):
            drawn = outline(drawn, size)
            drawn = run_lengths(drawn, size) if isinstance(drawn, list) else drawn
        box = box_of(entry) if "bbox" in entry else None
        if drawn is None and box is None:
            raise Unusable("neither a mask nor a box")
        self.number.append(number)
        self.image.append(image)
        self.label.append(label)
        self.score.append(score)
        self.boxes.append(box)
        self.rles.append(drawn)

    def check(self, refusals: Refusals) -> None:
        """Drops the detections whose compressed run-lengths do not fit their images."""
        texts = [i for i, rle in enumerate(self.rles) if rle is not None and type(rle["counts"]) is str]
        bad = []
        for start in range(0, len(texts), _AT_ONCE):
            some = texts[start : start + _AT_ONCE]
            given = [self.rles[i]["counts"].encode(errors="replace") for i in some]
            pixels = [self.rles[i]["size"][0] * self.rles[i]["size"][1] for i in some]
            bad += [some[i] for i in np.flatnonzero(masks.misfits(given, pixels)).tolist()]
        for i in bad:
            height, width = self.rles[i]["size"]
            _, why = masks.mend_counts(self.rles[i]["counts"], (height, width))
            same = str(why).replace(f"the {height} x {width} pixels of the image", "the pixels of the image")
            refusals.add(same, f"entry {self.number[i]}")
        for i in reversed(bad):
            for column in (self.number, self.image, self.label, self.score, self.boxes, self.rles):
                del column[i]

    def shapes(self) -> Shapes:
        """A mask is as large as its pixels, a box as its sides say; one that follows from a mask is as large as that, as
        in the reference implementation (`loadRes`)."""
        num = len(self.label)
        drawn = [i for i, rle in enumerate(self.rles) if rle is not None]
        boxes = np.zeros((num, 4))
        given = np.array([box is not None for box in self.boxes], np.bool_)
        boxes[given] = np.array([box for box in self.boxes if box is not None], np.float64).reshape(-1, 4)
        box_areas = boxes[:, 2] * boxes[:, 3]
        areas = box_areas.copy()
        areas[drawn] = coco.area([self.rles[i] for i in drawn])
        bare = [i for i in drawn if not given[i]]
        box_areas[bare] = areas[bare]
        boxes[bare] = coco.to_bbox([self.rles[i] for i in bare])
        return shapes(
            np.array(self.image, np.int64),
            np.array(self.label, np.int64),
            boxes,
            self.rles,
            drawn=np.isin(np.arange(num), drawn),
            areas=areas,
            box_areas=box_areas,
            scores=np.array(self.score, np.float64),
        )


def _is_elsewhere(entry: Any, truth: Truth) -> bool:
    return isinstance(entry, dict) and find(truth.others, entry.get("image_id")) is not None


def _searched(entry: Any, truth: Truth) -> tuple[int, int, float]:
    """Image, class and score of an entry whose numbers may be written as text. Raises Unusable."""
    if not isinstance(entry, dict):
        raise Unusable(f"it is {kind_of(entry)}, not an object")
    for key in ("image_id", "category_id", "score"):
        if key not in entry:
            raise Unusable(f"it has no `{key}`")
    image, label, score = (
        find(truth.positions, entry["image_id"]),
        find(truth.labels, entry["category_id"]),
        entry["score"],
    )
    if image is None or label is None:
        raise Unusable(f"no {'image' if image is None else 'category'} of the data set has its id")
    if not is_finite(score):
        raise Unusable("its `score` is not a finite number")
    return image, label, float(score)
