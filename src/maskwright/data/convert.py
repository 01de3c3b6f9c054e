"""A data set from one format to another: written beside its place, read back, compared, and only then moved there.

Whatever stops it (a loss nobody allowed, a full disk, Ctrl-C), nothing half-written is left.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex

from maskwright.core.errors import RecipeError, SetupError
from maskwright.core.files import cannot_write, check_writable
from maskwright.core.table import Data, Packer
from maskwright.data.bill import Bill, compare
from maskwright.data.formats import FORMATS, Format
from maskwright.data.formats.writing import copy_linked, images_linked
from maskwright.data.ledger import Ledger


@dataclass(frozen=True)
class Conversion:
    """bill: what is lost. written: whether the data set is there now; else nothing is."""

    bill: Bill
    written: bool


def convert(
    data: Data,
    folder: Path,
    format: str,
    *,
    allow_loss: bool = False,
    dry_run: bool = False,
    link: bool = False,
    unreadable: int = 0,
) -> Conversion:
    """Writes a data set in another format into an empty folder (made when missing).

    The bill is of what is really read back. Unless it is empty or `allow_loss`, nothing is written.

    dry_run: never write, only measure. link: photos are symbolic links to where they lie, not copies.
    unreadable: items that the reader of `data` had refused; they are on the bill.

    Raises RecipeError for a format that nothing writes, SetupError when the folder is not empty or cannot be written,
    DataError when a photo or a label map cannot be read or the format cannot hold it at all.
    """
    entry = writer(format)
    folder = Path(os.path.abspath(folder))
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise SetupError("is not empty; a data set is only written into an empty folder", place=folder)
    with _beside(folder) as place:
        with images_linked() as placed:
            assert entry.write is not None
            entry.write(data, place)
        bill = compare(data, *_read_back(entry, place, placed), unreadable)
        if dry_run or not (bill.empty or allow_loss):
            return Conversion(bill, False)
        if not link:
            copy_linked(list(placed))
        _move(place, folder)
    return Conversion(bill, True)


def writer(format: str) -> Format:
    """A format that can be written. Raises RecipeError for all others."""
    entry: Format = FORMATS[FORMATS.check(format, "--to")]  # type: ignore[assignment]
    if entry.write is None:
        can = ", ".join(f"`{name}`" for name in writable())
        hint = f"{entry.instead}; it can be {can}" if entry.instead else f"it can be {can}"
        raise RecipeError(f"`{format}` is only read, not written", place="--to", hint=hint)
    return entry


def writable() -> list[str]:
    """The names of the formats that can be written."""
    return [name for name in FORMATS if getattr(FORMATS[name], "write", None) is not None]


def _read_back(entry: Format, place: Path, placed: Mapping[str, int]) -> tuple[Data, dict[int, int]]:
    """What was written, as its own reader sees it; and position in the source -> position there."""
    where = {os.path.normpath(path): index for path, index in placed.items()}
    if not where:  # no reader takes a data set without images
        return Packer().pack(()), {}
    found = entry.read(place, Ledger())
    rows = {where[os.path.normpath(image)]: row for row, image in enumerate(found.images)}
    return found, rows


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """A hidden empty folder beside `folder`, gone after the block unless it was moved; so are folders made for it."""
    made = [path for path in folder.parents if not path.exists()]
    place = folder.parent / f".{folder.name}-{token_hex(4)}"
    try:
        check_writable(place)
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)
        for path in made:
            with suppress(OSError):  # the data set is in it
                path.rmdir()


def _move(place: Path, folder: Path) -> None:
    """Puts the finished folder in its place."""
    try:
        if folder.exists():  # empty
            folder.rmdir()
        place.rename(folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
