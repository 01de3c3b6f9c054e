"""Where every pixel of a training sample comes from: all moves of a Change as one Place, carried out in one warp.

Images are uint8 RGB (h, w, 3); labels are label maps uint8 (h, w), or one mask for each class, uint8 (C, h, w). Both go
through the same geometry, images linearly, labels to the nearest. What lies outside the source becomes PAD_COLOUR in the
image and VOID in the labels.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np

from maskwright.core.types import VOID
from maskwright.imaging.images import PAD_COLOUR
from maskwright.training.change import Change, Sample

Fit = Literal["squash", "pad", "crop"]

LARGE = 1 << 19  # bytes
_own = threading.local()
QUARTERS = ((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0))  # cosine and sine, exactly


@dataclass(frozen=True, slots=True)
class Place:
    """Where each output pixel (x, y) comes from in the source, with d = px * x + py * y + 1:

        ((xx * x + xy * y + x0) / d, (yx * x + yy * y + y0) / d)

    Pixel centres lie at whole numbers (OpenCV's convention), x to the right, y down.
    """

    xx: float
    xy: float
    x0: float
    yx: float
    yy: float
    y0: float
    px: float = 0.0
    py: float = 0.0

    @property
    def flipped(self) -> bool:
        (xx, xy), (yx, yy) = self.slopes(0, 0)  # nothing is seen from behind: one corner has the sign of all
        return xx * yy < xy * yx

    @property
    def is_flat(self) -> bool:
        return self.px == self.py == 0

    @property
    def is_copy(self) -> bool:
        """Pixels move by whole numbers, mirrored or not: nothing is interpolated."""
        straight = self.xy == self.yx == 0 and abs(self.xx) == self.yy == 1 and self.is_flat
        return straight and self.x0.is_integer() and self.y0.is_integer()

    def source(self, x: float, y: float) -> tuple[float, float]:
        """Where an output pixel comes from."""
        sx, sy = self.x0 + self.xx * x + self.xy * y, self.y0 + self.yx * x + self.yy * y
        if self.is_flat:
            return sx, sy
        d = self.px * x + self.py * y + 1
        return sx / d, sy / d

    def slopes(self, x: float, y: float) -> tuple[tuple[float, float], tuple[float, float]]:
        """How far source x (first pair) and source y move a step to the right and a step down from an output pixel."""
        if self.is_flat:
            return (self.xx, self.xy), (self.yx, self.yy)
        d, (sx, sy) = self.px * x + self.py * y + 1, self.source(x, y)
        right = ((self.xx - sx * self.px) / d, (self.xy - sx * self.py) / d)
        return right, ((self.yx - sy * self.px) / d, (self.yy - sy * self.py) / d)

    def within(self, left: int, top: int, scale_x: float = 1.0, scale_y: float = 1.0) -> Place:
        """The same place in a source of which `left` columns and `top` rows were cut off and the rest then scaled."""
        x0, y0 = (self.x0 - left + 0.5) * scale_x - 0.5, (self.y0 - top + 0.5) * scale_y - 0.5
        x, y = (0.5 - left) * scale_x - 0.5, (0.5 - top) * scale_y - 0.5  # where the old source's first pixel went
        xx, xy = self.xx * scale_x + x * self.px, self.xy * scale_x + x * self.py
        yx, yy = self.yx * scale_y + y * self.px, self.yy * scale_y + y * self.py
        return Place(xx, xy, x0, yx, yy, y0, self.px, self.py)

    def matrix(self) -> np.ndarray:
        """float64 (2, 3), or (3, 3) where it is not flat."""
        rows = ((self.xx, self.xy, self.x0), (self.yx, self.yy, self.y0), (self.px, self.py, 1.0))
        return np.array(rows[:2] if self.is_flat else rows)


def place(change: Change, source: tuple[int, int], size: tuple[int, int], fit: Fit) -> Place:
    """The moves of a change as one place. source: (h, w) of the sample; size: (H, W) of the window cut from it.

    fit: `crop` cuts a window out of the zoomed sample, at whole pixels; a smaller sample lies anywhere in the window.
    """
    (h, w), (height, width) = source, size
    scale_x, scale_y = change.zoom_x, change.zoom_y
    # sides of the window as they lie on the sample; `pad` keeps the aspect, so that a quarter turn may cut
    lying = (width, height) if change.quarters % 2 and fit != "pad" else (height, width)
    if fit == "crop":
        right, down = change.window
        left, top = round(right * (w * scale_x - lying[1])), round(down * (h * scale_y - lying[0]))
        source_x, source_y = (left + lying[1] / 2) / scale_x, (top + lying[0] / 2) / scale_y
        target_x, target_y = width / 2, height / 2
    else:
        scale_x, scale_y = scale_x * lying[1] / w, scale_y * lying[0] / h
        source_x, source_y = w / 2, h / 2
        target_x, target_y = width * (0.5 + change.right), height * (0.5 + change.down)
    if change.flip:
        scale_x = -scale_x
    cos, sin = QUARTERS[change.quarters % 4]
    if change.turn:
        angle = math.radians(change.turn + 90 * change.quarters)
        cos, sin = math.cos(angle), math.sin(angle)
    across = (cos - change.shear * sin, -sin - change.shear * cos)
    xx, xy, yx, yy = across[0] / scale_x, across[1] / scale_x, sin / scale_y, cos / scale_y
    # the middles above count from the pixels' edges, Place from their centres: half a pixel on either side
    x, y = 0.5 - target_x, 0.5 - target_y
    flat = Place(xx, xy, xx * x + xy * y + source_x - 0.5, yx, yy, yx * x + yy * y + source_y - 0.5)
    if not (change.tilt_x or change.tilt_y):
        return flat
    return _tilted(flat, 2 * change.tilt_x / width, 2 * change.tilt_y / height, ((width - 1) / 2, (height - 1) / 2))


def _tilted(flat: Place, px: float, py: float, about: tuple[float, float]) -> Place:
    """The place with its distances from an output pixel `about` divided by 1 + px * right + py * down of it."""
    (x, y), (sx, sy) = about, flat.source(*about)
    # source = s + linear(position - about) / d, and d = px * position.x + py * position.y + d0; all over d0
    d0 = 1 - px * x - py * y
    rows = (flat.xx + sx * px, flat.xy + sx * py, flat.x0 - sx + sx * d0)
    columns = (flat.yx + sy * px, flat.yy + sy * py, flat.y0 - sy + sy * d0)
    return Place(*(v / d0 for v in (*rows, *columns, px, py)))


# ---------------------------------------------------------------------------------------------------------------- warp


def warp(image: np.ndarray, labels: np.ndarray, place: Place, size: tuple[int, int]) -> Sample:
    """Image (linear) and labels (nearest) seen from `place`. May hand back the arrays it was given, or views of them."""
    if place.is_copy:
        return _copied(image, labels, place, size)
    rows, columns = _seen(place, image.shape[:2], size)
    place = place.within(columns.start, rows.start)
    image, labels = image[rows, columns], labels[..., rows, columns]
    if not labels.size:
        return np.full((*size, 3), PAD_COLOUR, np.uint8), np.full((*labels.shape[:-2], *size), VOID, np.uint8)
    warped_labels = _each(labels, lambda plane: _warp_one(plane, place, size, cv2.INTER_NEAREST, VOID))
    image, closer = _shrink(image, place, size)
    # four channels go through OpenCV's fast path: 0.7 ms with both conversions where three take 1.6 (512 x 512)
    source = cv2.cvtColor(image, cv2.COLOR_RGB2RGBA, dst=_scratch("source", image.shape[:2]))
    warped = _warp_one(source, closer, size, cv2.INTER_LINEAR, (*PAD_COLOUR, 0), _scratch("warped", size))
    return cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB), warped_labels


def swap_sides(labels: np.ndarray, table: np.ndarray) -> np.ndarray:
    """The labels of a mirrored picture; table: what each class becomes, as `swap_table` says."""
    return cv2.LUT(labels, table) if labels.ndim == 2 else labels[table[: len(labels)]]


def swap_table(flip_pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """uint8 (256,): the class that each class becomes in a mirrored picture."""
    table = np.arange(256, dtype=np.uint8)
    for a, b in flip_pairs:
        table[[a, b]] = b, a
    return table


def _each(labels: np.ndarray, move: Any) -> np.ndarray:
    """A label map moved, or the mask of each class."""
    moved: np.ndarray = move(labels) if labels.ndim == 2 else np.stack([move(plane) for plane in labels])
    return moved


def _warp_one(
    source: np.ndarray, place: Place, size: tuple[int, int], filter: int, border: Any, into: np.ndarray | None = None
) -> np.ndarray:
    warp = cv2.warpAffine if place.is_flat else cv2.warpPerspective
    flags = filter | cv2.WARP_INVERSE_MAP
    return warp(source, place.matrix(), size[::-1], into, flags, cv2.BORDER_CONSTANT, border)


def _scratch(name: str, size: tuple[int, int]) -> np.ndarray | None:
    """Memory for a picture that nobody keeps, uint8 (H, W, 4), the same for every sample of a thread; None for a small one.

    Fresh memory for a large one comes from the system page by page, which took a fifth of the time at 512 x 512.
    """
    needed = size[0] * size[1] * 4
    if needed < LARGE:
        return None
    block: np.ndarray | None = getattr(_own, name, None)
    if block is None or len(block) < needed:
        block = np.empty(needed, np.uint8)
        setattr(_own, name, block)
    return block[:needed].reshape(*size, 4)


def _copied(image: np.ndarray, labels: np.ndarray, place: Place, size: tuple[int, int]) -> Sample:
    """Whole pixels moved, and mirrored when the place is."""
    height, width = image.shape[:2]
    top, left = int(place.y0), int(place.x0)
    if place.flipped:
        image, left = cv2.flip(image, 1), width - 1 - left
        labels = cv2.flip(labels.reshape(-1, width), 1).reshape(labels.shape)  # all planes at once
    if (top, left, *size) == (0, 0, height, width):
        return image, labels
    return _window(image, top, left, size, PAD_COLOUR), _each(labels, lambda it: _window(it, top, left, size, VOID))


def _window(source: np.ndarray, top: int, left: int, size: tuple[int, int], border: Any) -> np.ndarray:
    height, width = size
    window = source[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    if window.shape[:2] == size:
        return np.ascontiguousarray(window)
    canvas = np.empty((*size, *source.shape[2:]), np.uint8)
    canvas.reshape(height, -1)[:] = np.tile(np.uint8(border), width)  # a row at a time is fast, a pixel of three is not
    top, left = max(-top, 0), max(-left, 0)
    canvas[top : top + window.shape[0], left : left + window.shape[1]] = window
    return canvas


def _seen(place: Place, source: tuple[int, ...], size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the source that the output shows, with the neighbours that interpolation needs."""
    (h, w), (bottom, right) = source, (size[0] - 1, size[1] - 1)
    corners = [place.source(x, y) for x, y in ((0, 0), (0, bottom), (right, 0), (right, bottom))]
    xs, ys = zip(*corners, strict=True)
    by_x, by_y = _reduction(place, size)
    return _span(min(ys), max(ys), h, by_y), _span(min(xs), max(xs), w, by_x)


def _span(first: float, last: float, side: int, by: float) -> slice:
    """by: source pixels an output pixel stands for; half of them lie beyond its centre, and one more is interpolated with."""
    reach = math.ceil(by / 2) + 1
    start = min(max(math.floor(first) - reach, 0), side)
    return slice(start, max(start, min(math.ceil(last) + reach + 1, side)))


def _reduction(place: Place, size: tuple[int, int]) -> tuple[float, float]:
    """How many source pixels an output pixel in the middle is wide and high."""
    along_x, along_y = place.slopes(size[1] / 2, size[0] / 2)
    return math.hypot(*along_x), math.hypot(*along_y)


def _shrink(image: np.ndarray, place: Place, size: tuple[int, int]) -> tuple[np.ndarray, Place]:
    """Averages areas first where the place reduces more than two times, which linear interpolation would alias."""
    by_x, by_y = _reduction(place, size)
    if max(by_x, by_y) <= 2:
        return image, place
    h, w = image.shape[:2]
    height, width = max(1, round(h / max(by_y, 1))), max(1, round(w / max(by_x, 1)))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), place.within(0, 0, width / w, height / h)
