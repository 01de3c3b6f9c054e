"""`batch: auto`: how many images a training step takes without running out of memory, found by trying."""

from __future__ import annotations

from collections.abc import Callable

import torch

from maskwright.core.recipe import Recipe
from maskwright.core.words import counted
from maskwright.models.build import AnySegmenter
from maskwright.models.device import Device, is_out_of_memory
from maskwright.training.cache import free_memory
from maskwright.training.estimate import trial_steps

MOST_ON_GPU, MOST_ELSEWHERE = 128, 16  # a CPU is no faster with more
SHARE_OF_GPU, SHARE_OF_MEMORY = 0.85, 0.5  # elsewhere decoded samples and other programs need memory too
FEWEST_STEPS, SMALL = 8, 4  # an epoch of fewer steps learns slowly, while a batch of SMALL images is fair


def fitting(segmenter: AnySegmenter, recipe: Recipe, device: Device, images: int) -> tuple[int, str]:
    """A batch size for so many training images, and why it is that. Raises what torch raises when one image is too much."""
    on_gpu = device.device.type == "cuda"
    most = MOST_ON_GPU if on_gpu else MOST_ELSEWHERE
    steps = max(min(SMALL, images), images // FEWEST_STEPS)
    limit = _limit(device)

    def measure(batch: int) -> int:
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device.device)
        trial_steps(segmenter, recipe, device, batch, repeats=1)
        return torch.cuda.max_memory_reserved(device.device) if on_gpu else device.peak_memory()

    fits = largest(measure, limit, min(most, steps))
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device.device)
    if fits < min(most, steps):
        return fits, f"as many as fit into {limit / 1e9:.1f} GB"
    if steps <= most:
        made = counted(images, "training image makes", "training images make")
        return fits, f"{made} {counted(images // fits, 'step')} an epoch; memory would hold more"
    return fits, "the most that is chosen by itself here; memory would hold more"


def largest(measure: Callable[[int], int], limit: int, most: int) -> int:
    """The largest batch up to `most` that should need `limit` bytes at most: tried by doubling, the rest drawn as a line.

    measure: bytes that a batch takes; it may raise what is raised when memory runs out. What two tries foretell to be too
    much is not tried. Raises what `measure` raises for a single image.
    """
    batch, taken = 1, measure(1)
    before = taken
    while 2 * batch <= most and taken + (taken - before) <= limit:
        try:
            more = measure(2 * batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return batch
        batch, before, taken = 2 * batch, taken, more
    if batch == 1:
        return 1
    each = max(1e-9, (taken - before) / (batch // 2))  # bytes an image
    found = min(most, batch + int((limit - taken) // each))
    return max(1, found if found < 8 or found == most else found // 4 * 4)


def _limit(device: Device) -> int:
    """Bytes that a training step may take."""
    if device.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device.device)
        return int(SHARE_OF_GPU * (free + torch.cuda.memory_reserved(device.device)))
    return int(device.peak_memory() + SHARE_OF_MEMORY * free_memory())
