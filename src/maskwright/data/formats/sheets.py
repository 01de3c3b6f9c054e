"""What a labelling tool says of an image, as a Sheet, and the road from there to records: what its readers share.

A reader lays its files out (`desk.laid_out`), turns each label file into Sheets, one for each image it lists, hands them to
`add` with a function that draws one entry, and takes the Data from `finished`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

import numpy as np

from maskwright.core.errors import DataError
from maskwright.core.events import progress
from maskwright.core.table import Data
from maskwright.core.types import BACKGROUND, MAX_CLASSES
from maskwright.core.words import counted
from maskwright.data.formats import class_lists, pairing
from maskwright.data.formats.coco_photos import MISSING, readable
from maskwright.data.formats.desk import Desk, Listed, account_files, note_whole
from maskwright.data.formats.shapes import Part, Size, Unusable, joined
from maskwright.data.ledger import Ledger
from maskwright.imaging import images

_LONGEST_SIDE = 1_000_000


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a label file. place: file and number, for messages; raw: what `draw` gets.

    group: entries of one group and one class are one object; None: it is one by itself.
    """

    place: str
    raw: Any
    group: Hashable = None


@dataclass(slots=True)
class Sheet:
    """One image as a label file lists it.

    file: the label file, relative to the data set; place: the entry in it, for messages.
    name: what the label file calls the photo; photo: its path, where the reader found it already.
    size: height, width that the labels were drawn on, None where the file does not say.
    odd: what was odd about finding it; trouble: why the image cannot be used, known already.
    """

    file: str
    place: str
    name: str
    entries: list[Entry]
    size: Size | None = None
    photo: str | None = None
    split: str | None = None
    attributes: dict[str, Any] = field(default_factory=dict)
    odd: str | None = None
    trouble: Unusable | None = None


@dataclass(frozen=True, slots=True)
class Drawn:
    """What an entry shows: an object for each of its classes. box: its shape is only a box around the object."""

    names: tuple[str, ...]
    parts: list[Part]
    attributes: dict[str, Any] = field(default_factory=dict)
    box: bool = False


Draw = Callable[[Any, Size], Drawn]


def stated(height: Any, width: Any) -> Size | None:
    """Height and width where both are sane whole numbers; None where the label file does not know them."""
    sides = [
        int(v) if isinstance(v, int | float) and 1 <= v <= _LONGEST_SIDE and v == int(v) else 0 for v in (height, width)
    ]
    return (sides[0], sides[1]) if all(sides) else None


def named(value: Any) -> str:
    """The name of a class as a label file gives it; Unusable when it gives none."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = f"{value:.15g}" if isinstance(value, float) or abs(value) < 10**15 else str(value)[:40]
    if not isinstance(value, str) or not value.strip():
        raise Unusable("it has no label")
    return readable(value.strip())


def plain(value: Any) -> Any:
    """An attribute's value that can be kept: text, a number, true or false, or a list or table of these; else None."""
    if isinstance(value, list):
        return [item for item in value if isinstance(item, str | int | float)] or None
    if isinstance(value, dict):
        return {key: item for key, item in value.items() if isinstance(item, str | int | float)} or None
    return value if isinstance(value, str | int | float) else None


def kept(attributes: Any) -> dict[str, Any]:
    """The attributes that say something."""
    pairs = attributes.items() if isinstance(attributes, dict) else ()
    return {key: plain(value) for key, value in pairs if plain(value) not in (None, "")}


def local(reference: str) -> str:
    """The path in what may be a URL or a path: without scheme, host, query and fragment, percent signs decoded."""
    try:
        parts = urlsplit(reference)
    except ValueError:
        return reference
    return unquote(parts.path).lstrip("/") if parts.scheme and parts.netloc else reference


def split_of(name: str) -> str | None:
    """The official list that the nearest folder of a relative path is called after."""
    return next(
        (pairing.SPLITS[part] for part in reversed(name.lower().split("/")[:-1]) if part in pairing.SPLITS), None
    )


def by_name(name: str) -> tuple[bool, int, str]:
    """Sorts class names: numbers by their value, before the others."""
    digits = name.isascii() and name.isdecimal() and len(name) < 10
    return not digits, int(name) if digits else 0, name


# ---------------------------------------------------------------------------------------------------- sheets to records


def add(desk: Desk, sheets: Sequence[Sheet], draw: Draw) -> None:
    """Adds images and their objects. `draw` makes a Drawn of an entry's `raw` and the image's size, or raises Unusable."""
    desk.ledger.seen("image", len(sheets))
    desk.ledger.seen("annotation", sum(len(sheet.entries) for sheet in sheets))
    found = [_find(desk, sheet) for sheet in sheets]
    paths = sorted({path for path, _ in found if path})
    headers = dict(zip(paths, pairing.in_threads(_probe, [Path(p) for p in paths], "Reading image headers")))
    for sheet, (path, odd) in zip(progress(sheets, "Reading labels"), found):
        try:
            position, size = _add_image(desk, sheet, path, odd, headers)
            sheet.photo = path
        except Unusable as reason:
            _tell(desk.ledger, "image", path or sheet.place, reason)
            desk.spoilt.add(path or "")
            for entry in sheet.entries:
                desk.ledger.ignored("annotation", readable(entry.place), "its image is not used")
            continue
        _add_entries(desk, sheet, position, size, draw)


def finished(desk: Desk) -> Data:
    """The Data: class 0 is `background`, then the known classes in their order, then the others by name."""
    others = sorted(set(desk.classes) - {BACKGROUND} - set(desk.known), key=by_name)
    order = [BACKGROUND, *(name for name in desk.known if name in desk.classes), *others]
    data = desk.packer.pack(order)
    new = np.array([order.index(name) for name in desk.classes], np.int16)
    data = replace(data, regions=replace(data.regions, label=new[data.regions.label]))
    account_files(desk)
    note_whole(desk, data)
    return data


def know(desk: Desk, names: Sequence[str]) -> None:
    """Classes that a list names, in its order: there are so many even where none of their objects is drawn."""
    for name in names:
        standard = class_lists.standard_name(readable(name))
        if standard not in (None, BACKGROUND) and standard not in desk.known:
            desk.known.append(str(standard))
            _index(desk, str(standard))


def _find(desk: Desk, sheet: Sheet) -> tuple[str | None, str | None]:
    """The photo's path, and what is odd about it."""
    if sheet.photo or sheet.trouble:
        return sheet.photo, sheet.odd
    path, odd = desk.photos.find(sheet.name, desk.photos.places(sheet.file))
    desk.num_missing += odd == MISSING
    return (os.path.join(desk.photos.folder, path) if path else None), odd or sheet.odd


def _add_image(
    desk: Desk, sheet: Sheet, path: str | None, odd: str | None, headers: Mapping[str, Any]
) -> tuple[int, Size]:
    """Position and size of the image, added unless it is there already."""
    if sheet.trouble:
        raise sheet.trouble
    if path is None:
        raise Unusable(odd or MISSING)
    header = headers[path]
    if isinstance(header, DataError):
        raise Unusable(pairing.sentence(header))
    size = sheet.size or header.size
    upright = size == header.size
    if not upright and size != header.stored_size:
        (rows, columns), (height, width) = size, header.size
        raise Unusable(f"the labels are for {columns} x {rows} pixels and the photo has {width} x {height}")
    if path in desk.listed:
        first = desk.listed[path]
        if (first.split, first.size) != (sheet.split, size):
            other = "with another size" if first.size != size else "for another split"
            raise Unusable(f"{first.file} lists the same photo {other}")
        why = f"{first.file} lists the same photo: their objects were joined"
        desk.ledger.ignored("image", readable(sheet.place), why)
        return first.position, size
    repairs = [odd] if odd else []
    repairs += [] if upright else ["labels fit the image before EXIF rotation, which is left out"]
    if repairs:
        desk.ledger.repaired("image", readable(path), readable(", ".join(repairs)))
    else:
        desk.ledger.used("image")
    position = len(desk.packer)
    id = sheet.name if sheet.photo else desk.prefix + os.path.relpath(path, desk.photos.folder).replace(os.sep, "/")
    desk.listed[path] = Listed(position, sheet.file, size, sheet.split)
    desk.packer.image(id, path, size, split=sheet.split, upright=upright, attributes=sheet.attributes)
    return position, size


def _add_entries(desk: Desk, sheet: Sheet, position: int, size: Size, draw: Draw) -> None:
    """Draws the entries; those of one group and class become one object."""
    objects: dict[tuple[Hashable, int, bool], list[Drawn]] = {}
    ledger = desk.ledger
    for number, entry in enumerate(sheet.entries):
        try:
            drawn = draw(entry.raw, size)
            if drawn.box and desk.boxes == "ignore":
                raise Unusable("a box (boxes: ignore)", ignored=True)
            labels = [_label(desk, name) for name in dict.fromkeys(drawn.names)]
        except Unusable as reason:
            _tell(ledger, "annotation", entry.place, reason)
            continue
        desk.num_boxes += drawn.box
        own = (number, None) if entry.group is None else (None, entry.group)
        for index, crowd in labels:
            objects.setdefault((own, index, crowd), []).append(drawn)
        if len(labels) > 1:
            why = f"it has {counted(len(labels), 'class')}: an object for each"
            ledger.repaired("annotation", readable(entry.place), why)
        else:
            ledger.used("annotation")
    for (_, index, crowd), members in objects.items():
        shape = joined([part for member in members for part in member.parts], size)
        attributes = {key: value for member in reversed(members) for key, value in member.attributes.items()}
        levels = [member.attributes["z_order"] for member in members if "z_order" in member.attributes]
        attributes |= {"z_order": max(levels)} if levels else {}
        desk.packer.region(index, **shape, crowd=crowd, attributes=attributes, image=position)


def _label(desk: Desk, name: str) -> tuple[int, bool]:
    """Class index for the time being, and whether the name means pixels that count nowhere."""
    standard = class_lists.standard_name(readable(name))
    if standard is None:
        return 0, True
    if desk.closed and standard not in desk.classes:
        raise Unusable(f"{desk.closed} names no class `{standard[:60]}`")
    return _index(desk, standard), False


def _index(desk: Desk, name: str) -> int:
    if name not in desk.classes and len(desk.classes) == MAX_CLASSES:
        what = f"there are more than {MAX_CLASSES - 1} classes, such as `{name[:60]}`, and a label map can hold no more"
        raise DataError(what, place=desk.root, hint="merge classes in the labelling tool, or leave some out")
    return desk.classes.setdefault(name, len(desk.classes))


def _tell(ledger: Ledger, kind: Literal["image", "annotation"], item: str, reason: Unusable) -> None:
    (ledger.ignored if reason.ignored else ledger.refused)(kind, readable(item), readable(reason.why))


def _probe(path: Path) -> images.Probe | DataError:
    try:
        return images.probe(path)
    except DataError as error:
        return error
