"""ONNX files: the bare network, of contract `network/1` (float32 (N, 3, h, w), 0..255 -> logits float32 (N, C, h, w)) or, of
models that find objects, `objects/1` (see `onnx_objects`).

The file carries the model's description in its metadata and the figures of a parity check; a file that disagrees with the
trained network is never written. `checked` writes the model.onnx that every bundle holds, `onnx` any other.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from maskwright.bundles.bundle import PLAIN, Description
from maskwright.core import events, files
from maskwright.core.errors import ModelError, RecipeError
from maskwright.core.registry import missing_package
from maskwright.exports import onnx_files, onnx_half, parity
from maskwright.exports.parity import OPSET, AnyParity
from maskwright.exports.source import Source, Written
from maskwright.prediction import views
from maskwright.prediction.predictor import AnyPredictor, made

if TYPE_CHECKING:
    from maskwright.models.instance_segmenter import InstanceSegmenter
    from maskwright.models.segmenter import Segmenter

OPSETS = (7, 20)  # the least and the most that torch's tracing exporter writes
PHOTOS = 16  # that the file is held against while it is written
SEED = 20_001  # of the pixels it is held against where there are no photos


def onnx(
    source: Source,
    path: Path,
    *,
    opset: int | None = None,
    precision: Literal["fp32", "fp16"] = "fp32",
    dynamic: Literal["none", "batch", "size"] = "batch",
    self_contained: bool = False,
) -> Written:
    """An ONNX file for onnxruntime and whatever reads ONNX; float32 pixels 0..255 in, logits or objects out.

    opset: of the ONNX operators; most networks need 11 or more; left out: 17, of a self-contained file 18.
    precision: fp16 keeps weights in half the space and computes in float16, with float32 inputs and outputs.
    dynamic: what may be of any length: `batch`, `size` (batch, height and width), or none.
    self_contained: bytes of a photo of any size in, class map at its own size out: fitting and argmax stand in the file.

    Raises ModelError when the network cannot have this opset, or cannot take any size, and says what it can.
    """
    _need_packages()
    if self_contained:
        from maskwright.exports.self_contained import self_contained as whole

        if precision != "fp32" or dynamic != "batch":
            hint = "leave `precision` and `dynamic` out"
            raise RecipeError("is float32 and takes photos of any size", place="self_contained", hint=hint)
        return whole(source, path) if opset is None else whole(source, path, opset=opset)
    opset = OPSET if opset is None else opset
    known = source.description
    one_scale = dynamic != "size" and any(scale != 1 for scale in known.tta["scales"])
    described = replace(known, tta={**known.tta, "scales": [1.0]}) if one_scale else known
    pixels = list(source.inputs(PHOTOS)) or [_noise(known)]
    _traced(source, described, path, opset, dynamic)
    if dynamic == "size":
        _check_sizes(source, path, pixels[0])
    found = parity.held(source.segmenter, _opened(path), pixels, known, path)
    if precision == "fp16":
        onnx_half.halve(path, known.task == "instance")
        found = parity.held(source.segmenter, _opened(path), pixels, known, path, limited=False)
    found = _signed(path, found, opset)
    notes = _notes(precision, dynamic, known, one_scale)
    facts: dict[str, object] = {"opset": opset, "precision": precision, "dynamic": dynamic, "parity": asdict(found)}
    return Written(open_file(path, None), notes=notes, facts=facts)


def open_file(path: Path, description: Description | None) -> AnyPredictor:
    """The file as a predictor that sees each image once. description: not needed, it stands in the file."""
    try:
        from maskwright.prediction import with_onnx
    except ModuleNotFoundError as error:
        raise missing_package(error.name or "onnxruntime", "an ONNX file") from error
    network, known, _ = with_onnx.open_file(path)
    return made(network, replace(known, tta=dict(PLAIN)), with_onnx.RUNTIME)


def checked(
    segmenter: Segmenter | InstanceSegmenter,
    description: Description,
    out: Path,
    pixels: Sequence[np.ndarray],
    *,
    opset: int = OPSET,
) -> AnyParity:
    """Writes a bundle's model.onnx and returns how well it agrees with the segmenter.

    pixels: float32 (1, 3, h, w) inputs, 0..255, of real images; at least one. It takes any height and width where the model
    predicts at several scales and can, else one size. Raises ModelError when the export or the check fails; no file is left.
    """
    assert pixels, "a parity check needs images"
    _need_packages()
    with files.written_whole(Path(out)) as temporary:
        if not _any_scale(segmenter, description, temporary, opset, pixels):
            onnx_files.traced(segmenter, description, temporary, opset, "batch")
        found = parity.held(segmenter, _opened(temporary), pixels, description, Path(out))
        return _signed(temporary, found, opset)


def _any_scale(
    segmenter: Segmenter | InstanceSegmenter,
    description: Description,
    path: Path,
    opset: int,
    pixels: Sequence[np.ndarray],
) -> bool:
    """Writes a network of any size where the description asks for several scales; False where it needs none, or cannot."""
    sizes = {views.scaled(description.size, scale) for scale in description.tta["scales"]} - {description.size}
    if not sizes:
        return False
    try:
        onnx_files.traced(segmenter, description, path, opset, "size")
        for size in sizes:
            parity.held(
                segmenter, _opened(path), [views.resized(pixels[0][0], size)[None]], description, path, limited=False
            )
        return True
    except _failures() as error:
        height, width = description.size
        events.warn(
            f"model.onnx takes {height} x {width} alone, so predicting at other scales needs torch ({_reason(error)})"
        )
        return False


def _traced(source: Source, description: Description, path: Path, opset: int, free: onnx_files.Free) -> None:
    """The network in a file of this opset. Raises ModelError that names the nearest opset that works."""

    def failure(version: int) -> Exception | None:
        try:
            with tempfile.TemporaryDirectory() as folder:
                trial = Path(folder) / "model.onnx"
                onnx_files.traced(source.segmenter, description, trial, version, free)
                _opened(trial)
                if version == opset:
                    path.write_bytes(trial.read_bytes())
        except _failures() as error:
            return error
        return None

    least, most = OPSETS
    if not least <= opset <= most:
        raise ModelError(f"opset {opset} cannot be written", hint=f"{least} to {most} can, {OPSET} is usual")
    why = failure(opset)
    if why is None:
        return
    if opset != OPSET and failure(OPSET) is None:
        nearer = range(opset + 1, OPSET + 1) if opset < OPSET else range(opset - 1, OPSET - 1, -1)
        works = next(version for version in nearer if version == OPSET or failure(version) is None)
        limit = f"{works} is the {'least' if opset < OPSET else 'most'} that this network can have"
        raise ModelError(f"opset {opset} does not do for this network ({_reason(why)})", hint=limit)
    raise ModelError(f"the network cannot be written as ONNX ({_reason(why)})")


def _check_sizes(source: Source, path: Path, pixels: np.ndarray) -> None:
    """Raises ModelError where the file answers otherwise than the network at two other sizes than its own."""
    height, width = source.description.size
    stride = int(getattr(source.segmenter, "stride", 32))
    for size in ((height + stride, width + 2 * stride), (max(stride, height // 2 // stride * stride), width + stride)):
        try:
            image = views.resized(pixels[0], size)[None]
            parity.held(source.segmenter, _opened(path), [image], source.description, path)
        except _failures() as error:
            hint = "leave `dynamic=size` out"
            raise ModelError(
                f"this network cannot take any size: at {size[0]} x {size[1]} {_reason(error)}", hint=hint
            ) from error


def _signed(path: Path, found: AnyParity, opset: int) -> AnyParity:
    """The figures, which then stand in the file too; the file was looked over once more."""
    import onnx as onnx_package

    found = replace(found, size_mb=round(path.stat().st_size / 1e6, 3), opset=opset)
    onnx_files.describe(path, {"parity": json.dumps(asdict(found))})
    onnx_package.checker.check_model(str(path))
    return found


def _notes(precision: str, dynamic: str, description: Description, one_scale: bool) -> tuple[str, ...]:
    said = []
    if precision == "fp16":
        said.append("float16 halves the file and suits GPUs and NPUs; a CPU computes float32 faster")
    if description.task == "instance":
        said.append("takes one image at a time")
    if dynamic == "size":
        said.append("takes images of any height and width; it was trained at {} x {}".format(*description.size))
    if one_scale:
        said.append("takes one size, so that it predicts at one scale; the bundle averages over several")
    return tuple(said)


def _opened(path: Path) -> Any:
    from maskwright.prediction import with_onnx

    return with_onnx.open_file(path)[0]


def _noise(description: Description) -> np.ndarray:
    """Fixed pixels float32 (1, 3, h, w)."""
    values = np.random.default_rng(SEED).integers(0, 256, (1, 3, *description.size))
    return values.astype(np.float32)


def _failures() -> tuple[type[Exception], ...]:
    """What a network that cannot be traced, opened or run raises."""
    from maskwright.prediction import with_onnx

    return (RuntimeError, ModelError, *with_onnx.ERRORS)


def _reason(error: Exception) -> str:
    cause = error.__cause__  # torch's own words before ours about them
    return onnx_files.reason_of(cause if isinstance(cause, Exception) else error)


def _need_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing_package(error.name or "onnx", "the ONNX export") from error
