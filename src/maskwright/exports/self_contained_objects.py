"""Objects inside the graph: boxes and small masks of a network become masks of the image's own size, as `instance.decode` and
`imaging.paste` do it, with the model's thresholds applied.

No two masks are ever there as decimal numbers: each is drawn inside its box alone, cut, and laid into its place in the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import TensorProto

from maskwright.bundles.bundle import Description
from maskwright.exports.onnx_nodes import Nodes
from maskwright.imaging.paste import THINNEST
from maskwright.tasks.thresholds import Thresholds

DOUBLE, INT64, INT32, UINT8 = TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32, TensorProto.UINT8


def decided(
    g: Nodes, found: Sequence[str], known: Description, corner: str, box: str, original: str
) -> dict[str, tuple[str, int, tuple[Any, ...]]]:
    """The outputs of the graph: name, type and shape of each.

    found: what the network gives (see core.types.ObjectNetwork). corner, box: where the image lies in the network's input.
    """
    rules = Thresholds().changed(known.thresholds)
    boxes, labels, scores, small = found
    boxes = _moved(g, boxes, corner, box, original)
    boxes, labels, scores, small = _surviving(g, (boxes, labels, scores, small), len(known.classes), rules)
    columns = [g.Gather(boxes, index, axis=1) for index in range(4)]
    height, width = (g.Gather(original, index) for index in (0, 1))
    spans = [*_span(g, columns[1], columns[3], height), *_span(g, columns[0], columns[2], width)]
    touching = g.And(g.Less(spans[0], spans[1]), g.Less(spans[2], spans[3]))
    found = [boxes, labels, scores, small, *columns, *spans]
    boxes, labels, scores, small, *sides = (g.Compress(column, touching, axis=0) for column in found)
    columns, spans = sides[:4], sides[4:]
    limits = g.Cast(g.Concat(*(g.Unsqueeze(side, [0]) for side in (width, height) * 2), axis=0), to=DOUBLE)
    boxes = g.Max(g.Min(boxes, limits), np.float64(0))

    def window(g: Nodes, index: str) -> str:
        """bool, the pixels of an object inside its span."""
        x0, y0, x1, y1 = (g.Gather(column, index) for column in columns)
        top, bottom, left, right = (g.Gather(side, index) for side in spans)
        mask = g.Gather(small, index, axis=0)  # (1, m, m)
        down, across = _weights(g, mask, 1, (top, bottom), (y0, y1)), _weights(g, mask, 2, (left, right), (x0, x1))
        drawn = g.MatMul(g.MatMul(down, g.Squeeze(mask, [0])), g.Transpose(across, perm=[1, 0]))
        return str(g.Greater(drawn, np.float32(rules.mask)))

    def corners(g: Nodes, index: str) -> tuple[str, str]:
        """Where the span of an object begins and ends in the image: int64 (2,) each."""
        top, bottom, left, right = (g.Unsqueeze(g.Gather(side, index), [0]) for side in spans)
        return g.Concat(top, left, axis=0), g.Concat(bottom, right, axis=0)

    count = g.Size(scores)
    if rules.exclusive:
        owners, areas, boxes = _apart(g, count, window, corners, boxes, original)
    else:
        areas = g.loop(count, lambda g, index: (_area(g, window(g, index)),), [], 1)
    # a loop without a turn does not know the shape of what it would have left
    areas = g.Reshape(areas, g.Unsqueeze(count, [0]), allowzero=1)
    kept = g.Squeeze(g.NonZero(g.GreaterOrEqual(areas, max(int(np.ceil(rules.min_area)), 1))), [0])

    def whole(g: Nodes, index: str) -> str:
        """uint8 (H, W), the pixels of an object in the image."""
        begin, end = corners(g, index)
        if rules.exclusive:
            pixels = g.Equal(g.Slice(owners, begin, end), _number(g, index))
        else:
            pixels = window(g, index)
        return _laid(g, g.Cast(pixels, to=UINT8), begin, end, original)

    nothing = g.Concat([0], original, axis=0)
    masks = g.stacked(kept, whole, lambda g: str(g.Expand(np.uint8(0), nothing)), (UINT8, 2))
    boxes, labels, scores = (g.Gather(column, kept, axis=0) for column in (boxes, labels, scores))
    return {
        "masks": (masks, UINT8, ("objects", "height", "width")),
        "boxes": (g.Cast(boxes, to=TensorProto.FLOAT), TensorProto.FLOAT, ("objects", 4)),
        "labels": (g.Sub(labels, 1), INT64, ("objects",)),
        "scores": (scores, TensorProto.FLOAT, ("objects",)),
    }


def _moved(g: Nodes, boxes: str, corner: str, box: str, original: str) -> str:
    """Boxes float64 (N, 4) in pixels of the image."""
    swapped = np.array([1, 0, 1, 0])  # height, width -> x, y, x, y
    before = g.Cast(g.Gather(corner, swapped), to=DOUBLE)
    scale = g.Div(g.Cast(g.Gather(original, swapped), to=DOUBLE), g.Cast(g.Gather(box, swapped), to=DOUBLE))
    return str(g.Mul(g.Sub(g.Cast(boxes, to=DOUBLE), before), scale))


def _surviving(g: Nodes, found: Sequence[str], num_classes: int, rules: Thresholds) -> list[str]:
    """Boxes, labels, scores and small masks that `score` and `nms` leave, the surest first."""
    scores, order = g.TopK(found[2], g.Shape(found[2]), axis=0, outputs=2)  # of equals the first stays first
    order = g.Compress(order, g.GreaterOrEqual(scores, np.float32(rules.score)), axis=0)
    found = [g.Gather(column, order, axis=0) for column in found]
    if rules.nms >= 1:
        return list(found)
    boxes, labels, scores = (found[0], found[1], found[2])
    own = g.Equal(
        np.arange(1, num_classes + 1).reshape(-1, 1), g.Unsqueeze(labels, [0])
    )  # a class sees its objects alone
    ranked = g.Unsqueeze(g.Where(own, g.Unsqueeze(scores, [0]), -1.0), [0])
    boxes = g.Unsqueeze(g.Cast(boxes, to=TensorProto.FLOAT), [0])
    left = g.NonMaxSuppression(boxes, ranked, g.Shape(scores), np.array([rules.nms], np.float32), [-0.5])
    kept = g.Gather(left, 2, axis=1)
    kept, _ = g.TopK(kept, g.Shape(kept), largest=0, outputs=2)
    return [g.Gather(column, kept, axis=0) for column in found]


def _span(g: Nodes, first: str, last: str, side: str) -> tuple[str, str]:
    """The whole pixels that stretches touch: int64 (N,) each, none where the second is not above the first."""
    low = g.Max(g.Min(g.Cast(g.Floor(first), to=INT64), side), 0)
    high = g.Max(g.Min(g.Cast(g.Ceil(last), to=INT64), side), 0)
    return low, g.Max(low, high)


def _weights(g: Nodes, mask: str, axis: int, span: tuple[str, str], edges: tuple[str, str]) -> str:
    """What each cell of a mask gives to each pixel of a span, float32 (pixels, cells): Pillow's bilinear filter.

    edges: where the mask begins and ends, in pixels. Outside of it there are cells of nothing, as far as a pixel can see.
    """
    cells = g.Gather(g.Shape(mask), axis)
    fine = g.Div(g.Cast(cells, to=DOUBLE), g.Max(g.Sub(edges[1], edges[0]), np.float64(THINNEST)))  # cells a pixel
    edge = g.Add(g.Cast(g.Ceil(fine), to=INT64), 1)
    pixel = g.Add(g.Cast(g.Range(*span, 1), to=DOUBLE), np.float64(0.5))
    centre = g.Unsqueeze(g.Mul(g.Sub(pixel, edges[0]), fine), [1])
    cell = g.Add(g.Cast(g.Range(g.Neg(edge), g.Add(cells, edge), 1), to=DOUBLE), np.float64(0.5))
    far = g.Div(g.Abs(g.Sub(g.Unsqueeze(cell, [0]), centre)), g.Max(fine, np.float64(1)))
    seen = g.Max(g.Sub(np.float64(1), far), np.float64(0))
    seen = g.Div(seen, g.ReduceSum(seen, [1], keepdims=1))
    start = g.Unsqueeze(edge, [0])
    inner = g.Slice(seen, start, g.Add(start, g.Unsqueeze(cells, [0])), [1])
    return str(g.Cast(inner, to=TensorProto.FLOAT))


def _area(g: Nodes, pixels: str) -> str:
    """How many pixels of bool (h, w) are set, int64 ()."""
    return str(g.Cast(g.ReduceSum(g.Cast(pixels, to=INT32), keepdims=0), to=INT64))


def _number(g: Nodes, index: str) -> str:
    """The number of an object among the owners of pixels, int32 (), from 1."""
    return str(g.Cast(g.Add(index, 1), to=INT32))


def _laid(g: Nodes, window: str, begin: str, end: str, original: str) -> str:
    """A piece of an image, laid onto nothing of the image's size (H, W)."""
    return str(g.Pad(window, g.Concat(begin, g.Sub(original, end), axis=0)))


def _apart(g: Nodes, count: str, window: Any, corners: Any, boxes: str, original: str) -> tuple[str, str, str]:
    """Which object has each pixel, int32 (H, W), from 1, the surer of two; how many each has left, int64 (N,); boxes float64
    (N, 4), tight around what is left of those that lost some."""

    def turn(g: Nodes, index: str, owners: str) -> tuple[str, str, str]:
        begin, end = corners(g, index)
        mine = window(g, index)
        free = g.And(mine, g.Equal(g.Slice(owners, begin, end), np.int32(0)))
        left = _area(g, free)
        (x0, x1), (y0, y1) = (_extent(g, free, axis) for axis in (0, 1))
        tight = g.Add(g.Concat(x0, y0, x1, y1, axis=0), g.Gather(begin, np.array([1, 0, 1, 0])))
        box = g.Where(g.Less(left, _area(g, mine)), g.Cast(tight, to=DOUBLE), g.Gather(boxes, index, axis=0))
        taken = g.Mul(g.Cast(free, to=INT32), _number(g, index))
        return g.Add(owners, _laid(g, taken, begin, end, original)), left, box

    owners, areas, tight = g.loop(count, turn, [(g.Expand(np.int32(0), original), INT32)], 2)
    return owners, areas, g.Reshape(tight, g.Shape(boxes), allowzero=1)


def _extent(g: Nodes, pixels: str, axis: int) -> tuple[str, str]:
    """The first column (axis 0) or row (axis 1) of bool (h, w) that has a pixel, and the one after the last: int64 (1,)."""
    any_ = g.ReduceMax(g.Cast(pixels, to=INT32), [axis], keepdims=0)
    return g.ArgMax(any_, axis=0, keepdims=1), g.Add(g.ArgMax(any_, axis=0, keepdims=1, select_last_index=1), [1])
