"""The pictures a run keeps for its report: training samples as the network sees them, its best and its worst answers.

pictures/index.json   {"train": [{"file", "caption"}], "val": [{"id", "rank", "score", "loss", "image", ...}], "part": "val",
                      "measure": "mean IoU"}

"part" says which images "val" shows: those of "val", or of "test" where nothing validates. "measure" says what each score
is, see `ranking`; "loss" is null where the task has none of a single image.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.core import files
from maskwright.core.table import Data
from maskwright.core.types import SURE, Instances, Prediction, Record
from maskwright.imaging import draw, draw_objects, images, masks
from maskwright.imaging.fit_objects import fitted
from maskwright.imaging.images import Fitting
from maskwright.imaging.objects import objects_of
from maskwright.imaging.palette import after_nothing
from maskwright.metrics.instance_scores import InstanceScores
from maskwright.prediction.evaluation import class_table, mask_labels
from maskwright.prediction.instances import InstancePredictor
from maskwright.prediction.predictor import AnyPredictor, Predictor
from maskwright.prediction.scoring import AnyScores
from maskwright.reports.measures import F1, MEAN_IOU
from maskwright.tasks import multilabel

SIDE = 400  # longest side of a picture, pixels
NUM_TRAIN, NUM_BEST, NUM_WORST = 12, 4, 8
Loss = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Sample:
    """One augmented training sample: image uint8 (h, w, 3), label map uint8 (h, w), id.

    Of a model that finds objects the label map counts classes from 1, and 0 is no object.
    """

    image: np.ndarray
    label_map: np.ndarray
    id: str


def write(
    folder: Path,
    samples: Sequence[Sample],
    predictor: AnyPredictor,
    scored: tuple[str, Data, AnyScores] | None,
    colours: np.ndarray,
    loss: Loss | None,
) -> None:
    """Writes pictures and index.json into `folder`.

    scored: "val" or "test", these images and their scores; None where nothing is scored: then only samples are kept.
    loss: (logits float32 (C, h, w), labels uint8 (h, w) or (C, h, w)) -> the training loss of one image; None where the
      task has none.
    colours: uint8 (256, 3), of the predictor's classes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    of_samples = after_nothing(colours) if isinstance(predictor, InstancePredictor) else colours
    train = [_train_entry(folder, number, sample, of_samples) for number, sample in enumerate(samples[:NUM_TRAIN])]
    index: dict[str, Any] = {"train": train, "val": [], "part": "val"}
    if scored is not None:
        part, data, scores = scored
        measure, score_of = ranking(scores)
        chosen = best_and_worst(scores)
        record_of = {record.id: record for record in data if record.id in {id for id, _ in chosen}}
        for number, (id, rank) in enumerate(chosen):
            entry = _answer(folder, number, record_of[id], predictor, data.classes, colours, loss)
            index["val"].append({"id": id, "rank": rank, "score": score_of[id], **entry})
        index |= {"part": part, "measure": measure}
    files.write_json(folder / "index.json", index)


def drawn(image: np.ndarray, found: Prediction | Instances, colours: np.ndarray) -> np.ndarray:
    """What a model says, over the image, small: its classes, or its objects that are surer than SURE. uint8 (h, w, 3)."""
    if isinstance(found, Prediction):
        return small(draw.overlay(image, found.label_map, colours))
    return _objects_drawn(image, found.only(found.scores > SURE), colours)


def contact_sheet(folder: Path, each: int = 2) -> np.ndarray:
    """Image, truth and prediction of some of the best answers and of the worst that `write` left in `folder`.

    uint8 RGB (H, W, 3). The very best are left out: they tend to be images without any object.
    """
    best, worst = ([answer for answer in answers(folder) if answer["rank"] == rank] for rank in ("best", "worst"))
    name = {F1: "F1"}.get(str(_index(folder).get("measure")), "IoU")
    pictures, captions = [], []
    for answer in best[-each:] + worst[:each]:
        for kind in ("image", "truth", "predicted"):
            pictures.append(images.read(folder / answer[kind]))
            captions.append(f"{kind}, {name} {answer['score']:.2f}" if kind == "predicted" else kind)
    return draw.sheet(pictures, columns=3, captions=captions, tile=(200, 200))


def answers(folder: Path) -> list[dict[str, Any]]:
    """The answers that `write` left in `folder`; none where it never wrote, or nothing was scored."""
    return [
        {"score": answer.get("miou"), **answer} for answer in _index(folder).get("val", [])
    ]  # `miou`: of older runs


def best_and_worst(scores: AnyScores) -> list[tuple[str, str]]:
    """(id, "worst" | "best"), the worst first; every image once, so small sets show fewer."""
    known = [(value, id) for id, value in ranking(scores)[1].items() if value is not None]
    ranked = [id for _, id in sorted(known)]
    worst = ranked[: min(NUM_WORST, -(-len(ranked) * 2 // 3))]
    best = ranked[len(worst) :][-NUM_BEST:][::-1]
    return [(id, "worst") for id in worst] + [(id, "best") for id in best]


def ranking(scores: AnyScores) -> tuple[str, dict[str, float | None]]:
    """What tells good images from bad ones, in words, and its value of each image: None where it has none."""
    if isinstance(scores, InstanceScores):
        return F1, {image.id: image.f1 for image in scores.per_image}
    return MEAN_IOU, {image.id: image.miou for image in scores.per_image}


def small(image: np.ndarray) -> np.ndarray:
    """The image with its longest side shrunk to SIDE."""
    height, width = image.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return images.fit(image, Fitting((height, width), size, (0, 0, *size)))


def _index(folder: Path) -> dict[str, Any]:
    try:
        value = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _train_entry(folder: Path, number: int, sample: Sample, colours: np.ndarray) -> dict[str, Any]:
    name = f"train_{number:02d}.webp"
    shown = small(draw.overlay(sample.image, sample.label_map, colours, opacity=0.4))
    (folder / name).write_bytes(draw.encode(shown, "webp", 80))
    return {"file": name, "caption": sample.id}


def _answer(
    folder: Path,
    number: int,
    record: Record,
    predictor: AnyPredictor,
    classes: tuple[str, ...],
    colours: np.ndarray,
    loss: Loss | None,
) -> dict[str, Any]:
    image = images.read(record.image, upright=record.upright)
    found = predictor(record.image, upright=record.upright)
    value = None
    if isinstance(predictor, InstancePredictor):
        truth = _objects_drawn(image, true_objects(record, classes, predictor.classes), colours)
    else:
        label_map = class_table(classes, predictor.classes, predictor.description.multilabel)[masks.label_map(record)]
        truth = small(draw.overlay(image, label_map, colours))
        if loss is not None and not predictor.tiled:
            value = round(_loss(loss, record, predictor, classes, label_map), 4)
    names = {}
    for kind, picture in (("image", small(image)), ("truth", truth), ("predicted", drawn(image, found, colours))):
        names[kind] = f"val_{number:02d}_{kind}.webp"
        (folder / names[kind]).write_bytes(draw.encode(picture, "webp", 80))
    return {"loss": value, "size": list(image.shape[:2]), **names}


def _loss(loss: Loss, record: Record, predictor: Predictor, classes: tuple[str, ...], truth: np.ndarray) -> float:
    logits, fitting = predictor.logits(record.image, upright=record.upright)
    labels = images.fit_label_map(truth, fitting)
    if predictor.description.multilabel:
        labels = multilabel.encode(record, fitting, mask_labels(classes, predictor.classes))
    return loss(logits, labels)


def true_objects(record: Record, classes: tuple[str, ...], names: tuple[str, ...]) -> Instances:
    """The objects drawn on a record as a model of the classes `names` would tell them, without scores; no crowds.

    classes: of the record's data. The smallest come first, and so are drawn above the others.
    """
    objects = objects_of(record, classes)
    labels = np.array([names.index(name) if name in names else -1 for name in classes], np.int64)[objects.labels]
    scores = np.full(len(objects), np.nan, np.float32)
    told = Instances(labels, scores, objects.boxes, objects.counts, objects.size, names)
    order = np.argsort(objects.areas(), kind="stable")
    return told.only(order[((labels >= 0) & ~objects.crowd)[order]])


def _objects_drawn(image: np.ndarray, found: Instances, colours: np.ndarray) -> np.ndarray:
    """Objects over the small image, so that their names can be read."""
    picture = small(image)
    return draw_objects.drawn(picture, fitted(found, (picture.shape[0], picture.shape[1])), colours)
