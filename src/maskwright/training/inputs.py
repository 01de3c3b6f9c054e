"""From a recipe and images to training batches: what samples hold, how they are changed, the loader.

No network is needed to make them.
"""

from __future__ import annotations

import numpy as np

from maskwright.core.errors import RecipeError
from maskwright.core.recipe import Recipe
from maskwright.core.registry import suggestion
from maskwright.core.table import Data
from maskwright.data import flip_pairs as names
from maskwright.training import augment, mix, tasks
from maskwright.training.cache import Samples
from maskwright.training.loader import Loader


def make_loader(recipe: Recipe, data: Data) -> Loader:
    """The augmented training batches of some images. The batch must be settled (an int)."""
    settings, classes = recipe.train, tasks.of(recipe).classes(recipe, data.classes)
    assert isinstance(settings.batch, int)
    swaps = flip_pairs(recipe, classes)
    loader = Loader(
        _samples(recipe, data),
        augment.augmenter(recipe.augment, (recipe.height, recipe.width), flip_pairs=swaps, fit=recipe.fit),
        batch=settings.batch,
        leftover=not settings.drop_last,
        seed=settings.seed,
        mix=mix.mixer(recipe.mix, classes),
        weights={number: source.weight for number, source in enumerate(recipe.data) if source.weight != 1},
        workers=settings.workers,
    )
    if not len(loader):
        raise RecipeError("the weights of the sources leave no training image", place="data", hint="raise `weight`")
    return loader


def validation_loader(recipe: Recipe, data: Data) -> Loader:
    """The validation images as they are, each once, for the validation loss."""
    plain = augment.augmenter("none", (recipe.height, recipe.width), fit=recipe.fit)
    settings = recipe.train
    assert isinstance(settings.batch, int)
    samples = _samples(recipe, data)
    return Loader(samples, plain, batch=settings.batch, leftover=True, seed=settings.seed, workers=0)


def flip_pairs(recipe: Recipe, classes: tuple[str, ...]) -> list[tuple[int, int]]:
    """Class indices that a flip swaps, as the recipe lists them or as their names propose."""
    if recipe.flip_pairs == "auto":
        return names.proposed(classes)
    seen: set[str] = set()
    for pair in recipe.flip_pairs:
        if len(pair) != 2 or pair[0] == pair[1]:
            hint = "two different classes, as [left_door, right_door]"
            raise RecipeError(f"`[{', '.join(pair)}]` is no pair of classes", place="flip_pairs", hint=hint)
        for name in pair:
            if name not in classes:
                raise RecipeError(f"no class is called `{name}`", place="flip_pairs", hint=suggestion(name, classes))
            if name in seen:
                raise RecipeError(
                    f"`{name}` stands in two pairs", place="flip_pairs", hint="a class has one other side"
                )
            seen.add(name)
    return [(classes.index(a), classes.index(b)) for a, b in recipe.flip_pairs]


def _samples(recipe: Recipe, data: Data) -> Samples:
    settings = recipe.train
    return Samples(
        data,
        np.arange(len(data)),
        size=(recipe.height, recipe.width),
        fit=recipe.fit,
        base_size=recipe.base_size,
        truth=tasks.of(recipe).truth(recipe, data),
        cache=settings.cache,
        cache_gb=settings.cache_gb,
    )
