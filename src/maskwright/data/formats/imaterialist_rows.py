"""The rows of an iMaterialist CSV as a COCO Document, and what is wrong with a row.

EncodedPixels is `start length start length ...`: the pixels of the mask, column after column, counted from 1 at the top
left, of an image of the row's Height x Width. ClassId is a category's number, in 2019 with those of its attributes behind
it (`13_12_45`); 2020 has a column AttributesIds instead. The DIY sets name the same columns img_id, rle, cat_id, h, w,
and say in cat_name what the class is called.
"""

from __future__ import annotations

import csv
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from maskwright.core.errors import DataError
from maskwright.core.words import counted
from maskwright.data.formats import coco_json
from maskwright.data.formats.coco_json import Document, Glimpse, Told, Trouble
from maskwright.imaging import run_lengths

Attributes = Literal["keep", "drop", "classes"]
_COLUMNS = {
    "image": ("imageid", "img_id"),
    "runs": ("encodedpixels", "rle"),
    "height": ("height", "h"),
    "width": ("width", "w"),
    "label": ("classid", "cat_id"),
}
_MAY_BE = {"attributes": ("attributesids",), "name": ("cat_name",)}
_NUMBERS = re.compile(r"(?:[0-9]{1,15} +)*[0-9]{1,15}")
SUBMISSION = "is a submission, without Height and Width"
UTF_16 = Trouble("is UTF-16 text, not UTF-8", "save it again as UTF-8")
NO_SPANS = np.zeros((0, 2), np.int64)
_LONGEST = 2**31 - 1  # characters of a field: run-lengths far outgrow the 128 KiB of Python's csv


class Descriptions(NamedTuple):
    """Names by number, from `label_descriptions.json`."""

    classes: Mapping[int, str]
    attributes: Mapping[int, str]


@dataclass(slots=True)
class Row:
    """An object. spans: int64 (n, 2) of start and length as they stand in the file; trouble: why it cannot be used."""

    line: int
    image: str = ""
    size: tuple[int, int] = (0, 0)
    label: int = -1
    attributes: tuple[int, ...] = ()
    name: str = ""
    spans: np.ndarray = field(default_factory=lambda: NO_SPANS)
    trouble: Told | None = None


def glimpse(path: Path) -> Glimpse:
    """How surely a CSV is iMaterialist's (0..1) and why, from its first line; and what bars reading it."""
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        unreadable = Trouble(f"cannot be read ({error.strerror or error})")
        return 0.0, unreadable.what, unreadable
    trouble = coco_json.not_json(head, "a CSV")
    if trouble:
        return 0.0, trouble.what, trouble
    wide = head.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    text = head.decode("utf-16" if wide else "utf-8-sig", errors="replace")
    _, lacking = columns(text.partition("\n")[0])
    if wide and not lacking:
        return 0.0, UTF_16.what, UTF_16
    if not lacking:
        return 0.95, "has the columns of iMaterialist", None
    if lacking == ["Height", "Width"]:
        return 0.0, SUBMISSION, None
    return 0.0, f"lacks the columns {', '.join(lacking)}", None


def columns(header: str) -> tuple[dict[str, int], list[str]]:
    """What a header line calls its columns: our name -> place; and those that are lacking, by their name in 2019."""
    names = [name.strip().lower() for name in next(csv.reader([header]), [])]
    found = {
        ours: next(names.index(name) for name in theirs if name in names)
        for ours, theirs in (_COLUMNS | _MAY_BE).items()
        if set(theirs) & set(names)
    }
    shown = {"image": "ImageId", "runs": "EncodedPixels", "height": "Height", "width": "Width", "label": "ClassId"}
    return found, [shown[name] for name in _COLUMNS if name not in found]


def load(
    path: Path, *, descriptions: Path | None = None, attributes: Attributes = "keep", first_pixel: int | None = None
) -> Document:
    """A CSV as a Document whose annotations go by the number of their line. Raises DataError when it cannot be read."""
    trouble = glimpse(path)[2]
    if trouble:
        raise trouble.error(path)
    listed = list(rows(path))
    first, notes = _first_pixel(listed, first_pixel, path)
    sizes = _sizes(listed)
    source, named = (descriptions, described(descriptions)) if descriptions else _beside(path, listed)
    if source is None:
        notes.append(f"no label_descriptions.json beside {path.name}: classes and attributes go by number")
    annotations, told = [], {}
    for number, row in enumerate(listed):
        counts, row.trouble = (None, row.trouble) if row.trouble else decoded(row, sizes[row.image], first)
        if row.trouble:
            told[number] = row.trouble
        annotations.append(_annotation(row, counts, named, attributes))
        row.spans = NO_SPANS
    images = [{"id": name, "file_name": name, "height": h, "width": w} for name, (h, w) in sizes.items()]
    return Document(
        images, annotations, _categories(listed, named, attributes), True,
        told=told, notes=notes, files=[source] if source else [],
    )  # fmt: skip


def rows(path: Path, size: tuple[int, int] | None = None) -> Iterator[Row]:
    """The rows of a CSV; a `size` stands in where it has none. Raises DataError where it is no CSV of this kind."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file, _long_fields():
            places, lacking = columns(file.readline())
            if [name for name in lacking if size is None or name not in ("Height", "Width")]:
                score = "a submission is no data set: score it with `maskwright evaluate submission.csv DATA`"
                hint = score if lacking == ["Height", "Width"] else None
                raise DataError(f"has no column {' and no column '.join(lacking)}", place=path, hint=hint)
            reader = csv.reader(file)
            for cells in reader:
                if cells:
                    yield _row(reader.line_num + 1, cells, places, size)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", place=path) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"is no CSV ({error})", place=path) from error


def described(path: Path) -> Descriptions:
    """The names in a `label_descriptions.json`. Raises DataError when it is none."""
    tree, _ = coco_json.parsed(path)
    lists = [tree.get(key) for key in ("categories", "attributes")] if isinstance(tree, dict) else [None]
    if not isinstance(lists[0], list):
        hint = "it holds the lists `categories` and `attributes`"
        raise DataError("is no label_descriptions.json: has no list `categories`", place=path, hint=hint)
    named = [{n["id"]: str(n["name"]) for n in some or [] if isinstance(n, dict) and {"id", "name"} <= n.keys()}
             for some in lists]  # fmt: skip
    return Descriptions(named[0], named[1])


def _row(line: int, cells: Sequence[str], places: Mapping[str, int], size: tuple[int, int] | None) -> Row:
    row = Row(line)
    if len(cells) <= max(places.values()):
        row.trouble = Told(f"it has {counted(len(cells), 'column')}, too few", "refused")
        return row
    cell = {name: cells[place].strip() for name, place in places.items()}
    row.image, row.name = cell["image"], cell.get("name", "")
    numbers = [_whole(part) for part in cell["label"].split("_")]
    more = [_whole(part) for part in re.split(r"[\s,_]+", cell.get("attributes", "")) if part]
    height, width = (_whole(cell[side]) for side in ("height", "width")) if size is None else size
    if not row.image:
        row.trouble = Told("it has no ImageId", "refused")
    elif None in (*numbers, *more):
        row.trouble = Told(f"its class or attributes are no numbers: {cell['label']!r:.40}", "refused")
    elif not height or not width:
        row.trouble = Told(f"its size is {cell['height']!r:.20} x {cell['width']!r:.20}", "refused")
    else:
        row.size, row.label = (height, width), int(numbers[0] or 0)
        row.attributes = tuple(dict.fromkeys(n for n in (*numbers[1:], *more) if n is not None))
        row.spans, row.trouble = _spans(cell["runs"])
    return row


def _whole(text: str) -> int | None:
    """A whole number that is not negative; `7.0` is one, as tables with gaps write it."""
    return int(text.partition(".")[0]) if re.fullmatch(r"[0-9]{1,15}(\.0*)?", text) else None


def _spans(text: str) -> tuple[np.ndarray, Told | None]:
    if not text:
        return NO_SPANS, Told("no mask", "ignored")
    if not _NUMBERS.fullmatch(text):
        return NO_SPANS, Told("its run-lengths are no whole numbers", "refused")
    numbers = np.fromstring(text, np.int64, sep=" ")
    if len(numbers) % 2:
        return NO_SPANS, Told(f"its run-lengths are {len(numbers)} numbers, not pairs of start and length", "refused")
    return numbers.reshape(-1, 2), None


def _first_pixel(listed: Sequence[Row], asked: int | None, path: Path) -> tuple[int, list[str]]:
    """The number of the top left pixel, and what a person should know about it."""
    if asked is not None:
        return asked, []
    from_zero = next((row.line for row in listed if not row.spans[row.spans[:, 1] > 0, 0].all()), None)
    if from_zero is None:
        return 1, []
    return 0, [f"{path.name} counts pixels from 0, not from 1: line {from_zero} has a run that starts there"]


def _sizes(listed: Sequence[Row]) -> dict[str, tuple[int, int]]:
    """The size that most rows of an image give it."""
    votes: dict[str, Counter[tuple[int, int]]] = defaultdict(Counter)
    for row in listed:
        if row.image and min(row.size):
            votes[row.image][row.size] += 1
    return {image: sizes.most_common(1)[0][0] for image, sizes in votes.items()}


def decoded(row: Row, size: tuple[int, int], first: int) -> tuple[np.ndarray | None, Told | None]:
    """The COCO run-lengths of a row, or why there are none."""
    if row.size != size:
        (h, w), (height, width) = row.size, size
        return None, Told(f"it says its image is {h} x {w}, most other lines {height} x {width}", "refused")
    spans = row.spans[row.spans[:, 1] > 0]
    spans = spans[np.argsort(spans[:, 0], kind="stable")]
    starts, stops = spans[:, 0] - first, spans.sum(axis=1) - first
    total = size[0] * size[1]
    if not len(spans):
        return None, Told("no mask", "ignored")
    if starts[0] < 0 or stops.max() > total:
        number = int(spans[0, 0] if starts[0] < 0 else stops.max() + first - 1)
        reach = f"its run-lengths reach pixel {number:,} of {size[0]} x {size[1]} = {total:,} pixels from {first} on"
        return None, Told(reach, "refused")
    if (starts[1:] < stops[:-1]).any():
        return None, Told("its run-lengths overlap", "refused")
    return run_lengths.of_spans(starts, stops, total), None


def _annotation(row: Row, counts: Any, named: Descriptions, attributes: Attributes) -> dict[str, Any]:
    made = {"id": row.line, "image_id": row.image, "category_id": _category(row, attributes)}
    made["segmentation"] = {"size": list(row.size), "counts": counts}
    if row.attributes and attributes == "keep":
        made["attributes"] = [named.attributes.get(id, str(id)) for id in row.attributes]
    return made


def _category(row: Row, attributes: Attributes) -> int | str:
    together = attributes == "classes" and row.attributes
    return "_".join(map(str, (row.label, *sorted(row.attributes)))) if together else row.label


def _categories(listed: Sequence[Row], named: Descriptions, attributes: Attributes) -> list[dict[str, Any]]:
    """Those that the descriptions name, and those of the rows that nobody names."""
    names: dict[Any, str] = {**named.classes}
    for row in listed:
        if row.label < 0 or (row.trouble and row.trouble.fate == "refused"):
            continue
        plain = named.classes.get(row.label) or row.name or str(row.label)
        id = _category(row, attributes)
        more = ", ".join(named.attributes.get(one, str(one)) for one in sorted(row.attributes))
        if not named.classes or (isinstance(id, str) and row.label in named.classes):
            names.setdefault(id, f"{plain} ({more})" if isinstance(id, str) else plain)
    return [{"id": id, "name": name} for id, name in names.items()]


def _beside(path: Path, listed: Sequence[Row]) -> tuple[Path | None, Descriptions]:
    """The `label_descriptions*.json` beside a CSV or above it: the first, by length of name, that names all attributes."""
    used = {one for row in listed for one in row.attributes}
    for folder in (path.parent, path.parent.parent):
        files = sorted(folder.glob("label_descriptions*.json"), key=lambda file: (len(file.name), file.name))
        found = [(file, described(file)) for file in files]
        if found:
            return next((one for one in found if used <= one[1].attributes.keys()), found[0])
    return None, Descriptions({}, {})


@contextmanager
def _long_fields() -> Iterator[None]:
    before = csv.field_size_limit(_LONGEST)
    try:
        yield
    finally:
        csv.field_size_limit(before)
