"""The pictures a run keeps for its report: training samples as the network sees them, its best and its worst answers.

pictures/index.json   {"train": [{"file", "caption"}], "val": [{"id", "rank", "miou", "loss", "image", ...}], "part": "val"}

"part" says which images "val" shows: those of "val", or of "test" where nothing validates.
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
from maskwright.core.types import Record
from maskwright.imaging import draw, images, masks
from maskwright.imaging.images import Fitting
from maskwright.metrics.scores import Scores
from maskwright.prediction.evaluation import class_table, mask_labels
from maskwright.prediction.predictor import Predictor
from maskwright.tasks import multilabel

SIDE = 400  # longest side of a picture, pixels
NUM_TRAIN, NUM_BEST, NUM_WORST = 12, 4, 8


@dataclass(frozen=True)
class Sample:
    """One augmented training sample: image uint8 (h, w, 3), label map uint8 (h, w), id."""

    image: np.ndarray
    label_map: np.ndarray
    id: str


def write(
    folder: Path,
    samples: Sequence[Sample],
    predictor: Predictor,
    scored: tuple[str, Data, Scores] | None,
    colours: np.ndarray,
    loss: Callable[[np.ndarray, np.ndarray], float],
) -> None:
    """Writes pictures and index.json into `folder`.

    scored: "val" or "test", these images and their scores; None where nothing is scored: then only samples are kept.
    loss: (logits float32 (C, h, w), labels uint8 (h, w) or (C, h, w)) -> the training loss of one image.
    colours: uint8 (256, 3).
    """
    folder.mkdir(parents=True, exist_ok=True)
    train = [_train_entry(folder, number, sample, colours) for number, sample in enumerate(samples[:NUM_TRAIN])]
    entries = []
    if scored is not None:
        _, data, scores = scored
        chosen = best_and_worst(scores)
        record_of = {record.id: record for record in data if record.id in {id for id, _ in chosen}}
        miou_of = {image.id: image.miou for image in scores.per_image}
        for number, (id, rank) in enumerate(chosen):
            entry = _answer(folder, number, record_of[id], predictor, data.classes, colours, loss)
            entries.append({"id": id, "rank": rank, "miou": miou_of[id], **entry})
    files.write_json(folder / "index.json", {"train": train, "val": entries, "part": scored[0] if scored else "val"})


def contact_sheet(folder: Path, each: int = 2) -> np.ndarray:
    """Image, truth and prediction of some of the best answers and of the worst that `write` left in `folder`.

    uint8 RGB (H, W, 3). The very best are left out: they tend to be images without any object.
    """
    best, worst = ([answer for answer in answers(folder) if answer["rank"] == rank] for rank in ("best", "worst"))
    pictures, captions = [], []
    for answer in best[-each:] + worst[:each]:
        for kind in ("image", "truth", "predicted"):
            pictures.append(images.read(folder / answer[kind]))
            captions.append(f"{kind}, IoU {answer['miou']:.2f}" if kind == "predicted" else kind)
    return draw.sheet(pictures, columns=3, captions=captions, tile=(200, 200))


def answers(folder: Path) -> list[dict[str, Any]]:
    """The answers that `write` left in `folder`; none where it never wrote, or nothing was scored."""
    try:
        return list(json.loads((folder / "index.json").read_text(encoding="utf-8"))["val"])
    except (OSError, ValueError, KeyError):
        return []


def best_and_worst(scores: Scores) -> list[tuple[str, str]]:
    """(id, "worst" | "best"), the worst first; every image once, so small sets show fewer."""
    ranked = sorted((i for i in scores.per_image if i.miou is not None), key=lambda i: (i.miou, i.id))
    worst = ranked[: min(NUM_WORST, -(-len(ranked) * 2 // 3))]
    best = ranked[len(worst) :][-NUM_BEST:][::-1]
    return [(image.id, "worst") for image in worst] + [(image.id, "best") for image in best]


def _train_entry(folder: Path, number: int, sample: Sample, colours: np.ndarray) -> dict[str, Any]:
    name = f"train_{number:02d}.webp"
    shown = small(draw.overlay(sample.image, sample.label_map, colours, opacity=0.4))
    (folder / name).write_bytes(draw.encode(shown, "webp", 80))
    return {"file": name, "caption": sample.id}


def _answer(
    folder: Path,
    number: int,
    record: Record,
    predictor: Predictor,
    classes: tuple[str, ...],
    colours: np.ndarray,
    loss: Callable[[np.ndarray, np.ndarray], float],
) -> dict[str, Any]:
    image = images.read(record.image, upright=record.upright)
    overlapping = predictor.description.multilabel
    truth = class_table(classes, predictor.classes, overlapping)[masks.label_map(record)]
    predicted = predictor(record.image, upright=record.upright).label_map
    value = None
    if not predictor.tiled:
        logits, fitting = predictor.logits(record.image, upright=record.upright)
        labels = images.fit_label_map(truth, fitting)
        if overlapping:
            labels = multilabel.encode(record, fitting, mask_labels(classes, predictor.classes))
        value = round(loss(logits, labels), 4)
    pictures = {
        "image": image,
        "truth": draw.overlay(image, truth, colours),
        "predicted": draw.overlay(image, predicted, colours),
    }
    names = {}
    for kind, picture in pictures.items():
        names[kind] = f"val_{number:02d}_{kind}.webp"
        (folder / names[kind]).write_bytes(draw.encode(small(picture), "webp", 80))
    return {"loss": value, "size": list(image.shape[:2]), **names}


def small(image: np.ndarray) -> np.ndarray:
    """The image with its longest side shrunk to SIDE."""
    height, width = image.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return images.fit(image, Fitting((height, width), size, (0, 0, *size)))
