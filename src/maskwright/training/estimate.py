"""How long a training will take and how much memory it needs, measured on a copy of the network before the first step."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from maskwright.core.recipe import Recipe
from maskwright.models.build import AnySegmenter
from maskwright.models.device import Device
from maskwright.training import tasks

REPEATS = 3
DEFAULT_MINUTES = 10.0
MOST_EPOCHS = 300  # of a training that is bounded by minutes: more passes over few images only memorise them


@dataclass(frozen=True)
class Estimate:
    """epochs: the length settled on. seconds: of the whole training. validate_every: epochs between validations.

    batch: images that go through the network at once.
    """

    epochs: int
    seconds: float
    step_seconds: float
    validation_seconds: float
    validate_every: int
    memory_gb: float
    batch: int


def estimate(
    segmenter: AnySegmenter,
    recipe: Recipe,
    device: Device,
    *,
    batch: int,
    batches_per_epoch: int,
    validate_some: Callable[[], float],
    num_validation: int,
    before: int,
    cached: int,
) -> Estimate:
    """Times a few steps on random pixels and a few validation images, and settles the number of epochs.

    validate_some: predicts and scores a few images and returns the seconds one of them takes.
    before: bytes that were held (`Device.peak_memory`) before the first trial step. cached: bytes of samples that will be
    kept in memory.
    Validation may cost as much time as the training itself; beyond that it runs every few epochs.
    """
    settings = recipe.train
    step_seconds = statistics.median(trial_steps(segmenter, recipe, device, batch, REPEATS + 1)[1:])
    validation = validate_some() * num_validation
    epoch_seconds = step_seconds * batches_per_epoch
    every = settings.validate_every or max(1, round(validation / max(epoch_seconds, 1e-9)))
    each = epoch_seconds + validation / every
    if settings.stages:
        epochs = sum(stage.epochs for stage in settings.stages)
    elif settings.epochs is not None:
        epochs = settings.epochs
    else:
        seconds = 60 * (settings.minutes or DEFAULT_MINUTES)
        epochs = min(MOST_EPOCHS, max(1, int(seconds / each)))
    every = min(every, epochs)
    memory = grown(before, device, tasks.of(recipe).SCATTER) + cached
    return Estimate(epochs, epochs * each, step_seconds, validation, every, memory / 1e9, batch)


def grown(before: int, device: Device, scatter: float) -> int:
    """Bytes that a training will hold, after trial steps. before: bytes that were held when they began.

    On a CPU the heap of a network whose steps differ in size grows `scatter` times as much over hundreds of steps as over
    a few, as blocks of one size leave gaps that those of another do not fill; torch's count on a GPU leaves gaps out.
    """
    peak = device.peak_memory()
    return peak if device.device.type == "cuda" else before + int(scatter * (peak - before))


def trial_steps(segmenter: AnySegmenter, recipe: Recipe, device: Device, batch: int, repeats: int) -> list[float]:
    """Seconds of training steps on random pixels; the segmenter and the random state are left as they were."""
    state = torch.get_rng_state()
    cuda = torch.cuda.get_rng_state(device.device) if device.device.type == "cuda" else None
    trial = copy.deepcopy(segmenter).train()
    average = copy.deepcopy(segmenter) if recipe.train.ema else None
    optimizer = torch.optim.AdamW(trial.parameters(), lr=0.0)  # two moments: the most memory an optimiser of ours takes
    images = torch.randint(0, 256, (batch, 3, *recipe.size), device=device.device).float()
    images = device.layout(images)
    targets = tasks.of(recipe).trial_targets(trial, recipe, images)
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        with device.autocast():
            losses = trial(images, targets)
        sum(losses.values()).backward()
        optimizer.step()
        optimizer.zero_grad()
        device.synchronize()
        times.append(time.perf_counter() - began)
    del average
    torch.set_rng_state(state)
    if cuda is not None:
        torch.cuda.set_rng_state(cuda, device.device)
    return times
