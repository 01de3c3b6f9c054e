"""From samples to batches: the order of an epoch, its random numbers, and who prepares it (`crew`).

What an epoch holds is a pure function of (seed, epoch, position): the same with any number of workers, and the same
after a resume.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Literal

import cv2
import numpy as np

from maskwright.core.cores import usable_cores
from maskwright.training.augment import Augmenter
from maskwright.training.batch import Batch, lay, stacked
from maskwright.training.cache import Samples
from maskwright.training.crew import Crew
from maskwright.training.mix import Mixer, Parts, blended

MOST_WORKERS = 8
_ORDER, _AUGMENT, _PASTE, _BLEND, _SHARE = range(5)  # what random numbers are drawn for


class Loader:
    """Batches of augmented samples; `len(loader)` of them an epoch, `loader.epoch(number)` walks through one.

    batch: samples a batch; all batches have as many, except that fewer samples than that make one smaller batch.
    leftover: samples that fill no batch make a smaller last one, instead of waiting for another epoch's order.
    seed: of the order and the augmentation.
    mix: what makes samples of two; the other one is any of the epoch's, augmented by itself, which costs its preparation.
    weights: source number -> how often its images come relative to their number: 2 = each twice an epoch, 0.5 = a random
      half of them in each epoch. Sources that are not named have 1.
    workers: processes that prepare batches ahead; 0 = none, the caller does it; auto = half of the processors, 8 at most.
    """

    def __init__(
        self,
        samples: Samples,
        augment: Augmenter,
        *,
        batch: int = 16,
        leftover: bool = False,
        seed: int = 0,
        mix: Mixer | None = None,
        weights: Mapping[int, float] | None = None,
        workers: int | Literal["auto"] = "auto",
    ):
        self.samples, self.augment, self.mix, self.seed = samples, augment, mix, seed % 2**63
        self.weights = dict(weights or {})
        self._copies, self._shares = self._quotas()
        self.num_samples = int(self._copies.sum()) + sum(count for _, count in self._shares)
        self.batch = max(1, min(batch, self.num_samples))
        self.num_used = self.num_samples if leftover else self.num_samples // self.batch * self.batch
        self.workers = min(usable_cores() // 2, MOST_WORKERS) if workers == "auto" else workers
        self._crew: Crew | None = None
        self._known_order = (-1, np.empty(0, np.int64))
        cv2.setNumThreads(0)  # one sample, one thread; also: OpenCV's own threads do not survive a fork

    def __len__(self) -> int:
        return math.ceil(self.num_used / self.batch)

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        """Of the parts of one sample: image and labels, and the labels again where whole images are mixed."""
        image, *labels = self.samples.shapes
        mixed = self.mix is not None and self.mix.blend is not None
        return (image, *labels, *labels[:mixed])

    def order(self, epoch: int) -> np.ndarray:
        """Which sample stands at each position of an epoch: int64 (num_samples,)."""
        rng = np.random.default_rng((self.seed, epoch, _ORDER))
        chosen = [np.repeat(np.arange(len(self.samples)), self._copies)]
        chosen += [rng.choice(members, count, replace=False) for members, count in self._shares]
        return rng.permutation(np.concatenate(chosen))

    def prepare(self, index: int, epoch: int, position: int) -> tuple[np.ndarray, ...]:
        """Sample `index` as it looks at a position of an epoch: arrays uint8 of `shapes`."""
        sample = self._augmented(index, np.random.default_rng((self.seed, epoch, _AUGMENT, position)))
        if self.mix is None:
            return sample
        key = (self.seed, epoch, _PASTE, position)
        sample = self.mix.paste(sample, key, lambda rng: self._partner(epoch, rng))
        if self.mix.blend is None:
            return sample
        image, labels = sample
        share = self.share(epoch, position // self.batch)
        if share == 1:
            return image, labels, labels
        other, others = self._partner(epoch, np.random.default_rng((self.seed, epoch, _BLEND, position)))
        return blended(image, other, share), labels, others

    def share(self, epoch: int, batch: int) -> float:
        """What the first images of a batch weigh in it; 1 where it is not mixed."""
        return 1.0 if self.mix is None else self.mix.share((self.seed, epoch, _SHARE, batch))

    def _partner(self, epoch: int, rng: np.random.Generator) -> Parts:
        """Any sample of the epoch, so that sources keep their weights."""
        known, order = self._known_order
        if known != epoch:
            order = self.order(epoch)
            self._known_order = (epoch, order)
        return self._augmented(int(order[rng.integers(len(order))]), rng)

    def _augmented(self, index: int, rng: np.random.Generator) -> Parts:
        if self.samples.objects:
            image, layers, table = self.samples[index]
            return self.augment.objects(image, layers, table, rng)
        image, labels = self.samples[index]
        return self.augment(image, labels, rng)

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from batch `first` on. One epoch at a time; it may be left early.

        Raises the DataError of a file that cannot be read any more.
        """
        order = self.order(number)
        starts = range(first * self.batch, self.num_used, self.batch)
        bounds = [(start, min(start + self.batch, self.num_used)) for start in starts]
        if self.workers == 0:
            return (self._alone(number, start, order[start:stop]) for start, stop in bounds)
        if self._crew is None or not self._crew.close.alive:
            self._crew = Crew(self)
        return self._crew.batches(number, order, bounds)

    def close(self) -> None:
        """Ends the workers; they would also end with this process. The loader can be used again."""
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    def stacked(self, arrays: tuple[np.ndarray, ...], picks: np.ndarray, share: float) -> Batch:
        """The batch of samples `picks`, laid into arrays of `shapes`."""
        ids = tuple(self.samples.id(int(index)) for index in picks)
        return stacked(
            arrays if share < 1 or self.samples.objects else arrays[:2], ids, share, tables=self.samples.objects
        )

    def _alone(self, epoch: int, start: int, picks: np.ndarray) -> Batch:
        arrays = tuple(np.empty((len(picks), *shape), np.uint8) for shape in self.shapes)
        for row, index in enumerate(picks.tolist()):
            lay(arrays, row, self.prepare(index, epoch, start + row))
        return self.stacked(arrays, picks, self.share(epoch, start // self.batch))

    def _quotas(self) -> tuple[np.ndarray, list[tuple[np.ndarray, int]]]:
        """Whole copies of each sample in every epoch, int64 (N,), and per source the members of which so many come on top."""
        sources = self.samples.data.source[self.samples.indices]
        copies, shares = np.ones(len(sources), np.int64), []
        for source, weight in self.weights.items():
            members = np.flatnonzero(sources == source)
            copies[members] = math.floor(weight)
            shares.append((members, round((weight - math.floor(weight)) * len(members))))
        return copies, shares
