"""The wrapper around a bare instance network: pixels 0..255 of any size in, losses or objects out.

    segmenter(images, targets) -> dict of losses, in train and in eval mode
    segmenter(images)          -> for each image a dict of its objects: boxes, labels, scores, masks

images: float32 (B, 3, H, W), 0..255; targets: Layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from maskwright.models.segmenter import normalization_of
from maskwright.tasks.instance import IGNORED

SMALLEST = 1.0  # pixels; thinner boxes cannot be learnt from


class Layers(NamedTuple):
    """Objects of a batch: layers uint8 (B, P, H, W) of their numbers (0 and VOID: none; IGNORED: counts nowhere), and a
    table uint8 (B, P, 256) of the class of each number, from 1. See tasks/instance.py."""

    layers: Tensor
    table: Tensor


def wrap(network: nn.Module, normalization: str = "imagenet") -> InstanceSegmenter:
    """The network with one of `segmenter.NORMALIZATIONS` before it. Raises ModelError for another name."""
    mean, std = normalization_of(normalization)
    return InstanceSegmenter(network, mean=mean, std=std)


class InstanceSegmenter(nn.Module):
    """Normalises, and pads right and bottom to the network's stride by repeating the border; boxes may end in what was added.

    mean, std: for pixels 0..255; kept in the state dict, so that saved weights know their scale.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, *, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        self.network = network
        self.stride = int(network.stride)  # type: ignore[arg-type]
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1))

    def forward(self, images: Tensor, targets: Layers | None = None) -> Any:
        inputs = self._padded((images - self.mean) / self.std)
        return self.network(inputs) if targets is None else self.network(inputs, objects(targets))

    def _padded(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        below, right = -height % self.stride, -width % self.stride
        return pad(images, (0, right, 0, below), mode="replicate") if below or right else images


def objects(targets: Layers) -> list[dict[str, Tensor]]:
    """For each image boxes float (N, 4) tight around the masks, labels int64 (N,) and masks uint8 (N, H, W).

    And `ignored` uint8 (H, W), 1 where pixels count nowhere, for images that have any.
    """
    return [_objects(layers, table) for layers, table in zip(targets.layers, targets.table, strict=True)]


def _objects(layers: Tensor, table: Tensor) -> dict[str, Tensor]:
    numbers = [torch.nonzero(classes[:IGNORED]).flatten() for classes in table]
    numbers = [mine[mine > 0] for mine in numbers]
    label = torch.cat([classes[mine].long() for classes, mine in zip(table, numbers, strict=True)])
    mask = torch.empty((len(label), *layers.shape[1:]), dtype=torch.uint8, device=layers.device)
    for layer, mine, part in zip(layers, numbers, mask.split([len(mine) for mine in numbers]), strict=True):
        torch.eq(
            layer[None], mine.to(torch.uint8)[:, None, None], out=part
        )  # bool masks take a processor ten times as long
    rows, columns = mask.amax(2), mask.amax(1)
    boxes = torch.stack([_first(columns), _first(rows), _last(columns), _last(rows)], dim=1).float()
    kept = ((boxes[:, 2:] - boxes[:, :2]) > SMALLEST).all(1) & (rows.amax(1) > 0)
    if not kept.all():
        some = torch.nonzero(kept).flatten()
        boxes, label, mask = (part.index_select(0, some) for part in (boxes, label, mask))
    found = {"boxes": boxes, "labels": label, "masks": mask}
    ignored = torch.eq(layers, IGNORED, out=torch.empty_like(layers)).amax(0)
    return {**found, "ignored": ignored} if ignored.amax() else found


def _first(seen: Tensor) -> Tensor:
    """Index of the first 1 of each row uint8 (N, L)."""
    return seen.argmax(1)


def _last(seen: Tensor) -> Tensor:
    """Index after the last 1 of each row uint8 (N, L)."""
    return seen.shape[1] - seen.flip(1).argmax(1)
