"""The Predictor: the only door from an image to its masks, in training, evaluation, the command line and a server alike.

It reads and fits the image, runs the network (torch or onnxruntime, one image at a time, so that the numbers do not
depend on what else is in a batch), and decodes the logits on the image's own pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from maskwright.bundles import bundle as bundles
from maskwright.bundles.bundle import Description
from maskwright.core.errors import ModelError, SetupError
from maskwright.core.registry import missing_package
from maskwright.core.types import Network, Prediction
from maskwright.imaging import images
from maskwright.imaging.images import Fitting
from maskwright.prediction import tiles
from maskwright.tasks import semantic


class Predictor:
    """Callable: an image (path, encoded bytes, or uint8 RGB (H, W, 3)) -> Prediction at the image's own size.

    tiled: windows of the network's size over the original pixels, with blended seams, instead of fitting the whole image.
    """

    def __init__(self, network: Network, description: Description, *, runtime: str, tiled: bool = False):
        self.network, self.description, self.runtime = network, description, runtime
        self.tiled = tiled or description.fit == "crop"

    @property
    def classes(self) -> tuple[str, ...]:
        return self.description.classes

    def __call__(self, image: str | Path | bytes | np.ndarray, *, upright: bool = True) -> Prediction:
        source = str(image) if isinstance(image, (str, Path)) else None
        if self.tiled:
            pixels = image if isinstance(image, np.ndarray) else images.read(image, upright=upright)
            label_map, sure = tiles.predict(self.network, pixels, self.description.size, len(self.classes))
            return Prediction(label_map, self.classes, sure, source)
        logits, fitting = self.logits(image, upright=upright)
        return Prediction(semantic.decode(logits, fitting), self.classes, semantic.confidence(logits, fitting), source)

    def logits(self, image: str | Path | bytes | np.ndarray, *, upright: bool = True) -> tuple[np.ndarray, Fitting]:
        """Raw network outputs float32 (C, h, w) of the fitted image, and how it was fitted."""
        size, how = self.description.size, self.description.fit
        if isinstance(image, np.ndarray):
            fitting = images.plan(image.shape[:2], size, how)
            pixels = images.fit(image, fitting)
        else:
            pixels, fitting = images.read_fitted(image, size, how, upright=upright)
        return self.network(as_input(pixels))[0], fitting


def as_input(pixels: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) -> float32 (1, 3, h, w), 0..255: what every network takes."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)


def load(
    path: str | Path, *, runtime: str = "auto", device: str = "auto", tiled: bool = False, threads: int = 0
) -> Predictor:
    """A Predictor from a bundle, a run folder, or a model.onnx alone.

    runtime: auto | onnx | torch. auto takes model.onnx through onnxruntime when both are there, torch otherwise.
    device: for torch. threads: for onnxruntime, 0 = all cores. tiled: see Predictor.
    Raises ModelError for what is not a model of ours, SetupError when the runtime is not installed.
    """
    path = Path(path)
    if runtime not in ("auto", "onnx", "torch"):
        raise ModelError(f"no runtime is called `{runtime}`", hint="it can be auto, onnx or torch")
    if path.suffix == ".onnx":
        if runtime == "torch":
            raise ModelError(
                "an ONNX file cannot run in torch", place=path, hint="give the bundle folder, or leave out the runtime"
            )
        network, description = _with_onnx().open_file(path, threads=threads)
        return Predictor(network, description, runtime="onnx", tiled=tiled)
    found = bundles.load(path)
    if runtime == "onnx" and found.onnx is None:
        raise ModelError("holds no model.onnx", place=found.path, hint="leave out the runtime to predict with torch")
    if found.onnx is not None and runtime != "torch" and (runtime == "onnx" or _has("onnxruntime")):
        network, description = _with_onnx().open_file(found.onnx, threads=threads)
        if description.classes != found.description.classes or description.size != found.description.size:
            raise ModelError("model.onnx and bundle.json are not of the same model", place=found.path)
        return Predictor(network, found.description, runtime="onnx", tiled=tiled)
    return Predictor(_with_torch().open_bundle(found, device=device), found.description, runtime="torch", tiled=tiled)


def _has(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def _with_onnx() -> Any:
    try:
        from maskwright.prediction import with_onnx
    except ModuleNotFoundError as error:
        raise missing_package("onnxruntime", "a model.onnx") from error
    return with_onnx


def _with_torch() -> Any:
    try:
        from maskwright.prediction import with_torch
    except ModuleNotFoundError as error:
        hint = "pip install 'maskwright[train]', or pip install 'maskwright[onnx]' for bundles that hold a model.onnx"
        raise SetupError(f"this bundle needs `{error.name}`, which is not installed", hint=hint) from error
    return with_torch
