"""Connected pieces of equal values in a map of whole numbers, found on stretches of equal pixels, not pixel by pixel."""

from __future__ import annotations

import numpy as np


def pieces(values: np.ndarray, *, diagonal: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The pieces of equal values in a map (H, W) of any integer type: their numbers int64 (H, W), and the value of each.

    Pieces are numbered from 0 in the order of their first pixel, row by row; those of value 0 too.

    diagonal: pixels that only touch at a corner belong together (8 neighbours instead of 4).
    """
    height, width = values.shape
    flat = values.reshape(-1)
    if not len(flat):
        return np.zeros(values.shape, np.int64), flat
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    starts = np.union1d(starts, np.arange(height) * width)  # a stretch ends with its row
    stops = np.append(starts[1:], len(flat))
    lengths = stops - starts
    above, below = _touching(starts, stops, width, int(diagonal))
    same = flat[starts[above]] == flat[starts[below]]
    roots = _joined(len(starts), above[same], below[same])
    first, number = np.unique(roots, return_inverse=True)
    return np.repeat(number.reshape(-1), lengths).reshape(values.shape), flat[starts[first]]


def _touching(starts: np.ndarray, stops: np.ndarray, width: int, reach: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of stretches of neighbouring rows that lie on each other, or `reach` pixels beside: int64 (P,) each."""
    last = starts[-1] // width  # the lowest row
    upper = np.flatnonzero(starts // width < last)
    row_start = (starts[upper] // width + 1) * width
    left = np.maximum(starts[upper] + width - reach, row_start)
    right = np.minimum(stops[upper] + width + reach, row_start + width)
    begin = np.searchsorted(stops, left, side="right")
    end = np.searchsorted(starts, right, side="left")
    many = end - begin
    below = np.repeat(begin - np.cumsum(many) + many, many) + np.arange(int(many.sum()))
    return np.repeat(upper, many), below


def _joined(num: int, ones: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The lowest number of the set that each of `num` items is in, where pairs of items are in the same set: int64 (num,)."""
    root = np.arange(num)
    while True:
        a, b = root[ones], root[others]
        apart = a != b
        if not apart.any():
            return root
        ones, others = ones[apart], others[apart]
        np.minimum.at(root, np.maximum(a, b)[apart], np.minimum(a, b)[apart])
        while (root[root] != root).any():
            root = root[root]
