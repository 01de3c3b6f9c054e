"""Our scores restated the way other projects print theirs, so that two numbers can be laid side by side.

A convention is a function of Scores -> Restated: the numbers as that project would print them for the same label maps,
and beside them the floor, what an answer that looked at no image gets. A floor far above 0 says that the convention
flatters. To add one: write the function, add its line to CONVENTIONS in `__init__.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from maskwright.core.errors import DataError
from maskwright.core.types import BACKGROUND
from maskwright.metrics.intervals import Estimate, bootstrap
from maskwright.metrics.scores import Scores, ratio

_MOST_VALUES = 254  # the container's num_classes goes up to 254; 255 is its hole


@dataclass(frozen=True)
class Restated:
    """Numbers in another project's convention.

    name: of the convention, as in CONVENTIONS.
    values: what is printed -> Estimate.
    floor: the same names -> what `floor_answer` scores on the same truth; None where undefined.
    classes: what the mean counts, phantom classes included.
    text: one sentence: how it counts, and how ours differs.
    """

    name: str
    values: dict[str, Estimate]
    floor: dict[str, float | None]
    floor_answer: str
    classes: tuple[str, ...]
    text: str

    def to_json(self) -> dict[str, Any]:
        return {
            "convention": self.name,
            "values": {name: estimate.to_json() for name, estimate in self.values.items()},
            "floor": dict(self.floor),
            "floor_answer": self.floor_answer,
            "classes": list(self.classes),
            "text": self.text,
        }


def hydrogen_torch(scores: Scores) -> Restated:
    """Mean over images and foreground classes of per-image IoU, empty against empty counting 1 (H2O Hydrogen Torch).

    As the car-parts project's validation IoU: every pair of an image and a class (background is none) has one IoU;
    where neither truth nor answer has the class it is 1; all pairs weigh the same. The floor is the share of pairs
    whose truth is empty: what an answer without any object scores. Images that are void throughout are left out.

    Inferred, since the product's source is not public: that empty pairs count 1 (the published second epoch, 0.5715, is
    the share of empty pairs), that the mean is over pairs, and that masks are compared at the network's size. Not
    reproduced: there each class is thresholded at a probability of 0.5 by itself, so that a pixel may have several
    classes or none; label maps hold one class a pixel (models with `multilabel: true` do as it does).
    """
    first = scores.classes[0] == BACKGROUND
    counts = scores.counts[scores.counts[:, 1].any(axis=1) | scores.overlapping][:, :, first:].astype(np.float64)
    common, truth, predicted = np.moveaxis(counts, 1, 0)
    iou = np.nan_to_num(ratio(common, truth + predicted - common), nan=1.0)
    num_images, num_classes = iou.shape
    sums = np.stack([iou.sum(axis=1), np.full(num_images, num_classes)], axis=1)
    value = bootstrap(sums, lambda s: ratio(s[:, :1], s[:, 1:]), resamples=scores.resamples, seed=scores.seed)[0]
    return Restated(
        name="hydrogen-torch",
        values={"IoU": value},
        floor={"IoU": float((truth == 0).mean()) if truth.size else None},
        floor_answer="an all-empty answer",
        classes=scores.classes[first:],
        text=(
            "IoU of each image and class, 1 where truth and prediction both lack the class, averaged over all "
            f"{num_images:,} x {num_classes} pairs, background being no class; ours pools each class over all images "
            "and leaves absent classes out (inferred: there each class is thresholded at 0.5, at the network's size; "
            f"here {scores.decision}, at {scores.resolution})."
        ),
    )


def sagemaker(scores: Scores, *, stored_values: tuple[int, ...] | None = None) -> Restated:
    """Pooled mean IoU over `num_classes` = highest stored value + 1, and pooled pixel accuracy (SageMaker's container).

    As the pet project's container logs `validation mIOU` and `validation pixel_accuracy`: every value from 0 to the
    highest is a class; one that no label file stores (0 where trimaps hold 1, 2, 3) is a phantom whose IoU is 0, and so
    is that of a class which the scored truth lacks. Hence mIOU = (sum of our IoUs) / num_classes: 3/4 of the true mean
    for trimaps. The floor is the most frequent class given to every pixel.

    Inferred, since the container's source is not public: that absent classes count 0 and pixels are pooled (as in the
    metric of the public library it is built on, GluonCV), and that 255 counts nowhere. Not reproduced: the container's
    resolution (unknown), and pixels that its model gives to a phantom class.

    stored_values: the value that label files store for each class, in any order; None = 0, 1, 2, ... without gaps.
    """
    if scores.overlapping:
        raise DataError("the sagemaker convention knows one class a pixel, and these classes overlap")
    num = len(scores.classes)
    stored = tuple(range(num)) if stored_values is None else tuple(stored_values)
    if len(set(stored)) != num or len(stored) != num or min(stored) < 0 or max(stored) >= _MOST_VALUES:
        what = f"the sagemaker convention needs one stored value from 0 to {_MOST_VALUES - 1} for each of {num} classes"
        hint = "labels whose values were merged, dropped or are colours have no score in that convention"
        raise DataError(f"{what}; these labels store {', '.join(map(str, stored)) or 'none'}", hint=hint)
    num_classes = max(stored) + 1
    phantoms = tuple(v for v in range(num_classes) if v not in stored)
    truth = scores.totals[1]
    share = float(truth.max() / truth.sum()) if truth.any() else None
    named = f" (never stored, IoU 0: {', '.join(map(str, phantoms))})" if phantoms else ""
    return Restated(
        name="sagemaker",
        values={
            "mIOU": scores.headlines["miou_all"].times(num / num_classes),
            "pixel_accuracy": scores.headlines["pixel_accuracy"],
        },
        floor={"mIOU": None if share is None else share / num_classes, "pixel_accuracy": share},
        floor_answer=f"all `{scores.classes[int(truth.argmax())]}`",
        classes=scores.classes + tuple(f"stored value {v}" for v in phantoms),
        text=(
            f"IoU pooled over all pixels, averaged over num_classes = highest stored value + 1 = {num_classes}{named}, "
            f"absent classes counting 0; ours averages over the {int((truth > 0).sum())} classes that the truth has "
            f"(inferred: pooling, and 255 as void; the container's resolution is unknown, here {scores.resolution})."
        ),
    )
