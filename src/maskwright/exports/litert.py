"""LiteRT: the network as a `.tflite` file, fp32 or int8, for Android, iOS, microcontrollers and Lens Studio.

litert-torch pins a torch of its own, so that it works in another environment (`other_environment.py`), where it runs
`litert_convert.py` on the exported program. What it wrote is run here, by LiteRT's interpreter.
"""

from __future__ import annotations

import io
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from maskwright.bundles.bundle import Description
from maskwright.core import cores, events
from maskwright.core.errors import ModelError, RecipeError
from maskwright.core.words import counted
from maskwright.exports import graphs, other_environment
from maskwright.exports.other_environment import Environment
from maskwright.exports.source import Source, Written
from maskwright.prediction.predictor import AnyPredictor

CONVERTER = Environment(
    "litert", "litert-torch", "litert_torch", because="it wants another torch than this one", gigabytes=6.4
)
PROGRAM = Path(__file__).with_name("litert_convert.py")
CALIBRATED_ON = 64  # photos, spread over those that were given


def litert(
    source: Source,
    path: Path,
    *,
    precision: Literal["fp32", "int8"] = "fp32",
    layout: Literal["nhwc", "nchw"] = "nhwc",
    install: bool = False,
    environment: str = "",
) -> Written:
    """LiteRT (TFLite): a `.tflite` file for Android, iOS and small devices.

    Input float32 (1, h, w, 3), 0..255, output logits float32 (1, h, w, C), of that size alone. The converter needs an
    environment of its own, 6.4 GB.

    precision: int8 computes in 8 bits, with ranges measured on photos; input and output stay float32.
    layout: nhwc as LiteRT's own models, nchw as torch's: (1, 3, h, w) in, (1, C, h, w) out.
    install: make the converter's environment in the cache folder, where it is not there yet.
    environment: a Python, or the folder of an environment, that has `litert-torch`; left out: the one in the cache folder.
    """
    graphs.check_fixed(source, "LiteRT")
    if precision == "int8" and not source.photos:
        raise RecipeError("int8 needs photos to measure ranges on", place="precision", hint="add `--calibrate FOLDER`")
    graphs.needed("ai_edge_litert.interpreter", "the LiteRT export")
    torch = graphs.needed("torch", "the LiteRT export")
    python = other_environment.python_of(CONVERTER, environment, install)
    photos = list(source.inputs(CALIBRATED_ON if precision == "int8" else 1)) or [graphs.example(source).numpy()]
    program, images = path.with_suffix(".pt2"), path.with_suffix(".npy")
    whole = io.BytesIO()  # written by torch, a full disk would end the process
    with graphs.conversion("LiteRT"):
        torch.export.save(graphs.program(source), whole)
    program.write_bytes(whole.getbuffer())
    np.save(images, np.concatenate(photos))
    events.say("converting in LiteRT's own environment")
    try:
        arguments = [str(program), str(images), str(path), precision, layout]
        other_environment.run(python, PROGRAM, arguments, "the conversion to LiteRT")
    finally:
        program.unlink()
        images.unlink()
    path.chmod(0o644)  # the quantiser makes programs of its files
    measured = (f"ranges measured on {counted(len(photos), 'photo')}",) if precision == "int8" else ()
    return Written(open_file(path, source.description), measured)


def open_file(path: Path, description: Description | None) -> AnyPredictor:
    """The file in LiteRT's interpreter. Raises ModelError for what is no TFLite file, SetupError without the package."""
    graphs.check_there(path)
    package = graphs.needed("ai_edge_litert.interpreter", "a .tflite file")
    found = graphs.known(description, None, path)
    try:
        interpreter = package.Interpreter(model_path=str(path), num_threads=cores.threads())
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(f"is not a usable TFLite file ({graphs.reason(error)})", place=path) from error
    into, out = interpreter.get_input_details(), interpreter.get_output_details()
    if len(into) != 1 or len(out) != 1 or len(into[0]["shape"]) != 4:
        raise ModelError("is not of the model that it is said to hold", place=path)
    return graphs.opened(_running(interpreter, into[0], out[0]), found, path, f"litert {version('ai-edge-litert')}")


def _running(interpreter: Any, into: Any, out: Any) -> Any:
    last = into["shape"][3] == 3 and into["shape"][1] != 3  # channels

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        given = np.ascontiguousarray(pixels.transpose(0, 2, 3, 1)) if last else pixels
        interpreter.set_tensor(into["index"], given)
        interpreter.invoke()
        answer = interpreter.get_tensor(out["index"])
        return [np.ascontiguousarray(answer.transpose(0, 3, 1, 2)) if last else answer]

    return run
