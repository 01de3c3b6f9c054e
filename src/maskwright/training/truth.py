"""What a training sample has beside its image: a label map, a mask for each class, or layers of objects.

Label arrays are uint8; the first of them is moved with the image: (h, w) or (planes, h, w).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from maskwright.core.types import Record
from maskwright.imaging import masks
from maskwright.imaging.images import Fitting
from maskwright.tasks import instance, multilabel, semantic

Size = tuple[int, int]
Shapes = tuple[tuple[int, ...], ...]


class Truth(Protocol):
    @property
    def objects(self) -> bool:
        """Whether the second array is a table of what the numbers in the first one are."""

    def shapes(self, size: Size) -> Shapes:
        """Of the arrays of a sample of height and width `size`."""

    def read(self, record: Record, fitting: Fitting | None) -> tuple[np.ndarray, ...]:
        """The arrays of a record, fitted, or at the image's own size."""


@dataclass(frozen=True)
class LabelMaps:
    """One class a pixel: uint8 (h, w), class indices and VOID."""

    objects: bool = False

    def shapes(self, size: Size) -> Shapes:
        return (size,)

    def read(self, record: Record, fitting: Fitting | None) -> tuple[np.ndarray, ...]:
        return (masks.label_map(record) if fitting is None else semantic.encode(record, fitting),)


@dataclass(frozen=True)
class ClassMasks:
    """Classes that may overlap: uint8 (C, h, w) of 0, 1 and VOID. labels: the class index of each mask."""

    labels: Sequence[int]
    objects: bool = False

    def shapes(self, size: Size) -> Shapes:
        return ((len(self.labels), *size),)

    def read(self, record: Record, fitting: Fitting | None) -> tuple[np.ndarray, ...]:
        if fitting is None:
            return (masks.class_masks(record, self.labels),)
        return (multilabel.encode(record, fitting, self.labels),)


@dataclass(frozen=True)
class Layers:
    """Objects: layers uint8 (P, h, w) of their numbers, and a table uint8 (P, 256) of the class of each, from 1.

    Crowds and void pixels have a number of their own, see tasks/instance.py.

    classes: of the data. planes: P, as many as the image with the most objects over each other needs.
    """

    classes: tuple[str, ...]
    planes: int
    objects: bool = True

    def shapes(self, size: Size) -> Shapes:
        return ((self.planes, *size), (self.planes, 256))

    def read(self, record: Record, fitting: Fitting | None) -> tuple[np.ndarray, ...]:
        return instance.encode(record, fitting, self.classes, self.planes)
