"""Objects at the size of a smaller picture, for people: what is drawn small must be drawn at that size to be read."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from maskwright.core.types import Instances
from maskwright.imaging.objects import from_counts
from maskwright.imaging.paste import run_lengths


def fitted(found: Instances, size: tuple[int, int]) -> Instances:
    """The objects on an image of another size (height, width), each pixel that of the nearest one; boxes are scaled.

    Objects of which no pixel is left are left out.
    """
    steps = [old / new for old, new in zip(found.size, size, strict=True)]
    scale = np.array([1 / steps[1], 1 / steps[0]] * 2)
    if not found.counts:
        return replace(found, boxes=found.boxes * scale, size=size)
    rows, columns = (((np.arange(new) + 0.5) * step).astype(int) for new, step in zip(size, steps, strict=True))
    objects = from_counts(found.counts, np.arange(len(found)), found.size)
    kept, counts = [], []
    for index, position in enumerate(objects.labels.tolist()):
        left, top, right, bottom = objects.boxes[index].astype(int).tolist()
        y, x = np.flatnonzero((rows >= top) & (rows < bottom)), np.flatnonzero((columns >= left) & (columns < right))
        pixels = objects.cut(index)[np.ix_(rows[y] - top, columns[x] - left)]
        if pixels.any():
            kept.append(position)
            counts.append(run_lengths(pixels, (int(y[0]), int(x[0])), size))
    some = found.only(np.array(kept, np.int64))
    return replace(some, boxes=some.boxes * scale, counts=tuple(counts), size=size)
