"""Predicting files, folders and globs: index PNGs at original size, overlays, cut-outs, probabilities, a table of areas."""

from __future__ import annotations

import csv
import glob
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from maskwright.core import events, files
from maskwright.core.errors import DataError, RecipeError
from maskwright.core.registry import suggestion
from maskwright.core.types import VOID, Prediction
from maskwright.imaging import draw, images
from maskwright.imaging.palette import class_colours
from maskwright.prediction import probabilities as numbers
from maskwright.prediction.evaluation import THREADS, ordered
from maskwright.prediction.predictor import Predictor

Row = tuple[str, int, int, str, int, str, str, str]  # of predictions.csv


@dataclass
class Written:
    """What was written where. failed: image -> why it could not be read."""

    folder: Path
    images: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    pixels: dict[str, int] = field(default_factory=dict)  # of each class, over all images


def find(where: str | Path) -> tuple[Path, list[Path]]:
    """The images a path, folder or glob names, with the folder their relative names start from.

    Raises DataError when there are none.
    """
    path = Path(where)
    if path.is_file():
        return path.parent, [path]
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if images.is_image_name(p.name) and p.is_file())
        home = path
    else:
        found = sorted(Path(p) for p in glob.glob(str(where), recursive=True) if images.is_image_name(Path(p).name))
        home = _common_home(found)
    if not found:
        what = "holds no images" if path.is_dir() else "no such file, folder or pattern"
        raise DataError(what, place=where, hint="images end in .jpg, .png, .webp, ...")
    return home, found


def predict_all(
    predictor: Predictor,
    where: str | Path,
    out: Path,
    *,
    overlays: bool = True,
    cutout: str | None = None,
    probabilities: str | None = None,
) -> Written:
    """Predicts every image of `where` into the folder `out`.

    Writes `masks/NAME.png` (palette PNG of class indices at original size; where classes overlap a PNG of 0 and 255 for
    each, `masks/NAME/INDEX_CLASS.png`), `overlays/NAME.jpg`,
    `cutouts/NAME.png` (the pixels of one class, transparent elsewhere), `probabilities/NAME.npz` or one 16-bit PNG a class
    in `probabilities/NAME/`, and `predictions.csv`.
    An image that cannot be read is named in the table and in `failed`; the others go on.
    """
    if cutout is not None and cutout not in predictor.classes:
        raise RecipeError(
            f"no class is called `{cutout}`", place="--cutout", hint=suggestion(cutout, predictor.classes)
        )
    numbers.check(probabilities)
    home, found = find(where)
    files.check_writable(out)
    written = Written(out, pixels=dict.fromkeys(predictor.classes, 0))
    names = _names(home, found)

    def work(path: Path) -> tuple[Path, list[Row] | None, str]:
        try:
            if probabilities is None:
                prediction = predictor(path)
            else:
                prediction = _with_probabilities(predictor, path, out / "probabilities" / names[path], probabilities)
            _write_pictures(path, names[path], prediction, out, overlays, cutout)
        except DataError as error:
            return path, None, str(error)
        except OSError as error:
            raise files.cannot_write(out, error) from error
        return path, list(_rows(names[path], prediction)), ""

    with files.written_whole(out / "predictions.csv") as temporary, temporary.open("w", newline="") as table:
        writer = csv.writer(table)
        writer.writerow(["image", "height", "width", "class", "pixels", "share", "confidence", "error"])
        for path, rows, error in events.progress(ordered(work, found, THREADS), "predict", len(found)):
            if rows is None:
                written.failed[str(path)] = error
                writer.writerow([names[path], "", "", "", "", "", "", error])
                continue
            written.images += 1
            for row in rows:
                writer.writerow(row)
                written.pixels[row[3]] += row[4]
    return written


def _with_probabilities(predictor: Predictor, path: Path, target: Path, kind: str) -> Prediction:
    with numbers.File(target, kind, predictor.classes, exclusive=not predictor.description.multilabel) as file:
        return predictor(path, keep=file)


def _write_pictures(
    path: Path, name: str, prediction: Prediction, out: Path, overlays: bool, cutout: str | None
) -> None:
    masks, classes = prediction.masks, prediction.classes
    colours = class_colours(classes, masks is not None)
    if masks is None:
        target = out / "masks" / f"{name}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        images.save_label_map(target, prediction.label_map, colours)
    else:
        for stem, mask in zip(numbers.file_names(classes), masks, strict=True):
            _save(out / "masks" / name / f"{stem}.png", draw.encode(mask * np.uint8(255), "png", 100))
    if not (overlays or cutout):
        return
    pixels = images.read(path)
    if overlays:
        picture = draw.overlay(pixels, prediction.label_map, colours)
        _save(out / "overlays" / f"{name}.jpg", draw.encode(picture, "jpeg", 90))
    if cutout:
        index = classes.index(cutout)
        cover = prediction.label_map == index if masks is None else masks[index]
        picture = draw.cutout(pixels, np.where(cover, np.uint8(index), np.uint8(VOID)), index)
        _save(out / "cutouts" / f"{name}.png", draw.encode(picture, "png", 100))


def _save(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _rows(name: str, prediction: Prediction) -> Iterator[Row]:
    height, width = prediction.label_map.shape
    for label, count, sure in zip(prediction.classes, prediction.areas(), prediction.confidence, strict=True):
        if count:
            yield name, height, width, label, count, f"{count / (height * width):.6f}", f"{sure:.4f}", ""


def _names(home: Path, found: list[Path]) -> dict[Path, str]:
    """Relative names without suffix; images that differ only in their suffix keep it, so that none overwrites another."""
    bare = [p.relative_to(home).with_suffix("").as_posix() for p in found]
    return {p: name if bare.count(name) == 1 else p.relative_to(home).as_posix() for p, name in zip(found, bare)}


def _common_home(found: list[Path]) -> Path:
    if not found:
        return Path()
    home = found[0].parent
    while not all(p.is_relative_to(home) for p in found):
        home = home.parent
    return home
