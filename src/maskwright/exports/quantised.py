"""Layers of a quantised network that go back to float32, one after another, until it answers as the float32 network does.

What a layer costs is measured: how much nearer the answers come when it alone goes back. A layer in float32 keeps its 8-bit
input and output, since nearly all that int8 changes comes from weights.

onnxruntime gives a float convolution between a DequantizeLinear and a QuantizeLinear 8-bit weights of its own (one scale for
all channels, WeightBiasQuantization), which is far worse than what the file came from. A Clip that clips nothing, before the
layer, keeps it from that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.bundles.bundle import Description
from maskwright.core import events
from maskwright.core.errors import ModelError

if TYPE_CHECKING:
    from onnx import ModelProto

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
FEW = 4  # photos that the cost of each layer is measured on
EVERYTHING = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Found:
    """How far a network is from the float32 one. changed: share of pixels answered otherwise. iou: mean over the classes, of
    both class maps. error: mean squared difference of logits."""

    changed: float
    iou: float
    error: float

    def words(self) -> str:
        return f"{100 * self.changed:.3f} % of the pixels answered otherwise, mean IoU {self.iou:.4f}"

    def to_json(self) -> dict[str, float]:
        return {"pixels_changed": self.changed, "mean_iou": self.iou}


@dataclass(frozen=True)
class PutBack:
    """A layer that went back to float32, and the share of pixels changed before and after."""

    layer: str
    before: float
    after: float

    def words(self) -> str:
        return (
            f"{self.layer} back in float32: {100 * self.before:.3f} % -> {100 * self.after:.3f} % of the pixels changed"
        )

    def to_json(self) -> dict[str, object]:
        return {"layer": self.layer, "changed_before": self.before, "changed_after": self.after}


class Check:
    """Callable: a quantised network -> Found, on inputs float32 (1, 3, h, w)."""

    def __init__(self, trained: bytes, pixels: Sequence[np.ndarray], description: Description):
        self.pixels, self.description = pixels, description
        exact = session(trained)
        self.expected = [self._answer(exact, image) for image in pixels]

    def __call__(self, model: ModelProto, most: int | None = None) -> Found:
        eight = session(model.SerializeToString())
        classes = len(self.description.classes)
        both, either = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
        changed, error, pixels = 0, 0.0, 0
        chosen = slice(most)
        for image, expected in zip(self.pixels[chosen], self.expected[chosen], strict=True):
            actual = self._answer(eight, image)
            ours, theirs = self._masks(expected), self._masks(actual)
            changed += int((ours != theirs).any(axis=0).sum())
            pixels += ours[0].size
            error += float(((expected - actual) ** 2).mean())
            for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
                both[index] += int((a & b).sum())
                either[index] += int((a | b).sum())
        share = changed / pixels
        iou = float((both[either > 0] / either[either > 0]).mean()) if either.any() else 1.0
        return Found(share, iou, error)

    def _answer(self, network: Any, image: np.ndarray) -> np.ndarray:
        """Logits float32 (C, h, w)."""
        return np.asarray(network.run(None, {"image": image})[0][0])

    def _masks(self, answer: np.ndarray) -> np.ndarray:
        """bool (K, h, w): the pixels of each class."""
        if self.description.multilabel:
            return answer > 0
        return answer.argmax(0)[None] == np.arange(len(answer))[:, None, None]


def layers(model: ModelProto) -> list[str]:
    """Names of the layers whose weights are in 8 bits, first to last."""
    made = {name: node for node in model.graph.node for name in node.output}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in WEIGHTED and (before := made.get(node.input[1])) and before.op_type == "DequantizeLinear"
    ]


def within(
    model: ModelProto, trained: ModelProto, check: Check, max_changed: float
) -> tuple[ModelProto, Found, list[PutBack]]:
    """The network with as many layers in float32 as it takes to change at most `max_changed` of the pixels.

    model: quantised; trained: what it was made of. Raises ModelError when half of the layers do not suffice.
    """
    now, done = check(model), list[PutBack]()
    if now.changed <= max_changed:
        return model, now, done
    names = layers(model)
    base = check(model, FEW).error
    events.say(f"int8: {now.words()}; at most {100 * max_changed:g} % may be, so the layers that cost most go back")
    gains = {
        name: base - check(in_float(model, trained, name), FEW).error
        for name in events.progress(names, "measure layers", unit="layers")
    }
    for name in sorted(names, key=lambda name: -gains[name]):
        if len(done) >= len(names) / 2:
            break
        trial = in_float(model, trained, name)
        after = check(trial)
        if after.changed >= now.changed:
            continue
        done.append(PutBack(name, now.changed, after.changed))
        events.say(done[-1].words())
        model, now = trial, after
        if now.changed <= max_changed:
            return model, now, done
    least = f"even with {len(done)} of {len(names)} layers in float32, {now.words()}"
    hint = f"allow more with `max_changed={2 * now.changed:.2g}`, or calibrate with more photos like those it is for"
    raise ModelError(f"int8 changes too much: {least}", hint=hint)


def in_float(model: ModelProto, trained: ModelProto, name: str) -> ModelProto:
    """A copy of the quantised network with one layer's weights as they were before."""
    import onnx as onnx_package
    from onnx import helper, numpy_helper

    copy = onnx_package.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    index, node = next((i, node) for i, node in enumerate(graph.node) if node.name == name)
    before = next(node for node in trained.graph.node if node.name == name)
    for place, tensor_name in list(enumerate(before.input))[1:]:
        tensor = next(tensor for tensor in trained.graph.initializer if tensor.name == tensor_name)
        node.input[place] = f"{name}_float_{place}"  # its own name is that of the 8-bit one, made float again
        graph.initializer.append(tensor)
        graph.initializer[-1].name = node.input[place]
    if any(other.op_type == "DequantizeLinear" and node.input[0] in other.output for other in graph.node):
        bounds = [f"{name}_from", f"{name}_to"]
        for bound, value in zip(bounds, (-EVERYTHING, EVERYTHING), strict=True):
            graph.initializer.append(numpy_helper.from_array(np.float32(value), bound))
        guard = helper.make_node("Clip", [node.input[0], *bounds], [f"{name}_input"], name=f"{name}_guard")
        node.input[0] = guard.output[0]
        graph.node.insert(index, guard)
    return copy


def save(model: ModelProto, path: Path) -> None:
    """Writes the network without the 8-bit weights that nothing uses any more."""
    import onnx as onnx_package

    graph = model.graph
    while True:
        used = {name for node in graph.node for name in node.input} | {output.name for output in graph.output}
        kept = [node for node in graph.node if used & set(node.output)]
        if len(kept) == len(graph.node):
            break
        graph.ClearField("node")
        graph.node.extend(kept)
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    graph.ClearField("initializer")
    graph.initializer.extend(tensors)
    onnx_package.save(model, str(path))
    onnx_package.checker.check_model(str(path))


def session(model: bytes) -> Any:
    """A network that runs in onnxruntime, on the CPU."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
