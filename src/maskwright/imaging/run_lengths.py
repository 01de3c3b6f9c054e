"""Run-lengths from lists of spans, and masks at another size, as the formats of competitions have them.

Run-lengths are COCO's everywhere: uint32, column-major, the first run counts zeros, the sum is H * W.
"""

from __future__ import annotations

import numpy as np

from maskwright.imaging.objects import encoded, from_counts

Size = tuple[int, int]


def of_mask(mask: np.ndarray) -> np.ndarray:
    """A mask bool (H, W) as run-lengths."""
    return encoded(mask).get(1, np.array([mask.size], np.uint32))


def of_crop(crop: np.ndarray, left: int, top: int, size: Size) -> np.ndarray:
    """A mask bool (h, w) whose upper left pixel is column `left`, row `top`, as run-lengths of an image that it lies in."""
    (height, width), (h, w) = size, crop.shape
    assert 0 <= left <= width - w
    assert 0 <= top <= height - h
    edged = np.zeros((w, h + 2), np.int8)
    edged[:, 1:-1] = crop.T
    column, row = np.nonzero(np.diff(edged, axis=1))  # begins and ends in turn, column after column
    edges = (left + column) * height + top + row
    return of_spans(edges[0::2], edges[1::2], height * width)


def of_spans(starts: np.ndarray, stops: np.ndarray, total: int) -> np.ndarray:
    """Spans of pixels counted from 0, ascending, none empty, none overlapping, as run-lengths of `total` pixels.

    Spans that touch become one run.
    """
    assert len(starts) == len(stops)
    ends_here = np.append(starts[1:] != stops[:-1], True)[: len(stops)]
    begins_here = np.concatenate(([True], ends_here[:-1]))[: len(starts)]
    edges = np.stack([starts[begins_here], stops[ends_here]], axis=1).reshape(-1)
    counts = np.diff(edges, prepend=0, append=total)
    return (counts if counts[-1] or len(counts) == 1 else counts[:-1]).astype(np.uint32)


def at_size(counts: np.ndarray, size: Size, to: Size) -> np.ndarray:
    """Run-lengths of an image of `size` as those of one of the size `to`, see `resized`; only what is in their box is drawn."""
    if tuple(size) == tuple(to):
        return counts
    found = from_counts([counts], [0], size)
    if not len(found):
        return np.array([to[0] * to[1]], np.uint32)
    left, top, right, bottom = found.boxes[0].astype(np.int64).tolist()
    rows, columns = (_sources(there, here) for here, there in zip(size, to))
    first, last = np.searchsorted(rows, [top, bottom])
    start, end = np.searchsorted(columns, [left, right])
    crop = found.cut(0).take(rows[first:last] - top, axis=0).take(columns[start:end] - left, axis=1)
    return of_crop(crop, int(start), int(first), to)


def resized(mask: np.ndarray, size: Size) -> np.ndarray:
    """A mask bool (H, W) at another size: each pixel takes what lies under its centre, as in `images.fit_label_map`."""
    if mask.shape == tuple(size):
        return mask
    rows, columns = (_sources(there, here) for here, there in zip(mask.shape, size))
    return mask.take(rows, axis=0).take(columns, axis=1)


def _sources(there: int, here: int) -> np.ndarray:
    """Which of `here` pixels lies under the centre of each of `there` pixels: int64 (there,), ascending."""
    return (2 * np.arange(there) + 1) * here // (2 * there)
