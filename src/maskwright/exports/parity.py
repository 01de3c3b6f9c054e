"""How far a file that was just written is from the trained network, on the network's own inputs, and how far it may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from maskwright.bundles.bundle import Description
from maskwright.core import events
from maskwright.core.errors import ModelError
from maskwright.core.types import Network
from maskwright.core.words import counted
from maskwright.exports.onnx_objects import LEAST_IOU, MAX_SCORE_DIFFERENCE, MAX_UNMATCHED, ObjectParity, compared

if TYPE_CHECKING:
    from maskwright.models.instance_segmenter import InstanceSegmenter
    from maskwright.models.segmenter import Segmenter

OPSET = 17
MAX_LOGIT_DIFFERENCE = 1e-2  # relative to the largest logit; fp32 reordering stays near 1e-5
MAX_PIXELS_CHANGED = 1e-3  # of the network's output pixels


@dataclass(frozen=True)
class Parity:
    """How far the exported file is from the trained network, over `images` real images.

    max_logit_difference: largest absolute difference of any logit. pixels_changed: share of network pixels whose class
    differs. size_mb: of the file. opset: of the file.
    """

    images: int
    max_logit_difference: float
    pixels_changed: float
    size_mb: float = 0.0
    opset: int = OPSET

    def words(self) -> str:
        changed = f"{100 * self.pixels_changed:.4f} % of the pixels answered differently"
        return f"largest logit difference {self.max_logit_difference:.2g}, {changed}"


AnyParity = Parity | ObjectParity


def held(
    segmenter: Segmenter | InstanceSegmenter,
    exported: Any,
    pixels: Sequence[np.ndarray],
    description: Description,
    out: Path,
    limited: bool = True,
) -> AnyParity:
    """The file's network held against the trained one on inputs float32 (1, 3, h, w), all of one size.

    Raises ModelError, naming `out`, for answers of another shape and numbers that are not finite, and beyond the limits of a
    float32 file; these are not asked for with `limited=False`: how much coarser arithmetic may lose, the certificate judges.
    """
    from maskwright.prediction import with_torch

    trained: Any = with_torch.running(segmenter)
    if description.task != "instance":
        parity = compare(trained, cast(Network, exported), pixels, description.multilabel, limited)
        if limited and parity.pixels_changed > MAX_PIXELS_CHANGED:
            share = f"{100 * parity.pixels_changed:.2f} %"
            raise ModelError(
                f"the exported network answers {share} of the pixels differently; nothing was written", place=out
            )
        return parity
    height, width = pixels[0].shape[2:]
    objects = compared(trained, exported, pixels, (height, width))
    if limited and (
        objects.unmatched > MAX_UNMATCHED * max(objects.objects, 1)
        or objects.min_iou < LEAST_IOU
        or objects.max_score_difference > MAX_SCORE_DIFFERENCE
    ):
        raise ModelError(f"the exported network disagrees: {objects.words()}; nothing was written", place=out)
    if not objects.objects:
        events.warn(f"{out}: on {counted(objects.images, 'photo')} {objects.words()}")
    return objects


def compare(
    trained: Network,
    exported: Network,
    pixels: Sequence[np.ndarray],
    multilabel: bool = False,
    limited: bool = True,
) -> Parity:
    """Both networks on the same inputs, logit by logit.

    Raises ModelError for an answer of another shape, numbers that are not finite, and, where limited, logits too far apart.
    """
    difference, changed, total = 0.0, 0, 0
    scale = 0.0
    for image in pixels:
        expected, actual = trained(image), exported(image)
        if expected.shape != actual.shape or not np.isfinite(actual).all():
            raise ModelError("the exported network answers in another shape or with numbers that are not finite")
        scale = max(scale, float(np.abs(expected).max()))
        difference = max(difference, float(np.abs(expected - actual).max()))
        if multilabel:
            changed += int(((expected > 0) != (actual > 0)).any(axis=1).sum())
        else:
            changed += int((expected.argmax(1) != actual.argmax(1)).sum())
        total += expected[:, 0].size
    if limited and difference > MAX_LOGIT_DIFFERENCE * max(scale, 1.0):
        raise ModelError(
            f"the exported network differs by {difference:.2g} (largest logit {scale:.2g}); nothing was written"
        )
    return Parity(len(pixels), difference, changed / total)
