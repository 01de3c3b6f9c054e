"""The door to labelled images: a path in, Data and its Ledger out, whatever the format.

Every format of the shelf is asked how sure it is; the surest one reads. What no format knows ends in one sentence that
says what the path is instead (an archive, a web page, a Git LFS pointer) or what each format looked for.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from maskwright.core.errors import DataError, SetupError
from maskwright.core.recipe import check_entry
from maskwright.core.table import Data
from maskwright.data.formats import FORMATS, coco_json, xml_tree
from maskwright.data.ledger import Ledger
from maskwright.imaging.images import is_image_name

SURE_ENOUGH = 0.3
MOST_BYTES = 50_000_000  # of a label file that is parsed only to say what is wrong with it
_PULL = "run `git lfs pull` in its repository"
_ARCHIVES = {b"PK\3\4": "unzip", b"\x1f\x8b": "tar -xzf", b"BZh": "tar -xjf", b"\xfd7zXZ": "tar -xJf"}
_ARCHIVE_SUFFIXES = {".zip", ".tar", ".gz", ".tgz", ".bz2", ".tbz", ".xz", ".txz", ".7z", ".rar"}
_PARTS = re.compile(
    "images?|imgs?|photos|jpegimages|masks?|labels?|annotations?|segmentationclass|trimaps|train|val|test"
)
_ARCHIVES |= {b"7z\xbc\xaf": "7z x", b"Rar!": "unrar x"}


@dataclass(frozen=True)
class Opened:
    """A data set as read. format: its name on the shelf; reason: how it was recognised, one clause, or "asked for"."""

    data: Data
    ledger: Ledger
    format: str
    reason: str


def open_data(
    path: str | Path,
    *,
    format: str | None = None,
    options: Mapping[str, Any] | None = None,
    ledger: Ledger | None = None,
) -> Opened:
    """Reads the labelled images at a path: a folder, or a label file.

    format: a name on the shelf; left out: recognised.
    options: keyword-only parameters of that format's reader, such as {"crowd": "drop"}; values may be text.
    ledger: left out: a new one; several data sets may share one.

    Raises DataError when there is nothing to read or no format is sure, RecipeError for a format or an option that does
    not exist.
    """
    path = Path(path).expanduser()
    ledger = Ledger() if ledger is None else ledger
    if format is None:
        name, reason = recognise(path)
    else:
        name, reason = FORMATS.check(format, "format"), "asked for"
        _check_path(path)
    given = dict(options or {})
    check_entry(FORMATS, name, given, place=f"format {name}", texts=True)
    known = FORMATS.options(name)
    given = {key: TypeAdapter(known[key].type).validate_python(value) for key, value in given.items()}
    entry: Any = FORMATS[name]
    data = entry.read(path, ledger, **given)
    ledger.reconcile()
    return Opened(data, ledger, name, reason)


def recognise(path: str | Path) -> tuple[str, str]:
    """The format a path is in and why. Raises DataError when none is sure enough, or two are equally sure."""
    path = Path(path).expanduser()
    _check_path(path)
    answers = [_asked(name, path) for name in FORMATS]
    best = max(answers, key=lambda answer: answer.sure)
    equals = [answer for answer in answers if answer.sure == best.sure]
    if best.sure < SURE_ENOUGH:
        raise _unknown(path, answers)
    if len(equals) > 1:
        claims = "; ".join(f"{answer.name}: {answer.reason}" for answer in equals)
        nearby = _recognised_nearby(path)
        hint = f"give one data set, such as `{nearby[0]}`" if nearby else "say which with `--format`"
        raise DataError(f"could be more than one format ({claims})", place=path, hint=hint)
    return best.name, best.reason


@dataclass(frozen=True)
class _Answer:
    sure: float
    name: str
    reason: str


def _asked(name: str, path: Path) -> _Answer:
    try:
        entry: Any = FORMATS[name]
        sure, reason = entry.sniff(path)
    except SetupError as error:  # a third party's format whose package is missing
        sure, reason = 0.0, error.what
    return _Answer(round(sure, 3), name, reason)


# ------------------------------------------------------------------------------------------------- what it is instead


def _check_path(path: Path) -> None:
    """Raises DataError when nothing can be read at a path, whatever the format."""
    try:
        if path.is_dir():
            with os.scandir(path) as entries:
                if next(entries, None) is None:
                    raise DataError("the folder is empty", place=path)
            return
        with path.open("rb") as file:
            head = file.read(1024)
    except FileNotFoundError:
        raise DataError("not found", place=path, hint=_near(path)) from None
    except OSError as error:
        raise DataError(f"cannot be read ({(error.strerror or str(error)).lower()})", place=path) from error
    if not head:
        raise DataError("is empty (0 bytes)", place=path)
    if _is_web_page(head):
        hint = "the download gave a page instead of the data: fetch the file itself"
        raise DataError("is a web page (HTML), not a data set", place=path, hint=hint)
    if _is_pointer(head):
        raise DataError("is a Git LFS pointer, not the file itself", place=path, hint=_PULL)


def _near(path: Path) -> str | None:
    """The folder above that exists, or a name in it that was perhaps meant."""
    if path.parent.is_dir():
        near = get_close_matches(path.name, os.listdir(path.parent), n=1)
        return f"did you mean `{path.parent / near[0]}`?" if near else None
    above = next((folder for folder in path.parents if folder.is_dir()), None)
    return f"`{above}` exists, `{path.relative_to(above).parts[0]}` in it does not" if above else None


def _unknown(path: Path, answers: list[_Answer]) -> DataError:
    """Why no format was recognised, as helpful as can be."""
    if path.is_file():
        with path.open("rb") as file:
            head = file.read(1024)
        if tool := _unpacker(path, head):
            hint = f"unpack it first: {tool} {path.name}"
            return DataError("is an archive", place=path, hint=hint)
        if is_image_name(path.name):
            hint = "give the folder that holds images and labels"
            return DataError("is one image, not a data set", place=path, hint=hint)
    else:
        few = list(islice(_files(path), 500))
        if not few:
            return DataError("holds folders, but no file", place=path)
        pointer = next((f for f in few if _is_pointer(_head(f))), None)
        if pointer is not None:
            what = f"holds Git LFS pointers instead of files, such as {pointer.relative_to(path)}"
            return DataError(what, place=path, hint=_PULL)
        packed = next((f for f in few if f.parent == path and _unpacker(f, _head(f))), None)
        if packed is not None:
            hint = f"unpack it first: {_unpacker(packed, _head(packed))} {packed.name}"
            return DataError(f"holds an archive, {packed.name}, and no labelled images", place=path, hint=hint)
        broken = next(filter(None, map(_broken, few)), None)
        if broken is not None:
            place = Path(str(broken.place))
            what = f"no label format is recognised, and {place.relative_to(path)} {broken.what}"
            return DataError(what, place=path, hint=broken.hint)
    looked = "; ".join(f"{answer.name}: {answer.reason}" for answer in answers)
    nearby = _recognised_nearby(path)
    hint = f"`{nearby[0]}` looks like {nearby[1]}" if nearby else "say which with `--format` if you know it"
    return DataError(f"no label format is recognised ({looked})", place=path, hint=hint)


def _recognised_nearby(path: Path) -> tuple[Path, str] | None:
    """A folder right below that some format knows, or the one above when this looks like a part of it."""
    folders = [p for p in sorted(path.iterdir()) if p.is_dir()][:50] if path.is_dir() else []
    if _PARTS.fullmatch(path.absolute().name.lower()):
        folders.append(path.absolute().parent)
    for folder in folders:
        best = max((_asked(name, folder) for name in FORMATS), key=lambda answer: answer.sure)
        if best.sure > SURE_ENOUGH:
            return folder, best.name
    return None


def _broken(file: Path) -> DataError | None:
    """Why a JSON or XML is none, one that a format would know if it were whole."""
    read = {".json": coco_json.parsed, ".xml": xml_tree.parsed}.get(file.suffix.lower())
    try:
        if read is not None and file.stat().st_size <= MOST_BYTES:
            read(file)
    except OSError:
        return None
    except DataError as error:
        return DataError(error.what, place=file, hint=error.hint)
    return None


def _files(folder: Path) -> Iterator[Path]:
    for above, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(above, name) for name in sorted(names))


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(512)
    except OSError:
        return b""


def _unpacker(path: Path, head: bytes) -> str | None:
    """The command that unpacks a file that begins so; None when it is no archive."""
    if path.suffix.lower() not in _ARCHIVE_SUFFIXES:
        return None
    if head[257:262] == b"ustar":
        return "tar -xf"
    return next((tool for magic, tool in _ARCHIVES.items() if head.startswith(magic)), None)


def _is_web_page(head: bytes) -> bool:
    return head.lstrip().lower().startswith((b"<!doctype html", b"<html"))


def _is_pointer(head: bytes) -> bool:
    return head.startswith(b"version https://git-lfs")
