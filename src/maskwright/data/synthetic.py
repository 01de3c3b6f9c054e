"""Shapes on textured ground: a small data set made offline, with exact labels, for the demo and for tests.

`truth` is the only generator; `make` writes what it makes as a data set of any format that can be written. Colour tells
nothing about the class, only the outline does; shapes overlap, are cut by the border, and some images are empty.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from maskwright.core.errors import RecipeError
from maskwright.core.table import Data, Packer
from maskwright.core.types import BACKGROUND
from maskwright.data.formats import FORMATS

CLASSES = (BACKGROUND, "disc", "square", "triangle", "star")
FAMILIES = ((225, 120, 40), (60, 120, 215), (70, 180, 90), (215, 70, 140))  # r, g, b of each shape when `coloured`
EMPTY_SHARE = 0.06  # images without a shape
FINER = 4  # how many times finer than the image the outlines are drawn, for smooth edges
LEAST_SEEN = 0.75  # share of a shape that must lie inside the image
MOST_HIDDEN = 0.2  # share of a shape that another may cover


@dataclass(frozen=True, slots=True)
class Shape:
    """label: index into CLASSES; outline: float64 (n, 2), x and y in pixels, may leave the image."""

    label: int
    outline: np.ndarray


@dataclass(frozen=True, slots=True)
class Sample:
    """image: uint8 RGB (H, W, 3); shapes: in the order drawn, the one with most pixels first, as label maps are painted."""

    name: str
    image: np.ndarray
    shapes: tuple[Shape, ...]


def truth(num: int, seed: int = 0, *, size: tuple[int, int] = (160, 160), coloured: bool = False) -> list[Sample]:
    """`num` samples of `size` (height, width), every fourth of another size nearby. Sample i is the same whatever `num` is.

    coloured: each class has its own family of colours, so that a minute of training suffices; else colour tells nothing.
    """
    return [_sample(number, np.random.default_rng([seed, number]), size, coloured) for number in range(num)]


def make(
    folder: str | Path,
    *,
    num: int = 48,
    size: tuple[int, int] = (160, 160),
    seed: int = 0,
    format: str = "coco",
    coloured: bool = False,
) -> Path:
    """Writes a data set of shapes into a folder, photos as JPEG, and gives the folder back.

    num: images.
    size: height, width of three in four of them.
    seed: another one makes other images.
    format: a name on the shelf that holds several classes.
    coloured: see `truth`.
    """
    entry: Any = FORMATS[format]
    if entry.write is None:
        raise RecipeError(f"format `{format}` is only read, not written", hint="it can be `coco`, `voc`, `folder`")
    with TemporaryDirectory() as photos:
        samples = truth(num, seed, size=size, coloured=coloured)
        entry.write(as_data(samples, Path(photos)), Path(folder))
    return Path(folder)


def as_data(samples: Sequence[Sample], photos: Path, *, split: str | None = None) -> Data:
    """The samples as a Data of polygons; their photos are written into a folder as JPEG."""
    packer = Packer()
    for sample in samples:
        photo = photos / f"{sample.name}.jpg"
        Image.fromarray(sample.image).save(photo, quality=92)
        packer.image(sample.name, str(photo), sample.image.shape[:2], split=split)
        for number, shape in enumerate(sample.shapes, 1):
            packer.region(shape.label, polygons=[shape.outline.reshape(-1).tolist()], id=100 * len(packer) + number)
    return packer.pack(CLASSES)


def _sample(number: int, rng: np.random.Generator, size: tuple[int, int], coloured: bool) -> Sample:
    height, width = size
    if number % 4 == 3:
        height, width = (int(side * rng.uniform(0.8, 1.25)) for side in size)
    image = _ground(rng, height, width)
    empty = number > 0 and rng.random() < EMPTY_SHARE
    shapes = () if empty else _shapes(rng, height, width)
    for shape in shapes:
        image = _drawn(rng, image, shape, np.array(FAMILIES[shape.label - 1]) if coloured else None)
    image += rng.normal(0, 3, image.shape)
    return Sample(f"shapes_{number:04d}", image.clip(0, 255).round().astype(np.uint8), shapes)


def _shapes(rng: np.random.Generator, height: int, width: int) -> tuple[Shape, ...]:
    """A handful of shapes, none hidden too much by the others nor cut too much by the border."""
    chosen: list[tuple[Shape, np.ndarray]] = []
    for _ in range(int(rng.integers(4, 10))):
        radius = min(height, width) * rng.uniform(0.13, 0.25)
        centre = rng.uniform(0, 1, 2) * (width, height)
        shape = Shape(int(rng.integers(1, len(CLASSES))), np.zeros(0))
        shape = Shape(shape.label, (_outline(rng, shape.label, radius) + centre).round(2))
        cover = _coverage(shape.outline, height, width) >= 0.5
        clear = all((cover & other).sum() <= MOST_HIDDEN * min(cover.sum(), other.sum()) for _, other in chosen)
        if clear and cover.sum() >= LEAST_SEEN * _area(shape.outline):
            chosen.append((shape, cover))
    chosen.sort(key=lambda pair: -int(pair[1].sum()))
    return tuple(shape for shape, _ in chosen)


def _outline(rng: np.random.Generator, label: int, radius: float) -> np.ndarray:
    """An outline around 0, 0, tilted a little: float64 (n, 2)."""
    points, radii = {
        "disc": (48, (1.0,)),
        "square": (4, (1.12,)),
        "triangle": (3, (1.2,)),
        "star": (10, (1.2, 0.5)),
    }[CLASSES[label]]
    start = -math.pi / 4 if label == CLASSES.index("square") else -math.pi / 2  # a side, or a tip, on top
    angles = start + rng.uniform(-0.35, 0.35) + 2 * math.pi * np.arange(points) / points
    lengths = radius * np.resize(radii, points)
    return np.stack([lengths * np.cos(angles), lengths * np.sin(angles)], axis=1)


def _area(outline: np.ndarray) -> float:
    x, y = outline.T
    return abs(float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1)))) / 2


def _coverage(outline: np.ndarray, height: int, width: int) -> np.ndarray:
    """How much of each pixel lies inside an outline: float (H, W), 0..1."""
    fine = Image.new("L", (width * FINER, height * FINER))
    ImageDraw.Draw(fine).polygon([(x * FINER - 0.5, y * FINER - 0.5) for x, y in outline.tolist()], fill=255)
    return np.asarray(fine.reduce(FINER), np.float64) / 255


def _drawn(rng: np.random.Generator, image: np.ndarray, shape: Shape, family: np.ndarray | None) -> np.ndarray:
    """The image with a shape on it, in a colour unlike the ground below, with a pattern and a light of its own."""
    height, width = image.shape[:2]
    cover = _coverage(shape.outline, height, width)[..., None]
    below = (image * cover).sum(axis=(0, 1)) / cover.sum()
    candidates = rng.uniform(20, 235, (8, 3)) if family is None else family + rng.normal(0, 14, (1, 3))
    colour = candidates[np.linalg.norm(candidates - below, axis=1).argmax()]
    rows, columns = np.mgrid[:height, :width]
    angle, period = rng.uniform(0, math.pi), rng.uniform(5, 14)
    stripes = np.sin((rows * math.sin(angle) + columns * math.cos(angle)) * 2 * math.pi / period)
    pattern = (stripes if rng.random() < 0.5 else _noise(rng, height, width, 12))[..., None]
    fill = colour + 10 * pattern + 8 * _noise(rng, height, width, 3)[..., None]
    return image * (1 - cover) + fill * cover


def _ground(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A gradient between two muted colours under soft blotches: float (H, W, 3), about 0..255."""
    here, there = rng.uniform(40, 215, (2, 3))
    angle = rng.uniform(0, 2 * math.pi)
    rows, columns = np.mgrid[-0.5 : 0.5 : height * 1j, -0.5 : 0.5 : width * 1j]
    along = (0.5 + (rows * math.sin(angle) + columns * math.cos(angle)) / math.sqrt(2))[..., None]
    ground = here * (1 - along) + there * along
    for cells, strength in ((4, 26), (10, 16), (40, 9)):
        ground += strength * _noise(rng, height, width, cells)[..., None] * rng.uniform(0.6, 1, 3)
    return ground


def _noise(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Smooth noise with about `cells` blotches a side: float (H, W), mostly -1..1."""
    coarse = Image.fromarray(rng.normal(0, 0.7, (cells + 2, cells + 2)).astype(np.float32))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float64)
