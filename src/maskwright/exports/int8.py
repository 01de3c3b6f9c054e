"""int8: the network with weights and activations in 8 bits, as QuantizeLinear and DequantizeLinear nodes in an ONNX file.

Ranges are measured on the user's photos (static quantisation, per-channel int8 weights, uint8 activations: on x86 nearly
twice as fast as int8 ones, and a little more exact). The file is then held against the float32 network on photos whose ranges
were not measured; while it changes more pixels than allowed, the layers that cost most go back to float32, see `quantised`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from maskwright.core import events
from maskwright.core.errors import ModelError, RecipeError
from maskwright.core.words import counted
from maskwright.exports import bias_correction, onnx_files, quantised
from maskwright.exports.onnx import onnx as in_float
from maskwright.exports.onnx import open_file
from maskwright.exports.quantised import Check
from maskwright.exports.source import Source, Written

if TYPE_CHECKING:
    from onnx import ModelProto

CHECKED = 16  # photos that the file is held against, at most
FEWEST = 8  # photos that are told apart: with fewer, ranges and differences are measured on the same ones
METHODS = {"minmax": "MinMax", "percentile": "Percentile", "entropy": "Entropy"}
MORE: dict[str, dict[str, int]] = {
    "entropy": {"num_bins": 256, "num_quantized_bins": 128}
}  # as many as levels cut nothing off


def int8(
    source: Source,
    path: Path,
    *,
    calibration: Literal["minmax", "percentile", "entropy"] = "minmax",
    images: int = 64,
    max_changed: float = 0.01,
) -> Written:
    """An ONNX file that computes in 8 bits: a quarter of the size, about twice as fast on CPUs that can (VNNI, AMX, NEON dot).

    calibration: range of an activation: all that was seen (minmax), 99.999 % of it, or what loses least information (entropy).
    images: photos that are looked at, at most; half of them for the ranges, half to hold the file against float32.
    max_changed: share of pixels that may be answered otherwise than in float32; layers go back to float32 until it holds.

    Method: static quantisation with ranges from data (Jacob et al., 2018, arXiv:1712.05877); biases corrected (Nagel et al.,
    2019, arXiv:1906.04721); per-channel weights, and layers kept in float where they cost most (Wu et al., 2020, 2004.09602).
    Raises RecipeError without photos, ModelError when half of the layers in float32 do not keep `max_changed`,
    and for models that find objects.
    """
    for name, value, fits in (("images", images, images > 0), ("max_changed", max_changed, 0 <= max_changed <= 1)):
        if not fits:
            raise RecipeError(f"{value} cannot be", place=name, hint="give a number above 0, of a share at most 1")
    if source.description.task == "instance":
        why = "onnxruntime's quantiser cannot sort the branches (If) of networks that find objects"
        raise ModelError(f"int8 is for models that label pixels: {why}", hint="leave it in float32: `--for onnx`")
    if not source.photos:
        hint = "name some with `--calibrate FOLDER`"
        raise RecipeError("int8 measures the ranges of activations on photos, and there are none", hint=hint)
    pixels = list(source.inputs(images))
    apart = len(pixels) >= FEWEST
    ranged, checked = (pixels[::2], pixels[1::2][:CHECKED]) if apart else (pixels, pixels)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "float.onnx"
        in_float(source, whole)
        prepared = _prepared(whole)
        model = _quantised(prepared, ranged, calibration)
        bias_correction.correct(model, prepared, ranged)
        check = Check(whole.read_bytes(), checked, source.description)
        kept = onnx_files.metadata(whole)
    layers = quantised.layers(model)
    model, found, put_back = quantised.within(model, prepared, check, max_changed)
    quantised.save(model, path)
    onnx_files.describe(path, {key: value for key, value in kept.items() if key != "parity"})
    same = "" if apart else ", which are those that the ranges were measured on"
    notes = [
        f"ranges measured on {counted(len(ranged), 'photo')} ({calibration}), held against float32 on "
        f"{counted(len(checked), 'photo')}{same}: {found.words()}",
        f"{len(layers) - len(put_back)} of {counted(len(layers), 'layer')} in 8 bits",
    ]
    notes += [step.words() for step in put_back]
    facts: dict[str, object] = {
        "calibration": {"method": calibration, "photos": len(ranged)},
        "against_float32": {"photos": len(checked), **found.to_json()},
        "layers": len(layers),
        "float_layers": [step.to_json() for step in put_back],
    }
    return Written(open_file(path, None), notes=tuple(notes), facts=facts)


def _prepared(path: Path) -> ModelProto:
    """The float32 network as it is quantised: BatchNorm folded into convolutions, the shapes of all tensors known."""
    import onnx as onnx_package
    from onnxruntime.quantization import quant_pre_process

    out = path.with_name("prepared.onnx")
    with _quiet():
        quant_pre_process(str(path), str(out), skip_symbolic_shape=True)
    return onnx_package.load(str(out))


def _quantised(prepared: ModelProto, pixels: Sequence[np.ndarray], calibration: str) -> ModelProto:
    """The network in 8 bits, its biases as they were."""
    import onnx as onnx_package
    from onnxruntime.quantization import QDQQuantizer, QuantType
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    operators = sorted({*QDQRegistry, *QLinearOpsRegistry})
    ranges = _ranges(prepared, operators, pixels, calibration)
    model = onnx_package.ModelProto()
    model.CopyFrom(prepared)
    with _quiet():
        quantizer = QDQQuantizer(
            model,
            True,  # per channel
            False,  # all 8 bits
            QuantType.QInt8,
            QuantType.QUInt8,
            ranges,
            [],
            [],
            operators,
            {"WeightSymmetric": True, "ActivationSymmetric": False},
        )
        quantizer.quantize_model()
    quantizer.model.topological_sort()
    return quantizer.model.model


def _ranges(model: ModelProto, operators: list[str], pixels: Sequence[np.ndarray], calibration: str) -> Any:
    """Least and largest value of every tensor, photo by photo, so that memory does not grow with their number."""
    import onnx as onnx_package
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, create_calibrator

    class One(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, image: np.ndarray):
            self.left = [image]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return {"image": self.left.pop()} if self.left else None

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        onnx_package.save(model, str(path))
        with _quiet():
            calibrator = create_calibrator(
                str(path),
                operators,
                augmented_model_path=str(path.with_name("measured.onnx")),
                calibrate_method=CalibrationMethod[METHODS[calibration]],
                extra_options=MORE.get(calibration, {}),
            )
        for image in events.progress(pixels, "measure ranges"):
            with _quiet():
                calibrator.collect_data(One(image))
        with _quiet():
            return calibrator.compute_data()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """onnxruntime's quantiser prints and logs advice for its callers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
