"""Scores of objects, one by one: of a model, of a COCO results file, of a folder of object-number maps.

`score` is the door for a model: it calls it image by image, and every truth comes through `objects_of`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from maskwright.core import events
from maskwright.core.errors import DataError
from maskwright.core.registry import suggestion
from maskwright.core.table import Data
from maskwright.core.types import BACKGROUND, Instances, Record
from maskwright.core.words import counted
from maskwright.data.formats.coco import no_garbage_collection
from maskwright.imaging.objects import Objects, objects_of
from maskwright.metrics.average_precision import PIXELS, Detections, columns, joined
from maskwright.metrics.instance_scores import InstanceScores
from maskwright.metrics.panoptic import Panoptics, PanopticScores, Segments
from maskwright.prediction import coco_results, fashion
from maskwright.prediction.coco_truth import Refusals, Truth, ends_of
from maskwright.prediction.evaluation import THREADS, maps_of, ordered
from maskwright.prediction.instances import InstancePredictor

MANY = 20_000  # detections from which fewer resamples are drawn, so that intervals take seconds
FEWER = 200
OBJECT = "object"


def evaluate(
    predictor: InstancePredictor,
    data: Data,
    *,
    label: str = "evaluate",
    resamples: int = 1000,
    jury: fashion.Jury | None = None,
) -> InstanceScores:
    """Scores of a predictor on labelled images, see `score`. jury: sees every answer too."""

    def predict(record: Record) -> Instances:
        return predictor(record.image, upright=record.upright)

    return score(predict if jury is None else fashion.watched(predict, jury), data, label=label, resamples=resamples)


def score(
    predict: Callable[[Record], Instances], data: Data, *, label: str = "evaluate", resamples: int = 1000
) -> InstanceScores:
    """Scores `predict(record)`, at the record's own size, against the objects drawn on it. Classes are matched by name.

    Raises DataError when the model does not know a class of the data, and what `objects_of` and `Detections.add` raise.
    Detections of classes that the data do not have are left out.
    """
    detections = Detections(data.classes)

    def pair(record: Record) -> tuple[str, Objects, Instances]:
        return record.id, objects_of(record, data.classes), named(predict(record), data.classes)

    for id, truth, found in events.progress(ordered(pair, data, THREADS), label, len(data)):
        detections.add(id, truth, found)
    return detections.scores(expected=len(data), resamples=resamples)


def named(found: Instances, classes: tuple[str, ...]) -> Instances:
    """The objects whose class `classes` has, with indices into it. Raises DataError when it has one the model lacks."""
    table = class_table(found.classes, classes)
    labels = table[found.labels]
    kept = np.flatnonzero(labels >= 0)
    counts = tuple(found.counts[i] for i in kept.tolist()) if found.counts else ()
    return Instances(labels[kept], found.scores[kept], found.boxes[kept], counts, found.size, classes, found.image)


def class_table(known: tuple[str, ...], classes: tuple[str, ...]) -> np.ndarray:
    """int64 (C,): the index in `classes` of each of a model's classes, -1 where it is not there.

    Raises DataError when `classes` has one the model lacks.
    """
    for name in classes:
        if name not in known and name != BACKGROUND:
            hint = f"{suggestion(name, known)}; rename or drop it with `classes:`"
            raise DataError(f"the data have the class `{name}`, which the model does not know", hint=hint)
    return np.array([classes.index(name) if name in classes else -1 for name in known], np.int64)


def score_results(
    path: Path,
    truth: Truth,
    *,
    allow_refused: bool = False,
    resamples: int | None = None,
    jury: fashion.Jury | None = None,
) -> tuple[InstanceScores, int]:
    """Scores of a COCO results file, and how many of its entries and of the true objects were refused.

    resamples: of the bootstrap; left out: 1000, of many detections 200. jury: sees the detections too.

    Raises DataError when it is no results file, and when something was refused, unless `allow_refused`.
    """
    with no_garbage_collection():
        results = coco_results.read(path, truth)
    notes = coco_results.checked(results, truth, path, allow_refused)
    if not results.total:
        events.warn(f"{path} holds no detection at all")
    if jury is not None:
        fashion.results_told(jury, truth, results.shapes)
    if resamples is None:
        resamples = 1000 if len(results.shapes) <= MANY else FEWER
    detections = Detections(truth.classes)
    detections.add_shapes(truth.ids, truth.shapes, results.shapes)
    scores = detections.scores(areas=truth.areas, notes=notes, resamples=resamples)
    return scores, len(results.refusals) + len(truth.refusals)


def truth_of(data: Data, place: str) -> Truth:
    """What detections are scored against where the labels are no COCO JSON.

    A results file may call an image by its id here, the end of its path, its name without suffix, or the number in it; a
    class by its index in the list of classes or its name. Names that two images have are no names.
    """
    objects = [objects_of(record, data.classes) for record in events.progress(data, "reading objects", len(data))]
    positions: dict[Any, int] = {}
    twice: set[Any] = set()
    for number, record in enumerate(data):
        file = PurePosixPath(Path(record.image).as_posix())
        names: set[Any] = {record.id, *ends_of(file)}
        names |= {int(name) for name in list(names) if name.isdecimal() and len(name) < 20}
        twice |= {name for name in names if positions.setdefault(name, number) != number}
    shapes = joined([columns(one, number, crowd=one.crowd) for number, one in enumerate(objects)])
    return Truth(
        place=place,
        ids=tuple(data.ids),
        positions={name: number for name, number in positions.items() if name not in twice},
        sizes=[list(one.size) for one in objects],
        classes=data.classes,
        labels={i: i for i in range(len(data.classes))} | {name: i for i, name in enumerate(data.classes)},
        shapes=shapes,
        areas=PIXELS,
        refusals=Refusals(),
    )


def score_numbers(folder: Path, data: Data, *, resamples: int = 1000) -> tuple[InstanceScores, PanopticScores]:
    """Scores of a folder of maps of object numbers, one for each image: average precision and panoptic quality.

    Such maps hold neither classes nor scores. With one class, that is theirs; with several, all objects count as one class
    `object`. Every score is 1, so that average precision depends on the order of the objects among equals: panoptic
    quality does not. Maps are found as `evaluation.evaluate_folder` finds label maps.
    """
    found = maps_of(folder, data, "objects")
    named_classes = [name for name in data.classes if name != BACKGROUND]
    name = named_classes[0] if len(named_classes) == 1 else OBJECT
    detections, panoptics = Detections((name,)), Panoptics((name,), (True,))

    def pair(record: Record) -> tuple[str, Objects, Objects]:
        truth = objects_of(record, data.classes)
        answer = Record(record.id, record.image, record.size, objects=str(folder / found[record.id]))
        return record.id, truth, objects_of(answer, (BACKGROUND, name))

    for id, truth, ours in events.progress(ordered(pair, data, THREADS), "evaluate", len(data)):
        none = np.zeros(len(ours), np.int64)
        answer = Instances(none, np.ones(len(ours), np.float32), ours.boxes, ours.counts, ours.size, (name,))
        same = Objects(np.zeros(len(truth), np.int64), truth.boxes, truth.crowd, truth.ids, truth.counts, truth.size)
        detections.add(id, same, answer)
        panoptics.add(id, _segments(same), _segments(ours))
    notes = ["object-number maps hold no scores: every object counts as equally sure, and ties keep their order"]
    if len(named_classes) > 1:
        notes.append(f"they hold no classes either: all {counted(len(named_classes), 'class')} count as one")
    scores = detections.scores(expected=len(data), notes=notes, resamples=resamples)
    return scores, panoptics.scores(expected=len(data), resamples=resamples)


def _segments(objects: Objects) -> Segments:
    """Objects as segments, all of one class, the smallest on top; crowds below all others."""
    order = np.lexsort((objects.areas(), objects.crowd))
    map = np.zeros(objects.size, np.int64)
    for number in order[::-1].tolist():
        left, top, right, bottom = objects.boxes[number].astype(int)
        map[top:bottom, left:right][objects.cut(number)] = number + 1
    num = len(objects)
    return Segments(map, np.arange(1, num + 1), np.zeros(num, np.int64), np.asarray(objects.crowd, np.bool_))
