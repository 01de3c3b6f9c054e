"""`maskwright new`: the recipe that `train PATH` would use, as a commented file to edit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from maskwright.core.recipe import Recipe


@dataclass(frozen=True)
class New:
    """The recipe file that was written."""

    path: str
    recipe: Recipe
    next: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "recipe": self.recipe.model_dump(mode="json")}

    def show(self, console: Console) -> None:
        console.print(f"wrote {self.path}", markup=False, soft_wrap=True)


def new(data: str, *changes: str, out: str = "recipe.yaml", force: bool = False) -> New:
    """Write the recipe that `train PATH` would use, commented, without training.

    Parameters
    ----------
    data
        file or folder with labelled images.
    changes
        key=value, as in `train.epochs=20`.
    out
        the recipe file to write.
    force
        overwrite an existing file.
    """
    import os
    from pathlib import Path

    from maskwright.core import files, terminal
    from maskwright.core import recipe as recipes
    from maskwright.core.errors import RecipeError
    from maskwright.core.recipe_text import dump
    from maskwright.data.open import recognise

    target = Path(out)
    if target.exists() and not force:
        raise RecipeError(
            "exists already", place=target, hint="choose another name with `--out`, or overwrite with `--force`"
        )
    with terminal.shown():
        name, _ = recognise(Path(data))
        relative = os.path.relpath(data, target.parent or ".")
        recipe = recipes.build(starting_tree(relative) | {"data": [{"path": relative, "format": name}]}, list(changes))
    head = f"# A Maskwright recipe. Train with: maskwright train {target}\n# Every key: maskwright explain recipe\n\n"
    files.write_text(target, head + dump(recipe))
    return New(str(target), recipe, [f"maskwright train {target}", f"maskwright check {data}"])


def starting_tree(data: str) -> dict[str, Any]:
    """The tree of the recipe for a data set that nobody prepared: a larger encoder where a GPU is."""
    tree: dict[str, Any] = {"data": [{"path": data}]}
    try:
        from maskwright.models import device
    except ModuleNotFoundError:
        return tree  # without torch a recipe can be written, not trained
    if device.choose("auto", "auto").device.type == "cuda":
        tree["model"] = {"name": "unet", "encoder": "resnet34"}
    return tree
