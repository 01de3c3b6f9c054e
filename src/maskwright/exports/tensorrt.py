"""TensorRT: an ONNX file of one size and the exact command that builds an engine of it; the engine too where a GPU is.

An engine runs on the kind of GPU and the release of TensorRT that built it, so that it is made where it shall run.
"""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np

from maskwright.bundles.bundle import Description
from maskwright.core import events
from maskwright.core.errors import ModelError, RecipeError, SetupError
from maskwright.exports import fingerprints, graphs, onnx_files
from maskwright.exports.onnx import open_file
from maskwright.exports.source import Source, Written
from maskwright.prediction.predictor import AnyPredictor

OPSET = 17
PRECISIONS = {"fp32": (), "fp16": ("--fp16",), "int8": ("--fp16", "--int8")}  # what trtexec is told


def tensorrt(
    source: Source, path: Path, *, precision: Literal["fp32", "fp16", "int8"] = "fp16", workspace_mb: int = 2048
) -> Written:
    """TensorRT: an ONNX file of one size, `NAME.build.txt` with the command that makes its engine, and the engine on a GPU.

    precision: of the engine; int8 wants an ONNX file that holds its ranges, which is what `--for int8` writes: only the command
      is given for it.
    workspace_mb: megabytes of GPU memory that the builder may use.
    """
    if workspace_mb < 1:
        raise RecipeError(f"the builder cannot work in {workspace_mb} MB", place="workspace_mb", hint="leave it out")
    graphs.needed("onnx", "the TensorRT export")
    graphs.needed("onnxruntime", "the TensorRT export")
    known = source.description
    with graphs.conversion("ONNX, for TensorRT"):
        onnx_files.traced(source.segmenter, known, path, OPSET, "none")
    engine = path.with_suffix(".engine")
    text = _instructions(path, engine, known.size, precision, workspace_mb)
    path.with_name(f"{path.stem}.build.txt").write_text(text, encoding="utf-8")
    twin, twin_of = open_file(path, None), "the ONNX file that the engine is built from, in onnxruntime"
    exact = () if precision == "fp32" else (f"checked in fp32: what {precision} loses shows on a GPU alone",)
    if known.task == "instance":
        note = (
            "TensorRT before 8.6 knows no NonMaxSuppression with as many answers as there are: it may refuse the file"
        )
        return Written(None, (note, *exact), twin, twin_of)
    if precision == "int8":
        return Written(None, ("build it of a file that `--for int8` wrote", *exact), twin, twin_of)
    if missing := _missing():
        return Written(None, (f"no engine was built here: {missing}", *exact), twin, twin_of)
    _build(path, engine, precision, workspace_mb)
    predictor = open_engine(engine, known)
    facts: dict[str, object] = {"engine": {"file": engine.name, **fingerprints.of_file(engine), "gpu": _gpu()}}
    return Written(predictor, (f"{engine.name} runs on this kind of GPU alone",), facts=facts)


def open_engine(engine: Path, description: Description) -> AnyPredictor:
    """A built engine on the GPU; torch holds the memory.

    Raises SetupError where TensorRT, a GPU or the file is missing, or the engine is not for this GPU and release.
    """
    if missing := _missing():
        raise SetupError(missing)
    if not engine.is_file():
        raise SetupError("not found", place=engine)
    import torch

    trt: Any = graphs.needed("tensorrt", "a TensorRT engine")
    loaded = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(engine.read_bytes())
    if loaded is None:
        raise SetupError("was built for another GPU or release of TensorRT", place=engine, hint="build it again here")
    context = loaded.create_execution_context()
    shape = tuple(loaded.get_tensor_shape("logits"))

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        image, logits = torch.from_numpy(pixels).cuda(), torch.empty(shape, device="cuda")
        context.set_tensor_address("image", image.data_ptr())
        context.set_tensor_address("logits", logits.data_ptr())
        stream = torch.cuda.current_stream()
        if not context.execute_async_v3(stream.cuda_stream):
            raise RuntimeError("the engine did not run")
        stream.synchronize()
        return [logits.cpu().numpy()]

    return graphs.opened(run, description, engine, f"tensorrt {trt.__version__}")


def _instructions(path: Path, engine: Path, size: tuple[int, int], precision: str, workspace_mb: int) -> str:
    """The text beside the file."""
    words = [
        "trtexec",
        f"--onnx={path.name}",
        f"--saveEngine={engine.name}",
        *PRECISIONS[precision],
        f"--memPoolSize=workspace:{workspace_mb}",
    ]
    height, width = size
    lines = [
        "Build the engine on the machine where it shall run, in the folder of the file:",
        "",
        "    " + shlex.join(words),
        "",
        f"Input `image`: float32, 1x3x{height}x{width}, RGB, 0..255; normalisation is in the network.",
        "The file has this one shape, so that trtexec needs no --minShapes, --optShapes and --maxShapes.",
        "Release 11 may know no --fp16 and --int8: it builds in the precision of the file.",
    ]
    if precision == "int8":
        lines.append("Without a file of `maskwright export --for int8`, trtexec makes up the ranges: for timing alone.")
    return "\n".join(lines) + "\n"


def _missing() -> str:
    """What an engine needs and this machine does not have; nothing where it has all."""
    for package in ("tensorrt", "torch"):
        if find_spec(package) is None:
            return f"`{package}` is not installed (pip install {package})"
    import torch

    return "" if torch.cuda.is_available() else "there is no GPU that torch can use"


def _build(path: Path, engine: Path, precision: str, workspace_mb: int) -> None:
    """The engine, by TensorRT's own builder. Raises ModelError with the parser's first words."""
    trt = graphs.needed("tensorrt", "a TensorRT engine")
    events.say("building the TensorRT engine; that takes minutes")
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    if not parser.parse(path.read_bytes()):
        raise ModelError(f"this network cannot be exported to TensorRT ({parser.get_error(0).desc()})")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb << 20)
    if precision == "fp16":
        if not hasattr(trt.BuilderFlag, "FP16"):
            what = "TensorRT builds fp16 engines of fp16 files alone since its release 11"
            raise ModelError(
                what, hint="ask for precision=fp32, or build one of a file written with `--for onnx precision=fp16`"
            )
        config.set_flag(trt.BuilderFlag.FP16)
    built = builder.build_serialized_network(network, config)
    if built is None:
        raise ModelError("this network cannot be exported to TensorRT (its builder gave up)")
    engine.write_bytes(bytes(built))


def _gpu() -> str:
    import torch

    return str(torch.cuda.get_device_name())
