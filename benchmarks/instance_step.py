"""Speed of a training step of Mask R-CNN: this tool's default on this CPU against the same network in plain eager fp32.

    python benchmarks/instance_step.py --encoder mobilenet_v2 --size 384 --batch 4 --threads 2
    python benchmarks/instance_step.py --encoder resnet50 --size 512 --batch 2

Both train the same network (proposals, boxes, masks) on the same random pixels with eight objects an image, normalisation
statistics frozen, taking turns in one process; after every change of turn the first step is not counted. `plain` is fp32,
NCHW, torch's AdamW and the C allocator as they come; `tool` is what `maskwright train` does. Targets are made outside of the
plain step and inside ours, as a layer of object numbers that becomes boxes and masks in the step.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from collections.abc import Callable

import torch
from train_step import PLAIN, forget_freed_memory, take_turns

from maskwright.core import recipe as recipes
from maskwright.models import INSTANCE_MODELS
from maskwright.models.build import wrapped
from maskwright.models.device import Device, choose, keep_freed_memory
from maskwright.models.instance_segmenter import objects
from maskwright.models.norms import freeze_statistics
from maskwright.training import for_objects, optim


def main() -> None:
    options = parsed()
    if options.threads:
        torch.set_num_threads(options.threads)
    tool = choose("cpu", "auto")
    contestants = {
        "plain": (stepper(PLAIN, options), forget_freed_memory),
        "tool": (stepper(tool, options), keep_freed_memory),
    }
    seconds = take_turns(contestants, options)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    print(f"mask_rcnn {options.encoder}, {options.size} x {options.size}, batch {options.batch}; ", end="")
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}; tool: {tool.describe()}"
    )
    for name, median in medians.items():
        spread = f"{min(seconds[name]):.3f} to {max(seconds[name]):.3f}"
        ratio = medians["plain"] / median
        print(f"{name:8} {median:7.3f} s ({spread})  {options.batch / median:7.2f} images/s  {ratio:5.2f}x")
    if options.json:
        print(json.dumps({"schema": 1, "medians": medians, "seconds": seconds, "threads": torch.get_num_threads()}))


def stepper(device: Device, options: argparse.Namespace) -> Callable[[], float]:
    """One training step on fixed random pixels, as the loop does it."""
    torch.manual_seed(0)
    segmenter = wrapped(INSTANCE_MODELS["mask_rcnn"](options.classes, encoder=options.encoder), "imagenet", "instance")
    freeze_statistics(segmenter)
    segmenter = device.place(segmenter.train())
    images = device.layout(torch.rand(options.batch, 3, options.size, options.size) * 255)
    targets = for_objects.trial_targets(segmenter, recipes.build({"data": "-", "task": "instance"}), images)
    made = objects(targets)
    if device is PLAIN:
        optimizer: torch.optim.Optimizer = torch.optim.AdamW(segmenter.parameters(), lr=1e-4)
    else:
        optimizer = optim.build(segmenter, "adamw", {"lr": 1e-4})

    def losses() -> dict[str, torch.Tensor]:
        if device is PLAIN:
            found: dict[str, torch.Tensor] = segmenter.network((images - segmenter.mean) / segmenter.std, made)
            return found
        with device.autocast():
            return dict(segmenter(images, targets))

    def step() -> float:
        total = torch.stack(list(losses().values())).sum()
        total.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return float(total.detach())

    return step


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="mobilenet_v2")
    parser.add_argument("--size", type=int, default=384)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--classes", type=int, default=18)
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="counted steps of each turn")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
