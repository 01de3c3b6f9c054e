"""The tasks of a recipe: what its training does differently. Every task is a module with the functions of `for_pixels`."""

from __future__ import annotations

from typing import Any

from maskwright.core.recipe import Recipe
from maskwright.training import for_objects, for_pixels

TASKS: dict[str, Any] = {"semantic": for_pixels, "instance": for_objects}


def of(recipe: Recipe) -> Any:
    """The module of a recipe's task."""
    return TASKS[recipe.task]
