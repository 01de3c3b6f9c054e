"""Pictures of objects, one by one, for people: each mask in its class's colour, its box, its class and its score.

All work is done inside the objects' boxes, so that many objects on a large photo cost little more than the photo.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image

from maskwright.core.types import Instances
from maskwright.imaging.draw import shortened
from maskwright.imaging.objects import from_counts

OPACITY = 0.45
TINTS = (0.2, 0.7, -0.4, 0.45)  # of a class's objects in turn: from its colour to white, to black where negative
Corners = tuple[int, int, int, int]  # first and last pixels, x then y
SMALLEST = 11  # font size in pixels that can still be read


def drawn(image: np.ndarray, found: Instances, colours: np.ndarray) -> np.ndarray:
    """The image with its objects over it, uint8 (H, W, 3): the surest on top, nothing where there is none.

    image: uint8 RGB (H, W, 3). found: objects of that size, with masks or boxes alone; a score that is NaN (of true objects)
    is not written. colours: uint8 (256, 3), by class index.
    A mask is washed in its class's colour; outline, box and label have a tint of it that differs from one object of a class
    to the next. Lines are about one pixel in 500 of the longer side wide, labels about one in 70 high, less on small objects.
    """
    assert image.shape[:2] == found.size
    order = np.argsort(-np.asarray(found.scores), kind="stable")
    tints = _tints(found, order, colours)
    corners = [_corners(box, found.size) for box in found.boxes]
    widths = [_line(box, found.size) for box in corners]
    canvas = image.copy()
    for index in order[::-1].tolist() if found.counts else ():
        _wash(canvas, image, found.counts[index], colours[found.labels[index]], tints[index], widths[index])
    for index in order[::-1].tolist():
        _frame(canvas, corners[index], tints[index], widths[index])
    fonts: dict[int, Any] = {}
    labels = [_label(found, index, corners[index], widths[index], fonts) for index in order.tolist()]
    places = _places([(corners[index], *label[2]) for index, label in zip(order.tolist(), labels)], found.size)
    for index, (text, font, _), place in list(zip(order.tolist(), labels, places))[::-1]:  # above all boxes
        _write(canvas, text, font, place, tints[index])
    return canvas


def _tints(found: Instances, order: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """A colour for the lines of each object, uint8 (N, 3): the surest of a class has the first of TINTS, and so on."""
    tints, used = np.zeros((len(found), 3), np.uint8), [0] * len(found.classes)
    for index in order.tolist():
        label = int(found.labels[index])
        tint, colour = TINTS[used[label] % len(TINTS)], colours[label].astype(np.float64)
        tints[index] = (colour + ((255 if tint > 0 else 0) - colour) * abs(tint)).round()
        used[label] += 1
    return tints


def _wash(
    canvas: np.ndarray, image: np.ndarray, runs: np.ndarray, colour: np.ndarray, tint: np.ndarray, width: int
) -> None:
    """Washes one object onto the canvas, over what was there: the image's pixels in a colour, its rim in a tint."""
    one = from_counts([runs], [0], (image.shape[0], image.shape[1]))
    if not len(one):
        return
    left, top, right, bottom = one.boxes[0].astype(int).tolist()
    mask = one.cut(0)
    rim = mask & ~_worn(mask, width)
    target, source = canvas[top:bottom, left:right], image[top:bottom, left:right]
    levels = np.arange(256)
    for channel in range(3):
        table = (levels * (1 - OPACITY) + colour[channel] * OPACITY).round().astype(np.uint8)
        target[..., channel][mask] = table[source[..., channel][mask]]
    target[rim] = tint


def _worn(mask: np.ndarray, width: int) -> np.ndarray:
    """A mask bool (h, w) without its pixels nearer than `width` to what is outside of it, sideways or up and down."""
    padded = np.pad(mask, width)
    for axis in (0, 1):
        lines = np.moveaxis(padded, axis, 0)
        kept, reach = lines.copy(), 1
        while reach < 2 * width + 1:  # ever longer stretches that are all inside
            step = min(reach, 2 * width + 1 - reach)
            kept[:-step] &= kept[step:].copy()
            reach += step
        lines[width : len(lines) - width] = kept[: len(lines) - 2 * width]
    return padded[width:-width, width:-width]


def _corners(box: np.ndarray, size: tuple[int, int]) -> Corners:
    """The first and the last pixels of a box inside the image, x then y."""
    (height, width), (x0, y0, x1, y1) = size, box.tolist()
    left, top = min(max(int(x0), 0), width - 1), min(max(int(y0), 0), height - 1)
    return left, top, min(max(int(x1 + 0.5) - 1, left), width - 1), min(max(int(y1 + 0.5) - 1, top), height - 1)


def _line(corners: Corners, size: tuple[int, int]) -> int:
    """How wide an object's lines are: less on a small object."""
    left, top, right, bottom = corners
    return max(1, round(min(max(size) / 500, min(right - left, bottom - top) / 20)))


def _label(
    found: Instances, index: int, corners: Corners, gap: int, fonts: dict[int, Any]
) -> tuple[str, Any, tuple[int, int]]:
    """What is written on an object, in which font, and how much room it takes: smaller letters on a small box.

    fonts: by their size; one that is not there is loaded.
    """
    from PIL import ImageFont

    largest = max(SMALLEST, max(found.size) / 70)
    letters = round(min(largest, max(SMALLEST, largest / 3, (corners[3] - corners[1]) / 6)))
    if letters not in fonts:
        fonts[letters] = ImageFont.load_default(letters)
    font = fonts[letters]
    score = "" if np.isnan(found.scores[index]) else f" {found.scores[index]:.2f}"
    text = f"{found.classes[found.labels[index]]}{score}"
    text = shortened(text, font, found.size[1] - 2 * gap - 2)
    return text, font, (int(font.getlength(text)) + 2 * gap + 2, letters + letters // 3 + 1)


def _places(wanted: list[tuple[Corners, int, int]], size: tuple[int, int]) -> list[Corners]:
    """Where labels stand: above their boxes, else inside at the top, else below, else inside at the bottom: the first of
    these that no label before covers, or else the first that lies in the image. wanted: corners of the box, width, height.
    """
    taken = np.zeros((len(wanted), 4), np.int64)
    for number, ((left, top, _, bottom), wide, high) in enumerate(wanted):
        x = max(0, min(left, size[1] - wide))
        rows = [y for y in (top - high, top, bottom + 1, bottom + 1 - high) if 0 <= y <= size[0] - high] or [0]
        before = taken[:number]
        beside = (before[:, 0] >= x + wide) | (before[:, 2] < x)
        free = (y for y in rows if (beside | (before[:, 1] >= y + high) | (before[:, 3] < y)).all())
        y = next(free, rows[0])
        taken[number] = x, y, x + wide - 1, y + high - 1
    return [(x0, y0, x1, y1) for x0, y0, x1, y1 in taken.tolist()]


def _frame(canvas: np.ndarray, corners: Corners, colour: np.ndarray, width: int) -> None:
    """A box's lines, inside of it."""
    left, top, right, bottom = corners
    box = canvas[top : bottom + 1, left : right + 1]
    for lines in (box[:width], box[-width:], box[:, :width], box[:, -width:]):
        lines[...] = colour


def _write(canvas: np.ndarray, text: str, font: Any, place: Corners, ground: np.ndarray) -> None:
    """A label on a ground of its own, in black or white: what can be read on it."""
    from PIL import ImageDraw

    x0, y0, x1, y1 = place
    room = canvas[y0 : y1 + 1, x0 : x1 + 1]
    paper = Image.new("RGB", (x1 + 1 - x0, y1 + 1 - y0), tuple(ground.tolist()))
    ink = (0, 0, 0) if float(ground @ np.array([0.299, 0.587, 0.114])) > 140 else (255, 255, 255)
    ImageDraw.Draw(paper).text((paper.width // 2, paper.height // 2), text, ink, font, anchor="mm")
    room[...] = np.asarray(paper)[: room.shape[0], : room.shape[1]]
