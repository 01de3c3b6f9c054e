"""Masks to polygons that give back the same pixels when they are drawn by COCO's rule.

An outline runs along the edges between pixels, so its coordinates are whole numbers. COCO's rule fills a polygon even-odd:
what is crossed twice is outside. So a polygon that walks to a hole, around it and back the same way has that hole, and one
that walks to another part and back has both; the way itself, gone twice, leaves no pixel behind.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maskwright.core.types import Region
from maskwright.imaging import masks
from maskwright.imaging.components import pieces
from maskwright.imaging.objects import from_counts

MOST_PAIRS = 4_000_000  # distances looked at together when two polygons are joined


def contours(mask: np.ndarray) -> tuple[np.ndarray, ...]:
    """Polygons float64 (n, 2), x then y, one for each piece of a mask bool (H, W) (4 neighbours), its holes included.

    Drawn by COCO's rule their union is the mask, pixel for pixel. An empty mask has none.
    """
    loops = _loops(mask)
    numbers, _ = pieces(mask.view(np.uint8), diagonal=False)
    rings: dict[int, list[np.ndarray]] = {}
    for loop in loops:  # its first corner is the leftmost of its highest
        x, y = loop[0]
        around = y < mask.shape[0] and x < mask.shape[1] and mask[y, x]  # else a hole, with its piece above
        rings.setdefault(int(numbers[y if around else y - 1, x]), []).append(loop)
    return tuple(joined(parts) for parts in rings.values())


def outlines(region: Region, size: tuple[int, int]) -> tuple[np.ndarray, ...]:
    """The polygons of a region: its own, else those of its run-lengths; () when it has no pixel."""
    if region.counts is None:
        return region.polygons
    found = from_counts([region.counts], [0], size)
    if not len(found):
        return ()
    corner = found.boxes[0, :2]
    return tuple(polygon + corner for polygon in contours(np.ascontiguousarray(found.cut(0))))


def one_outline(region: Region, size: tuple[int, int]) -> tuple[np.ndarray | None, bool]:
    """A region as one polygon float64 (n, 2) inside the image that gives its very pixels; None when it has no pixel.

    Also whether the corners are its own: otherwise they run along the edges of pixels, because its parts overlap, leave the
    image or are run-lengths.
    """
    height, width = size
    counts = masks.region_counts([region], size)[0]
    if region.counts is None and region.polygons:
        corners = np.concatenate(region.polygons)
        if corners.min() >= 0 and (corners.max(axis=0) <= (width, height)).all():
            polygon = joined(region.polygons)
            if np.array_equal(masks.region_counts([Region(0, (polygon,))], size)[0], counts):
                return polygon, True
    parts = outlines(Region(0, counts=counts), size)
    return (joined(parts) if parts else None), False


def joined(polygons: Sequence[np.ndarray]) -> np.ndarray:
    """Several polygons as one, float64 (n, 2): from each to the next by the shortest way between corners, there and back."""
    path = np.asarray(polygons[0], np.float64)
    for polygon in polygons[1:]:
        polygon = np.asarray(polygon, np.float64)
        here, there = _nearest(path, polygon)
        around = np.concatenate((polygon[there:], polygon[: there + 1]))
        path = np.concatenate((path[: here + 1], around, path[here:]))
    return path


def _nearest(ones: np.ndarray, others: np.ndarray) -> tuple[int, int]:
    """The corners of two polygons that lie nearest to each other."""
    step = max(1, MOST_PAIRS // len(others))
    best = (np.inf, 0, 0)
    for first in range(0, len(ones), step):
        apart = ones[first : first + step, None] - others[None]
        distance = (apart * apart).sum(axis=2)
        at = int(distance.argmin())
        best = min(best, (float(distance.flat[at]), first + at // len(others), at % len(others)))
    return best[1], best[2]


def _loops(mask: np.ndarray) -> list[np.ndarray]:
    """The closed lines between a mask and what is around it, int64 (n, 2) corners x, y each, turning at every corner.

    Each begins with the leftmost of its highest corners; the loops come in the order of these.
    """
    y, x, right, down = _corners(mask)
    beside, across = _partners(y, x, right), _partners(x, y, down)
    loops, visited = [], np.zeros(len(y), np.bool_).tolist()
    for start in range(len(y)):
        if visited[start]:
            continue
        walk, corner = [], start
        while not visited[corner]:
            other = beside[corner]
            visited[corner] = visited[other] = True
            walk += [corner, other]
            corner = across[other]
        loops.append(np.stack([x[walk], y[walk]], axis=1))
    return loops


def _corners(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Where outlines turn: y, x int64 (n,), row by row, and whether the line goes on to the right, and down, from there.

    Where two pixels touch at a corner only, each has its own: pieces of 4 neighbours stay apart.
    """
    padded = np.pad(mask.view(np.uint8), 1)
    around = padded[:-1, :-1] | padded[:-1, 1:] << 1 | padded[1:, :-1] << 2 | padded[1:, 1:] << 3
    rows, columns = np.nonzero(_TURNS[around])
    kind = around[rows, columns]
    many = _TURNS[kind]
    which = np.arange(int(many.sum())) - np.repeat(np.cumsum(many) - many, many)
    rows, columns, kind = (np.repeat(values, many) for values in (rows, columns, kind))
    turn = _DIRECTIONS[kind, which]
    return rows, columns, turn[:, 0], turn[:, 1]


def _partners(line: np.ndarray, along: np.ndarray, onward: np.ndarray) -> list[int]:
    """The other end of each corner's edge on its line: on each, corners that go onward and corners that end alternate."""
    order = np.lexsort((onward, along, line))  # at one place an edge ends before the next begins
    partner = np.empty(len(line), np.int64)
    partner[order[0::2]], partner[order[1::2]] = order[1::2], order[0::2]
    return partner.tolist()


def _turns() -> tuple[np.ndarray, np.ndarray]:
    """For the 16 ways to set 4 pixels around a point: how many corners it has, and where the lines of each go (right, down)."""
    many, directions = np.zeros(16, np.int64), np.zeros((16, 2, 2), np.bool_)
    for kind in range(16):
        above_left, above_right, below_left, below_right = (bool(kind >> bit & 1) for bit in range(4))
        left, right = above_left != below_left, above_right != below_right  # a line goes that way
        up, down = above_left != above_right, below_left != below_right
        if left and right and up and down:
            many[kind] = 2
            directions[kind] = ((False, False), (True, True)) if above_left else ((True, False), (False, True))
        elif left != right and up != down:
            many[kind], directions[kind, 0] = 1, (right, down)
    return many, directions


_TURNS, _DIRECTIONS = _turns()
