"""Masks that a network draws inside boxes, laid onto the image's own pixels, as run-lengths; never a whole-image array."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

THRESHOLD = 0.5
THINNEST = 1 / 16  # pixels; a thinner box is taken for one of this width, and is below half of any pixel anyway


def pasted(
    mask: np.ndarray, box: np.ndarray | tuple[float, ...], size: tuple[int, int], threshold: float = THRESHOLD
) -> np.ndarray:
    """The pixels of one object: uint32 run-lengths (column-major, zeros first) of an image of this size.

    mask: float (m, n), 0..1, evenly spread over the box; outside of it there is nothing. box: x0, y0, x1, y1 in pixels.
    size: H, W. A pixel belongs to the object where the mask, interpolated bilinearly to the pixel's place (averaged where
    the mask is finer than the pixels), is above the threshold.
    """
    (top, bottom), (left, right) = _span(box[1], box[3], size[0]), _span(box[0], box[2], size[1])
    if top >= bottom or left >= right:
        return np.array([size[0] * size[1]], np.uint32)
    inside = _seen(np.asarray(mask, np.float32), box, (top, bottom, left, right)) > threshold
    return run_lengths(inside, (top, left), size)


def run_lengths(inside: np.ndarray, corner: tuple[int, int], size: tuple[int, int]) -> np.ndarray:
    """COCO's run-lengths of a piece of an image: inside bool (h, w) lies with its first pixel at corner (y, x)."""
    columns, rows = np.nonzero(inside.T)  # column by column, as the runs go
    places = (columns + corner[1]) * size[0] + (rows + corner[0])
    whole = size[0] * size[1]
    if not len(places):
        return np.array([whole], np.uint32)
    breaks = np.flatnonzero(np.diff(places) != 1)
    starts, stops = places[np.r_[0, breaks + 1]], places[np.r_[breaks, -1]] + 1
    edges = np.stack([starts, stops], axis=1).ravel()
    counts = np.diff(np.concatenate(([0], edges, [whole])))
    return counts[: -1 if counts[-1] == 0 else None].astype(np.uint32)


def _span(first: float, last: float, side: int) -> tuple[int, int]:
    """The whole pixels that a stretch touches."""
    return min(max(math.floor(first), 0), side), max(min(math.ceil(last), side), 0)


def _seen(mask: np.ndarray, box: np.ndarray | tuple[float, ...], window: tuple[int, int, int, int]) -> np.ndarray:
    """The mask at the pixels of a window (top, bottom, left, right): float32 (bottom - top, right - left)."""
    (m, n), (top, bottom, left, right) = mask.shape, window
    fine_y, fine_x = m / max(box[3] - box[1], THINNEST), n / max(box[2] - box[0], THINNEST)  # mask cells a pixel
    edge_y, edge_x = (math.ceil(fine) + 1 for fine in (fine_y, fine_x))  # pixels at the rim see beyond the box
    framed = np.pad(mask, ((edge_y, edge_y), (edge_x, edge_x)))
    source = (
        (left - box[0]) * fine_x + edge_x,
        (top - box[1]) * fine_y + edge_y,
        (right - box[0]) * fine_x + edge_x,
        (bottom - box[1]) * fine_y + edge_y,
    )
    limits = (framed.shape[1], framed.shape[0]) * 2
    source = tuple(min(max(value, 0.0), float(limit)) for value, limit in zip(source, limits, strict=True))
    seen = Image.fromarray(framed).resize((right - left, bottom - top), Image.Resampling.BILINEAR, source)
    return np.asarray(seen)
