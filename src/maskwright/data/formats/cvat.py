"""CVAT XML 1.1: `CVAT for images` (image after image) and `CVAT for video` (track after track), in pixels.

Polygons, boxes, ellipses and masks are objects, those of one `group_id` and label one together; `z_order` says what is
painted over what. Points and lines have no area; skeletons and cuboids are refused.
Source of the format: the CVAT documentation, "XML annotation format" (docs.cvat.ai).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.core.errors import DataError
from maskwright.core.events import progress
from maskwright.core.table import Data
from maskwright.data.formats import Format, desk, pairing, shapes, sheets, xml_tree
from maskwright.data.formats.desk import Boxes, Desk
from maskwright.data.formats.shapes import Part, Size, Unusable
from maskwright.data.formats.sheets import Drawn, Entry, Sheet
from maskwright.data.formats.xml_tree import Element
from maskwright.data.ledger import Ledger
from maskwright.imaging.images import is_image_name

WHAT = "CVAT XML"
SHAPES = ("polygon", "box", "ellipse", "mask", "polyline", "points", "cuboid", "skeleton", "tag")
_FRAME = re.compile(r"(?:.*/)?frame_0*(\d{1,9})\.\w+")
_OUTSIDE = "outside: the object is not in this frame"


def read(path: Path, ledger: Ledger, *, images: str | None = None, boxes: Boxes = "fill") -> Data:
    """A CVAT XML, or a folder with one or several; class 0 is `background`, the labels follow in the order of the task.

    An image is in the list of its subset (train, val or test). Of a video, the frames are looked for as CVAT exports them,
    `frame_000000.png`. Raises DataError when no XML can be read, or a video's frames are not at hand.

    images: the folder that holds the photos, absolute or below the data set; left out, they are searched below it.
    boxes: whether a box is an object that fills it (`fill`), or to `ignore`.
    """
    table = desk.laid_out(path, ledger, ".xml", sign, WHAT, images, boxes)
    pages: list[Sheet] = []
    for file in progress(list(table.files), "Reading label files", unit="files"):
        try:
            pages += _pages(table, file)
        except DataError as error:
            desk.give_up(table, file, error)
    sheets.add(table, pages, draw)
    return sheets.finished(table)


def sign(text: bytes) -> str | None:
    """Why the ends of a file look like CVAT."""
    inside = re.search(rb"<(image|track)\s", text) or b"<meta>" in text
    return "holds CVAT's `annotations`" if re.search(rb"<annotations[\s>]", text) and inside else None


def sniff(path: Path) -> tuple[float, str]:
    """Looks for CVAT's elements in the XML files of the folder, of its sub-folders and theirs."""
    return desk.sniff(path, ".xml", sign, WHAT)


def draw(shape: Element, size: Size) -> Drawn:
    """What an element shows; Unusable with the reason when that is nothing."""
    said = shape.attributes
    if shape.tag in ("skeleton", "cuboid"):
        raise Unusable(f"a {shape.tag}, which has no mask")
    if shape.tag == "tag":
        raise Unusable("a tag of the whole image", ignored=True)
    if said.get("outside") == "1":
        raise Unusable(_OUTSIDE, ignored=True)
    name = sheets.named(said.get("label"))
    attributes: dict[str, Any] = {
        child.attributes["name"]: child.text for child in shape.all("attribute") if child.attributes.get("name")
    }
    if said.get("occluded") == "1":
        attributes["occluded"] = True
    level = said.get("z_order", "0")
    if not re.fullmatch(r"-?\d{1,9}", level):
        raise Unusable(f"`z_order` is `{level:.20}`, no whole number")
    attributes.pop("z_order", None)  # painting goes by CVAT's own
    attributes |= {"z_order": int(level)} if int(level) else {}
    return Drawn((name,), [_part(shape, size)], attributes, box=shape.tag == "box")


def _part(shape: Element, size: Size) -> Part:
    said = shape.attributes

    def value(*keys: str) -> list[float]:
        return [shapes.number(said.get(key), key) for key in keys]

    if shape.tag == "points":
        raise Unusable(shapes.POINT, ignored=True)
    if shape.tag == "mask":
        return _mask(said, size)
    turn = shapes.number(said.get("rotation") or 0, "rotation")
    if shape.tag == "box":
        left, top, right, bottom = value("xtl", "ytl", "xbr", "ybr")
        flat = shapes.turned(shapes.box(left, top, right, bottom), turn, (left + right) / 2, (top + bottom) / 2)
    elif shape.tag == "ellipse":
        x, y, across, down = value("cx", "cy", "rx", "ry")
        flat = shapes.turned(shapes.ellipse(x, y, across, down), turn, x, y)
    else:
        points = [point.split(",") for point in said.get("points", "").split(";") if point.strip()]
        flat = shapes.pairs(points)
        flat = shapes.line(flat) if shape.tag == "polyline" else flat
    return shapes.polygon(flat, size)


def _mask(said: dict[str, str], size: Size) -> Part:
    """Runs of the box's pixels, row after row, the first of zeros."""
    left, top, width, height = (_whole(said.get(key), key) for key in ("left", "top", "width", "height"))
    text = said.get("rle", "")
    if not re.fullmatch(r"\s*\d{1,9}(\s*,\s*\d{1,9})*\s*", text):
        raise Unusable("its `rle` is no list of whole numbers")
    runs = np.array([int(run) for run in text.split(",")], np.int64)
    if height * width > size[0] * size[1] or runs.sum() != height * width:
        raise Unusable(f"its `rle` sums to {runs.sum()}, and its box has {height} x {width} pixels")
    crop = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    return shapes.run_lengths(crop, left, top, size)


def _whole(text: str | None, what: str) -> int:
    value = shapes.number(text, what)
    if value != int(value):
        raise Unusable(f"`{what}` is {value}, no whole number")
    return int(value)


# ---------------------------------------------------------------------------------------------------------------- files


def _pages(table: Desk, file: str) -> list[Sheet]:
    """The images of an XML, of either dialect."""
    root = xml_tree.parsed(table.root / file)
    if root.tag != "annotations":
        place = f"{table.root / file}:{root.line}"
        raise DataError(f"holds `{root.tag:.40}`, not CVAT's `annotations`", place=place)
    metas = [*root.below("meta", "task"), *root.below("meta", "project"), *root.below("meta", "job")]
    labels = [label for meta in metas for label in meta.below("labels", "label")]
    sheets.know(
        table, [name.text for label in labels if not label.below("parent") for name in label.all("name") if name.text]
    )
    if any(root.all("track")):
        return [*_frames(table, file, root, metas), *_images(table, file, root)]
    return list(_images(table, file, root))


def _images(table: Desk, file: str, root: Element) -> Iterator[Sheet]:
    for image in root.all("image"):
        said, place = image.attributes, f"{table.root / file}:{image.line}"
        entries = [_entry(table, file, child) for child in image.all(*SHAPES)]
        name, size = said.get("name", ""), _size(said.get("height"), said.get("width"))
        trouble = None if name.strip() else Unusable("it has no `name`")
        split = pairing.SPLITS.get(said.get("subset", "").lower()) or sheets.split_of(name)
        yield Sheet(file, place, name, entries, size, split=split, trouble=trouble)


def _frames(table: Desk, file: str, root: Element, metas: list[Element]) -> list[Sheet]:
    """The frames that are at hand, and those that are missing while something is drawn on them."""
    place = table.root / file
    drawn: dict[int, list[Entry]] = {}
    for track in root.all("track"):
        for shape in track.all(*SHAPES):
            frame = shape.attributes.get("frame", "")
            shape.attributes = {**track.attributes, **shape.attributes}
            at = int(frame) if re.fullmatch(r"\d{1,9}", frame) else -1
            drawn.setdefault(at, []).append(Entry(f"{place}:{shape.line}", shape))
    own = file[: file.rfind("/") + 1] if table.photos.folder == str(table.root) else ""
    photos = [name for name in table.photo_names if is_image_name(name) and name.startswith(own)]
    frames = {int(match[1]): name for name in sorted(photos, reverse=True) if (match := _FRAME.fullmatch(name))}
    sizes = [_size(*(_text(meta, "original_size", side) for side in ("height", "width"))) for meta in metas]
    size = next((size for size in sizes if size), None)
    if not frames:
        hint = "export the task with its images, or say where they are with `images: FOLDER`; frames are `frame_000000.png`"
        raise DataError("is CVAT for video, and none of its frames is here", place=place, hint=hint)
    lengths = [text for meta in metas if (text := _text(meta, "size")) and text.isdecimal() and len(text) < 10]
    last = int(lengths[0]) if lengths else max(frames) + 1
    pages = []
    for at in sorted({*drawn, *(frame for frame in frames if frame < last)}):
        trouble = Unusable("it has no `frame`") if at < 0 else None
        name = frames.get(at, f"frame_{at:06d}")
        pages.append(Sheet(file, f"{place}: frame {at}", name, drawn.get(at, []), size, trouble=trouble))
    return pages


def _entry(table: Desk, file: str, shape: Element) -> Entry:
    group = shape.attributes.get("group_id", "0").strip()
    return Entry(f"{table.root / file}:{shape.line}", shape, None if group in ("", "0") else group)


def _size(height: str | None, width: str | None) -> Size | None:
    sides = [int(text) if text and re.fullmatch(r"[0-9]{1,6}", text.strip()) else None for text in (height, width)]
    return sheets.stated(*sides)


def _text(element: Element, *path: str) -> str | None:
    found = element.below(*path)
    return found[0].text if found else None


FORMAT = Format(
    name="cvat",
    summary="CVAT XML 1.1: polygons, boxes, ellipses and masks of images, tracks of videos",
    sniff=sniff,
    read=read,
    instead="CVAT imports `coco`",
)
