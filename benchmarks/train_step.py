"""Speed of a training step: this tool's default on this CPU against the same network in plain eager fp32.

    python benchmarks/train_step.py --encoder mobilenet_v2
    python benchmarks/train_step.py --encoder resnet34 --threads 2

Both train the same network with cross-entropy, Dice and AdamW on the same random pixels, taking turns in one process; after
every change of turn the first step is not counted. `plain` is what a script without any care does: fp32, NCHW, torch's
cross-entropy and AdamW as they come, the Dice loss of segmentation_models_pytorch, the C allocator as it comes. `plain, memory
kept` has only the allocator setting of `models/device.py`, `default` everything.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

import segmentation_models_pytorch as smp
import torch
from torch.nn.functional import cross_entropy

from maskwright.models import MODELS
from maskwright.models.device import M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, Device, choose, keep_freed_memory
from maskwright.models.segmenter import wrap
from maskwright.training import optim
from maskwright.training.losses import criterion

Contestants = dict[
    str, tuple[Callable[[], object], Callable[[], object]]
]  # name: (one step, what is set before a turn)
LOSS = {"cross_entropy": 1.0, "dice": 1.0}
PLAIN = Device("cpu", torch.device("cpu"), None, channels_last=False, reason="plain eager fp32, NCHW")


def main() -> None:
    options = parsed()
    if options.threads:
        torch.set_num_threads(options.threads)
    default = choose("cpu", options.precision)
    contestants = {
        "plain": (stepper(PLAIN, options), forget_freed_memory),
        "plain, memory kept": (stepper(PLAIN, options), keep_freed_memory),
        "default": (stepper(default, options), keep_freed_memory),
    }
    seconds = take_turns(contestants, options)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    report(options, default, medians, seconds)


def take_turns(contestants: Contestants, options: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds of each counted step of each contestant; the first of a turn is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(options.turns):
        for name, (step, before) in contestants.items():
            before()
            step()
            seconds[name] += [timed(step) for _ in range(options.steps)]
    return seconds


def stepper(device: Device, options: argparse.Namespace) -> Callable[[], float]:
    """One training step on fixed random pixels, as the loop does it."""
    torch.manual_seed(0)
    extra = network_options(options.model, options.encoder)
    losses_of = plain_losses if device is PLAIN else criterion(LOSS)
    segmenter = wrap(MODELS[options.model](options.classes, **extra), criterion=losses_of).train()
    segmenter = device.place(segmenter)
    if device is PLAIN:
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(segmenter.parameters(), lr=1e-3)
    else:
        optimizer = optim.build(segmenter, "adamw", {"lr": 1e-3})
    images = device.layout(torch.rand(options.batch, 3, options.size, options.size) * 255)
    targets = torch.randint(0, options.classes, (options.batch, options.size, options.size))

    def step() -> float:
        with device.autocast():
            losses = segmenter(images, targets)
        total = torch.stack(list(losses.values())).sum()
        total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(total.detach())

    return step


PLAIN_DICE = smp.losses.DiceLoss("multiclass", from_logits=True)


def plain_losses(logits: torch.Tensor, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """What a script without any care computes."""
    return {"cross_entropy": cross_entropy(logits, targets), "dice": PLAIN_DICE(logits, targets)}


def network_options(model: str, encoder: str) -> dict[str, Any]:
    """The encoder, where the network has a choice and one is named; of `transformers` its smallest SegFormer."""
    if model == "transformers":
        return {"config": {"model_type": "segformer"}}
    return {"encoder": encoder} if encoder and "encoder" in MODELS.options(model) else {}


def timed(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def forget_freed_memory() -> None:
    """glibc as it is after its first large blocks were freed, which is what it adjusts itself to."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, 32 * 2**20)
        mallopt(M_TRIM_THRESHOLD, 64 * 2**20)


def report(
    options: argparse.Namespace, default: Device, medians: dict[str, float], seconds: dict[str, list[float]]
) -> None:
    print(f"{options.model} {options.encoder}, {options.size} x {options.size}, batch {options.batch}; ", end="")
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}; default: {default.describe()}"
    )
    for name, median in medians.items():
        spread = f"{min(seconds[name]):.3f} to {max(seconds[name]):.3f}"
        ratio = medians["plain"] / median
        print(f"{name:20} {median:7.3f} s ({spread})  {options.batch / median:7.2f} images/s  {ratio:5.2f}x")
    if options.json:
        print(json.dumps({"schema": 1, "medians": medians, "seconds": seconds, "threads": torch.get_num_threads()}))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="unet", choices=list(MODELS))
    parser.add_argument("--encoder", default="mobilenet_v2")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--steps", type=int, default=2, help="counted steps of each turn")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
