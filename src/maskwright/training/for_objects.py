"""Training of networks that find objects, each with its box and mask: what differs from `for_pixels`."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from maskwright.bundles.bundle import PLAIN, Description
from maskwright.core import events
from maskwright.core.errors import DataError, RecipeError
from maskwright.core.recipe import Recipe
from maskwright.core.table import Data
from maskwright.core.types import VOID, ObjectNetwork
from maskwright.data.prepare import Prepared
from maskwright.imaging.objects import has_objects, objects_of
from maskwright.imaging.palette import after_nothing, class_colours
from maskwright.metrics.instance_scores import InstanceScores
from maskwright.models.instance_segmenter import InstanceSegmenter, Layers
from maskwright.prediction import with_torch
from maskwright.prediction.evaluation import THREADS, ordered
from maskwright.prediction.instances import InstancePredictor
from maskwright.tasks import instance
from maskwright.training import mix
from maskwright.training import truth as truths
from maskwright.training.truth import Truth

TRIAL_OBJECTS = 40  # of an image of a trial step: as many masks to draw as once proposals have learnt to lie on objects
SCATTER = 1.5  # see `estimate.grown`; the masks of each step are another number
MANY_PLANES = 16  # objects over each other: beyond, samples are large


def check(recipe: Recipe) -> None:
    """Raises RecipeError for what this task does not know; keys of pixels alone no such recipe has (`core.recipe`)."""
    if recipe.fit == "crop":
        hint = "`pad` keeps the aspect of whole images"
        raise RecipeError("objects are found in whole images", place="fit", hint=hint)
    mix.check(recipe.mix)
    for number, entry in enumerate(recipe.mix):
        if entry.name == "copy_paste":
            continue
        raise RecipeError(f"`{entry.name}` is for models that label pixels", place=f"mix.{number}", hint="leave it out")


def check_network(recipe: Recipe, network: torch.nn.Module) -> None:
    """Every network of this task can do what a recipe asks."""


def classes(recipe: Recipe, names: tuple[str, ...]) -> tuple[str, ...]:
    """What objects can be: the classes of the data but the background. Raises DataError when there are none."""
    found = tuple(names[index] for index in instance.channels(names))
    if not found:
        raise DataError("the data have no class but the background", place=recipe.data[0].path)
    return found


def check_data(data: Data) -> None:
    """Raises DataError where labels hold no single objects."""
    for record in data:
        if not has_objects(record):
            hint = (
                "`components: true` in `data` makes each connected piece of a class an object, or set `task: semantic`"
            )
            raise DataError("has classes, but no single objects", place=record.label_map, hint=hint)


def truth(recipe: Recipe, data: Data) -> Truth:
    """What samples have beside their images. Looks at every record. Raises what `check_data` raises."""
    check_data(data)
    laid = ordered(lambda record: len(instance.layered(objects_of(record, data.classes))), data, THREADS)
    planes = list(events.progress(laid, "laying objects into planes", len(data)))
    most = max(planes, default=0)
    if most > MANY_PLANES:
        megabytes = most * recipe.height * recipe.width / 1e6
        events.warn(
            f"in {data.ids[planes.index(most)]} up to {most} objects lie over each other, so each sample takes {megabytes:.0f} "
            "MB; leave such images out, or drop the class that covers others with `data.classes`"
        )
    return truths.Layers(data.classes, max(most, 1))


def equip(segmenter: InstanceSegmenter, recipe: Recipe, names: tuple[str, ...], prepared: Prepared) -> None:
    """The network has its losses."""


def trial_targets(segmenter: InstanceSegmenter, recipe: Recipe, images: torch.Tensor) -> Layers:
    """Targets for a trial step on random pixels: squares in rows."""
    number, (height, width) = len(images), images.shape[2:]
    layers = torch.zeros((number, 1, height, width), dtype=torch.uint8, device=images.device)
    table = torch.zeros((number, 1, 256), dtype=torch.uint8, device=images.device)
    rows, columns = 5, TRIAL_OBJECTS // 5
    for index in range(TRIAL_OBJECTS):
        top, left = index // columns * height // rows, index % columns * width // columns
        layers[:, 0, top : top + height // rows * 3 // 4, left : left + width // columns * 3 // 4] = index + 1
        table[:, 0, index + 1] = 1
    return Layers(layers, table)


def predictor(segmenter: InstanceSegmenter, description: Description) -> InstancePredictor:
    """Of the segmenter as it is at each call."""
    return InstancePredictor(with_torch.live_objects(segmenter), description, runtime="torch", tta=PLAIN)


def validated(scores: InstanceScores) -> tuple[float | None, dict[str, Any]]:
    """The score that decides which epoch is best (None where no image has an object), and what is told of a validation."""
    told = {f"val_{name}": scores[name] for name in ("mask_ap", "mask_ap50", "box_ap")}
    return scores["mask_ap"], told


def fixed_output(network: ObjectNetwork, pixels: np.ndarray) -> dict[str, Any]:
    """What the network answers to fixed pixels: how many objects it finds, and the first of them."""
    boxes, labels, scores, _ = network(pixels)
    return {
        "found": len(labels),
        "boxes": [[round(float(v), 3) for v in box] for box in boxes[:4]],
        "labels": [int(label) for label in labels[:4]],
        "scores": [round(float(score), 5) for score in scores[:4]],
    }


def loss_of(segmenter: InstanceSegmenter) -> None:
    """The losses of one image depend on proposals drawn at random: none is told."""


def colours(recipe: Recipe, names: tuple[str, ...]) -> np.ndarray:
    """Of what `flat` gives: uint8 (256, 3). names: classes of the data."""
    return after_nothing(class_colours(classes(recipe, names)))


def flat(arrays: tuple[np.ndarray, ...]) -> np.ndarray:
    """The labels of a sample as one map of class numbers, to be shown: objects of later layers lie on top.

    VOID where no object is and pixels count nowhere.
    """
    layers, table = arrays
    shown = np.where((layers == instance.IGNORED).any(axis=0), VOID, 0).astype(np.uint8)
    for layer, of in zip(layers, table, strict=True):
        kinds = of[layer]
        shown = np.where(kinds > 0, kinds, shown)
    return shown
