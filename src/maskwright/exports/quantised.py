"""Layers of a quantised network that go back to float32, one after another, until it is as good as it has to be.

What a layer costs is measured on a few photos: how much nearer the answers come when it alone goes back. Those that cost most
go first; how many must is found by trying 1, 2, 4, ... and halving the rest, since what judges (a score on hundreds of images)
may be slow. A layer in float32 keeps its 8-bit input and output, since nearly all that int8 changes comes from weights.

onnxruntime gives a float convolution between a DequantizeLinear and a QuantizeLinear 8-bit weights of its own (one scale for
all channels, WeightBiasQuantization), which is far worse than what the file came from. A Clip that clips nothing, before the
layer, keeps it from that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.bundles.bundle import Description
from maskwright.core import events
from maskwright.core.errors import ModelError
from maskwright.core.types import Instances
from maskwright.core.words import counted
from maskwright.exports import onnx_layers, onnx_objects

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

FEW = 4  # photos that the cost of each layer is measured on
SAME = 0.5  # IoU of masks: those of the same object
EVERYTHING = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Found:
    """How far a network is from the float32 one.

    changed: share of pixels answered otherwise; of objects, by their scores (see `shared`). iou: mean over the classes, of both
    class maps; of objects over those found by both. error: what layers are ranked by: mean squared difference of logits; of
    objects `changed`.
    """

    changed: float
    iou: float
    error: float
    of: str = "pixels"

    def words(self) -> str:
        return f"{100 * self.changed:.3f} % of the {self.of} answered otherwise, mean IoU {self.iou:.4f}"

    def to_json(self) -> dict[str, float]:
        return {f"{self.of}_changed": self.changed, "mean_iou": self.iou}


@dataclass(frozen=True)
class PutBack:
    """A layer that went back to float32, and the share of pixels (of objects) changed before and after."""

    layer: str
    before: float
    after: float
    of: str = "pixels"

    def words(self) -> str:
        share = f"{100 * self.before:.3f} % -> {100 * self.after:.3f} %"
        return f"{self.layer} back in float32: {share} of the {self.of} changed"

    def to_json(self) -> dict[str, object]:
        return {"layer": self.layer, "changed_before": self.before, "changed_after": self.after}


class Check:
    """Callable: a quantised network -> Found, on inputs float32 (1, 3, h, w)."""

    def __init__(self, trained: bytes, pixels: Sequence[np.ndarray], description: Description):
        self.pixels, self.description = pixels, description
        exact = session(trained)
        self.expected = [self._answer(exact, image) for image in pixels]

    def __call__(self, model: ModelProto, most: int | None = None) -> Found:
        network = session(model.SerializeToString())
        pairs = [(expected, self._answer(network, image)) for expected, image in zip(self.expected[:most], self.pixels)]
        return self._objects(pairs) if self.description.task == "instance" else self._labels(pairs)

    def _labels(self, pairs: Sequence[tuple[Any, Any]]) -> Found:
        classes = len(self.description.classes)
        both, either = np.zeros(classes, np.int64), np.zeros(classes, np.int64)
        changed, error, pixels = 0, 0.0, 0
        for expected, actual in pairs:
            ours, theirs = self._masks(expected), self._masks(actual)
            changed += int((ours != theirs).any(axis=0).sum())
            pixels += ours[0].size
            error += float(((expected - actual) ** 2).mean())
            for index, (a, b) in enumerate(zip(ours, theirs, strict=True)):
                both[index] += int((a & b).sum())
                either[index] += int((a | b).sum())
        iou = float((both[either > 0] / either[either > 0]).mean()) if either.any() else 1.0
        return Found(changed / pixels, iou, error)

    def _objects(self, pairs: Sequence[tuple[Instances, Instances]]) -> Found:
        common, total, overlap, count = (sum(column) for column in zip(*(shared(*pair) for pair in pairs), strict=True))
        changed = max(1 - common / total, 0.0) if total else 0.0  # sums are rounded
        return Found(changed, overlap / count if count else 1.0, changed, "objects")

    def _answer(self, network: Any, image: np.ndarray) -> Any:
        """Logits float32 (C, h, w), or Instances."""
        found = network.run(None, {"image": image})
        if self.description.task == "instance":
            return onnx_objects.drawn(found, (image.shape[2], image.shape[3]))
        return np.asarray(found[0][0])

    def _masks(self, answer: np.ndarray) -> np.ndarray:
        """bool (K, h, w): the pixels of each class."""
        if self.description.multilabel:
            return answer > 0
        return answer.argmax(0)[None] == np.arange(len(answer))[:, None, None]


def shared(ours: Instances, theirs: Instances) -> tuple[float, float, float, int]:
    """What two lists of objects have in common, of how much; the sum of the IoUs of those found by both, and their number.

    An object counts as much as its score, since faint ones come and go. One found by both is shared to its IoU times the lower
    of both scores, counted for each of the two. Of the same class, the largest IoU of at least SAME is the same object.
    """
    overlaps = _overlaps(ours, theirs) * (ours.labels[:, None] == theirs.labels)
    common, overlap, count = 0.0, 0.0, 0
    for index in np.argsort(-ours.scores, kind="stable").tolist():
        most = float(overlaps[index].max(initial=0))
        if most < SAME:
            continue
        best = int(overlaps[index].argmax())
        overlaps[:, best] = 0
        common += 2 * most * float(min(ours.scores[index], theirs.scores[best]))
        overlap, count = overlap + most, count + 1
    total = float(ours.scores.sum(dtype=np.float64) + theirs.scores.sum(dtype=np.float64))
    return common, total, overlap, count


def _overlaps(ours: Instances, theirs: Instances) -> np.ndarray:
    """float64 (N, M), the IoU of each mask with each: run-lengths are never decoded, of a hundred objects there are 10 000."""
    from hotcoco import mask as coco

    if not len(ours) or not len(theirs):
        return np.zeros((len(ours), len(theirs)))
    size = list(ours.size)
    one, other = (
        [coco.fr_py_objects({"size": size, "counts": counts.tolist()}, *size) for counts in found.counts]
        for found in (ours, theirs)
    )
    return np.asarray(coco.iou(one, other, [False] * len(theirs)), np.float64).reshape(len(ours), len(theirs))


def layers(model: ModelProto) -> list[str]:
    """Names of the layers whose weights are in 8 bits, first to last; products of two activations (attention) have none."""
    stored = {tensor.name for tensor in model.graph.initializer}
    made = {name: node for node in model.graph.node for name in node.output}
    return [
        node.name
        for node in model.graph.node
        if node.op_type in onnx_layers.WEIGHTED
        and (before := made.get(node.input[1]))
        and before.op_type == "DequantizeLinear"
        and before.input[0] in stored
    ]


def within(
    model: ModelProto, trained: ModelProto, check: Check, holds: Callable[[ModelProto, Found, int], bool]
) -> tuple[ModelProto, Found, list[PutBack]]:
    """The network with as few layers in float32 as `holds` asks for (called with a network, what was found of it, and how many
    layers it has in float32).

    model: quantised; trained: what it was made of. Raises ModelError when half of the layers do not suffice; at once when all
    of them would not, since then it is 8-bit activations that cost too much.
    """
    found, names = check(model), layers(model)
    if holds(model, found, 0):
        return model, found, []
    events.say(f"int8: {found.words()}; the layers that cost most go back to float32")
    every = in_float(model, trained, names)
    best = check(every)
    if not holds(every, best, len(names)):
        raise _too_much(len(names), len(names), best)
    tried = _Tried(model, trained, check, found)
    fails, enough = 0, 1
    while not holds(*tried(enough)):
        if tried.last <= enough:
            raise _too_much(tried.last, len(names), tried(enough)[1])
        fails, enough = enough, 2 * enough
    enough = min(enough, tried.last)
    while enough - fails > 1:
        middle = (fails + enough) // 2
        fails, enough = (fails, middle) if holds(*tried(middle)) else (middle, enough)
    model, found, count = tried(enough)
    for step in tried.steps[:count]:
        events.say(step.words())
    return model, found, tried.steps[:count]


def _too_much(count: int, of: int, found: Found) -> ModelError:
    what = f"int8 changes too much: even with {count} of {counted(of, 'layer')} in float32, {found.words()}"
    hint = "allow more with `--max-drop` (or `max_changed`), or calibrate with more photos like those it is for"
    return ModelError(what, hint=hint)


class _Tried:
    """Callable: a count -> the network with so many layers in float32 (or all that help), what was found of it, how many."""

    def __init__(self, model: ModelProto, trained: ModelProto, check: Check, found: Found):
        self.model, self.trained, self.check = model, trained, check
        self.found, self.steps = [found], list[PutBack]()
        names = layers(model)
        self.most = -(-len(names) // 2)
        base = check(model, FEW).error
        gains = {
            name: base - check(in_float(model, trained, [name]), FEW).error
            for name in events.progress(names, "measure layers", unit="layers")
        }
        self.left = sorted(names, key=lambda name: gains[name])

    @property
    def last(self) -> int:
        """The most layers that can go back, as far as is known: those that help, at most half of them."""
        return len(self.steps) if not self.left or len(self.steps) == self.most else self.most

    def __call__(self, count: int) -> tuple[ModelProto, Found, int]:
        while len(self.steps) < min(count, self.most) and self.left:
            name, before = self.left.pop(), self.found[-1]
            after = self.check(self._with([*(step.layer for step in self.steps), name]))
            if after.changed < before.changed:
                self.steps.append(PutBack(name, before.changed, after.changed, after.of))
                self.found.append(after)
        count = min(count, len(self.steps))
        return self._with([step.layer for step in self.steps[:count]]), self.found[count], count

    def _with(self, names: Sequence[str]) -> ModelProto:
        return in_float(self.model, self.trained, names)


def in_float(model: ModelProto, trained: ModelProto, names: Sequence[str]) -> ModelProto:
    """A copy of the quantised network with the weights of some layers as they were before."""
    import onnx as onnx_package

    copy = onnx_package.ModelProto()
    copy.CopyFrom(model)
    for name in names:
        _put_back(copy.graph, trained.graph, name)
    return copy


def _put_back(graph: GraphProto, trained: GraphProto, name: str) -> None:
    from onnx import helper, numpy_helper

    index, node = next((i, node) for i, node in enumerate(graph.node) if node.name == name)
    before = next(node for node in trained.node if node.name == name)
    for place, tensor_name in list(enumerate(before.input))[1:]:
        tensor = next(tensor for tensor in trained.initializer if tensor.name == tensor_name)
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


def save(model: ModelProto, path: Path) -> None:
    """Writes the network without the 8-bit weights that nothing uses any more."""
    import onnx as onnx_package

    graph = model.graph
    while True:
        used = {output.name for output in graph.output}.union(*(onnx_layers.reads(node) for node in graph.node))
        kept = [node for node in graph.node if used & set(node.output)]
        if len(kept) == len(graph.node):
            break
        graph.ClearField("node")
        graph.node.extend(kept)
    tensors = [tensor for tensor in graph.initializer if tensor.name in used]
    graph.ClearField("initializer")
    graph.initializer.extend(tensors)
    domains = {"", *(node.domain for node in graph.node)}  # onnxruntime's tools name all that they know
    opsets = [opset for opset in model.opset_import if opset.domain in domains]
    model.ClearField("opset_import")
    model.opset_import.extend(opsets)
    onnx_package.save(model, str(path))
    onnx_package.checker.check_model(str(path))


def session(model: bytes) -> Any:
    """A network that runs in onnxruntime, on the CPU."""
    import onnxruntime

    from maskwright.prediction import with_onnx

    return onnxruntime.InferenceSession(model, with_onnx.settings(), providers=["CPUExecutionProvider"])
