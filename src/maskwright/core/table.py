"""Data: class names and a sequence of Records, packed into flat arrays.

The arrays hold no Python objects, so 118,000 images with 860,000 polygons stay below 1 GB, and worker processes share
them through copy-on-write memory that is never written. Records are made on demand. A Data is never changed: the
functions of `data/edit.py` return new ones that share the arrays which did not change.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np

from maskwright.core.types import BACKGROUND, MAX_CLASSES, Coding, Record, Region

DROPPED = -1  # label of a region whose class was dropped: records do not show it
_POLYGONS, _RUNS = 0, 1


@dataclass(frozen=True)
class Strings(Sequence[str]):
    """Many strings in one byte buffer."""

    buffer: np.ndarray  # uint8
    starts: np.ndarray  # int64 (N + 1,)

    @classmethod
    def pack(cls, strings: Iterable[str]) -> Strings:
        encoded = [s.encode(errors="surrogatepass") for s in strings]  # file names may hold what is not Unicode
        starts = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(e) for e in encoded], out=starts[1:])
        return cls(np.frombuffer(b"".join(encoded), np.uint8), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index = int(index) % len(self)
        return self.buffer[self.starts[index] : self.starts[index + 1]].tobytes().decode(errors="surrogatepass")

    def take(self, indices: np.ndarray) -> Strings:
        sizes = np.diff(self.starts)[indices]
        starts = np.concatenate([[0], np.cumsum(sizes)])
        return Strings(
            self.buffer[np.arange(starts[-1]) + np.repeat(self.starts[:-1][indices] - starts[:-1], sizes)], starts
        )


@dataclass(frozen=True)
class SparseStrings(Mapping[int, str]):
    """Strings for a few of many numbers, without a Python object for each."""

    numbers: np.ndarray  # int64 (K,), ascending
    strings: Strings  # K

    @classmethod
    def pack(cls, strings: Mapping[int, str]) -> SparseStrings:
        numbers = sorted(strings)
        return cls(np.array(numbers, np.int64), Strings.pack(strings[n] for n in numbers))

    def __getitem__(self, number: int) -> str:
        at = int(np.searchsorted(self.numbers, number))
        if at == len(self.numbers) or self.numbers[at] != number:
            raise KeyError(number)
        return cast(str, self.strings[at])

    def __iter__(self) -> Iterator[int]:
        return iter(self.numbers.tolist())

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True)
class Regions:
    """The regions of all images, image after image; columns of length M, parts of length P."""

    label: np.ndarray  # int16 (M,), DROPPED = not shown
    crowd: np.ndarray  # bool (M,)
    id: np.ndarray  # int64 (M,)
    kind: np.ndarray  # uint8 (M,), polygons or run-lengths
    first_part: np.ndarray  # int64 (M,)
    num_parts: np.ndarray  # int32 (M,)
    part_start: np.ndarray  # int64 (P,), into `coordinates` or `counts`, by the region's kind
    part_stop: np.ndarray  # int64 (P,)
    coordinates: np.ndarray  # float64, x0 y0 x1 y1 ...
    counts: np.ndarray  # uint32
    attributes: Mapping[int, str]  # region number -> JSON; only the regions that have some

    def __len__(self) -> int:
        return len(self.label)

    def region(self, index: int) -> Region:
        parts = range(self.first_part[index], self.first_part[index] + self.num_parts[index])
        spans = [slice(self.part_start[p], self.part_stop[p]) for p in parts]
        runs = self.kind[index] == _RUNS
        return Region(
            label=int(self.label[index]),
            polygons=() if runs else tuple(self.coordinates[s].reshape(-1, 2) for s in spans),
            counts=self.counts[spans[0]] if runs else None,
            crowd=bool(self.crowd[index]),
            id=int(self.id[index]),
            attributes=json.loads(self.attributes.get(index, "{}")) if self.attributes else {},
        )


@dataclass(frozen=True)
class Data(Sequence[Record]):
    """Labelled images: `classes` and packed Records; `data[i]` makes the i-th Record."""

    classes: tuple[str, ...]
    ids: Strings
    images: Strings
    label_maps: Strings  # "" = none
    objects: Strings  # "" = none
    attributes: Strings  # JSON, "" = none
    sizes: np.ndarray  # int32 (N, 2), height and width
    split: np.ndarray  # int16 (N,), index into split_names, -1 = in no list
    split_names: tuple[str, ...]
    coding: np.ndarray  # int32 (N,), index into codings, -1 = none
    codings: tuple[Coding, ...]
    components: np.ndarray  # int32 (N,), least pixels of a piece, 0 = pieces are no objects
    upright: np.ndarray  # bool (N,)
    source: np.ndarray  # int16 (N,)
    first_region: np.ndarray  # int64 (N,)
    num_regions: np.ndarray  # int32 (N,)
    regions: Regions

    def __post_init__(self) -> None:
        assert len(self.classes) <= MAX_CLASSES
        assert BACKGROUND not in self.classes[1:]

    @property
    def has_background(self) -> bool:
        """True when class 0 is what nobody drew (polygon formats) or a stored background."""
        return bool(self.classes) and self.classes[0] == BACKGROUND

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.select(np.arange(len(self))[index])
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        i = int(index) % len(self)
        numbers = range(self.first_region[i], self.first_region[i] + self.num_regions[i])
        return Record(
            id=self.ids[i],
            image=self.images[i],
            size=(int(self.sizes[i, 0]), int(self.sizes[i, 1])),
            regions=tuple(self.regions.region(n) for n in numbers if self.regions.label[n] != DROPPED),
            label_map=self.label_maps[i] or None,
            coding=None if self.coding[i] < 0 else self.codings[self.coding[i]],
            objects=self.objects[i] or None,
            components=int(self.components[i]),
            split=None if self.split[i] < 0 else self.split_names[self.split[i]],
            upright=bool(self.upright[i]),
            source=int(self.source[i]),
            attributes=json.loads(self.attributes[i] or "{}"),
        )

    def __iter__(self) -> Iterator[Record]:
        return (self[i] for i in range(len(self)))

    def select(self, indices: np.ndarray | Sequence[int]) -> Data:
        """The images at these positions, in this order; the region arrays are shared, not copied."""
        i = np.asarray(indices, np.int64)
        texts = ("ids", "images", "label_maps", "objects", "attributes")
        strings = {name: getattr(self, name).take(i) for name in texts}
        columns = ("sizes", "split", "coding", "components", "upright", "source", "first_region", "num_regions")
        return replace(self, **strings, **{name: getattr(self, name)[i] for name in columns})

    def region_numbers(self) -> tuple[np.ndarray, np.ndarray]:
        """Image position and region number of every region of these images, dropped ones included: int64 (M,) each."""
        images = np.repeat(np.arange(len(self)), self.num_regions)
        within = np.arange(len(images)) - np.repeat(np.cumsum(self.num_regions) - self.num_regions, self.num_regions)
        return images, self.first_region[images] + within


class Packer:
    """Collects images and their regions one by one and packs them into a Data.

    Call `image(...)`, then `region(...)` for each object of that image, and at the end, once, `pack(classes)`. Objects
    that come in no order of images name theirs: `region(..., image=position)`; each image keeps its objects' order.
    """

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._images: list[str] = []
        self._label_maps: list[str] = []
        self._objects: list[str] = []
        self._attributes: list[str] = []
        self._columns: dict[str, array[int]] = {
            name: array("q") for name in ("height", "width", "split", "coding", "components", "upright", "source")
        }
        self._split_names: dict[str, int] = {}
        self._codings: dict[Coding, int] = {}
        self._region_image = array("q")
        self._label, self._crowd, self._region_id, self._kind = array("h"), array("b"), array("q"), array("b")
        self._first_part, self._num_parts = array("q"), array("i")
        self._part_start, self._part_stop = array("q"), array("q")
        self._coordinates, self._counts = array("d"), array("I")
        self._region_attributes: dict[int, str] = {}

    def image(
        self,
        id: str,
        path: str,
        size: tuple[int, int],
        *,
        label_map: str | None = None,
        coding: Coding | None = None,
        objects: str | None = None,
        components: int = 0,
        split: str | None = None,
        upright: bool = True,
        source: int = 0,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Starts the next image; the arguments are those of Record."""
        self._ids.append(id)
        self._images.append(path)
        self._label_maps.append(label_map or "")
        self._objects.append(objects or "")
        self._attributes.append(json.dumps(dict(attributes)) if attributes else "")
        split_number = -1 if split is None else self._split_names.setdefault(split, len(self._split_names))
        coding_number = -1 if coding is None else self._codings.setdefault(coding, len(self._codings))
        row = (size[0], size[1], split_number, coding_number, components, upright, source)
        for column, value in zip(self._columns.values(), row, strict=True):
            column.append(value)

    def region(
        self,
        label: int,
        *,
        polygons: Iterable[Sequence[float] | np.ndarray] = (),
        counts: Sequence[int] | np.ndarray | None = None,
        crowd: bool = False,
        id: int = -1,
        attributes: Mapping[str, Any] | None = None,
        image: int | None = None,
    ) -> None:
        """Adds an object to an image: the one at position `image`, or the one started last.

        polygons: flat x0, y0, x1, y1, ... each; or counts: run-lengths.
        """
        self._region_image.append(len(self._ids) - 1 if image is None else image)
        if attributes:
            self._region_attributes[len(self._label)] = json.dumps(dict(attributes))
        self._label.append(label)
        self._crowd.append(crowd)
        self._region_id.append(id)
        self._kind.append(_POLYGONS if counts is None else _RUNS)
        self._first_part.append(len(self._part_start))
        values: array[Any] = self._coordinates if counts is None else self._counts
        parts: Iterable[Any] = polygons if counts is None else [counts]
        before = len(self._part_start)
        for part in parts:
            self._part_start.append(len(values))
            values.extend(part.tolist() if isinstance(part, np.ndarray) else part)
            self._part_stop.append(len(values))
        self._num_parts.append(len(self._part_start) - before)

    def record(self, record: Record) -> None:
        """Adds a whole Record."""
        names = ("label_map", "coding", "objects", "components", "split", "upright", "source", "attributes")
        self.image(record.id, record.image, record.size, **{n: getattr(record, n) for n in names})
        for r in record.regions:
            flat = [p.reshape(-1) for p in r.polygons]
            self.region(r.label, polygons=flat, counts=r.counts, crowd=r.crowd, id=r.id, attributes=r.attributes)

    def __len__(self) -> int:
        return len(self._ids)

    def pack(self, classes: Sequence[str]) -> Data:
        """The finished Data. Region labels and coding labels are indices into `classes`."""
        column = {name: _array(values, np.int64) for name, values in self._columns.items()}
        image = _array(self._region_image, np.int64)
        num_regions = np.bincount(image, minlength=len(self))
        order = np.argsort(image, kind="stable")
        rank = np.empty_like(order)
        rank[order] = np.arange(len(order))
        regions = Regions(
            label=_array(self._label, np.int16)[order],
            crowd=_array(self._crowd, np.bool_)[order],
            id=_array(self._region_id, np.int64)[order],
            kind=_array(self._kind, np.uint8)[order],
            first_part=_array(self._first_part, np.int64)[order],
            num_parts=_array(self._num_parts, np.int32)[order],
            part_start=_array(self._part_start, np.int64),
            part_stop=_array(self._part_stop, np.int64),
            coordinates=_array(self._coordinates, np.float64),
            counts=_array(self._counts, np.uint32),
            attributes=SparseStrings.pack({int(rank[n]): text for n, text in self._region_attributes.items()}),
        )
        return Data(
            classes=tuple(classes),
            ids=Strings.pack(self._ids),
            images=Strings.pack(self._images),
            label_maps=Strings.pack(self._label_maps),
            objects=Strings.pack(self._objects),
            attributes=Strings.pack(self._attributes),
            sizes=np.stack([column["height"], column["width"]], axis=1).astype(np.int32),
            split=column["split"].astype(np.int16),
            split_names=tuple(self._split_names),
            coding=column["coding"].astype(np.int32),
            codings=tuple(self._codings),
            components=column["components"].astype(np.int32),
            upright=column["upright"].astype(bool),
            source=column["source"].astype(np.int16),
            first_region=np.cumsum(num_regions) - num_regions,
            num_regions=num_regions.astype(np.int32),
            regions=regions,
        )


def _array(values: array[Any], dtype: Any) -> np.ndarray:
    """The values as an array; where the type is the same without a copy, and then `values` can no longer grow."""
    return np.frombuffer(values, values.typecode).astype(dtype, copy=False) if len(values) else np.zeros(0, dtype)
