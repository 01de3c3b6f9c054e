"""Images made larger as `images.fit` makes them, to the bit, in a third of its time: many photos are smaller than the network.

Pillow resizes along x, rounds to whole grey levels, then resizes along y; each of its weights is a multiple of 2**-22. OpenCV's
own resize rounds once, so it differs. Here each pass is a weighted sum of two rows (`cv2.addWeighted`: float32, rounded to the
nearest), for all rows of the same weights at once; the first pass works on the transposed image. float32 is exact enough:

With the weight p/q of the lower row in lowest terms, a sum lies at least 1/q away from where rounding turns, or on it, and
then only if the two pixels are q/2 or more grey levels apart. There Pillow rounds to the side that the error of its weight
points to, so the weights are moved a little to that side: too little to carry another sum over, and more than float32 errs.
"""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np

from maskwright.imaging import images
from maskwright.imaging.images import Fitting

MOST = 8192  # pixels of a side: 1/q is then larger than the error of float32, 4e-5
ONE = 1 << 22  # of Pillow's weights (Resample.c, PRECISION_BITS)
MOVE = 2.0**-12  # grey levels, twice what a sum moves that rounding turns at


def enlarges(fitting: Fitting) -> bool:
    """Whether `fit` here knows how: no side becomes smaller, or very large."""
    return all(old <= new <= MOST for old, new in zip(fitting.original, fitting.box[2:], strict=True))


def fit(image: np.ndarray, fitting: Fitting) -> np.ndarray:
    """`images.fit` of an image uint8 (H, W, 3) that `fitting` enlarges: uint8 (h, w, 3)."""
    assert enlarges(fitting)
    top, left, height, width = fitting.box
    across = np.empty((width, 3 * image.shape[0]), np.uint8)
    _stretch(_turned(image), across)
    canvas = images.canvas(fitting)
    box = canvas.reshape(len(canvas), -1)[top : top + height, 3 * left : 3 * (left + width)]
    _stretch(_turned(across.reshape(width, -1, 3)), box)
    return canvas


def _turned(image: np.ndarray) -> np.ndarray:
    """An image (h, w, 3) with x and y exchanged, the first and the last row twice: uint8 (w + 2, 3 * h)."""
    h, w = image.shape[:2]
    rows = np.empty((w + 2, h, 3), np.uint8)
    cv2.transpose(image, rows[1:-1])
    rows[0], rows[-1] = rows[1], rows[-2]
    return rows.reshape(w + 2, -1)


def _stretch(rows: np.ndarray, into: np.ndarray) -> None:
    """Rows (n + 2, L), of which the outer two repeat their neighbours, resized to `into` (m, L)."""
    n, m = len(rows) - 2, len(into)
    step, period = n // math.gcd(n, m), m // math.gcd(n, m)
    for first, (above, upper, lower, more) in enumerate(_weights(n, m)):
        there = into[first::period]
        a, b = (rows[start::step][: len(there)] for start in (above, above + 1))
        cv2.addWeighted(a, upper, b, lower, more, there)


@lru_cache(256)
def _weights(n: int, m: int) -> list[tuple[int, float, float, float]]:
    """For the first rows of m made of n, until the weights repeat: the row above in what `_turned` gives, the weights of it and
    of the next one, and what is added."""
    found = []
    for row in range(m // math.gcd(n, m)):
        above, rest = divmod((2 * row + 1) * n - m, 2 * m)  # where the row's centre lies, from the first row's centre
        p, q = rest // math.gcd(rest, 2 * m), 2 * m // math.gcd(rest, 2 * m)
        error = (2 * p * ONE + q) // (2 * q) * q - p * ONE  # of Pillow's weight, times q * ONE
        move = math.copysign(MOVE / q, error) if error else 0.0
        found.append((above + 1, 1 - p / q - move, p / q + move, 0.0 if error else 0.25 / q))  # no error: halves go up
    return found
