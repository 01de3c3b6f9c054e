"""The nouns of the house: Region, Coding, Record, Prediction. Data, the table that holds records, is in `core/table.py`.

Pixel conventions, everywhere:
- images: uint8 RGB (H, W, 3), EXIF orientation applied
- label maps: uint8 (H, W), values are indices into `Data.classes`; VOID = 255 counts nowhere
- boxes: x0, y0, x1, y1 in pixels, right and bottom exclusive
- polygons: float64 (n, 2), x then y in pixels, the pixel (row 0, column 0) covers 0..1 x 0..1
- run-lengths: COCO's, column-major, the first run counts zeros
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

Network = Callable[
    ["np.ndarray"], "np.ndarray"
]  # float32 (1, 3, h, w), 0..255 -> logits float32 (1, C, h, w); thread-safe

VOID = 255
MAX_CLASSES = 255
BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class Region:
    """One drawn object of one image.

    label: index into `Data.classes`.
    polygons: float64 (n, 2) each; several parts are one object (their union). Empty when `counts` is given.
    counts: uint32 run-lengths, column-major, zeros first, summing to H * W; None when polygons are given.
    crowd: a group that was not drawn one by one (COCO `iscrowd`).
    id: the annotation's own number in the source, -1 where it has none.
    """

    label: int
    polygons: tuple[np.ndarray, ...] = ()
    counts: np.ndarray | None = None
    crowd: bool = False
    id: int = -1
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Coding:
    """How the values stored in a label-map file become class indices.

    values: the stored values, ascending: grey or palette indices, or r << 16 | g << 8 | b when `colour`.
    labels: as long as `values`; the class index (or VOID) of each value.
    colour: the file is read as RGB instead of as indices.
    threshold: None, or a grey level: pixels at or above it read as 255, all others as 0, before the table is used.
    A stored value that is not in `values` is refused by `imaging.masks.read_label_map`, never guessed.
    """

    values: tuple[int, ...]
    labels: tuple[int, ...]
    colour: bool = False
    threshold: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One image before any pixel is read, with what is drawn on it: regions, or a label-map file.

    id: unique within its Data and stable between runs; what split files and tables show.
    image: path of the image file.
    size: height, width of the image as displayed (after EXIF orientation when `upright`).
    upright: apply the image's EXIF orientation (False: the labels fit only the stored pixels).
    label_map, coding: path of the label-map file and how to read it, or None.
    split: name of the official list the image is in ("train", "val", "test", ...), or None.
    source: index of the data set it came from, when a recipe names several.
    """

    id: str
    image: str
    size: tuple[int, int]
    regions: tuple[Region, ...] = ()
    label_map: str | None = None
    coding: Coding | None = None
    split: str | None = None
    upright: bool = True
    source: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a semantic model says of one image, at the image's own size.

    label_map: uint8 (H, W), indices into `classes`.
    classes: names, in index order.
    confidence: float32 (C,), mean probability of each class over the pixels it won, at network resolution; 0 where it won none.
    masks: bool (C, H, W), the pixels of each class, where classes may overlap (then the label map shows small masks over
      large ones, VOID where there is none); else None.
    image: where the pixels came from, when that was a file.
    shown: draws it as HTML for a notebook; the Predictor gives it, a copy in another process does not have it.
    """

    label_map: np.ndarray
    classes: tuple[str, ...]
    confidence: np.ndarray
    image: str | None = None
    masks: np.ndarray | None = field(default=None, compare=False)
    shown: Callable[[Prediction], str] | None = field(default=None, compare=False)

    def areas(self) -> list[int]:
        """How many pixels each class has."""
        masks = self.masks
        covers = (self.label_map == index if masks is None else masks[index] for index in range(len(self.classes)))
        return [int(cover.sum()) for cover in covers]

    def shares(self) -> tuple[tuple[str, ...], list[float]]:
        """The classes and the share of the pixels that each has, 0..1."""
        return self.classes, [count / max(self.label_map.size, 1) for count in self.areas()]

    def __repr__(self) -> str:
        found = sorted(zip(self.shares()[1], self.classes), key=lambda pair: -pair[0])
        listed = ", ".join(f"{name} {100 * share:.1f} %" for share, name in found if share)
        height, width = self.label_map.shape
        return f"Prediction({self.image or 'pixels'}, {height} x {width}: {listed})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Prediction, (self.label_map, self.classes, self.confidence, self.image, self.masks)

    def _repr_html_(self) -> str | None:
        return self.shown(self) if self.shown is not None else None
