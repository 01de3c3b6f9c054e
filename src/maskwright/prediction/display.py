"""How a Prediction shows itself in a notebook: the overlay with a legend, drawn when it is asked for and not before.

An array is held weakly: it is the caller's, and a list of predictions must not keep every photo in memory.
"""

from __future__ import annotations

import base64
import weakref
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.core.errors import DataError
from maskwright.core.types import Prediction
from maskwright.imaging import draw, images
from maskwright.imaging.images import Fitting
from maskwright.imaging.palette import class_colours

SIDE = 640  # longest side of the picture, pixels
STYLE = "display:inline-block;width:.8em;height:.8em;margin-right:.4em;border-radius:2px;outline:1px solid #8888"


def shown(image: Any) -> Callable[[Prediction], str]:
    """What draws the HTML of a prediction. image: path, encoded bytes, uint8 (H, W, 3), or None where it is not known."""
    if isinstance(image, np.ndarray):
        reference = weakref.ref(image)
        return lambda prediction: html(prediction, reference())
    if isinstance(image, (str, Path, bytes)):
        return lambda prediction: html(prediction, _read(image, prediction.label_map.shape))
    return lambda prediction: html(prediction, None)


def html(prediction: Prediction, pixels: np.ndarray | None) -> str:
    """The overlay and a legend of the classes found. Without pixels (gone, or never known) the classes' colours alone."""
    colours = class_colours(prediction.classes, prediction.masks is not None)
    original = (prediction.label_map.shape[0], prediction.label_map.shape[1])
    scale = min(1.0, SIDE / max(original))
    height, width = (max(1, round(side * scale)) for side in original)
    fitting = Fitting(original, (height, width), (0, 0, height, width))
    label_map = images.fit_label_map(prediction.label_map, fitting)
    if pixels is None:
        picture = draw.colour_map(label_map, colours)
    else:
        picture = draw.overlay(images.fit(pixels, fitting), label_map, colours)
    data = base64.b64encode(draw.encode(picture, "webp", 85)).decode()
    name = escape(prediction.image or "prediction")
    figure = f'<img alt="{name}" width="{width}" height="{height}" src="data:image/webp;base64,{data}">'
    legend = "".join(
        f'<span style="margin-right:1.2em;white-space:nowrap"><i style="{STYLE};background:rgb({r},{g},{b})"></i>'
        f"{escape(label)} {f'{100 * share:.1f}' if share >= 0.001 else '&lt; 0.1'} %</span>"
        for label, share, (r, g, b) in zip(*prediction.shares(), colours.tolist(), strict=False)
        if share
    )
    return f'<div style="max-width:{max(width, 320)}px">{figure}<div style="line-height:1.7">{legend}</div></div>'


def _read(source: str | Path | bytes, shape: tuple[int, ...]) -> np.ndarray | None:
    """The image again, turned as it was predicted; None when it is no longer there."""
    for upright in (True, False):
        try:
            pixels = images.read(source, upright=upright)
        except DataError:
            return None
        if pixels.shape[:2] == shape:
            return pixels
    return None
