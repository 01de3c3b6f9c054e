"""`maskwright preview`: training images as the network will see them, drawn before anything is trained."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from maskwright.core.words import counted

if TYPE_CHECKING:
    import numpy as np
    from rich.console import Console

    from maskwright.core.recipe import Recipe
    from maskwright.core.table import Data
    from maskwright.training.loader import Loader

POOL = 24  # images that mixes take their other half from
TILE = 192  # pixels, the long side of each picture of the grid


@dataclass(frozen=True)
class Previewed:
    """The picture that was drawn, the images in it, and how they were changed."""

    path: str
    ids: list[str]
    columns: list[str]
    next: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "ids": self.ids, "columns": self.columns, "next": self.next}

    def show(self, console: Console) -> None:
        text = f"wrote {self.path}: {counted(len(self.ids), 'image')}, each as {', '.join(self.columns)}"
        console.print(text, markup=False, soft_wrap=True)


def preview(
    source: str,
    *changes: str | Mapping[str, Any],
    out: str = "preview.png",
    count: int = 4,
    samples: int = 4,
    strengths: bool = False,
    limit: int | None = None,
) -> Previewed:
    """Draw training images as they are and as the network will see them, with their labels; nothing is trained.

    Parameters
    ----------
    source
        labelled images, a recipe.yaml, or a shipped recipe (and `data=PATH`).
    changes
        key=value, as in `augment=hard mix=cutmix size=384`; keys: `maskwright explain recipe`.
    out
        the picture to write: .png, .webp or .jpg.
    count
        images, a row each.
    samples
        augmented pictures of each image.
    limit
        use only so many images, as `train --limit` does.
    strengths
        draw none, soft, medium and hard beside each other instead of the recipe's own augmentation.
    """
    from pathlib import Path

    from maskwright.core import files, terminal
    from maskwright.core.errors import RecipeError
    from maskwright.imaging import draw
    from maskwright.training import AUGMENTS
    from maskwright.verbs.train import merged_changes, mistakes_placed, recipe_file, recipe_of

    kinds: dict[str, draw.Kind] = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}
    kind = kinds.get(Path(out).suffix.lower())
    if kind is None:
        raise RecipeError("names no picture", place=f"--out {out}", hint="it can end in .png, .webp or .jpg")
    if count < 1 or samples < 1:
        raise RecipeError("must be 1 or more", place="--count" if count < 1 else "--samples")
    with terminal.shown():
        merged = merged_changes(changes) | ({"limit": limit} if limit else {})
        recipe = recipe_of(source, merged)
        with mistakes_placed(recipe_file(source), merged):
            page, looks, ids = _page(recipe, count, AUGMENTS if strengths else samples)
    with files.written_whole(Path(out)) as temporary:
        temporary.write_bytes(draw.encode(page, kind, 85))
    return Previewed(out, ids, ["labels", *looks], _next(source, merged, strengths))


def _page(recipe: Recipe, count: int, looks: Collection[str] | int) -> tuple[np.ndarray, list[str], list[str]]:
    """The grid, the names of its columns and the ids of its rows. looks: strengths to compare, or samples of the recipe's."""
    from maskwright.data import prepare
    from maskwright.imaging import draw
    from maskwright.training import tasks

    flat = tasks.of(recipe).flat
    data = _pool(recipe, prepare.unseen(recipe), count)
    colours = tasks.of(recipe).colours(recipe, data.classes)
    loader = _loader(recipe, data)
    columns = _samples(loader, looks) if isinstance(looks, int) else _strengths(recipe, loader, looks)
    rows = _showing(loader, count)
    pictures, captions = [], []
    for row in rows:
        whole, *labels = loader.samples[row]
        pictures.append(draw.overlay(whole, flat(tuple(labels)), colours, opacity=0.5))
        captions.append(data.ids[row].rsplit("/")[-1])
        for name, (changing, epoch) in columns.items():
            share = changing.share(epoch, row)
            image, *labels = changing.prepare(row, epoch, row)
            shown = labels if recipe.task == "instance" else labels[-1:] if share < 0.5 else labels[:1]
            pictures.append(draw.overlay(image, flat(tuple(shown)), colours, opacity=0.0))
            captions.append(name if round(100 * share) in (0, 100) else f"{name}: {share:.0%} + {1 - share:.0%}")
    scale = TILE / max(recipe.size)
    tile = (round(recipe.height * scale), round(recipe.width * scale))
    page = draw.sheet(pictures, columns=1 + len(columns), captions=captions, tile=tile)
    return page, list(columns), [data.ids[row] for row in rows]


def _samples(loader: Loader, count: int) -> dict[str, tuple[Loader, int]]:
    """Each column is one more epoch."""
    return {f"epoch {number}": (loader, number - 1) for number in range(1, count + 1)}


def _strengths(recipe: Recipe, loader: Loader, names: Collection[str]) -> dict[str, tuple[Loader, int]]:
    """Each column is the first epoch at another strength, with the same random numbers."""
    from copy import copy

    from maskwright.training import augment, inputs, tasks

    columns = {}
    pairs = inputs.flip_pairs(recipe, tasks.of(recipe).classes(recipe, loader.samples.data.classes))
    for name in names:
        other = copy(loader)
        other.mix = None
        other.augment = augment.augmenter(name, (recipe.height, recipe.width), flip_pairs=pairs, fit=recipe.fit)
        columns[name] = (other, 0)
    return columns


def _pool(recipe: Recipe, data: Data, count: int) -> Data:
    """The images to choose from, drawn with the training's seed."""
    import numpy as np

    order = np.random.default_rng(recipe.train.seed).permutation(len(data))
    return data.select(order[: max(POOL, 3 * count)])


def _loader(recipe: Recipe, data: Data) -> Loader:
    """What the training would take its batches from, with one image a batch and nobody beside this process."""
    from maskwright.training import inputs

    alone = recipe.train.model_copy(update={"batch": 1, "workers": 0, "cache": "memory"})
    return inputs.make_loader(recipe.model_copy(update={"train": alone}), data)


def _showing(loader: Loader, count: int) -> list[int]:
    """The first `count` samples that show more than one class, filled up with the rest."""
    import numpy as np

    rich: list[int] = []
    poor: list[int] = []
    for row in range(len(loader.samples)):
        labels = loader.samples[row][1]
        known = np.unique(labels)
        (rich if (known < 255).sum() > 1 else poor).append(row)
        if len(rich) == count:
            break
    return sorted((rich + poor)[:count])


def _next(source: str, changes: Mapping[str, Any], strengths: bool) -> list[str]:
    import shlex

    from maskwright.core.yaml_text import flow

    again = [source, *(f"{key}={flow(value)}" for key, value in changes.items())]
    train = shlex.join(["maskwright", "train", *again])
    if strengths:
        return [shlex.join(["maskwright", "preview", *again]), train]
    return [train, "maskwright explain augment", "maskwright explain operation"]
