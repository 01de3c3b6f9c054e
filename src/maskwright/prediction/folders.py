"""Predicting files, folders and globs: index PNGs at original size, overlays, cut-outs, probabilities, a table of areas."""

from __future__ import annotations

import csv
import glob
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.core import events, files
from maskwright.core.errors import DataError, RecipeError
from maskwright.core.registry import suggestion
from maskwright.core.types import VOID, Prediction
from maskwright.core.words import counted
from maskwright.data.formats.pairing import readable, stray, walk
from maskwright.imaging import draw, images
from maskwright.imaging.palette import class_colours
from maskwright.prediction import probabilities as numbers
from maskwright.prediction.evaluation import TABLE, THREADS, ordered
from maskwright.prediction.predictor import Predictor

FOLDERS = ("masks", "overlays", "cutouts", "probabilities", "objects", "panoptic")  # that are written, beside the table
FILES = ("objects.json", "coco.json", "panoptic.json")  # of models that find objects (`object_folders`)
HEADER = ("image", "height", "width", "class", "pixels", "share", "confidence", "error")
Row = tuple[str, int, int, str, int, str, str, str]  # of predictions.csv


@dataclass
class Written:
    """What was written where. failed: image -> why it could not be read, both in characters that can be printed.

    pixels, of models that find objects `objects`: how many of each class, over all images; `sure`: how many objects have a
    score of `least` and more, and are drawn.
    """

    folder: Path
    images: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    pixels: dict[str, int] = field(default_factory=dict)
    objects: dict[str, int] = field(default_factory=dict)
    sure: int = 0
    least: float = 0.0


def find(where: str | Path) -> tuple[Path, list[Path]]:
    """The images a path, folder or glob names, with the folder their relative names start from.

    Below a folder hidden ones are left out and linked ones entered, as by the readers of data. Raises DataError when
    there are none.
    """
    path = Path(where)
    if path.is_file():
        return path.parent, [path]
    if path.is_dir():
        names = (name for name in walk(path) if stray(readable(name)) is None)
        found = sorted(p for p in map(path.joinpath, names) if p.is_file())
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
    What `predict` wrote into `out` before is written anew and never predicted. Raises RecipeError when `out` holds files
    of other origin where pictures would be written.
    """
    if cutout is not None and cutout not in predictor.classes:
        raise RecipeError(
            f"no class is called `{cutout}`", place="--cutout", hint=suggestion(cutout, predictor.classes)
        )
    numbers.check(probabilities)
    home, found = apart(*find(where), out)
    mark(out, HEADER)
    written = Written(out, pixels=dict.fromkeys(predictor.classes, 0))
    names = unique_names(home, found)

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

    with table(out, HEADER) as writer:
        for path, rows, error in events.progress(ordered(work, found, THREADS), "predict", len(found)):
            if rows is None:
                written.failed[readable(str(path))] = readable(error)
                writer.writerow([names[path], "", "", "", "", "", "", error])
                continue
            written.images += 1
            for row in rows:
                writer.writerow(row)
                written.pixels[row[3]] += row[4]
    return written


def apart(home: Path, found: list[Path], out: Path) -> tuple[Path, list[Path]]:
    """Leaves out the images that `predict` wrote into `out` before.

    Raises RecipeError when others lie where it would write, and when none are left.
    """
    if not (out / TABLE).is_file():
        for name in FOLDERS:
            if (out / name).is_dir() and any((out / name).iterdir()):
                what = f"{readable(str(out / name))} holds files that `predict` did not write"
                raise RecipeError(what, place="--out", hint="choose another folder")
        for name in FILES:
            if (out / name).exists():
                what = f"{readable(str(out / name))} is a file that `predict` did not write"
                raise RecipeError(what, place="--out", hint="choose another folder")
    target = Path(os.path.realpath(out))
    inside = target != (above := Path(os.path.realpath(home))) and target.is_relative_to(above)
    own = [target] if inside else [target / name for name in FOLDERS]
    real = {folder: Path(os.path.realpath(folder)) for folder in {path.parent for path in found}}
    left = [path for path in found if not any(real[path.parent].is_relative_to(folder) for folder in own)]
    if not left:
        what = f"all images lie in {readable(str(out))}, where the results are written"
        raise RecipeError(what, place="--out", hint="choose another folder")
    if len(left) < len(found):
        several = counted(len(found) - len(left), "image")
        events.say(f"{several} in {readable(str(out))} left out: results are written there")
    return home, left


def mark(out: Path, header: tuple[str, ...]) -> None:
    """An empty table, so that a folder in which a run was stopped is known again."""
    files.check_writable(out)
    if not (out / TABLE).is_file():
        with table(out, header):
            pass


@contextmanager
def table(out: Path, header: tuple[str, ...]) -> Iterator[Any]:
    """A writer of the rows of predictions.csv; names that are no UTF-8 have their bytes spelt out."""
    with (
        files.written_whole(out / TABLE) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(header)
        yield writer


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
            save(out / "masks" / name / f"{stem}.png", draw.encode(mask * np.uint8(255), "png", 100))
    if not (overlays or cutout):
        return
    pixels = images.read(path)
    if overlays:
        picture = draw.overlay(pixels, prediction.label_map, colours)
        save(out / "overlays" / f"{name}.jpg", draw.encode(picture, "jpeg", 90))
    if cutout:
        index = classes.index(cutout)
        cover = prediction.label_map == index if masks is None else masks[index]
        picture = draw.cutout(pixels, np.where(cover, np.uint8(index), np.uint8(VOID)), index)
        save(out / "cutouts" / f"{name}.png", draw.encode(picture, "png", 100))


def save(path: Path, content: bytes) -> None:
    with files.written_whole(path) as temporary:
        temporary.write_bytes(content)


def _rows(name: str, prediction: Prediction) -> Iterator[Row]:
    height, width = prediction.label_map.shape
    for label, count, sure in zip(prediction.classes, prediction.areas(), prediction.confidence, strict=True):
        if count:
            known = "" if np.isnan(sure) else f"{sure:.4f}"  # a self-contained file does not say it
            yield name, height, width, label, count, f"{count / (height * width):.6f}", known, ""


def unique_names(home: Path, found: list[Path]) -> dict[Path, str]:
    """Relative names without suffix; an image whose name would then be another's keeps it, so that none overwrites another.

    Names that differ in capitals alone are one name on many disks.
    """
    full = [p.relative_to(home).as_posix() for p in found]
    bare = [p.relative_to(home).with_suffix("").as_posix() for p in found]
    taken = Counter(name.casefold() for name in (*bare, *full))
    return {
        p: short if taken[short.casefold()] == 1 else name for p, short, name in zip(found, bare, full, strict=True)
    }


def _common_home(found: list[Path]) -> Path:
    if not found:
        return Path()
    home = found[0].parent
    while not all(p.is_relative_to(home) for p in found):
        home = home.parent
    return home
