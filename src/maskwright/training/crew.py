"""The workers of a loader: processes or threads that prepare batches ahead of the training, in shared memory.

Workers are processes forked from this one where that is safe (Linux), threads elsewhere: two threads that decode made a
training loop of many small operations three times slower, two processes did not. They write finished samples into shared
memory and send nothing but "done" or the error that a file caused.
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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from maskwright.core.errors import MaskwrightError, OutOfMemory, SetupError
from maskwright.training.batch import Batch, lay

if TYPE_CHECKING:
    from maskwright.training.loader import Loader

AHEAD = 2  # batches in preparation while the training works on one
SLOTS = AHEAD + 2  # a loop holds its batch until it has got the next
PARENT_CHECK = 5.0  # seconds
FORK_IS_SAFE = sys.platform == "linux"

Prepare = Callable[[int, int, int], tuple[np.ndarray, ...]]


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

    arrays: tuple[np.ndarray, ...]  # uint8, the parts of a sample stacked: (B, H, W, 3), ...
    share: float = 1.0
    tasks: int = 0  # not yet done
    error: MaskwrightError | None = None
    abandoned: bool = False  # nobody waits for it any more


class Crew:
    """The workers of a loader and the slots they fill.

    A slot is free, or in preparation, or lent to whoever holds the tensors that lie in it; it comes back when those are
    gone. The last slot that is left is never lent: its batch is copied.
    """

    def __init__(self, loader: Loader):
        self._slots = [_Slot(shared(loader.batch, loader.shapes)) for _ in range(SLOTS)]
        self._stacked, self._share, self._batch = loader.stacked, loader.share, loader.batch
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
        slot.share = self._share(epoch, start // self._batch)
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
        lent = [array[:count] for array in slot.arrays]
        if last:
            self._free.append(number)
            return self._stacked(tuple(array.copy() for array in lent), picks, slot.share)
        parts = [True] + [False] * (len(lent) - 1)  # the last of them to go finds True
        for array in lent:
            weakref.finalize(array, self._give_back, number, parts).atexit = False
        return self._stacked(tuple(lent), picks, slot.share)

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
            lay(slot.arrays, row, prepare(index, task.epoch, task.position + offset))
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


def shared(batch: int, shapes: tuple[tuple[int, ...], ...]) -> tuple[np.ndarray, ...]:
    """Memory that forked workers share, for the parts of `batch` samples: uint8 (batch, ...) each."""
    sizes = [batch * math.prod(shape) for shape in shapes]
    block, ends = np.frombuffer(mmap.mmap(-1, sum(sizes)), np.uint8), np.cumsum(sizes)
    pieces = np.split(block, ends[:-1])
    return tuple(piece.reshape(batch, *shape) for piece, shape in zip(pieces, shapes, strict=True))
