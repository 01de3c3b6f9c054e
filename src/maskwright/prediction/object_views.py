"""Test-time augmentation of objects: an image is seen a second time, mirrored, and what both views find becomes one object.

Weighted boxes fusion (Solovyev, Wang and Gabruseva, 2021, arXiv:1910.13302) of two views, with masks: an object that both find
has the mean of their scores, its box and its small mask are their means weighted by score; what only one finds keeps half its
score.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maskwright.core.types import ObjectNetwork

SAME = 0.5  # least IoU of the boxes of one object in both views


def answer(network: ObjectNetwork, pixels: np.ndarray, flip_pairs: Sequence[tuple[int, int]]) -> tuple[np.ndarray, ...]:
    """What a network finds (see ObjectNetwork) in pixels float32 (1, 3, h, w) and in their mirror image, the surest first.

    flip_pairs: indices of classes that change places in a mirrored image; labels count from 1.
    """
    ours = network(pixels)
    return merged(ours, mirrored(network(np.ascontiguousarray(pixels[..., ::-1])), pixels.shape[3], flip_pairs))


def mirrored(
    found: tuple[np.ndarray, ...], width: int, flip_pairs: Sequence[tuple[int, int]]
) -> tuple[np.ndarray, ...]:
    """What was found in a mirrored image, where it lies in the image itself. width: of the network's input."""
    boxes, labels, scores, masks = found
    turned = boxes.copy()
    turned[:, 0], turned[:, 2] = width - boxes[:, 2], width - boxes[:, 0]
    swapped = labels.copy()
    for left, right in flip_pairs:
        swapped[labels == left + 1] = right + 1
        swapped[labels == right + 1] = left + 1
    return turned, swapped, scores, masks[..., ::-1]


def merged(ours: tuple[np.ndarray, ...], theirs: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """Two views of one image as one. Each object, the surest first, takes the free one of its class that it overlaps most."""
    overlap = np.where(ours[1][:, None] == theirs[1][None], _overlaps(ours[0], theirs[0]), 0.0)
    partner = np.full(len(ours[1]), -1)
    for index in np.argsort(-ours[2], kind="stable").tolist():
        best = int(overlap[index].argmax()) if overlap.shape[1] else -1
        if best >= 0 and overlap[index, best] > SAME:
            partner[index] = best
            overlap[:, best] = 0.0  # taken
    paired = partner >= 0
    alone = np.setdiff1d(np.arange(len(theirs[1])), partner)
    boxes, labels, scores, masks = (part.copy() for part in ours)
    weight = (ours[2][paired] / np.maximum(ours[2][paired] + theirs[2][partner[paired]], 1e-12)).astype(np.float32)
    for mean, part in ((boxes, 0), (masks, 3)):
        share = weight.reshape(-1, *[1] * (mean.ndim - 1))
        mean[paired] = share * ours[part][paired] + (1 - share) * theirs[part][partner[paired]]
    scores[paired] = (ours[2][paired] + theirs[2][partner[paired]]) / 2
    scores[~paired] /= 2
    rest = (theirs[0][alone], theirs[1][alone], theirs[2][alone] / 2, theirs[3][alone])
    both = [np.concatenate(parts) for parts in zip((boxes, labels, scores, masks), rest, strict=True)]
    order = np.argsort(-both[2], kind="stable")
    return tuple(part[order] for part in both)


def _overlaps(ours: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """IoU of every two boxes x0, y0, x1, y1: (N, M)."""
    low = np.maximum(ours[:, None, :2], theirs[None, :, :2])
    high = np.minimum(ours[:, None, 2:], theirs[None, :, 2:])
    common = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (ours, theirs)]
    either: np.ndarray = common / np.maximum(areas[0][:, None] + areas[1][None] - common, 1e-12)
    return either
