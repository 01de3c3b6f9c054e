"""labelme: a JSON beside each photo, with `shapes` in pixels; `group_id` joins shapes of one label into one object.

Polygons, rectangles, circles and masks are objects; lines and points have no area. A photo that is missing is taken from
`imageData` where the JSON holds it. `labels.txt`, where there is one, says the order of the classes.
Source of the format: the labelme documentation (K. Wada, github.com/wkentaro/labelme).
"""

from __future__ import annotations

import binascii
import hashlib
import math
import posixpath
from base64 import b64decode
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.core.errors import DataError
from maskwright.core.events import progress
from maskwright.core.files import cache_folder, written_whole
from maskwright.core.table import Data
from maskwright.data.formats import Format, class_lists, desk, shapes, sheets
from maskwright.data.formats.coco_json import kind_of, parsed
from maskwright.data.formats.coco_photos import MISSING
from maskwright.data.formats.desk import Boxes, Desk
from maskwright.data.formats.labelme_write import CANNOT_HOLD, write
from maskwright.data.formats.shapes import Part, Size, Unusable
from maskwright.data.formats.sheets import Drawn, Entry, Sheet
from maskwright.data.ledger import Ledger
from maskwright.imaging import images as pictures

WHAT = "labelme JSON"
_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "GIF": ".gif", "BMP": ".bmp", "WEBP": ".webp", "TIFF": ".tif"}
_CORNERS = {"rectangle": 2, "circle": 2, "mask": 2, "oriented_rectangle": 4}  # how many points the others have


def read(
    path: Path,
    ledger: Ledger,
    *,
    classes: list[str] | None = None,
    images: str | None = None,
    boxes: Boxes = "fill",
) -> Data:
    """A labelme JSON, or a folder of them; class 0 is `background`, the others follow in the order of `labels.txt`.

    Without a list of classes they are sorted by name. `__ignore__` counts nowhere. An image whose folder is called train,
    val or test is in that list. Raises DataError when no JSON can be read.

    classes: their names in order, instead of those of `labels.txt`; shapes of other classes are refused.
    images: the folder that holds the photos, absolute or below the data set; left out, they are searched below it.
    boxes: whether a rectangle is an object that fills it (`fill`), or to `ignore`.
    """
    table = desk.laid_out(path, ledger, ".json", sign, WHAT, images, boxes)
    found = class_lists.find(table.root)
    if classes is not None:
        sheets.know(table, class_lists.given(classes).names)
        table.closed = "`classes`"
    elif found is not None:
        sheets.know(table, class_lists.read(found).names)
        table.closed = found.name
        table.also_used.add(found.name)
    pages = []
    for file in progress(list(table.files), "Reading label files", unit="files"):
        try:
            pages.append(_sheet(table, file))
        except DataError as error:
            desk.give_up(table, file, error)
    sheets.add(table, pages, draw)
    return sheets.finished(table)


def sign(text: bytes) -> str | None:
    """Why the ends of a file look like labelme."""
    if b'"shapes"' in text and any(key in text for key in (b'"imagePath"', b'"imageData"', b'"imageHeight"')):
        return "holds `shapes` and `imagePath`"
    return None


def sniff(path: Path) -> tuple[float, str]:
    """Looks for labelme's keys in the JSONs of the folder, of its sub-folders and theirs."""
    return desk.sniff(path, ".json", sign, WHAT)


def draw(shape: Any, size: Size) -> Drawn:
    """What a shape shows; Unusable with the reason when that is nothing."""
    if not isinstance(shape, dict):
        raise Unusable(f"the entry is {kind_of(shape)}, not an object")
    kind, group = shape.get("shape_type") or "polygon", shape.get("group_id")
    if group is not None and (isinstance(group, bool) or not isinstance(group, int | str)):
        raise Unusable(f"its `group_id` is {kind_of(group)}")
    name = sheets.named(shape.get("label"))
    attributes = sheets.kept({key: shape.get(key) for key in ("flags", "description")})
    return Drawn((name,), [_part(shape, kind, size)], attributes, box=kind == "rectangle")


def _part(shape: dict[str, Any], kind: Any, size: Size) -> Part:
    if kind in ("point", "points"):
        raise Unusable(shapes.POINT, ignored=True)
    if kind not in ("polygon", "line", "linestrip", *_CORNERS):
        raise Unusable(f"no shape is called `{kind!s:.40}`")
    flat = shapes.pairs(shape.get("points"))
    if kind in _CORNERS and len(flat) != 2 * _CORNERS[kind] and not (kind == "rectangle" and len(flat) == 8):
        raise Unusable(f"a {kind.replace('_', ' ')} with {len(flat) // 2} points")
    if kind == "mask":
        return _mask(shape.get("mask"), flat, size)
    if kind == "rectangle" and len(flat) == 4:
        flat = shapes.box(*flat)
    elif kind == "circle":
        radius = math.hypot(flat[2] - flat[0], flat[3] - flat[1])
        flat = shapes.ellipse(flat[0], flat[1], radius, radius)
    elif kind in ("line", "linestrip"):
        flat = shapes.line(flat)
    return shapes.polygon(flat, size)


def _mask(text: Any, flat: list[float], size: Size) -> Part:
    """A PNG in base64 that fills the box of its two points, both of whose corners are inside."""
    if not isinstance(text, str):
        raise Unusable("a mask without its pixels")
    try:
        with pictures.opened(b64decode(text, validate=False)) as picture:
            crop = np.asarray(picture.convert("L")) > 0
    except (binascii.Error, ValueError) as error:
        raise Unusable(f"its mask is no base64 text ({error})") from error
    except DataError as error:
        raise Unusable(f"its mask {error.what}") from error
    left, top, right, bottom = (round(value) for value in flat)
    if crop.shape != (bottom - top + 1, right - left + 1):
        raise Unusable(f"its mask is {crop.shape[0]} x {crop.shape[1]} pixels, and its points say otherwise")
    return shapes.run_lengths(crop, left, top, size)


# ---------------------------------------------------------------------------------------------------------------- files


@dataclass(frozen=True)
class _Found:
    """photo: None: `find` will look for `name` and say what is odd."""

    name: str
    photo: str | None = None
    odd: str | None = None
    trouble: Unusable | None = None


def _sheet(table: Desk, file: str) -> Sheet:
    place = table.root / file
    tree, _ = parsed(place)
    if not isinstance(tree, dict):
        raise DataError(f"holds {kind_of(tree)}, not a labelme image", place=place)
    if not isinstance(tree.get("shapes"), list):
        what = f"`shapes` is {kind_of(tree['shapes'])}, not a list" if "shapes" in tree else "has no `shapes`"
        raise DataError(
            what, place=place, hint="a labelme JSON holds `shapes`, `imagePath`, `imageHeight`, `imageWidth`"
        )
    found = _photo(table, file, tree.get("imagePath"), tree.pop("imageData", None))
    entries = [Entry(f"{place}: shapes[{i}]", shape, _group(shape)) for i, shape in enumerate(tree["shapes"])]
    return Sheet(
        file,
        str(place),
        found.name,
        entries,
        sheets.stated(tree.get("imageHeight"), tree.get("imageWidth")),
        photo=found.photo,
        split=sheets.split_of(file),
        attributes=sheets.kept({"flags": tree.get("flags")}),
        odd=found.odd,
        trouble=found.trouble,
    )


def _group(shape: Any) -> Hashable:
    group = shape.get("group_id") if isinstance(shape, dict) else None
    return group if isinstance(group, int | str) else None


def _photo(table: Desk, file: str, name: Any, data: Any) -> _Found:
    """Where the photo is: as `imagePath` says, else beside the JSON under its name, else in `imageData`."""
    places = table.photos.places(file)
    stem = posixpath.splitext(file)[0]
    given = isinstance(name, str) and bool(name.strip())
    if given and table.photos.find(name, places) != (None, MISSING):
        return _Found(name)
    beside = (table.photos.find(stem + suffix, [""]) for suffix in sorted(pictures.IMAGE_SUFFIXES))
    path = next((path for path, _ in beside if path), None)
    if path is not None:
        odd = f"`imagePath` is {name}: found as {path}" if given else f"without `imagePath`: found as {path}"
        return _Found(path, odd=odd)
    if not isinstance(data, str) or not data:
        return _Found(name if given else posixpath.basename(stem))
    try:
        photo = _unpacked(data)
    except (DataError, ValueError) as error:
        why = error.what if isinstance(error, DataError) else str(error)
        return _Found(file, trouble=Unusable(f"{MISSING}, and its `imageData` {why}"))
    return _Found(stem, str(photo), "its photo is missing and was unpacked from `imageData`")


def _unpacked(data: str) -> Path:
    """The photo in `imageData` as a file of the cache folder, the same one every time."""
    content = b64decode(data, validate=False)
    header = pictures.probe(content)
    name = hashlib.sha256(content).hexdigest()[:24] + _SUFFIXES.get(header.format, ".img")
    path = cache_folder() / "labelme" / name
    if not path.is_file():
        with written_whole(path) as temporary:
            temporary.write_bytes(content)
    return path


FORMAT = Format(
    name="labelme",
    summary="labelme JSON: a file beside each photo, shapes joined by `group_id`",
    sniff=sniff,
    read=read,
    write=write,
    cannot_hold=CANNOT_HOLD,
)
