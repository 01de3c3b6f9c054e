"""Random changes to training samples as the recipe's `augment` says: a strength, or a list of operations.

Everything random in a sample is drawn into a Change first and then carried out in one warp (`geometry`) and as few passes
over the colours as there can be (`colour`). To add a strength: write a function that returns Ranges, add its name to
AUGMENTS in `__init__.py`; single operations live in `place_operations` and `colour_operations`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from zlib import crc32

import numpy as np

from maskwright.core import events
from maskwright.core.errors import RecipeError
from maskwright.core.recipe import Entry, check_entry
from maskwright.core.registry import Registry, suggestion
from maskwright.training import AUGMENTS, OPERATIONS, colour, geometry
from maskwright.training.change import Change, Operation, Sample
from maskwright.training.geometry import Fit

Wanted = str | Entry | Operation | Sequence[str | Entry]

BLUR_SIGMAS = (0.4, 1.5)  # pixels
NOISE_SIGMAS = (2.0, 12.0)  # grey levels
LIMITS = {  # of the ranges of a strength
    **dict.fromkeys(("flip", "shift", "light", "colour", "blur", "noise"), (0.0, 1.0)),
    "scale": (1.0, 16.0),
    "rotate": (0.0, 180.0),
    "gamma": (0.0, 16.0),
}
_WINDOW = (
    1  # the stream that a list draws the windows of `fit: crop` from; operations have the check sums of their names
)


@dataclass(frozen=True)
class Augmenter:
    """Changes samples at random: (image uint8 RGB (h, w, 3), labels uint8 (h, w) or (planes, h, w), rng) -> the same of `size`.

    swap: uint8 (256,), what each class becomes in a mirrored picture.
    """

    operation: Operation
    size: tuple[int, int]
    fit: Fit
    swap: np.ndarray

    def __call__(self, image: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> Sample:
        image, labels, mirrored = self._moved(image, labels, rng)
        return image, geometry.swap_sides(labels, self.swap) if mirrored else labels

    def objects(
        self, image: np.ndarray, layers: np.ndarray, table: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The same for layers of object numbers uint8 (P, h, w) and their table uint8 (P, 256), the class of each, from 1."""
        used = int(np.flatnonzero(layers.reshape(len(layers), -1).max(axis=1)).max(initial=0)) + 1
        image, moved, mirrored = self._moved(image, layers[:used], rng)
        if used == len(layers):
            layers = moved
        else:  # empty layers have nothing to move: most samples need fewer than the fullest does
            layers = np.zeros((len(layers), *moved.shape[1:]), np.uint8)
            layers[:used] = moved
        if mirrored:
            table = np.where(table > 0, self.swap[table - 1] + 1, 0).astype(np.uint8)
        return image, layers, table

    def _moved(
        self, image: np.ndarray, labels: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray, bool]:
        """Image and labels as they were moved and coloured, and whether left and right changed places."""
        change = Change()
        self.operation(change, rng)
        place = geometry.place(change, image.shape[:2], self.size, self.fit)
        image, labels = geometry.warp(image, labels, place, self.size)
        image = colour.recolour(image, change)
        for effect in change.effects:
            image, labels = effect(image, labels)
        return image, labels, place.flipped


def augmenter(
    wanted: Wanted, size: tuple[int, int], *, flip_pairs: Sequence[tuple[int, int]] = (), fit: Fit = "squash"
) -> Augmenter:
    """What changes samples to windows of `size` (H, W); everything random is drawn from `rng`.

    wanted: a recipe's `augment`: an entry of AUGMENTS or OPERATIONS, or a list of them; or an operation already made.
    flip_pairs: class indices that change places when the picture is mirrored.
    fit: `squash` and `pad` take samples that were fitted to `size` already (others are stretched to it); `crop` takes
      samples at a resolution of their own and cuts a random window out of them, padded where the sample is smaller.

    Raises RecipeError for what `check` refuses.
    """
    if fit == "crop" and "shift" in _names(wanted):
        events.warn("augment: `shift` does nothing with `fit: crop`, whose windows lie at random anyway")
    return Augmenter(made(wanted), size, fit, geometry.swap_table(flip_pairs))


def check(wanted: Wanted) -> None:
    """Holds a recipe's `augment` against the shelves. Raises RecipeError for an unknown name, option, or value."""
    made(wanted)


def made(wanted: Wanted) -> Operation:
    """What `augmenter` is told, as one operation."""
    if isinstance(wanted, str | Entry):
        entry = Entry(name=wanted) if isinstance(wanted, str) else wanted
        operation = _made(entry, "augment")
        return operation if entry.name in AUGMENTS else _together([entry.name], [operation])
    if callable(wanted):
        return wanted
    entries = [Entry(name=entry) if isinstance(entry, str) else entry for entry in wanted]
    operations = [_made(entry, f"augment.{number}") for number, entry in enumerate(entries)]
    return _together([entry.name for entry in entries], operations)


def _made(entry: Entry, place: str) -> Operation:
    check_entry(shelf(entry.name, place), entry, place=place)
    operation: Operation = shelf(entry.name, place)[entry.name](**entry.options)
    return operation


def shelf(name: str, place: str = "augment") -> Registry:
    """The table that a name in `augment` is of. Raises RecipeError for one that is in neither."""
    if name not in AUGMENTS and name not in OPERATIONS:
        hint = suggestion(name, [*AUGMENTS, *OPERATIONS])
        raise RecipeError(f"no augmentation is called `{name}`", place=place, hint=hint)
    return AUGMENTS if name in AUGMENTS else OPERATIONS


def _together(names: Sequence[str], operations: Sequence[Operation]) -> Operation:
    """Operations one after another, each with random numbers that depend on its name alone (and which one of it it is)."""
    seen: Counter[str] = Counter()
    streams = []
    for name in names:
        streams.append((crc32(name.encode()), seen[name]))
        seen[name] += 1

    def operation(change: Change, rng: np.random.Generator) -> None:
        key = int(rng.integers(2**63))
        across, down = np.random.default_rng((key, _WINDOW)).random(2).tolist()
        for stream, one in zip(streams, operations, strict=True):
            one(change, np.random.default_rng((key, *stream)))
        change.window = (across, down)

    return operation


def _names(wanted: Wanted) -> list[str]:
    if isinstance(wanted, str | Entry):
        return [wanted if isinstance(wanted, str) else wanted.name]
    return [] if callable(wanted) else [name for entry in wanted for name in _names(entry)]


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """An operation of nine kinds of change at once: how far each may go; 0 (for `scale` 1) switches one off.

    The functions below say what each means.
    """

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
            least, most = LIMITS[name]
            if not least <= value <= most:
                off = "1 (no zoom)" if name == "scale" else "0 (off)"
                raise RecipeError(f"`{name}` is {value} and goes from {off} to {most:g}", place="augment")

    def __call__(self, change: Change, rng: np.random.Generator) -> None:
        """Always five draws and then eight, so that an option does not change what another one draws."""
        mirror, zoom, turn, right, down = rng.random(5).tolist()
        change.flip ^= mirror < self.flip
        scale = self.scale ** (2 * zoom - 1)
        change.zoom_x, change.zoom_y = change.zoom_x * scale, change.zoom_y * scale
        change.turn += self.rotate * (2 * turn - 1)
        change.right, change.down = (
            change.right + self.shift * (2 * right - 1),
            change.down + self.shift * (2 * down - 1),
        )
        change.window = (right, down)
        *draws, blurs, noises, strength = rng.random(8).tolist()
        brightness, contrast, saturation, hue, bend = (2 * draw - 1 for draw in draws)
        change.lighten(self.light * brightness, self.light * contrast, self.colour * saturation)
        change.hue += 60 * (self.colour * hue)
        change.gamma *= (1 + self.gamma) ** bend
        if blurs < self.blur:
            change.effects.append(colour.blurred(_between(BLUR_SIGMAS, strength)))
        if noises < self.noise:
            change.effects.append(colour.noisy(_between(NOISE_SIGMAS, strength), rng))


def _between(range: tuple[float, float], draw: float) -> float:
    return range[0] + draw * (range[1] - range[0])


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
