"""Random changes to training samples: one strength, or single ranges, as the recipe's `augment` says.

Images are uint8 RGB (h, w, 3), label maps uint8 (h, w) of class indices; both go through the same geometry. What lies
outside the source becomes PAD_COLOUR in the image and VOID in the label map. To add a strength: write a function that
returns Ranges, add its name to AUGMENTS in `__init__.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from statistics import NormalDist
from typing import Any, Literal

import cv2
import numpy as np

from maskwright.core.errors import RecipeError
from maskwright.core.types import VOID
from maskwright.imaging.images import PAD_COLOUR
from maskwright.training import AUGMENTS

Fit = Literal["squash", "pad", "crop"]
Augmenter = Callable[[np.ndarray, np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]

BLUR_SIGMAS = (0.4, 1.5)  # pixels
NOISE_SIGMAS = (2.0, 12.0)  # grey levels


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """How far each change may go; 0 (for `scale` 1) switches one off. The functions below say what each means."""

    flip: float = 0.0
    scale: float = 1.0
    rotate: float = 0.0
    shift: float = 0.0
    light: float = 0.0
    colour: float = 0.0
    gamma: float = 0.0
    blur: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < (name == "scale"):
                what = (
                    f"`{name}` is {value} and must be {'1 (no zoom) or more' if name == 'scale' else '0 (off) or more'}"
                )
                raise RecipeError(what, place="augment")


def augmenter(
    strength: str | Ranges, size: tuple[int, int], *, flip_pairs: Sequence[tuple[int, int]] = (), fit: Fit = "squash"
) -> Augmenter:
    """A function (image, label_map, rng) -> (image, label_map) of `size` (H, W); everything random is drawn from `rng`.

    strength: the name of an entry of AUGMENTS, or the Ranges that one returned.

    flip_pairs: class indices that change places when the picture is flipped left to right.
    fit: `squash` and `pad` take samples that were fitted to `size` already (others are stretched to it); `crop` takes
      images at their own resolution and cuts a random window out of them, padded where the image is smaller.
    """
    ranges = AUGMENTS[strength]() if isinstance(strength, str) else strength
    swap = swap_table(flip_pairs)

    def augment(image: np.ndarray, label_map: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        place = _draw_place(ranges, label_map.shape, size, fit, rng)
        image, label_map = _warp(image, label_map, place, size)
        if place.flipped and flip_pairs:
            label_map = cv2.LUT(label_map, swap)
        return _recolour(image, ranges, rng), label_map

    return augment


# ---------------------------------------------------------------------------------------------------------- strengths

_OPTIONS = """
flip: chance of a left-right flip; class pairs such as left_door and right_door change places with it.
scale: largest zoom; drawn log-evenly between 1/scale and scale.
rotate: largest rotation to either side, degrees.
shift: largest shift to any side, as a share of the side (windows of `fit: crop` lie at random anyway).
light: brightness and contrast change by up to this share.
colour: saturation changes by up to this share, hue by up to 60 degrees times it.
gamma: the gamma curve's exponent lies log-evenly between 1/(1 + gamma) and 1 + gamma.
blur: chance of a Gaussian blur, sigma 0.4 to 1.5 pixels.
noise: chance of Gaussian noise, sigma 2 to 12 grey levels.
"""


def _with_options(strength: Callable[..., Ranges]) -> Callable[..., Ranges]:
    strength.__doc__ = f"{strength.__doc__}\n{_OPTIONS}"
    return strength


def none() -> Ranges:
    """Samples as they are; with `fit: crop`, windows at random places."""
    return Ranges()


@_with_options
def soft(
    *, flip: float = 0.5, scale: float = 1.25, rotate: float = 10.0, shift: float = 0.06, light: float = 0.15,
    colour: float = 0.15, gamma: float = 0.0, blur: float = 0.0, noise: float = 0.0,
) -> Ranges:  # fmt: skip
    """Small changes that suit nearly every set: flip, zoom 0.8 to 1.25, 10 degrees, mild light and colour."""
    return Ranges(**locals())


@_with_options
def medium(
    *, flip: float = 0.5, scale: float = 1.5, rotate: float = 20.0, shift: float = 0.1, light: float = 0.25,
    colour: float = 0.3, gamma: float = 0.25, blur: float = 0.1, noise: float = 0.1,
) -> Ranges:  # fmt: skip
    """For some hundred images and long trainings: zoom 0.67 to 1.5, 20 degrees, gamma, now and then blur or noise."""
    return Ranges(**locals())


@_with_options
def hard(
    *, flip: float = 0.5, scale: float = 2.0, rotate: float = 35.0, shift: float = 0.15, light: float = 0.4,
    colour: float = 0.5, gamma: float = 0.5, blur: float = 0.25, noise: float = 0.25,
) -> Ranges:  # fmt: skip
    """For few images and photos unlike those at hand: zoom 0.5 to 2, 35 degrees, strong light, colour, blur and noise."""
    return Ranges(**locals())


# ----------------------------------------------------------------------------------------------------------- geometry


@dataclass(frozen=True, slots=True)
class Place:
    """Where each output pixel (x, y) comes from: (xx * x + xy * y + x0, yx * x + yy * y + y0) in the source.

    Pixel centres lie at whole numbers (OpenCV's convention), x to the right, y down.
    """

    xx: float
    xy: float
    x0: float
    yx: float
    yy: float
    y0: float

    @property
    def flipped(self) -> bool:
        return self.xx * self.yy < self.xy * self.yx

    @property
    def is_copy(self) -> bool:
        """Pixels move by whole numbers, mirrored or not: nothing is interpolated."""
        straight = self.xy == self.yx == 0 and abs(self.xx) == self.yy == 1
        return straight and self.x0.is_integer() and self.y0.is_integer()

    def within(self, left: int, top: int, scale_x: float = 1.0, scale_y: float = 1.0) -> Place:
        """The same place in a source of which `left` columns and `top` rows were cut off and the rest then scaled."""
        x0, y0 = (self.x0 - left + 0.5) * scale_x - 0.5, (self.y0 - top + 0.5) * scale_y - 0.5
        return Place(self.xx * scale_x, self.xy * scale_x, x0, self.yx * scale_y, self.yy * scale_y, y0)


def _draw_place(
    ranges: Ranges, source: tuple[int, ...], size: tuple[int, int], fit: Fit, rng: np.random.Generator
) -> Place:
    """A random place within the ranges; always five draws, so that an option does not change what another one draws."""
    (h, w), (height, width) = source, size
    mirror, zoom, turn, right, down = rng.random(5).tolist()
    scale = ranges.scale ** (2 * zoom - 1)
    angle = math.radians(ranges.rotate * (2 * turn - 1))
    if fit == "crop":  # whole pixels of the zoomed image; a smaller one lies anywhere in the window
        scale_x = scale_y = scale
        left, top = round(right * (w * scale - width)), round(down * (h * scale - height))
        source_x, source_y = (left + width / 2) / scale, (top + height / 2) / scale
        target_x, target_y = width / 2, height / 2
    else:
        scale_x, scale_y = scale * width / w, scale * height / h
        source_x, source_y = w / 2, h / 2
        target_x = width * (0.5 + ranges.shift * (2 * right - 1))
        target_y = height * (0.5 + ranges.shift * (2 * down - 1))
    if mirror < ranges.flip:
        scale_x = -scale_x
    cos, sin = math.cos(angle), math.sin(angle)
    xx, xy, yx, yy = cos / scale_x, -sin / scale_x, sin / scale_y, cos / scale_y
    # the middles above count from the pixels' edges, Place from their centres: half a pixel on either side
    x, y = 0.5 - target_x, 0.5 - target_y
    return Place(xx, xy, xx * x + xy * y + source_x - 0.5, yx, yy, yx * x + yy * y + source_y - 0.5)


def _warp(
    image: np.ndarray, label_map: np.ndarray, place: Place, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Image (linear) and label map (nearest) seen from `place`. May hand back the arrays it was given, or views of them."""
    if place.is_copy:
        return _copy(image, place, size, PAD_COLOUR), _copy(label_map, place, size, VOID)
    rows, columns = _seen(place, label_map.shape, size)
    place = place.within(columns.start, rows.start)
    image, label_map = image[rows, columns], label_map[rows, columns]
    if not label_map.size:
        return np.full((*size, 3), PAD_COLOUR, np.uint8), np.full(size, VOID, np.uint8)
    warped_map = _warp_one(label_map, place, size, cv2.INTER_NEAREST, VOID)
    image, place = _shrink(image, place)
    # four channels go through OpenCV's fast path: 0.7 ms with both conversions where three take 1.6 (512 x 512)
    warped = _warp_one(cv2.cvtColor(image, cv2.COLOR_RGB2RGBA), place, size, cv2.INTER_LINEAR, (*PAD_COLOUR, 0))
    return cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB), warped_map


def _warp_one(source: np.ndarray, place: Place, size: tuple[int, int], filter: int, border: Any) -> np.ndarray:
    flags = filter | cv2.WARP_INVERSE_MAP
    matrix = np.array(((place.xx, place.xy, place.x0), (place.yx, place.yy, place.y0)))
    return cv2.warpAffine(source, matrix, size[::-1], flags=flags, borderMode=cv2.BORDER_CONSTANT, borderValue=border)


def _copy(source: np.ndarray, place: Place, size: tuple[int, int], border: Any) -> np.ndarray:
    """Whole pixels moved, and mirrored when the place is."""
    (height, width), (h, w) = size, source.shape[:2]
    top, left = int(place.y0), int(place.x0)
    if place.flipped:
        source, left = cv2.flip(source, 1), w - 1 - left
    if (top, left, height, width) == (0, 0, h, w):
        return source
    window = source[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    if window.shape[:2] == size:
        return np.ascontiguousarray(window)
    canvas = np.empty((*size, *source.shape[2:]), np.uint8)
    canvas[:] = border
    top, left = max(-top, 0), max(-left, 0)
    canvas[top : top + window.shape[0], left : left + window.shape[1]] = window
    return canvas


def _seen(place: Place, source: tuple[int, ...], size: tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the source that the output shows, with the neighbours that interpolation needs."""
    (h, w), (bottom, right) = source, (size[0] - 1, size[1] - 1)
    xs = [place.x0 + place.xx * x + place.xy * y for x in (0, right) for y in (0, bottom)]
    ys = [place.y0 + place.yx * x + place.yy * y for x in (0, right) for y in (0, bottom)]
    return _span(min(ys), max(ys), h), _span(min(xs), max(xs), w)


def _span(first: float, last: float, side: int) -> slice:
    start = min(max(math.floor(first) - 1, 0), side)
    return slice(start, max(start, min(math.ceil(last) + 2, side)))


def _shrink(image: np.ndarray, place: Place) -> tuple[np.ndarray, Place]:
    """Averages areas first where the place reduces more than two times, which linear interpolation would alias."""
    by_x, by_y = math.hypot(place.xx, place.xy), math.hypot(place.yx, place.yy)
    if max(by_x, by_y) <= 2:
        return image, place
    h, w = image.shape[:2]
    height, width = max(1, round(h / max(by_y, 1))), max(1, round(w / max(by_x, 1)))
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), place.within(0, 0, width / w, height / h)


# ------------------------------------------------------------------------------------------------------------- colours


def _recolour(image: np.ndarray, ranges: Ranges, rng: np.random.Generator) -> np.ndarray:
    """Light, colour, gamma, blur, noise, in this order; always eight draws before the noise."""
    draws = rng.random(8).tolist()
    brightness, contrast, saturation, hue, bend = (2 * draw - 1 for draw in draws[:5])
    if ranges.light or ranges.colour:
        matrix = _colour_matrix(
            ranges.light * brightness, ranges.light * contrast, ranges.colour * saturation, hue * ranges.colour
        )
        image = cv2.transform(image, matrix)
    if ranges.gamma:
        curve = (np.arange(256) / 255) ** ((1 + ranges.gamma) ** bend) * 255
        image = _through(image, curve.round().astype(np.uint8))
    if draws[5] < ranges.blur:
        image = cv2.GaussianBlur(image, (0, 0), _between(BLUR_SIGMAS, draws[7]))
    if draws[6] < ranges.noise:
        random = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
        bell = (_bell() * _between(NOISE_SIGMAS, draws[7])).round().astype(np.int8)
        image = cv2.add(image, _through(random, bell), dtype=cv2.CV_8U)
    return image


def _colour_matrix(brightness: float, contrast: float, saturation: float, hue: float) -> np.ndarray:
    """Four changes as one float32 (3, 4) matrix on (r, g, b, 1), after Haeberli, Matrix Operations for Image Processing, 1993.

    Each is a share, 0 changes nothing: factors 1 + brightness, 1 + contrast (about mid-grey), 1 + saturation (about the
    pixel's own luma), and a turn about the grey axis by hue * 60 degrees.
    """
    turn, luma = math.radians(60 * hue), np.array((0.299, 0.587, 0.114))
    cos, sin, third = math.cos(turn), math.sin(turn) / math.sqrt(3), 1 / 3
    same, ahead, behind = cos + (1 - cos) * third, (1 - cos) * third - sin, (1 - cos) * third + sin
    rotation = np.array(((same, ahead, behind), (behind, same, ahead), (ahead, behind, same)))
    grey = np.outer(np.ones(3), luma)
    saturated = (1 + saturation) * rotation - saturation * grey @ rotation
    matrix = np.empty((3, 4), np.float32)
    matrix[:, :3] = (1 + brightness) * (1 + contrast) * saturated
    matrix[:, 3] = -(1 + brightness) * contrast * 127.5
    return matrix


def _through(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Every value of a uint8 (H, W, 3) looked up in a table of 256; as one plane, which is twice as fast."""
    return cv2.LUT(image.reshape(len(image), -1), table).reshape(image.shape)


def _between(range: tuple[float, float], draw: float) -> float:
    return range[0] + draw * (range[1] - range[0])


@cache
def _bell() -> np.ndarray:
    """256 equally likely values of the standard normal distribution."""
    return np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)])


# ----------------------------------------------------------------------------------------------------- left and right


def propose_flip_pairs(classes: Sequence[str]) -> list[tuple[int, int]]:
    """Indices of classes that a left-right flip turns into each other, read from their names.

    `front_left_door` and `front_right_door`, `Left-arm` and `Right-arm`, `l_eye` and `r_eye`, `hand_L` and `hand_R`.
    """
    keys = [_words(name) for name in classes]
    where = {key: index for index, key in reversed(list(enumerate(keys)))}
    pairs = []
    for index, key in enumerate(keys):
        other = where.get(tuple(_mirrored(word) for word in key), index)
        if index < other and where[key] == index:
            pairs.append((index, other))
    return pairs


def _words(name: str) -> tuple[str, ...]:
    """Lower-case words of a name: `LeftUpper_arm2` is left, upper, arm, 2."""
    return tuple(word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+", name))


def _mirrored(word: str) -> str:
    if word in ("l", "r"):
        return "r" if word == "l" else "l"
    swapped = {"left": "right", "right": "left"}
    return re.sub("left|right", lambda found: swapped[found[0]], word)


def swap_table(flip_pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """uint8 (256,): the class that each class becomes in a mirrored picture."""
    table = np.arange(256, dtype=np.uint8)
    for a, b in flip_pairs:
        table[[a, b]] = b, a
    return table
