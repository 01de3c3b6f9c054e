"""Photos that lie in a database instead of a folder: `lmdb:<database>/<key>` stands where the path of a file stands.

The one kind so far is LMDB (package `lmdb`, extra `lmdb`), opened for reading only, without a lock file. What kind of
image an entry holds is told by its first bytes, never by its name.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from maskwright.core.errors import DataError
from maskwright.core.registry import missing_package

PREFIX = "lmdb:"
_DATA = "data.mdb"  # LMDB's own name for the file in a database's folder
_MAGIC = (0xBEEFC0DE).to_bytes(4, "little")  # lmdb.h, MDB_MAGIC, behind the 16 bytes of a page's header
_KINDS = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"GIF8": ".gif", b"RIFF": ".webp", b"BM": ".bmp"}
_KINDS |= {b"II*\0": ".tif", b"MM\0*": ".tif"}


def is_database(path: str | Path) -> bool:
    """True for an LMDB database: a folder with `data.mdb`, or such a file under any name."""
    file = Path(path, _DATA) if os.path.isdir(path) else Path(path)
    try:
        with file.open("rb") as opened:
            return opened.read(20)[16:] == _MAGIC
    except OSError:
        return False


def is_stored(image: object) -> bool:
    """True for an image in a database, named by a text or by a path made of it."""
    return isinstance(image, str | Path) and str(image).startswith(PREFIX)


def place(database: str | Path, key: str) -> str:
    """What stands for an entry where else the path of an image stands."""
    return f"{PREFIX}{os.path.abspath(database)}/{key}"


def file_of(image: str) -> str:
    """The file on disk that holds an image: its own, or the database's."""
    if not is_stored(image):
        return image
    database = image.removeprefix(PREFIX).rpartition("/")[0]
    return os.path.join(database, _DATA) if os.path.isdir(database) else database


def content(image: str) -> bytes:
    """The bytes of an image, in a file (OSError when it cannot be read) or in a database (DataError)."""
    if not is_stored(image):
        return Path(image).read_bytes()
    found = _entry(*_parted(image))
    if found is None:
        raise DataError("is not in the database", place=image)
    return bytes(found)


def holds(database: str | Path, key: str) -> bool:
    """True when a database has an entry of that key."""
    return _entry(os.path.abspath(database), key) is not None


def suffix(image: str) -> str:
    """The file name suffix of an image, lower case; for one in a database from its first bytes, "" for no known kind."""
    if not is_stored(image):
        return Path(image).suffix.lower()
    head = content(image)[:8]
    return next((kind for magic, kind in _KINDS.items() if head.startswith(magic)), "")


def _parted(image: str) -> tuple[str, str]:
    database, _, key = image.removeprefix(PREFIX).rpartition("/")
    return database, key


def _entry(database: str, key: str) -> Any:
    """The bytes under a key, or None."""
    lmdb = _package()
    try:
        with _opened(lmdb, database).begin() as transaction:
            return transaction.get(key.encode())
    except lmdb.BadValsizeError:
        return None  # an empty key, or one longer than LMDB's keys can be
    except lmdb.Error as error:
        raise DataError(f"cannot be read as LMDB ({error})", place=database) from error


def _package() -> Any:
    try:
        import lmdb
    except ModuleNotFoundError as error:
        raise missing_package("lmdb", "reading photos from an LMDB database") from error
    return lmdb


_open: dict[str, Any] = {}  # database -> environment of this process
_lock = threading.Lock()


def _start_anew() -> None:
    """For a forked process: it must not use its parent's environments, and nobody in it holds its parent's lock."""
    global _lock
    _lock = threading.Lock()
    for environment in _open.values():
        environment.close()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_anew)


def _opened(lmdb: Any, database: str) -> Any:
    with _lock:
        if database not in _open:
            folder = os.path.isdir(database)
            _open[database] = lmdb.open(
                database, subdir=folder, readonly=True, create=False, lock=False, readahead=False
            )
        return _open[database]
