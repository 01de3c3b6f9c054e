"""What `inspect` found, kept in a file for the next time: a row for each image, by all that the row hangs on.

A cache that cannot be read or written costs time and nothing else.
"""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.core import events, files
from maskwright.core.errors import SetupError
from maskwright.core.table import Data
from maskwright.core.types import Record
from maskwright.imaging import stores

VERSION = 3  # a higher one when results change: old cache files are then left alone


def key_of(record: Record) -> bytes:
    """All that a row hangs on, 16 bytes; b"" when a file is missing."""
    key = blake2b(digest_size=16)
    for path in (record.image, record.label_map, record.objects):
        if path is None:
            continue
        try:
            stat = os.stat(stores.file_of(path))
        except OSError:
            return b""
        key.update(f"{path}\0{stat.st_size} {stat.st_mtime_ns}\0".encode())
    key.update(repr((record.size, record.upright, record.coding)).encode())
    for region in record.regions:
        key.update(f"\0{region.label} {region.crowd} {len(region.polygons)}".encode())
        for values in (*region.polygons, region.counts):
            key.update(b"" if values is None else f"\0{len(values)}\0".encode() + values.tobytes())
    return key.digest()


def file_of(data: Data) -> Path:
    """One file for each list of images and number of classes."""
    name = blake2b(data.images.buffer.tobytes() + f"{VERSION} {len(data.classes)}".encode(), digest_size=12)
    return files.cache_folder() / "inspect" / f"{name.hexdigest()}.npy"


def load(path: Path, row_type: np.dtype[Any]) -> dict[bytes, np.void]:
    """Key -> row; {} where there is no such file, or one of other rows."""
    try:
        rows = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return {}
    if rows.dtype != row_type or rows.ndim != 1:
        return {}
    return {row["key"].tobytes(): row for row in rows}


def store(path: Path, rows: np.ndarray) -> None:
    """Writes the rows, or says why not."""
    try:
        with files.written_whole(path) as temporary, temporary.open("wb") as file:
            np.save(file, rows, allow_pickle=False)
    except SetupError as error:
        events.say(f"what was found is not kept for the next time: {error}")
