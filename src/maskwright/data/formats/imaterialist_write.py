"""A Data as iMaterialist-Fashion writes one: a CSV for each list (`train.csv`, ...; `objects.csv` for what is in none), the
photos in a folder of the list's name, and `label_descriptions.json` with the names of classes and attributes."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.core.files import write_json, written_whole
from maskwright.core.table import Data
from maskwright.core.types import Record, Region
from maskwright.data.formats.writing import drawn, draws_background, empty_folder, image_suffix, stems, write_images
from maskwright.imaging import masks

HEADER = ("ImageId", "EncodedPixels", "Height", "Width", "ClassId")
CANNOT_HOLD = (
    "crowds and pixels that count nowhere",
    "label maps without a background class (reading adds one)",
    "corners of polygons",
    "the numbers of objects",
    "attributes that are no list of names, of objects without a class name, or of images",
    "official lists of other names than train, val and test, or a single list",
)


def write(data: Data, folder: Path) -> None:
    """Writes the data set, photos included, into an empty folder (made when missing).

    Each object is a row of run-lengths at its image's own size, whatever it was drawn as, its attributes' numbers behind that
    of its class; an image without objects has a row without run-lengths. Crowds are left out. Raises SetupError when the
    folder is not empty or cannot be written, DataError when a photo or a label map cannot be read.
    """
    folder = Path(folder)
    empty_folder(folder)
    first = 0 if draws_background(data) or not data.has_background else 1
    names = stems(data)
    rows: dict[str, list[tuple[Any, ...]]] = {}
    attributes: dict[str, int] = {}
    for record, name in zip(data, names, strict=True):
        image = name + image_suffix(record)
        mine = rows.setdefault(record.split or "objects", [])
        found = [_row(image, region, record, first, attributes) for region in drawn(record, data.classes)]
        mine += [row for row in found if row] or [(image, "", *record.size, 0)]
    for part, lines in (rows or {"objects": []}).items():
        with (
            written_whole(folder / f"{part}.csv") as temporary,
            temporary.open("w", newline="", encoding="utf-8") as file,
        ):
            csv.writer(file, lineterminator="\n").writerows([HEADER, *lines])
    classes = [{"id": index - first, "name": name} for index, name in enumerate(data.classes) if index >= first]
    more = [{"id": number, "name": name} for name, number in attributes.items()]
    write_json(folder / "label_descriptions.json", {"categories": classes, "attributes": more})
    write_images(data, folder, [f"{record.split or 'images'}/{name}" for record, name in zip(data, names, strict=True)])


def encoded(counts: np.ndarray) -> str:
    """Run-lengths as `start length start length ...`: pixels column after column, counted from 1 at the top left."""
    runs = counts.astype(np.int64)
    starts, lengths = np.cumsum(runs)[0::2] + 1, runs[1::2]
    return " ".join(f"{start} {length}" for start, length in zip(starts.tolist(), lengths.tolist()) if length)


def _row(
    image: str, region: Region, record: Record, first: int, numbers: dict[str, int]
) -> tuple[str, str, int, int, str] | None:
    """The row of an object, None for one that has none; `numbers` grows by its attributes."""
    pixels = "" if region.crowd else encoded(masks.region_counts([region], record.size)[0])
    if not pixels:
        return None
    more = [numbers.setdefault(name, len(numbers)) for name in _named(region.attributes)]
    return image, pixels, *record.size, "_".join(map(str, (region.label - first, *more)))


def _named(attributes: Mapping[str, Any]) -> Sequence[str]:
    """The names of attributes as readers of fashion data keep them."""
    names = attributes.get("attributes")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list | tuple) else []
