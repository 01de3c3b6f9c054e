"""Core ML: the network as an `.mlpackage` for iPhones, iPads and Macs. It can be written everywhere and runs on macOS alone.

The way goes over torch.export: coremltools 9 cannot read what torch.jit traces where numpy is 2.4 (its operator `int` asks for
the number in an array of one). Elsewhere than on macOS the exported program is checked in torch, in the package's place.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import numpy as np

from maskwright.bundles.bundle import Description
from maskwright.core.errors import ModelError, SetupError
from maskwright.exports import graphs
from maskwright.exports.source import Source, Written
from maskwright.prediction.predictor import AnyPredictor

ON_MAC = sys.platform == "darwin"
SYSTEMS = {"ios16": "iOS16", "ios17": "iOS17", "ios18": "iOS18"}


def coreml(
    source: Source,
    path: Path,
    *,
    precision: Literal["fp32", "fp16"] = "fp32",
    system: Literal["ios16", "ios17", "ios18"] = "ios16",
) -> Written:
    """Core ML: an `.mlpackage` for iPhones, iPads and Macs.

    `image` float32 (1, 3, h, w), 0..255 -> `logits`; the description stands in the package's user-defined metadata.

    precision: that it computes in; the Neural Engine knows fp16 alone, fp32 runs on the processor and the graphics chip.
    system: the oldest it runs on; ios16 is macOS 13 too, ios17 macOS 14, ios18 macOS 15.
    """
    graphs.check_fixed(source, "Core ML")
    tools = graphs.needed("coremltools", "the Core ML export")
    with graphs.conversion("Core ML"):
        exported = without_aliases(graphs.program(source).run_decompositions({}))
        model = tools.convert(
            exported,
            outputs=[tools.TensorType(name="logits")],
            convert_to="mlprogram",
            minimum_deployment_target=getattr(tools.target, SYSTEMS[system]),
            compute_precision=tools.precision.FLOAT32 if precision == "fp32" else tools.precision.FLOAT16,
            skip_model_load=True,
        )
        model.user_defined_metadata[graphs.KEY] = graphs.text_of(source.description)
        model.save(str(path))
    if ON_MAC:
        return Written(open_file(path, None))
    notes = ("checked in fp32: what fp16 loses shows on macOS alone",) if precision == "fp16" else ()
    return Written(None, notes, _twin(source, exported), "the exported program it was converted from, in torch")


def open_file(path: Path, description: Description | None) -> AnyPredictor:
    """The package in Core ML. Raises ModelError for what is no package, SetupError elsewhere than on macOS."""
    graphs.check_there(path)
    tools = graphs.needed("coremltools", "an .mlpackage")
    unread = graphs.needed("google.protobuf.message", "an .mlpackage").DecodeError
    try:
        spec = tools.utils.load_spec(str(path))
        if spec.WhichOneof("Type") != "mlProgram":
            raise ValueError("it holds no program")
    except (RuntimeError, ValueError, OSError, unread) as error:
        raise ModelError(f"is not a usable Core ML package ({graphs.reason(error)})", place=path) from error
    carried = dict(spec.description.metadata.userDefined).get(graphs.KEY)
    found = graphs.known(description, carried, path)
    if not ON_MAC:
        raise SetupError("runs on macOS alone", place=path, hint="verify it on a Mac")
    model = tools.models.MLModel(str(path))
    name = spec.description.input[0].name

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(model.predict({name: pixels})["logits"])]

    return graphs.opened(run, found, path, f"coremltools {tools.__version__}")


def without_aliases(program: Any) -> Any:
    """The program without the nodes that hand on what they are given, which coremltools does not know."""
    import torch

    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.target is not torch.ops.aten.alias.default:
            continue
        behind = node.args[0]
        node.replace_all_uses_with(behind)
        for output in program.graph_signature.output_specs:
            if output.arg.name == node.name:
                output.arg.name = behind.name
        graph.erase_node(node)
    program.graph_module.recompile()
    return program


def _twin(source: Source, program: Any) -> AnyPredictor:
    import torch

    module = program.module()

    def network(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return module(torch.from_numpy(pixels)).numpy()

    return source.running(network, f"torch {torch.__version__}")
