"""Pictures for people: overlays, cut-outs, colour maps, contact sheets, and their bytes for a page.

Images are uint8 RGB (H, W, 3), label maps uint8 (H, W), colours uint8 (256, 3) by class index (`imaging.palette`).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from io import BytesIO
from typing import Any, Literal

import numpy as np
from PIL import Image

Kind = Literal["webp", "png", "jpeg"]

PAPER, INK, GAP = (250, 250, 250), (40, 40, 40), 8
TINT = 0.45  # how far an outline is from its class's colour to white: seen on dark photographs and on light ones


def overlay(
    image: np.ndarray, label_map: np.ndarray, colours: np.ndarray, *, opacity: float = 0.55, edges: bool = True
) -> np.ndarray:
    """The image with its classes washed over it, uint8 (H, W, 3); a black class (the background) stays clear.

    opacity: 0 shows the image alone, 1 the colours alone.
    edges: draw each class's outline in a light tint of its colour, about one pixel in 500 wide.
    """
    assert image.shape[:2] == label_map.shape
    washed: np.ndarray = colours.max(axis=1) > 0
    picture = Image.fromarray(image)
    strength = np.where(washed, round(opacity * 255), 0).astype(np.uint8)[label_map]
    picture.paste(Image.fromarray(colour_map(label_map, colours)), mask=Image.fromarray(strength))
    if edges:
        lines = _outlines(label_map, max(1, round(max(label_map.shape) / 500))) & washed[label_map]
        tints = (colours + (255 - colours) * TINT).astype(np.uint8)
        picture.paste(Image.fromarray(colour_map(label_map, tints)), mask=Image.fromarray(lines))
    return np.array(picture)


def cutout(image: np.ndarray, label_map: np.ndarray, index: int) -> np.ndarray:
    """The pixels of one class on a transparent ground: uint8 RGBA (H, W, 4); hidden pixels are zero."""
    alpha = np.where(label_map == index, np.uint8(255), np.uint8(0))
    return np.dstack([image & alpha[..., None], alpha])


def colour_map(label_map: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Each pixel in its class's colour: uint8 (H, W, 3)."""
    picture = Image.fromarray(np.ascontiguousarray(label_map))
    picture.putpalette(np.ascontiguousarray(colours, np.uint8).tobytes())
    return np.array(picture.convert("RGB"))


def sheet(
    images: Sequence[np.ndarray],
    *,
    columns: int,
    captions: Sequence[str] | None = None,
    tile: tuple[int, int] = (192, 192),
) -> np.ndarray:
    """Images in rows on one page, uint8 (H, W, 3).

    columns: images in a row.
    captions: a line below each image, shortened to its width.
    tile: height, width that an image is shrunk or enlarged to fit; its aspect stays.
    """
    from PIL import ImageDraw, ImageFont

    assert images
    height, width = tile
    font: Any = ImageFont.load_default(13)
    line = 0 if captions is None else 20
    rows = -(-len(images) // columns)
    columns = min(columns, len(images))
    page = Image.new("RGB", (columns * (width + GAP) + GAP, rows * (height + line + GAP) + GAP), PAPER)
    pen = ImageDraw.Draw(page)
    for i, image in enumerate(images):
        x, y = GAP + i % columns * (width + GAP), GAP + i // columns * (height + line + GAP)
        picture = Image.fromarray(image)
        scale = min(width / picture.width, height / picture.height)
        small = picture.resize((max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
        corner = (x + (width - small.width) // 2, y + (height - small.height) // 2)
        page.paste(small, corner, small if small.mode == "RGBA" else None)
        if captions is not None:
            pen.text((x + width // 2, y + height + 3), shortened(captions[i], font, width), INK, font, anchor="ma")
    return np.array(page)


def encode(image: np.ndarray, kind: Kind = "webp", quality: int = 80) -> bytes:
    """An image, RGB or RGBA, as the bytes of a file; JPEG lays transparency over white.

    quality: 1..100; PNG is lossless and ignores it.
    """
    buffer = BytesIO()
    picture = Image.fromarray(image)
    if kind == "jpeg" and picture.mode == "RGBA":
        above, picture = picture, Image.new("RGB", picture.size, "white")
        picture.paste(above, mask=above)
    picture.save(buffer, kind.upper(), quality=quality)
    return buffer.getvalue()


def _outlines(label_map: np.ndarray, width: int) -> np.ndarray:
    """bool (H, W): pixels less than `width` away from a pixel of another class, sideways or up and down."""
    edge = np.zeros(label_map.shape, bool)
    for step in range(1, width + 1):
        across, down = label_map[:, step:] != label_map[:, :-step], label_map[step:] != label_map[:-step]
        edge[:, step:] |= across
        edge[:, :-step] |= across
        edge[step:] |= down
        edge[:-step] |= down
    return edge


def shortened(text: str, font: Any, width: int) -> str:
    """The text in letters that the built-in font has, cut with dots where it is wider than `width` pixels."""
    text = unicodedata.normalize("NFKD", text)
    text = "".join(c for c in text if not unicodedata.combining(c)).encode("ascii", "replace").decode()
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."
