"""How a model's answer shows itself in a notebook: the overlay and what was found, drawn when it is asked for and not before.

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
from maskwright.core.types import SURE, Instances, Prediction
from maskwright.core.words import counted
from maskwright.imaging import draw, draw_objects, images
from maskwright.imaging.fit_objects import fitted
from maskwright.imaging.images import Fitting
from maskwright.imaging.palette import class_colours

SIDE = 640  # longest side of the picture, pixels
STYLE = "display:inline-block;width:.8em;height:.8em;margin-right:.4em;border-radius:2px;outline:1px solid #8888"
PAPER = 240  # grey below objects whose photo is not known


def shown(image: Any, least: float = SURE) -> Callable[[Any], str]:
    """What draws the HTML of a prediction. image: path, encoded bytes, uint8 (H, W, 3), or None where it is not known.

    least: score from which objects are drawn.
    """
    if isinstance(image, np.ndarray):
        reference = weakref.ref(image)
        return lambda prediction: html(prediction, reference(), least)
    if isinstance(image, (str, Path, bytes)):
        return lambda prediction: html(prediction, _read(image, _size(prediction)), least)
    return lambda prediction: html(prediction, None, least)


def html(prediction: Prediction | Instances, pixels: np.ndarray | None, least: float = SURE) -> str:
    """The overlay, and a legend of the classes or a table of the objects found.

    Without pixels (gone, or never known) the colours alone.
    """
    original = _size(prediction)
    scale = min(1.0, SIDE / max(original))
    height, width = (max(1, round(side * scale)) for side in original)
    fitting = Fitting(original, (height, width), (0, 0, height, width))
    small = None if pixels is None else images.fit(pixels, fitting)
    if isinstance(prediction, Instances):
        picture, words = _objects(prediction, small, (height, width), least)
    else:
        picture, words = _classes(prediction, small, fitting)
    data = base64.b64encode(draw.encode(picture, "webp", 85)).decode()
    name = escape(prediction.image or "prediction")
    figure = f'<img alt="{name}" width="{width}" height="{height}" src="data:image/webp;base64,{data}">'
    return f'<div style="max-width:{max(width, 320)}px">{figure}<div style="line-height:1.7">{words}</div></div>'


def _classes(prediction: Prediction, pixels: np.ndarray | None, fitting: Fitting) -> tuple[np.ndarray, str]:
    """The overlay, uint8 (h, w, 3), and the share of every class found. pixels: already fitted."""
    colours = class_colours(prediction.classes, prediction.masks is not None)
    label_map = images.fit_label_map(prediction.label_map, fitting)
    picture = draw.colour_map(label_map, colours) if pixels is None else draw.overlay(pixels, label_map, colours)
    legend = "".join(
        f'<span style="margin-right:1.2em;white-space:nowrap">{_swatch(colour)}'
        f"{escape(label)} {f'{100 * share:.1f}' if share >= 0.001 else '&lt; 0.1'} %</span>"
        for label, share, colour in zip(*prediction.shares(), colours.tolist(), strict=False)
        if share
    )
    return picture, legend


def _objects(
    found: Instances, pixels: np.ndarray | None, size: tuple[int, int], least: float
) -> tuple[np.ndarray, str]:
    """The objects that are sure enough, over the image uint8 (h, w, 3) of that size, and a table that counts them."""
    sure = found.only(found.scores >= least)
    colours = class_colours(found.classes)
    ground = np.full((*size, 3), PAPER, np.uint8) if pixels is None else pixels
    picture = draw_objects.drawn(ground, fitted(sure, size), colours)
    rows = ""
    for index in np.flatnonzero(np.bincount(sure.labels, minlength=len(found.classes))).tolist():
        scores = sure.scores[sure.labels == index]
        name = _swatch(colours[index].tolist()) + escape(found.classes[index])
        rows += f"<tr><td>{name}</td><td>{len(scores)}</td><td>{scores.min():.2f} to {scores.max():.2f}</td></tr>"
    table = f"<table><tr><th>class</th><th>objects</th><th>scores</th></tr>{rows}</table>" if rows else "no object"
    weak = len(found) - len(sure)
    return picture, table + (f"<div>{counted(weak, 'weaker one')} below {least:g} not shown</div>" if weak else "")


def _swatch(colour: list[int]) -> str:
    r, g, b = colour
    return f'<i style="{STYLE};background:rgb({r},{g},{b})"></i>'


def _size(prediction: Prediction | Instances) -> tuple[int, int]:
    if isinstance(prediction, Instances):
        return prediction.size
    return prediction.label_map.shape[0], prediction.label_map.shape[1]


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
