"""A recipe as text: the commented YAML that `maskwright new` writes and runs keep."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import Any

from maskwright.core.recipe import Entry, Part, Recipe
from maskwright.core.recipe_defaults import FOR_PIXELS
from maskwright.core.yaml_text import flow


def dump(recipe: Recipe, comments: bool = True) -> str:
    """The recipe as YAML that `load` reads back to an equal one; with comments, each key is explained where it stands.

    Keys that mean nothing for its task are left out: what is written is what is used.
    """
    return "".join(_dumped(recipe, 0, comments))


def _dumped(part: Part, depth: int, comments: bool) -> Iterator[str]:
    indent = "  " * depth
    of_objects = isinstance(part, Recipe) and part.task == "instance"
    for key, info in type(part).model_fields.items():
        value = getattr(part, key)
        if (value is None and not comments) or (of_objects and key in FOR_PIXELS):
            continue
        note = f"  # {info.description}" if comments and info.description else ""
        if isinstance(value, Part) and not isinstance(value, Entry):
            yield f"{indent}{key}:{note}\n"
            yield from _dumped(value, depth + 1, comments)
        else:
            text = flow(plain(value))
            line = f"{indent}{key}: {text}"
            yield f"{line}{note}\n" if len(line) + len(note) <= 118 or not note else _above(note, indent) + f"{line}\n"


def _above(note: str, indent: str) -> str:
    wrapped = textwrap.wrap(note.strip().removeprefix("# "), 110 - len(indent))
    return "".join(f"{indent}# {line}\n" for line in wrapped)


def plain(value: Any) -> Any:
    """A value of a recipe as YAML holds it, what is left at its default left out."""
    if isinstance(value, Entry):
        given = {k: v for k, v in value.model_dump().items() if v is not None}
        return given["name"] if list(given) == ["name"] else given
    if isinstance(value, Part):
        fields = type(value).model_fields
        return {k: plain(getattr(value, k)) for k, f in fields.items() if getattr(value, k) != f.default}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value
