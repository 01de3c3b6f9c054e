"""What a YOLO data set says about itself: the names of its classes and the images of its lists, from its `data.yaml`.

Such files travel badly: ids have gaps, paths are those of another machine or lead out of the folder and back.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from posixpath import normpath
from typing import Any, NamedTuple

import yaml

from maskwright.core import yaml_text
from maskwright.core.errors import DataError
from maskwright.core.types import BACKGROUND, MAX_CLASSES, VOID
from maskwright.core.words import counted
from maskwright.data.formats import class_lists
from maskwright.data.formats.pairing import SPLITS, read_list
from maskwright.data.ledger import Ledger
from maskwright.imaging import images

PLACES = ("*.yaml", "*.yml", "*/*.yaml", "*/*.yml")
MOST_BYTES = 1_000_000


class Config(NamedTuple):
    """What a data.yaml says. place: its file, or None; names: id -> class; parts: list -> paths as they are written."""

    place: Path | None
    names: dict[int, str]
    parts: dict[str, list[str]]
    home: str  # its `path:`


def find(path: Path, root: Path, asked: str | None) -> Config:
    """The YAML that the user names, else the first that reads like one, else nothing known."""
    if asked is not None or path.is_file():
        place = path if asked is None else root / asked
        if not place.is_file():
            raise DataError("not found", place=place, hint="`config` is the YAML that names the classes")
        tree = glimpse(place)
        if tree is None:
            raise DataError("is no YAML with `names:` of classes", place=place)
        return _told(place, tree)
    for pattern in PLACES:
        for place in sorted(root.glob(pattern)):
            if tree := glimpse(place):
                return _told(place, tree)
    return Config(None, {}, {}, "")


def glimpse(place: Path) -> dict[str, Any] | None:
    """The tree of a YAML that names classes, else None."""
    try:
        if place.stat().st_size > MOST_BYTES:
            return None
        tree = yaml_text.value(place.read_bytes().decode("utf-8-sig"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError):
        return None
    return tree if isinstance(tree, dict) and isinstance(tree.get("names"), list | dict) else None


def _told(place: Path, tree: Mapping[str, Any]) -> Config:
    names = tree["names"]
    pairs = names.items() if isinstance(names, dict) else enumerate(names)
    numbered: dict[int, str] = {}
    for id, name in pairs:
        number = whole(str(id))
        if number is None or not isinstance(name, str | int | float) or not str(name).strip():
            raise DataError(f"`names` has an entry that names no class: {id}: {name}", place=place)
        numbered[number] = str(name).strip()
    parts = {}
    for key, value in tree.items():
        part = SPLITS.get(str(key))
        if part and value:
            parts[part] = [str(item) for item in (value if isinstance(value, list) else [value])]
    return Config(place, numbered, parts, str(tree.get("path") or ""))


def class_names(root: Path, config: Config, classes: Any) -> dict[int, str]:
    """Class id -> name: from the option, the YAML, a file of classes; else none are known."""
    found = class_lists.find(root, root / "labels")
    if classes is None and (config.names or found is None):
        return config.names
    said = class_lists.read(found) if classes is None and found is not None else class_lists.given(classes)
    return dict(zip(said.keys or range(len(said.names)), said.names, strict=True))


def class_table(names: Mapping[int, str], place: Path) -> tuple[tuple[str, ...], dict[int, int]]:
    """The class list, background first, and id -> class index (VOID for a class that means it)."""
    if not names:
        hint = "say the names with `classes: [cat, dog]`, or write a data.yaml with `names:`"
        raise DataError("nothing names the classes", place=place, hint=hint)
    classes, index = class_lists.table(dict(sorted(names.items())), place)
    if BACKGROUND in classes:
        return classes, index
    if len(classes) == MAX_CLASSES:
        raise DataError(f"{MAX_CLASSES} classes and the background are too many for a label map", place=place)
    return (BACKGROUND, *classes), {id: i if i == VOID else i + 1 for id, i in index.items()}


def lists(root: Path, names: Sequence[str], config: Config, ledger: Ledger) -> dict[str, str]:
    """Image -> its list, as the YAML's folders (or text files of paths) say. Images of two lists are in none."""
    if config.place is None:
        return {}
    home = config.place.parent.relative_to(root).as_posix()
    where: dict[str, set[str]] = {}
    for part, values in config.parts.items():
        for value in values:
            members = set(_members(root, names, value, [f"{home}/{config.home}", home, ""], ledger))
            if not members:
                ledger.note(f"{config.place.name}: `{part}: {value}` is not in the data set")
            for name in members:
                where.setdefault(name, set()).add(part)
    both = [name for name, parts in where.items() if len(parts) > 1]
    if both:
        parts = " and ".join(sorted(where[both[0]]))
        ledger.note(
            f"{config.place.name}: {counted(len(both), 'image is', 'images are')} in {parts}: that list does not count"
        )
    return {name: next(iter(parts)) if len(parts) == 1 else "" for name, parts in where.items()}


def _members(root: Path, names: Sequence[str], value: str, homes: Sequence[str], ledger: Ledger) -> list[str]:
    """The images that a path means: all below a folder, or those that a text file lists.

    A leading `../`, and the folders of another machine, are tried without, while two steps are left to go by.
    """
    steps = [step for step in value.replace("\\", "/").split("/") if step not in ("", ".", "..")]
    for home in homes:
        for first in range(max(1, len(steps) - 1)):
            place = normpath("/".join([home or ".", *steps[first:]]))
            if place.endswith(".txt") and (root / place).is_file():
                return _written(read_list(root / place, ledger), names)
            found = [name for name in names if name.startswith(place + "/") and images.is_image_name(name)]
            if found:
                return found
    return []


def _written(lines: Sequence[str], names: Sequence[str]) -> list[str]:
    """The files that lines mean: of two paths the shorter is the end of the longer."""
    by_base: dict[str, list[str]] = {}
    for name in names:
        by_base.setdefault(posixpath.basename(name), []).append(f"/{name}")
    found = []
    for line in lines:
        end = "/" + normpath(line.replace("\\", "/")).lstrip("./")
        same = by_base.get(posixpath.basename(end), [])
        found += [name[1:] for name in same if name.endswith(end) or end.endswith(name)]
    return found


def whole(text: str) -> int | None:
    """0, 7 or 7.0 as a number."""
    match = re.fullmatch(r"(\d{1,6})(\.0*)?", text)
    return int(match[1]) if match else None
