"""A Data as labelme JSON: each photo with its file beside it, in a folder for each official list, and `labels.txt`."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from PIL import Image

from maskwright.core.files import write_text, written_whole
from maskwright.core.table import Data
from maskwright.core.types import VOID, Record, Region
from maskwright.data.formats import class_lists
from maskwright.data.formats.coco_photos import readable
from maskwright.data.formats.writing import drawn, empty_folder, image_suffix, stems, write_images
from maskwright.imaging import masks
from maskwright.imaging.objects import has_objects

CANNOT_HOLD = (
    "label maps without a background class (reading adds one)",
    "the class of crowds",
    "the numbers of objects",
    "attributes of objects other than flags and description",
    "attributes of images other than flags",
    "official lists of other names than train, val and test",
)
VERSION = "5.5.0"  # of labelme, whose files these are like
IGNORE = "__ignore__"
SPLITS = ("train", "val", "test")


def write(data: Data, folder: Path) -> None:
    """Writes the data set, photos included, into an empty folder (made when missing).

    Polygons stay polygons, the parts of an object share a `group_id`; run-lengths and the classes of a label map become
    masks; what counts nowhere is `__ignore__`. Raises SetupError when the folder is not empty or cannot be written,
    DataError when a photo or a label map cannot be read.
    """
    folder = Path(folder)
    empty_folder(folder)
    names = stems(data, by_split=True)
    places = [f"{r.split}/{name}" if r.split in SPLITS else name for r, name in zip(data, names, strict=True)]
    taken: dict[str, int] = {}
    for number, place in enumerate(places):  # lists of other names share a folder
        count = taken[place.lower()] = taken.get(place.lower(), 0) + 1
        places[number] = place if count == 1 else f"{place}_of_{data[number].split}_{number}"
    for record, place in zip(data, places, strict=True):
        document = {
            "version": VERSION,
            "flags": _flags(record.attributes),
            "shapes": _shapes(record, data.classes),
            "imagePath": Path(place).name + image_suffix(record),
            "imageData": None,
            "imageHeight": record.size[0],
            "imageWidth": record.size[1],
        }
        with written_whole(folder / f"{place}.json") as temporary:
            temporary.write_bytes(orjson.dumps(document, option=orjson.OPT_INDENT_2))
    write_text(folder / "labels.txt", class_lists.to_text([IGNORE, *_names(data)]))
    write_images(data, folder, places)


def _names(data: Data) -> list[str]:
    """The classes as labelme's lists say them."""
    return ["_background_", *data.classes[1:]] if data.has_background else list(data.classes)


def _shapes(record: Record, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    if record.label_map is not None and not has_objects(record):
        return _of_label_map(masks.label_map(record), classes)
    found = []
    for number, region in enumerate(drawn(record, classes)):
        label = IGNORE if region.crowd else classes[region.label]
        if region.counts is not None:
            found.append(_mask(label, masks.region_mask(region, record.size)) | _told(region))
            continue
        group = number if len(region.polygons) > 1 else None
        for polygon in region.polygons:
            found.append(_shape(label, polygon.tolist(), "polygon", group) | _told(region))
    return found


def _of_label_map(label_map: np.ndarray, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    values = [value for value in np.unique(label_map).tolist() if value or classes[0] != "background"]
    return [_mask(IGNORE if value == VOID else classes[value], label_map == value) for value in values]


def _told(region: Region) -> dict[str, Any]:
    """What the attributes say that labelme has a place for."""
    description = region.attributes.get("description")
    said = {"description": readable(description)} if isinstance(description, str) else {}
    return {**said, "flags": _flags(region.attributes)}


def _flags(attributes: Mapping[str, Any]) -> dict[str, bool]:
    """What is true or false among the flags; labelme knows no others."""
    flags = attributes.get("flags")
    pairs = flags.items() if isinstance(flags, dict) else ()
    return {readable(key): value for key, value in pairs if isinstance(value, bool)}


def _mask(label: str, mask: np.ndarray) -> dict[str, Any]:
    """A mask bool (H, W), cut to the box of its pixels."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = (rows[0], rows[-1], columns[0], columns[-1]) if len(rows) else (0, 0, 0, 0)
    buffer = BytesIO()
    Image.fromarray(mask[top : bottom + 1, left : right + 1]).save(buffer, "PNG")
    points = [[int(left), int(top)], [int(right), int(bottom)]]
    return _shape(label, points, "mask", None) | {"mask": b64encode(buffer.getvalue()).decode()}


def _shape(label: str, points: Any, kind: str, group: int | None) -> dict[str, Any]:
    said = {"label": label, "points": points, "group_id": group, "description": "", "shape_type": kind}
    return said | {"flags": {}, "mask": None}
