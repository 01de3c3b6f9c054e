"""Colours of a training sample: light, hue and saturation as one matrix, gamma as one table, then the effects.

Images are uint8 RGB (H, W, 3), the size the network sees.
"""

from __future__ import annotations

import math
from functools import cache
from statistics import NormalDist

import cv2
import numpy as np

from maskwright.core.types import VOID
from maskwright.imaging.images import PAD_COLOUR
from maskwright.training.change import Change, Effect, Sample

LEVELS = np.arange(256) / 255
LUMA = (0.299, 0.587, 0.114)


def recolour(image: np.ndarray, change: Change) -> np.ndarray:
    """The colours of a change: light and colour, then gamma. Gives back the same array when it has none."""
    if change.brightness or change.contrast or change.saturation or change.hue:
        matrix = colour_matrix(change.brightness, change.contrast, change.saturation, change.hue)
        image = cv2.transform(image, matrix)
    if change.gamma != 1:
        curve = LEVELS**change.gamma * 255
        image = _through(image, curve.round().astype(np.uint8))
    return image


def colour_matrix(brightness: float, contrast: float, saturation: float, hue: float) -> np.ndarray:
    """Four changes as one float32 (3, 4) matrix on (r, g, b, 1), after Haeberli, Matrix Operations for Image Processing, 1993.

    brightness, contrast, saturation: shares, 0 changes nothing: factors 1 + brightness, 1 + contrast (about mid-grey),
    1 + saturation (about the pixel's own luma). hue: degrees of a turn about the grey axis.
    """
    turn, (red, green, blue) = math.radians(hue), LUMA
    cos, sin, third = math.cos(turn), math.sin(turn) / math.sqrt(3), 1 / 3
    same, ahead, behind = cos + (1 - cos) * third, (1 - cos) * third - sin, (1 - cos) * third + sin
    light, colour, shift = (1 + brightness) * (1 + contrast), 1 + saturation, -(1 + brightness) * contrast * 127.5
    # a colour's luma after the turn, by how much it loses saturation; the rows are the turn itself
    r = saturation * (red * same + green * behind + blue * ahead)
    g = saturation * (red * ahead + green * same + blue * behind)
    b = saturation * (red * behind + green * ahead + blue * same)
    rows = ((same, ahead, behind), (behind, same, ahead), (ahead, behind, same))
    table = [(light * (colour * x - r), light * (colour * y - g), light * (colour * z - b), shift) for x, y, z in rows]
    return np.array(table, np.float32)


# ------------------------------------------------------------------------------------------------------------- effects


def blurred(sigma: float) -> Effect:
    """Gaussian blur, sigma in pixels."""
    return lambda image, labels: (cv2.GaussianBlur(image, (0, 0), sigma), labels)


def motion_blurred(length: float, angle: float) -> Effect:
    """Each pixel the mean of a line of `length` pixels about it, at `angle` degrees to the right and down."""

    def effect(image: np.ndarray, labels: np.ndarray) -> Sample:
        return cv2.filter2D(image, -1, line_kernel(length, angle), borderType=cv2.BORDER_REFLECT_101), labels

    return effect


def line_kernel(length: float, angle: float) -> np.ndarray:
    """A line through the middle as weights, float32 (k, k), k odd, that sum to 1."""
    reach = math.ceil((length - 1) / 2)
    kernel = np.zeros((2 * reach + 3, 2 * reach + 3))
    along = np.linspace(-(length - 1) / 2, (length - 1) / 2, 4 * reach + 1)
    x, y = along * math.cos(math.radians(angle)) + reach + 1, along * math.sin(math.radians(angle)) + reach + 1
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    for dx in (0, 1):
        for dy in (0, 1):  # each point shared out among the four pixels around it
            np.add.at(kernel, (top + dy, left + dx), (1 - abs(x - left - dx)) * (1 - abs(y - top - dy)))
    return (kernel / kernel.sum()).astype(np.float32)


def noisy(sigma: float, rng: np.random.Generator) -> Effect:
    """Gaussian noise, sigma in grey levels, of each colour by itself."""

    def effect(image: np.ndarray, labels: np.ndarray) -> Sample:
        random = np.frombuffer(rng.bytes(image.size), np.uint8).reshape(image.shape)
        bell = (_bell() * sigma).round().clip(-128, 127).astype(np.int8)
        return cv2.add(image, _through(random, bell), dtype=cv2.CV_8U), labels

    return effect


def compressed(quality: int) -> Effect:
    """Written as a JPEG of this quality and read again."""

    def effect(image: np.ndarray, labels: np.ndarray) -> Sample:
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return cv2.cvtColor(cv2.imdecode(encoded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB), labels

    return effect


def erased(box: tuple[float, float, float, float], *, keep_labels: bool) -> Effect:
    """A rectangle painted over in PAD_COLOUR; box: top, left, bottom, right as shares of the sides."""

    def effect(image: np.ndarray, labels: np.ndarray) -> Sample:
        (height, width), (top, left, bottom, right) = image.shape[:2], box
        window = np.s_[..., round(top * height) : round(bottom * height), round(left * width) : round(right * width)]
        image, labels = image.copy(), labels if keep_labels else labels.copy()
        image[window[1:]] = PAD_COLOUR
        if not keep_labels:
            labels[window] = VOID
        return image, labels

    return effect


def _through(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Every value of a uint8 (H, W, 3) looked up in a table of 256; as one plane, which is twice as fast."""
    return cv2.LUT(image.reshape(len(image), -1), table).reshape(image.shape)


@cache
def _bell() -> np.ndarray:
    """256 equally likely values of the standard normal distribution."""
    return np.array([NormalDist().inv_cdf((i + 0.5) / 256) for i in range(256)])
