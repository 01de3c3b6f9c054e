"""The pictures a run keeps for its report: training samples as the network sees them, its best and its worst answers.

pictures/index.json   {"train": [{"file", "caption"}], "val": [{"id", "rank", "miou", "loss", "image", ...}]}
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
from maskwright.prediction.evaluation import class_table
from maskwright.prediction.predictor import Predictor

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
    val: Data,
    scores: Scores,
    colours: np.ndarray,
    loss: Callable[[np.ndarray, np.ndarray], float],
) -> None:
    """Writes pictures and index.json into `folder`.

    loss: (logits float32 (C, h, w), label map uint8 (h, w)) -> the training loss of one image.
    colours: uint8 (256, 3).
    """
    folder.mkdir(parents=True, exist_ok=True)
    train = [_train_entry(folder, number, sample, colours) for number, sample in enumerate(samples[:NUM_TRAIN])]
    chosen = best_and_worst(scores)
    record_of = {record.id: record for record in val if record.id in {id for id, _ in chosen}}
    miou_of = {image.id: image.miou for image in scores.per_image}
    answers = []
    for number, (id, rank) in enumerate(chosen):
        entry = _answer(folder, number, record_of[id], predictor, val.classes, colours, loss)
        answers.append({"id": id, "rank": rank, "miou": miou_of[id], **entry})
    files.write_json(folder / "index.json", {"train": train, "val": answers})


def contact_sheet(folder: Path, each: int = 2) -> np.ndarray:
    """Image, truth and prediction of some of the best answers and of the worst that `write` left in `folder`.

    uint8 RGB (H, W, 3). The very best are left out: they tend to be images without any object.
    """
    answers = json.loads((folder / "index.json").read_text(encoding="utf-8"))["val"]
    best, worst = ([answer for answer in answers if answer["rank"] == rank] for rank in ("best", "worst"))
    pictures, captions = [], []
    for answer in best[-each:] + worst[:each]:
        for kind in ("image", "truth", "predicted"):
            pictures.append(images.read(folder / answer[kind]))
            captions.append(f"{kind}, IoU {answer['miou']:.2f}" if kind == "predicted" else kind)
    return draw.sheet(pictures, columns=3, captions=captions, tile=(200, 200))


def best_and_worst(scores: Scores) -> list[tuple[str, str]]:
    """(id, "worst" | "best"), the worst first; every image once, so small sets show fewer."""
    ranked = sorted((i for i in scores.per_image if i.miou is not None), key=lambda i: (i.miou, i.id))
    worst = ranked[: min(NUM_WORST, -(-len(ranked) * 2 // 3))]
    best = ranked[len(worst) :][-NUM_BEST:][::-1]
    return [(image.id, "worst") for image in worst] + [(image.id, "best") for image in best]


def _train_entry(folder: Path, number: int, sample: Sample, colours: np.ndarray) -> dict[str, Any]:
    name = f"train_{number:02d}.webp"
    shown = _small(draw.overlay(sample.image, sample.label_map, colours, opacity=0.4))
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
    truth = class_table(classes, predictor.classes)[masks.label_map(record)]
    predicted = predictor(record.image, upright=record.upright).label_map
    value = None
    if not predictor.tiled:
        logits, fitting = predictor.logits(record.image, upright=record.upright)
        value = round(loss(logits, images.fit_label_map(truth, fitting)), 4)
    pictures = {
        "image": image,
        "truth": draw.overlay(image, truth, colours),
        "predicted": draw.overlay(image, predicted, colours),
    }
    names = {}
    for kind, picture in pictures.items():
        names[kind] = f"val_{number:02d}_{kind}.webp"
        (folder / names[kind]).write_bytes(draw.encode(_small(picture), "webp", 80))
    return {"loss": value, "size": list(image.shape[:2]), **names}


def _small(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return images.fit(image, Fitting((height, width), size, (0, 0, *size)))
