"""model.onnx: the bare network, of contract `network/1` (float32 (N, 3, h, w), 0..255 -> logits float32 (N, C, h, w)) or, of
models that find objects, `objects/1` (see `onnx_objects`).

The file carries the model's description in its metadata and the figures of a parity check on real images; a file that
disagrees with the trained network is never written.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from maskwright.bundles.bundle import Description
from maskwright.core import events, files
from maskwright.core.errors import ModelError
from maskwright.core.registry import missing_package
from maskwright.core.types import Network
from maskwright.exports import onnx_files

if TYPE_CHECKING:
    from maskwright.exports.onnx_objects import ObjectParity
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


def onnx(
    segmenter: Segmenter | InstanceSegmenter,
    description: Description,
    out: Path,
    pixels: Sequence[np.ndarray],
    *,
    opset: int = OPSET,
) -> Parity | ObjectParity:
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
    from maskwright.exports import onnx_objects
    from maskwright.models.instance_segmenter import InstanceSegmenter

    parity: Parity | ObjectParity
    with files.written_whole(Path(out)) as temporary:
        if isinstance(segmenter, InstanceSegmenter):
            parity = onnx_objects.write(segmenter, description, temporary, opset, pixels, Path(out))
        else:
            parity = _write(segmenter, description, temporary, opset, pixels, Path(out))
        parity = replace(parity, size_mb=round(temporary.stat().st_size / 1e6, 3), opset=opset)
        onnx_files.describe(temporary, {"parity": json.dumps(asdict(parity))})
        onnx_package.checker.check_model(str(temporary))
    return parity


def _write(
    segmenter: Segmenter, description: Description, path: Path, opset: int, pixels: Sequence[np.ndarray], out: Path
) -> Parity:
    """The network in a new file at `path`. Raises ModelError, naming `out`, when it disagrees with the segmenter."""
    from maskwright.prediction import with_torch

    network = _exported(segmenter, description, path, opset, pixels)
    parity = _compare(with_torch.live(segmenter), network, pixels, description.multilabel)
    _judge(parity, out)
    return parity


def _exported(
    segmenter: Segmenter, description: Description, path: Path, opset: int, pixels: Sequence[np.ndarray]
) -> Network:
    """The network in a new file. It takes any height and width where the model predicts at several scales, else one size."""
    from maskwright.prediction import views, with_onnx, with_torch

    def exported(*, any_size: bool) -> Network:
        axes = {0: "n", 2: "h", 3: "w"} if any_size else {0: "n"}
        onnx_files.export(segmenter, description, path, opset, ("logits",), {"image": axes, "logits": axes})
        network: Any = with_onnx.open_file(path)[0]
        return cast(Network, network)

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
