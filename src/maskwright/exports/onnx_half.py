"""float16 in ONNX files: weights in half the space, arithmetic of layers in 11 bits, inputs and outputs float32 as before.

Networks that label pixels are converted as a whole; of those that find objects only the layers and what lies between them:
anchors, boxes, their suppression, RoiAlign and the branches stay in float32, since a coordinate of 1000 pixels is exact to
half a pixel in float16.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from maskwright.exports import onnx_layers

if TYPE_CHECKING:
    from onnx import ModelProto

FLOAT_INPUTS = {"Resize": (1, 2, 3)}  # region, scales, sizes: of another type than what is resized


def halve(path: Path, objects: bool) -> None:
    """Rewrites a file in float16. objects: it is of a network that finds objects."""
    import onnx as onnx_package

    model = onnx_package.load(str(path))
    model = _layers(model) if objects else _whole(model)
    onnx_package.save(model, str(path))


def _whole(model: ModelProto) -> ModelProto:
    from onnxruntime.quantization.onnx_model import ONNXModel
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numbers too small for float16 become its smallest
        model = convert_float_to_float16(model, keep_io_types=True)
    for index, node in enumerate(model.graph.node):  # two casts may have come out with the same name
        node.name = f"{node.name}_{index}"
    sorted_model = ONNXModel(model)
    sorted_model.topological_sort()  # casts came in behind the nodes that read them
    return sorted_model.model


def _layers(model: ModelProto) -> ModelProto:
    """What the layers read is cast to float16, what others read of them back to float32."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    chosen = set(onnx_layers.features(graph, answers=True))
    inside, outside = ([node for node in graph.node if (node.name in chosen) is here] for here in (True, False))
    stored = {tensor.name: tensor for tensor in graph.initializer}
    made = {name for node in inside for name in node.output}
    read = {output.name for output in graph.output}.union(*(onnx_layers.reads(node) for node in outside))
    known: set[str] = set()
    for node in inside:
        for place, name in enumerate(node.input):
            if not name or place in FLOAT_INPUTS.get(node.op_type, ()):
                continue
            node.input[place] = half = f"{name}_half"
            if name in stored and half not in known:
                values = numpy_helper.to_array(stored[name])
                largest = np.finfo(np.float16).max
                graph.initializer.append(
                    numpy_helper.from_array(values.clip(-largest, largest).astype(np.float16), half)
                )
            elif name not in made and half not in known:
                graph.node.append(helper.make_node("Cast", [name], [half], name=half, to=TensorProto.FLOAT16))
            known.add(half)
        for place, name in enumerate(node.output):
            node.output[place] = f"{name}_half"
            if name in read:
                graph.node.append(
                    helper.make_node("Cast", [f"{name}_half"], [name], name=f"{name}_cast", to=TensorProto.FLOAT)
                )
    used = set[str]().union(*(onnx_layers.reads(node) for node in graph.node))
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    graph.ClearField("initializer")
    graph.initializer.extend(kept)
    graph.ClearField("value_info")  # of types that are no longer so
    onnx_layers.sort(graph)
    return model
