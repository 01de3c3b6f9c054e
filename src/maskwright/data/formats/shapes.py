"""The shapes that labelling tools draw, as flat polygons x0, y0, x1, y1, ... or run-lengths in pixels.

A shape that cannot be used raises `Unusable`, whose words go into the ledger. Curves become polygons that stay within
`SAGITTA` of them; masks of a part of the image become COCO's run-lengths of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from maskwright.core.types import Region
from maskwright.imaging import masks
from maskwright.imaging.run_lengths import of_crop

Size = tuple[int, int]  # height, width
Part = list[float] | np.ndarray  # a flat polygon, or run-lengths uint32 (n,)

SAGITTA = 0.02  # pixels between a curve and the polygon that stands for it
MOST_SIDES = 4096
FARTHEST = 1e9  # no image has such a coordinate

LINE = "an open line has no area"
POINT = "a point has no area"


class Unusable(Exception):
    """What a label file says of an object or an image cannot be used; ignored: nobody expects it to be."""

    def __init__(self, why: str, *, ignored: bool = False):
        super().__init__(why)
        self.why, self.ignored = why, ignored


def number(value: Any, what: str) -> float:
    """A finite number, or one written as text; `what` names it where it is none."""
    if isinstance(value, str) and len(value) < 40:
        try:
            value = float(value)
        except ValueError:
            raise Unusable(f"`{what}` is no number") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < FARTHEST:
        raise Unusable(f"`{what}` is missing" if value is None else f"`{what}` is no number, or none of an image")
    return float(value)


def pairs(points: Any) -> list[float]:
    """Points [[x, y], ...] as a flat list."""
    if not isinstance(points, list) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in points):
        raise Unusable("its points are no list of x and y")
    return [number(value, axis) for point in points for value, axis in zip(point, "xy")]


def polygon(flat: list[float], size: Size) -> Part:
    """The polygon itself when it can be drawn on an image of `size`."""
    mended, why = masks.mend_polygon(flat, size)
    if mended is None:
        raise Unusable(str(why))
    return mended


def line(flat: list[float]) -> list[float]:
    """A line whose last point is its first, as the polygon it encloses; an open one is of no use."""
    if len(flat) >= 8 and flat[:2] == flat[-2:]:
        return flat[:-2]
    raise Unusable(LINE, ignored=True)


def box(left: float, top: float, right: float, bottom: float) -> list[float]:
    """The corners of an upright box, in whichever order its sides are given."""
    left, right, top, bottom = min(left, right), max(left, right), min(top, bottom), max(top, bottom)
    return [left, top, right, top, right, bottom, left, bottom]


def ellipse(x: float, y: float, across: float, down: float) -> list[float]:
    """An ellipse around x, y with the radii `across` and `down`."""
    radius = max(across, down)
    if min(across, down) <= 0:
        raise Unusable("a circle or ellipse without a radius")
    sides = math.ceil(math.pi / math.acos(1 - SAGITTA / max(radius, 1)))
    angles = np.linspace(0, 2 * math.pi, min(max(sides, 8), MOST_SIDES), endpoint=False)
    points = np.stack([x + across * np.cos(angles), y + down * np.sin(angles)], axis=1)
    return points.reshape(-1).tolist()  # type: ignore[no-any-return]


def turned(flat: list[float], degrees: float, x: float, y: float) -> list[float]:
    """The polygon turned clockwise, as one sees it, around x, y."""
    if not degrees % 360:
        return flat
    sine, cosine = math.sin(math.radians(degrees)), math.cos(math.radians(degrees))
    points = [(a - x, b - y) for a, b in zip(flat[0::2], flat[1::2])]
    return [value for a, b in points for value in (x + a * cosine - b * sine, y + a * sine + b * cosine)]


def run_lengths(crop: np.ndarray, left: int, top: int, size: Size) -> np.ndarray:
    """A mask bool (h, w) whose upper left pixel is column `left`, row `top`, as run-lengths of an image of `size`."""
    (height, width), (h, w) = size, crop.shape
    if left < 0 or top < 0 or left + w > width or top + h > height:
        raise Unusable(f"a mask of {h} x {w} pixels at row {top}, column {left} leaves its image of {height} x {width}")
    return of_crop(crop, left, top, size)


def mask_of(counts: np.ndarray, size: Size) -> np.ndarray:
    """Run-lengths as bool (H, W)."""
    return masks.region_mask(Region(0, counts=counts), size)


def joined(parts: Sequence[Part], size: Size) -> dict[str, Any]:
    """The `polygons` or, where one part is a mask, the `counts` of the object that all parts make up."""
    if not any(isinstance(part, np.ndarray) for part in parts):
        return {"polygons": list(parts)}
    if len(parts) == 1:
        return {"counts": parts[0]}
    union = np.zeros(size, np.bool_)
    for part in parts:
        if isinstance(part, np.ndarray):
            union |= mask_of(part, size)
        else:
            union |= masks.region_mask(Region(0, (np.array(part).reshape(-1, 2),)), size)
    return {"counts": run_lengths(union, 0, 0, size)}
