"""From samples to batches: the order of an epoch, augmentation, and the workers that prepare it all ahead of the training.

What an epoch holds is a pure function of (seed, epoch, position): the same with any number of workers, and the same
after a resume. Workers are processes forked from this one where that is safe (Linux), threads elsewhere: two threads that
decode made a training loop of many small operations three times slower, two processes did not. They write finished
samples into shared memory and send nothing but "done" or the error that a file caused.
"""

from __future__ import annotations

import contextlib
import gc
import math
import mmap
import multiprocessing
import os
import signal
import sys
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from typing import Any, Literal, NoReturn

import cv2
import numpy as np
import torch

from maskwright.core.errors import MaskwrightError, OutOfMemory, SetupError
from maskwright.training.augment import Augmenter
from maskwright.training.cache import Samples

AHEAD = 2  # batches in preparation while the training works on one
SLOTS = AHEAD + 2  # a loop holds its batch until it has got the next
PARENT_CHECK = 5.0  # seconds
MOST_WORKERS = 8
FORK_IS_SAFE = sys.platform == "linux"
_ORDER, _AUGMENT = 0, 1  # what random numbers are drawn for

Prepare = Callable[[int, int, int], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Batch:
    """images: uint8 (B, 3, H, W) in channels_last memory. targets: uint8 (B, H, W) of class indices and VOID.

    ids: of the records, in this order. The tensors are the caller's for as long as they are kept.
    """

    images: torch.Tensor
    targets: torch.Tensor
    ids: tuple[str, ...]


class Loader:
    """Batches of augmented samples; `len(loader)` of them an epoch, `loader.epoch(number)` walks through one.

    batch: samples a batch; all batches have as many, except that fewer samples than that make one smaller batch.
    leftover: samples that fill no batch make a smaller last one, instead of waiting for another epoch's order.
    seed: of the order and the augmentation.
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
        weights: Mapping[int, float] | None = None,
        workers: int | Literal["auto"] = "auto",
    ):
        self.samples, self.augment, self.seed = samples, augment, seed % 2**63
        self.weights = dict(weights or {})
        self._copies, self._shares = self._quotas()
        self.num_samples = int(self._copies.sum()) + sum(count for _, count in self._shares)
        self.batch = max(1, min(batch, self.num_samples))
        self.num_used = self.num_samples if leftover else self.num_samples // self.batch * self.batch
        self.workers = min(_processors() // 2, MOST_WORKERS) if workers == "auto" else workers
        self._crew: _Crew | None = None
        cv2.setNumThreads(0)  # one sample, one thread; also: OpenCV's own threads do not survive a fork

    def __len__(self) -> int:
        return math.ceil(self.num_used / self.batch)

    def order(self, epoch: int) -> np.ndarray:
        """Which sample stands at each position of an epoch: int64 (num_samples,)."""
        rng = np.random.default_rng((self.seed, epoch, _ORDER))
        chosen = [np.repeat(np.arange(len(self.samples)), self._copies)]
        chosen += [rng.choice(members, count, replace=False) for members, count in self._shares]
        return rng.permutation(np.concatenate(chosen))

    def prepare(self, index: int, epoch: int, position: int) -> tuple[np.ndarray, np.ndarray]:
        """Sample `index` as it looks at a position of an epoch: image uint8 (H, W, 3), label map uint8 (H, W)."""
        rng = np.random.default_rng((self.seed, epoch, _AUGMENT, position))
        return self.augment(*self.samples[index], rng)

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
            self._crew = _Crew(self)
        return self._crew.batches(number, order, bounds)

    def close(self) -> None:
        """Ends the workers; they would also end with this process. The loader can be used again."""
        if self._crew is not None:
            self._crew.close()
            self._crew = None

    def ids(self, picks: np.ndarray) -> tuple[str, ...]:
        return tuple(self.samples.id(int(index)) for index in picks)

    def _alone(self, epoch: int, start: int, picks: np.ndarray) -> Batch:
        height, width = self.samples.size
        images = np.empty((len(picks), height, width, 3), np.uint8)
        targets = np.empty((len(picks), height, width), np.uint8)
        for row, index in enumerate(picks.tolist()):
            images[row], targets[row] = self.prepare(index, epoch, start + row)
        return _batch(images, targets, self.ids(picks))

    def _quotas(self) -> tuple[np.ndarray, list[tuple[np.ndarray, int]]]:
        """Whole copies of each sample in every epoch, int64 (N,), and per source the members of which so many come on top."""
        sources = self.samples.data.source[self.samples.indices]
        copies, shares = np.ones(len(sources), np.int64), []
        for source, weight in self.weights.items():
            members = np.flatnonzero(sources == source)
            copies[members] = math.floor(weight)
            shares.append((members, round((weight - math.floor(weight)) * len(members))))
        return copies, shares


def _batch(images: np.ndarray, targets: np.ndarray, ids: tuple[str, ...]) -> Batch:
    return Batch(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(targets), ids)


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ------------------------------------------------------------------------------------------------------------- workers


@dataclass(frozen=True)
class _Task:
    """Rows `row` and following of the batch in a slot: samples `picks`, standing in the epoch from `position` on."""

    slot: int
    row: int
    epoch: int
    position: int
    picks: list[int]


@dataclass
class _Slot:
    """Shared memory for one batch, and what is known of it."""

    images: np.ndarray  # uint8 (B, H, W, 3)
    targets: np.ndarray  # uint8 (B, H, W)
    tasks: int = 0  # not yet done
    error: MaskwrightError | None = None
    abandoned: bool = False  # nobody waits for it any more


class _Crew:
    """The workers of a loader and the slots they fill.

    A slot is free, or in preparation, or lent to whoever holds the tensors that lie in it; it comes back when those are
    gone. The last slot that is left is never lent: its batch is copied.
    """

    def __init__(self, loader: Loader):
        self._ids, self._slots = loader.ids, [_make_slot(loader.batch, loader.samples.size) for _ in range(SLOTS)]
        self._free = list(range(SLOTS))
        self._turn = 0  # whose turn it is to get a task
        self._lines: list[Connection] = []
        self._workers: list[Any] = []
        self.close = weakref.finalize(self, _dismiss, self._lines, self._workers)
        forked = FORK_IS_SAFE and not multiprocessing.current_process().daemon
        gc.freeze()  # the workers' garbage collector would else touch, and so copy, every object of this process
        try:
            for _ in range(loader.workers):
                self._hire(loader.prepare, forked)
        except OSError as error:
            what = f"worker {len(self._workers) + 1} of {loader.workers} cannot be started ({error.strerror or error})"
            self.close()
            raise SetupError(what, hint="lower `train.workers`") from error
        finally:
            gc.unfreeze()

    def batches(self, epoch: int, order: np.ndarray, bounds: list[tuple[int, int]]) -> Iterator[Batch]:
        """The batches between these bounds, in order, AHEAD of them in preparation."""
        todo, doing = deque(bounds), deque[tuple[int, np.ndarray]]()
        try:
            while todo or doing:
                while todo and self._free and len(doing) < AHEAD:
                    start, stop = todo.popleft()
                    slot = self._free.pop()
                    doing.append((slot, order[start:stop]))
                    self._assign(slot, epoch, start, order[start:stop])
                if doing and not self._slots[doing[0][0]].tasks:
                    yield self._hand_out(*doing.popleft(), last=not self._free and not doing)
                else:
                    self._listen()
        finally:
            for slot, _ in doing:  # left early
                self._slots[slot].abandoned = True
                self._settle(slot)

    def _assign(self, number: int, epoch: int, start: int, picks: np.ndarray) -> None:
        """Spreads a batch evenly over the workers, going round when there are more of them than samples."""
        slot = self._slots[number]
        slot.error, slot.abandoned, slot.tasks = None, False, min(len(picks), len(self._lines))
        bounds = [len(picks) * part // slot.tasks for part in range(slot.tasks + 1)]
        for row, stop in pairwise(bounds):
            self._turn = (self._turn + 1) % len(self._lines)
            try:
                self._lines[self._turn].send(_Task(number, row, epoch, start + row, picks[row:stop].tolist()))
            except OSError:
                self._report_death(self._turn)

    def _listen(self) -> None:
        """Waits until a worker says that a task is done."""
        assert any(slot.tasks for slot in self._slots), "one epoch at a time"
        for line in wait(self._lines):
            assert isinstance(line, Connection)
            try:
                number, error = line.recv()
            except (EOFError, OSError):
                self._report_death(self._lines.index(line))
            slot = self._slots[number]
            slot.error = slot.error or error
            slot.tasks -= 1
            self._settle(number)

    def _settle(self, number: int) -> None:
        slot = self._slots[number]
        if slot.abandoned and not slot.tasks:
            slot.abandoned = False
            self._free.append(number)

    def _hand_out(self, number: int, picks: np.ndarray, last: bool) -> Batch:
        slot, count = self._slots[number], len(picks)
        if slot.error is not None:
            self._free.append(number)
            raise slot.error
        images, targets = slot.images[:count], slot.targets[:count]
        if last:
            self._free.append(number)
            return _batch(images.copy(), targets.copy(), self._ids(picks))
        parts = [True, False]  # the second of the two to go finds True
        for array in (images, targets):
            weakref.finalize(array, self._give_back, number, parts).atexit = False
        return _batch(images, targets, self._ids(picks))

    def _give_back(self, number: int, parts: list[bool]) -> None:
        if parts.pop():
            self._free.append(number)

    def _hire(self, prepare: Prepare, forked: bool) -> None:
        ours, theirs = multiprocessing.Pipe()
        arguments = (theirs, prepare, self._slots, ours if forked else None)
        if forked:
            worker: Any = multiprocessing.get_context("fork").Process(target=_work, args=arguments, daemon=True)
            with warnings.catch_warnings():
                # Python 3.12 on warns that locks of other threads stay locked in the child; workers use none of them
                warnings.simplefilter("ignore", DeprecationWarning)
                worker.start()
            theirs.close()
        else:
            worker = threading.Thread(target=_work, args=arguments, daemon=True)
            worker.start()
        self._lines.append(ours)
        self._workers.append(worker)

    def _report_death(self, turn: int) -> NoReturn:
        worker = self._workers[turn]
        worker.join(5)
        code = getattr(worker, "exitcode", None)
        self.close()
        if code == -signal.SIGKILL:
            what = "a process that prepares samples was killed, as happens when memory runs out"
            raise OutOfMemory(what, hint="lower `train.workers` or `train.cache_gb`")
        raise RuntimeError(f"a worker that prepares samples failed (exit code {code}); its traceback stands above")


def _work(line: Connection, prepare: Prepare, slots: list[_Slot], other_end: Connection | None) -> None:
    """A worker's life: tasks come in by `line`, until None does or whoever sends them is gone."""
    if other_end is not None:  # in a process of its own
        other_end.close()
        os.setpgid(0, 0)  # Ctrl-C is for the training, which may want one more batch before it stops
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    parent = os.getppid()
    with line, contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            while not line.poll(PARENT_CHECK):
                if os.getppid() != parent:  # killed, while another process holds a copy of our line's other end
                    return
            task = line.recv()
            if task is None:
                return
            line.send((task.slot, _fill(slots[task.slot], task, prepare)))


def _fill(slot: _Slot, task: _Task, prepare: Prepare) -> MaskwrightError | None:
    try:
        for offset, index in enumerate(task.picks):
            row = task.row + offset
            slot.images[row], slot.targets[row] = prepare(index, task.epoch, task.position + offset)
    except MaskwrightError as error:
        return error
    return None


def _dismiss(lines: list[Connection], workers: list[Any]) -> None:
    """Ends the workers; one that does not listen within two seconds is killed."""
    for line in lines:
        with contextlib.suppress(OSError):
            line.send(None)
        line.close()
    for worker in workers:
        worker.join(2)
        if worker.is_alive() and hasattr(worker, "kill"):
            worker.kill()
            worker.join()
    lines.clear()
    workers.clear()


def _make_slot(batch: int, size: tuple[int, int]) -> _Slot:
    pixels = batch * size[0] * size[1]
    block = np.frombuffer(mmap.mmap(-1, 4 * pixels), np.uint8)
    return _Slot(block[: 3 * pixels].reshape(batch, *size, 3), block[3 * pixels :].reshape(batch, *size))
