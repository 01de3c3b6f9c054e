"""COCO JSON files as Python trees, and a sentence for each way in which a file is not one.

`glimpse` tells from the ends of a file, however large, whether it holds instances; `load` parses it.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import orjson

from maskwright.core.errors import DataError

_WINDOW = 1 << 20
_LISTS = ("images", "annotations", "categories")
_OTHER_KINDS = {"segments_info": "panoptic COCO", "caption": "COCO captions"}


class Told(NamedTuple):
    """What is known of an annotation beforehand. repaired: it was changed, and what stands there now is used."""

    why: str
    fate: Literal["repaired", "ignored", "refused"] = "repaired"


NOTHING_TOLD: Mapping[int, Told] = MappingProxyType({})


class Document(NamedTuple):
    """The three lists of an instances file, and what its dialect says of them.

    finite: no number in it can be NaN or infinite.
    attributes: the list of that name, which Fashionpedia has.
    told: position in `annotations` -> its fate, where a dialect decides it.
    notes: facts about the file; files: others that were read for it.
    """

    images: list[Any]
    annotations: list[Any]
    categories: list[Any]
    finite: bool
    attributes: Sequence[Any] = ()
    told: Mapping[int, Told] = NOTHING_TOLD
    notes: Sequence[str] = ()
    files: Sequence[Path] = ()


def load(path: Path) -> Document:
    """Parses a file. Raises DataError, with the position where there is one, when it is no COCO instances JSON."""
    tree, finite = parsed(path)
    if isinstance(tree, list):
        what = "holds a list, as COCO results do, not a data set"
        raise DataError(what, place=path, hint="a data set is one object with `images`, `annotations` and `categories`")
    if not isinstance(tree, dict):
        raise DataError(f"holds {kind_of(tree)}, not a COCO data set", place=path)
    for key in _LISTS:
        if not isinstance(tree.get(key), list):
            what = f"`{key}` is {kind_of(tree[key])}, not a list" if key in tree else f"has no `{key}`"
            hint = "a COCO instances file holds the lists `images`, `annotations` and `categories`"
            raise DataError(what, place=path, hint=hint)
    attributes = tree.get("attributes")
    attributes = attributes if isinstance(attributes, list) else []
    return Document(tree["images"], tree["annotations"], tree["categories"], finite, attributes)


def parsed(path: Path) -> tuple[Any, bool]:
    """Any JSON file as a tree, and whether no number in it can be NaN or infinite. Raises DataError when it is no JSON."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", place=path) from error
    trouble = not_json(content[:_WINDOW])
    if trouble:
        raise trouble.error(path)
    try:
        return orjson.loads(content), True
    except orjson.JSONDecodeError:
        return _parse_leniently(content, path), False


class Trouble(NamedTuple):
    """What a file is instead of JSON, and what to do about it."""

    what: str
    hint: str | None = None

    def error(self, path: Path) -> DataError:
        return DataError(self.what, place=path, hint=self.hint)


def not_json(head: bytes, kind: str = "JSON") -> Trouble | None:
    """What the beginning of a file shows when it cannot be JSON (or another kind of text) at all."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if not start:
        return Trouble("is empty")
    if start.startswith(b"version https://git-lfs"):
        return Trouble("is a git LFS pointer, not the file itself", "fetch it with `git lfs pull`")
    if start.startswith(b"<"):
        return Trouble(f"is a web page or XML, not {kind}", "was a download page saved instead of the file?")
    if start.startswith((b"PK\x03\x04", b"\x1f\x8b", b"BZh", b"\xfd7zXZ")):
        return Trouble(f"is an archive, not {kind}", "unpack it first")
    return None


def ends(path: Path, window: int = _WINDOW) -> bytes:
    """The first and the last megabyte of a file (or so many bytes); UTF-16, which begins with a mark, as UTF-8."""
    with path.open("rb") as file:
        text = file.read(window)
        file.seek(max(window, path.stat().st_size - window))
        text += file.read(window)
    return text.decode("utf-16", errors="ignore").encode() if text.startswith((BOM_UTF16_LE, BOM_UTF16_BE)) else text


Glimpse = tuple[float, str, Trouble | None]


def glimpse(path: Path) -> Glimpse:
    """How surely a file is COCO instances (0..1) and why, from its first and last megabyte; and what bars reading it."""
    try:
        text = ends(path)
    except OSError as error:
        unreadable = Trouble(f"cannot be read ({error.strerror or error})")
        return 0.0, unreadable.what, unreadable
    trouble = not_json(text)
    if trouble:
        return 0.0, trouble.what, trouble
    if text.lstrip().startswith(b"["):
        return 0.0, "holds a list, as COCO results do", None
    lists = [key for key in _LISTS if re.search(rb'"%s"\s*:\s*\[' % key.encode(), text)]
    fields = sum(b'"%s"' % key in text for key in (b"image_id", b"category_id", b"segmentation"))
    other = next((kind for key, kind in _OTHER_KINDS.items() if b'"%s"' % key.encode() in text), None)
    if other and not (fields == 3 and other == "COCO captions"):
        return 0.0, f"holds {other}, not instances", None
    if len(lists) == 3:
        return 0.95, "holds `images`, `annotations` and `categories`", None
    if fields == 3 and {"images", "categories"} & set(lists):
        return 0.9, f"holds `{lists[0]}` and annotations with a category and a mask", None
    return 0.0, f"is no COCO instances file: has {' and '.join(f'`{k}`' for k in lists) or 'none of its lists'}", None


def kind_of(value: object) -> str:
    """What JSON calls a value: "an object", "a list", "text", ..."""
    kinds = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return kinds.get(type(value), "a number")


def _parse_leniently(content: bytes, path: Path) -> Any:
    """With Python's own parser, which takes NaN and Infinity and other encodings, and says where a file breaks off."""
    try:
        return json.loads(content)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno} (byte {error.pos:,} of {len(content):,})"
        if error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated"):
            raise DataError(f"breaks off at {where}", place=path, hint="is the download complete?") from error
        raise DataError(f"is not JSON: {error.msg} at {where}", place=path) from error
    except UnicodeDecodeError as error:
        raise DataError(f"is not JSON: {error.reason} at byte {error.start:,}", place=path) from error
    except RecursionError as error:
        raise DataError("is nested too deeply", place=path) from error
    except ValueError as error:
        raise DataError(f"is not JSON: {error}", place=path) from error
