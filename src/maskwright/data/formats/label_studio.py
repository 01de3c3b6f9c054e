"""Label Studio's JSON and JSON-MIN exports: polygons, rectangles and ellipses in percent, brush strokes as run-lengths.

Of the annotations of a task one is taken: the ground truth, else the one changed last that was not cancelled. Photos are
found by the end of their URL, with or without the prefix that Label Studio gives to what is uploaded.
Source of the format: the Label Studio documentation (labelstud.io/guide/export, labelstud.io/tags).
"""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from maskwright.core.errors import DataError
from maskwright.core.events import progress
from maskwright.core.table import Data
from maskwright.core.words import counted
from maskwright.data.formats import Format, desk, label_studio_brush, label_studio_tasks, shapes, sheets
from maskwright.data.formats.coco_json import kind_of, parsed
from maskwright.data.formats.coco_photos import MISSING, readable
from maskwright.data.formats.desk import Boxes, Desk
from maskwright.data.formats.label_studio_tasks import Mark, Task
from maskwright.data.formats.shapes import Part, Size, Unusable
from maskwright.data.formats.sheets import Drawn, Entry, Sheet
from maskwright.data.ledger import Ledger
from maskwright.imaging.images import is_image_name

WHAT = "Label Studio JSON"
_LABELS = tuple(f'"{kind}labels"'.encode() for kind in ("polygon", "brush", "rectangle", "ellipse", "keypoint"))
_UPLOADED = re.compile(r"(.*/)?[0-9a-f]{8}-([^/]+)", re.DOTALL)  # what stands before the name of an uploaded file


def read(
    path: Path,
    ledger: Ledger,
    *,
    annotator: str | None = None,
    image_key: str | None = None,
    images: str | None = None,
    boxes: Boxes = "fill",
) -> Data:
    """A Label Studio export, or a folder with one or several; class 0 is `background`, the labels follow by name.

    Raises DataError when no JSON can be read.

    annotator: number or e-mail of the one person whose annotations are taken; left out, anybody's.
    image_key: what the photo is called in a task's data; left out, the only text there that names an image.
    images: the folder that holds the photos, absolute or below the data set; left out, they are searched below it.
    boxes: whether a rectangle is an object that fills it (`fill`), or to `ignore`.
    """
    table = desk.laid_out(path, ledger, ".json", sign, WHAT, images, boxes)
    pages: list[Sheet] = []
    told: Counter[str] = Counter()
    for file in progress(list(table.files), "Reading label files", unit="files"):
        try:
            pages += _pages(table, file, annotator, image_key, told)
        except DataError as error:
            desk.give_up(table, file, error)
    if told["several"]:
        tasks = counted(told["several"], "task has", "tasks have")
        ledger.note(f"{tasks} several annotations: the ground truth, else the one changed last, is taken")
    if told["predicted"]:
        ledger.note(f"{counted(told['predicted'], 'task has', 'tasks have')} predictions, which are no labels")
    sheets.add(table, pages, draw)
    return sheets.finished(table)


def sign(text: bytes) -> str | None:
    """Why the ends of a file look like Label Studio."""
    if not text.removeprefix(b"\xef\xbb\xbf").lstrip().startswith((b"[", b"{")):
        return None
    if b'"result"' in text and any(key in text for key in (b'"was_cancelled"', b'"from_name"', b'"completed_by"')):
        return "holds tasks with results"
    found = next((key for key in _LABELS if key in text), None)
    return f"holds {found.decode()}" if found else None


def sniff(path: Path) -> tuple[float, str]:
    """Looks for Label Studio's keys in the JSONs of the folder, of its sub-folders and theirs."""
    return desk.sniff(path, ".json", sign, WHAT)


def draw(mark: Mark | Unusable, size: Size) -> Drawn:
    """What a mark shows; Unusable with the reason when that is nothing."""
    if isinstance(mark, Unusable):
        raise mark
    if not mark.kind:
        raise Unusable("no drawn shape: it says something of the image or of another region", ignored=True)
    if mark.kind == "point":
        raise Unusable(shapes.POINT, ignored=True)
    if mark.rotation not in (None, 0):
        raise Unusable(f"drawn on the image turned by {mark.rotation!s:.10} degrees")
    if mark.item not in (None, 0):
        raise Unusable("drawn on another image of the task than its first")
    if mark.size not in (None, size):
        raise Unusable(f"drawn on an image of {mark.size[1]} x {mark.size[0]} pixels, not {size[1]} x {size[0]}")
    names = tuple(sheets.named(label) for label in mark.labels)
    if not names:
        raise Unusable("it has no label")
    return Drawn(names, [_part(mark.kind, mark.value, size)], mark.attributes, box=mark.kind == "rectangle")


def _part(kind: str, said: Mapping[str, Any], size: Size) -> Part:
    height, width = size

    def pixels(key: str, side: int) -> float:
        return round(shapes.number(said.get(key), key) * side / 100, 9)  # 30.1 / 96 * 96 is 30.1 again

    if kind == "brush":
        if said.get("format", "rle") != "rle":
            raise Unusable(f"brush strokes in the format `{said['format']!s:.40}`")
        return shapes.run_lengths(label_studio_brush.decoded(said["rle"], size), 0, 0, size)
    if kind == "polygon":
        if said.get("closed") is False:
            raise Unusable("a polygon that was left open")
        flat = [round(v * (height if i % 2 else width) / 100, 9) for i, v in enumerate(shapes.pairs(said["points"]))]
        return shapes.polygon(flat, size)
    x, y, turn = pixels("x", width), pixels("y", height), shapes.number(said.get("rotation") or 0, "rotation")
    if kind == "ellipse":
        flat = shapes.ellipse(x, y, pixels("radiusX", width), pixels("radiusY", height))
    else:
        flat = shapes.box(x, y, x + pixels("width", width), y + pixels("height", height))
    return shapes.polygon(shapes.turned(flat, turn, x, y), size)


# ---------------------------------------------------------------------------------------------------------------- files


def _pages(table: Desk, file: str, annotator: str | None, image_key: str | None, told: Counter[str]) -> list[Sheet]:
    place = table.root / file
    tree, _ = parsed(place)
    if isinstance(tree, dict):
        tree = [tree]
    if not isinstance(tree, list):
        raise DataError(f"holds {kind_of(tree)}, not Label Studio's tasks", place=place)
    pages = []
    for task in list(label_studio_tasks.tasks(tree)):
        if isinstance(task, str):
            trouble = Unusable("the entry is no task")
            pages.append(Sheet(file, f"{place}: {task}", "", [], trouble=trouble))
            continue
        pages.append(_sheet(table, file, task, annotator, image_key))
        told["several"] += len(task.annotations) > 1
        told["predicted"] += task.num_predictions > 0
    return pages


def _sheet(table: Desk, file: str, task: Task, annotator: str | None, image_key: str | None) -> Sheet:
    place = f"{table.root / file}: task {task.number}"
    taken, why_not = label_studio_tasks.chosen(task, annotator)
    entries, size = [], None
    for number, annotation in enumerate(task.annotations):
        reason = Unusable(why_not[number], ignored=True) if number in why_not else None
        entries += [Entry(f"{place}: {mark.where}", reason or mark) for mark in annotation.marks]
        if annotation is taken:
            size = next((mark.size for mark in annotation.marks if mark.size), None)
    trouble = None
    if taken is None:
        why = next(iter(why_not.values()), "unlabelled: the task has no annotation")
        trouble = Unusable(why, ignored=True)
    name, odd = "", None
    try:
        name, odd = _photo(table, file, task.data, image_key)
    except Unusable as reason:
        trouble = trouble or reason
    return Sheet(file, place, name, entries, size, split=sheets.split_of(name), odd=odd, trouble=trouble)


def _photo(table: Desk, file: str, data: Mapping[str, Any], image_key: str | None) -> tuple[str, str | None]:
    """The name under which the photo is found, and what is odd about it."""
    given = {key: value for key, value in data.items() if isinstance(value, str) and key != "file_upload"}
    named = [key for key, value in given.items() if is_image_name(_path(value))]
    key = image_key or ("image" if "image" in given else named[0] if len(named) == 1 else None)
    if key is None and named:
        listed = ", ".join(f"`{readable(name)}`" for name in named[:8])
        raise Unusable(f"several of its data could be the photo: {listed} (say which with `image_key`)")
    if key not in given:
        raise Unusable(f"its data have no `{readable(key)}`" if key else "its data name no image")
    own = _path(given[key])
    upload = data.get("file_upload")
    candidates = [own, unquote(own), *([upload] if isinstance(upload, str) else [])]
    places = table.photos.places(file)
    for name in dict.fromkeys(candidates):
        if table.photos.find(name, places) != (None, MISSING):
            return name, None
    for name in dict.fromkeys(candidates):
        short = _UPLOADED.fullmatch(name)
        if short and table.photos.find(short[2], places) != (None, MISSING):
            return short[2], f"found as {short[2]}, without the prefix that Label Studio gave it"
    return own, None


def _path(reference: str) -> str:
    """The file that a URL means: `/data/local-files/?d=...`, `...?fileuri=<base64>`, or its path."""
    try:
        asked = parse_qs(urlsplit(reference).query)
        if "d" in asked:
            return asked["d"][0]
        if "fileuri" in asked:
            return sheets.local(urlsafe_b64decode(asked["fileuri"][0]).decode())
    except (ValueError, binascii.Error):
        return reference
    return sheets.local(reference)


FORMAT = Format(
    name="label_studio",
    summary="Label Studio JSON and JSON-MIN: polygons, brush strokes, rectangles and ellipses of tasks",
    sniff=sniff,
    read=read,
    instead="Label Studio's converter imports `coco`",
)
