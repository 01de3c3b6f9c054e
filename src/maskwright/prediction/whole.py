"""A self-contained ONNX file (`contract: image/1`, see exports/self_contained.py) in the place of a predictor's network: it
takes the image itself and answers with finished masks, so that nothing is left to fit or to decode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from maskwright.bundles.bundle import Description
from maskwright.core.errors import ModelError, RecipeError
from maskwright.core.types import Instances
from maskwright.imaging import images
from maskwright.imaging.paste import run_lengths
from maskwright.tasks.thresholds import Thresholds, settled, surviving

CONTRACT = "image/1"  # uint8 RGB (H, W, 3) of any size -> the answer at that size
MAPS, MASKS = ("class_map",), ("masks", "class_map")  # outputs of semantic models, of those whose classes overlap
OBJECTS = ("masks", "boxes", "labels", "scores")  # of instance models
Picture = str | Path | bytes | np.ndarray  # path, encoded bytes, or uint8 RGB (H, W, 3)


class Whole:
    """What a self-contained file does. Called as a bare network it refuses: such a file has no logits to hand out.

    run: image uint8 (H, W, 3), names of outputs -> their arrays; thread-safe.
    """

    def __init__(
        self, run: Callable[[np.ndarray, tuple[str, ...]], list[np.ndarray]], description: Description, place: Path
    ):
        self.run, self.description, self.place = run, description, place

    def __call__(self, pixels: np.ndarray) -> NoReturn:
        what = "is self-contained and answers with finished masks: logits and probabilities are not in it"
        raise ModelError(what, place=self.place, hint="give the bundle")

    def check(self, tiled: bool, tta: Mapping[str, Any] | None, overlap: float | None) -> None:
        """Raises RecipeError for ways to predict that are not built into the file."""
        hint = "leave it out, or give the bundle"
        for name, value in (("--tiles", tiled), ("--overlap", overlap)):
            if value:
                raise RecipeError("cannot be chosen for a self-contained file", place=name, hint=hint)
        for name, value in (tta or {}).items():
            if value != self.description.tta[name]:
                raise RecipeError(
                    "of a self-contained file was chosen when it was exported", place=f"--{name}", hint=hint
                )

    def labelled(self, image: Picture, *, upright: bool = True) -> tuple[np.ndarray, np.ndarray | None]:
        """The label map uint8 (H, W) and, where classes overlap, their masks bool (C, H, W)."""
        pixels = _pixels(image, upright)
        if not self.description.multilabel:
            return self.run(pixels, MAPS)[0], None
        masks, label_map = self.run(pixels, MASKS)
        return label_map, masks.astype(np.bool_)

    def objects(self, image: Picture, rules: Thresholds, *, upright: bool = True) -> Instances:
        """The objects, the surest first. rules: may leave out more than the file does.

        Raises RecipeError for thresholds that would need what the file has left out.
        """
        self._check_rules(rules)
        pixels = _pixels(image, upright)
        masks, boxes, labels, scores = self.run(pixels, OBJECTS)
        size = (pixels.shape[0], pixels.shape[1])
        kept = surviving(boxes, labels, scores, rules)
        found = Instances(
            labels=labels[kept],
            scores=scores[kept],
            boxes=boxes[kept].astype(np.float64),
            counts=tuple(_runs(masks[index], boxes[index]) for index in kept.tolist()),
            size=size,
            classes=self.description.classes,
            image=str(image) if isinstance(image, str | Path) else None,
        )
        return settled(found, rules)

    def _check_rules(self, asked: Thresholds) -> None:
        built = Thresholds().changed(self.description.thresholds)
        looser = {
            "score": asked.score < built.score,
            "nms": asked.nms > built.nms,
            "mask": asked.mask != built.mask,
            "min_area": asked.min_area < built.min_area,
            "exclusive": built.exclusive and not asked.exclusive,
        }
        for name in (name for name, wrong in looser.items() if wrong):
            what = f"cannot be {getattr(asked, name)}: {getattr(built, name)} is built into the self-contained file"
            raise RecipeError(what, place=f"thresholds.{name}", hint="leave it out, or give the bundle")


def _runs(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Run-lengths of a mask uint8 (H, W) that has nothing outside its box float32 (4,); looking at all of it takes long."""
    left, top = (max(int(side) - 1, 0) for side in box[:2])  # the box is rounded
    right, bottom = (int(side) + 2 for side in box[2:])
    size = (mask.shape[0], mask.shape[1])
    return run_lengths(mask[top:bottom, left:right].astype(np.bool_), (top, left), size)


def _pixels(image: Picture, upright: bool) -> np.ndarray:
    return np.ascontiguousarray(image) if isinstance(image, np.ndarray) else images.read(image, upright=upright)
