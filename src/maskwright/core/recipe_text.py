"""A recipe as text: the commented YAML that `maskwright new` writes and runs keep, and the list of all keys."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from maskwright.core.recipe import Entry, Part, Recipe
from maskwright.core.recipe_mistakes import parts_in
from maskwright.core.yaml_text import flow


def dump(recipe: Recipe, comments: bool = True) -> str:
    """The recipe as YAML that `load` reads back to an equal one; with comments, each key is explained where it stands."""
    return "".join(_dumped(recipe, 0, comments))


def _dumped(part: Part, depth: int, comments: bool) -> Iterator[str]:
    indent = "  " * depth
    for key, info in type(part).model_fields.items():
        value = getattr(part, key)
        if value is None and not comments:
            continue
        note = f"  # {info.description}" if comments and info.description else ""
        if isinstance(value, Part) and not isinstance(value, Entry):
            yield f"{indent}{key}:{note}\n"
            yield from _dumped(value, depth + 1, comments)
        else:
            text = flow(_plain(value))
            line = f"{indent}{key}: {text}"
            yield f"{line}{note}\n" if len(line) + len(note) <= 118 or not note else _above(note, indent) + f"{line}\n"


def _above(note: str, indent: str) -> str:
    wrapped = textwrap.wrap(note.strip().removeprefix("# "), 110 - len(indent))
    return "".join(f"{indent}# {line}\n" for line in wrapped)


def _plain(value: Any) -> Any:
    if isinstance(value, Entry):
        plain = {k: v for k, v in value.model_dump().items() if v is not None}
        return plain["name"] if list(plain) == ["name"] else plain
    if isinstance(value, Part):
        fields = type(value).model_fields
        return {k: _plain(getattr(value, k)) for k, f in fields.items() if getattr(value, k) != f.default}
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value


def described_keys() -> Iterator[tuple[str, str, str | None, str]]:
    """(dotted key, type, default, help) of every key a recipe may have, in the order they are written."""
    yield from _described(Recipe, "")


def _described(part: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str | None, str]]:
    for key, info in part.model_fields.items():
        below = next(parts_in(info.annotation), None)
        nested = below is not None and below is not Entry
        default = None if info.is_required() or info.default is None or nested else flow(_plain(info.default))
        yield f"{prefix}{key}", "", default, info.description or ""
        if below is not None and nested and key not in ("val", "test"):
            yield from _described(below, f"{prefix}{key}.")
