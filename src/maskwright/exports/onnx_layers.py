"""Which layers an ONNX graph has, what lies between them, and in which order its nodes stand; branches and bodies (If, Loop) of
a node read tensors of the graph around it, which onnxruntime's own tools overlook.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
BETWEEN = (  # operators on features that lose little in 8 or 16 bits
    *("Add", "Mul", "Clip", "Relu", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish"),
    *("MaxPool", "AveragePool", "GlobalAveragePool", "Resize", "Concat", "Flatten"),
)
AROUND = (  # that stay as they are, and do not make an answer of what stands before them
    *("LayerNormalization", "InstanceNormalization", "GroupNormalization", "BatchNormalization", "Softmax"),
    *("Reshape", "Transpose", "Unsqueeze", "Squeeze", "Sub", "Div", "Pow", "Sqrt", "ReduceMean", "Erf"),
)


def features(graph: GraphProto, *, answers: bool) -> list[str]:
    """Names of the layers with stored weights, and of what lies between two of them: all that may be computed coarsely in
    networks that also compute coordinates.

    answers: with the layers that no other one comes after, whose boxes, scores and masks are not looked at again.
    """
    stored, readers, makers = {tensor.name for tensor in graph.initializer}, _readers(graph), _makers(graph)
    layers = [node for node in graph.node if node.op_type in WEIGHTED and node.input[1] in stored]

    def before(node: NodeProto) -> list[NodeProto]:
        names = node.input[:1] if node.op_type in WEIGHTED else node.input
        return [makers[name] for name in names if name in makers]

    def after(node: NodeProto) -> list[NodeProto]:
        return [reader for name in node.output for reader in readers.get(name, ())]

    between = _reached(layers, before) & _reached(layers, after)
    if not answers:
        going_on = _reached(layers, before, (*BETWEEN, *AROUND)) | {node.name for node in layers}
        layers = [node for node in layers if going_on & {reader.name for reader in after(node)}]
    chosen = {node.name for node in layers} | between
    return [node.name for node in graph.node if node.name in chosen]


def reads(node: NodeProto) -> set[str]:
    """Names of all tensors that a node reads, those that its branches read of the graphs around them included."""
    found = set(node.input) - {""}
    for attribute in node.attribute:
        for graph in [*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])]:
            own = {name for inner in graph.node for name in inner.output}
            own |= {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
            found |= {value.name for value in graph.output}.union(*(reads(inner) for inner in graph.node)) - own
    return found


def sort(graph: GraphProto) -> None:
    """Puts every node behind those that it reads from."""
    made = set(_makers(graph))
    missing = [reads(node) & made for node in graph.node]
    waiting: dict[str, list[int]] = {}
    for index, names in enumerate(missing):
        for name in names:
            waiting.setdefault(name, []).append(index)
    ready = [index for index, names in enumerate(missing) if not names]
    for index in ready:  # which grows meanwhile
        for name in graph.node[index].output:
            for reader in waiting.get(name, ()):
                missing[reader].discard(name)
                if not missing[reader]:
                    ready.append(reader)
    assert len(ready) == len(graph.node), "nodes that wait for each other"
    ordered = [graph.node[index] for index in ready]
    graph.ClearField("node")
    graph.node.extend(ordered)


def _reached(
    layers: Sequence[NodeProto],
    following: Callable[[NodeProto], Iterable[NodeProto]],
    through: Collection[str] = BETWEEN,
) -> set[str]:
    """Names of what comes next to the layers, one way, with nothing but some operators in between."""
    found, todo = set[str](), list(layers)
    while todo:
        for node in following(todo.pop()):
            if node.op_type in through and node.name not in found:
                found.add(node.name)
                todo.append(node)
    return found


def _readers(graph: GraphProto) -> dict[str, list[NodeProto]]:
    found: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        for name in reads(node):
            found.setdefault(name, []).append(node)
    return found


def _makers(graph: GraphProto) -> dict[str, NodeProto]:
    return {name: node for node in graph.node for name in node.output if name}
