"""YOLO segmentation: a text file beside each image, `class x y x y ...` a row, coordinates as shares of width and height.

A `data.yaml` names the classes and the folders of train, val and test; its ids may have gaps, its paths may lead nowhere.
An image `.../images/a.jpg` has its rows in `.../labels/a.txt`, or beside itself; one without rows shows no object.
Written by `yolo_write`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, get_args

from maskwright.core.errors import DataError, RecipeError
from maskwright.core.registry import suggestion
from maskwright.core.table import Data, Packer
from maskwright.core.types import VOID
from maskwright.core.words import counted
from maskwright.data.formats import Format, class_lists, yolo_config
from maskwright.data.formats.pairing import SPLITS, account, in_threads, listed, sentence, stray
from maskwright.data.formats.yolo_config import Config
from maskwright.data.formats.yolo_write import CANNOT_HOLD, write
from maskwright.data.ledger import Ledger
from maskwright.imaging import images, masks

LABELS = ("labels/*.txt", "labels/*/*.txt", "*/labels/*.txt", "*/labels/*/*.txt")
BESIDE = ("*.txt", "*/*.txt")
BOX = "a box, no polygon"
BOX_NUMBERS = 4
FARTHEST = 1.5  # shares of the image: a little over its border is drawn over, much is no share

Unlabelled = Literal["negative", "ignore"]


@dataclass(frozen=True)
class Photo:
    """An image and its label file (None: it has none), both relative to the data set."""

    name: str
    labels: str | None
    split: str | None


@dataclass
class Rows:
    """What the rows add up to while they are read. labels: id -> class index, VOID where it means that."""

    root: Path
    labels: Mapping[int, int]
    ledger: Ledger
    packer: Packer = field(default_factory=Packer)
    kinds: Counter[str] = field(default_factory=Counter)


class _Unusable(Exception):
    """A row that cannot be used; ignored: nobody expects it to be."""

    def __init__(self, why: str, *, ignored: bool = False):
        super().__init__(why)
        self.why, self.ignored = why, ignored


def read(
    path: Path,
    ledger: Ledger,
    *,
    config: str | None = None,
    classes: list[str] | dict[str | int, Any] | None = None,
    unlabelled: Unlabelled = "negative",
) -> Data:
    """Polygons of text files; class 0 is `background`, the named classes follow in the order of their ids.

    config: the YAML that names classes and lists, relative to the data set; looked for in it when left out.
    classes: names in order of their ids, or name: id; instead of those of the YAML.
    unlabelled: what an image without a label file is: a `negative` (it shows no object), or one to `ignore`.
    """
    if unlabelled not in get_args(Unlabelled):
        raise RecipeError(f"`unlabelled` cannot be `{unlabelled}`", hint=suggestion(unlabelled, get_args(Unlabelled)))
    root = path.parent if path.is_file() else path
    names = listed(root)
    known = yolo_config.find(path, root, config)
    named, lists = yolo_config.class_names(root, known, classes), yolo_config.lists(root, names, known, ledger)
    known_classes, labels = yolo_config.class_table(named, known.place or root)
    texts = {name for name in names if name.endswith(".txt") and stray(name[:-3] + "png") is None}
    photos = [_photo(name, texts, lists) for name in names if stray(name) is None]
    if not any(photo.labels for photo in photos):
        hint = "an image `images/a.jpg` has its rows in `labels/a.txt`"
        raise DataError("no image has a label file", place=path, hint=hint)
    left = {p.name for p in photos if p.labels is None and (unlabelled == "ignore" or (lists and p.split is None))}
    rows = Rows(root, labels, ledger)
    _add_images(rows, [photo for photo in photos if photo.name not in left])
    _account(rows, names, photos, left, texts, known)
    _note(rows, photos, left, named, path)
    return rows.packer.pack(known_classes)


def sniff(path: Path) -> tuple[float, str]:
    """Looks for a YAML with names and lists, and into the first label files."""
    if path.is_file():
        found = yolo_config.glimpse(path) if path.suffix.lower() in (".yaml", ".yml") else None
        return (0.9, f"{path.name} names classes") if found else (0.0, "not a folder or data.yaml")
    places = [file for pattern in yolo_config.PLACES for file in sorted(path.glob(pattern))[:10]]
    config = next((file for file in places if yolo_config.glimpse(file)), None)
    texts = [file for pattern in LABELS for file in islice(path.glob(pattern), 5)]
    beside = [file for pattern in BESIDE for file in islice(path.glob(pattern), 5)]
    texts += [file for file in beside if any(file.with_suffix(suffix).exists() for suffix in (".jpg", ".jpeg", ".png"))]
    if not any(_looks_like_rows(file) for file in texts if file.name not in class_lists.FILE_NAMES):
        return 0.0, "no label files with rows of numbers"
    return (0.95, f"{config.name} and label files with rows") if config else (0.8, "label files with rows of numbers")


# --------------------------------------------------------------------------------------------------------- images, rows


def _photo(name: str, texts: set[str], lists: Mapping[str, str]) -> Photo:
    """The image with its label file and list: the YAML's, else that of the nearest folder named after one."""
    stem = name.rpartition(".")[0]
    above, found, below = f"/{stem}".rpartition("/images/")
    apart = f"{above}/labels/{below}"[1:] if found else stem
    labels = next((text for text in (f"{apart}.txt", f"{stem}.txt") if text in texts), None)
    split = lists.get(name)
    if split is None and (labels or not lists):
        split = next((SPLITS[part] for part in reversed(name.lower().split("/")[:-1]) if part in SPLITS), None)
    return Photo(name, labels, split or None)


def _add_images(rows: Rows, photos: Sequence[Photo]) -> None:
    """Reads headers and rows; an image whose header or label file cannot be read is refused."""
    rows.ledger.seen("image", len(photos))
    headers = in_threads(_probe, [rows.root / photo.name for photo in photos], "Reading image headers")
    texts = in_threads(
        _lines, [rows.root / photo.labels if photo.labels else None for photo in photos], "Reading labels"
    )
    for photo, header, lines in zip(photos, headers, texts, strict=True):
        place = str(rows.root / photo.name)
        if isinstance(lines, DataError):
            rows.ledger.seen("annotation")
            rows.ledger.refused("annotation", rows.root / str(photo.labels), sentence(lines))
            rows.ledger.refused("image", place, "its label file cannot be used")
            continue
        rows.ledger.seen("annotation", len(lines))
        if isinstance(header, DataError):
            rows.ledger.refused("image", place, sentence(header))
            for number in lines:
                rows.ledger.ignored("annotation", f"{rows.root / str(photo.labels)}:{number}", "its image is refused")
            continue
        rows.ledger.used("image")
        rows.packer.image(photo.name, place, header.size, split=photo.split)
        for number, line in lines.items():
            _add_row(rows, line, header.size, f"{rows.root / str(photo.labels)}:{number}")


def _add_row(rows: Rows, line: str, size: tuple[int, int], place: str) -> None:
    try:
        label, polygon = _row(line, size, rows.labels)
    except _Unusable as reason:
        rows.kinds[reason.why] += 1
        (rows.ledger.ignored if reason.ignored else rows.ledger.refused)("annotation", place, reason.why)
        return
    rows.packer.region(label % VOID, polygons=[polygon], crowd=label == VOID)
    rows.kinds["polygon"] += 1
    rows.ledger.used("annotation")


def _row(line: str, size: tuple[int, int], labels: Mapping[int, int]) -> tuple[int, list[float]]:
    """Class index (VOID for a class that means it) and flat polygon in pixels of a row."""
    first, *rest = line.split()
    number = yolo_config.whole(first)
    if number is None or number not in labels:
        raise _Unusable(f"no class has the number {first:.20}")
    try:
        shares = [float(value) for value in rest]
    except ValueError:
        raise _Unusable("a row with something else than numbers") from None
    if len(shares) == BOX_NUMBERS:
        raise _Unusable(BOX, ignored=True)
    if any(not 1 - FARTHEST <= value <= FARTHEST for value in shares if math.isfinite(value)):
        raise _Unusable("its coordinates are not shares (0..1) of the image's width and height")
    height, width = size
    pixels = [round(v * (height if i % 2 else width), 9) for i, v in enumerate(shares)]  # 30.1 / 96 * 96 is 30.1 again
    polygon, why = masks.mend_polygon(pixels, size)
    if polygon is None:
        raise _Unusable(str(why))
    return labels[number], polygon


def _probe(path: Path) -> images.Probe | DataError:
    try:
        return images.probe(path)
    except DataError as error:
        return error


def _lines(path: Path | None) -> dict[int, str] | DataError:
    """Line number -> row, without empty ones."""
    if path is None:
        return {}
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        return DataError(f"cannot be read as text ({error})", place=path)
    return {number: line for number, line in enumerate(text.splitlines(), 1) if line.strip()}


def _looks_like_rows(path: Path) -> bool:
    """Whether the first row is a class and at least two pairs of numbers; False for an empty file."""
    try:
        with path.open("rb") as file:
            line = file.readline(100_000).decode("ascii", errors="replace").split()
    except OSError:
        return False
    return (
        len(line) >= 1 + BOX_NUMBERS
        and yolo_config.whole(line[0]) is not None
        and all(_is_number(v) for v in line[1:9])
    )


def _is_number(text: str) -> bool:
    return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", text) is not None


# -------------------------------------------------------------------------------------------------------------- account


def _account(
    rows: Rows, names: Sequence[str], photos: Sequence[Photo], left: set[str], texts: set[str], config: Config
) -> None:
    """A fate for every file; label files without an image are refused, images that are left out ignored."""
    ledger, root = rows.ledger, rows.root
    paired = {photo.labels for photo in photos}
    orphans = [
        text
        for text in sorted(texts - paired)
        if "labels" in text.split("/")[:-1] and text.rpartition("/")[2] not in class_lists.FILE_NAMES
    ]
    for text in orphans:
        ledger.seen("annotation")
        ledger.refused("annotation", root / text, "a label file without an image")
    for name in sorted(left):
        ledger.seen("image")
        ledger.ignored("image", root / name, "unlabelled: it has no label file")
    found = class_lists.find(root, root / "labels")
    about = {place.relative_to(root).as_posix() for place in (config.place, found) if place is not None}
    taken = {photo.name for photo in photos} - left | {text for text in paired if text} | {*orphans, *about}
    account(ledger, root, names, taken, lambda n: "unlabelled: it has no label file" if n in left else "")


def _note(rows: Rows, photos: Sequence[Photo], left: set[str], names: Mapping[int, str], path: Path) -> None:
    """What a person should know of the set as a whole; DataError when it holds boxes only."""
    boxes, note = rows.kinds[BOX], rows.ledger.note
    if boxes and not rows.kinds["polygon"]:
        hint = "this is data for detection; segmentation needs the outlines, `class x y x y x y ...`"
        raise DataError(
            f"{counted(boxes, 'usable row is a box', 'usable rows are boxes')}, none is a polygon",
            place=path,
            hint=hint,
        )
    if boxes:
        told = counted(boxes, "row is a box", "rows are boxes")
        note(f"{told} without a polygon: the pixels inside count as what lies around them")
    empty = sum(photo.labels is None for photo in photos) - len(left)
    if empty:
        note(
            f"{counted(empty, 'image has', 'images have')} no label file: counted as showing no object (unlabelled: negative)"
        )
    if sorted(names) != list(range(len(names))):
        note(f"the numbers of {counted(len(names), 'class')} have gaps, from {min(names)} to {max(names)}")


FORMAT = Format(
    name="yolo",
    summary="YOLO segmentation: polygons in text files, classes and lists in data.yaml.",
    sniff=sniff,
    read=read,
    write=write,
    cannot_hold=CANNOT_HOLD,
)
