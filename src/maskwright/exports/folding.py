"""Graph work on ONNX models that changes how they compute and never what: constants moved into convolutions, leftovers removed.

Every function changes the model it is given and returns whether it found something to do. Arithmetic on weights is float64.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

TINY = 1e-20  # times a million, the largest values in a network, it still is nothing beside float32's 1e-7
PLAIN = {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0, 0, 0, 0], "dilations": [1, 1], "group": 1}


def into_next(model: ModelProto) -> bool:
    """Merges a 1x1 Conv on the model's input into the Conv layers behind it, where that is exact.

    It is, to the last pixel, where the 1x1 Conv has no bias or the others pad nothing: zero padding stands for the value 0
    behind the first layer, which is another colour before it as soon as there is a bias.
    """
    first = next((node for node in model.graph.node if model.graph.input[0].name in node.input), None)
    if first is None or not _plain(first):
        return False
    weight, bias = _weights(model, first)
    behind = [node for node in model.graph.node if first.output[0] in node.input]
    if not behind or not all(node.op_type == "Conv" and attributes(node)["group"] == 1 for node in behind):
        return False
    if bias.any() and any(any(attributes(node)["pads"]) or attributes(node).get("auto_pad") for node in behind):
        return False
    for node in behind:
        own, shift = _weights(model, node)
        _set_weights(
            model,
            node,
            np.einsum("omhw,mi->oihw", own, weight[:, :, 0, 0]),
            shift + np.einsum("omhw,m->o", own, bias),
        )
        node.input[0] = first.input[0]
    model.graph.node.remove(first)
    return True


def into_previous(model: ModelProto, name: str) -> bool:
    """Merges the 1x1 Conv whose output is called `name` into the Conv before it, where that makes neither larger.

    Nearest and linear resizing may lie between: a 1x1 layer is the same before and after them.
    """
    last = producer(model, name)
    if last is None or not _plain(last):
        return False
    before = producer(model, last.input[0])
    while before is not None and before.op_type in ("Resize", "Upsample") and _alone(model, before.output[0]):
        before = producer(model, before.input[0])
    if before is None or before.op_type != "Conv" or not _alone(model, before.output[0]):
        return False
    (weight, bias), (own, shift) = _weights(model, last), _weights(model, before)
    if attributes(before)["group"] != 1 or weight.shape[0] > weight.shape[1]:
        return False
    matrix = weight[:, :, 0, 0]
    _set_weights(model, before, np.einsum("om,mihw->oihw", matrix, own), matrix @ shift + bias)
    model.graph.node.remove(last)
    _rename(model, last.input[0], last.output[0])
    del model.graph.value_info[:]  # what lies between has other channels now
    return True


def tidy(model: ModelProto) -> bool:
    """Removes Identity nodes (an exporter's way to share one tensor between layers) and weights that nobody uses."""
    found = False
    weights = {tensor.name for tensor in model.graph.initializer}
    for node in [node for node in model.graph.node if node.op_type == "Identity"]:
        source, target = node.input[0], node.output[0]
        if target in {value.name for value in model.graph.output}:
            if source in weights or not _alone(model, source) or producer(model, source) is None:
                continue
            _rename(model, source, target)
        else:
            _rename(model, target, source)
        model.graph.node.remove(node)
        found = True
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in used]:
        model.graph.initializer.remove(tensor)
        found = True
    return found


def short_names(model: ModelProto) -> bool:
    """Numbers nodes and tensors, which torch names after the modules they come from: a fiftieth of a small network's file."""
    graph = model.graph
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        return False  # branches read these tensors by name
    names = {value.name: value.name for value in (*graph.input, *graph.output)} | {"": ""}
    for tensor in graph.initializer:
        tensor.name = names.setdefault(tensor.name, f"w{len(names)}")
    for index, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{index}"
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [names.setdefault(name, f"t{len(names)}") for name in node.output]
    del graph.value_info[:]
    return True


def without_tiny(model: ModelProto) -> int:
    """Sets weights below TINY to 0, and returns how many; they move no answer, and CPUs take many times longer over them.

    Channels that died in training have such weights: weight decay makes them smaller for ever.
    """
    from onnx import TensorProto, numpy_helper

    count = 0
    for tensor in model.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(tensor)
            tiny = (values != 0) & (np.abs(values) < TINY)
            if tiny.any():
                count += int(tiny.sum())
                tensor.CopyFrom(numpy_helper.from_array(np.where(tiny, np.float32(0), values), tensor.name))
    return count


def attributes(node: NodeProto) -> dict[str, Any]:
    """What is set of a node, and of a Conv what is meant where nothing is set."""
    from onnx import helper

    given = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    if node.op_type in ("Conv", "ConvTranspose"):
        automatic = given.get("auto_pad", b"NOTSET").decode()
        given = {**{key: value for key, value in PLAIN.items() if key != "kernel_shape"}, **given}
        given["auto_pad"] = "" if automatic in ("NOTSET", "VALID") else automatic
    return given


def producer(model: ModelProto, name: str) -> NodeProto | None:
    """The node that gives a value; None for inputs and weights."""
    return next((node for node in model.graph.node if name in node.output), None)


def constant(model: ModelProto, name: str) -> np.ndarray | None:
    """The value of a weight or a Constant node; None for what is computed."""
    from onnx import numpy_helper

    for tensor in model.graph.initializer:
        if tensor.name == name:
            return numpy_helper.to_array(tensor)
    node = producer(model, name)
    if node is not None and node.op_type == "Constant" and node.attribute[0].name == "value":
        return numpy_helper.to_array(node.attribute[0].t)
    return None


def _plain(node: NodeProto) -> bool:
    """Is it a 1x1 Conv of one group, pixel by pixel?"""
    if node.op_type != "Conv":
        return False
    known = attributes(node)
    return all(known.get(key) == value for key, value in PLAIN.items()) and not known["auto_pad"]


def _weights(model: ModelProto, node: NodeProto) -> tuple[np.ndarray, np.ndarray]:
    """float64 weight (O, I, h, w) and bias (O,), zeros where there is none."""
    weight = constant(model, node.input[1])
    assert weight is not None, f"{node.name} computes its weights"
    bias = constant(model, node.input[2]) if len(node.input) > 2 and node.input[2] else None
    return weight.astype(np.float64), np.zeros(len(weight)) if bias is None else bias.astype(np.float64)


def _set_weights(model: ModelProto, node: NodeProto, weight: np.ndarray, bias: np.ndarray) -> None:
    """Gives a Conv weights of its own; others may go on using the old ones."""
    from onnx import numpy_helper

    names = [f"{node.output[0]}.weight", f"{node.output[0]}.bias"]
    for name, values in zip(names, (weight, bias), strict=True):
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    del node.input[1:]
    node.input.extend(names)


def _alone(model: ModelProto, name: str) -> bool:
    """Has a value one reader, and is it no output of the model?"""
    readers = sum(list(node.input).count(name) for node in model.graph.node)
    return readers == 1 and name not in {value.name for value in model.graph.output}


def _rename(model: ModelProto, old: str, new: str) -> None:
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
