"""Operations that `augment` may list and that move pixels. To add one: write its function, add its name to OPERATIONS.

Such a function takes its options, refuses those that make no sense, and returns an operation (change, rng) that turns
some fields of a Change. Each operation draws from a stream of its own: another one beside it changes nothing of it.
"""

from __future__ import annotations

import math

import numpy as np

from maskwright.training.change import Change, Operation
from maskwright.training.operation_ranges import Number, Range, both_ways, factor, not_negative, sometimes

STEEPEST = 0.45  # how much nearer or farther a side may come


def flip(*, chance: float = 0.5) -> Operation:
    """Left and right change places; class pairs such as left_door and right_door with them.

    chance: share of the samples that are flipped.
    """

    def operation(change: Change, rng: np.random.Generator) -> None:
        change.flip ^= True

    return sometimes("flip", chance, operation)


def flip_vertical(*, chance: float = 0.5) -> Operation:
    """Top and bottom change places, as in pictures taken from above; a mirror too, so that class pairs are swapped.

    chance: share of the samples that are flipped.
    """

    def operation(change: Change, rng: np.random.Generator) -> None:
        change.flip ^= True
        change.quarters += 2

    return sometimes("flip_vertical", chance, operation)


def quarter_turn(*, chance: float = 0.75) -> Operation:
    """A turn by 90, 180 or 270 degrees, for pictures without an up.

    chance: share of the samples that are turned.
    """

    def operation(change: Change, rng: np.random.Generator) -> None:
        change.quarters += int(rng.integers(1, 4))

    return sometimes("quarter_turn", chance, operation)


def rotate(*, degrees: Number = 10.0, chance: float = 1.0) -> Operation:
    """A turn about the middle.

    degrees: largest turn to either side, or [least, most].
    chance: share of the samples that are turned.
    """
    span = both_ways("rotate.degrees", degrees)

    def operation(change: Change, rng: np.random.Generator) -> None:
        change.turn += rng.uniform(*span)

    return sometimes("rotate", chance, operation)


def zoom(*, scale: Range = (0.8, 1.25), even: bool = False, chance: float = 1.0) -> Operation:
    """Nearer or farther.

    scale: least and largest factor, as [0.5, 2].
    even: draw the factor evenly; else log-evenly, so that halving is as likely as doubling.
    chance: share of the samples that are zoomed.
    """
    draw = factor("zoom.scale", scale, even)

    def operation(change: Change, rng: np.random.Generator) -> None:
        scaled = draw(rng)
        change.zoom_x *= scaled
        change.zoom_y *= scaled

    return sometimes("zoom", chance, operation)


def stretch(*, ratio: Range = (0.8, 1.25), chance: float = 1.0) -> Operation:
    """Wider or taller, the area kept.

    ratio: least and largest factor of width / height, drawn log-evenly.
    chance: share of the samples that are stretched.
    """
    draw = factor("stretch.ratio", ratio)

    def operation(change: Change, rng: np.random.Generator) -> None:
        root = math.sqrt(draw(rng))
        change.zoom_x *= root
        change.zoom_y /= root

    return sometimes("stretch", chance, operation)


def shift(*, share: Number = 0.1, chance: float = 1.0) -> Operation:
    """Away from the middle, to any side. Windows of `fit: crop` lie at random anyway, and there it does nothing.

    share: largest shift as a share of the side, or [least, most] to the right and down.
    chance: share of the samples that are shifted.
    """
    span = both_ways("shift.share", share, most=1)

    def operation(change: Change, rng: np.random.Generator) -> None:
        right, down = rng.uniform(*span, 2).tolist()
        change.right += right
        change.down += down

    return sometimes("shift", chance, operation)


def shear(*, degrees: Number = 10.0, chance: float = 1.0) -> Operation:
    """Uprights lean.

    degrees: largest lean to either side, or [least, most].
    chance: share of the samples that are sheared.
    """
    span = both_ways("shear.degrees", degrees, most=80)

    def operation(change: Change, rng: np.random.Generator) -> None:
        change.shear += math.tan(math.radians(rng.uniform(*span)))

    return sometimes("shear", chance, operation)


def perspective(*, share: float = 0.15, chance: float = 1.0) -> Operation:
    """Seen at a slant: one side nearer, the other farther.

    share: how much nearer or farther a side may come, 0 to 0.45.
    chance: share of the samples that are tilted.
    """
    span = both_ways("perspective.share", not_negative("perspective.share", share), most=STEEPEST)

    def operation(change: Change, rng: np.random.Generator) -> None:
        right, down = rng.uniform(*span, 2).tolist()
        change.tilt_x = min(max(change.tilt_x + right, -STEEPEST), STEEPEST)
        change.tilt_y = min(max(change.tilt_y + down, -STEEPEST), STEEPEST)

    return sometimes("perspective", chance, operation)
