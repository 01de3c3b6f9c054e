"""A Data as YOLO segmentation: `images/<list>/`, `labels/<list>/` with a row `class x y x y ...` an object, and `data.yaml`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml

from maskwright.core.files import write_text
from maskwright.core.table import Data
from maskwright.core.types import Record
from maskwright.data.formats.pairing import in_threads
from maskwright.data.formats.writing import drawn, draws_background, empty_folder, stems, write_images
from maskwright.imaging.contours import one_outline, outlines
from maskwright.imaging.objects import has_objects

CANNOT_HOLD = (
    "crowds and pixels that count nowhere",
    "label maps without a background class (reading adds one)",
    "corners of overlapping parts, of parts outside the image, of coordinates finer than 1e-9 pixels",
    "the numbers of objects",
    "attributes",
    "official lists of other names than train, val and test",
)
SPLITS = ("train", "val", "test")


def write(data: Data, folder: Path) -> None:
    """Writes the data set, photos included, into an empty folder (made when missing).

    Each object is one row with one polygon, which has its very pixels by COCO's rule: holes and further parts are reached by
    a way that is gone there and back. The classes of a label map without objects become a row for each connected piece.
    What counts nowhere is left out. Images of no list are trained and validated on by other tools, since `data.yaml` must
    name both; reading takes them as in no list again.
    """
    folder = Path(folder)
    empty_folder(folder)
    first = 1 if data.has_background and not draws_background(data) else 0
    lists = [data.split_names[number] if number >= 0 else None for number in data.split]
    names = stems(data, by_split=set(lists) <= {*SPLITS, None})
    lists = [name if name in SPLITS else None for name in lists]
    listed = [name for name in SPLITS if name in lists]
    alone = "unlisted/" if listed else ""
    places = [f"{part}/{name}" if part else f"{alone}{name}" for part, name in zip(lists, names, strict=True)]

    def save(index: int) -> None:
        rows = "".join(f"{row}\n" for row in _rows(data[index], data.classes, first))
        write_text(folder / "labels" / f"{places[index]}.txt", rows)

    write_images(data, folder / "images", places)
    in_threads(save, range(len(data)), "Writing labels")
    parts = {name: f"images/{name}" for name in listed} or {"train": "images", "val": "images"}
    config = {**parts, "names": {index - first: name for index, name in enumerate(data.classes) if index >= first}}
    write_text(folder / "data.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def _rows(record: Record, classes: tuple[str, ...], first: int) -> Iterator[str]:
    height, width = record.size
    for region in drawn(record, classes):
        if region.crowd:
            continue
        one = one_outline(region, record.size)[0] if has_objects(record) else None
        polygons = outlines(region, record.size) if not has_objects(record) else () if one is None else (one,)
        for points in polygons:
            shares = (np.asarray(points) / (width, height)).reshape(-1).tolist()
            yield " ".join([str(region.label - first), *map(repr, shares)])
