"""Predicting files, folders and globs with a model that finds objects: two COCO files, overlays, maps of object numbers, a
table with a line for each object, and the panoptic view.

Everything is written while images are predicted: neither the number of images nor that of objects costs memory. Files appear
whole or not at all; the JSON files and the table at the end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskwright.core import events, files
from maskwright.core.errors import DataError
from maskwright.core.types import SURE, Instances, Region
from maskwright.data.formats.pairing import readable
from maskwright.imaging import draw, images, masks
from maskwright.imaging.contours import outlines
from maskwright.imaging.draw_objects import drawn
from maskwright.imaging.objects import boxes_of, from_counts
from maskwright.imaging.palette import class_colours
from maskwright.prediction import folders, json_lists, panoptic_files
from maskwright.prediction.evaluation import THREADS, ordered
from maskwright.prediction.folders import Written
from maskwright.prediction.instances import InstancePredictor
from maskwright.prediction.panoptic_merging import Merging, stuff_map

RESULTS, DATA_SET, PANOPTIC = folders.FILES
COLUMNS = ("number", "class", "score", "x0", "y0", "x1", "y1", "area")  # of an object in a table
HEADER = ("image", *COLUMNS, "error")
MOST_8_BITS = 254  # object numbers; 255 counts nowhere

Row = tuple[int, str, str, str, str, str, str, int]  # what COLUMNS name


@dataclass(frozen=True)
class _Photo:
    """name: of its files, below their folders. called: in objects.json. file_name, number: in the other JSON files.
    png: its panoptic map."""

    path: Path
    name: str
    called: str
    file_name: str
    number: int
    png: str


@dataclass(frozen=True)
class _Answer:
    """What is told of a photo. results: entries of objects.json, spelt. annotations: of coco.json, still without an `id`.
    segments: `segments_info` of panoptic.json."""

    size: tuple[int, int]
    labels: list[int]
    results: list[bytes]
    annotations: list[dict[str, Any]]
    rows: list[Row]
    segments: list[dict[str, Any]] | None
    sure: int


def predict_all(
    predictor: InstancePredictor,
    where: str | Path,
    out: Path,
    *,
    overlays: bool = True,
    merging: Merging | None = None,
) -> Written:
    """Predicts every image of `where` into the folder `out`.

    Writes `objects.json` (COCO results, as `maskwright evaluate` reads them: images and classes go by their names),
    `coco.json` (a COCO data set with polygons, run-lengths and scores), `objects/NAME.png` (the number of the surest object
    at each pixel, from 1; 16 bits where there are more than 254), `overlays/NAME.jpg` and `predictions.csv`.

    Files hold every object; overlays show those that are at least as sure as the thresholds say, SURE where they do not.
    merging: also writes `panoptic.json` and `panoptic/`; overlays then show the stuff below the objects.
    An image that cannot be read is named in the table and in `failed`; the others go on. What `predict` wrote into `out`
    before is written anew and never predicted. Raises RecipeError when `out` holds files of other origin where something
    would be written.
    """
    home, found = folders.apart(*folders.find(where), out)
    folders.mark(out, HEADER)
    least = predictor.thresholds.score or SURE
    written = Written(out, objects=dict.fromkeys(predictor.classes, 0), least=least)

    def work(photo: _Photo) -> tuple[_Photo, _Answer | None, str]:
        try:
            objects = predictor(photo.path)
            segments = None if merging is None else merging(objects, photo.path)
            _write_pictures(photo, objects, out, overlays, merging, segments, least)
        except DataError as error:
            return photo, None, str(error)
        except OSError as error:
            raise files.cannot_write(out, error) from error
        infos = None if segments is None else panoptic_files.infos(segments)
        return photo, _answer(photo, objects, infos, least), ""

    with ExitStack() as opened:
        kept = _Kept(opened, out, predictor.classes, merging)
        photos = _photos(home, found)
        for photo, answer, error in events.progress(ordered(work, photos, THREADS), "predict", len(found)):
            if answer is None:
                written.failed[readable(str(photo.path))] = readable(error)
                kept.table.writerow([photo.name, *[""] * (len(HEADER) - 2), error])
                continue
            kept.add(photo, answer)
            written.images += 1
            for label in answer.labels:
                written.objects[predictor.classes[label]] += 1
            written.sure += answer.sure
    return written


class _Kept:
    """The JSON files and the table, open until all images are done."""

    def __init__(self, opened: ExitStack, out: Path, classes: tuple[str, ...], merging: Merging | None):
        categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
        lists = ("images", "annotations")
        self.table = opened.enter_context(folders.table(out, HEADER))
        self.results = opened.enter_context(json_lists.written(out / RESULTS, json_lists.ONLY))
        self.data_set = opened.enter_context(json_lists.written(out / DATA_SET, *lists, categories=categories))
        self.panoptic = None
        if merging is not None:
            rows = panoptic_files.categories(merging.classes, merging.things)
            self.panoptic = opened.enter_context(json_lists.written(out / PANOPTIC, *lists, categories=rows))

    def add(self, photo: _Photo, answer: _Answer) -> None:
        (height, width), name = answer.size, readable(photo.file_name)
        image = {"id": photo.number, "file_name": name, "width": width, "height": height}
        self.table.writerows((photo.name, *row, "") for row in answer.rows)
        self.results.add_spelt(json_lists.ONLY, answer.results)
        self.data_set.add("images", image)
        first = self.data_set.count("annotations") + 1
        self.data_set.add(
            "annotations", *({"id": id, **entry} for id, entry in enumerate(answer.annotations, start=first))
        )
        if self.panoptic is not None:
            self.panoptic.add("images", image)
            entry = {"image_id": photo.number, "file_name": photo.png, "segments_info": answer.segments}
            self.panoptic.add("annotations", entry)


def _photos(home: Path, found: list[Path]) -> Iterator[_Photo]:
    """The photos with their names. Names without folders where no two photos share them."""
    names = folders.unique_names(home, found)
    bare = Counter(path.name for path in found)
    stems = Counter(name.rsplit("/", 1)[-1].casefold() for name in names.values())
    for number, path in enumerate(found, start=1):
        full, stem = path.relative_to(home).as_posix(), names[path].rsplit("/", 1)[-1]
        called = path.name if bare[path.name] == 1 else full
        png = f"{stem}.png" if stems[stem.casefold()] == 1 else f"{number:06d}_{stem}.png"
        yield _Photo(path, names[path], readable(called), full, number, readable(png))


def _write_pictures(
    photo: _Photo, found: Instances, out: Path, overlays: bool, merging: Merging | None, segments: Any, least: float
) -> None:
    write_numbers(out / "objects" / f"{photo.name}.png", numbered(found))
    if merging is not None:
        panoptic_files.write_map(out / Path(PANOPTIC).stem / photo.png, segments.map)
    if not overlays:
        return
    pixels = images.read(photo.path)
    if merging is not None:
        below = class_colours(merging.classes, overlapping=True)
        pixels = draw.overlay(pixels, stuff_map(segments, len(found.classes)), below)
    colours = class_colours(found.classes if merging is None else merging.classes)
    shown = found.only(found.scores >= least)
    folders.save(out / "overlays" / f"{photo.name}.jpg", draw.encode(drawn(pixels, shown, colours), "jpeg", 90))


def numbered(found: Instances) -> np.ndarray:
    """The number, from 1, of the surest object at each pixel, 0 where there is none: uint8 (H, W), uint16 for over 254."""
    assert len(found) < masks.VOID_NUMBERS[1]
    numbers = np.zeros(found.size, np.uint8 if len(found) <= MOST_8_BITS else np.uint16)
    for index in np.argsort(-found.scores, kind="stable")[::-1].tolist():
        one = from_counts([found.counts[index]], [0], found.size)
        if len(one):
            left, top, right, bottom = one.boxes[0].astype(int).tolist()
            numbers[top:bottom, left:right][one.cut(0)] = index + 1
    return numbers


def write_numbers(path: Path, numbers: np.ndarray) -> None:
    """A map of object numbers as a PNG: with a palette where it is uint8, grey of 16 bits where it is uint16."""
    if numbers.dtype == np.uint8:
        images.save_label_map(path, numbers, class_colours(("background", *map(str, range(1, MOST_8_BITS + 1)))))
        return
    with files.written_whole(path) as temporary:
        Image.fromarray(numbers).save(temporary, "PNG")


def _answer(photo: _Photo, found: Instances, segments: list[dict[str, Any]] | None, least: float) -> _Answer:
    results, annotations = [], []
    tight = boxes_of(found.counts, found.size).astype(int).tolist()
    areas = found.areas().astype(int).tolist()
    boxes = found.boxes.round(3).tolist()
    for index, label in enumerate(found.labels.tolist()):
        region = Region(label, counts=found.counts[index])
        text = masks.region_rle(region, found.size)["counts"].decode()
        rle = {"size": list(found.size), "counts": text}
        score, (x0, y0, x1, y1) = found.scores[index], boxes[index]
        name = found.classes[label]
        box = [x0, y0, round(x1 - x0, 3), round(y1 - y0, 3)]
        entry = {"image_id": photo.called, "category_id": name, "score": score, "bbox": box, "segmentation": rle}
        results.append(json_lists.spelt(entry))
        left, top, right, bottom = tight[index]
        annotations.append(
            {
                "image_id": photo.number,
                "category_id": label + 1,
                "iscrowd": 0,
                "score": score,
                "area": areas[index],
                "bbox": [left, top, right - left, bottom - top],
                "segmentation": [polygon.astype(np.int64).reshape(-1) for polygon in outlines(region, found.size)],
                "rle": rle,
            }
        )
    sure = int((found.scores >= least).sum())
    return _Answer(found.size, found.labels.tolist(), results, annotations, rows_of(found), segments, sure)


def rows_of(found: Instances) -> list[Row]:
    """The lines of a table, one for each object, numbered from 1."""
    rows = []
    columns = (found.labels.tolist(), found.scores.tolist(), found.boxes.tolist(), found.areas().astype(int).tolist())
    for number, (label, score, box, area) in enumerate(zip(*columns, strict=True), start=1):
        x0, y0, x1, y1 = (f"{side:.1f}" for side in box)
        rows.append((number, found.classes[label], f"{score:.4f}", x0, y0, x1, y1, area))
    return rows
