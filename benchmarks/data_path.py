"""Images a second that one core prepares for training: this tool, the torchvision reference style, albumentations.

    python benchmarks/data_path.py [DATA] [--size 512] [--images 96] [--repeats 7]
    python benchmarks/data_path.py [DATA] --workers     # instead: what workers add in speed, and in memory on 118,000 images

All do the same to the same files, without workers and with one thread: a flip in half of the cases, zoom 0.8 to 1.25,
rotation within 10 degrees, brightness and contrast within 15 %. All end in batches of 16, in a random order:

- maskwright: its own Loader, as training uses it; uint8 tensors (the segmenter normalises on the device).
- torchvision: the transforms of torchvision's segmentation references on PIL images (random resize, flip, crop, plus the
  rotation and the colour jitter), polygons painted as its coco_utils does (pycocotools), normalised float tensors; torch's
  DataLoader with the references' way to collate. It has no cache, so its only rate is what our cached rate is held against.
- albumentations 2.0: HorizontalFlip, one Affine, RandomBrightnessContrast on arrays; not normalised; torch's DataLoader.
  Once as it is used with COCO labels (cv2.imread, pycocotools paints), once with our decoding and painting.

Two more rows give the peers our cache: they start from decoded uint8 arrays. Contestants take turns in every repeat; rates
are medians over the repeats, of CPU time (so that neighbours on the machine weigh less); ratios are of those medians.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count, islice
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

from maskwright.core.table import Data, Packer
from maskwright.core.types import VOID, Record
from maskwright.data.open import open_data
from maskwright.imaging.images import PAD_COLOUR
from maskwright.training.augment import augmenter, soft
from maskwright.training.cache import Samples
from maskwright.training.loader import Loader

BATCH = 16
BIG = 118_000
SCALE, ROTATE, LIGHT = 1.25, 10.0, 0.15
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("MASKWRIGHT_DATA") or Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=shared / "car-parts" / "trainingset")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--images", type=int, default=96, help="images a turn")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--workers", action="store_true")
    options = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    data = open_data(options.data).data
    if options.workers:
        with_workers(data, (options.size, options.size))
        return
    data = data.select(np.arange(min(len(data), options.images // BATCH * BATCH)))
    size = (options.size, options.size)
    cold = Samples(data, range(len(data)), size=size, cache="none")
    kept = Samples(data, range(len(data)), size=size, cache="memory")
    torchvision_style = partial(from_data_loader, data, collate=collated_as_reference)
    albumentations_style = partial(from_data_loader, data, collate=stacked)
    contestants = {
        "maskwright, from files": from_loader(cold),
        "torchvision reference, from files": torchvision_style(
            lambda i: reference(*decoded_as_reference(data[i]), size)
        ),
        "albumentations, from files": albumentations_style(lambda i: albumentations(*decoded_by_opencv(data[i]))),
        "albumentations, our decoding": albumentations_style(lambda i: albumentations(*cold[i])),
        "maskwright, cached": from_loader(kept),
        "torchvision reference, cached": torchvision_style(lambda i: reference(*map(Image.fromarray, kept[i]), size)),
        "albumentations, cached": albumentations_style(lambda i: albumentations(*kept[i])),
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
        ("maskwright, from files", "albumentations, our decoding"),
        ("maskwright, cached", "torchvision reference, from files"),
        ("maskwright, cached", "torchvision reference, cached"),
        ("maskwright, cached", "albumentations, from files"),
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


def from_data_loader(
    data: Data, prepare: Callable[[int], Any], collate: Callable[[list[Any]], Any]
) -> Callable[[], None]:
    """torch's own DataLoader over what `prepare` makes of each image."""

    class Prepared(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(data)

        def __getitem__(self, index: int) -> Any:
            return prepare(index)

    loader = torch.utils.data.DataLoader(Prepared(), BATCH, shuffle=True, drop_last=True, collate_fn=collate)

    def walk() -> None:
        for images, targets in loader:
            assert len(images) == len(targets) == BATCH

    return walk


def with_workers(data: Data, size: tuple[int, int]) -> None:
    """Images a second of the whole loader, and what each of four workers holds of its own (Linux)."""
    for cache in ("none", "memory"):
        samples = Samples(data, range(len(data)), size=size, cache=cache)
        for workers in (0, 1, 2, 4):
            loader = Loader(samples, augmenter("soft", size), batch=BATCH, workers=workers)
            rates = []
            for epoch in range(4):
                began = time.perf_counter()
                images = sum(len(batch.ids) for batch in loader.epoch(epoch))
                rates.append(images / (time.perf_counter() - began))
            loader.close()
            print(f"cache {cache:8}{workers} workers {statistics.median(rates[1:]):8.0f} images/s on the clock")
    records, packer = list(data), Packer()
    for number in range(BIG):
        packer.record(replace(records[number % len(records)], id=str(number)))
    big = packer.pack(data.classes)
    samples = Samples(big, range(BIG), size=size, cache="none")
    loader = Loader(samples, augmenter("soft", size), batch=BATCH, workers=4)
    for _ in islice(loader.epoch(0), 30):
        pass
    print(f"{BIG:,} images, {int(big.num_regions.sum()):,} objects")
    for worker in multiprocessing.active_children():
        lines = Path(f"/proc/{worker.pid}/smaps_rollup").read_text().splitlines()
        own = sum(int(line.split()[1]) for line in lines if line.startswith("Private"))
        print(f"  worker {worker.pid}: {own / 1000:.0f} MB of its own")
    loader.close()


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


def collated_as_reference(samples: list[tuple[torch.Tensor, torch.Tensor]]) -> tuple[torch.Tensor, torch.Tensor]:
    """A filled tensor as large as the largest sample, and the samples copied into it."""
    batches = []
    for column, fill in zip(zip(*samples), (0, VOID)):
        shape = [max(sizes) for sizes in zip(*(tensor.shape for tensor in column))]
        batch = column[0].new(len(column), *shape).fill_(fill)
        for tensor, row in zip(column, batch):
            row[..., : tensor.shape[-2], : tensor.shape[-1]].copy_(tensor)
        batches.append(batch)
    return batches[0], batches[1]


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


def decoded_by_opencv(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """Image and label map as its users make them from COCO labels: one pycocotools mask after the other."""
    image = cv2.cvtColor(cv2.imread(record.image), cv2.COLOR_BGR2RGB)
    label_map = np.zeros(record.size, np.uint8)
    for region in record.regions:
        polygons = [part.reshape(-1).tolist() for part in region.polygons]
        mask = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *record.size)))
        label_map[mask > 0] = region.label
    return image, label_map


def albumentations(image: np.ndarray, label_map: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    changed = _pipeline(image=image, mask=label_map)
    return changed["image"], changed["mask"]


def stacked(samples: list[tuple[np.ndarray, np.ndarray]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Arrays as uint8 tensors (B, 3, H, W) in channels_last memory and (B, H, W)."""
    images, label_maps = (torch.from_numpy(np.stack(column)) for column in zip(*samples))
    return images.permute(0, 3, 1, 2), label_maps


if __name__ == "__main__":
    main()
