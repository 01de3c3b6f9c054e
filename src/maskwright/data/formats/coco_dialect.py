"""What a relative of COCO does otherwise. `coco.read_dialect` reads by a Dialect; COCO itself is the plain one.

A dialect of JSON loads with `coco_json.load` and changes the Document; another kind of file makes a Document of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

from maskwright.data.formats import coco_json
from maskwright.data.formats.coco_json import Document, Glimpse
from maskwright.data.formats.coco_photos import PhotoSource


def no_store(path: Path) -> PhotoSource | None:
    """The answer of a dialect whose photos always lie in folders."""
    return None


@dataclass(frozen=True)
class Dialect:
    """glimpse: how surely a file is one of this dialect, why, and what bars reading it.

    load: parses a file; its Document may tell the fate of annotations beforehand.
    name: of what a label file holds.
    kind, entry: what its label files and their entries are called in messages; suffix: how their names end.
    key: base names of photos that have the same key are the same photo; None: base names but for upper and lower case.
    store: the photos in a database, for an `images` that is no folder; None when it is none.
    measured: every photo's header is read and its size compared with what the labels say.
    """

    glimpse: Callable[[Path], Glimpse] = coco_json.glimpse
    load: Callable[[Path], Document] = coco_json.load
    name: str = "COCO instances"
    kind: str = "JSON"
    suffix: str = ".json"
    entry: str = "annotation"
    key: Callable[[str], Hashable] | None = None
    store: Callable[[Path], PhotoSource | None] = no_store
    measured: bool = False


COCO = Dialect()
