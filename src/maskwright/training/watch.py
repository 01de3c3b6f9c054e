"""Watching a training: counts what is done, tells of it through events, and notices when the loss is no longer a number."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from maskwright.core import events
from maskwright.models.device import Device
from maskwright.training.checkpoint import Position
from maskwright.training.plan import Plan

STEPS_TOLD = 20  # step events an epoch


@dataclass(frozen=True)
class Validated:
    """What a validation found; `score` decides which epoch is best, None where there was nothing to score."""

    score: float | None
    fields: dict[str, Any]  # told with the epoch's event


class Diverged(Exception):
    """The loss, or a weight, is no longer a number. ids: of the batch that showed it first."""

    def __init__(self, ids: tuple[str, ...]):
        super().__init__(", ".join(ids))
        self.ids = ids


class Watch:
    """Counts one epoch and tells of it: losses, speed, the share of time spent waiting for data, memory.

    Losses are looked at a few times an epoch, all since the last look at once: a look makes a GPU wait.
    """

    def __init__(self, at: Position, plan: Plan, device: Device):
        self.at, self.plan, self.device = at, plan, device
        self.began, self.waited, self.images, self.batches = time.perf_counter(), 0.0, 0, 0
        self.sums: dict[str, Tensor] = {}
        self.unseen: list[tuple[Tensor, tuple[str, ...]]] = []
        self.last_ids: tuple[str, ...] = ()
        self.every = max(1, plan.steps_per_epoch // STEPS_TOLD)
        self.train_seconds = 0.0
        self.learning_rate = 0.0

    def waiting(self, batches: Iterator[Any]) -> Iterator[Any]:
        """The batches, with the time that each was waited for."""
        while True:
            began = time.perf_counter()
            batch = next(batches, None)
            self.waited += time.perf_counter() - began
            if batch is None:
                self.train_seconds = time.perf_counter() - self.began
                return
            yield batch

    def batch(self, losses: dict[str, Tensor], total: Tensor, ids: tuple[str, ...]) -> None:
        """Counts one batch."""
        at = self.at
        at.batch, at.samples = at.batch + 1, at.samples + len(ids)
        self.images, self.batches = self.images + len(ids), self.batches + 1
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        self.unseen.append((total.detach(), ids))

    def step(self, learning_rate: float) -> None:
        """Counts one step of the optimiser and tells of some. Raises Diverged."""
        at, self.learning_rate = self.at, learning_rate
        at.step += 1
        if at.step % self.every and at.batch != self.plan.batches:
            return
        loss = self._look()
        events.emit("step", step=at.step, samples=at.samples, loss=loss, lr=learning_rate)
        total = self.plan.epochs * self.plan.steps_per_epoch
        events.emit("progress", label="train", done=at.step, total=total, unit="steps", note=self._note(loss))

    def check(self, module: nn.Module) -> None:
        """Before a state is saved: are all losses and all weights numbers? Raises Diverged."""
        if self.unseen:
            self._look()
        if not all(bool(value.isfinite().all()) for value in module.state_dict().values()):
            raise Diverged(self.last_ids)

    def epoch(self, validated: Validated | None, best: bool) -> None:
        """Tells of the epoch that is done."""
        at = self.at
        seconds = time.perf_counter() - self.began
        at.seconds += seconds
        losses = {name: float(value) / max(self.batches, 1) for name, value in self.sums.items()}
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
        if at.epoch == self.plan.epochs or at.ended:
            events.emit("progress", label="train", done=at.step, total=at.step, ended=True)
        if at.ended:
            events.say(at.ended)

    def _look(self) -> float:
        """The loss of the last batch. Raises Diverged with the first batch whose loss was no number."""
        totals = torch.stack([total for total, _ in self.unseen]).tolist()
        for total, (_, ids) in zip(totals, self.unseen, strict=True):
            if not abs(total) < float("inf"):
                raise Diverged(ids)
        self.last_ids = self.unseen[-1][1]
        self.unseen.clear()
        return float(totals[-1])

    def _note(self, loss: float) -> str:
        elapsed = max(time.perf_counter() - self.began, 1e-9)
        return (
            f"epoch {self.at.epoch + 1}/{self.plan.epochs}  loss {loss:.3f}  {self.images / elapsed:.1f} images/s  "
            f"waiting {100 * self.waited / elapsed:.0f} %  {self.device.peak_memory_gb():.1f} GB"
        )
