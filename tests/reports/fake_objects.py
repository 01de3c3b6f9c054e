"""A set of drawn objects and a model that finds most of them, for pages, pictures and lists of runs of `task: instance`.

The model is a function: it knows the images it will be asked about, and answers with their true objects, moved a little,
some missed, some taken for another class, beside weak ones that are nowhere. Also a command: `python fake_objects.py FOLDER`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from fake_run import dump, history, ledger, record, scene

from maskwright.bundles.bundle import Description
from maskwright.core.table import Data
from maskwright.core.types import BACKGROUND
from maskwright.data import synthetic
from maskwright.data.open import open_data
from maskwright.exports.onnx_objects import ObjectParity
from maskwright.imaging import images
from maskwright.imaging.objects import objects_of
from maskwright.imaging.palette import class_colours
from maskwright.metrics.instance_scores import InstanceScores
from maskwright.prediction import instance_evaluation
from maskwright.prediction.instances import InstancePredictor
from maskwright.prediction.views import as_input
from maskwright.reports import snapshots

NAME = "2026-11-21-maskrcnn-shapes-1"
SIZE = (120, 160)
CELLS = 28  # of a mask, as networks give them
LOSSES = {"rpn_class_loss": 0.1, "rpn_bbox_loss": 0.05, "class_loss": 0.4, "bbox_loss": 0.25, "mask_loss": 0.5}
RECIPE = "task: instance\ndata:\n  - path: shapes\nsize: [120, 160]\nmodel: {name: mask_rcnn, encoder: mobilenet_v2}\n"


def photos(folder: Path, num: int = 12, seed: int = 5) -> Data:
    """Labelled images in a new folder."""
    synthetic.make(folder, num=num, size=SIZE, seed=seed, coloured=True)
    return open_data(folder).data


def predictor(data: Data, *, skill: float = 0.8, weak: int = 3, seed: int = 0) -> InstancePredictor:
    """A model of the data's classes. skill: share of the objects it finds. weak: wrong guesses of an image, of low scores."""
    names = tuple(name for name in data.classes if name != BACKGROUND)
    found = {}
    for number, one in enumerate(data):
        rng = np.random.default_rng((seed, number))
        seen = as_input(images.read_fitted(one.image, SIZE, "squash")[0]).tobytes()
        found[seen] = _answer(objects_of(one, data.classes), data.classes, names, rng, skill, weak)

    def network(pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        return found.get(pixels.tobytes()) or _nothing()

    colours = tuple(tuple(colour) for colour in class_colours(names)[: len(names)].tolist())
    description = Description(names, colours, SIZE, "squash", {"name": "mask_rcnn"}, task="instance")
    return InstancePredictor(network, description, runtime="test")


def _nothing() -> tuple[np.ndarray, ...]:
    return (
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.int64),
        np.zeros(0, np.float32),
        np.zeros((0, 1, CELLS, CELLS), np.float32),
    )


def _answer(
    objects: Any, classes: tuple[str, ...], names: tuple[str, ...], rng: np.random.Generator, skill: float, weak: int
) -> tuple[np.ndarray, ...]:
    boxes, labels, scores, masks = [], [], [], []
    scale = np.array([SIZE[1] / objects.size[1], SIZE[0] / objects.size[0]] * 2)
    for index in range(len(objects)):
        cut = objects.cut(index)
        if rng.uniform() > skill or min(cut.shape) < 3:
            continue
        label = names.index(classes[objects.labels[index]])
        wrong = rng.uniform() > 0.5 + skill / 2
        rows, columns = (((np.arange(CELLS) + 0.5) * side / CELLS).astype(int) for side in cut.shape)
        boxes.append(objects.boxes[index] * scale + rng.normal(0, 2 * (1.05 - skill), 4))
        labels.append(1 + ((label + 1) % len(names) if wrong else label))
        scores.append(rng.beta(8, 1.5))
        masks.append(cut[np.ix_(rows, columns)])
    for _ in range(weak):
        corner = rng.uniform(0, 80, 2)
        boxes.append([*corner, *(corner + rng.uniform(10, 40, 2))])
        labels.append(int(rng.integers(1, len(names) + 1)))
        scores.append(rng.uniform(0.06, 0.35))
        masks.append(np.ones((CELLS, CELLS)))
    if not boxes:
        return _nothing()
    return (
        np.array(boxes, np.float32),
        np.array(labels, np.int64),
        np.array(scores, np.float32),
        np.array(masks, np.float32)[:, None],
    )


def fake_objects_run(
    folder: Path, *, num: int = 24, epochs: int = 12, test: bool = True, skill: float = 0.8, seed: int = 0
) -> Path:
    """Writes the run folder, with the labelled images it is about in `photos` beside it, and returns it.

    num: images of the validation set, half as many of the test set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = photos(folder.parent / f"{folder.name}-photos", num)
    model = predictor(data, skill=skill, seed=seed)
    colours = class_colours(model.classes)
    parts = {"val": data, **({"test": data.select(range(num // 2))} if test else {})}
    scores = {part: instance_evaluation.evaluate(model, some, resamples=200) for part, some in parts.items()}
    dump(folder / "scores.json", {"schema": 1, **{part: found.to_json() for part, found in scores.items()}})
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in _history(epochs, seed)))
    (folder / "recipe.yaml").write_text(RECIPE)
    dump(folder / "run.json", _record(data, model, scores["val"], num))
    dump(folder / "ledger.json", ledger().to_json())
    snapshots.write(folder / "pictures", samples(data), model, ("val", data, scores["val"]), colours, None)
    return folder


def samples(data: Data) -> list[snapshots.Sample]:
    """Training samples: label maps that count classes from 1."""
    names = [name for name in data.classes if name != BACKGROUND]
    made = []
    for one in data.select(range(min(8, len(data)))):
        objects, label_map = objects_of(one, data.classes), np.zeros(one.size, np.uint8)
        for index in range(len(objects)):
            label_map[objects.mask(index)] = 1 + names.index(data.classes[objects.labels[index]])
        made.append(snapshots.Sample(images.read(one.image), label_map, one.id))
    return made


def _history(epochs: int, seed: int) -> list[dict[str, Any]]:
    told = history(epochs, "finished", "", "", np.random.default_rng(seed))
    for event in told:
        if event["event"] == "epoch":
            ap = 0.9 * event.pop("val_miou")
            del event["val_loss"], event["val_pixel_accuracy"]
            event |= {"val_mask_ap": ap, "val_mask_ap50": min(1.0, 1.4 * ap), "val_box_ap": 0.96 * ap}
            total = sum(LOSSES.values())
            event["losses"] = {name: event["train_loss"] * share / total for name, share in LOSSES.items()}
    return told


def _record(data: Data, model: InstancePredictor, scores: InstanceScores, num: int) -> dict[str, Any]:
    told = record((), np.zeros((0, 3)), [scene("any", 2, 32, np.random.default_rng(0))])
    rows = [
        {"name": c.name, "objects": c.objects, "images": c.images, "pixels": 900 * c.objects, "share": 0.1}
        for c in scores.per_class
    ]
    told |= {
        "name": NAME,
        "task": "instance",
        "command": "maskwright train shapes task=instance",
        "classes": list(model.classes),
        "colours": [list(colour) for colour in model.description.colours],
        "model": {"name": "mask_rcnn", "encoder": "mobilenet_v2", "parameters": 19_100_000, "size": list(SIZE)},
        "export": {"onnx": asdict(ObjectParity(16, 87, 0, 0.9993, 2.1e-5, 74.6, 17))},
    }
    told["data"] |= {"classes": rows, "images": {"train": 4 * num, "val": num, "test": num // 2}, "void_share": 0.0}
    return told


if __name__ == "__main__":
    print(fake_objects_run(Path(sys.argv[1])))
