"""model.onnx: the bare network, `contract: network/1` (float32 (N, 3, h, w), 0..255 -> logits float32 (N, C, h, w)).

The file carries the model's description in its metadata and the figures of a parity check on real images; a file that
disagrees with the trained network is never written.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maskwright.bundles.bundle import Description
from maskwright.core import events, files
from maskwright.core.errors import ModelError
from maskwright.core.registry import missing_package
from maskwright.core.types import Network

if TYPE_CHECKING:
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


def onnx(
    segmenter: Segmenter, description: Description, out: Path, pixels: Sequence[np.ndarray], *, opset: int = OPSET
) -> Parity:
    """Writes model.onnx and returns how well it agrees with the segmenter.

    pixels: float32 (1, 3, h, w) inputs, 0..255, of real images; at least one.
    opset: of the ONNX operators.

    Raises ModelError when the export or the parity check fails; then no file is left.
    """
    assert pixels, "a parity check needs images"
    try:
        import onnx as onnx_package
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing_package(error.name or "onnx", "the ONNX export") from error
    from maskwright.prediction import with_torch

    with files.written_whole(Path(out)) as temporary:
        network = _exported(segmenter, description, temporary, opset, pixels)
        parity = _compare(with_torch.live(segmenter), network, pixels, description.multilabel)
        _judge(parity, Path(out))
        parity = Parity(**{**asdict(parity), "size_mb": round(temporary.stat().st_size / 1e6, 3), "opset": opset})
        _describe(temporary, {"parity": json.dumps(asdict(parity))})
        onnx_package.checker.check_model(str(temporary))
    return parity


def _exported(
    segmenter: Segmenter, description: Description, path: Path, opset: int, pixels: Sequence[np.ndarray]
) -> Network:
    """The network in a new file. It takes any height and width where the model predicts at several scales, else one size."""
    from maskwright.prediction import views, with_onnx, with_torch

    def exported(*, any_size: bool) -> Network:
        _export(segmenter, description, path, opset, any_size=any_size)
        _describe(path, {"contract": with_onnx.CONTRACT, with_onnx.KEY: json.dumps(description.to_json())})
        return with_onnx.open_file(path)[0]

    sizes = {views.scaled(description.size, scale) for scale in description.tta["scales"]} - {description.size}
    if not sizes:
        return exported(any_size=False)
    failures: tuple[type[Exception], ...] = (RuntimeError, ModelError, *with_onnx.ERRORS)
    try:
        network = exported(any_size=True)
        _compare(with_torch.live(segmenter), network, [views.resized(pixels[0][0], size)[None] for size in sizes])
        return network
    except failures as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        size = "{} x {}".format(*description.size)
        events.warn(f"model.onnx takes {size} alone, so predicting at other scales needs torch ({reason})")
        return exported(any_size=False)


def _export(segmenter: Segmenter, description: Description, path: Path, opset: int, *, any_size: bool) -> None:
    import torch

    axes = {0: "n", 2: "h", 3: "w"} if any_size else {0: "n"}
    example = torch.zeros(1, 3, *description.size)
    model = copy.deepcopy(segmenter).eval().cpu()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter announces its age; the newer one ignores opset and size
        torch.onnx.export(
            model,
            (example,),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": axes, "logits": axes},
        )


def _describe(path: Path, metadata: dict[str, str]) -> None:
    import onnx as onnx_package

    model = onnx_package.load(str(path))
    model.producer_name = "maskwright"
    have = {entry.key: entry.value for entry in model.metadata_props}
    onnx_package.helper.set_model_props(model, {**have, **metadata})
    onnx_package.save(model, str(path))


def _compare(trained: Network, exported: Network, pixels: Sequence[np.ndarray], multilabel: bool = False) -> Parity:
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
    if difference > MAX_LOGIT_DIFFERENCE * max(scale, 1.0):
        raise ModelError(
            f"the exported network differs by {difference:.2g} (largest logit {scale:.2g}); nothing was written"
        )
    return Parity(len(pixels), difference, changed / total)


def _judge(parity: Parity, out: Path) -> None:
    if parity.pixels_changed > MAX_PIXELS_CHANGED:
        share = f"{100 * parity.pixels_changed:.2f} %"
        raise ModelError(
            f"the exported network answers {share} of the pixels differently; nothing was written", place=out
        )
