"""Changes to a recipe, as they are typed: `train.epochs=20`, applied to the tree that a file holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from maskwright.core import yaml_text
from maskwright.core.errors import COMMAND_LINE, RecipeError


def applied(tree: dict[str, Any], changes: Mapping[str, Any] | Sequence[str]) -> dict[str, Any]:
    """The tree with changes made to it; the one given stays as it is. Raises RecipeError for what is no change."""
    result = dict(tree)
    for key, value in as_pairs(changes).items():
        branch = result
        *parents, last = key.split(".")
        for parent in parents:
            below = branch.get(parent)
            if isinstance(below, str):  # `model: unet` and then model.encoder=...
                below = {"name": below}
            if below is not None and not isinstance(below, dict):
                raise RecipeError(f"`{parent}` holds no keys", place=f"{COMMAND_LINE}: {key}")
            branch[parent] = dict(below or {})
            branch = branch[parent]
        lengths = {"epochs", "minutes", "stages"}
        if last in lengths and parents == ["train"]:  # the later word wins over the other ways to give a length
            for other in lengths - {last}:
                branch.pop(other, None)
        branch[last] = value
    return result


def as_pairs(changes: Mapping[str, Any] | Sequence[str]) -> dict[str, Any]:
    """{"key": value} from ["key=value"], values read as YAML. Raises RecipeError for anything else."""
    if isinstance(changes, Mapping):
        return dict(changes)
    pairs = {}
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals or not key:
            raise RecipeError(
                f"`{change}` is not a change", place=COMMAND_LINE, hint="write key=value, as train.epochs=20"
            )
        try:
            pairs[key.strip()] = yaml_text.value(value)
        except yaml.YAMLError as error:
            raise RecipeError(
                f"`{value}` is not a value", place=f"{COMMAND_LINE}: {key}", hint="quote it as YAML"
            ) from error
    return pairs
