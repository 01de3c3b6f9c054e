"""The entries of COCO files, of truths and results alike: what an id stands for, masks and boxes that can be scored.

Sizes are [height, width]; boxes x, y, width, height in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from hotcoco import mask as coco

from maskwright.data.formats.coco_json import kind_of
from maskwright.imaging import masks


class Unusable(Exception):
    """An entry that cannot be scored, and why; without numbers, so that equal reasons can be counted."""


def find(table: Mapping[Any, int], id: Any) -> int | None:
    """What an id stands for, also where one side writes a number as text."""
    other = int(id) if isinstance(id, str) and id.isdecimal() and len(id) < 20 else str(id)
    return table[id] if isinstance(id, int | str | float) and id in table else table.get(other)


def run_lengths(polygons: list[Any], size: Sequence[int]) -> dict[str, Any]:
    """The union of flat polygons of at least 3 points, by COCO's rule."""
    parts = coco.fr_py_objects(polygons, *size)
    return parts[0] if len(parts) == 1 else coco.merge(parts)


def outline(drawn: Any, size: Sequence[int]) -> Any:
    """A segmentation that can be drawn: polygons, or run-lengths that fit; None for none. Raises Unusable.

    Compressed run-lengths are not looked into: `masks.misfits` does that for many at once.
    """
    if drawn is None or drawn in ([], {}, "") or (isinstance(drawn, list) and all(p in ([], None) for p in drawn)):
        return None
    height, width = size
    if isinstance(drawn, dict):
        if drawn.get("size") != [height, width]:
            raise Unusable("run-lengths of another size than the image")
        if isinstance(drawn.get("counts"), str):
            return drawn
        counts, why = masks.mend_counts(drawn.get("counts"), (height, width))
        if counts is None:
            raise Unusable(str(why))
        return coco.fr_py_objects({"size": [height, width], "counts": counts.tolist()}, height, width)
    if not isinstance(drawn, list):
        raise Unusable(f"`segmentation` is {kind_of(drawn)}")
    parts = [drawn] if all(isinstance(value, int | float) for value in drawn) else drawn
    mended = [masks.mend_polygon(part, (height, width)) for part in parts]
    usable = [part for part, _ in mended if part is not None]
    if not usable:
        raise Unusable(str(mended[0][1]))
    return usable


def is_plain(drawn: Any, size: Sequence[int]) -> bool:
    """Whether a segmentation is polygons that lie inside the image, as nearly all are: nothing about them needs mending."""
    try:
        if type(drawn) is not list or not drawn:
            return False
        height, width = size
        for part in drawn:
            if len(part) < 6 or len(part) % 2 or not min(part) >= 0:
                return False
            if not max(part) <= min(size) and not (max(part[0::2]) <= width and max(part[1::2]) <= height):
                return False
    except TypeError:
        return False
    return True


def is_finite(value: Any) -> TypeGuard[float]:
    """Whether a value of a JSON is a number that float64 can hold; true and false are none."""
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:
        return False


def box_of(entry: Mapping[str, Any]) -> tuple[float, float, float, float] | None:
    """The `bbox` x, y, width, height of an entry, None where it has none. Raises Unusable."""
    box = entry.get("bbox")
    if box is None or box == []:
        return None
    try:
        x, y, width, height = box
        if not (math.isfinite(x + y + width + height) and width >= 0 and height >= 0):
            raise Unusable("a `bbox` with numbers that are no box")
    except OverflowError as error:
        raise Unusable("a `bbox` with numbers that are no box") from error
    except (TypeError, ValueError) as error:
        raise Unusable("a `bbox` that is no list of four numbers") from error
    return x, y, width, height
