"""Fashionpedia, and iMaterialist-Fashion 2020 in the same JSON: COCO with attributes, polygons and run-lengths mixed.

`attribute_ids` become the names that the JSON's own list `attributes` gives them. Boxes may be missing, which matters to
nobody here. The sizes in the JSON may differ from those of the files: every photo is measured, and labels are scaled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maskwright.core.table import Data
from maskwright.core.words import counted
from maskwright.data.formats import Format, coco, coco_json
from maskwright.data.formats.coco_dialect import Dialect
from maskwright.data.formats.coco_json import Document
from maskwright.data.formats.coco_objects import Crowd
from maskwright.data.ledger import Ledger


def read(path: Path, ledger: Ledger, *, crowd: Crowd = "ignore", images: str | None = None) -> Data:
    """Reads a Fashionpedia JSON, or a folder with several; objects keep the names of their attributes.

    Records, classes and lists are those of the COCO reader. Raises DataError when no JSON can be read.

    crowd: what becomes of objects marked `iscrowd`: `ignore` makes their pixels count nowhere, `foreground` takes them
      as objects, `drop` leaves them out.
    images: the folder that holds the photos, absolute or below the data set; left out, they are searched below it.
    """
    return coco.read_dialect(path, ledger, _DIALECT, crowd=crowd, images=images)


def sniff(path: Path) -> tuple[float, str]:
    """Looks for a JSON of instances with attributes."""
    return coco.sniff_dialect(path, _DIALECT, (b'"attribute_ids"',), "of instances has `attribute_ids`")


def load(path: Path) -> Document:
    """The JSON with the names of attributes in place of their ids."""
    document = coco_json.load(path)
    names = {a.get("id"): str(a.get("name")) for a in document.attributes if isinstance(a, dict) and a.get("name")}
    unknown: set[Any] = set()
    for annotation in document.annotations:
        ids = annotation.pop("attribute_ids", None) if isinstance(annotation, dict) else None
        if isinstance(ids, list) and ids:
            ids = [id for id in ids if isinstance(id, int | str)]
            unknown |= {id for id in ids if id not in names}
            annotation["attributes"] = [names.get(id, str(id)) for id in ids]
    notes = []
    if unknown:
        ids = ", ".join(sorted(map(str, unknown))[:10])
        many = counted(len(unknown), "attribute id has", "attribute ids have")
        notes.append(f"{path.name}: {many} no name in its list `attributes` and stay numbers: {ids}")
    return document._replace(notes=notes)


_DIALECT = Dialect(load=load, name="Fashionpedia", measured=True)

FORMAT = Format(
    name="fashionpedia",
    summary="Fashionpedia and iMaterialist-Fashion 2020 JSON: COCO with attributes",
    sniff=sniff,
    read=read,
    instead="`coco` holds the same, attributes by name",
)
