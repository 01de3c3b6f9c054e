"""Test-time augmentation: one image is seen several times, mirrored and at other sizes, and the answers are averaged.

The logits of every view go back bilinearly to the network's own size, become probabilities, and are averaged there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from maskwright.core.types import Network
from maskwright.imaging.images import Fitting

Fitted = Callable[[tuple[int, int]], tuple[np.ndarray, Fitting]]  # size -> uint8 (h, w, 3), where the image lies in it
GRAIN = 32  # sides of scaled views are multiples of it: the stride of most networks
SMALLEST = 1e-7  # how far probabilities are kept from 0 and 1 before their logarithm is taken


def answer(
    network: Network,
    fitted: Fitted,
    size: tuple[int, int],
    tta: Mapping[str, Any],
    flip_pairs: Sequence[tuple[int, int]] = (),
    multilabel: bool = False,
) -> tuple[np.ndarray, Fitting]:
    """Logits float32 (C, h, w) of one image, averaged over its views, and where the image lies in them.

    fitted: gives the image at a network size. size: height, width of scale 1.
    A single view keeps the network's own logits. An average of several has the logits of the mean probabilities, over
    the part of the network's input that the image fills.
    """
    views = {view: fitted(view) for view in dict.fromkeys(scaled(size, factor) for factor in tta["scales"])}
    if list(views) == [size] and not tta["flip"]:
        pixels, fitting = views[size]
        return network(as_input(pixels))[0], fitting
    base = (views[size] if size in views else fitted(size))[1]
    seen: list[np.ndarray] = []
    for pixels, fitting in views.values():
        answers = [network(as_input(pixels))[0]]
        if tta["flip"]:
            answers.append(swapped(network(as_input(pixels[:, ::-1]))[0][:, :, ::-1], flip_pairs))
        seen += [probabilities(resized(inside(logits, fitting), base.box[2:]), multilabel) for logits in answers]
    mean = np.mean(seen, axis=0)
    return as_logits(mean, multilabel), Fitting(base.original, base.box[2:], (0, 0, *base.box[2:]))


def described(tta: Mapping[str, Any]) -> str:
    """`tta: flip, scales 0.75-1.25`, or nothing where a single view is seen."""
    scales = tta["scales"]
    low, high = min(scales), max(scales)
    sizes = f"scales {low:g}-{high:g}" if low < high else f"scale {low:g}"
    parts = (["flip"] if tta["flip"] else []) + ([sizes] if (low, high) != (1, 1) else [])
    return "tta: " + ", ".join(parts) if parts else ""


def scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """`size` times `factor`, rounded to GRAIN; factor 1 is the size itself."""
    if factor == 1:
        return size
    height, width = (max(GRAIN, round(side * factor / GRAIN) * GRAIN) for side in size)
    return height, width


def as_input(pixels: np.ndarray) -> np.ndarray:
    """uint8 (h, w, 3) -> float32 (1, 3, h, w), 0..255: what every network takes."""
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None], np.float32)


def inside(logits: np.ndarray, fitting: Fitting) -> np.ndarray:
    """The part of logits (C, h, w) that the image fills."""
    top, left, height, width = fitting.box
    return logits[:, top : top + height, left : left + width]


def swapped(logits: np.ndarray, flip_pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """The channels of (C, h, w) in the order that a mirrored image has them: left and right classes change places."""
    order = np.arange(len(logits))
    for a, b in flip_pairs:
        order[a], order[b] = b, a
    return logits[order]


def resized(logits: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Each channel of (C, h, w) at height, width `size`, bilinearly, antialiased where it shrinks."""
    if logits.shape[1:] == size:
        return logits
    channels = (Image.fromarray(np.ascontiguousarray(channel, np.float32)) for channel in logits)
    return np.stack([np.asarray(c.resize(size[::-1], Image.Resampling.BILINEAR)) for c in channels])


def probabilities(logits: np.ndarray, multilabel: bool = False) -> np.ndarray:
    """Softmax over the classes of (C, h, w), or each class's own sigmoid."""
    if multilabel:
        return 0.5 * (1 + np.tanh(0.5 * logits))
    shifted = np.exp(logits - logits.max(0))
    return shifted / shifted.sum(0)


def as_logits(mean: np.ndarray, multilabel: bool = False) -> np.ndarray:
    """Logits float32 whose `probabilities` are `mean` (C, h, w)."""
    safe = np.clip(mean, SMALLEST, 1 - SMALLEST if multilabel else 1)
    odds = np.log(safe) - np.log1p(-safe) if multilabel else np.log(safe)
    return odds.astype(np.float32)
