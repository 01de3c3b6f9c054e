"""The photos of PaperDoll that ModaNet is drawn on, by their number: in an LMDB database, or in a tree that an SQLite
database describes.

LMDB: the key is the number in decimal digits, the value the bytes of an image. SQLite: the table `photos` has the columns
`id` and `path`, a path below the folder of the database or one of its sub-folders, sometimes with a `?query` behind it.
"""

from __future__ import annotations

import posixpath
import sqlite3
from collections.abc import Hashable, Sequence
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from maskwright.core.errors import DataError
from maskwright.data.formats.coco_photos import MISSING, PhotoSource
from maskwright.imaging import stores

_BASES = ("", "images", "photos", "images/photos")  # where the tree may begin, below the database's folder


def number_of(name: str) -> Hashable:
    """The number that a photo's name is, 396602 of `0396602.jpg`; the name itself where it is none."""
    stem = posixpath.basename(name).rpartition(".")[0] or name
    return int(stem) if stem.isascii() and stem.isdecimal() else name.casefold()


def database(path: Path) -> PhotoSource | None:
    """The photos in a database; None when the path is none. Raises DataError for a dump or another table."""
    if stores.is_database(path):
        return InLmdb(path)
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(b"\x1f\x8b"):
        hint = f"make a database of it: gunzip -c {path.name} | sqlite3 photos.sqlite3"
        raise DataError("is packed, not a database", place=path, hint=hint)
    return InTree(path) if head == b"SQLite format 3\0" else None


class InLmdb:
    """Photos in an LMDB database."""

    missing = "the database has no photo of its number"

    def __init__(self, path: Path):
        self._path = path.absolute()
        self.folder = stores.place(self._path, "").rstrip("/")

    def find(self, name: str, places: Sequence[str]) -> tuple[str | None, str | None]:
        number = number_of(name)
        key = str(number) if isinstance(number, int) else name
        if "/" in key:
            return None, "its name is no number, and has a folder, which keys of a database have not"
        return (key, None) if stores.holds(self._path, key) else (None, self.missing)

    def places(self, json: str) -> list[str]:
        return [""]


class InTree:
    """Photos in a tree of folders, their paths in an SQLite database. No file outside the database's folder is taken."""

    missing = MISSING

    def __init__(self, path: Path):
        self.folder = str(path.absolute().parent)
        address = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"  # writes neither a journal nor a lock
        try:
            with closing(sqlite3.connect(address, uri=True)) as opened:
                rows = opened.execute("SELECT id, path FROM photos WHERE path IS NOT NULL")
                self._paths = {int(number): str(where) for number, where in rows}
        except (sqlite3.Error, ValueError, TypeError) as error:
            hint = "PaperDoll's has a table `photos` with the columns `id` and `path`"
            raise DataError(f"cannot be read as a database of photos ({error})", place=path, hint=hint) from error

    def find(self, name: str, places: Sequence[str]) -> tuple[str | None, str | None]:
        number = number_of(name)
        if not isinstance(number, int) or number not in self._paths:
            return None, "the database has no path for a photo of its number"
        plain = posixpath.normpath(self._paths[number].partition("?")[0].lstrip("/"))
        if plain.startswith(".."):
            return None, f"the database says it lies outside its folder, at {plain:.200}"
        found = (posixpath.join(base, plain) for base in _BASES)
        path = next((path for path in found if Path(self.folder, path).is_file()), None)
        return path, None if path else self.missing

    def places(self, json: str) -> list[str]:
        return [""]
