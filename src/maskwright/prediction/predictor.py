"""The Predictor: the only door from an image to its masks, in training, evaluation, the command line and a server alike.

It reads and fits the image, runs the network (torch or onnxruntime, one image at a time, so that the numbers do not
depend on what else is in a batch), averages over test-time views, and decodes the logits on the image's own pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.bundles import bundle as bundles
from maskwright.bundles.bundle import Description
from maskwright.core import events
from maskwright.core.errors import ModelError, RecipeError, SetupError
from maskwright.core.registry import missing_package
from maskwright.core.types import Network, Prediction
from maskwright.imaging import images
from maskwright.imaging.images import Fitting
from maskwright.prediction import display, probabilities, tiles, views
from maskwright.prediction.instances import InstancePredictor
from maskwright.prediction.probabilities import Keep
from maskwright.prediction.views import as_input as as_input
from maskwright.prediction.whole import Whole
from maskwright.tasks import multilabel, semantic

Picture = str | Path | bytes | np.ndarray  # path, encoded bytes, or uint8 RGB (H, W, 3)


class Predictor:
    """Callable: an image (path, encoded bytes, or uint8 RGB (H, W, 3)) -> Prediction at the image's own size.

    tiled: windows of the network's size over the original pixels (or over the image at the description's `base_size`),
      with blended seams, instead of fitting the whole image.
    tta: {"flip": bool, "scales": [...]}, what is not given is taken from the description; None: all of it.
    overlap: share of a window that its neighbour sees too, 0 to 0.9; None: 0.25.
    """

    def __init__(
        self,
        network: Network,
        description: Description,
        *,
        runtime: str,
        tiled: bool = False,
        tta: Mapping[str, Any] | None = None,
        overlap: float | None = None,
    ):
        self.network, self.description, self.runtime = network, description, runtime
        self.tiled = tiled or description.fit == "crop"
        self.overlap = tiles.OVERLAP if overlap is None else overlap
        self.tta = _augmentation(tta, description)
        if not 0 <= self.overlap <= 0.9:
            raise RecipeError(f"an overlap of {overlap} cannot be", place="--overlap", hint="it can be 0 to 0.9")
        if overlap is not None and not self.tiled:
            what = "is for windows, and this model sees whole images"
            raise RecipeError(what, place="--overlap", hint="ask for windows with `--tiles`, or leave it out")

    @property
    def classes(self) -> tuple[str, ...]:
        return self.description.classes

    @property
    def decision(self) -> str:
        """How a pixel gets its class, in the words that stand beside scores."""
        choice = f"above {multilabel.THRESHOLD}" if self.description.multilabel else "argmax"
        return ", ".join(part for part in (choice, views.described(self.tta)) if part)

    def __call__(self, image: Picture, *, upright: bool = True, keep: Keep | None = None) -> Prediction:
        """keep: is handed the probabilities of the image's own pixels, strip by strip (see `probabilities.File`)."""
        if isinstance(self.network, Whole) and keep is None:
            label_map, masks = self.network.labelled(image, upright=upright)
            return self._prediction(label_map, np.full(len(self.classes), np.nan, np.float32), image, masks)
        if self.tiled and self.description.base_size is None:
            return self._streamed(image, upright, keep)
        logits, fitting = self.answer(image, upright=upright)
        return self.decoded(logits, fitting, image, keep=keep)

    def answer(self, image: Picture, *, upright: bool = True) -> tuple[np.ndarray, Fitting]:
        """Logits float32 (C, h, w) of the image, averaged over windows and views, and where the image lies in them.

        h, w: the network's size, with windows that of the (scaled) image.
        """
        known = self.description
        if not self.tiled:
            return views.answer(
                self.network,
                lambda size: self._fitted(image, size, upright),
                known.size,
                self.tta,
                known.flip_pairs,
                known.multilabel,
            )
        pixels, fitting = self._based(image, upright)
        found = np.concatenate([band for _, band in self._bands(pixels)], axis=1)
        return views.as_logits(found, known.multilabel), fitting

    def decoded(
        self, logits: np.ndarray, fitting: Fitting, image: Picture | None = None, *, keep: Keep | None = None
    ) -> Prediction:
        """What logits say of the pixels they were computed from. image: what they came from, to be shown."""
        masks, overlapping = None, self.description.multilabel
        if overlapping:
            masks = multilabel.decode(logits, fitting)
            label_map = multilabel.flat(masks)
        else:
            label_map = semantic.decode(logits, fitting)
        if keep is not None:
            for strip in probabilities.strips(logits, fitting, label_map, overlapping):
                keep(strip)
        sure = (multilabel if overlapping else semantic).confidence(logits, fitting)
        return self._prediction(label_map, sure, image, masks)

    def probabilities(self, image: Picture, *, upright: bool = True) -> np.ndarray:
        """float32 (C, H, W): the probability of each class on the image's own pixels."""
        found: list[np.ndarray] = []
        self(image, upright=upright, keep=lambda strip: found.append(strip[1]))
        return np.concatenate(found, axis=1)

    def logits(self, image: Picture, *, upright: bool = True) -> tuple[np.ndarray, Fitting]:
        """Raw network outputs float32 (C, h, w) of the fitted image, seen once, and how it was fitted."""
        pixels, fitting = self._fitted(image, self.description.size, upright)
        return self.network(as_input(pixels))[0], fitting

    def windows(self, image: Picture) -> Iterator[np.ndarray]:
        """The windows uint8 (h, w, 3) that the network sees of an image, where it does not see it whole."""
        return tiles.windows(self._based(image, True)[0], self.description.size, self.overlap)

    def _fitted(self, image: Picture, size: tuple[int, int], upright: bool) -> tuple[np.ndarray, Fitting]:
        how = self.description.fit
        if isinstance(image, np.ndarray):
            fitting = images.plan(image.shape[:2], size, how)
            return images.fit(image, fitting), fitting
        return images.read_fitted(image, size, how, upright=upright)

    def _based(self, image: Picture, upright: bool) -> tuple[np.ndarray, Fitting]:
        """The pixels that windows go over, uint8 (h, w, 3): the image's own, or the image at `base_size`."""
        base_size = self.description.base_size
        if base_size is None:
            pixels = image if isinstance(image, np.ndarray) else images.read(image, upright=upright)
            size = (pixels.shape[0], pixels.shape[1])
            return pixels, Fitting(size, size, (0, 0, *size))
        if isinstance(image, np.ndarray):
            fitting = images.plan(image.shape[:2], images.long_side(image.shape[:2], base_size), "squash")
            return images.fit(image, fitting), fitting
        probe = images.probe(image)
        original = probe.size if upright else probe.stored_size
        return images.read_fitted(image, images.long_side(original, base_size), "squash", upright=upright)

    def _bands(self, pixels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        known = self.description

        def seen(window: np.ndarray) -> np.ndarray:
            def fitted(size: tuple[int, int]) -> tuple[np.ndarray, Fitting]:
                fitting = images.plan(known.size, size, "squash")
                return window if size == known.size else images.fit(window, fitting), fitting

            logits, _ = views.answer(self.network, fitted, known.size, self.tta, known.flip_pairs, known.multilabel)
            return views.probabilities(logits, known.multilabel)

        return tiles.bands(seen, pixels, known.size, self.overlap)

    def _streamed(self, image: Picture, upright: bool, keep: Keep | None) -> Prediction:
        """Windows over original pixels, decided band by band, so that memory does not grow with the image's height."""
        pixels, fitting = self._based(image, upright)
        count = len(self.classes)
        label_map = np.empty(fitting.original, np.uint8)
        masks = np.empty((count, *fitting.original), np.bool_) if self.description.multilabel else None
        sums, counts = np.zeros(count), np.zeros(count)
        for start, found in self._bands(pixels):
            rows = slice(start, start + found.shape[1])
            if masks is not None:
                masks[:, rows] = found > multilabel.THRESHOLD
                sums += (found * masks[:, rows]).sum(axis=(1, 2))
                counts += masks[:, rows].sum(axis=(1, 2))
            else:
                label_map[rows] = best = found.argmax(0)
                sums += np.bincount(best.ravel(), found.max(0).ravel(), count)
                counts += np.bincount(best.ravel(), minlength=count)
            if keep is not None:
                keep((start, found, label_map))
        label_map = label_map if masks is None else multilabel.flat(masks)
        return self._prediction(label_map, (sums / np.maximum(counts, 1)).astype(np.float32), image, masks)

    def _prediction(
        self, label_map: np.ndarray, confidence: np.ndarray, image: Picture | None, masks: np.ndarray | None
    ) -> Prediction:
        source = str(image) if isinstance(image, (str, Path)) else None
        return Prediction(label_map, self.classes, confidence, source, masks, display.shown(image))


AnyPredictor = Predictor | InstancePredictor


def load(
    path: str | Path,
    *,
    runtime: str = "auto",
    device: str = "auto",
    tiled: bool = False,
    threads: int = 0,
    tta: Mapping[str, Any] | None = None,
    overlap: float | None = None,
    thresholds: Mapping[str, Any] | None = None,
) -> AnyPredictor:
    """A Predictor, of objects an InstancePredictor, from a bundle, a run folder, or a model.onnx alone.

    runtime: auto | onnx | torch. auto takes model.onnx through onnxruntime when both are there, torch otherwise.
    device: for torch. threads: for onnxruntime, 0 = all cores. tiled, tta, overlap: see Predictor.
    thresholds: see InstancePredictor.
    Raises ModelError for what is not a model of ours, SetupError when the runtime is not installed.
    """
    path = Path(path)
    how: dict[str, Any] = {"tiled": tiled, "tta": tta, "overlap": overlap, "thresholds": thresholds}
    if runtime not in ("auto", "onnx", "torch"):
        raise ModelError(f"no runtime is called `{runtime}`", hint="it can be auto, onnx or torch")
    if path.suffix == ".onnx":
        if runtime == "torch":
            raise ModelError(
                "an ONNX file cannot run in torch", place=path, hint="give the bundle folder, or leave out the runtime"
            )
        network, description, size = _with_onnx().open_file(path, threads=threads)
        _check_scales(path, size, description, tta, "give the bundle folder with `--runtime torch`")
        return made(network, description, "onnx", **how)
    found = bundles.load(path)
    if runtime == "onnx" and found.onnx is None:
        raise ModelError("holds no model.onnx", place=found.path, hint="leave out the runtime to predict with torch")
    if found.onnx is not None and runtime != "torch" and (runtime == "onnx" or _has("onnxruntime")):
        network, description, size = _with_onnx().open_file(found.onnx, threads=threads)
        if description.classes != found.description.classes or description.size != found.description.size:
            raise ModelError("model.onnx and bundle.json are not of the same model", place=found.path)
        known = found.description
        if runtime == "onnx" or not _has("torch"):
            _check_scales(found.onnx, size, known, tta, "add `--runtime torch`")
        if size is None or _one_size(_augmentation(tta, known)):
            return made(network, known, "onnx", **how)
        events.say(
            f"predicting with torch: model.onnx has the fixed input {size[0]} x {size[1]}, and scales were asked for"
        )
    return made(_with_torch().open_bundle(found, device=device), found.description, "torch", **how)


def made(
    network: Any,
    description: Description,
    runtime: str,
    *,
    tiled: bool = False,
    tta: Mapping[str, Any] | None = None,
    overlap: float | None = None,
    thresholds: Mapping[str, Any] | None = None,
) -> AnyPredictor:
    """The predictor of the description's task. Raises RecipeError for what only the other task knows."""
    if isinstance(network, Whole):
        network.check(tiled, tta, overlap)
    if description.task == "instance":
        for name, value in (("--tiles", tiled), ("--overlap", overlap)):
            if value:
                hint = "leave it out: objects are found in whole images"
                raise RecipeError("is for models that label pixels", place=name, hint=hint)
        return InstancePredictor(network, description, runtime=runtime, thresholds=thresholds, tta=tta)
    if thresholds:
        raise RecipeError("are for models that find objects", place="thresholds", hint="leave them out")
    return Predictor(network, description, runtime=runtime, tiled=tiled, tta=tta, overlap=overlap)


def _augmentation(tta: Mapping[str, Any] | None, description: Description) -> dict[str, Any]:
    try:
        return bundles.augmentation(tta or {}, description.tta)
    except ValueError as error:
        raise RecipeError(str(error), place="tta") from error


def _one_size(tta: Mapping[str, Any]) -> bool:
    return all(scale == 1 for scale in tta["scales"])


def _check_scales(
    path: Path, size: tuple[int, int] | None, description: Description, tta: Mapping[str, Any] | None, hint: str
) -> None:
    """Raises ModelError when a file with a fixed input is to predict at other scales."""
    if size is not None and not _one_size(_augmentation(tta, description)):
        what = f"has the fixed input {size[0]} x {size[1]}, so it cannot predict at other scales"
        raise ModelError(what, place=path, hint=f"{hint}, or predict with `--scales 1`")


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
