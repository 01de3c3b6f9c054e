"""The semantic task with classes that overlap: a Record becomes a mask for each class, logits become masks.

Each class is asked for by itself (a sigmoid a channel, a mask where it is above THRESHOLD), so `background`, what no
object covers, is no class here. Shapes: truth uint8 (C, H, W) of 0, 1 and VOID; logits float32 (C, h, w), h and w the
network's size; masks bool (C, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from maskwright.core.types import BACKGROUND, VOID, Record
from maskwright.imaging import images, masks
from maskwright.imaging.images import Fitting

THRESHOLD = 0.5  # of the probability; a logit of 0


def channels(classes: Sequence[str]) -> list[int]:
    """The indices of the classes that get a mask of their own: all but `background`."""
    return [index for index, name in enumerate(classes) if name != BACKGROUND]


def encode(record: Record, fitting: Fitting, labels: Sequence[int]) -> np.ndarray:
    """The truth of a record as the network is to answer it: uint8 (len(labels), h, w), VOID in padding."""
    truth = masks.class_masks(record, labels)
    return np.stack([images.fit_label_map(mask, fitting) for mask in truth])


def decode(logits: np.ndarray, fitting: Fitting) -> np.ndarray:
    """Logits back on the original pixels, bilinearly, then cut at THRESHOLD: masks bool (C, H, W)."""
    rows, columns = fitting.original
    found = np.empty((len(logits), rows, columns), np.bool_)
    for index, channel in enumerate(_inside(logits, fitting)):
        picture = Image.fromarray(np.ascontiguousarray(channel, np.float32))
        found[index] = np.asarray(picture.resize((columns, rows), Image.Resampling.BILINEAR)) > 0
    return found


def flat(truth: np.ndarray) -> np.ndarray:
    """Masks (C, H, W), bool or uint8 of 0, 1 and VOID, as one label map uint8 (H, W): VOID where there is none.

    Small masks lie over large ones, as regions are painted, so that a door is seen on its car.
    """
    label_map = np.full(truth.shape[1:], VOID, np.uint8)
    drawn = truth == 1
    for index in np.argsort(-drawn.sum(axis=(1, 2)), kind="stable").tolist():
        label_map[drawn[index]] = index
    return label_map


def confidence(logits: np.ndarray, fitting: Fitting) -> np.ndarray:
    """float32 (C,): mean probability of each class over the network pixels of its mask; 0 where it has none."""
    inside = _inside(logits, fitting)
    claimed = inside > 0
    probability = 0.5 * (1 + np.tanh(0.5 * inside))
    sums = (probability * claimed).sum(axis=(1, 2), dtype=np.float64)
    return (sums / np.maximum(claimed.sum(axis=(1, 2)), 1)).astype(np.float32)


def _inside(logits: np.ndarray, fitting: Fitting) -> np.ndarray:
    top, left, height, width = fitting.box
    return logits[:, top : top + height, left : left + width]
