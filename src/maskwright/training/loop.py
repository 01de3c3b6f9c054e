"""The loop: a segmenter, a loader and a plan become trained weights. Everything around it is told through events."""

from __future__ import annotations

import math
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from maskwright.core import events
from maskwright.core.errors import Interrupted, ModelError, OutOfMemory
from maskwright.core.recipe import Training
from maskwright.core.words import counted
from maskwright.models.build import AnySegmenter
from maskwright.models.device import Device, is_out_of_memory
from maskwright.models.instance_segmenter import Layers
from maskwright.training import checkpoint, layers, mix
from maskwright.training.averaging import Average
from maskwright.training.batch import Batch
from maskwright.training.checkpoint import Position
from maskwright.training.loader import Loader
from maskwright.training.plan import Plan, Stretch
from maskwright.training.watch import Diverged, Validated, Watch

ADVICE = "lower `train.optimizer.lr`, add `train.warmup` or `train.clip`, or set `train.precision: fp32`"


def train(
    segmenter: AnySegmenter,
    loader: Loader,
    optimizer: torch.optim.Optimizer,
    device: Device,
    plan: Plan,
    settings: Training,
    validate: Callable[[], Validated] | None,
) -> Position:
    """Trains until `plan.epochs` are done or it stops early; best.pt then holds the weights of the best validation.

    With `ema` the averaged weights are validated and kept. Without `validate` best.pt holds the last weights. When the
    loss is no longer a number, training goes back to the last saved state with half the learning rate, once.

    Raises Interrupted on Ctrl-C (after saving), OutOfMemory, and ModelError when the loss is no number a second time.
    """
    scaler = device.scaler()
    average = Average(segmenter, settings.ema) if settings.ema else None
    parts = {"segmenter": segmenter, "optimizer": optimizer, "scaler": scaler, "average": average}
    at = checkpoint.restore(plan.last, **parts) if plan.resume else Position(epochs=plan.epochs)
    stage: Stretch | None = None
    with _stop_asked() as asked, memory_explained(settings, lambda: f"epoch {at.epoch + 1}, step {at.step + 1}"):
        if not plan.resume:
            checkpoint.save(plan.last, at, **parts)
        while at.epoch < plan.epochs and not at.ended:
            watch = Watch(at, plan, device)
            enter_epoch(segmenter, plan, at.epoch)
            stage = _stage(stage, segmenter, optimizer, plan, at)
            try:
                for batch in watch.waiting(loader.epoch(at.epoch, at.batch)):
                    images, targets = on_device(batch, device)
                    with device.autocast():
                        losses = segmenter(images, targets)
                    total = torch.stack(list(losses.values())).sum()
                    scaler.scale(total * _share(len(batch.ids), at.batch, loader, plan)).backward()
                    watch.batch(losses, total, batch.ids)
                    if at.batch % plan.accumulate and at.batch < plan.batches:
                        continue
                    _set_rates(optimizer, plan.factor(at))
                    if settings.clip is not None:
                        scaler.unscale_(optimizer)
                        torch.nn.utils.clip_grad_norm_(segmenter.parameters(), settings.clip)
                    scaler.step(optimizer)
                    scaler.update()
                    optimizer.zero_grad(set_to_none=True)
                    watch.step(max(group["lr"] for group in optimizer.param_groups))
                    if average is not None:
                        average.update(at.step)
                    if asked.is_set() and at.batch < plan.batches:
                        watch.check(segmenter)
                        checkpoint.save(plan.last, at, **parts)
                        raise Interrupted("stopped after saving")
                watch.check(segmenter)
            except Diverged as problem:
                optimizer.zero_grad(set_to_none=True)
                at = _gone_back(problem, at, plan, parts)
                continue
            at.epoch, at.batch = at.epoch + 1, 0
            try:
                with average.applied() if average is not None else nullcontext():
                    validated, better = _validated(at, plan, validate, watch.last_ids)
                    if better:
                        checkpoint.save_weights(plan.best, segmenter)
            except Diverged as problem:
                at = _gone_back(problem, at, plan, parts)
                continue
            at.ended = plan.ending(at)
            watch.epoch(validated, better)
            checkpoint.save(plan.last, at, **parts)
            if asked.is_set():
                raise Interrupted("stopped after saving")
    return at


def on_device(batch: Batch, device: Device) -> tuple[Tensor, Tensor | mix.Two | Layers]:
    """Images float32 (B, 3, H, W) and targets as losses take them: int64 (B, H, W), masks as they are, or Layers."""

    def moved(targets: Tensor) -> Tensor:
        targets = targets.to(device.device, non_blocking=True)
        return targets.long() if targets.ndim == 3 and batch.tables is None else targets

    images = device.layout(batch.images.to(device.device, non_blocking=True).float())
    if batch.tables is not None:
        return images, Layers(moved(batch.targets), moved(batch.tables))
    return images, mix.targets(batch, moved)


def enter_epoch(segmenter: AnySegmenter, plan: Plan, epoch: int) -> None:
    """Puts the network into train mode as the stage of this epoch wants it: what is frozen, what keeps its statistics."""
    stretch = plan.stretch(epoch)
    segmenter.train()
    layers.freeze(segmenter.network, stretch.freeze, stretch.place)
    layers.hold_statistics(segmenter.network)


def _stage(
    told: Stretch | None, segmenter: AnySegmenter, optimizer: torch.optim.Optimizer, plan: Plan, at: Position
) -> Stretch:
    """The stage of the epoch that begins; those of a recipe are said aloud, once each. told: the last that was."""
    now = plan.stretch(at.epoch)
    if now is not told and now.place.startswith("train.stages"):
        rate = at.rate * now.lr * max(group["initial_lr"] for group in optimizer.param_groups)
        trained = [parameter.requires_grad for parameter in segmenter.network.parameters()]
        frozen = f", frozen: {now.frozen}" if now.frozen else ""
        events.say(
            f"stage {plan.stretches.index(now) + 1} of {len(plan.stretches)}: {counted(now.epochs, 'epoch')}, lr {rate:g}, "
            f"{sum(trained)} of {counted(len(trained), 'tensor')} trained{frozen}"
        )
    return now


def _share(images: int, batch: int, loader: Loader, plan: Plan) -> float:
    """Part of a step's images that one of its batches holds; the last step of an epoch may have fewer batches."""
    first = batch // plan.accumulate * plan.accumulate
    last = min(first + plan.accumulate, len(loader))
    return images / (min(last * loader.batch, loader.num_used) - first * loader.batch)


def _set_rates(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * factor


def _validated(
    at: Position, plan: Plan, validate: Callable[[], Validated] | None, last: tuple[str, ...]
) -> tuple[Validated | None, bool]:
    """What a validation found, when one is due, and whether the weights as they are now are those to keep.

    last: ids of the epoch's last batch, after which Diverged is raised when the validation loss is no number.
    """
    if validate is None:
        at.best_epoch = at.epoch
        return None, at.epoch == plan.epochs
    if not plan.validates(at.epoch):
        return None, False
    found = validate()
    if not math.isfinite(found.fields.get("val_loss", 0.0)):
        raise Diverged(last)
    if found.score is None:  # nothing to score: the last weights are kept until there is
        at.best_epoch = at.epoch if at.best < 0 else at.best_epoch
        return found, at.best < 0
    better = found.score > at.best or found.score == at.best == 0  # of weights that know nothing, the last
    at.scores.append((at.epoch, found.score))
    if better:
        at.best, at.best_epoch = found.score, at.epoch
    return found, better


def _gone_back(problem: Diverged, at: Position, plan: Plan, parts: dict[str, Any]) -> Position:
    """The last saved state with half the learning rate. Raises ModelError when the training went back before."""
    where = f"epoch {at.epoch + (at.batch > 0)}, step {at.step}"
    ids = ", ".join(problem.ids)
    if at.rescues:
        what = f"the loss is no longer a number ({where}, batch: {ids}), as it was before the learning rate was halved"
        raise ModelError(what, hint=f"{ADVICE}; look at the labels of the images of this batch")
    saved = checkpoint.restore(plan.last, **parts)
    saved.rate, saved.rescues = saved.rate / 2, saved.rescues + 1
    checkpoint.save(plan.last, saved, **parts)
    back_to = f"the end of epoch {saved.epoch}" if saved.epoch else "the start"
    events.warn(
        f"the loss is no longer a number ({where}, batch: {ids}): back to {back_to} with half the learning rate; the next "
        "time training stops",
        ids=list(problem.ids),
        step=at.step,
        back_to=saved.step,
    )
    return saved


@contextmanager
def _stop_asked() -> Iterator[threading.Event]:
    """Ctrl-C (and SIGTERM) set the event instead of tearing a step apart; a second one stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def ask(number: int, frame: Any) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()
        events.warn("stopping after this step; press Ctrl-C again to stop at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def memory_explained(settings: Training, when: Callable[[], str]) -> Iterator[None]:
    """Memory errors inside the block become a sentence that says what to lower."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        hint = f"lower `train.batch` (now {settings.batch}), `size`, or `train.cache_gb`"
        raise OutOfMemory(f"memory ran out in {when()}", hint=hint) from error
