"""A model as one ONNX file that needs none of our code, `contract: image/1`: uint8 RGB (H, W, 3) of any size in, the answer
at that size out. Fitting, normalisation, the way back to the image's pixels and the decision are nodes of the graph.

    semantic     class_map uint8 (H, W): indices of classes
    multilabel   masks uint8 (C, H, W) of 0 and 1, and class_map, small masks over large ones, 255 where there is none
    instance     masks uint8 (N, H, W) of 0 and 1, boxes float32 (N, 4): x0, y0, x1, y1 in pixels of the image,
                 labels int64 (N,): indices of classes, scores float32 (N,), the surest first

Metadata: `contract`, `classes` (a JSON list of names), `palette` (a JSON list of [r, g, b]), `maskwright` (the description).
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.bundles.bundle import PLAIN, Description
from maskwright.core.errors import ModelError, RecipeError
from maskwright.core.registry import missing_package
from maskwright.core.types import OBJECT_OUTPUTS, VOID
from maskwright.exports.source import Source, Written
from maskwright.imaging.images import PAD_COLOUR
from maskwright.prediction import views
from maskwright.prediction.whole import CONTRACT

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

    from maskwright.exports.onnx_nodes import Nodes

OPSET = 18  # the first with antialiased resizing
PRECISION = 22  # bits of Pillow's weights for 8-bit images
NETWORK = "network."  # before the names of what is the network's own
RESIZE: dict[str, Any] = {  # Pillow's bilinear filter
    "mode": "linear",
    "antialias": 1,
    "exclude_outside": 1,
    "coordinate_transformation_mode": "half_pixel",
}


def self_contained(source: Source, path: Path, *, opset: int = OPSET, flip: bool = False) -> Written:
    """The model with everything around it in one ONNX file: the pixels of an image in, masks of that size out.

    opset: of the ONNX operators, 18 or newer.
    flip: also look at the mirrored image and average, which takes twice as long.

    Raises ModelError for models that look through windows and networks that cannot be traced, RecipeError for an older opset.
    """
    _check(source.description, opset)
    try:
        import onnx
        import onnxruntime  # noqa: F401
    except ModuleNotFoundError as error:
        raise missing_package(error.name or "onnx", "the ONNX export") from error
    from maskwright.exports import onnx_files
    from maskwright.prediction import predictor, with_onnx

    known, notes = _seen(source.description, flip)
    model = _around(_network(source, opset), known)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
    facts = {"contract": CONTRACT, "classes": json.dumps(known.classes), "palette": json.dumps(known.colours)}
    onnx_files.describe(path, {**facts, with_onnx.KEY: json.dumps(known.to_json())})
    network, description, _ = with_onnx.open_file(path)
    runtime = with_onnx.RUNTIME
    return Written(
        predictor.made(network, description, runtime), tuple(notes), facts={"contract": CONTRACT, "opset": opset}
    )


def _check(known: Description, opset: int) -> None:
    if known.fit == "crop":
        raise ModelError(
            "a self-contained file looks at the whole image at once, and this model (`fit: crop`) looks through windows",
            hint="export it without `self_contained`, or train it with `fit: squash` or `fit: pad`",
        )
    if opset < OPSET:
        what = f"a self-contained file needs opset {OPSET} or newer, whose resizing is antialiased, not {opset}"
        raise RecipeError(what, place="opset", hint="leave it out")


def _seen(known: Description, flip: bool) -> tuple[Description, list[str]]:
    """The description of what the file does, and what of the recipe's views it does not."""
    if known.task == "instance":
        if flip:
            raise RecipeError("is for models that label pixels", place="flip", hint="leave it out")
        left_out = "the mirrored view of the model's recipe is left out: each image is seen once"
        return replace(known, tta=dict(PLAIN)), [left_out] if known.tta["flip"] else []
    notes = []
    if flip:
        notes.append("the mirrored view is built in: the network runs on two images each time")
    elif known.tta["flip"]:
        notes.append("the mirrored view of the model's recipe is left out: each image is seen once")
    if any(scale != 1 for scale in known.tta["scales"]):
        scales = ", ".join(f"{scale:g}" for scale in known.tta["scales"])
        notes.append(
            f"the scales of the model's recipe ({scales}) are left out: each image is seen at the network's size"
        )
    return replace(known, tta={"flip": flip, "scales": [1.0]}), notes


def _network(source: Source, opset: int) -> ModelProto:
    """The trained network alone, its names behind NETWORK."""
    import onnx

    from maskwright.exports import onnx_files

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        onnx_files.traced(source.segmenter, source.description, path, opset, "batch")
        return onnx.compose.add_prefix(onnx.load(str(path)), NETWORK)


def _around(network: ModelProto, known: Description) -> ModelProto:
    """The network between the nodes that fit an image to it and those that bring its answer back."""
    from onnx import TensorProto, helper

    from maskwright.exports import self_contained_objects
    from maskwright.exports.onnx_nodes import Nodes, value

    g = Nodes()
    pixels, corner, box, original = _fitted(g, known)
    if known.tta["flip"] and known.task != "instance":
        pixels = g.Concat(pixels, _mirrored(g, pixels), axis=0)
    g.nodes.append(helper.make_node("Identity", [pixels], [f"{NETWORK}image"]))
    g.nodes.extend(network.graph.node)
    if known.task == "instance":
        found = [NETWORK + name for name in OBJECT_OUTPUTS]
        answers = self_contained_objects.decided(g, found, known, corner, box, original)
    else:
        answers = _decided(g, known, corner, box, original)
    outputs: list[ValueInfoProto] = []
    for name, (answer, kind, shape) in answers.items():
        g.nodes.append(helper.make_node("Identity", [answer], [name]))
        outputs.append(value(name, kind, shape))
    graph = g.graph([value("image", TensorProto.UINT8, ("height", "width", 3))], outputs)
    graph.initializer.extend(network.graph.initializer)
    graph.sparse_initializer.extend(network.graph.sparse_initializer)
    return helper.make_model(
        graph, opset_imports=network.opset_import, functions=network.functions, ir_version=network.ir_version
    )


def _fitted(g: Nodes, known: Description) -> tuple[str, str, str, str]:
    """The image as the network takes it, float32 (1, 3, h, w), as `images.fit` does it; where it lies in there (top and left,
    height and width) and its own height and width, int64 (2,) each."""
    from onnx import TensorProto

    original = g.Slice(g.Shape("image"), [0], [2])
    size = np.array(known.size, np.int64)
    corner, box = g.Identity(np.zeros(2, np.int64)), g.Identity(size)
    if known.fit == "pad":
        sides = g.Cast(original, to=TensorProto.DOUBLE)
        scale = g.ReduceMin(g.Div(size.astype(np.float64), sides), keepdims=1)
        rounded = g.Cast(g.Round(g.Mul(sides, scale)), to=TensorProto.INT64)
        box = g.Max(g.Min(rounded, size), [1])
        corner = g.Div(g.Sub(size, box), [2])
    goals = [g.Gather(box, axis) for axis in (0, 1)]

    def passes(first: int) -> Callable[[Nodes], str]:
        return lambda g: _resized(g, _resized(g, "image", first, goals[first]), 1 - first, goals[1 - first])

    small = g.choose(_rows_first(g, original, box), passes(0), passes(1))
    planes = g.Unsqueeze(g.Transpose(small, perm=[2, 0, 1]), [0])
    pixels = g.Cast(planes, to=TensorProto.FLOAT)
    if known.fit == "pad":
        colour = np.array(PAD_COLOUR, np.float32).reshape(1, 3, 1, 1)
        margins = g.Concat(corner, g.Sub(g.Sub(size, box), corner), axis=0)
        pixels = g.Add(g.Pad(g.Sub(pixels, colour), margins, 0.0, [2, 3]), colour)
    shape = np.array([1, 3, *known.size], np.int64)
    return g.Reshape(pixels, shape), corner, box, original


def _resized(g: Nodes, image: str, axis: int, goal: str) -> str:
    """An image uint8 (H, W, 3) with `goal` pixels along an axis, more or fewer, bit for bit as Pillow's bilinear filter has
    them: whole weights in units of 2 ** -PRECISION, summed and rounded to whole levels. No float image is ever there."""
    from onnx import TensorProto

    number, double, one = TensorProto.INT64, TensorProto.DOUBLE, np.float64(1)
    half = np.float64(0.5)
    full = g.Gather(g.Shape(image), axis)
    scale = g.Div(g.Cast(full, to=double), g.Cast(goal, to=double))
    reach = g.Max(scale, one)
    centre = g.Mul(g.Add(g.Cast(g.Range(0, goal, 1), to=double), half), scale)
    low = g.Max(g.Floor(g.Add(g.Sub(centre, reach), half)), np.float64(0))
    high = g.Min(g.Floor(g.Add(g.Add(centre, reach), half)), g.Cast(full, to=double))
    taps = g.Add(g.Mul(g.Cast(g.Ceil(reach), to=number), 2), 1)
    at = g.Add(low, g.Unsqueeze(g.Cast(g.Range(0, taps, 1), to=double), [1]))  # (taps, goal)
    far = g.Abs(g.Mul(g.Add(g.Sub(at, centre), half), g.Div(one, reach)))
    weight = g.Where(g.Less(at, high), g.Max(g.Sub(one, far), np.float64(0)), np.float64(0))
    weight = g.Div(weight, g.ReduceSum(weight, [0], keepdims=1))
    whole = g.Cast(g.Floor(g.Add(half, g.Mul(weight, np.float64(1 << PRECISION)))), to=TensorProto.INT32)
    place = g.Cast(g.Min(at, g.Sub(g.Cast(full, to=double), one)), to=number)
    shape = [-1, 1, 1] if axis == 0 else [1, -1, 1]
    whole = g.Reshape(whole, [0, *shape])
    if axis == 1:  # a weight for each number of a row: numbers are multiplied by rows, not three by three
        whole = g.Expand(whole, [1, 1, 1, 3])

    def turn(g: Nodes, tap: str, total: str) -> tuple[str]:
        levels = g.Cast(g.Gather(image, g.Gather(place, tap, axis=0), axis=axis), to=TensorProto.INT32)
        return (g.Add(total, g.Mul(levels, g.Gather(whole, tap, axis=0))),)

    sides = [g.Gather(g.Shape(image), [side]) if side != axis else g.Unsqueeze(goal, [0]) for side in range(3)]
    start = g.Expand(np.int32(1 << PRECISION >> 1), g.Concat(*sides, axis=0))
    total = g.loop(taps, turn, [(start, TensorProto.INT32)], 0)
    return str(g.Cast(g.Min(g.Div(total, np.int32(1 << PRECISION)), np.int32(255)), to=TensorProto.UINT8))


def _rows_first(g: Nodes, original: str, box: str) -> str:
    """Whether Pillow (13; older ones never do) resizes the rows before the columns: bool (1,)."""
    lost = g.Sub(original, box)
    rows, columns = g.Slice(lost, [0], [1]), g.Slice(lost, [1], [2])
    return g.And(g.Greater(rows, [0]), g.Greater(rows, g.Mul(columns, [2])))


def _mirrored(g: Nodes, planes: str) -> str:
    """Planes (N, C, h, w), left and right exchanged."""
    return str(g.Slice(planes, [-1], [np.iinfo(np.int64).min], [3], [-1]))


def _decided(g: Nodes, known: Description, corner: str, box: str, original: str) -> dict[str, Any]:
    """Logits back on the image's pixels, and the classes there, as the tasks' `decode` does it: outputs with their types."""
    from onnx import TensorProto

    logits = g.Identity(f"{NETWORK}logits")
    if known.tta["flip"]:
        order = views.swapped(np.arange(len(known.classes)), known.flip_pairs)
        mirrored = g.Gather(_mirrored(g, g.Slice(logits, [1], [2], [0])), order, axis=1)
        logits = g.Concat(g.Slice(logits, [0], [1], [0]), mirrored, axis=0)
    inside = g.Slice(logits, corner, g.Add(corner, box), [2, 3])
    if known.tta["flip"]:
        inside = _averaged(g, inside, known.multilabel)
    flat = ("height", "width")
    if not known.multilabel:
        return {"class_map": (_winners(g, inside, len(known.classes), original), TensorProto.UINT8, flat)}
    masks, class_map = _covers(g, inside, len(known.classes), original)
    return {
        "masks": (masks, TensorProto.UINT8, (len(known.classes), *flat)),
        "class_map": (class_map, TensorProto.UINT8, flat),
    }


def _averaged(g: Nodes, logits: str, multilabel: bool) -> str:
    """Logits (1, C, h, w) of the mean probabilities of all views, see `views.answer`."""
    chances = g.Sigmoid(logits) if multilabel else g.Softmax(logits, axis=1)
    most = np.float32(1 - views.SMALLEST if multilabel else 1)
    safe = g.Clip(g.ReduceMean(chances, [0], keepdims=1), np.float32(views.SMALLEST), most)
    return str(g.Sub(g.Log(safe), g.Log(g.Sub(1.0, safe))) if multilabel else g.Log(safe))


def _winners(g: Nodes, inside: str, count: int, original: str) -> str:
    """uint8 (H, W): the highest class of logits (1, C, h, w), enlarged one class after the other.

    Each is taken relative to the most frequent class; one that is below it everywhere cannot win and is never enlarged.
    """
    from onnx import TensorProto

    best = g.Equal(g.ArgMax(inside, axis=1, keepdims=1), np.arange(count).reshape(1, count, 1, 1))
    wins = g.ReduceSum(g.Cast(best, to=TensorProto.INT64), [0, 2, 3], keepdims=0)
    relative = g.Sub(inside, g.Gather(inside, g.ArgMax(wins, axis=0, keepdims=1), axis=1))
    peaks = g.ReduceMax(relative, [0, 2, 3], keepdims=0)
    candidates = g.Squeeze(g.NonZero(g.GreaterOrEqual(peaks, 0.0)), [0])

    def turn(g: Nodes, number: str, highest: str, class_map: str) -> tuple[str, str]:
        index = g.Gather(candidates, number)
        plane = _plane(g, relative, index, original)
        higher = g.Greater(plane, highest)
        return g.Max(plane, highest), g.Where(higher, g.Cast(index, to=TensorProto.UINT8), class_map)

    lowest = g.Expand(np.float32(-np.inf), original)
    start = [(lowest, TensorProto.FLOAT), (g.Expand(np.uint8(0), original), TensorProto.UINT8)]
    _, class_map = g.loop(g.Size(candidates), turn, start, 0)
    return str(class_map)


def _covers(g: Nodes, inside: str, count: int, original: str) -> tuple[str, str]:
    """Masks uint8 (C, H, W) of the pixels whose logit is above 0, and all of them in one uint8 (H, W)."""
    from onnx import TensorProto

    def turn(g: Nodes, number: str) -> tuple[str, str]:
        above = g.Greater(_plane(g, inside, number, original), 0.0)
        area = g.ReduceSum(g.Cast(above, to=TensorProto.INT32), keepdims=0)
        return g.Cast(above, to=TensorProto.UINT8), g.Cast(area, to=TensorProto.INT64)

    masks, areas = g.loop(count, turn, [], 2)
    _, order = g.TopK(areas, [count], outputs=2)  # of equals the first stays first

    def painted(g: Nodes, number: str, class_map: str) -> tuple[str]:
        index = g.Gather(order, number)
        mask = g.Cast(g.Gather(masks, index, axis=0), to=TensorProto.BOOL)
        return (g.Where(mask, g.Cast(index, to=TensorProto.UINT8), class_map),)

    class_map = g.loop(count, painted, [(g.Expand(np.uint8(VOID), original), TensorProto.UINT8)], 0)
    return str(masks), str(class_map)


def _plane(g: Nodes, planes: str, index: str, original: str) -> str:
    """One of the planes (1, C, h, w) at the image's size, float32 (H, W)."""
    one = g.Gather(planes, g.Unsqueeze(index, [0]), axis=1)
    return str(g.Squeeze(g.Resize(one, None, None, g.Concat([1, 1], original, axis=0), **RESIZE), [0, 1]))
