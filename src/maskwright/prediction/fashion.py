"""iMaterialist-Fashion: what was found, as the CSV that is handed in; and any answer, scored by the competition's rules.

`Jury` collects images: of a model (`watched`), of a COCO results file (`results_told`) or of a CSV (`score_submission`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from maskwright.core import events
from maskwright.core.errors import DataError
from maskwright.core.table import Data
from maskwright.core.types import Instances, Record, Region
from maskwright.core.words import counted
from maskwright.data.formats import coco_json, imaterialist_rows
from maskwright.data.formats.imaterialist_submission import SIZE, Answer, Codes, read_submission, write_submission
from maskwright.data.formats.writing import drawn
from maskwright.imaging import masks
from maskwright.metrics.conventions import Restated
from maskwright.metrics.imaterialist import FashionScores, restated
from maskwright.metrics.matching import Shapes
from maskwright.prediction import coco_truth
from maskwright.prediction.coco_truth import Truth

Size = tuple[int, int]
CLASS_ALONE = "score of classes alone"
NO_ATTRIBUTES = "attributes of the truth are not compared: the answer names none"


class Jury:
    """The competition's score of images collected one by one, with attributes as part of the class and without.

    Crowds are no objects in the competition: they are left out.
    """

    def __init__(self, classes: Sequence[str], *, attributes: bool = True):
        self.classes = tuple(classes)
        self._scores = {CLASS_ALONE: FashionScores(attributes=False)}
        if attributes:
            self._scores = {"score": FashionScores(), **self._scores}

    def add(
        self, id: str, truth: Sequence[Region], found: Sequence[Region], size: Size, found_size: Size | None = None
    ) -> None:
        """Counts one image. size: height, width of the truth, and of what was found unless that has its own."""
        truth = [region for region in truth if not region.crowd]
        for scores in self._scores.values():
            scores.add(id, truth, found, size, found_size)

    def restated(self) -> Restated:
        """The scores with their intervals over images."""
        told = "" if "score" in self._scores else NO_ATTRIBUTES
        return restated({name: one.result() for name, one in self._scores.items()}, self.classes, told)


def watched(predict: Callable[[Record], Instances], jury: Jury) -> Callable[[Record], Instances]:
    """`predict`, whose every answer the jury sees too. What it finds of classes that the data do not have is left out."""
    index = {name: number for number, name in enumerate(jury.classes)}

    def predicted(record: Record) -> Instances:
        found = predict(record)
        labels = [index.get(found.classes[label], -1) for label in found.labels.tolist()]
        regions = [Region(label, counts=runs) for label, runs in zip(labels, found.counts, strict=True) if label >= 0]
        jury.add(record.id, drawn(record, jury.classes), regions, record.size)
        return found

    return predicted


def results_told(jury: Jury, truth: Truth, found: Shapes) -> None:
    """Shows the jury a results file beside the truth. Raises DataError when it holds boxes alone."""
    if not found.drawn.all():
        raise DataError("the competition scores masks, and detections have none", place="--convention")
    sides = [_by_image(shapes, truth.sizes) for shapes in (truth.shapes, found)]
    for number, (id, size) in enumerate(zip(truth.ids, truth.sizes, strict=True)):
        jury.add(id, sides[0][number], sides[1][number], (size[0], size[1]))


def score_submission(path: Path, data: Data, descriptions: Path | None = None) -> Restated:
    """The competition's score of a CSV that is handed in, against labelled photos; ImageIds go with or without suffix.

    descriptions: the `label_descriptions.json` that numbers classes and attributes; left out: beside the CSV or above it.

    Raises DataError when the CSV or the descriptions cannot be read, an image has no row, or a class has no number. Rows of
    images that the data do not have are left out, with a word.
    """
    answers = read_submission(
        path, Codes.of(data.classes, imaterialist_rows.described(_descriptions(path, descriptions)))
    )
    by_stem = {PurePath(name).stem: regions for name, regions in answers.items()}
    jury = Jury(data.classes)
    for record in events.progress(data, "evaluate", len(data)):
        name = PurePath(record.id).stem
        if name not in by_stem:
            what = f"has no row for the image {record.id}"
            raise DataError(what, place=path, hint="an image without objects has a row with empty EncodedPixels")
        jury.add(record.id, drawn(record, data.classes), by_stem.pop(name), record.size, SIZE)
    if by_stem:
        events.say(f"{counted(len(by_stem), 'image')} of {path} left out: not among those that are scored")
    return jury.restated()


@dataclass(frozen=True)
class HandedIn:
    """images, objects: that were written; hidden: objects that others covered wholly, or that vanish at 512 x 512."""

    images: int
    objects: int
    hidden: int


def hand_in(found: Path, out: Path, descriptions: Path | None = None) -> HandedIn:
    """Writes the CSV for the competition from a COCO JSON of what was found: images, and annotations with their `score`.

    Of overlapping objects the surest has the pixels; where the JSON states no score, the smallest. ImageIds are the photos'
    names without suffix. Raises DataError when the JSON or the descriptions cannot be read, an annotation cannot be used or
    a class has no number in the competition; SetupError when the CSV cannot be written.
    """
    truth = coco_truth.read(found)
    if len(truth.refusals):
        raise DataError("; ".join(truth.refusals.lines()), place=found)
    document = coco_json.load(found)
    scores = _scores(document.annotations, truth.shapes)
    codes = Codes.of(truth.classes, imaterialist_rows.described(_descriptions(found, descriptions)))
    written = write_submission(out, _answers(truth, scores, _named(document)), codes)
    return HandedIn(len(truth.ids), written, len(truth.shapes) - written)


def _answers(truth: Truth, scores: np.ndarray, attributes: Sequence[Sequence[str]]) -> Iterator[Answer]:
    regions = _by_image(truth.shapes, truth.sizes, attributes)
    names = [PurePath(id).stem for id in truth.ids]
    for number, (name, size) in enumerate(zip(names, truth.sizes, strict=True)):
        mine = scores[truth.shapes.drawn & (truth.shapes.image == number)]
        yield Answer(name, (size[0], size[1]), regions[number], mine.tolist())


def _scores(annotations: Sequence[Any], shapes: Shapes) -> np.ndarray:
    """float64 (N,): the scores, or for want of them what puts the smaller in front."""
    stated = [entry.get("score") for entry in annotations]
    known = [isinstance(score, int | float) and not isinstance(score, bool) for score in stated]
    if all(known):
        return np.array(stated, np.float64)
    if any(known):
        first = known.index(False)
        raise DataError(f"annotations[{first}] has no `score`, others have one")
    events.say("the JSON states no scores: of overlapping objects the smaller has the pixels")
    return -shapes.areas


def _named(document: coco_json.Document) -> list[list[str]]:
    """The names of attributes of each annotation, as readers of fashion data keep them."""
    told = (entry.get("attributes") for entry in document.annotations)
    return [[name for name in names if isinstance(name, str)] if isinstance(names, list) else [] for names in told]


def _by_image(
    shapes: Shapes, sizes: Sequence[Sequence[int]], attributes: Sequence[Sequence[str]] | None = None
) -> Mapping[int, list[Region]]:
    """Position of an image -> its objects, in their order, those without a mask left out."""
    found: dict[int, list[Region]] = defaultdict(list)
    for number in np.flatnonzero(shapes.drawn).tolist():
        image = int(shapes.image[number])
        counts, why = masks.mend_counts(shapes.rles[number]["counts"], (sizes[image][0], sizes[image][1]))
        assert counts is not None, why
        told = {"attributes": list(attributes[number])} if attributes and attributes[number] else {}
        crowd = bool(shapes.crowd[number])
        found[image].append(Region(int(shapes.label[number]), counts=counts, crowd=crowd, attributes=told))
    return found


def _descriptions(path: Path, asked: Path | None) -> Path:
    """The descriptions asked for, or the first beside a file or in the folder above."""
    if asked is not None:
        return asked
    for folder in (path.parent, path.parent.parent):
        files = sorted(folder.glob("label_descriptions*.json"), key=lambda file: (len(file.name), file.name))
        if files:
            return files[0]
    hint = "name it with `--option descriptions=label_descriptions.json`"
    raise DataError("no label_descriptions.json beside it numbers the classes", place=path, hint=hint)
