"""Parity of models that find objects, `contract: objects/1`: float32 (1, 3, h, w), 0..255 -> boxes float32 (N, 4) in pixels
of the input, labels int64 (N,) from 1, scores float32 (N,) and masks float32 (N, 1, m, m) inside the boxes; N is what it finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.core.types import OBJECT_OUTPUTS, Instances
from maskwright.core.words import counted
from maskwright.exports import agreement
from maskwright.imaging.paste import pasted

if TYPE_CHECKING:
    from maskwright.models.instance_segmenter import InstanceSegmenter

LEAST_IOU = 0.99  # of the pixels of an object, as both draw it
MAX_SCORE_DIFFERENCE = 1e-3
MAX_UNMATCHED = 0.01  # share of the objects; scores a rounding error apart may fall on both sides of a threshold
NEAR = 2.0  # pixels of the network's input: boxes further apart are not the same object's


@dataclass(frozen=True)
class ObjectParity:
    """How far the exported file is from the trained network, over `images` real images with `objects` objects.

    unmatched: objects that only one of the two finds. min_iou: smallest overlap of an object's pixels as both draw it (of
    objects of agreement.SMALL pixels and more). max_score_difference: of an object's scores. size_mb, opset: of the file.
    """

    images: int
    objects: int
    unmatched: int
    min_iou: float
    max_score_difference: float
    size_mb: float = 0.0
    opset: int = 0

    def words(self) -> str:
        if not self.objects and not self.unmatched:
            return "neither finds an object there, so that little is proved: name photos that show some"
        alone = f"{self.unmatched} of {counted(self.objects, 'object')} found by one alone"
        return f"{alone}, masks agree to an IoU of {self.min_iou:.4f}, scores to {self.max_score_difference:.2g}"


def compared(trained: Any, exported: Any, pixels: Sequence[np.ndarray], size: tuple[int, int]) -> ObjectParity:
    """Both networks on the same inputs, object by object: the nearest box of the same class within two pixels is the same."""
    rows = [agreement.matched(drawn(trained(image), size), drawn(exported(image), size), NEAR) for image in pixels]
    return ObjectParity(len(pixels), *agreement.summed(rows))


def drawn(found: Sequence[np.ndarray], size: tuple[int, int]) -> Instances:
    """What a network found, on the pixels of its input."""
    boxes, labels, scores, masks = found
    counts = tuple(pasted(mask[0], box, size) for mask, box in zip(masks, boxes, strict=True))
    return Instances(labels, scores, boxes, counts, size, ())


def flat(segmenter: InstanceSegmenter) -> Any:
    """The segmenter with the outputs of the contract instead of its list of dicts."""
    from torch import Tensor, nn

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.segmenter = segmenter

        def forward(self, images: Tensor) -> tuple[Tensor, ...]:
            found = self.segmenter(images)[0]
            return tuple(found[name] for name in OBJECT_OUTPUTS)

    return Flat()
