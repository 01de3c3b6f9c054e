"""Writing ONNX graphs by hand: `g.Add(a, 1)` adds a node and answers with the name of what it gives.

Inputs are names of such answers, None where an optional input is left out, or constants: arrays, and numbers, which are int64
where they are whole and float32 where they are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

Value = str | np.ndarray | np.generic | float | Sequence[int] | None


class Nodes:
    """The nodes of a graph while it is written; those of a loop's body (`inside`) see the names of the graph around it."""

    def __init__(self, around: Nodes | None = None):
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = [] if around is None else around.constants
        self.names: list[str] = (
            [] if around is None else around.names
        )  # every name that was given, one graph or another

    def __getattr__(self, kind: str) -> Callable[..., Any]:
        """The writer of one kind of node: inputs, attributes by name, `outputs` where there are several -> its name(s)."""
        if not kind[0].isupper():
            raise AttributeError(kind)

        def written(*inputs: Value, outputs: int = 1, **attributes: Any) -> Any:
            given = [self._named(kind) for _ in range(outputs)]
            self.nodes.append(helper.make_node(kind, [self.constant(value) for value in inputs], given, **attributes))
            return given[0] if outputs == 1 else given

        return written

    def constant(self, value: Value) -> str:
        """The name of a value: of a constant a new one."""
        if value is None or isinstance(value, str):
            return value or ""
        array = np.asarray(value)
        if not isinstance(value, np.ndarray | np.generic):
            array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        self.constants.append(numpy_helper.from_array(array, self._named("constant")))
        return self.names[-1]

    def inside(self) -> Nodes:
        return Nodes(self)

    def loop(
        self, times: Value, body: Callable[..., Sequence[str]], state: Sequence[tuple[str, int]], kept: int
    ) -> Any:
        """The answers of a loop: what its state became, and what every turn left, stacked.

        body: Nodes, the number of the turn (a scalar), the state -> the new state and what is to be kept, with their types as
        `typed` marks them. state: names and ONNX types of its start. kept: how many things each turn leaves.
        """
        inner = self.inside()
        number, go = inner._named("turn"), inner._named("go")
        taken = [inner._named("state") for _ in state]
        answers = body(inner, number, *taken)
        still = inner.Identity(go)
        inputs = [value(number, TensorProto.INT64, ()), value(go, TensorProto.BOOL, ())]
        inputs += [value(name, kind) for name, (_, kind) in zip(taken, state, strict=True)]
        # the types of what comes out follow from the nodes
        outputs = [value(still, TensorProto.BOOL, ()), *(ValueInfoProto(name=name) for name in answers)]
        graph = helper.make_graph(inner.nodes, "body", inputs, outputs)
        return self.Loop(times, None, *(name for name, _ in state), outputs=len(state) + kept, body=graph)

    def stacked(
        self, numbers: str, body: Callable[[Nodes, str], str], none: Callable[[Nodes], str], like: tuple[int, int]
    ) -> Any:
        """What body gives for each of `numbers` int64 (N,), all of one shape, behind each other; `none` where N is 0.

        like: ONNX type and number of sides of what body gives.

        onnxruntime's Scan makes the whole array once and writes each answer into its place, where a loop keeps them all and
        copies them afterwards, which takes twice the memory. It refuses to scan nothing.
        """

        def scanned(g: Nodes) -> str:
            inner = g.inside()
            number = inner._named("number")
            answer = body(inner, number)
            inputs = [value(number, TensorProto.INT64, ())]
            outputs = [value(answer, like[0], [f"side_{side}" for side in range(like[1])])]
            graph = helper.make_graph(inner.nodes, "body", inputs, outputs)
            return str(g.Scan(numbers, num_scan_inputs=1, body=graph))

        return self.choose(self.Greater(self.Size(numbers), 0), scanned, none)

    def choose(self, condition: str, yes: Callable[[Nodes], str], no: Callable[[Nodes], str]) -> Any:
        """The answer of one of two graphs."""
        graphs = []
        for branch in (yes, no):
            inner = self.inside()
            answer = branch(inner)
            graphs.append(helper.make_graph(inner.nodes, "branch", [], [ValueInfoProto(name=answer)]))
        return self.If(condition, then_branch=graphs[0], else_branch=graphs[1])

    def graph(self, inputs: Sequence[ValueInfoProto], outputs: Sequence[ValueInfoProto]) -> GraphProto:
        return helper.make_graph(self.nodes, "maskwright", inputs, outputs, self.constants)

    def _named(self, kind: str) -> str:
        self.names.append(f"{kind}_{len(self.names)}")
        return self.names[-1]


def value(name: str, kind: int, shape: Sequence[int | str] | None = None) -> ValueInfoProto:
    """An input or output of a graph. shape: None where it is not known."""
    return helper.make_tensor_value_info(name, kind, shape)
