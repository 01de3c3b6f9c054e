"""Bias correction: what 8-bit weights add to a layer's output on average is taken out of its bias.

Method: Nagel et al., 2019, arXiv:1906.04721, section 4.2, with means measured on photos. Convolutions whose weights nearly
cancel (edge filters, one per channel) gain most: a rounding error times a large mean is a shift of the whole channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from maskwright.exports import quantised

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

PHOTOS = 8  # that means are measured on


def correct(model: ModelProto, trained: ModelProto, pixels: Sequence[np.ndarray]) -> int:
    """Changes the biases of the quantised network in place; how many. trained: what it was made of. pixels: its inputs."""
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    floats = {tensor.name: tensor for tensor in trained.graph.initializer}
    made = {name: node for node in model.graph.node for name in node.output}
    before = {node.name: node for node in trained.graph.node}
    nodes = [node for node in model.graph.node if node.name in set(quantised.layers(model))]
    nodes = [node for node in nodes if node.op_type == "Conv" and len(node.input) == 3 and node.input[2] in made]
    if not nodes:
        return 0
    means = _means(trained, sorted({before[node.name].input[0] for node in nodes}), pixels)
    for node in nodes:
        weights, bias = made[node.input[1]], made[node.input[2]]
        exact = numpy_helper.to_array(floats[before[node.name].input[1]]).astype(np.float64)
        values, scale = (numpy_helper.to_array(stored[name]) for name in weights.input[:2])
        error = values * scale.astype(np.float64).reshape(-1, 1, 1, 1) - exact
        groups = _groups(node)
        seen = means[before[node.name].input[0]].reshape(groups, -1)
        shift = np.einsum("goi,gi->go", error.sum(axis=(2, 3)).reshape(groups, -1, error.shape[1]), seen).ravel()
        steps = numpy_helper.to_array(stored[bias.input[1]]).astype(np.float64)
        limits = np.iinfo(np.int32)
        changed = numpy_helper.to_array(stored[bias.input[0]]) - np.rint(shift / steps)
        fresh = numpy_helper.from_array(changed.clip(limits.min, limits.max).astype(np.int32), bias.input[0])
        stored[bias.input[0]].CopyFrom(fresh)
    return len(nodes)


def _groups(node: NodeProto) -> int:
    return next((int(attribute.i) for attribute in node.attribute if attribute.name == "group"), 1)


def _means(trained: ModelProto, tensors: Sequence[str], pixels: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """float64 (C,): the mean of each channel of each tensor (N, C, h, w)."""
    import onnx as onnx_package
    from onnx import TensorProto, helper

    model = onnx_package.ModelProto()
    model.CopyFrom(trained)
    model.graph.ClearField("output")
    for tensor in tensors:
        mean = helper.make_node("ReduceMean", [tensor], [f"{tensor}_mean"], axes=[0, 2, 3], keepdims=0)
        model.graph.node.append(mean)
        model.graph.output.append(helper.make_tensor_value_info(mean.output[0], TensorProto.FLOAT, None))
    session = quantised.session(model.SerializeToString())
    found = [session.run(None, {"image": image}) for image in pixels[:: max(1, -(-len(pixels) // PHOTOS))]]
    return {
        name: np.stack(values).astype(np.float64).mean(axis=0)
        for name, values in zip(tensors, zip(*found), strict=True)
    }
