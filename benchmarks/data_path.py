"""Images a second that one core prepares for training: this tool, the torchvision reference style, albumentations.

    python benchmarks/data_path.py [DATA] [--size 512] [--images 100] [--repeats 7]

All do the same to the same files, without workers and with one thread: a flip in half of the cases, zoom 0.8 to 1.25,
rotation within 10 degrees, brightness and contrast within 15 %. What each one does besides:

- maskwright: its own Loader, as training uses it, up to uint8 tensors of 16 (the segmenter normalises on the device).
- torchvision: the transforms of torchvision's segmentation references on PIL images (random resize, flip, crop, plus the
  rotation and the colour jitter), polygons painted as its coco_utils does (pycocotools), up to normalised float tensors;
  no collating. It has no cache, so its only rate is what our cached rate is held against.
- albumentations 2.0: HorizontalFlip, one Affine, RandomBrightnessContrast on arrays; decoding and painting are ours; no
  collating, no normalising.

Two more rows give the peers our cache: they start from decoded uint8 arrays. Contestants take turns in every repeat; rates
are medians over the repeats, of CPU time (so that neighbours on the machine weigh less); ratios are of those medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for a newer version

import albumentations as A
import cv2
import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from maskwright.core.types import VOID, Record
from maskwright.data.open import open_data
from maskwright.imaging.images import PAD_COLOUR
from maskwright.training.augment import augmenter, soft
from maskwright.training.cache import Samples
from maskwright.training.loader import Loader

BATCH = 16
SCALE, ROTATE, LIGHT = 1.25, 10.0, 0.15
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("MASKWRIGHT_DATA") or Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=shared / "car-parts" / "trainingset")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--images", type=int, default=96, help="images a turn")
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    data = open_data(options.data).data
    data = data.select(np.arange(min(len(data), options.images // BATCH * BATCH)))
    size = (options.size, options.size)
    cold = Samples(data, range(len(data)), size=size, cache="none")
    kept = Samples(data, range(len(data)), size=size, cache="memory")
    contestants = {
        "maskwright, from files": from_loader(cold),
        "torchvision reference, from files": each(data, lambda i: reference(*decoded_as_reference(data[i]), size)),
        "albumentations, from files": each(data, lambda i: albumentations(*cold[i])),
        "maskwright, cached": from_loader(kept),
        "torchvision reference, cached": each(data, lambda i: reference(*map(Image.fromarray, kept[i]), size)),
        "albumentations, cached": each(data, lambda i: albumentations(*kept[i])),
    }
    rates = measure(contestants, options.repeats, len(data))
    print(
        f"{len(data)} images of {options.data} at {size[0]} x {size[1]}, median of {options.repeats} repeats, one thread"
    )
    for name, (cpu, wall) in rates.items():
        print(f"  {name:36}{cpu:8.0f} images/s of CPU time  ({1000 / cpu:6.2f} ms){wall:8.0f} images/s on the clock")
    for ours, peer in (
        ("maskwright, from files", "torchvision reference, from files"),
        ("maskwright, from files", "albumentations, from files"),
        ("maskwright, cached", "torchvision reference, from files"),
        ("maskwright, cached", "torchvision reference, cached"),
        ("maskwright, cached", "albumentations, cached"),
    ):
        print(f"  {ours:24} / {peer:36}{rates[ours][0] / rates[peer][0]:6.1f} x")


def measure(contestants: dict[str, Callable[[], None]], repeats: int, images: int) -> dict[str, tuple[float, float]]:
    """Images a second of CPU time and of the clock."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for repeat in range(repeats + 1):  # the first warms up
        for name, walk in contestants.items():
            began = time.process_time(), time.perf_counter()
            walk()
            if repeat:
                times[name].append((time.process_time() - began[0], time.perf_counter() - began[1]))
    return {name: tuple(images / statistics.median(column) for column in zip(*rows)) for name, rows in times.items()}


def from_loader(samples: Samples) -> Callable[[], None]:
    ranges = soft(scale=SCALE, rotate=ROTATE, shift=0.0, light=LIGHT, colour=0.0)
    loader = Loader(samples, augmenter(ranges, samples.size), batch=BATCH, workers=0)
    epochs = count()

    def walk() -> None:
        for batch in loader.epoch(next(epochs)):
            assert batch.images.dtype == torch.uint8

    return walk


def each(data: Any, prepare: Callable[[int], Any]) -> Callable[[], None]:
    def walk() -> None:
        for i in range(len(data)):
            prepare(i)

    return walk


# ------------------------------------------------------------------------------------------ torchvision reference style


def decoded_as_reference(record: Record) -> tuple[Image.Image, Image.Image]:
    """Image and label map as the COCO data set of the references makes them: masks stacked, the largest label wins, overlaps
    are ignored."""
    with Image.open(record.image) as file:
        image = file.convert("RGB")
    height, width = record.size
    masks = []
    for region in record.regions:
        polygons = [part.reshape(-1).tolist() for part in region.polygons]
        mask = coco_mask.decode(coco_mask.frPyObjects(polygons, height, width))
        masks.append(torch.as_tensor(mask if mask.ndim == 3 else mask[..., None], dtype=torch.uint8).any(dim=2))
    if not masks:
        return image, Image.fromarray(np.zeros(record.size, np.uint8))
    stack = torch.stack(masks)
    labels = torch.as_tensor([region.label for region in record.regions], dtype=torch.uint8)
    target = (stack * labels[:, None, None]).max(dim=0).values
    target[stack.sum(0) > 1] = VOID
    return image, Image.fromarray(target.numpy())


_jitter = v2.ColorJitter(brightness=LIGHT, contrast=LIGHT)


def reference(image: Image.Image, target: Image.Image, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """RandomResize, RandomHorizontalFlip, RandomRotation, RandomCrop (padded), ColorJitter, to tensors, Normalize."""
    height, width = size
    side = round(min(size) * SCALE ** float(torch.empty(1).uniform_(-1, 1)))
    image = F.resize(image, [side], antialias=True)
    target = F.resize(target, [side], interpolation=v2.InterpolationMode.NEAREST)
    if torch.rand(1) < 0.5:
        image, target = F.horizontal_flip(image), F.horizontal_flip(target)
    angle = float(torch.empty(1).uniform_(-ROTATE, ROTATE))
    image = F.rotate(image, angle, interpolation=v2.InterpolationMode.BILINEAR, fill=list(PAD_COLOUR))
    target = F.rotate(target, angle, fill=[VOID])
    if min(image.size) < min(size):
        right, bottom = max(width - image.width, 0), max(height - image.height, 0)
        image = F.pad(image, [0, 0, right, bottom], fill=list(PAD_COLOUR))
        target = F.pad(target, [0, 0, right, bottom], fill=[VOID])
    top = int(torch.randint(0, image.height - height + 1, (1,)))
    left = int(torch.randint(0, image.width - width + 1, (1,)))
    image, target = F.crop(image, top, left, height, width), F.crop(target, top, left, height, width)
    image = F.to_dtype(F.pil_to_tensor(_jitter(image)), torch.float, scale=True)
    return F.normalize(image, MEAN, STD), torch.as_tensor(np.array(target), dtype=torch.int64)


# ------------------------------------------------------------------------------------------------------- albumentations

_pipeline = A.Compose(
    [
        A.HorizontalFlip(p=0.5),
        A.Affine(
            scale=(1 / SCALE, SCALE),
            rotate=(-ROTATE, ROTATE),
            interpolation=cv2.INTER_LINEAR,
            mask_interpolation=cv2.INTER_NEAREST,
            border_mode=cv2.BORDER_CONSTANT,
            fill=PAD_COLOUR,
            fill_mask=VOID,
            p=1.0,
        ),
        A.RandomBrightnessContrast(brightness_limit=LIGHT, contrast_limit=LIGHT, p=1.0),
    ]
)


def albumentations(image: np.ndarray, label_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    changed = _pipeline(image=image, mask=label_map)
    return changed["image"], changed["mask"]


if __name__ == "__main__":
    main()
