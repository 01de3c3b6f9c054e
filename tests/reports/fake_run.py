"""A run folder as a training leaves it behind, drawn and computed in a second: scenes of car-like shapes, their labels,
and an answer that is right in most places. Also a command: `python fake_run.py FOLDER`."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from maskwright.core.types import VOID
from maskwright.data.ledger import Ledger
from maskwright.imaging.palette import class_colours
from maskwright.metrics.confusion import Confusion

PARTS = (
    "background", "back_bumper", "back_glass", "back_left_door", "back_light", "front_bumper", "front_glass",
    "front_left_door", "front_light", "hood", "left_mirror", "tailgate", "trunk", "wheel",
)  # fmt: skip
NAME = "2026-11-20-unet-carparts-1"
RECIPE = """\
# written by maskwright 0.1.0
task: semantic
data:
  - path: car-parts/trainingset
split: {folds: 5, fold: 0, seed: 0}
size: 256
fit: squash
model: {name: unet, encoder: resnet34, weights: imagenet}
loss: {cross_entropy: 1.0, dice: 1.0}
augment: soft
train: {epochs: 12, batch: 16, optimizer: {name: adamw, lr: 1e-3}, schedule: cosine, precision: auto, seed: 0}
"""


@dataclass(frozen=True)
class Scene:
    """One image with its truth and an answer. image: uint8 (H, W, 3); truth, predicted: uint8 (H, W)."""

    id: str
    image: np.ndarray
    truth: np.ndarray
    predicted: np.ndarray


def fake_run(
    folder: Path,
    *,
    classes: tuple[str, ...] = PARTS,
    images: int = 24,
    epochs: int = 12,
    status: str = "finished",
    hint: str = "",
    text: str = "",
    test: bool = True,
    shown: int = 4,
    side: int = 320,
    seed: int = 0,
) -> Path:
    """Writes the run folder and returns it.

    images: of the validation set, half as many of the test set. shown: best and worst pictures, and twice as many of training.
    """
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    scenes = [scene(f"photos/IMG_{4000 + i}.jpg", len(classes), side, rng) for i in range(images)]
    colours = class_colours(classes)
    told = history(epochs, status, hint, text, rng)
    (folder / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in told))
    (folder / "recipe.yaml").write_text(RECIPE)
    dump(folder / "run.json", record(classes, colours, scenes))
    dump(folder / "ledger.json", ledger().to_json())
    dump(
        folder / "split.json",
        {"schema": 1, "how": "fold 0 of 5", "train": [], "val": [s.id for s in scenes], "test": []},
    )
    if status == "finished":
        parts = {"val": scenes, **({"test": scenes[: images // 2]} if test else {})}
        scores = {part: score(classes, listed) for part, listed in parts.items()}
        dump(folder / "scores.json", {part: counted.to_json() for part, counted in scores.items()})
        pictures(folder / "pictures", scenes, scores["val"].per_image, colours, shown)
    return folder


def scene(id: str, num_classes: int, side: int, rng: np.random.Generator) -> Scene:
    """Polygons before a grey ground; the answer shifts them and takes some for their neighbour class."""
    h, w = round(side * rng.uniform(0.6, 0.8)), side
    truth, predicted = Image.new("L", (w, h)), Image.new("L", (w, h))
    sky = np.linspace((150, 180, 205), (95, 92, 88), h)[:, None].repeat(w, 1)
    photo = Image.fromarray(np.uint8(np.clip(sky + rng.normal(0, 4, sky.shape), 0, 255)))
    skill = rng.beta(6, 2)
    paint = np.array(rng.integers(40, 230, 3))
    for label in rng.permutation(np.arange(1, num_classes))[:11]:
        middle = np.array([rng.uniform(0.2, 0.8) * w, rng.uniform(0.35, 0.75) * h])
        radius = rng.uniform(0.08, 0.2) * side
        angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
        outline = middle + radius * np.stack([1.5 * np.cos(angles), 0.8 * np.sin(angles)], 1)
        shade = tuple(int(c) for c in np.clip(paint + rng.integers(-35, 36), 0, 255))
        ImageDraw.Draw(photo).polygon([tuple(p) for p in outline], fill=shade, outline=(30, 30, 34))
        ImageDraw.Draw(truth).polygon([tuple(p) for p in outline], fill=int(label))
        answer = label if rng.uniform() < 0.55 + 0.45 * skill else 1 + label % (num_classes - 1)
        moved = outline + rng.normal(0, (1 - skill) * 14 + 1, 2)
        ImageDraw.Draw(predicted).polygon([tuple(p) for p in moved], fill=int(answer))
    labels = np.array(truth)
    labels[: h // 40 + 1] = VOID
    return Scene(id, np.array(photo.filter(ImageFilter.SMOOTH)), labels, np.array(predicted))


def score(classes: tuple[str, ...], scenes: list[Scene]) -> Any:
    confusion = Confusion(classes)
    for one in scenes:
        confusion.add(one.id, one.truth, one.predicted)
    return confusion.scores(resamples=200)


def pictures(folder: Path, scenes: list[Scene], table: Any, colours: np.ndarray, shown: int) -> None:
    folder.mkdir(exist_ok=True)
    found = {one.id: one for one in scenes}
    order = sorted(table, key=lambda row: row.miou)
    index: dict[str, Any] = {"train": [], "val": [], "part": "val", "measure": "mean IoU"}
    for number, one in enumerate(scenes[: 2 * shown]):
        name = f"train-{number}.webp"
        save(folder / name, overlay(one.image[:, ::-1], one.truth[:, ::-1], colours))
        index["train"].append({"file": name, "caption": one.id})
    for rank, rows in (("best", order[::-1][:shown]), ("worst", order[:shown])):
        for number, row in enumerate(rows):
            one = found[row.id]
            layers = {
                "image": one.image,
                "truth": overlay(one.image, one.truth, colours),
                "predicted": overlay(one.image, one.predicted, colours),
            }
            names = {layer: f"{rank}-{number}-{layer}.webp" for layer in layers}
            for layer, picture in layers.items():
                save(folder / names[layer], picture)
            loss = round(1.4 * (1 - row.miou) + 0.05, 4)
            entry = {"id": row.id, "rank": rank, "score": row.miou, "loss": loss, "size": list(one.truth.shape)}
            index["val"].append(entry | names)
    dump(folder / "index.json", index)


def overlay(image: np.ndarray, label_map: np.ndarray, colours: np.ndarray) -> np.ndarray:
    drawn = np.where((label_map > 0)[..., None], 0.45 * image + 0.55 * colours[label_map], image)
    return np.uint8(drawn)


def save(path: Path, picture: np.ndarray) -> None:
    Image.fromarray(np.ascontiguousarray(picture)).save(path, "webp", quality=82)


def history(epochs: int, status: str, hint: str, text: str, rng: np.random.Generator) -> list[dict[str, Any]]:
    """The events of a run: losses fall like powers of the samples seen, scores rise towards 0.7, the rate is a cosine."""
    steps, batch, time = 20, 16, 1795183380.0
    told: list[dict[str, Any]] = [
        {"time": time, "event": "status", "status": "running", "hint": ""},
        {"time": time, "event": "say", "text": "device: NVIDIA H100 80GB HBM3, because CUDA is there; precision bf16"},
        {"time": time, "event": "say", "text": "left and right classes swap when an image is flipped: back_left_door"},
        {
            "time": time,
            "event": "warn",
            "text": "the same image is in train and val: IMG_4001.jpg, IMG_4002.jpg (same pixels)",
        },
    ]
    best = 0.0
    for epoch in range(1, epochs + 1):
        for step in range((epoch - 1) * steps + 1, epoch * steps + 1):
            clean = 2.6 * (step + 4) ** -0.42
            rate = 1e-3 * (0.5 + 0.5 * np.cos(np.pi * step / (epochs * steps))) * min(1, step / 12)
            loss = clean * rng.lognormal(0, 0.18)
            told.append({"event": "step", "step": step, "samples": step * batch, "loss": loss, "lr": rate})
        clean = 2.6 * (epoch * steps) ** -0.42
        miou = 0.72 * (1 - np.exp(-epoch / 3.5)) + rng.normal(0, 0.012)
        told.append(
            {
                "time": time + 40 * epoch, "event": "epoch", "epoch": epoch, "epochs": max(epochs, 12),
                "samples": epoch * steps * batch, "train_loss": clean,
                "losses": {"cross_entropy": clean * 0.6, "dice": clean * 0.4},
                "val_loss": clean * (1.06 + 0.012 * epoch), "val_miou": miou, "val_pixel_accuracy": 0.6 + 0.45 * miou,
                "lr": rate, "images_per_second": 92 + rng.normal(0, 3), "waiting": 0.03, "peak_memory_gb": 3.6,
                "seconds": 38.4, "best": bool(miou > best),
            }
        )  # fmt: skip
        best = max(best, miou)
    told.append(
        {
            "time": time + 40 * epochs + 20,
            "event": "status",
            "status": status,
            "hint": hint,
            **({"text": text} if text else {}),
        }
    )
    return told


def record(classes: tuple[str, ...], colours: np.ndarray, scenes: list[Scene]) -> dict[str, Any]:
    pixels = np.stack([np.bincount(s.truth.ravel(), minlength=256) for s in scenes])
    total = int(pixels[:, :VOID].sum())
    rows = [
        {
            "name": name,
            "objects": 0 if name == "background" else int((pixels[:, c] > 0).sum()) * 2,
            "images": int((pixels[:, c] > 0).sum()),
            "pixels": int(pixels[:, c].sum()),
            "share": float(pixels[:, c].sum() / total),
        }
        for c, name in enumerate(classes)
    ]
    return {
        "schema": 1,
        "name": NAME,
        "created": "2026-11-20T14:03:11+01:00",
        "command": "maskwright train car-parts/trainingset train.epochs=12 --out runs",
        "task": "semantic",
        "classes": list(classes),
        "colours": colours[: len(classes)].tolist(),
        "model": {"name": "unet", "encoder": "resnet34", "parameters": 24_436_369, "size": [256, 256]},
        "device": {"name": "NVIDIA H100 80GB HBM3", "reason": "CUDA is there", "precision": "bf16, channels_last"},
        "versions": {"maskwright": "0.1.0", "python": "3.11.9", "torch": "2.15.0", "torchvision": "0.29.2", "numpy": "2.4.0"},
        "hardware": {"cpu": "AMD EPYC 9575F", "cores": 16, "memory_gb": 128.0, "gpu": "NVIDIA H100 80GB HBM3"},
        "weights": {"source": "imagenet", "loaded": 217, "skipped": 2, "text": "encoder from ImageNet, head from scratch"},
        "estimate": {"seconds": 431.0, "memory_gb": 3.9, "epochs": 12},
        "actual": {"seconds": 468.2, "memory_gb": 3.6},
        "data": {
            "paths": ["car-parts/trainingset"],
            "format": "coco",
            "images": {"train": 320, "val": len(scenes), "test": len(scenes) // 2},
            "split_how": "5 folds, fold 0 held out, stratified by classes, seed 0",
            "classes": rows,
            "void_share": 0.026,
            "ledger_totals": ledger().totals(),
            "ledger_digest": "9d1b6c2e" * 8,
        },
        "export": {"onnx": {"max_logit_difference": 3.8e-6, "pixels_changed": 0.0, "images": 16, "size_mb": 97.9}},
    }  # fmt: skip


def ledger() -> Ledger:
    made = Ledger()
    made.seen("file", 409)
    made.used("file", 401)
    for number in range(6):
        made.ignored("file", f"trainingset/._IMG_{number}.jpg", "hidden")
    made.ignored("file", "trainingset/notes.txt", "not an image")
    made.ignored("file", "trainingset/Thumbs.db", "not an image")
    made.seen("image", 400)
    made.used("image", 399)
    made.refused("image", "JPEGImages/car_0291.jpg", "truncated: 31,442 of 58,210 bytes")
    made.seen("annotation", 2957)
    made.used("annotation", 2890)
    for number in range(61):
        made.repaired(
            "annotation", 7000 + number, f"polygon reached {number + 2} pixels beyond the image and was clipped"
        )
    for number in range(6):
        made.ignored("annotation", 9000 + number, "crowd region (crowd: ignore)")
    made.note("category `_background_` (id 1) is never used and makes no class")
    return made


def dump(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value))


if __name__ == "__main__":
    print(fake_run(Path(sys.argv[1])))
