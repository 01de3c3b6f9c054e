"""`maskwright new`: the recipe that `train PATH` would use, or a shipped one, as a commented file to edit.

Shipped recipes are the YAML files in `maskwright/recipes/`; `DATA` in them stands for the user's path.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from maskwright.core.recipe import Recipe


@dataclass(frozen=True)
class New:
    """The recipe file that was written. images: how many each source of a shipped recipe has."""

    path: str
    recipe: Recipe
    images: dict[str, int] = field(default_factory=dict)
    next: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "images": self.images, "recipe": self.recipe.model_dump(mode="json")}

    def show(self, console: Console) -> None:
        console.print(f"wrote {self.path}", markup=False, soft_wrap=True)


def new(data: str, *changes: str, recipe: str | None = None, out: str = "recipe.yaml", force: bool = False) -> New:
    """Write the recipe that `train PATH` would use, or a shipped one, commented, without training.

    Parameters
    ----------
    data
        file or folder with labelled images.
    changes
        key=value, as in `train.epochs=20`; not with `--recipe`.
    recipe
        a shipped recipe to write for these data: see `maskwright explain recipes`.
    out
        the recipe file to write.
    force
        overwrite an existing file.
    """
    import os
    from pathlib import Path

    from maskwright.core import files, terminal, yaml_text
    from maskwright.core import recipe as recipes
    from maskwright.core.errors import COMMAND_LINE, RecipeError
    from maskwright.core.recipe_text import dump
    from maskwright.data.open import recognise

    target = Path(out)
    if target.exists() and not force:
        hint = "choose another name with `--out`, or overwrite with `--force`"
        raise RecipeError("exists already", place=f"--out {target}", hint=hint)
    relative = os.path.relpath(data, target.parent or ".")
    following = [f"maskwright train {target}", f"maskwright check {data}"]
    if recipe is not None:
        if changes:
            hint = f"edit {target} once it is written, or give them to `maskwright train {target}`"
            raise RecipeError("a shipped recipe is written as it is", place=f"{COMMAND_LINE}: {changes[0]}", hint=hint)
        text = shipped_text(recipe, relative)
        with terminal.shown():
            found = _found(recipe, data)
        tree, lines = yaml_text.parse(text, str(target))
        files.write_text(target, text)
        return New(str(target), recipes.build(tree, (), lines, str(target)), found, following)
    with terminal.shown():
        name, _ = recognise(Path(data))
        made = recipes.build(starting_tree(relative) | {"data": [{"path": relative, "format": name}]}, list(changes))
    head = f"# A Maskwright recipe. Train with: maskwright train {target}\n# Every key: maskwright explain recipe\n\n"
    files.write_text(target, head + dump(made))
    return New(str(target), made, {}, following)


def _found(name: str, data: str) -> dict[str, int]:
    """The images that a shipped recipe finds in each of its sources. Raises what `train` would raise for them."""
    from maskwright.core import events
    from maskwright.core import recipe as recipes
    from maskwright.core.words import counted
    from maskwright.data.ledger import Ledger
    from maskwright.data.prepare import read

    tree, lines = shipped_parts(name, data)
    ledger = Ledger()
    found = {part.source.path: len(part.data) for part in read(recipes.build(tree, (), lines, name), ledger)}
    if ledger.num_refused:
        first = next(ledger.of("refused"))
        events.warn(f"{counted(ledger.num_refused, 'item')} cannot be used, such as {first.item}: {first.why}")
    return found


def shipped() -> dict[str, str]:
    """The names of the shipped recipes, and the first sentence of each."""
    from importlib.resources import files

    found = {}
    for file in sorted(files("maskwright").joinpath("recipes").iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            found[file.name.removesuffix(".yaml")] = file.read_text(encoding="utf-8").split("\n")[0].removeprefix("# ")
    return found


def shipped_text(name: str, data: str) -> str:
    """The text of a shipped recipe for data at a path. Raises RecipeError for a name that is not shipped."""
    import re
    from importlib.resources import files

    from maskwright.core.errors import RecipeError
    from maskwright.core.registry import suggestion
    from maskwright.core.yaml_text import flow

    known = shipped()
    if name not in known:
        raise RecipeError(f"no shipped recipe is called `{name}`", place="--recipe", hint=suggestion(name, known))
    text = files("maskwright").joinpath("recipes", f"{name}.yaml").read_text(encoding="utf-8")
    return re.sub(r"(?m)^(\s*(?:- )?path: )DATA(\S*)", lambda m: m[1] + flow(data + m[2]), text)


def shipped_tree(name: str, data: str) -> dict[str, Any]:
    """The tree of a shipped recipe for data at a path."""
    return shipped_parts(name, data)[0]


def shipped_parts(name: str, data: str) -> tuple[dict[str, Any], dict[str, int]]:
    """The tree of a shipped recipe for data at a path, and the line of each key."""
    from maskwright.core import yaml_text

    return yaml_text.parse(shipped_text(name, data), name)


def shipped_file(name: str) -> Path:
    """Where a shipped recipe lies in the installed package."""
    from importlib.resources import files
    from pathlib import Path

    return Path(str(files("maskwright").joinpath("recipes", f"{name}.yaml")))


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
