"""From a recipe and its images to everything the loop needs: network, loader, optimiser, plan, validation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from maskwright.bundles.bundle import Description
from maskwright.bundles.runs import Run
from maskwright.core import events, files, terminal
from maskwright.core.errors import RecipeError
from maskwright.core.recipe import Recipe, check_entry
from maskwright.core.registry import suggestion
from maskwright.core.table import Data
from maskwright.data.prepare import Prepared
from maskwright.imaging.palette import class_colours
from maskwright.models import MODELS, weights
from maskwright.models import device as devices
from maskwright.models.device import Device
from maskwright.models.segmenter import Segmenter, wrap
from maskwright.models.weights import Loaded
from maskwright.prediction import evaluation, with_torch
from maskwright.prediction.predictor import Predictor
from maskwright.training import AUGMENTS, OPTIMIZERS, SCHEDULES, augment, losses, optim
from maskwright.training.cache import Samples
from maskwright.training.estimate import Estimate, estimate
from maskwright.training.loader import Loader
from maskwright.training.loop import Plan, Validated, memory_explained

TRIAL_IMAGES = 3  # validated before the first step, to know how long validation takes


@dataclass(frozen=True)
class Assembled:
    """Everything a training needs, ready to run."""

    recipe: Recipe
    segmenter: Segmenter
    description: Description
    loaded: Loaded
    device: Device
    loader: Loader
    optimizer: Any
    plan: Plan
    estimate: Estimate
    validate: Callable[[], Validated]

    def record(self) -> dict[str, Any]:
        """What run.json says of it."""
        known = self.description
        parameters = sum(p.numel() for p in self.segmenter.parameters())
        return {
            "classes": list(known.classes),
            "colours": [list(c) for c in known.colours],
            "model": {**known.model, "parameters": parameters, "size": list(known.size)},
            "device": {"name": self.device.name, "reason": self.device.reason, "precision": self.device.precision},
            "weights": {
                "source": self.loaded.source,
                "loaded": len(self.loaded.loaded),
                "skipped": len(self.loaded.skipped),
                "text": self.loaded.summary(),
            },
            "estimate": asdict(self.estimate),
        }

    def promise(self) -> str:
        """The estimate in words."""
        e = self.estimate
        return (
            f"{e.epochs} epochs of {len(self.loader)} steps ({self.recipe.train.batch} images each), validation every "
            f"{'epoch' if e.validate_every == 1 else f'{e.validate_every} epochs'}: about {terminal.duration(e.seconds)}, "
            f"{e.memory_gb:.1f} GB"
        )


def check(recipe: Recipe) -> None:
    """Holds every named entry of a recipe against its shelf, before any data is opened. Raises RecipeError."""
    check_entry(MODELS, recipe.model, place="model")
    check_entry(OPTIMIZERS, recipe.train.optimizer, place="train.optimizer")
    check_entry(SCHEDULES, recipe.train.schedule, place="train.schedule")
    check_entry(AUGMENTS, recipe.augment, place="augment")
    losses.criterion(recipe.loss)


def assemble(recipe: Recipe, prepared: Prepared, run: Run, *, resume: bool = False) -> Assembled:
    """Chooses device and precision, builds the network with its weights, the loader, and measures how long it takes."""
    devices.seed_everything(recipe.train.seed)
    device = devices.choose(recipe.train.device, recipe.train.precision)
    events.say(f"device: {device.reason}")
    description = describe(recipe, prepared.classes)
    network = MODELS[recipe.model.name](len(prepared.classes), **recipe.model.options)
    start = recipe.model
    loaded = weights.load(network, start.weights, normalization=start.normalization, classes=prepared.classes)
    events.say(f"weights: {loaded.summary()}")
    files.write_text(run.path / "weights.txt", "\n".join([loaded.summary(), *loaded.lines()]) + "\n")
    description = replace(description, normalization=loaded.normalization)
    segmenter = wrap(network, description.normalization)
    segmenter.criterion = losses.criterion(recipe.loss)
    segmenter = device.place(segmenter)
    loader = make_loader(recipe, prepared)
    predictor = Predictor(with_torch.live(segmenter), description, runtime="torch")
    with memory_explained(recipe.train, lambda: "the trial step before the training"):
        measured = _estimate(segmenter, recipe, device, prepared, predictor, loader)
    epochs = _settled_epochs(run, resume) or measured.epochs
    measured = replace(measured, epochs=epochs, seconds=measured.seconds * epochs / measured.epochs)
    plan = Plan(epochs, measured.validate_every, _factor(recipe, len(loader)), run.checkpoints, resume)
    chosen, factor = recipe.train.optimizer, recipe.train.encoder_lr if loaded.loaded else 1.0
    optimizer = optim.build(segmenter, chosen.name, chosen.options, encoder=network.encoder, encoder_lr=factor)
    validate = _validation(segmenter, device, prepared, predictor, recipe)
    return Assembled(recipe, segmenter, description, loaded, device, loader, optimizer, plan, measured, validate)


def describe(recipe: Recipe, classes: tuple[str, ...]) -> Description:
    colours = tuple((int(r), int(g), int(b)) for r, g, b in class_colours(classes)[: len(classes)])
    model = {"name": recipe.model.name, **recipe.model.options}
    return Description(classes, colours, (recipe.height, recipe.width), recipe.fit, model)


def make_loader(recipe: Recipe, prepared: Prepared) -> Loader:
    """The augmented training batches."""
    ranges = AUGMENTS[recipe.augment.name](**recipe.augment.options)
    swaps = flip_pairs(recipe, prepared.classes)
    return Loader(
        _samples(recipe, prepared.train),
        augment.augmenter(ranges, (recipe.height, recipe.width), flip_pairs=swaps, fit=recipe.fit),
        batch=recipe.train.batch,
        seed=recipe.train.seed,
        weights={number: source.weight for number, source in enumerate(recipe.data) if source.weight != 1},
        workers=recipe.train.workers,
    )


def _validation_loader(recipe: Recipe, prepared: Prepared) -> Loader:
    """The validation images as they are, each once, for the validation loss."""
    plain = augment.augmenter(AUGMENTS["none"](), (recipe.height, recipe.width), fit=recipe.fit)
    settings = recipe.train
    samples = _samples(recipe, prepared.val)
    return Loader(samples, plain, batch=settings.batch, leftover=True, seed=settings.seed, workers=0)


def _samples(recipe: Recipe, data: Data) -> Samples:
    size, settings = (recipe.height, recipe.width), recipe.train
    indices = np.arange(len(data))
    return Samples(data, indices, size=size, fit=recipe.fit, cache=settings.cache, cache_gb=settings.cache_gb)


def flip_pairs(recipe: Recipe, classes: tuple[str, ...]) -> list[tuple[int, int]]:
    """Class indices that a flip swaps, as the recipe lists them or as their names propose, said aloud."""
    if recipe.flip_pairs == "auto":
        pairs = augment.propose_flip_pairs(classes)
        if pairs:
            names = ", ".join(f"{classes[a]} <-> {classes[b]}" for a, b in pairs)
            events.say(f"flips swap left and right: {names} (flip_pairs: auto)")
        return pairs
    for pair in recipe.flip_pairs:
        for name in pair:
            if len(pair) != 2 or name not in classes:
                raise RecipeError(f"`{name}` is no pair of classes", place="flip_pairs", hint=suggestion(name, classes))
    return [(classes.index(a), classes.index(b)) for a, b in recipe.flip_pairs]


def _settled_epochs(run: Run, resume: bool) -> int | None:
    """A resumed training keeps the length that was settled on when it began."""
    return int(run.record["estimate"]["epochs"]) if resume and "estimate" in run.record else None


def _factor(recipe: Recipe, steps_per_epoch: int) -> Callable[[int, int], float]:
    shape = optim.schedule(recipe.train.schedule.name, recipe.train.schedule.options)
    warmup = round(recipe.train.warmup * steps_per_epoch)
    return lambda step, total: optim.warmed_up(shape, step, total, warmup)


def _estimate(
    segmenter: Segmenter, recipe: Recipe, device: Device, prepared: Prepared, predictor: Predictor, loader: Loader
) -> Estimate:
    few = prepared.val.select(np.arange(min(TRIAL_IMAGES, len(prepared.val))))

    def validate_some() -> float:
        began = time.perf_counter()
        evaluation.evaluate(predictor, few, resamples=0)
        return (time.perf_counter() - began) / len(few)

    batch = min(recipe.train.batch, len(prepared.train))
    return estimate(
        segmenter,
        recipe,
        device,
        batch=batch,
        steps_per_epoch=len(loader),
        validate_some=validate_some,
        num_validation=len(prepared.val),
    )


def _validation(
    segmenter: Segmenter, device: Device, prepared: Prepared, predictor: Predictor, recipe: Recipe
) -> Callable[[], Validated]:
    """Scores on original pixels through the Predictor, and the loss of the fitted validation images."""
    loader = _validation_loader(recipe, prepared)

    def validate() -> Validated:
        scores = evaluation.evaluate(predictor, prepared.val, label="validate", resamples=0)
        segmenter.eval()
        losses = []
        with torch.inference_mode(), device.autocast():
            for batch in loader.epoch(0):
                images = device.layout(batch.images.to(device.device).float())
                values = segmenter(images, batch.targets.to(device.device).long())
                losses += [float(sum(values.values()))] * len(batch.ids)
        miou = scores["miou"] or 0.0  # None where every pixel is void
        found = {"val_loss": sum(losses) / len(losses), "val_miou": miou}
        return Validated(miou, found | {"val_pixel_accuracy": scores["pixel_accuracy"]})

    return validate
