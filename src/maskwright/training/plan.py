"""The plan of a training: its stages, the learning rate at every step, when to validate and when to stop early.

Everything here is a pure function of the Position, so that a resumed training goes on exactly where it stopped. The
schedule, with its warm-up, runs anew in every stage: a stage is a training of its own that starts from the weights before.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from maskwright.core.recipe import Stopping, Training
from maskwright.core.words import counted
from maskwright.training import layers
from maskwright.training.checkpoint import Position
from maskwright.training.schedules import Moment, Schedule, since_better, warmed_up


@dataclass(frozen=True)
class Stretch:
    """One stage. first: the epoch it begins with, from 0. lr: factor. freeze: patterns of layers. place: its recipe key.

    frozen: the same in the words of the recipe.
    """

    first: int
    epochs: int
    lr: float = 1.0
    freeze: tuple[str, ...] = ()
    place: str = "train.freeze"
    frozen: str = ""


@dataclass(frozen=True)
class Plan:
    """How long, how fast, and where to.

    warmup: epochs at the start of every stage. accumulate: batches whose gradients make one step.
    batches: of an epoch.
    """

    stretches: tuple[Stretch, ...]
    batches: int
    shape: Schedule
    checkpoints: Path
    validate_every: int = 1
    warmup: float = 0.0
    accumulate: int = 1
    stopping: Stopping | None = None
    resume: bool = False

    @property
    def last(self) -> Path:
        return self.checkpoints / "last.pt"

    @property
    def best(self) -> Path:
        return self.checkpoints / "best.pt"

    @property
    def epochs(self) -> int:
        return sum(stretch.epochs for stretch in self.stretches)

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.batches // self.accumulate)

    def stretch(self, epoch: int) -> Stretch:
        """The stage that an epoch belongs to."""
        return next(s for s in reversed(self.stretches) if s.first <= epoch)

    def factor(self, at: Position) -> float:
        """Factor of the learning rate in the step that comes next."""
        stretch, each = self.stretch(at.epoch), self.steps_per_epoch
        step = at.step - stretch.first * each
        moment = Moment(0.0, step / max(1, each), _scores(at, stretch))
        warm = round(self.warmup * each)
        return at.rate * stretch.lr * warmed_up(self.shape, moment, step, stretch.epochs * each, warm)

    def validates(self, epochs: int) -> bool:
        """Whether a validation is due after so many epochs."""
        return epochs % self.validate_every == 0 or epochs == self.epochs

    def ending(self, at: Position) -> str:
        """Why the training stops before its time, or nothing. Stages before the last always run to their end."""
        last = self.stretches[-1]
        if self.stopping is None or at.epoch <= last.first or at.epoch == self.epochs:
            return ""
        idle = since_better(_scores(at, last), self.stopping.tolerance)[-1]
        if idle < self.stopping.patience or at.epoch < self.stopping.min_epochs:
            return ""
        return (
            f"stopped early after epoch {at.epoch} of {self.epochs}: no better score in {counted(idle, 'validation')}"
        )


def stretches(settings: Training, epochs: int, network: nn.Module | None = None) -> tuple[Stretch, ...]:
    """The stages of a recipe, or all `epochs` as one.

    network: what is trained; needed where a stage has `layers`. Raises RecipeError for `layers` that mean nothing in it.
    """
    always = tuple(settings.freeze)
    if not settings.stages:
        return (Stretch(0, epochs, freeze=always),)
    found: list[Stretch] = []
    for number, stage in enumerate(settings.stages):
        first, place = found[-1].first + found[-1].epochs if found else 0, f"train.stages.{number}"
        frozen = told = (*always, *stage.freeze)
        if stage.layers != "all":
            assert network is not None, "layers of which network?"
            frozen = (*frozen, *layers.below(network, stage.layers, f"{place}.layers"))
            told = (*told, layers.IN_WORDS[stage.layers])
        found.append(Stretch(first, stage.epochs, stage.lr, frozen, f"{place}.freeze", ", ".join(told)))
    return tuple(found)


def _scores(at: Position, stretch: Stretch) -> tuple[float, ...]:
    """Of the validations since a stage began."""
    return tuple(score for epoch, score in at.scores if epoch > stretch.first)
