"""Maps of object numbers: one PNG for each image whose values are objects, not classes (Penn-Fudan's PedMasks and the like).

0 is no object; 255, with 16 bits 65535, counts nowhere. All objects are of one class, or a table names the class of each.
A folder of class numbers looks alike, so this format is only recognised where folder and values both say so; else ask for it.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maskwright.core.errors import DataError
from maskwright.core.table import Data
from maskwright.core.types import BACKGROUND, MAX_CLASSES, VOID, Coding
from maskwright.core.words import counted
from maskwright.data.formats import Format, class_lists
from maskwright.data.formats.folder import account_layout, glimpse, layout_pairs
from maskwright.data.formats.layouts import Layout, lay_out, nothing_pairs
from maskwright.data.formats.pairing import Probed, listed, pack_pairs, probe_pairs
from maskwright.data.ledger import Ledger
from maskwright.imaging.masks import VOID_NUMBERS, stored_values

PHOTOS = "PNGImages"  # Penn-Fudan's
_CALLED = re.compile(r"pedmasks|(.*[_\-. ])?(instances?|objects?)([_\-. ].*)?", re.IGNORECASE)
LOOKED_AT = 8
UNSURE = 0.2
COLUMNS = ("image", "object", "class")
Table = dict[str, dict[int, str]]


def read(
    path: Path,
    ledger: Ledger,
    *,
    images: str | None = None,
    masks: str | None = None,
    prefix: str | None = None,
    suffix: str | None = None,
    name: str = "object",
    table: str | None = None,
) -> Data:
    """Images and maps of object numbers of the same stem, in two folders or side by side.

    images: folder of the images below the data set; found by its name when left out.
    masks: folder of the maps; found by its name when left out (`PedMasks`, `instances`, `objects`, else as masks are called).
    prefix: what a map's name has before its image's; found out when left out.
    suffix: what a map's name has behind its image's, such as `_mask`; found out when left out.
    name: the class of all objects.
    table: CSV with the columns image, object, class, or JSON {image: {number: class}}, relative to the data set; instead
      of `name`.
    """
    names = listed(path)
    layout = _lay_out(names, images, masks, prefix, suffix)
    if not layout.pairs:
        raise nothing_pairs(layout, path)
    told = None if table is None else _table(path / table)
    account_layout(path, names, layout, set() if table is None else {str(path / table)}, ledger)
    probed = probe_pairs(layout_pairs(path, layout, ledger), ledger)
    objects = {item.pair.id: Path(str(item.pair.label_map)) for item in probed}
    if told is None:
        classes, _ = class_lists.table({0: BACKGROUND, 1: name})
        if len(classes) != 2:
            raise DataError(f"`{name}` is no class of objects", place="name")
        return pack_pairs(probed, classes, lambda item: _coding(item, {}, others=1), ledger, objects)
    every = dict.fromkeys(name for numbers in told.values() for name in numbers.values())
    classes, index = class_lists.table(dict(enumerate((BACKGROUND, *every))), path / str(table))
    label = {name: index[value] for value, name in enumerate((BACKGROUND, *every))}
    _note_missing(told, probed, str(table), ledger)

    def coding(item: Probed) -> Coding | str:
        return _coding(item, {number: label[name] for number, name in _row(told, item).items()}, others=None)

    return pack_pairs(probed, classes, coding, ledger, objects)


def sniff(path: Path) -> tuple[float, str]:
    """Sure only where a folder is called after objects, no file names classes, and each map holds 1, 2, 3 ... without gaps."""
    if not path.is_dir():
        return 0.0, "not a folder"
    names = glimpse(path)
    folder = _called(names)
    if folder is None:
        return 0.0, "no folder called `instances`, `objects` or `PedMasks`"
    layout = _lay_out(names, None, None, None, None)
    maps = [mask.name for _, mask in layout.pairs]
    if not maps:
        return 0.0, f"no image for the maps in {folder}/"
    if class_lists.find(path) is not None:
        return UNSURE, f"{folder}/ may hold object numbers, but a file names classes"
    highest = [_highest(path / name) for name in maps[:: max(1, len(maps) // LOOKED_AT)][:LOOKED_AT]]
    if None in highest:
        return UNSURE, f"{folder}/ may hold object numbers, but they have gaps"
    if len(set(highest)) == 1 and highest[0] not in (0, 1):
        return UNSURE, f"{folder}/ may hold object numbers, but each map has the same"
    return 0.9, f"{folder}/ holds object numbers"


def _lay_out(names: list[str], images: str | None, masks: str | None, prefix: str | None, suffix: str | None) -> Layout:
    if images is None and any(name.startswith(f"{PHOTOS}/") for name in names):
        images = PHOTOS
    return lay_out(names, images=images, masks=masks or _called(names), prefix=prefix, suffix=suffix)


def _called(names: list[str]) -> str | None:
    """The first folder that is called after objects."""
    folders = dict.fromkeys(name.rpartition("/")[0] for name in names)
    return next((folder for folder in folders if _CALLED.fullmatch(folder.rpartition("/")[2])), None)


def _highest(file: Path) -> int | None:
    """The highest object number of a map that holds all from 1 to it, None when it does not."""
    try:
        values = {value for value in stored_values(file, False) if value not in (0, *VOID_NUMBERS)}
    except DataError:
        return None
    return len(values) if values == set(range(1, len(values) + 1)) else None


def _coding(item: Probed, labels: Mapping[int, int], others: int | None) -> Coding | str:
    """How a map reads as classes: 0 is the background, the highest value of its depth VOID."""
    if item.label_map.format in ("JPEG", "MPO"):
        return "a JPEG cannot hold object numbers: compression changes them"
    wide = item.label_map.mode.startswith("I")
    if not wide and item.label_map.mode not in ("1", "L", "P"):
        return f"holds colours (mode {item.label_map.mode}), not object numbers"
    found = dict(sorted({0: 0, **labels, VOID_NUMBERS[wide]: VOID}.items()))
    return Coding(tuple(found), tuple(found.values()), others=others)


# ---------------------------------------------------------------------------------------------------------- the table


def _table(file: Path) -> Table:
    """Image -> object number -> class. Raises DataError for what is no such table."""
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        raise DataError("not found", place=file, hint="`table` is relative to the data set") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read as text ({error})", place=file) from error
    table = _of_json(text, file) if file.suffix.lower() == ".json" else _of_csv(text, file)
    names = {name for numbers in table.values() for name in numbers.values()}
    if not names:
        raise DataError("names no object", place=file)
    if len(names) >= MAX_CLASSES:
        raise DataError(f"{counted(len(names), 'class')} and the background are too many", place=file)
    return table


def _of_json(text: str, file: Path) -> Table:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError("not valid JSON", place=file) from error
    if not isinstance(value, dict) or not all(isinstance(numbers, dict) for numbers in value.values()):
        raise DataError("is no table of objects", place=file, hint='write {"image": {"1": "cat", "2": "dog"}}')
    table: Table = {}
    for image, numbers in value.items():
        for number, name in numbers.items():
            _add(table, image, number, name, f"{file}: {image}")
    return table


def _of_csv(text: str, file: Path) -> Table:
    rows = csv.reader(io.StringIO(text, newline=""))
    header = [column.strip().lower() for column in next(rows, [])]
    if not set(COLUMNS) <= set(header):
        raise DataError(
            f"has no columns {', '.join(COLUMNS)}", place=file, hint=f"its first line is {','.join(header)}"
        )
    places = [header.index(column) for column in COLUMNS]
    table: Table = {}
    for row in rows:
        if row and len(row) <= max(places):
            raise DataError("a row that is too short", place=f"{file}:{rows.line_num}")
        if row:
            image, number, name = (row[place] for place in places)
            _add(table, image, number, name, f"{file}:{rows.line_num}")
    return table


def _add(table: Table, image: str, number: str, name: Any, place: str) -> None:
    if not re.fullmatch(r"\d{1,5}", number.strip()) or not 0 < int(number) < VOID_NUMBERS[1]:
        raise DataError(f"not an object number: {number:.20}", place=place, hint="they count from 1 to 65534")
    if not isinstance(name, str) or not name.strip():
        raise DataError("an object without a class", place=place)
    numbers = table.setdefault(image.strip(), {})
    if numbers.setdefault(int(number), name.strip()) != name.strip():
        raise DataError(f"object {int(number)} has two classes", place=place)


def _row(table: Table, item: Probed) -> dict[int, str]:
    """What the table says of an image: by its id, the name of its file, or that without the suffix."""
    image, label_map = Path(str(item.pair.image)), Path(str(item.pair.label_map))
    names = (item.pair.id, image.name, image.stem, label_map.name, label_map.stem)
    return next((table[name] for name in names if name in table), {})


def _note_missing(table: Table, probed: list[Probed], name: str, ledger: Ledger) -> None:
    missing = sum(not _row(table, item) for item in probed)
    if missing:
        ledger.note(f"{name} has no row for {counted(missing, 'image')}: it can be used only where it shows no object")


FORMAT = Format(
    name="index_png",
    summary="Maps of object numbers: one PNG for each image, value = object (Penn-Fudan's layout).",
    sniff=sniff,
    read=read,
    instead="`voc` writes such maps as SegmentationObject",
)
