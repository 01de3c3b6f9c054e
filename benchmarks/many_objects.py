"""Five hundred objects on a 12-megapixel photo: time and peak memory from what a network says to what is on the disk.

    python benchmarks/many_objects.py [--objects 500] [--size 3000 4000] [--repeats 3] [--most 8]

The network's answers are made: boxes of 1 to 8 % of the photo's longer side, masks of 28 x 28. Contestants:

- decode: our run-lengths of all masks on the photo's pixels (`tasks.instance.decode`);
- predict: `maskwright predict` without the network: reads the photo, decodes, writes objects.json, coco.json (run-lengths
  and polygons), the PNG of object numbers, the overlay and the table;
- torchvision: `paste_masks_in_image` of all masks at once, as its Mask R-CNN does, and the threshold; nothing is written.
  It needs twice 4 bytes a pixel and object. Where that is more than `--most` GB, fewer objects are pasted, and the figures
  of all of them are told as what these would be at the same rate.

Each runs in a process of its own. Time is the median of the repeats after a first one; memory is the most that the process
held (VmHWM) above what it held after imports and with the photo's file written.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

CONTESTANTS = ("decode", "predict", "torchvision")
INPUT = 800  # the shorter side of the network's input
GB = 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=int, default=500)
    parser.add_argument("--size", type=int, nargs=2, default=(3000, 4000), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--most", type=float, default=8.0, help="GB that torchvision may take")
    parser.add_argument("--one", choices=CONTESTANTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measured(options.one, options.objects, tuple(options.size), options.repeats)))
        return
    height, width = options.size
    print(f"{options.objects} objects on {width} x {height} pixels, {options.repeats} repeats")
    for name in CONTESTANTS:
        num = options.objects
        if name == "torchvision":
            num = min(num, max(1, int(options.most * GB / (8 * height * width))))
        given = [sys.executable, __file__, "--one", name, "--objects", num, "--size", height, width]
        done = subprocess.run([str(part) for part in (*given, "--repeats", options.repeats)], stdout=-1, check=True)
        answer = json.loads(done.stdout)
        seconds, peak = answer["seconds"], answer["peak"]
        line = f"{name:12}{num:5} objects  {seconds:8.2f} s  {peak / GB:7.3f} GB"
        if num < options.objects:
            more = options.objects / num
            line += f"; {options.objects} at this rate: {seconds * more:.1f} s, {peak * more / GB:.1f} GB"
        print(line, flush=True)


def measured(name: str, num: int, size: tuple[int, int], repeats: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as scratch:
        work = {"decode": decoding, "predict": predicting, "torchvision": pasting}[name](num, size, Path(scratch))
        before, seconds = held("VmRSS"), []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            work()
            seconds.append(time.perf_counter() - began)
        return {"seconds": statistics.median(seconds[1:]), "peak": held("VmHWM") - before}


def held(what: str) -> int:
    """Bytes that this process holds now (VmRSS), or held at most (VmHWM)."""
    return int(Path("/proc/self/status").read_text().partition(f"{what}:")[2].split()[0]) * 1024


def network_size(size: tuple[int, int]) -> tuple[int, int]:
    scale = INPUT / min(size)
    return round(size[0] * scale), round(size[1] * scale)


def answers(num: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """What a network says: boxes in pixels of `size`, labels, scores, masks of blobs with soft rims."""
    rng = np.random.default_rng(0)
    sides = rng.uniform(0.01, 0.08, (num, 2)) * max(size)
    corners = rng.random((num, 2)) * (np.array(size[::-1]) - sides)
    boxes = np.concatenate((corners, corners + sides), axis=1)
    angle = np.arctan2(*np.mgrid[-1:1:28j, -1:1:28j])
    radius = np.hypot(*np.mgrid[-1:1:28j, -1:1:28j])
    lobes, turn = rng.integers(2, 7, (num, 1, 1)), rng.uniform(0, 6, (num, 1, 1))
    rim = 0.75 + 0.2 * np.sin(angle * lobes + turn)
    masks = 1 / (1 + np.exp(12 * (radius - rim)))
    scores = np.sort(rng.random(num))[::-1]
    return boxes, rng.integers(1, 6, num), scores.astype(np.float32), masks[:, None].astype(np.float32)


def decoding(num: int, size: tuple[int, int], scratch: Path) -> Callable[[], object]:
    from maskwright.imaging import images
    from maskwright.tasks import instance

    fitting = images.plan(size, network_size(size), "squash")
    found, classes = answers(num, network_size(size)), tuple("abcde")
    return lambda: instance.decode(found, fitting, classes)


def predicting(num: int, size: tuple[int, int], scratch: Path) -> Callable[[], object]:
    from PIL import Image

    from maskwright.bundles.bundle import Description
    from maskwright.prediction import object_folders
    from maskwright.prediction.instances import InstancePredictor

    small = np.random.default_rng(1).integers(0, 256, (size[0] // 16, size[1] // 16, 3), np.uint8)
    Image.fromarray(small).resize(size[::-1], Image.Resampling.BICUBIC).save(scratch / "photo.jpg", quality=90)
    fitted, colours = network_size(size), ((0, 0, 0),) * 5
    known = Description(tuple("abcde"), colours, fitted, "squash", {"name": "mask_rcnn"}, task="instance")
    found = answers(num, fitted)
    predictor = InstancePredictor(lambda pixels: found, known, runtime="made")
    return lambda: object_folders.predict_all(predictor, scratch / "photo.jpg", scratch / "out")


def pasting(num: int, size: tuple[int, int], scratch: Path) -> Callable[[], object]:
    import torch
    from torchvision.models.detection.roi_heads import paste_masks_in_image

    boxes, _, _, masks = answers(num, size)
    given = torch.from_numpy(masks), torch.from_numpy(boxes.astype(np.float32))
    return lambda: paste_masks_in_image(*given, size) > 0.5


if __name__ == "__main__":
    main()
