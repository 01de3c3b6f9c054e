"""The nouns of the house: Region, Coding, Record, Prediction, Instances. Data, the table of records, is in `core/table.py`.

Pixel conventions, everywhere:
- images: uint8 RGB (H, W, 3), EXIF orientation applied
- label maps: uint8 (H, W), values are indices into `Data.classes`; VOID = 255 counts nowhere
- boxes: x0, y0, x1, y1 in pixels, right and bottom exclusive
- polygons: float64 (n, 2), x then y in pixels, the pixel (row 0, column 0) covers 0..1 x 0..1
- run-lengths: COCO's, column-major, the first run counts zeros
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from maskwright.core.errors import DataError

if TYPE_CHECKING:
    import numpy as np

Network = Callable[
    ["np.ndarray"], "np.ndarray"
]  # float32 (1, 3, h, w), 0..255 -> logits float32 (1, C, h, w); thread-safe
# float32 (1, 3, h, w), 0..255 -> what OBJECT_OUTPUTS names, of N objects, boxes in pixels of the input; thread-safe
ObjectNetwork = Callable[["np.ndarray"], "tuple[np.ndarray, ...]"]
OBJECT_OUTPUTS = ("boxes", "labels", "scores", "masks")  # (N, 4), (N,) from 1, (N,), (N, 1, m, m) inside the boxes

VOID = 255
SURE = 0.5  # objects of a higher score are those that a person is shown where no threshold was chosen
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
    others: None, or the class index (or VOID) of every value that is not in `values` (maps of object numbers).
    With `others` None such a value is refused by `imaging.masks.read_label_map`, never guessed.
    """

    values: tuple[int, ...]
    labels: tuple[int, ...]
    colour: bool = False
    threshold: int | None = None
    others: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One image before any pixel is read, with what is drawn on it: regions, or label-map files.

    id: unique within its Data and stable between runs; what split files and tables show.
    image: path of the image file.
    size: height, width of the image as displayed (after EXIF orientation when `upright`).
    upright: apply the image's EXIF orientation (False: the labels fit only the stored pixels).
    label_map, coding: path of the label-map file and how to read it, or None.
    objects: path of a map of object numbers, or None: 0 is no object; the highest value of its depth (255; 65535 with 16
      bits; VOC's void colour where it holds colours) is no object and counts nowhere.
    components: 0, or the least pixels from which a connected piece of one class in the label map is an object; only
      where somebody asked for it.
    split: name of the official list the image is in ("train", "val", "test", ...), or None.
    source: index of the data set it came from, when a recipe names several.
    """

    id: str
    image: str
    size: tuple[int, int]
    regions: tuple[Region, ...] = ()
    label_map: str | None = None
    coding: Coding | None = None
    objects: str | None = None
    components: int = 0
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


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class Instances:
    """What an instance model says of one image: N objects at the image's own size; their masks may overlap.

    labels: int64 (N,), indices into `classes`. scores: float32 (N,), 0..1.
    boxes: float64 (N, 4), x0, y0, x1, y1 in pixels, right and bottom exclusive.
    counts: uint32 run-lengths of each object, column-major, zeros first; () where only boxes are known.
    size: height, width.
    image: where the pixels came from, when that was a file.
    shown: draws it as HTML for a notebook; the Predictor gives it, a copy in another process does not have it.
    """

    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray
    counts: tuple[np.ndarray, ...]
    size: tuple[int, int]
    classes: tuple[str, ...]
    image: str | None = None
    shown: Callable[[Instances], str] | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def only(self, kept: np.ndarray) -> Instances:
        """Some of the objects. kept: bool (N,), or int positions in the order that is wanted."""
        import numpy as np

        positions = np.arange(len(self))[kept]
        counts = tuple(self.counts[index] for index in positions.tolist()) if self.counts else ()
        some = {"labels": self.labels, "scores": self.scores, "boxes": self.boxes}
        return replace(self, **{name: column[positions] for name, column in some.items()}, counts=counts)

    def mask(self, index: int) -> np.ndarray:
        """bool (H, W), the pixels of one object. Raises DataError where only boxes are known."""
        import numpy as np

        if not self.counts:
            raise DataError("only boxes are known of these objects, no masks", place=self.image)
        height, width = self.size
        runs = self.counts[index]
        return np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(width, height).T

    def masks(self) -> np.ndarray:
        """bool (N, H, W). Raises DataError where only boxes are known."""
        import numpy as np

        masks = np.zeros((len(self), *self.size), np.bool_)
        for index in range(len(self)):
            masks[index] = self.mask(index)
        return masks

    def areas(self) -> np.ndarray:
        """float64 (N,), the pixels of each object; of its box where only boxes are known."""
        import numpy as np

        if self.counts or not len(self):
            return np.array([runs[1::2].sum(dtype=np.int64) for runs in self.counts], np.float64)
        return (self.boxes[:, 2:] - self.boxes[:, :2]).clip(min=0).prod(axis=1)

    def __repr__(self) -> str:
        counts: dict[str, int] = {}
        for label in self.labels.tolist():
            counts[self.classes[label]] = counts.get(self.classes[label], 0) + 1
        listed = ", ".join(f"{number} x {name}" for name, number in sorted(counts.items(), key=lambda pair: -pair[1]))
        kind = "" if self.counts or not len(self) else ", boxes only"
        height, width = self.size
        return f"Instances({self.image or 'pixels'}, {height} x {width}{kind}: {listed or 'nothing'})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Instances, (self.labels, self.scores, self.boxes, self.counts, self.size, self.classes, self.image)

    def _repr_html_(self) -> str | None:
        return self.shown(self) if self.shown is not None else None
