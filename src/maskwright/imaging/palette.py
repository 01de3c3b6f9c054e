"""Colours for classes that people can tell apart, colour-blind people included: uint8 (256, 3), index 255 for VOID."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from maskwright.core.types import BACKGROUND, VOID

VOID_COLOUR = (224, 224, 192)

# Okabe and Ito, "Color Universal Design" (2008); dark grey stands for their black, which is the background here
OKABE_ITO = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
    (0, 114, 178), (213, 94, 0), (204, 121, 167), (80, 80, 80),
)  # fmt: skip

# How the world looks without the red or the green cones, on linear RGB: Machado, Oliveira and Fernandes, "A
# Physiologically-based Model for Simulation of Color Vision Deficiency" (2009), severity 1
PROTANOPIA = ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998))
DEUTERANOPIA = ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881))


def palette(num_classes: int) -> np.ndarray:
    """Colours by class index, uint8 (256, 3).

    A class has the same colour whatever `num_classes` is; colours are made for that many, the rest repeats them. The
    first eight are Okabe and Ito's; each one after is the colour that lies farthest, to normal and to colour-blind
    eyes, from all before it. Index 255 is VOID's. Any two of the first 21, background and VOID lie at least 14 CIE Lab
    units apart to every eye, of 40 at least 8, of 100 only 3: with many classes, names have to help.
    """
    made = _distinct(max(len(OKABE_ITO), min(num_classes, VOID)))
    colours = made[np.arange(256) % len(made)]
    colours[VOID] = VOID_COLOUR
    return colours


def class_colours(classes: Sequence[str], overlapping: bool = False) -> np.ndarray:
    """As `palette`, with a background at index 0 black and the other classes after it: uint8 (256, 3).

    overlapping: VOID, where none of the classes is that may overlap, is black too.
    """
    if not classes or classes[0] != BACKGROUND:
        colours = palette(len(classes))
        colours[VOID] = 0 if overlapping else colours[VOID]
        return colours
    colours = np.roll(palette(len(classes) - 1), 1, axis=0)
    colours[0], colours[VOID] = 0, VOID_COLOUR
    return colours


@lru_cache(maxsize=8)
def _distinct(count: int) -> np.ndarray:
    """The first `count` colours, uint8 (count, 3): Okabe and Ito's, then farthest first (Gonzalez, 1985)."""
    steps = np.linspace(0, 255, 16).round()
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1).reshape(-1, 3)
    seen = _as_seen(grid)
    lightness, chroma = seen[0, :, 0], np.hypot(seen[0, :, 1], seen[0, :, 2])
    usable = (lightness > 40) & (lightness < 88) & (chroma < 80)  # neither dark as the background, nor pale, nor shrill
    grid, seen = grid[usable], seen[:, usable]
    chosen = [np.array(c, float) for c in OKABE_ITO]
    avoid = _as_seen(np.array([*OKABE_ITO, VOID_COLOUR, (0, 0, 0), (255, 255, 255)], float))
    nearest = np.full(len(grid), np.inf)
    for i in range(avoid.shape[1]):
        nearest = np.minimum(nearest, _distance(seen, avoid[:, i]))
    while len(chosen) < count:
        best = int(nearest.argmax())
        chosen.append(grid[best])
        nearest = np.minimum(nearest, _distance(seen, seen[:, best]))
    return np.array(chosen).astype(np.uint8)


def _distance(colours: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """How far a colour is from others to the eye that tells them apart worst: (3, N, 3) and (3, 3) -> (N,)."""
    return np.sqrt(((colours - colour[:, None]) ** 2).sum(axis=2)).min(axis=0)


def _as_seen(colours: np.ndarray) -> np.ndarray:
    """sRGB 0..255 (N, 3) as CIE Lab (3, N, 3) to normal, protanope and deuteranope eyes."""
    linear = np.where(colours <= 10.31475, colours / 255 / 12.92, ((colours / 255 + 0.055) / 1.055) ** 2.4)
    eyes = np.stack([linear, linear @ np.array(PROTANOPIA).T, linear @ np.array(DEUTERANOPIA).T]).clip(0, 1)
    to_xyz = np.array(
        [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
    )
    xyz = eyes @ to_xyz.T / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], axis=-1)


def after_nothing(colours: np.ndarray) -> np.ndarray:
    """The colours of labels that count classes from 1, where 0 is nothing: uint8 (256, 3)."""
    shifted = np.roll(colours, 1, axis=0)
    shifted[0], shifted[VOID] = 0, colours[VOID]
    return shifted
