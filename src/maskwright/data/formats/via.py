"""VGG Image Annotator: the regions of many photos in one JSON, in pixels; their class is one of the region attributes.

Read are annotations of VIA 1 and 2 (`{name + size: {filename, size, regions, file_attributes}}`, the regions a list or a
table), VIA 2 projects (`_via_img_metadata`) and VIA 3 projects; polygons, rectangles, circles, ellipses and closed lines.
Source of the format: the documentation of VIA (Dutta and Zisserman, 2019, robots.ox.ac.uk/~vgg/software/via).
"""

from __future__ import annotations

import math
import posixpath
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from maskwright.core.errors import DataError, RecipeError
from maskwright.core.events import progress
from maskwright.core.registry import suggestion
from maskwright.core.table import Data
from maskwright.core.words import counted
from maskwright.data.formats import Format, desk, shapes, sheets, via_three
from maskwright.data.formats.coco_json import kind_of, parsed
from maskwright.data.formats.coco_photos import readable
from maskwright.data.formats.desk import Boxes, Desk
from maskwright.data.formats.shapes import Part, Size, Unusable
from maskwright.data.formats.sheets import Drawn, Entry, Sheet
from maskwright.data.ledger import Ledger

WHAT = "VIA JSON"


@dataclass(frozen=True)
class Document:
    """One JSON. images: (key, entry) each, as VIA 2 writes them; options: attribute -> value -> what it stands for."""

    file: str
    images: list[tuple[str, Any]]
    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def read(
    path: Path,
    ledger: Ledger,
    *,
    class_attribute: str | None = None,
    class_name: str = "object",
    images: str | None = None,
    boxes: Boxes = "fill",
) -> Data:
    """A VIA JSON, or a folder with one or several; class 0 is `background`, the others follow by name.

    An image whose folder, or whose JSON's folder, is called train, val or test is in that list. Raises DataError when no
    JSON can be read or several attributes could be the class.

    class_attribute: the region attribute that names the class; left out: the only one there is.
    class_name: what the objects are called where no region has an attribute.
    images: the folder that holds the photos, absolute or below the data set; left out, they are searched below it.
    boxes: whether a rectangle is an object that fills it (`fill`), or to `ignore`.
    """
    table = desk.laid_out(path, ledger, ".json", sign, WHAT, images, boxes)
    documents = []
    for file in progress(list(table.files), "Reading label files", unit="files"):
        try:
            documents.append(_document(table, file))
        except DataError as error:
            desk.give_up(table, file, error)
    attribute = _class_attribute(documents, class_attribute, path)
    options: dict[str, str] = {}
    for document in documents:
        options |= document.options.get(attribute or "", {})
    if attribute is None:
        ledger.note(f"no region has an attribute: all are of one class, `{class_name}` (class_name)")
    else:
        sheets.know(table, [_class(value, options) for value in options])
    pages = [_sheet(table, document, key, entry) for document in documents for key, entry in document.images]
    sheets.add(table, pages, partial(draw, attribute=attribute, alone=class_name, options=options))
    _compare_bytes(table, documents, pages)
    return sheets.finished(table)


def sign(text: bytes) -> str | None:
    """Why the ends of a file look like VIA."""
    if b'"_via_img_metadata"' in text:
        return "is a VIA project"
    if b'"shape_attributes"' in text or (b'"file_attributes"' in text and b'"regions"' in text):
        return "holds regions with attributes, as VIA writes them"
    return "is a VIA 3 project" if b'"fid_list"' in text and b'"metadata"' in text else None


def sniff(path: Path) -> tuple[float, str]:
    """Looks for VIA's keys in the JSONs of the folder, of its sub-folders and theirs."""
    return desk.sniff(path, ".json", sign, WHAT)


def draw(region: Any, size: Size, *, attribute: str | None, alone: str, options: Mapping[str, str]) -> Drawn:
    """What a region shows; Unusable with the reason when that is nothing.

    attribute: the one that names the class, None: all regions are of the class `alone`. options: its values' meanings.
    """
    if isinstance(region, Unusable):
        raise region
    if not isinstance(region, dict) or not isinstance(region.get("shape_attributes"), dict):
        raise Unusable("the region has no `shape_attributes`")
    said = region.get("region_attributes")
    said = said if isinstance(said, dict) else {}
    names = (alone,) if attribute is None else tuple(_class(value, options) for value in _values(said.get(attribute)))
    if not names:
        raise Unusable(f"it has no `{attribute}`")
    kind = region["shape_attributes"].get("name")
    part = _part(region["shape_attributes"], kind, size)
    others = sheets.kept({key: value for key, value in said.items() if key != attribute})
    return Drawn(names, [part], others, box=kind == "rect")


def _part(shape: Mapping[str, Any], kind: Any, size: Size) -> Part:
    if kind == "point":
        raise Unusable(shapes.POINT, ignored=True)
    if kind in ("polygon", "polyline"):
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            raise Unusable("its `all_points_x` and `all_points_y` are no lists of equal length")
        flat = shapes.pairs([[x, y] for x, y in zip(xs, ys)])
        return shapes.polygon(shapes.line(flat) if kind == "polyline" else flat, size)

    def value(*keys: str) -> list[float]:
        return [shapes.number(shape.get(key), key) for key in keys]

    if kind == "rect":
        x, y, width, height = value("x", "y", "width", "height")
        return shapes.polygon(shapes.box(x, y, x + width, y + height), size)
    if kind == "circle":
        x, y, radius = value("cx", "cy", "r")
        return shapes.polygon(shapes.ellipse(x, y, radius, radius), size)
    if kind == "ellipse":
        x, y, across, down = value("cx", "cy", "rx", "ry")
        degrees = math.degrees(shapes.number(shape.get("theta", 0), "theta"))
        return shapes.polygon(shapes.turned(shapes.ellipse(x, y, across, down), degrees, x, y), size)
    raise Unusable(f"no shape is called `{kind!s:.40}`")


# -------------------------------------------------------------------------------------------------------------- classes


def _values(value: Any) -> list[str]:
    """The values of an attribute: one, or several where VIA lets tick boxes, `{"cat": true, "dog": false}`."""
    if isinstance(value, dict):
        return [sheets.named(key) for key, ticked in value.items() if ticked and key.strip()]
    told = isinstance(value, int | float) or (isinstance(value, str) and value.strip())
    return [sheets.named(value)] if told and not isinstance(value, bool) else []


def _class(value: str, options: Mapping[str, str]) -> str:
    """The value itself; where it is only a number, what the project says that it stands for."""
    return options[value] if value.isdecimal() and options.get(value) else value


def _class_attribute(documents: Sequence[Document], wanted: str | None, path: Path) -> str | None:
    """The attribute that names the class; None where no region has any."""
    uses: Counter[str] = Counter()
    for document in documents:
        for _, entry in document.images:
            for region in _regions(entry):
                said = region.get("region_attributes") if isinstance(region, dict) else None
                uses.update(key for key, value in (said if isinstance(said, dict) else {}).items() if _values(value))
    if wanted is not None:
        if wanted not in uses:
            raise RecipeError(f"no region has an attribute `{wanted}`", place=path, hint=suggestion(wanted, uses))
        return wanted
    if len(uses) > 1:
        listed = ", ".join(f"`{readable(key)}` ({counted(n, 'region')})" for key, n in uses.most_common(8))
        hint = f"say which with `class_attribute: {readable(uses.most_common(1)[0][0])}`"
        raise DataError(f"several attributes could be the class: {listed}", place=path, hint=hint)
    return next(iter(uses), None)


# ---------------------------------------------------------------------------------------------------------------- files


def _document(table: Desk, file: str) -> Document:
    """A JSON in whichever dialect, as VIA 2 would write it."""
    place = table.root / file
    tree, _ = parsed(place)
    if isinstance(tree, dict) and isinstance(tree.get("view"), dict) and isinstance(tree.get("file"), dict):
        return Document(file, *via_three.translated(tree))
    options: dict[str, dict[str, str]] = {}
    if isinstance(tree, dict) and "_via_img_metadata" in tree:
        options = _options(tree.get("_via_attributes"))
        tree = tree["_via_img_metadata"]
    if isinstance(tree, list):
        tree = {str(number): entry for number, entry in enumerate(tree)}
    if not isinstance(tree, dict):
        raise DataError(f"holds {kind_of(tree)}, not the regions of images", place=place)
    entries = [(key, entry) for key, entry in tree.items() if isinstance(entry, dict) and "filename" in entry]
    if tree and not entries:
        raise DataError(
            "no entry has a `filename`", place=place, hint="export the annotations as JSON, or save the project"
        )
    return Document(file, list(tree.items()), options)


def _options(attributes: Any) -> dict[str, dict[str, str]]:
    """Region attribute -> value -> description, from a project's `_via_attributes`."""
    regions = attributes.get("region") if isinstance(attributes, dict) else None
    found = {}
    for name, spec in (regions if isinstance(regions, dict) else {}).items():
        options = spec.get("options") if isinstance(spec, dict) else None
        if isinstance(options, dict):
            texts = {key: text for key, text in options.items() if key.strip() and isinstance(text, str)}
            found[name] = {sheets.named(key): text.strip() for key, text in texts.items()}
    return found


def _sheet(table: Desk, document: Document, key: str, entry: Any) -> Sheet:
    place = f"{table.root / document.file}: {key:.80}"
    name = entry.get("filename") if isinstance(entry, dict) else None
    entries = [Entry(f"{place}: regions[{i}]", region) for i, region in enumerate(_regions(entry))]
    if not isinstance(name, str) or not name.strip():
        return Sheet(document.file, place, "", entries, trouble=Unusable("it has no `filename`"))
    regions = entry.get("regions")
    trouble = entry.get("trouble")
    trouble = trouble if isinstance(trouble, Unusable) else None
    if trouble is None and regions is not None and not isinstance(regions, list | dict):
        trouble = Unusable(f"`regions` is {kind_of(regions)}, not a list")
    name = sheets.local(name)
    split = sheets.split_of(posixpath.join(posixpath.dirname(document.file), name.replace("\\", "/")))
    said = sheets.kept(entry.get("file_attributes"))
    return Sheet(document.file, place, name, entries, split=split, attributes=said, trouble=trouble)


def _regions(entry: Any) -> list[Any]:
    regions = entry.get("regions") if isinstance(entry, dict) else None
    return list(regions.values()) if isinstance(regions, dict) else regions if isinstance(regions, list) else []


def _compare_bytes(table: Desk, documents: Sequence[Document], pages: Sequence[Sheet]) -> None:
    """Notes photos that are not those the labels were drawn on, where VIA says how many bytes they had (-1: it does not)."""
    entries = [entry for document in documents for _, entry in document.images]
    others = []
    for entry, page in zip(entries, pages, strict=True):
        stated = entry.get("size") if isinstance(entry, dict) else None
        if page.photo in table.listed and isinstance(stated, int) and 0 < stated != Path(page.photo).stat().st_size:
            others.append(page.name)
    if others:
        table.ledger.note(
            f"{counted(len(others), 'photo has', 'photos have')} another number of bytes than the labels say,"
            f" such as {readable(others[0])}: were they saved again?"
        )


FORMAT = Format(
    name="via",
    summary="VGG Image Annotator JSON: annotations of VIA 1 and 2, projects of VIA 2 and 3",
    sniff=sniff,
    read=read,
    instead="VIA imports `coco`",
)
