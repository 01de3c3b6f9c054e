"""The shelf of label formats. To add one: write a file with a FORMAT, add its line to FORMATS; see CONTRIBUTING.md.

A reader walks its folder once, gives every file, image and annotation a fate in the ledger, and returns a Data. It reads
no pixels beyond image headers and never writes into the data set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from maskwright.core.registry import Registry

if TYPE_CHECKING:
    from maskwright.core.table import Data


@dataclass(frozen=True)
class Format:
    """How one label format is recognised, read and written.

    sniff: path -> how sure (0 = not this format .. 1 = certain) and the reason, one clause; cheap, never raises.
    read: (path, ledger, *, options) -> Data; its keyword-only parameters are what a recipe may say below `format:`.
    write: (data, folder) -> None, or None when nothing writes this format.
    cannot_hold: what a Data may have that this format loses ("holes", "overlaps", "classes beyond 3", ...).
    instead: for a format that nothing writes, what holds the same, one clause.
    """

    name: str
    summary: str
    sniff: Callable[[Path], tuple[float, str]]
    read: Callable[..., Data]
    write: Callable[[Data, Path], None] | None = None
    cannot_hold: tuple[str, ...] = ()
    instead: str | None = None


FORMATS: Registry = Registry(
    "format",
    {
        "coco": "maskwright.data.formats.coco:FORMAT",
        "voc": "maskwright.data.formats.voc:FORMAT",
        "pet": "maskwright.data.formats.pet:FORMAT",
        "folder": "maskwright.data.formats.folder:FORMAT",
        "yolo": "maskwright.data.formats.yolo:FORMAT",
        "labelme": "maskwright.data.formats.labelme:FORMAT",
        "via": "maskwright.data.formats.via:FORMAT",
        "cvat": "maskwright.data.formats.cvat:FORMAT",
        "label_studio": "maskwright.data.formats.label_studio:FORMAT",
        "index_png": "maskwright.data.formats.index_png:FORMAT",
        "mat": "maskwright.data.formats.mat:FORMAT",
        "modanet": "maskwright.data.formats.modanet:FORMAT",
        "imaterialist": "maskwright.data.formats.imaterialist:FORMAT",
        "fashionpedia": "maskwright.data.formats.fashionpedia:FORMAT",
    },
)
