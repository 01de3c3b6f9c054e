"""Images larger than the network: overlapping windows of the original pixels, their probabilities blended at the seams.

Memory stays bounded by the image's width: rows are decided as soon as no later window can reach them.
"""

from __future__ import annotations

import numpy as np

from maskwright.core.types import Network

OVERLAP = 0.25  # of the window, shared with each neighbour
PAD = (124, 116, 104)  # mean colour of photographs, as `images.fit` pads


def predict(
    network: Network, image: np.ndarray, size: tuple[int, int], num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Label map uint8 (H, W) and confidence float32 (C,) of a uint8 RGB (H, W, 3) image, at its own resolution.

    Softmax probabilities of overlapping windows are averaged with weights that fall linearly to the window's border.
    """
    height, width = image.shape[:2]
    rows, columns = size
    weight = np.minimum.outer(_ramp(rows), _ramp(columns)).astype(np.float32)
    tops, lefts = starts(height, rows), starts(width, columns)
    band = np.zeros((num_classes, rows, max(width, columns)), np.float32)  # the rows windows may still add to
    label_map = np.empty((height, width), np.uint8)
    sums, counts = np.zeros(num_classes), np.zeros(num_classes)
    for number, top in enumerate(tops):
        for left in lefts:
            window = _padded(image[top : top + rows, left : left + columns], size)
            pixels = np.ascontiguousarray(window.transpose(2, 0, 1)[None], np.float32)
            band[:, :, left : left + columns] += _softmax(network(pixels)[0]) * weight
        last = number == len(tops) - 1
        done = (height if last else tops[number + 1]) - top
        decided = band[:, :done, :width]
        best = decided.argmax(0)
        label_map[top : top + done] = best
        probability = np.take_along_axis(decided, best[None], 0)[0] / decided.sum(0)
        sums += np.bincount(best.ravel(), probability.ravel(), num_classes)
        counts += np.bincount(best.ravel(), minlength=num_classes)
        band[:, : rows - done] = band[:, done:].copy()
        band[:, rows - done :] = 0
    return label_map, (sums / np.maximum(counts, 1)).astype(np.float32)


def starts(length: int, window: int) -> list[int]:
    """First pixels of evenly spread windows that cover `length` and overlap by at least OVERLAP."""
    if length <= window:
        return [0]
    count = int(np.ceil((length - window) / (window * (1 - OVERLAP)))) + 1
    return [round(i * (length - window) / (count - 1)) for i in range(count)]


def _ramp(length: int) -> np.ndarray:
    """1 in the middle, falling linearly over the overlap to a small positive value at both ends."""
    reach = max(1, int(length * OVERLAP))
    distance = np.minimum(np.arange(length), np.arange(length)[::-1]) + 1
    return np.minimum(distance / reach, 1.0)


def _padded(window: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if window.shape[:2] == size:
        return window
    full = np.empty((*size, 3), np.uint8)
    full[:] = PAD
    full[: window.shape[0], : window.shape[1]] = window
    return full


def _softmax(logits: np.ndarray) -> np.ndarray:
    shifted = np.exp(logits - logits.max(0))
    return shifted / shifted.sum(0)
