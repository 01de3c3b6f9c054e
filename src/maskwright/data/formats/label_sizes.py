"""Labels that give an image another size than its file has: they are scaled where the two agree in shape, else refused.

Sizes are height, width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from maskwright.core.errors import DataError
from maskwright.imaging import images, run_lengths

Size = tuple[int, int]


class Sized(NamedTuple):
    """size, upright: those of Record; drawn: the size that its labels are drawn at; repairs: what had to be done."""

    size: Size
    drawn: Size
    upright: bool
    repairs: tuple[str, ...]


def sized(stated: Size | None, file: str, measured: bool) -> Sized:
    """The size of an image whose labels state one, or none. Raises DataError when the file cannot be used with them.

    measured: look into the file even where a size is stated.
    """
    if stated is not None and not measured:
        return Sized(stated, stated, True, ())
    header = images.probe(file)
    if stated is None:
        return Sized(header.size, header.size, True, ("its size was read from the file",))
    upright = stated == header.size or (stated != header.stored_size and _alike(stated, header.size))
    size = header.size if upright else header.stored_size
    if not _alike(stated, size):
        (height, width), (rows, columns) = stated, header.size
        raise DataError(f"is {columns} x {rows} pixels, its labels were drawn at {width} x {height}", place=file)
    repairs = [] if upright else ["labels fit the image before EXIF rotation, which is left out"]
    if stated != size:
        repairs.append(f"labels drawn at {stated[1]} x {stated[0]} are scaled to its {size[1]} x {size[0]} pixels")
    return Sized(size, stated, upright, tuple(repairs))


def scaled(region: Mapping[str, Any], drawn: Size, size: Size) -> dict[str, Any]:
    """The `polygons` or `counts` of a region that was drawn at one size, at another."""
    if region.get("counts") is not None:
        return {**region, "counts": run_lengths.at_size(np.asarray(region["counts"]), drawn, size)}
    down, across = size[0] / drawn[0], size[1] / drawn[1]
    flats = [[v * (down if i % 2 else across) for i, v in enumerate(flat)] for flat in region["polygons"]]
    return {**region, "polygons": flats}


def _alike(stated: Size, real: Size) -> bool:
    """Whether one size is the other scaled, each side rounded to whole pixels."""
    (height, width), (rows, columns) = stated, real
    return abs(height * columns - width * rows) <= max(height, width, rows, columns) / 2 + 0.5
