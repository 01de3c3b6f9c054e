"""Operations that `augment` may list and that change colours: light and colour at once, then effects in their order.

They are written as those of `place_operations` are.
"""

from __future__ import annotations

import math

import numpy as np

from maskwright.core.errors import RecipeError
from maskwright.training import colour
from maskwright.training.change import Change, Operation
from maskwright.training.operation_ranges import Number, Range, between, both_ways, factor, sometimes


def brightness(*, share: Number = 0.2, chance: float = 1.0) -> Operation:
    """All colours times 1 + share.

    share: largest change to either side, or [least, most].
    chance: share of the samples that are changed.
    """
    return _colour_share("brightness", share, chance)


def contrast(*, share: Number = 0.2, chance: float = 1.0) -> Operation:
    """Distances from mid-grey times 1 + share.

    share: largest change to either side, or [least, most].
    chance: share of the samples that are changed.
    """
    return _colour_share("contrast", share, chance)


def saturation(*, share: Number = 0.3, chance: float = 1.0) -> Operation:
    """Distances from the pixel's own grey times 1 + share.

    share: largest change to either side, or [least, most]; -1 is grey.
    chance: share of the samples that are changed.
    """
    return _colour_share("saturation", share, chance)


def hue(*, degrees: Number = 18.0, chance: float = 1.0) -> Operation:
    """All hues turned by the same angle.

    degrees: largest turn to either side, or [least, most]; 120 carries red into green.
    chance: share of the samples that are changed.
    """
    span = both_ways("hue.degrees", degrees)

    def operation(change: Change, rng: np.random.Generator) -> None:
        change.hue += rng.uniform(*span)

    return sometimes("hue", chance, operation)


def gamma(*, exponent: Range = (0.8, 1.25), chance: float = 1.0) -> Operation:
    """Middle tones darker (exponent above 1) or lighter, black and white kept.

    exponent: least and largest, drawn log-evenly.
    chance: share of the samples that are changed.
    """
    draw = factor("gamma.exponent", exponent)

    def operation(change: Change, rng: np.random.Generator) -> None:
        change.gamma *= draw(rng)

    return sometimes("gamma", chance, operation)


def grey(*, chance: float = 0.1) -> Operation:
    """No colours at all.

    chance: share of the samples that are grey.
    """

    def operation(change: Change, rng: np.random.Generator) -> None:
        change.saturation = -1.0

    return sometimes("grey", chance, operation)


# ------------------------------------------------------------------------------------------------------------- effects


def blur(*, sigma: Range = (0.4, 1.5), chance: float = 0.1) -> Operation:
    """Out of focus: a Gaussian blur.

    sigma: least and largest, pixels.
    chance: share of the samples that are blurred.
    """
    span = between("blur.sigma", sigma, above=0.0, most=50.0)

    def operation(change: Change, rng: np.random.Generator) -> None:
        change.effects.append(colour.blurred(rng.uniform(*span)))

    return sometimes("blur", chance, operation)


def motion_blur(*, length: Range = (3.0, 9.0), chance: float = 0.1) -> Operation:
    """Moved while the shutter was open, in any direction.

    length: least and largest length of the trace, pixels; 1 is none.
    chance: share of the samples that are blurred.
    """
    span = between("motion_blur.length", length, least=1.0, most=99.0)

    def operation(change: Change, rng: np.random.Generator) -> None:
        change.effects.append(colour.motion_blurred(rng.uniform(*span), rng.uniform(0, 180)))

    return sometimes("motion_blur", chance, operation)


def noise(*, sigma: Range = (2.0, 12.0), chance: float = 0.1) -> Operation:
    """Gaussian noise, each colour by itself.

    sigma: least and largest, grey levels of 255.
    chance: share of the samples that get noise.
    """
    span = between("noise.sigma", sigma, most=50.0)

    def operation(change: Change, rng: np.random.Generator) -> None:
        change.effects.append(colour.noisy(rng.uniform(*span), rng))

    return sometimes("noise", chance, operation)


def jpeg(*, quality: tuple[int, int] = (30, 90), chance: float = 0.1) -> Operation:
    """The marks of a JPEG that was saved small.

    quality: least and largest, 1 to 100.
    chance: share of the samples that are compressed.
    """
    low, high = between("jpeg.quality", quality, least=1, most=100)

    def operation(change: Change, rng: np.random.Generator) -> None:
        change.effects.append(colour.compressed(int(rng.integers(round(low), round(high) + 1))))

    return sometimes("jpeg", chance, operation)


def erase(
    *,
    area: Range = (0.02, 0.15),
    ratio: Range = (0.33, 3.0),
    holes: int = 1,
    keep_labels: bool = False,
    chance: float = 0.5,
) -> Operation:
    """Rectangles painted over (Zhong 2017, Random Erasing; DeVries 2017, Cutout). What was under them is not asked for.

    area: least and largest, as a share of the image.
    ratio: least and largest width / height, drawn log-evenly.
    holes: rectangles.
    keep_labels: ask for the classes under them all the same: the network learns to guess from what lies around.
    chance: share of the samples that are painted over.
    """
    span, draw = between("erase.area", area, most=1.0), factor("erase.ratio", ratio)
    if holes < 1:
        raise RecipeError(f"must be 1 or more (got {holes})", place="augment: erase.holes")

    def operation(change: Change, rng: np.random.Generator) -> None:
        for _ in range(holes):
            size, root = rng.uniform(*span), math.sqrt(draw(rng))
            height, width = min(1.0, math.sqrt(size) / root), min(1.0, math.sqrt(size) * root)
            top, left = rng.uniform(0, 1 - height), rng.uniform(0, 1 - width)
            box = (top, left, top + height, left + width)
            change.effects.append(colour.erased(box, keep_labels=keep_labels))

    return sometimes("erase", chance, operation)


def _colour_share(name: str, share: Number, chance: float) -> Operation:
    span = both_ways(f"{name}.share", share, least=-1.0)

    def operation(change: Change, rng: np.random.Generator) -> None:
        change.lighten(**{name: rng.uniform(*span)})

    return sometimes(name, chance, operation)
