"""int8: the network with weights and activations in 8 bits, as QuantizeLinear and DequantizeLinear nodes in an ONNX file.

Ranges are measured on the user's photos (static quantisation, per-channel int8 weights, uint8 activations: on x86 nearly
twice as fast as int8 ones, and a little more exact). While the file loses more than its certificate may say, the layers that
cost most go back to float32, see `quantised`. Of networks that find objects only layers that others come after are in 8 bits:
boxes, scores and masks, and the layers that say them, stay in float32.
"""

from __future__ import annotations

import contextlib
import io
import logging
import platform
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from maskwright.core import events, machine
from maskwright.core.errors import RecipeError
from maskwright.core.words import counted
from maskwright.exports import bias_correction, onnx_files, onnx_layers, quantised
from maskwright.exports.onnx import onnx as in_float
from maskwright.exports.onnx import open_file
from maskwright.exports.quantised import Check, Found
from maskwright.exports.source import Source, Written
from maskwright.prediction.predictor import AnyPredictor

if TYPE_CHECKING:
    from onnx import ModelProto

CHECKED = 16  # photos that the file is held against, at most
FEWEST = 8  # photos that are told apart: with fewer, ranges and differences are measured on the same ones
METHODS = {  # in the order in which they are tried, the quickest first
    "minmax": "MinMax",
    "percentile": "Percentile",
    "entropy": "Entropy",
}
MORE: dict[str, dict[str, int]] = {
    "entropy": {"num_bins": 256, "num_quantized_bins": 128}
}  # as many as levels cut nothing off


def int8(
    source: Source,
    path: Path,
    *,
    calibration: Literal["auto", "minmax", "percentile", "entropy"] = "auto",
    images: int = 64,
    max_changed: float | None = None,
    reduce_range: bool = False,
) -> Written:
    """An ONNX file that computes in 8 bits: a quarter of the size, about twice as fast on CPUs that can (VNNI, AMX, NEON dot).

    calibration: range of an activation: all that was seen (minmax), 99.999 % of it (percentile), or what loses least
      information (entropy). auto takes the first of them with which nothing has to go back, else minmax; of objects minmax.
    images: photos that are looked at, at most; half of them for the ranges, half to hold the file against float32; of fewer
      than 8 all for both.
    max_changed: share of pixels (of objects, by their scores) that may be answered otherwise than in float32, beside what the
      certificate asks for; layers go back to float32 until both hold.
    reduce_range: weights in 7 bits, for x86 CPUs without VNNI or AMX, where sums of 8-bit products overflow 16 bits.

    Method: static quantisation with ranges from data (Jacob et al., 2018, arXiv:1712.05877); biases corrected (Nagel et al.,
    2019, arXiv:1906.04721); per-channel weights, and layers kept in float where they cost most (Wu et al., 2020, 2004.09602).
    Raises RecipeError without photos, ModelError when half of the layers in float32 are not enough.
    """
    if images <= 0:
        raise RecipeError(f"{images} cannot be", place="images", hint="give a number above 0")
    if max_changed is not None and not 0 <= max_changed <= 1:
        raise RecipeError(f"{max_changed} cannot be", place="max_changed", hint="give a share, 0 to 1")
    if not source.photos:
        hint = "name some with `--calibrate FOLDER`"
        raise RecipeError("int8 measures the ranges of activations on photos, and there are none", hint=hint)
    ranged, checked, same = _inputs(source, images)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "float.onnx"
        plain = in_float(source, whole)
        prepared = _prepared(whole)
        if source.description.task == "instance":
            ranged = _with_objects(prepared, ranged)
        check = Check(whole.read_bytes(), checked, source.description)
        kept = {key: value for key, value in onnx_files.metadata(whole).items() if key != "parity"}

    def in_8_bits(method: str) -> ModelProto:
        model = _quantised(prepared, ranged, method, source.description.task == "instance", reduce_range)
        bias_correction.correct(model, prepared, ranged)
        return model

    enough = _Enough(source, path, kept, max_changed)
    method, model = _first_that_holds(_methods(calibration, source.description.task), in_8_bits, check, enough)
    layers = quantised.layers(model)
    model, found, put_back = quantised.within(model, prepared, check, enough)
    what = "window" if source.description.fit == "crop" else "photo"
    notes = [
        f"ranges measured on {counted(len(ranged), what)} ({method}), held against float32 on "
        f"{counted(len(checked), what)}{same}: {found.words()}",
        f"{len(layers) - len(put_back)} of {counted(len(layers), 'layer')} in 8 bits",
        _of_machine(reduce_range),
    ]
    notes += [step.words() for step in put_back]
    facts: dict[str, object] = {
        "calibration": {"method": method, "photos": len(ranged), "reduce_range": reduce_range},
        "against_float32": {"photos": len(checked), **found.to_json()},
        "layers": len(layers),
        "float_layers": [step.to_json() for step in put_back],
    }
    return Written(enough.last(model), notes=(*plain.notes, *notes), facts=facts)


def _methods(calibration: str, task: str) -> list[str]:
    """Of measuring ranges, in the order in which they are tried."""
    if calibration != "auto":
        return [calibration]
    return list(METHODS) if task == "semantic" else ["minmax"]


def _first_that_holds(
    methods: Sequence[str],
    quantise: Callable[[str], ModelProto],
    check: Callable[[ModelProto], Found],
    enough: Callable[[ModelProto, Found, int], bool],
) -> tuple[str, ModelProto]:
    """The first calibration whose network is good enough as it is, and that network; of none the first."""
    models: dict[str, ModelProto] = {}
    for method in methods:
        if models:
            events.say(f"int8: other ranges may cost less; trying calibration={method}")
        models[method] = quantise(method)
        if len(methods) == 1 or enough(models[method], check(models[method]), 0):
            return method, models[method]
    return methods[0], models[methods[0]]


def _inputs(source: Source, most: int) -> tuple[list[np.ndarray], list[np.ndarray], str]:
    """What ranges are measured on, what the file is held against, and what there is to say of it."""
    if min(len(source.photos), most) < FEWEST:
        pixels = list(source.inputs(most))
        spread = pixels[:: -(-len(pixels) // CHECKED)]
        return pixels, spread, ", which are those that the ranges were measured on"
    half = most // 2
    ranged, checked = (replace(source, photos=source.photos[start::2]) for start in (0, 1))
    return list(ranged.inputs(most - half)), list(checked.inputs(min(half, CHECKED))), ""


def _with_objects(prepared: ModelProto, pixels: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Those that objects are found on: elsewhere the layers that draw them see nothing, and have no range."""
    network = quantised.session(prepared.SerializeToString())
    found = [image for image in pixels if len(network.run(None, {"image": image})[0])]
    if not found:
        hint = "name photos that show some with `--calibrate FOLDER`"
        raise RecipeError("no object is found on the photos that ranges are measured on", hint=hint)
    return found


class _Enough:
    """Callable: whether a quantised network is as good as it has to be.

    kept: the predictor and the file of the last one that a judge found so, who need not be asked of it again. judged: those
    with no layer in float32, and whether they are.
    """

    def __init__(self, source: Source, path: Path, metadata: dict[str, str], max_changed: float | None):
        self.source, self.path, self.metadata, self.max_changed = source, path, metadata, max_changed
        self.kept: tuple[AnyPredictor, bytes] | None = None
        self.judged: list[tuple[ModelProto, bool]] = []

    def __call__(self, model: ModelProto, found: Found, back: int) -> bool:
        for known, verdict in self.judged:
            if known is model:
                return verdict
        verdict = self._judged(model, found, back)
        if not back:
            self.judged.append((model, verdict))
        return verdict

    def _judged(self, model: ModelProto, found: Found, back: int) -> bool:
        if self.max_changed is not None and found.changed > self.max_changed:
            return False
        judge, limit = self.source.judge, self.source.max_drop
        if judge is None:
            return self.max_changed is not None or found.changed <= limit
        predictor = self.written(model)
        lost = judge(predictor)
        said = f"{lost:.4f} is lost" if lost > 0 else "nothing is lost"
        events.say(f"int8: with {counted(back, 'layer')} in float32 {said}, and {limit:g} is the limit")
        if lost <= limit:
            self.kept = predictor, self.path.read_bytes()
        return lost <= limit

    def last(self, model: ModelProto) -> AnyPredictor:
        """The last network that was good enough, in its file, opened."""
        if self.kept is None:
            return self.written(model)
        predictor, body = self.kept
        self.path.write_bytes(body)
        return predictor

    def written(self, model: ModelProto) -> AnyPredictor:
        """The network in its file, opened."""
        quantised.save(model, self.path)
        onnx_files.describe(self.path, self.metadata)
        return open_file(self.path, None)


def _of_machine(reduced: bool) -> str:
    """What is to be known of 8-bit products on this machine's CPU."""
    able = machine.cpu()["int8"]
    bits = "weights in 7 bits" if reduced else "weights in 8 bits"
    if able is not None:
        return f"{bits}; this CPU adds 8-bit products exactly ({able})"
    if reduced or platform.machine() not in ("x86_64", "AMD64"):
        return bits
    return f"{bits}; this CPU has no VNNI that is known of, so that sums may overflow: see `reduce_range`"


def _prepared(path: Path) -> ModelProto:
    """The float32 network as it is quantised: BatchNorm folded into convolutions, the shapes of all tensors known."""
    import onnx as onnx_package
    from onnxruntime.quantization import quant_pre_process

    out = path.with_name("prepared.onnx")
    with _quiet():
        quant_pre_process(str(path), str(out), skip_symbolic_shape=True)
    return onnx_package.load(str(out))


def _quantised(
    prepared: ModelProto, pixels: Sequence[np.ndarray], calibration: str, objects: bool = False, reduced: bool = False
) -> ModelProto:
    """The network in 8 bits, its biases as they were. reduced: weights in 7 bits."""
    import onnx as onnx_package
    from onnxruntime.quantization import QDQQuantizer, QuantType
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    operators, chosen = sorted({*QDQRegistry, *QLinearOpsRegistry}), list[str]()
    if objects:
        chosen = onnx_layers.features(prepared.graph, answers=False)
        operators = sorted({node.op_type for node in prepared.graph.node if node.name in set(chosen)})
    ranges = _ranges(prepared, operators, pixels, calibration)
    model = onnx_package.ModelProto()
    model.CopyFrom(prepared)
    with _quiet():
        quantizer = QDQQuantizer(
            model,
            True,  # per channel
            reduced,
            QuantType.QInt8,
            QuantType.QUInt8,
            ranges,
            chosen,
            [],
            operators,
            {"WeightSymmetric": True, "ActivationSymmetric": False},
        )
        quantizer.quantize_model()
    onnx_layers.sort(quantizer.model.model.graph)
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
