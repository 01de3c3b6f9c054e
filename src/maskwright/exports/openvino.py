"""OpenVINO: the network as `.xml` with its weights as `.bin` beside it, for Intel processors, graphics and NPUs.

It is converted from the traced network, which is as exact as the way over ONNX and needs no further package.
"""

from __future__ import annotations

import errno
import shutil
import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np

from maskwright.bundles.bundle import Description
from maskwright.core.errors import ModelError
from maskwright.exports import graphs
from maskwright.exports.source import Source, Written
from maskwright.prediction.predictor import AnyPredictor

TELEMETRY = "openvino_telemetry"
MARGIN = 1 << 20  # bytes; a disk with less was filled
EXACT = {"INFERENCE_PRECISION_HINT": "f32"}  # left alone, a processor that knows bfloat16 computes in it


def openvino(source: Source, path: Path, *, precision: Literal["fp32", "fp16"] = "fp32") -> Written:
    """OpenVINO: `.xml` and `.bin` for Intel processors, graphics and NPUs.

    precision: of the stored weights; fp16 halves the file, a processor still computes in fp32.
    """
    package = _package("the OpenVINO export")
    failures = tuple(value for name, value in vars(package.frontend).items() if name.endswith("Failure"))
    with graphs.conversion("OpenVINO", failures):
        image = graphs.example(source)
        model = package.convert_model(graphs.traced(source), example_input=image, input=[tuple(image.shape)])
        model.inputs[0].get_tensor().set_names({"image"})
        for output, name in zip(model.outputs, graphs.OUTPUTS[source.description.task], strict=True):
            output.get_tensor().set_names({name})
        model.set_rt_info(graphs.text_of(source.description), [graphs.KEY, "description"])
    try:
        with graphs.quiet():
            package.save_model(model, str(path), compress_to_fp16=precision == "fp16")
    except RuntimeError as error:  # it does not tell why
        full = shutil.disk_usage(path.parent).free < MARGIN
        raise OSError(errno.ENOSPC if full else errno.EIO, graphs.reason(error)) from error
    note = "certified in fp32; OpenVINO computes in bfloat16 where a processor has it, unless INFERENCE_PRECISION_HINT is f32"
    return Written(open_file(path, None), (note,))


def open_file(path: Path, description: Description | None) -> AnyPredictor:
    """The file on the processor, in fp32. Raises ModelError for what is no OpenVINO model or has lost its `.bin`."""
    graphs.check_there(path)
    package = _package("a .xml model")
    if not path.with_suffix(".bin").is_file():
        raise ModelError(f"has no {path.stem}.bin beside it, where its weights are", place=path)
    try:
        core = package.Core()
        model = core.read_model(str(path))
        compiled = core.compile_model(model, "CPU", EXACT)
    except RuntimeError as error:
        raise ModelError(f"is not a usable OpenVINO model ({graphs.reason(error)})", place=path) from error
    place = [graphs.KEY, "description"]
    carried = str(model.get_rt_info(place).value) if model.has_rt_info(place) else None

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        answer = compiled(pixels)
        return [answer[output] for output in compiled.outputs]

    version = str(package.get_version()).split("-")[0]
    return graphs.opened(run, graphs.known(description, carried, path), path, f"openvino {version}")


def _package(needed_by: str) -> Any:
    """OpenVINO, without the part that reports its use to its maker unasked: OpenVINO does without where that is missing."""
    if "openvino" not in sys.modules:
        sys.modules[TELEMETRY] = None  # type: ignore[assignment]
    return graphs.needed("openvino", needed_by)
