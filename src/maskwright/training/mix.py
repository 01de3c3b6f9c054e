"""Training samples made of two: parts of another sample pasted in, or both seen through each other. See the recipe's `mix`.

To add one: write a function (class names, *, options) that returns a Mix, add its name to MIXES in `__init__.py`. Samples
come augmented, at the network's size: image uint8 RGB (H, W, 3), labels uint8 (H, W) or (C, H, W); of objects layers of
their numbers uint8 (P, H, W) and a table uint8 (P, 256), see tasks/instance.py.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import cv2
import numpy as np
from torch import Tensor

from maskwright.core.errors import RecipeError
from maskwright.core.recipe import Entry, check_entry
from maskwright.core.registry import suggestion
from maskwright.core.types import BACKGROUND
from maskwright.tasks.instance import MOST
from maskwright.training import MIXES

if TYPE_CHECKING:
    from maskwright.training.batch import Batch

SOFTEST = 50.0  # pixels
FEW = 24  # objects of a layer that are faster looked for one by one than counted pixel by pixel
Parts = tuple[np.ndarray, ...]  # a sample: image and labels; or image, layers and table
Paste = Callable[[Parts, Parts, np.random.Generator], Parts]
Criterion = Callable[[Tensor, Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Mix:
    """One way to make a sample of two: either `paste`, for each sample, or `share`, for a whole batch.

    chance: share of the samples (of the batches) that are mixed.
    paste: (sample, another, rng) -> the sample with parts of the other.
    objects: the same for samples of objects; None: it has no sense for them.
    share: rng -> what the first image weighs, 0..1, where both are seen through each other; the loss is weighed likewise.
    """

    chance: float
    paste: Paste | None = None
    share: Callable[[np.random.Generator], float] | None = None
    objects: Paste | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.chance <= 1:
            raise RecipeError(f"must be from 0 to 1 (got {self.chance})", place="mix: chance")


def mixup(names: Sequence[str], *, chance: float = 0.5, concentration: float = 0.2) -> Mix:
    """Two images seen through each other, the loss weighed by the same shares (Zhang 2018). One share for each batch.

    chance: share of the batches that are mixed.
    concentration: of the Beta distribution of the shares; 1: all equally likely, lower: mostly one of the two.
    """
    _above_zero("mixup.concentration", concentration)
    return Mix(chance, share=lambda rng: float(rng.beta(concentration, concentration)))


def cutmix(names: Sequence[str], *, chance: float = 0.5, concentration: float = 1.0) -> Mix:
    """A rectangle of another sample, its labels with it (Yun 2019).

    chance: share of the samples that get one.
    concentration: of the Beta distribution of the share of the area that stays; 1: all equally likely.
    """
    _above_zero("cutmix.concentration", concentration)

    def paste(sample: Parts, other: Parts, rng: np.random.Generator) -> Parts:
        (height, width), side = sample[0].shape[:2], np.sqrt(1 - rng.beta(concentration, concentration))
        middle_y, middle_x = rng.random(2) * (height, width)
        top, left = max(0, round(middle_y - side * height / 2)), max(0, round(middle_x - side * width / 2))
        bottom, right = round(middle_y + side * height / 2), round(middle_x + side * width / 2)
        image, labels = sample[0].copy(), sample[1].copy()
        image[top:bottom, left:right] = other[0][top:bottom, left:right]
        labels[..., top:bottom, left:right] = other[1][..., top:bottom, left:right]
        return image, labels

    return Mix(chance, paste)


def copy_paste(
    names: Sequence[str], *, chance: float = 0.5, classes: list[str] | None = None, blend: float = 1.0
) -> Mix:
    """Objects of another sample laid over: about half of them (Ghiasi 2021); of label maps all pixels of half the classes.

    Void pixels and crowds of the other sample stay behind; those below what is pasted become known. Objects below lose the
    pixels that are covered; one without any left is gone.

    chance: share of the samples that get some.
    classes: that may be pasted; left out: all but the background.
    blend: how soft the edges of what is pasted are, sigma in pixels; 0: sharp.
    """
    for name in classes or ():
        if names and name not in names:
            raise RecipeError(
                f"no class is called `{name}`", place="mix: copy_paste.classes", hint=suggestion(name, names)
            )
    if not 0 <= blend <= SOFTEST:
        raise RecipeError(f"must be 0 (sharp) to {SOFTEST:g} (got {blend})", place="mix: copy_paste.blend")
    wanted = [i for i, name in enumerate(names) if (name != BACKGROUND if classes is None else name in classes)]
    if names and not wanted:
        raise RecipeError("there is no class that could be pasted", place="mix: copy_paste")

    def paste(sample: Parts, other: Parts, rng: np.random.Generator) -> Parts:
        draws = rng.random(len(wanted)).tolist()  # always as many, whatever the picture shows
        seen = [(draw, index) for draw, index in zip(draws, wanted, strict=True) if _shows(other[1], index)]
        if not seen:
            return sample
        mask = _covered(other[1], [index for draw, index in seen if draw < 0.5] or [min(seen)[1]])
        return _laid(sample[0], other[0], mask, blend), np.where(mask != 0, other[1], sample[1])

    pasteable = np.isin(np.arange(256), [index + 1 for index in wanted])
    return Mix(chance, paste, objects=partial(_objects_laid, pasteable=pasteable, blend=blend))


# ---------------------------------------------------------------------------------------------------- all of a recipe


@dataclass(frozen=True)
class Mixer:
    """The mixes of a recipe, each with random numbers of its own: pastes one after another, and at last the mixup."""

    pastes: tuple[tuple[tuple[int, int], Mix], ...]
    blend: Mix | None

    def paste(self, sample: Parts, key: tuple[int, ...], partner: Callable[[np.random.Generator], Parts]) -> Parts:
        """The sample with what is pasted into it; key: of its random numbers; partner: rng -> another sample."""
        for stream, mix in self.pastes:
            rng = np.random.default_rng((*key, *stream))
            if rng.random() < mix.chance:
                paste = mix.paste if len(sample) == 2 else mix.objects
                assert paste is not None
                sample = paste(sample, partner(rng), rng)
        return sample

    def share(self, key: tuple[int, ...]) -> float:
        """What the first images of a batch weigh; 1 where none is mixed."""
        if self.blend is None or self.blend.share is None:
            return 1.0
        rng = np.random.default_rng(key)
        return self.blend.share(rng) if rng.random() < self.blend.chance else 1.0


def mixer(entries: Sequence[Entry], classes: Sequence[str] = ()) -> Mixer | None:
    """What a recipe's `mix` says, None for nothing. classes: names, in the order of their indices.

    Raises RecipeError for an unknown mix, option or class, and for two mixes that both blend whole images.
    """
    pastes: list[tuple[tuple[int, int], Mix]] = []
    blend: Mix | None = None
    seen: Counter[str] = Counter()
    for number, entry in enumerate(entries):
        check_entry(MIXES, entry, place=f"mix.{number}")
        mix: Mix = MIXES[entry.name](tuple(classes), **entry.options)
        if mix.paste is not None:
            pastes.append(((crc32(entry.name.encode()), seen[entry.name]), mix))
        elif blend is not None:
            raise RecipeError(
                "whole images can be mixed once only", place=f"mix.{number}", hint="leave out one of them"
            )
        else:
            blend = mix
        seen[entry.name] += 1
    return Mixer(tuple(pastes), blend) if entries else None


def check(entries: Sequence[Entry]) -> None:
    """Holds a recipe's `mix` against its shelf; the names of classes are held against the data by `mixer`."""
    mixer(entries)


# ------------------------------------------------------------------------------------------------------ two truths


class Two(NamedTuple):
    """The targets of a mixed batch: of the images that weigh `share`, and of those that weigh the rest."""

    first: Tensor
    second: Tensor
    share: float


def targets(batch: Batch, move: Callable[[Tensor], Tensor]) -> Tensor | Two:
    """A batch's targets as the segmenter takes them; move: brings a tensor to the device."""
    first = move(batch.targets)
    return first if batch.others is None else Two(first, move(batch.others), batch.share)


def criterion(plain: Criterion) -> Callable[[Tensor, Tensor | Two], dict[str, Tensor]]:
    """A criterion that takes Two as well: share * loss(first) + (1 - share) * loss(second), each loss by its name."""

    def weighed(logits: Tensor, targets: Tensor | Two) -> dict[str, Tensor]:
        if isinstance(targets, Tensor):
            return plain(logits, targets)
        first, second = plain(logits, targets.first), plain(logits, targets.second)
        return {name: targets.share * value + (1 - targets.share) * second[name] for name, value in first.items()}

    return weighed


def blended(image: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """Two images uint8 (H, W, 3) seen through each other."""
    return cv2.addWeighted(image, share, other, 1 - share, 0)


def _shows(labels: np.ndarray, index: int) -> bool:
    return bool((labels == index).any() if labels.ndim == 2 else (labels[index] == 1).any())


def _covered(labels: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
    """uint8 (H, W): 255 where one of the classes is."""
    if labels.ndim == 2:
        table = np.zeros(256, np.uint8)
        table[list(chosen)] = 255
        return cv2.LUT(labels, table)
    return (labels[list(chosen)] == 1).any(axis=0).astype(np.uint8) * 255


def _laid(image: np.ndarray, other: np.ndarray, mask: np.ndarray, blend: float) -> np.ndarray:
    """The image with the other one where the mask uint8 (H, W) is 255; blend: how soft the edge is, sigma in pixels."""
    if not blend:
        cover = cv2.merge([mask] * 3)
        return image & ~cover | other & cover
    soft, laid = cv2.GaussianBlur(mask, (0, 0), blend), image.copy()
    left, top, width, height = cv2.boundingRect(soft)  # floats are slow: nothing changes elsewhere
    window = slice(top, top + height), slice(left, left + width)
    share = soft[window][..., None].astype(np.float32) / 255
    laid[window] = np.rint(image[window] + share * (other[window].astype(np.float32) - image[window]))
    return laid


def _objects_laid(
    sample: Parts, other: Parts, rng: np.random.Generator, *, pasteable: np.ndarray, blend: float
) -> Parts:
    """A sample with objects of another one. pasteable: bool (256,), of each class, from 1."""
    (image, layers, table), (picture, others, kinds) = sample, other
    draws = rng.random(kinds.shape)  # always as many, whatever the picture shows
    seen = pasteable[kinds] & _shown(others, kinds)
    least = draws[seen].min(initial=1.0)
    chosen = seen & ((draws < 0.5) | (draws == least))
    pasted, added = _moved_in(others, np.where(chosen, kinds, 0), _shown(layers, table))
    _, mask = cv2.threshold(np.bitwise_or.reduce(pasted), 0, 255, cv2.THRESH_BINARY)
    if not mask.any():
        return sample
    layers = layers & ~mask | pasted
    table = np.where(added, added, table)
    table = np.where(_shown(layers, table), table, 0)
    return _laid(image, picture, mask, blend), layers, table


def _shown(layers: np.ndarray, table: np.ndarray) -> np.ndarray:
    """bool (P, 256): which objects of layers uint8 (P, H, W) and their table uint8 (P, 256) have pixels."""
    shown = np.zeros(table.shape, np.bool_)
    for layer, classes, seen in zip(layers, table, shown, strict=True):
        numbers = np.flatnonzero(classes)
        if len(numbers) > FEW:
            seen[numbers] = cv2.calcHist([layer], [0], None, [256], [0, 256]).ravel()[numbers] > 0
        else:
            seen[numbers] = [(layer == number).any() for number in numbers.tolist()]
    return shown


def _moved_in(layers: np.ndarray, kinds: np.ndarray, taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Objects under numbers that are free: layers uint8 (P, H, W) of them alone, and their classes uint8 (P, 256).

    Each goes into the layer that it comes from, and where that has no number left into the next with one where it covers
    no other; where there is none it is left out.

    kinds: (P, 256), the class of each number that is to be moved, else 0. taken: bool (P, 256), numbers that are not free.
    """
    free = [np.flatnonzero(~used[1 : MOST + 1]) + 1 for used in taken]
    moved, added = np.zeros_like(layers), np.zeros_like(kinds)
    waiting: list[tuple[int, int]] = []
    for plane, classes in enumerate(kinds):
        numbers = np.flatnonzero(classes)
        room, names = len(free[plane]), np.zeros(256, np.uint8)
        names[numbers[:room]] = free[plane][: len(numbers)]
        added[plane, names[numbers[:room]]] = classes[numbers[:room]]
        moved[plane] = cv2.LUT(layers[plane], names)
        free[plane] = free[plane][len(numbers) :]
        waiting += [(plane, number) for number in numbers[room:].tolist()]
    for plane, number in waiting:
        mask = layers[plane] == number
        for place in np.roll(np.arange(len(layers)), -plane)[1:].tolist():
            if len(free[place]) and not moved[place][mask].any():
                moved[place][mask], added[place, free[place][0]] = free[place][0], kinds[plane, number]
                free[place] = free[place][1:]
                break
    return moved, added


def _above_zero(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise RecipeError(f"must be above 0 and finite (got {value})", place=f"mix: {name}")
