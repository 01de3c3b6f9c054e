"""The loop: a segmenter, a loader and a plan become trained weights. Everything around it is told through events."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from maskwright.core import events
from maskwright.core.errors import Interrupted, ModelError, OutOfMemory
from maskwright.core.recipe import Training
from maskwright.models.device import Device, is_out_of_memory
from maskwright.models.segmenter import Segmenter
from maskwright.training import checkpoint
from maskwright.training.checkpoint import Position
from maskwright.training.loader import Loader

STEPS_TOLD = 20  # step events an epoch


@dataclass(frozen=True)
class Validated:
    """What a validation found; `score` decides which epoch is best."""

    score: float
    fields: dict[str, Any]  # told with the epoch's event


@dataclass(frozen=True)
class Plan:
    """How long, how fast, and where to. factor: (step, total steps) -> factor of the learning rate."""

    epochs: int
    validate_every: int
    factor: Callable[[int, int], float]
    checkpoints: Path
    resume: bool = False

    @property
    def last(self) -> Path:
        return self.checkpoints / "last.pt"

    @property
    def best(self) -> Path:
        return self.checkpoints / "best.pt"


def train(
    segmenter: Segmenter,
    loader: Loader,
    optimizer: torch.optim.Optimizer,
    device: Device,
    plan: Plan,
    settings: Training,
    validate: Callable[[], Validated],
) -> Position:
    """Trains until `plan.epochs` are done; best.pt then holds the weights of the best validation.

    Raises Interrupted on Ctrl-C (after saving), OutOfMemory, and ModelError when the loss is no longer a number.
    """
    scaler = device.scaler()
    parts = {"segmenter": segmenter, "optimizer": optimizer, "scaler": scaler}
    at = checkpoint.restore(plan.last, **parts) if plan.resume else Position(epochs=plan.epochs)
    rates = [group["initial_lr"] for group in optimizer.param_groups]
    total_steps = plan.epochs * len(loader)
    with _stop_asked() as asked, memory_explained(settings, lambda: f"epoch {at.epoch + 1}, step {at.step + 1}"):
        while at.epoch < plan.epochs:
            watch = _Watch(at, plan, len(loader), device)
            segmenter.train()
            for batch in watch.waiting(loader.epoch(at.epoch, at.batch)):
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = rate * plan.factor(at.step, total_steps)
                images = device.layout(batch.images.to(device.device, non_blocking=True).float())
                with device.autocast():
                    losses = segmenter(images, batch.targets.to(device.device, non_blocking=True).long())
                total = torch.stack(list(losses.values())).sum()
                scaler.scale(total).backward()
                scaler.step(optimizer)
                scaler.update()
                optimizer.zero_grad(set_to_none=True)
                watch.step(losses, optimizer.param_groups[0]["lr"], len(batch.ids))
                if asked.is_set():
                    checkpoint.save(plan.last, at, **parts)
                    raise Interrupted("stopped after saving")
            at.epoch, at.batch = at.epoch + 1, 0
            due = at.epoch % plan.validate_every == 0 or at.epoch == plan.epochs
            validated = validate() if due else None
            better = validated is not None and validated.score > at.best
            if validated is not None and better:
                at.best, at.best_epoch = validated.score, at.epoch
                checkpoint.save_weights(plan.best, segmenter)
            watch.epoch(validated, better)
            checkpoint.save(plan.last, at, **parts)
    return at


class _Watch:
    """Counts one epoch and tells of it: losses, speed, the share of time spent waiting for data, memory."""

    def __init__(self, at: Position, plan: Plan, batches: int, device: Device):
        self.at, self.plan, self.batches, self.device = at, plan, batches, device
        self.began, self.waited, self.images, self.steps = time.perf_counter(), 0.0, 0, 0
        self.sums: dict[str, torch.Tensor] = {}
        self.every = max(1, batches // STEPS_TOLD)
        self.train_seconds = 0.0
        self.learning_rate = 0.0

    def waiting(self, batches: Iterator[Any]) -> Iterator[Any]:
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - began
            if batch is None:
                self.train_seconds = time.perf_counter() - self.began
                return
            yield batch

    def step(self, losses: dict[str, torch.Tensor], learning_rate: float, images: int) -> None:
        at = self.at
        at.step, at.batch, at.samples = at.step + 1, at.batch + 1, at.samples + images
        self.images, self.steps = self.images + images, self.steps + 1
        self.learning_rate = learning_rate
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        if at.batch % self.every and at.batch != self.batches:
            return
        loss = float(sum(value.detach() for value in losses.values()))
        if not all(math.isfinite(float(value)) for value in self.sums.values()):
            raise ModelError(
                f"the loss is no longer a number (epoch {at.epoch + 1}, step {at.step})",
                hint="lower `train.optimizer.lr`, add `train.warmup`, or set `train.precision: fp32`",
            )
        events.emit("step", step=at.step, samples=at.samples, loss=loss, lr=learning_rate)
        total = self.plan.epochs * self.batches
        events.emit("progress", label="train", done=at.step, total=total, unit="steps", note=self._note(loss))

    def epoch(self, validated: Validated | None, best: bool) -> None:
        at = self.at
        seconds = time.perf_counter() - self.began
        at.seconds += seconds
        losses = {name: float(value) / max(self.steps, 1) for name, value in self.sums.items()}
        fields = {
            "epoch": at.epoch,
            "epochs": self.plan.epochs,
            "samples": at.samples,
            "train_loss": sum(losses.values()),
            "losses": losses,
            "lr": self.learning_rate,
            "images_per_second": round(self.images / max(self.train_seconds, 1e-9), 2),
            "waiting": round(self.waited / max(self.train_seconds, 1e-9), 4),
            "peak_memory_gb": round(self.device.peak_memory_gb(), 3),
            "seconds": round(seconds, 3),
            "best": best,
            **(validated.fields if validated else {}),
        }
        at.history.append(fields)
        events.emit("epoch", **fields)
        if at.epoch == self.plan.epochs:
            events.emit("progress", label="train", done=at.step, total=at.step, ended=True)

    def _note(self, loss: float) -> str:
        elapsed = max(time.perf_counter() - self.began, 1e-9)
        return (
            f"epoch {self.at.epoch + 1}/{self.plan.epochs}  loss {loss:.3f}  {self.images / elapsed:.1f} images/s  "
            f"waiting {100 * self.waited / elapsed:.0f} %  {self.device.peak_memory_gb():.1f} GB"
        )


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
