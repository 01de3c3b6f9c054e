"""Every network: a training step and inference as this tool does them against plain eager fp32, in one table.

    python benchmarks/networks.py
    python benchmarks/networks.py --models unet deeplabv3+ --size 512 --batch 4 --threads 4

A training step: forward, cross-entropy and Dice, backward, AdamW; `plain` in fp32, NCHW, with the losses, the optimiser and
the C allocator as they come (see `train_step.py`), `tool` as this tool does it on this CPU. Inference, one image at a time:
`plain` is the same network in eager torch, `tool` its exported file in onnxruntime, with as many threads. Both contestants
take turns in one process, the first step of a turn is not counted, and medians are printed with their ratio (larger is
faster). Networks start from random weights, which cost the same time.
"""

from __future__ import annotations

import argparse
import gc
import json
import platform
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from train_step import PLAIN, Contestants, forget_freed_memory, network_options, stepper, take_turns

from maskwright.bundles.bundle import Description
from maskwright.core.errors import MaskwrightError
from maskwright.core.types import Network
from maskwright.exports.onnx import checked
from maskwright.models import MODELS
from maskwright.models.device import choose, keep_freed_memory
from maskwright.models.segmenter import Segmenter, wrap
from maskwright.prediction import with_onnx, with_torch

COLUMNS = ("train plain", "train tool", "ratio", "infer plain", "infer tool", "ratio")


def main() -> None:
    options = parsed()
    if options.threads:
        torch.set_num_threads(options.threads)
    tool = choose("cpu", options.precision)
    print(f"{options.size} x {options.size}, batch {options.batch}, {options.classes} classes; ", end="")
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}; tool: {tool.describe()}"
    )
    print(f"{'network':28}" + "".join(f"{name:>13}" for name in COLUMNS))
    found: dict[str, dict[str, float]] = {}
    for model in options.models:
        options.model = model
        try:
            steps = {"train plain": stepper(PLAIN, options), "train tool": stepper(tool, options)}
            found[model] = medians(training(steps), options)
            with tempfile.TemporaryDirectory() as scratch:
                found[model] |= medians(inference(options, Path(scratch)), options)
        except MaskwrightError as error:
            print(f"{model:28} left out: {error}")
            found.pop(model, None)
            continue
        print(row(model, found[model]), flush=True)
        gc.collect()
    for task in ("train", "infer"):
        if found:
            worst = min(found, key=lambda model: ratio(found[model], task))
            print(f"worst at {task}: {worst}, {ratio(found[worst], task):.2f}x")
    if options.json:
        print(json.dumps({"schema": 1, "seconds": found, "threads": torch.get_num_threads()}))


def training(steps: dict[str, Callable[[], float]]) -> Contestants:
    before = {"train plain": forget_freed_memory, "train tool": keep_freed_memory}
    return {name: (step, before[name]) for name, step in steps.items()}


def inference(options: argparse.Namespace, scratch: Path) -> Contestants:
    """One image through eager torch, and through the file that this tool exports."""
    torch.manual_seed(0)
    extra = network_options(options.model, options.encoder)
    segmenter = wrap(MODELS[options.model](options.classes, **extra)).eval()
    image = (np.random.default_rng(0).random((1, 3, options.size, options.size)) * 255).astype(np.float32)
    networks = {"infer plain": with_torch.live(segmenter), "infer tool": exported(segmenter, options, image, scratch)}
    before = {"infer plain": forget_freed_memory, "infer tool": keep_freed_memory}
    return {name: ((lambda network=network: network(image)), before[name]) for name, network in networks.items()}


def exported(segmenter: Segmenter, options: argparse.Namespace, image: np.ndarray, scratch: Path) -> Network:
    classes = tuple(f"class {number}" for number in range(options.classes))
    size = (options.size, options.size)
    description = Description(classes, ((0, 0, 0),) * options.classes, size, "squash", {"name": options.model})
    checked(segmenter, description, scratch / "model.onnx", [image])
    return with_onnx.open_file(scratch / "model.onnx", threads=torch.get_num_threads())[0]


def medians(contestants: Contestants, options: argparse.Namespace) -> dict[str, float]:
    """Seconds a step takes, of each contestant."""
    return {name: statistics.median(values) for name, values in take_turns(contestants, options).items()}


def ratio(times: dict[str, float], task: str) -> float:
    return times[f"{task} plain"] / times[f"{task} tool"]


def row(model: str, times: dict[str, float]) -> str:
    cells = [f"{model:28}"]
    for task in ("train", "infer"):
        cells += [f"{1e3 * times[f'{task} {who}']:10.1f} ms" for who in ("plain", "tool")]
        cells += [f"{ratio(times, task):12.2f}x"]
    return "".join(cells)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS), metavar="NAME")
    parser.add_argument("--encoder", default="", help="of the networks that have a choice; left out: each its default")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--classes", type=int, default=19)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3, help="counted steps of each turn")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    main()
