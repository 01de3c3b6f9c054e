"""Files and options that name classes: `classes.txt`, labelme's `labels.txt`, CVAT's `labelmap.txt`, JSON, CSV.

One line or entry is one class: a name alone (the value is its place), a name with a value, or a name with a colour.
A list that says `background` or `_background_` means the house's background, `__ignore__` or `void` means VOID.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskwright.core.errors import DataError
from maskwright.core.types import BACKGROUND, MAX_CLASSES, VOID
from maskwright.core.words import counted

FILE_NAMES = (
    "classes.txt", "class_names.txt", "labels.txt", "labelmap.txt", "label_map.txt", "label_colors.txt", "codes.txt",
    "class_dict.csv", "classes.csv", "classes.json", "labels.json", "class_names.json",
)  # fmt: skip
MOST_BYTES = 1_000_000
LONGEST_LINE = 300

BACKGROUND_NAMES = {"background", "_background_", "__background__"}
VOID_NAMES = {"__ignore__", "ignore", "ignored", "void", "__void__"}

_RGB = r"(?P<r>\d{1,3})[\s,]+(?P<g>\d{1,3})[\s,]+(?P<b>\d{1,3})"
_LINES = (  # tried in this order; one must fit every line of a file
    re.compile(rf"(?P<name>.+?)\s*[\s,:;]\s*{_RGB}(?::.*)?"),  # CVAT `cat:128,0,0::`, `cat,128,0,0`, `cat 128 0 0`
    re.compile(rf"{_RGB}[\s,:]+(?P<name>\D.*)"),  # CamVid `128 0 0  cat`
    re.compile(r"(?P<name>.+?)\s*[\s,:;]\s*#(?P<hex>[0-9a-fA-F]{6})"),
    re.compile(r"(?P<value>\d{1,5})\s*[\s,:;]\s*(?P<name>.*[^\d\s].*)"),  # `1 cat`, `1: cat`
    re.compile(r"(?P<name>.*[^\d\s].*?)\s*[,:;=\t]\s*(?P<value>\d{1,5})"),  # `cat: 1`
    re.compile(r"(?P<name>.+)"),
)
NUMBERED = "# value name"  # the first line of a list where every other line is a number, a space and a name
_NUMBER_AND_NAME = re.compile(r"(?P<value>\d{1,5}) (?P<name>.+)")
_HEADER = re.compile(r"\W*(name|class|label|id|index|value)s?\b.*[,;\t].*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ClassList:
    """Names as the source gives them, in its order.

    keys: the stored value of each, or its colour r << 16 | g << 8 | b when `colour`; None where the order is all there is.
    place: the file (or option) it came from, for messages.
    """

    names: tuple[str, ...]
    keys: tuple[int, ...] | None = None
    colour: bool = False
    place: str = "classes"


def find(*folders: Path) -> Path | None:
    """The first file in these folders that is called like a list of classes."""
    return next((folder / name for folder in folders for name in FILE_NAMES if (folder / name).is_file()), None)


def read(path: Path) -> ClassList:
    """A list of classes from a text, CSV or JSON file. Raises DataError when it is none."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError("too long for a list of classes", place=path)
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", place=path) from error
    except UnicodeDecodeError as error:
        raise DataError("a list of classes must be UTF-8 text", place=path) from error
    if path.suffix.lower() != ".json":
        return _from_lines(text, str(path))
    try:
        return given(json.loads(text), str(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError("not valid JSON", place=path) from error


def to_text(names: Sequence[str], *, numbered: bool = False) -> str:
    """The text of a list of classes, a line for each: its name, with its index before it when `numbered`.

    Names that would be read as something else than names are numbered too, below a line that says so.
    """
    text = "".join(f"{name}\n" for name in names)
    try:
        plain = not numbered and _from_lines(text, "") == ClassList(tuple(names), None, False, "")
    except DataError:
        plain = False
    return text if plain else "".join(f"{line}\n" for line in (NUMBERED, *(f"{i} {n}" for i, n in enumerate(names))))


def given(value: Any, place: str = "classes") -> ClassList:
    """A list of classes from plain values: ["cat", "dog"], {"cat": 1}, {1: "cat"}, {"cat": [128, 0, 0]}, {"cat": "#800000"},
    or entries with a name and an id or colour, as Ground Truth and many annotation tools write them."""
    if isinstance(value, Mapping) and len(value) == 1 and (wrapped := _inner(value)) is not None:
        value = wrapped
    if isinstance(value, Mapping):
        return _checked([_entry(key, spec, place) for key, spec in value.items()], place)
    if isinstance(value, Sequence) and not isinstance(value, str):
        if all(isinstance(name, str) for name in value):
            return _checked([(name, None, None) for name in value], place)
        if all(isinstance(entry, Mapping) for entry in value):
            return _checked([_entry(None, entry, place) for entry in value], place)
    raise DataError("does not name classes", place=place, hint='write a list of names, or {"cat": 1, "dog": 2}')


def table(names: Mapping[int, str], place: object = None) -> tuple[tuple[str, ...], dict[int, int]]:
    """Stored value -> name, as the class list (background first, else in the order given) and value -> class index or VOID,
    by ascending value.

    Values of one name are one class. Raises DataError when there are more classes than a label map can hold.
    """
    said = {value: standard_name(name) for value, name in names.items()}
    ordered = dict.fromkeys(name for name in said.values() if name is not None)
    classes = (*([BACKGROUND] if BACKGROUND in ordered else []), *(name for name in ordered if name != BACKGROUND))
    if len(classes) > MAX_CLASSES:
        what = f"{counted(len(classes), 'class')} are more than the {MAX_CLASSES} that a label map can hold"
        raise DataError(what, place=place)
    index: dict[str | None, int] = {None: VOID, **{name: i for i, name in enumerate(classes)}}
    return classes, {value: index[said[value]] for value in sorted(said)}


def standard_name(name: str) -> str | None:
    """`background` for what means it, None for what means VOID, else the name."""
    name = name.strip()
    if name.lower() in BACKGROUND_NAMES:
        return BACKGROUND
    return None if name.lower() in VOID_NAMES else name


def by_order(names: Sequence[str], first: int = 0) -> dict[int, str]:
    """Names numbered from `first`. labelme's lists begin with `__ignore__`, which stands for 255: the rest from 0."""
    if names and names[0].strip() == "__ignore__":
        return dict(enumerate(names[1:], first)) | {VOID: names[0]}
    return dict(enumerate(names, first))


def _from_lines(text: str, place: str) -> ClassList:
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if len(lines) > 1 and _HEADER.fullmatch(lines[0]) and not _HEADER.fullmatch(lines[1]):
        lines = lines[1:]
    if any(len(line) > LONGEST_LINE for line in lines):
        raise DataError(f"a line of more than {LONGEST_LINE} characters names no class", place=place)
    patterns = _LINES if text.split("\n")[0].strip() != NUMBERED else (_NUMBER_AND_NAME,)
    for pattern in patterns:
        found = [pattern.fullmatch(line) for line in lines]
        if lines and all(found):
            return _checked([_fields(match.groupdict()) for match in found if match], place)
    raise DataError("names no class", place=place)


def _fields(groups: Mapping[str, str]) -> tuple[str, int | None, int | None]:
    colour = None
    if "r" in groups:
        colour = _rgb([int(groups[channel]) for channel in "rgb"])
    elif "hex" in groups:
        colour = int(groups["hex"], 16)
    return groups["name"].strip(), int(groups["value"]) if "value" in groups else None, colour


def _inner(value: Mapping[Any, Any]) -> Any:
    """What `{"classes": [...]}` and the like wrap."""
    key, inner = next(iter(value.items()))
    wraps = key in ("classes", "labels", "names", "categories", "internal-color-map")
    return inner if wraps and not isinstance(inner, str | int) else None


def _entry(key: Any, spec: Any, place: str) -> tuple[str, int | None, int | None]:
    """(name, value, colour) of one entry of a mapping, or of a mapping in a list (then `key` is None)."""
    number = _number(key)
    if isinstance(spec, Mapping):
        said = {str(k).lower().replace("_", "-"): v for k, v in spec.items()}
        name = next((said[k] for k in ("name", "class-name", "label", "title") if k in said), None)
        value = next((said[k] for k in ("id", "value", "index") if k in said), key)
        colour = next((said[k] for k in ("color", "colour", "hex-color", "rgb") if k in said), None)
        told = name is not None or value is not key or colour is not None
        name = key if name is None and number is None else name
        if told and isinstance(name, str):
            return name, _number(value), None if colour is None else _colour(colour, place)
    elif isinstance(spec, str) and number is not None:
        return spec, number, None
    elif isinstance(key, str) and (value := _number(spec)) is not None:
        return key, value, None
    elif isinstance(key, str):
        return key, None, _colour(spec, place)
    raise DataError(f"an entry that names no class: {key}: {spec}", place=place)


def _number(value: Any) -> int | None:
    """A stored value, 0..65535, written as a number or as text; None for all else."""
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,5}", value):
        value = int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 0xFFFF else None


def _colour(value: Any, place: str) -> int:
    if isinstance(value, str) and re.fullmatch(r"#?[0-9a-fA-F]{6}", value.strip()):
        return int(value.strip().lstrip("#"), 16)
    if isinstance(value, Sequence) and len(value) in (3, 4) and all(_number(v) is not None for v in value):
        return _rgb([int(v) for v in value[:3]])
    raise DataError(f"not a colour: {value}", place=place, hint="write `[r, g, b]` or `#rrggbb`")


def _rgb(channels: Sequence[int]) -> int:
    red, green, blue = (min(channel, 255) for channel in channels)
    return red << 16 | green << 8 | blue


def _checked(entries: Sequence[tuple[str, int | None, int | None]], place: str) -> ClassList:
    names = tuple(name for name, _, _ in entries)
    colours = tuple(colour for _, _, colour in entries if colour is not None)
    values = tuple(value for _, value, _ in entries if value is not None)
    if not names or not all(name.strip() for name in names):
        raise DataError("names no class" if not names else "a class without a name", place=place)
    for keys, colour in ((colours, True), (values, False)):
        if len(keys) == len(names):
            clash = next((k for k in keys if len({n for n, o in zip(names, keys) if o == k}) > 1), None)
            if clash is not None:
                what = f"#{clash:06x}" if colour else str(clash)
                raise DataError(f"{what} stands for two classes", place=place)
            return ClassList(names, keys, colour, place)
    return ClassList(names, None, False, place)
