"""What is wrong with a recipe, in a sentence with its place: from the validator's words to file, line, key and hint."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from maskwright.core import yaml_text
from maskwright.core.errors import COMMAND_LINE, MaskwrightError, RecipeError
from maskwright.core.registry import suggestion


def first_mistake(
    error: ValidationError, root: type[BaseModel], lines: Mapping[str, int], name: str, changed: set[str]
) -> RecipeError:
    """The first thing that is wrong, with its place: `name:line: key`, or the command line where `changed` has the key.

    root: what was to be validated. lines: key -> line of the file.
    """
    mistakes = error.errors()
    # a union reports one mistake for each of its members: the unknown key says most
    mistake = next((m for m in mistakes if m["type"] == "extra_forbidden"), mistakes[0])
    parts = [str(part) for part in mistake["loc"] if not _is_internal(part)]
    key = ".".join(parts)
    line = line_of(key, lines)
    from_command = any(is_part(key, c) for c in changed) and bool(key)
    place = COMMAND_LINE if from_command else f"{name}:{line}" if line else name
    place = f"{place}: {key}" if key else place
    if mistake["type"] == "extra_forbidden":
        return RecipeError("unknown key", place=place, hint=suggestion(parts[-1], _known_keys(root, parts[:-1])))
    if mistake["type"] == "missing":
        return RecipeError(
            "is missing", place=place, hint="a recipe needs `data: path/to/images`" if key == "data" else None
        )
    message = mistake["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    given = mistake.get("input")
    own = mistake["type"] == "value_error"  # says itself what was given and what to do
    shown = f" (got `{given}`)" if isinstance(given, (str, int, float, bool)) and not own else ""
    return RecipeError(message + shown, place=place, hint=None if own else _meaning(root, parts))


def placed(
    error: MaskwrightError, path: Path | None, changed: Collection[str], keys: Collection[str]
) -> MaskwrightError:
    """The error with the file and line of the key that is its place, or the command line where that key was changed.

    path: the recipe's file; None: there is none, all that was said stands on the command line. changed: keys that were
    changed there. keys: those a recipe begins with; errors whose place is none of them come back as they are.
    """
    key, _, rest = (error.place or "").partition(":")
    if key.split(".")[0] not in keys:
        return error
    if path is None or any(is_part(key, other) for other in changed):
        place = COMMAND_LINE
    else:
        _, lines = yaml_text.parse(path.read_text(encoding="utf-8"), str(path))
        line = line_of(key, lines)
        place = f"{path}:{line}" if line else str(path)
    return type(error)(error.what, place=f"{place}: {key}{':' if rest else ''}{rest}", hint=error.hint)


def is_part(key: str, other: str) -> bool:
    """Whether one of two keys is the other or stands below it."""
    return key == other or key.startswith(f"{other}.") or other.startswith(f"{key}.")


def _is_internal(part: Any) -> bool:
    """Names of union members and validators that pydantic puts into a location."""
    text = str(part)
    return (
        bool(re.search(r"[\[\(]|^(list|dict|str|int|float|bool|constrained|Entry|Source|literal|function)\b", text))
        and text != "file"
    )


def line_of(key: str, lines: Mapping[str, int]) -> int | None:
    while key:
        if key in lines:
            return lines[key]
        key = key.rpartition(".")[0]
    return None


def _known_keys(root: type[BaseModel], path: Sequence[str]) -> list[str]:
    part: Any = root
    for name in path:
        if name.isdigit():
            continue
        nested = part.model_fields.get(name)
        found = next(parts_in(nested.annotation), None) if nested else None
        if found is None:
            return []
        part = found
    return list(part.model_fields)


def _meaning(root: type[BaseModel], path: Sequence[str]) -> str | None:
    """What the deepest described key of a path means."""
    part: Any = root
    meaning = None
    for name in path:
        if name.isdigit() or part is None or name not in part.model_fields:
            continue
        meaning = part.model_fields[name].description or meaning
        part = next(parts_in(part.model_fields[name].annotation), None)
    return meaning


def parts_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from parts_in(inner)
