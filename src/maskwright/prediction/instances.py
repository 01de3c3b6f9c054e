"""The Predictor of instance models: an image in, its objects out, on the image's own pixels.

It reads and fits the image as the semantic one does, runs the network (with `flip` on the mirrored image too), and lets the
task turn boxes and small masks into run-lengths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.bundles import bundle as bundles
from maskwright.bundles.bundle import Description
from maskwright.core.errors import ModelError, RecipeError
from maskwright.core.types import SURE, Instances, ObjectNetwork
from maskwright.imaging import images
from maskwright.imaging.images import Fitting
from maskwright.prediction import display, object_views
from maskwright.prediction.views import as_input
from maskwright.prediction.whole import Whole
from maskwright.tasks import instance
from maskwright.tasks.thresholds import Thresholds

Picture = str | Path | bytes | np.ndarray


def _known(description: Description) -> Thresholds:
    """The thresholds of a description. Raises ModelError for others than this version knows."""
    if not isinstance(description.thresholds, Mapping):
        raise ModelError("is damaged (`thresholds` is no mapping)", place=bundles.DESCRIPTION)
    try:
        return Thresholds().changed(description.thresholds)
    except RecipeError as error:
        raise ModelError(f"has thresholds that cannot be ({error})", place=bundles.DESCRIPTION) from error


class InstancePredictor:
    """Callable: an image (path, encoded bytes, or uint8 RGB (H, W, 3)) -> Instances at the image's own size.

    thresholds: what is given replaces the description's. tta: {"flip": bool}, left out: as the description says.
    Raises RecipeError for other thresholds than there are, and for other scales than 1.
    """

    def __init__(
        self,
        network: ObjectNetwork,
        description: Description,
        *,
        runtime: str,
        thresholds: Mapping[str, Any] | None = None,
        tta: Mapping[str, Any] | None = None,
    ):
        self.network, self.description, self.runtime = network, description, runtime
        self.flip = _flip(tta, description)
        self.thresholds = _known(description).changed(thresholds or {})

    @property
    def classes(self) -> tuple[str, ...]:
        return self.description.classes

    @property
    def decision(self) -> str:
        """What counts as an object, in the words that stand beside scores."""
        plain, words = Thresholds().to_json(), ["tta: flip"] if self.flip else []
        for name, value in self.thresholds.to_json().items():
            if value != plain[name]:
                words.append(name if value is True else f"{name} {value:g}")
        return ", ".join(words)

    def __call__(self, image: Picture, *, upright: bool = True) -> Instances:
        """The objects, the surest first."""
        if isinstance(self.network, Whole):
            decoded = self.network.objects(image, self.thresholds, upright=upright)
        else:
            found, fitting = self.answer(image, upright=upright)
            source = str(image) if isinstance(image, str | Path) else None
            decoded = instance.decode(found, fitting, self.classes, self.thresholds, source)
        return replace(decoded, shown=display.shown(image, self.thresholds.score or SURE))

    def answer(self, image: Picture, *, upright: bool = True) -> tuple[tuple[np.ndarray, ...], Fitting]:
        """What the network itself finds (see ObjectNetwork), and where the image lies in its input."""
        size, how = self.description.size, self.description.fit
        if isinstance(image, np.ndarray):
            fitting = images.plan(image.shape[:2], size, how)
            pixels = images.fit(image, fitting)
        else:
            pixels, fitting = images.read_fitted(image, size, how, upright=upright)
        seen = as_input(pixels)
        if self.flip:
            return object_views.answer(self.network, seen, self.description.flip_pairs), fitting
        return self.network(seen), fitting


def _flip(tta: Mapping[str, Any] | None, description: Description) -> bool:
    """Whether the mirrored image is looked at, too. Raises RecipeError where scales are asked for."""
    try:
        found = bundles.augmentation(tta or {}, description.tta)
    except ValueError as error:
        raise RecipeError(str(error), place="tta") from error
    if any(scale != 1 for scale in found["scales"]):
        raise RecipeError(
            "objects are found at one size", place="--scales", hint="leave it out; `--flip` can be asked for"
        )
    return bool(found["flip"])
