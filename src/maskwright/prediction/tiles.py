"""Images larger than the network: overlapping windows, their probabilities blended at the seams.

Memory stays bounded by the image's width: rows are handed on as soon as no later window can reach them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from maskwright.imaging.images import PAD_COLOUR

OVERLAP = 0.25  # of the window, shared with each neighbour
Answer = Callable[[np.ndarray], np.ndarray]  # window uint8 (h, w, 3) -> probabilities float32 (C, h, w)


def bands(
    answer: Answer, image: np.ndarray, size: tuple[int, int], overlap: float = OVERLAP
) -> Iterator[tuple[int, np.ndarray]]:
    """(first row, probabilities float32 (C, rows, W)) of uint8 RGB (H, W, 3), from top to bottom, each row once.

    Probabilities of overlapping windows are averaged with weights that fall linearly to the window's border.

    size: height, width of a window. overlap: share of a window that its neighbour sees too, 0 to 0.9.
    """
    height, width = image.shape[:2]
    rows, columns = size
    weight = np.minimum.outer(_ramp(rows, overlap), _ramp(columns, overlap)).astype(np.float32)
    tops, lefts = starts(height, rows, overlap), starts(width, columns, overlap)
    weights = np.zeros((rows, max(width, columns)), np.float32)
    band: np.ndarray | None = None  # the rows that windows may still add to
    for number, top in enumerate(tops):
        for left in lefts:
            found = answer(cut(image, size, top, left))
            if band is None:
                band = np.zeros((len(found), *weights.shape), np.float32)
            band[:, :, left : left + columns] += found * weight
            weights[:, left : left + columns] += weight
        assert band is not None
        done = (height if number == len(tops) - 1 else tops[number + 1]) - top
        yield top, band[:, :done, :width] / weights[:done, :width]
        for sums in (band, weights):
            sums[..., : rows - done, :] = sums[..., done:, :].copy()
            sums[..., rows - done :, :] = 0


def cut(image: np.ndarray, size: tuple[int, int], top: int, left: int) -> np.ndarray:
    """uint8 (h, w, 3) of `size`: what is seen of an image from there on, padded where it ends before."""
    return _padded(image[top : top + size[0], left : left + size[1]], size)


def windows(image: np.ndarray, size: tuple[int, int], overlap: float = OVERLAP) -> Iterator[np.ndarray]:
    """All that `bands` looks at, row by row."""
    for top in starts(image.shape[0], size[0], overlap):
        for left in starts(image.shape[1], size[1], overlap):
            yield cut(image, size, top, left)


def starts(length: int, window: int, overlap: float = OVERLAP) -> list[int]:
    """First pixels of evenly spread windows that cover `length` and overlap by at least `overlap`."""
    if length <= window:
        return [0]
    step = max(1.0, window * (1 - overlap))
    count = int(np.ceil((length - window) / step)) + 1
    return [round(i * (length - window) / (count - 1)) for i in range(count)]


def _ramp(length: int, overlap: float) -> np.ndarray:
    """1 in the middle, falling linearly over the overlap to a small positive value at both ends."""
    reach = max(1, int(length * overlap))
    distance = np.minimum(np.arange(length), np.arange(length)[::-1]) + 1
    return np.minimum(distance / reach, 1.0)


def _padded(window: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if window.shape[:2] == size:
        return window
    full = np.empty((*size, 3), np.uint8)
    full[:] = PAD_COLOUR
    full[: window.shape[0], : window.shape[1]] = window
    return full
