"""Images a second that one core prepares for training instance models: this tool and torchvision's detection reference.

    python benchmarks/instance_data_path.py [DATA ...] [--size 800] [--images 24] [--batch 2] [--repeats 5]

Both do the same to the same files, without workers and with one thread:

- maskwright: its own Loader, as training uses it, `fit: pad` to size x size, flips and nothing else: uint8 tensors and layers
  of objects. Once from files, once from decoded samples (the cache that training fills by itself). The segmenter makes floats,
  boxes and masks of them on its device; "all" adds what that costs on this core (`models.instance_segmenter.objects`).
- torchvision: as references/detection does it: the image by Pillow, the masks by pycocotools from the polygons (its
  `ConvertCocoPolysToMask`), RandomHorizontalFlip with the masks, to a float tensor; then GeneralizedRCNNTransform (`min_size`
  800, `max_size` 1333: normalised, resized, the masks interpolated, laid into a batch whose sides are multiples of 32), which
  its model does on its device; "not resized" leaves that out. It has no cache.

The reference's inputs may be larger than ours (a short side of 800 up to a long one of 1333): a second row has the long side
that ours has. The C allocator keeps freed memory, for all of them, as `maskwright train` has it. Contestants take turns in
every repeat; rates are medians over the repeats, of CPU time; ratios are of those medians.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms.v2 import functional as F

from maskwright.core.table import Data
from maskwright.core.types import Record
from maskwright.data.open import open_data
from maskwright.imaging.objects import objects_of
from maskwright.models.device import keep_freed_memory
from maskwright.models.instance_segmenter import Layers as Targets
from maskwright.models.instance_segmenter import objects
from maskwright.models.segmenter import normalization_of
from maskwright.tasks import instance
from maskwright.training.augment import augmenter, soft
from maskwright.training.cache import Samples
from maskwright.training.loader import Loader
from maskwright.training.truth import Layers

SHARED = Path(os.environ.get("MASKWRIGHT_DATA") or Path(__file__).parents[2] / "shared" / "data")
LONGEST = 1333
FLIP = soft(scale=1.0, rotate=0.0, shift=0.0, light=0.0, colour=0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = [SHARED / "car-parts" / "trainingset", SHARED / "coco_tiny"]
    parser.add_argument("data", nargs="*", type=Path, default=defaults)
    parser.add_argument("--size", type=int, default=800)
    parser.add_argument("--images", type=int, default=24, help="images a turn")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    keep_freed_memory()
    for path in options.data:
        compare(path, options)


def compare(path: Path, options: argparse.Namespace) -> None:
    data = open_data(path).data
    data = data.select(np.flatnonzero(data.num_regions > 0)[: options.images // options.batch * options.batch])
    planes = max(len(instance.layered(objects_of(record, data.classes))) for record in data)
    kinds = {"size": (options.size, options.size), "fit": "pad", "truth": Layers(data.classes, planes)}
    cold, kept = (Samples(data, range(len(data)), cache=where, **kinds) for where in ("none", "memory"))
    reference = partial(from_reference, data, options.batch, options.size)
    large, equal = f"torchvision, {options.size} to {LONGEST}", f"torchvision, long side {options.size}"
    contestants = {
        "maskwright, from files": from_loader(cold, options.batch),
        "maskwright, cached": from_loader(kept, options.batch),
        "maskwright, from files, all": from_loader(cold, options.batch, masks=True),
        "maskwright, cached, all": from_loader(kept, options.batch, masks=True),
        large: reference(LONGEST),
        equal: reference(options.size),
        "torchvision, not resized": reference(None),
    }
    rates = measure(contestants, options.repeats, len(data))
    regions = int(data.num_regions.sum())
    print(f"{len(data)} images of {path}, {regions} objects in {planes} layers, batches of {options.batch}, one thread")
    for name, (cpu, wall) in rates.items():
        print(f"  {name:32}{cpu:8.1f} images/s of CPU time  ({1000 / cpu:6.1f} ms){wall:8.1f} images/s on the clock")
    for mine in list(rates)[:4]:
        for peer in (large, equal):
            print(f"  {mine:28} / {peer:32}{rates[mine][0] / rates[peer][0]:6.1f} x")


def measure(contestants: dict[str, Callable[[], None]], repeats: int, images: int) -> dict[str, tuple[float, float]]:
    """Images a second of CPU time and of the clock."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for repeat in range(repeats + 1):  # the first warms up, and fills our cache
        for name, walk in contestants.items():
            began = time.process_time(), time.perf_counter()
            walk()
            if repeat:
                times[name].append((time.process_time() - began[0], time.perf_counter() - began[1]))
    return {name: tuple(images / statistics.median(column) for column in zip(*rows)) for name, rows in times.items()}


def from_loader(samples: Samples, batch: int, *, masks: bool = False) -> Callable[[], None]:
    """masks: also what the segmenter does with a batch before its network."""
    loader = Loader(samples, augmenter(FLIP, samples.size, fit=samples.fit), batch=batch, workers=0)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in normalization_of("imagenet"))
    epochs = count()

    def walk() -> None:
        for batch in loader.epoch(next(epochs)):
            assert batch.images.dtype == torch.uint8
            if masks:
                images = batch.images.float().sub_(mean).div_(std)
                assert len(images) == len(objects(Targets(batch.targets, batch.tables)))

    return walk


# ------------------------------------------------------------------------------------------ torchvision's reference style


def from_reference(data: Data, batch: int, shortest: int, longest: int | None) -> Callable[[], None]:
    """torch's own DataLoader over the reference's samples, and the model's transform of every batch unless longest is None."""

    class Photos(torch.utils.data.Dataset):
        def __len__(self) -> int:
            return len(data)

        def __getitem__(self, index: int) -> Any:
            return flipped(*decoded(data[index]))

    loader = torch.utils.data.DataLoader(
        Photos(), batch, shuffle=True, drop_last=True, collate_fn=lambda rows: tuple(zip(*rows))
    )
    transform = GeneralizedRCNNTransform(
        shortest, longest or shortest, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    ).train()

    def walk() -> None:
        for images, targets in loader:
            if longest is not None:
                laid, changed = transform(list(images), list(targets))
                assert len(laid.tensors) == len(changed)

    return walk


def decoded(record: Record) -> tuple[Image.Image, dict[str, torch.Tensor]]:
    """Image and target as the reference's ConvertCocoPolysToMask makes them; crowds are left out."""
    with Image.open(record.image) as file:
        image = file.convert("RGB")
    height, width = record.size
    regions = [region for region in record.regions if not region.crowd]
    masks, boxes = [], []
    for region in regions:
        polygons = [part.reshape(-1).tolist() for part in region.polygons]
        mask = coco_mask.decode(coco_mask.frPyObjects(polygons, height, width))
        masks.append(torch.as_tensor(mask if mask.ndim == 3 else mask[..., None], dtype=torch.uint8).any(dim=2))
        points = np.concatenate([part.reshape(-1, 2) for part in region.polygons])
        boxes.append([*points.min(axis=0), *points.max(axis=0)])  # as the labels' `bbox` says
    frame = torch.tensor([width, height, width, height], dtype=torch.float32)
    box = torch.as_tensor(np.array(boxes, np.float32)).reshape(-1, 4).clamp_(min=0).minimum(frame)
    mask = torch.stack(masks) if masks else torch.zeros((0, height, width), dtype=torch.uint8)
    labels = torch.tensor([region.label for region in regions], dtype=torch.int64)
    keep = (box[:, 3] > box[:, 1]) & (box[:, 2] > box[:, 0])
    return image, {"boxes": box[keep], "labels": labels[keep], "masks": mask[keep]}


def flipped(image: Image.Image, target: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The reference's default: PILToTensor, RandomHorizontalFlip, then float."""
    pixels = F.pil_to_tensor(image)
    if torch.rand(1) < 0.5:
        pixels = F.hflip(pixels)
        width = image.width
        target["boxes"][:, [0, 2]] = width - target["boxes"][:, [2, 0]]
        target["masks"] = target["masks"].flip(-1)
    return F.convert_image_dtype(pixels, torch.float), target


if __name__ == "__main__":
    main()
