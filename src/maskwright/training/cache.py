"""Training samples before augmentation, and the cache that keeps them decoded between epochs.

A sample is an image uint8 RGB (h, w, 3) and the arrays that `truth` says it has beside it, fitted to the network's size
(or, for `fit: crop`, at the image's own or `base_size`).
The cache is one block of shared memory or one nameless file that belongs to this run
alone: what one worker decoded every worker finds, and when the run ends, however it ends, nothing is left behind.
"""

from __future__ import annotations

import math
import mmap
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import psutil

from maskwright.core import events
from maskwright.core.errors import DataError, SetupError
from maskwright.core.files import cache_folder, check_writable
from maskwright.core.table import Data
from maskwright.core.types import Record
from maskwright.core.words import counted
from maskwright.imaging import images
from maskwright.training import enlarge
from maskwright.training.geometry import Fit
from maskwright.training.truth import LabelMaps, Shapes, Truth

Where = Literal["auto", "memory", "disk", "none"]

SHARE = 0.25  # of the free memory or disk that a cache takes when no budget is given
LABEL_MAPS = LabelMaps()
GB = 1e9
CONTROL_GROUPS = Path("/sys/fs/cgroup")


class Samples:
    """The images of a Data at `indices`, decoded on demand: `samples[i]` is (image, labels, ...), read-only when cached.

    size: (H, W) of the network's input. fit: `squash` and `pad` fit to it, `crop` keeps the images' own size.
    base_size: with `crop`, the long side that images are scaled to first.
    truth: what a sample has beside the image.

    cache: memory | disk | none; auto takes memory when all samples fit into the budget, else disk when they fit there.
      `memory` and `disk` keep as many samples as the budget holds.
    cache_gb: budget in GB (10^9 bytes); left out: a quarter of what is free.

    Whatever cannot be read raises DataError with its path; SetupError when the disk cannot be written.
    """

    def __init__(
        self,
        data: Data,
        indices: Sequence[int] | np.ndarray,
        *,
        size: tuple[int, int],
        fit: Fit = "squash",
        base_size: int | None = None,
        truth: Truth = LABEL_MAPS,
        cache: Where = "auto",
        cache_gb: float | None = None,
    ):
        self.data, self.indices, self.size, self.fit = data, np.asarray(indices, np.int64), size, fit
        self.truth, self.objects = truth, truth.objects
        self.base_size = base_size if fit == "crop" else None
        sizes = [self._fitted_size((int(h), int(w))) for h, w in data.sizes[self.indices]]
        self._sizes = np.array(sizes, np.int64).reshape(-1, 2)
        bytes_of = {size: sum(map(math.prod, self._shapes(size))) for size in set(sizes)}
        self._starts = np.cumsum([0, *(bytes_of[size] for size in sizes)], dtype=np.int64)
        where, budget = _choose(cache, int(self._starts[-1]), cache_gb)
        self.num_cached = int(np.searchsorted(self._starts, budget, side="right")) - 1 if where != "none" else 0
        self.cache_bytes = int(self._starts[self.num_cached])
        self.where: Where = where if self.num_cached else "none"
        self._block = _block(self.cache_bytes, on_disk=self.where == "disk")
        self._filled = np.frombuffer(mmap.mmap(-1, max(1, self.num_cached)), np.uint8)
        events.say(self._told(budget), cache=self.where, cached=self.num_cached, bytes=self.cache_bytes)

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def shapes(self) -> Shapes:
        """Of the arrays of a sample at the network's size."""
        return self._shapes(self.size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, ...]:
        if not 0 <= index < len(self):
            raise IndexError(index)
        if index >= self.num_cached:
            return self.load(index)
        kept = self._kept(index)
        if not self._filled[index]:
            for there, array in zip(kept, self.load(index), strict=True):
                there[:] = array
            self._filled[index] = 1
        for array in kept:
            array.flags.writeable = False
        return kept

    def id(self, index: int) -> str:
        return self.data.ids[self.indices[index]]

    def load(self, index: int) -> tuple[np.ndarray, ...]:
        """The sample from its files, cached or not."""
        record: Record = self.data[self.indices[index]]
        size = self._fitted_size(record.size)
        if record.size == size:  # nothing to fit
            image = images.read(record.image, upright=record.upright)
            _check_size(image.shape[:2], record)
            return image, *self.truth.read(record, None)
        how = "squash" if self.fit == "crop" else self.fit  # a scaled image fills its own size
        fitting = images.plan(record.size, size, how)
        if enlarge.enlarges(fitting):
            image = images.read(record.image, upright=record.upright)
            _check_size(image.shape[:2], record)
            return enlarge.fit(image, fitting), *self.truth.read(record, fitting)
        image, fitting = images.read_fitted(record.image, size, how, upright=record.upright)
        _check_size(fitting.original, record)
        return image, *self.truth.read(record, fitting)

    @property
    def num_filled(self) -> int:
        """Samples in the cache by now, whichever worker put them there."""
        return int(self._filled[: self.num_cached].sum())

    def _fitted_size(self, original: tuple[int, int]) -> tuple[int, int]:
        """Height, width of the sample of an image of this size."""
        if self.fit != "crop":
            return self.size
        return original if self.base_size is None else images.long_side(original, self.base_size)

    def _kept(self, index: int) -> tuple[np.ndarray, ...]:
        height, width = self._sizes[index].tolist()
        shapes, start = self._shapes((height, width)), int(self._starts[index])
        ends = start + np.cumsum([math.prod(shape) for shape in shapes])
        pieces = np.split(self._block[start : ends[-1]], ends[:-1] - start)
        return tuple(piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True))

    def _shapes(self, size: tuple[int, int]) -> Shapes:
        return ((*size, 3), *self.truth.shapes(size))

    def _told(self, budget: int) -> str:
        size = f"{self.size[0]} x {self.size[1]}"
        if self.fit == "crop":
            size = f"a long side of {self.base_size}" if self.base_size else "their own size"
        needed = f"{counted(len(self), 'image')} at {size}, {self._starts[-1] / GB:.2f} GB"
        if self.where == "none":
            return f"cache: none, every epoch decodes its images again ({needed})"
        whole = (
            ""
            if self.num_cached == len(self)
            else f" of which {self.num_cached} fit the budget of {budget / GB:.2f} GB"
        )
        place = "in memory" if self.where == "memory" else f"on disk in {cache_folder()}"
        return f"cache: {needed}{whole}, {place}"


def _check_size(found: tuple[int, ...], record: Record) -> None:
    if tuple(found) != record.size:
        what = f"is {found[0]} x {found[1]} (height x width) now and was {record.size[0]} x {record.size[1]}"
        raise DataError(what, place=record.image, hint="it changed since the data set was read; start again")


# ----------------------------------------------------------------------------------------------------- how much, where


def _choose(cache: Where, needed: int, cache_gb: float | None) -> tuple[Where, int]:
    """The place of the cache and its budget in bytes. A budget never goes beyond what is free."""
    free = {"memory": free_memory, "disk": lambda: _free_disk(cache_folder())}
    tried: list[Where] = ["memory", "disk"] if cache == "auto" else [] if cache == "none" else [cache]
    for where in tried:
        there = free[where]()
        budget = int(there * SHARE) if cache_gb is None else min(int(cache_gb * GB), there)
        if cache != "auto" or needed <= budget:
            return where, budget
    return "none", 0


def free_memory() -> int:
    """Bytes that this process may still take: of the machine, or of its container when that allows less."""
    free = int(psutil.virtual_memory().available)
    names = ("memory.max", "memory.current", "memory.stat", "inactive_file")  # control groups, version 2
    old_names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "memory.stat", "total_inactive_file")
    for folder, (limit, used, details, reclaimable) in (("", names), ("memory", old_names)):
        try:
            most, now, lines = ((CONTROL_GROUPS / folder / name).read_text() for name in (limit, used, details))
        except OSError:
            continue
        file_cache = next(
            (int(line.split()[1]) for line in lines.splitlines() if line.startswith(f"{reclaimable} ")), 0
        )
        if most.strip().isdigit():
            free = min(free, max(0, int(most) - int(now) + file_cache))
    return free


def _free_disk(folder: Path) -> int:
    folder = next(f for f in (folder, *folder.parents) if f.exists())
    return shutil.disk_usage(folder).free


def _block(size: int, *, on_disk: bool) -> np.ndarray:
    """Memory that forked workers share, uint8 (size,): anonymous, or in a nameless file of the cache folder.

    Such a file vanishes with the last process that has it mapped. Its blocks are claimed at once: a disk that fills up
    later would kill a process that writes through the map.
    """
    if not on_disk:
        return np.frombuffer(mmap.mmap(-1, max(1, size)), np.uint8)
    folder = cache_folder()
    check_writable(folder)
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                for start in range(0, size, 1 << 24):
                    file.write(bytes(min(1 << 24, size - start)))
                file.flush()
            return np.frombuffer(mmap.mmap(file.fileno(), size), np.uint8)
    except OSError as error:
        what = f"a cache of {size / GB:.2f} GB cannot be made ({error.strerror or error})"
        raise SetupError(what, place=folder, hint="lower `train.cache_gb`, or set `train.cache: none`") from error
