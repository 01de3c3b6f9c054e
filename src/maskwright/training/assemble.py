"""From a recipe and its images to everything the loop needs: network, loader, optimiser, plan, validation."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch

from maskwright.bundles.bundle import Description
from maskwright.bundles.runs import Run
from maskwright.core import events, files, terminal
from maskwright.core.errors import ModelError, RecipeError
from maskwright.core.recipe import Model, Recipe, Training, check_entry
from maskwright.core.words import counted
from maskwright.data.prepare import Prepared
from maskwright.imaging.palette import class_colours
from maskwright.models import OF_TASK, weights
from maskwright.models import device as devices
from maskwright.models.build import AnySegmenter, wrapped
from maskwright.models.device import Device
from maskwright.models.norms import freeze_statistics
from maskwright.models.weights import Loaded
from maskwright.prediction import scoring
from maskwright.prediction.predictor import AnyPredictor
from maskwright.training import OPTIMIZERS, augment, batch_size, layers, optim, plan, schedules, tasks
from maskwright.training.estimate import Estimate, estimate
from maskwright.training.inputs import flip_pairs, make_loader, validation_loader
from maskwright.training.loader import Loader
from maskwright.training.loop import memory_explained, on_device
from maskwright.training.plan import Plan
from maskwright.training.watch import Validated

TRIAL_IMAGES = 3  # validated before the first step, to know how long validation takes
FEW = 4  # images a step; below it statistics of pretrained layers are better than those of the batch


@dataclass(frozen=True)
class Assembled:
    """Everything a training needs, ready to run. recipe: with what was settled on (batch). validate: None with `val: none`."""

    recipe: Recipe
    segmenter: AnySegmenter
    description: Description
    loaded: Loaded
    device: Device
    loader: Loader
    optimizer: Any
    plan: Plan
    estimate: Estimate
    validate: Callable[[], Validated] | None

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
        e, settings = self.estimate, self.recipe.train
        batch = counted(self.loader.batch, "image")
        each = f"{batch} each" if settings.accumulate == 1 else f"{settings.accumulate} x {batch} each"
        every = "every epoch" if e.validate_every == 1 else f"every {counted(e.validate_every, 'epoch')}"
        validation = f"validation {every}" if self.validate else "no validation"
        most = " at most, as it may stop early" if settings.early_stopping else ""
        return (
            f"{counted(e.epochs, 'epoch')} of {counted(self.plan.steps_per_epoch, 'step')} ({each}), {validation}: "
            f"about {terminal.duration(e.seconds)}{most}, {e.memory_gb:.1f} GB"
        )


def check(recipe: Recipe) -> None:
    """Holds every named entry of a recipe against its shelf, before any data is opened. Raises RecipeError."""
    settings = recipe.train
    _check_model(recipe)
    check_entry(OPTIMIZERS, settings.optimizer, place="train.optimizer")
    schedules.schedule(settings.schedule.name, settings.schedule.options)
    augment.check(recipe.augment)
    tasks.of(recipe).check(recipe)
    if recipe.val == "none":
        hint = "leave out `val: none`"
        if settings.schedule.name == "plateau":
            raise RecipeError("`plateau` goes by the validation score, and nothing validates", place="val", hint=hint)
        if settings.early_stopping:
            raise RecipeError(
                "early stopping goes by the validation score, and nothing validates", place="val", hint=hint
            )


def _check_model(recipe: Recipe) -> None:
    """Raises RecipeError for a network or an option that is not there, and for a network of another task."""
    name = recipe.model.name
    for task, shelf in OF_TASK.items():
        if task != recipe.task and name in shelf and name not in OF_TASK[recipe.task]:
            hint = f"set `task: {task}`, or choose a network of this task: {', '.join(OF_TASK[recipe.task])}"
            raise RecipeError(
                f"`{name}` is a network of `task: {task}`, not {recipe.task}", place="model.name", hint=hint
            )
    check_entry(OF_TASK[recipe.task], recipe.model, place="model")


def assemble(recipe: Recipe, prepared: Prepared, run: Run, *, resume: bool = False) -> Assembled:
    """Chooses device and precision, builds the network with its weights, the loader, and measures how long it takes."""
    tasks.of(recipe).check_data(prepared.data)
    devices.seed_everything(recipe.train.seed)
    device = devices.choose(recipe.train.device, recipe.train.precision)
    events.say(f"device: {device.reason}")
    task, settled = tasks.of(recipe), run.record.get("estimate", {}) if resume else {}
    classes = task.classes(recipe, prepared.classes)
    description = describe(recipe, classes)
    _say_flip_pairs(recipe, description)
    network = _network(recipe, len(classes))
    start = recipe.model
    loaded = _weights(network, start, classes)
    events.say(f"weights: {loaded.summary()}" + ("; weights.txt in the run names each" if loaded.loaded else ""))
    if not loaded.loaded and recipe.train.encoder_lr not in (1, Training.model_fields["encoder_lr"].default):
        events.warn("train.encoder_lr: the encoder has no pretrained weights, so it learns at the rate of the others")
    files.write_text(run.path / "weights.txt", "\n".join([loaded.summary(), *loaded.lines()]) + "\n")
    options = getattr(network, "options", start.options)  # some networks know better how they are built again elsewhere
    description = replace(description, normalization=loaded.normalization, model={"name": start.name, **options})
    optimizer = _optimizer(recipe, network, loaded)
    segmenter = wrapped(network, description.normalization, recipe.task)
    task.equip(segmenter, recipe, classes, prepared)
    segmenter = device.place(segmenter)
    before = device.peak_memory()
    with memory_explained(recipe.train, lambda: "the trial step before the training"):
        recipe = _with_batch(recipe, segmenter, device, len(prepared.train), settled.get("batch"))
        loader = make_loader(recipe, prepared.train)
        _hold_norms(recipe, network, loaded, loader.batch)
        predictor = task.predictor(segmenter, description)
        measured = _estimate(segmenter, recipe, device, prepared, predictor, loader, settled, before)
    following = Plan(
        plan.stretches(recipe.train, measured.epochs, network),
        len(loader),
        schedules.schedule(recipe.train.schedule.name, recipe.train.schedule.options),
        run.checkpoints,
        validate_every=measured.validate_every,
        warmup=recipe.train.warmup,
        accumulate=recipe.train.accumulate,
        stopping=recipe.train.early_stopping,
        resume=resume,
    )
    _warn_of_warmup(following)
    validate = _validation(segmenter, device, prepared, predictor, recipe) if len(prepared.val) else None
    return Assembled(recipe, segmenter, description, loaded, device, loader, optimizer, following, measured, validate)


def _network(recipe: Recipe, num_classes: int) -> torch.nn.Module:
    """The bare network of a recipe. Raises RecipeError, with its key, for options that it refuses."""
    try:
        network: torch.nn.Module = OF_TASK[recipe.task][recipe.model.name](num_classes, **recipe.model.options)
    except RecipeError as error:
        raise RecipeError(error.what, place=error.place or "model", hint=error.hint) from error
    tasks.of(recipe).check_network(recipe, network)
    return network


def _weights(network: torch.nn.Module, start: Model, classes: tuple[str, ...]) -> Loaded:
    """Sets the weights a network starts from. Raises ModelError, with the key of the recipe, for a file that it refuses."""
    try:
        return weights.load(network, start.weights, normalization=start.normalization, classes=classes)
    except ModelError as error:
        if start.weights == "auto":  # nobody named that file in the recipe
            raise
        raise ModelError(error.what, place=f"model.weights: {error.place}", hint=error.hint) from error


def describe(recipe: Recipe, classes: tuple[str, ...]) -> Description:
    """What a bundle says of a recipe's model before anything is trained. Raises RecipeError for `flip_pairs` of no classes."""
    colours = tuple((int(r), int(g), int(b)) for r, g, b in class_colours(classes)[: len(classes)])
    return Description(
        classes,
        colours,
        (recipe.height, recipe.width),
        recipe.fit,
        {"name": recipe.model.name, **recipe.model.options},
        tta=recipe.tta.model_dump(),
        flip_pairs=tuple(flip_pairs(recipe, classes)),
        base_size=recipe.base_size,
        multilabel=recipe.multilabel,
        task=recipe.task,
    )


def _optimizer(recipe: Recipe, network: torch.nn.Module, loaded: Loaded) -> torch.optim.Optimizer:
    """The optimiser; also holds the layers that the recipe names, in `layer_lr`, `freeze` and `stages`, against the network."""
    settings = recipe.train
    layers.matching(network, settings.freeze, "train.freeze")
    for stretch in plan.stretches(settings, 1, network):
        layers.freeze(network, stretch.freeze, stretch.place)
    return optim.build(
        network,
        settings.optimizer.name,
        settings.optimizer.options,
        encoder=network.encoder,  # type: ignore[arg-type]
        encoder_lr=settings.encoder_lr if loaded.loaded else 1.0,
        layer_lr=settings.layer_lr,
        never=settings.freeze,
    )


def _warn_of_warmup(plan: Plan) -> None:
    for stretch in plan.stretches:
        if stretch.epochs <= plan.warmup:
            what = f"warmup: {plan.warmup:g} epochs are all of a part of {counted(stretch.epochs, 'epoch')}"
            events.warn(f"{what}, whose learning rate never comes to its height")


def _with_batch(recipe: Recipe, segmenter: AnySegmenter, device: Device, images: int, settled: int | None) -> Recipe:
    """`batch: auto` becomes a number: the one settled on before, or what fits into memory."""
    if recipe.train.batch != "auto":
        return recipe
    if settled is None:
        settled, why = batch_size.fitting(segmenter, recipe, device, images)
        events.say(f"batch: {counted(settled, 'image')} a step ({why})")
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"batch": settled})})


def _hold_norms(recipe: Recipe, network: torch.nn.Module, loaded: Loaded, batch: int) -> None:
    """Makes BatchNorm layers keep the statistics of their weights. Raises RecipeError for a batch of one and layers without."""
    norms, setting = layers.batch_norms(network), recipe.train.freeze_norms
    known = [name for name in norms if f"{name}.running_mean" in loaded.loaded]
    few = batch < FEW or recipe.task == "instance"  # networks that find objects are trained with frozen statistics
    held = known if setting is True or (setting == "auto" and few) else []
    for name in held:
        freeze_statistics(norms[name])
    if setting is True and not known:
        events.warn("freeze_norms: no BatchNorm layer came with statistics, so none keeps them")
    if setting == "auto" and held:
        why = f"{counted(batch, 'image is', 'images are')} too few a step for their own"
        why = why if batch < FEW else "networks that find objects are trained so"
        kept = f"{len(held)} of {counted(len(norms), 'BatchNorm layer')} keep the statistics of their weights"
        events.say(f"{kept}, as {why} (train.freeze_norms: auto)")
    live = sum(name not in held for name in norms)
    if recipe.train.batch == 1 and setting == "auto" and live:
        hint = (
            "2 images or more (8 and more are better), or `train.freeze_norms: false` to train like this all the same"
        )
        what = f"{counted(live, 'BatchNorm layer')} would have to learn their statistics from one image at a time"
        raise RecipeError(what, place="train.batch", hint=hint)
    if batch == 1 and setting == "auto" and live:
        events.warn(f"one training image: {live} BatchNorm layers learn their statistics from it alone")


def _say_flip_pairs(recipe: Recipe, description: Description) -> None:
    if recipe.flip_pairs == "auto" and description.flip_pairs:
        classes = description.classes
        names = ", ".join(f"{classes[a]} <-> {classes[b]}" for a, b in description.flip_pairs)
        events.say(f"flips swap left and right: {names} (flip_pairs: auto)")


def _estimate(
    segmenter: AnySegmenter,
    recipe: Recipe,
    device: Device,
    prepared: Prepared,
    predictor: AnyPredictor,
    loader: Loader,
    settled: Mapping[str, Any],
    before: int,
) -> Estimate:
    """How long it takes; a resumed training keeps the length and the validations that were settled on when it began."""
    few = prepared.val.select(np.arange(min(TRIAL_IMAGES, len(prepared.val))))

    def validate_some() -> float:
        if not len(few):
            return 0.0
        began = time.perf_counter()
        scoring.evaluate(predictor, few, resamples=0)
        return (time.perf_counter() - began) / len(few)

    measured = estimate(
        segmenter,
        recipe,
        device,
        batch=loader.batch,
        batches_per_epoch=len(loader),
        validate_some=validate_some,
        num_validation=len(prepared.val),
        before=before,
        cached=loader.samples.cache_bytes if loader.samples.where == "memory" else 0,
    )
    if not settled:
        return measured
    seconds = measured.seconds * settled["epochs"] / measured.epochs
    return replace(measured, epochs=settled["epochs"], seconds=seconds, validate_every=settled["validate_every"])


def _validation(
    segmenter: AnySegmenter, device: Device, prepared: Prepared, predictor: AnyPredictor, recipe: Recipe
) -> Callable[[], Validated]:
    """Scores on original pixels through the Predictor, and the loss of the fitted validation images."""
    loader, task = validation_loader(recipe, prepared.val), tasks.of(recipe)

    def validate() -> Validated:
        scores = scoring.evaluate(predictor, prepared.val, label="validate", resamples=0)
        segmenter.eval()
        losses = []
        with torch.inference_mode(), device.autocast():
            for batch in loader.epoch(0):
                values = segmenter(*on_device(batch, device))
                losses += [float(sum(values.values()))] * len(batch.ids)
        score, told = task.validated(scores)
        return Validated(score, {"val_loss": sum(losses) / len(losses), **told})

    return validate
