"""Training of networks that give each pixel a class, or a mask to each class: what differs from `for_objects`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from maskwright.bundles.bundle import PLAIN, Description
from maskwright.core import events
from maskwright.core.errors import DataError, RecipeError
from maskwright.core.recipe import Recipe
from maskwright.core.table import Data
from maskwright.core.types import Network
from maskwright.data.prepare import Prepared
from maskwright.imaging.palette import class_colours
from maskwright.metrics.scores import Scores
from maskwright.models.segmenter import Segmenter
from maskwright.prediction import with_torch
from maskwright.prediction.predictor import Predictor
from maskwright.tasks import multilabel
from maskwright.training import mix
from maskwright.training.losses import criterion
from maskwright.training.truth import ClassMasks, LabelMaps, Truth

SCATTER = 1.0  # see `estimate.grown`: all steps are alike


def check(recipe: Recipe) -> None:
    """Raises RecipeError for what this task does not know."""
    mix.check(recipe.mix)
    if recipe.base_size is not None and recipe.fit != "crop":
        hint = "set `fit: crop`, or leave it out"
        raise RecipeError(f"does nothing with `fit: {recipe.fit}`", place="base_size", hint=hint)
    criterion(recipe.loss, multilabel=recipe.multilabel)
    if recipe.multilabel:
        listed = " + ".join(recipe.loss)
        events.say(
            f"classes may overlap (multilabel: true): a sigmoid and a mask each, no background; trained by {listed}"
        )


def check_data(data: Data) -> None:
    """All labels can be painted."""


def check_network(recipe: Recipe, network: torch.nn.Module) -> None:
    """Raises RecipeError for a network that cannot do what the recipe asks."""
    if recipe.multilabel and getattr(network, "implied_background", False):
        what = f"`{recipe.model.name}` has no channel for its first class, which `multilabel: true` needs"
        raise RecipeError(what, place="model", hint="choose another network, such as `lraspp`")


def classes(recipe: Recipe, names: tuple[str, ...]) -> tuple[str, ...]:
    """What the network has a channel for: the classes of the data; where they overlap, all but the background.

    Raises DataError when the background is all there is.
    """
    if not recipe.multilabel:
        return names
    found = tuple(names[index] for index in multilabel.channels(names))
    if not found:
        raise DataError("the data have no class but the background", place=recipe.data[0].path)
    return found


def truth(recipe: Recipe, data: Data) -> Truth:
    """What samples have beside their images."""
    return ClassMasks(multilabel.channels(data.classes)) if recipe.multilabel else LabelMaps()


def equip(segmenter: Segmenter, recipe: Recipe, names: tuple[str, ...], prepared: Prepared) -> None:
    """Gives the segmenter its losses. names: of its channels."""
    pixels = training_pixels(recipe, prepared)
    segmenter.criterion = mix.criterion(criterion(recipe.loss, names, pixels, recipe.multilabel))


def training_pixels(recipe: Recipe, prepared: Prepared) -> np.ndarray:
    """int64 (C,): pixels of the training images of each of `classes`, with hidden ones where they overlap."""
    found, row = prepared.inspected, {id: i for i, id in enumerate(prepared.inspected.data.ids)}
    counts = found.union[:, multilabel.channels(prepared.classes)] if recipe.multilabel else found.pixels
    return np.asarray(counts[[row[id] for id in prepared.train.ids]].sum(axis=0), np.int64)


def trial_targets(segmenter: Segmenter, recipe: Recipe, images: torch.Tensor) -> torch.Tensor:
    """Targets for a trial step on random pixels."""
    if recipe.multilabel:
        with torch.no_grad():
            return torch.zeros_like(segmenter(images), dtype=torch.uint8)
    return torch.zeros((len(images), *images.shape[2:]), dtype=torch.int64, device=images.device)


def predictor(segmenter: Segmenter, description: Description) -> Predictor:
    """Of the segmenter as it is at each call, each image seen once."""
    return Predictor(with_torch.live(segmenter), description, runtime="torch", tta=PLAIN)


def validated(scores: Scores) -> tuple[float | None, dict[str, Any]]:
    """The score that decides which epoch is best (None where every pixel is void), and what is told of a validation."""
    miou = scores["miou"]
    accuracy = {"val_pixel_accuracy": scores["pixel_accuracy"]} if "pixel_accuracy" in scores.headlines else {}
    return miou, {"val_miou": miou, **accuracy}


def fixed_output(network: Network, pixels: np.ndarray) -> dict[str, Any]:
    """What the network answers to fixed pixels: the first logits, and how much of the picture each class gets."""
    logits = network(pixels)[0]
    shares = np.bincount(logits.argmax(0).ravel(), minlength=len(logits)) / logits[0].size
    return {
        "logits": [round(float(v), 5) for v in logits[:, 0, :4].ravel()[:32]],
        "shares": [round(float(v), 4) for v in shares],
    }


def colours(recipe: Recipe, names: tuple[str, ...]) -> np.ndarray:
    """Of what `flat` gives: uint8 (256, 3). names: classes of the data."""
    return class_colours(classes(recipe, names), overlapping=recipe.multilabel)


def flat(arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    """The labels of a sample as one label map, to be shown; masks that may overlap are laid over each other."""
    return multilabel.flat(arrays[0]) if arrays[0].ndim == 3 else arrays[0]


def loss_of(segmenter: Segmenter) -> Callable[[np.ndarray, np.ndarray], float]:
    """The training loss of one image: (logits float32 (C, h, w), labels uint8 (h, w) or (C, h, w)) -> number."""

    criterion = segmenter.criterion
    assert criterion is not None

    def loss(logits: np.ndarray, labels: np.ndarray) -> float:
        values = criterion(torch.from_numpy(logits)[None], torch.from_numpy(labels)[None].long())
        return float(sum(values.values()))

    return loss
