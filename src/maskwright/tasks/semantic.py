"""The semantic task: a Record becomes a label map at the network's size, logits become a label map at the image's size.

Shapes: label maps uint8 (H, W); logits float32 (C, h, w), h and w the network's size.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from maskwright.core.types import Record
from maskwright.imaging import images, masks
from maskwright.imaging.images import Fitting

STRIP = 1 << 20  # original pixels decoded at a time: bounds memory on photos of any size


def encode(record: Record, fitting: Fitting) -> np.ndarray:
    """The truth of a record as the network is to answer it: uint8 (h, w), VOID in padding."""
    return images.fit_label_map(masks.label_map(record), fitting)


def decode(logits: np.ndarray, fitting: Fitting) -> np.ndarray:
    """Logits back on the original pixels, bilinearly, then the highest class: uint8 (H, W).

    Interpolation is linear, so every channel is taken relative to the most frequent class, whose own becomes zero; a
    channel that is below zero everywhere in a strip cannot win there and is never enlarged. Ties go to the lower class.
    """
    top, left, height, width = fitting.box
    inside = np.ascontiguousarray(logits[:, top : top + height, left : left + width], np.float32)
    counts = np.bincount(inside.argmax(0).ravel(), minlength=len(inside))
    reference = int(counts.argmax())
    relative = inside - inside[reference]
    rows, columns = fitting.original
    label_map = np.empty((rows, columns), np.uint8)
    step = max(1, STRIP // columns)
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        label_map[start:stop] = _decode_strip(relative, reference, (start, stop), fitting.original)
    return label_map


def confidence(logits: np.ndarray, fitting: Fitting) -> np.ndarray:
    """float32 (C,): mean softmax probability of each class over the network pixels it wins; 0 where it wins none."""
    top, left, height, width = fitting.box
    inside = logits[:, top : top + height, left : left + width]
    best = inside.argmax(0)
    highest = inside.max(0)
    probability = 1 / np.exp(inside - highest).sum(0)
    sums = np.bincount(best.ravel(), probability.ravel(), len(logits))
    counts = np.bincount(best.ravel(), minlength=len(logits))
    return (sums / np.maximum(counts, 1)).astype(np.float32)


def _decode_strip(relative: np.ndarray, reference: int, span: tuple[int, int], original: tuple[int, int]) -> np.ndarray:
    num_classes, height, width = relative.shape
    start, stop = span
    rows, columns = original
    box = (0.0, start * height / rows, float(width), stop * height / rows)
    reach = max(1.0, height / rows)  # the filter also sees neighbours outside the box
    source = slice(max(0, int(box[1] - reach) - 1), int(box[3] + reach) + 2)
    peaks = relative[:, source].reshape(num_classes, -1).max(1)
    best = np.full((stop - start, columns), -np.inf, np.float32)
    label_map = np.full((stop - start, columns), reference, np.uint8)
    for index in range(num_classes):
        if index == reference:
            plane = np.zeros_like(best)
        elif peaks[index] < 0 or (peaks[index] == 0 and index > reference):
            continue
        else:
            channel = Image.fromarray(relative[index])
            plane = np.asarray(channel.resize((columns, stop - start), Image.Resampling.BILINEAR, box))
        higher = plane > best
        np.copyto(best, plane, where=higher)
        label_map[higher] = index
    return label_map
