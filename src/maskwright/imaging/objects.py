"""The objects of one image, one by one, whatever its source is: the only door to boxes and masks of single objects.

They come from drawn regions, from a map of object numbers, or from the connected pieces of a label map where those were
asked for. Masks stay run-lengths (column-major, zeros first) until somebody wants pixels: 500 objects on a large photo
need no more memory than their outlines do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maskwright.core.errors import DataError
from maskwright.core.types import BACKGROUND, VOID, Record
from maskwright.imaging import masks
from maskwright.imaging.components import pieces

Size = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Objects:
    """N objects of one image, each with at least one pixel.

    labels: int64 (N,), class indices. crowd: bool (N,). ids: int64 (N,), the source's own numbers, -1 where it has none.
    boxes: float64 (N, 4), x0, y0, x1, y1 in pixels, right and bottom exclusive, tight around the pixels.
    counts: N run-lengths uint32 (n,), column-major, zeros first. size: height, width.
    """

    labels: np.ndarray
    boxes: np.ndarray
    crowd: np.ndarray
    ids: np.ndarray
    counts: tuple[np.ndarray, ...]
    size: Size

    def __len__(self) -> int:
        return len(self.labels)

    def mask(self, index: int) -> np.ndarray:
        """The pixels of one object: bool (H, W)."""
        return decoded(self.counts[index], self.size)

    def masks(self) -> np.ndarray:
        """The pixels of all: bool (N, H, W)."""
        made = np.zeros((len(self), *self.size), np.bool_)
        for index in range(len(self)):
            left, top, right, bottom = self.boxes[index].astype(int)
            made[index, top:bottom, left:right] = self.cut(index)
        return made

    def cut(self, index: int) -> np.ndarray:
        """The pixels of one object inside its box: bool (h, w). No larger array is made."""
        height = self.size[0]
        left, top, right, bottom = self.boxes[index].astype(int)
        starts, ends = _stretches(self.counts[index])
        low, high = left * height, right * height
        edges = np.concatenate(([low], np.stack([starts, ends], axis=1).reshape(-1), [high]))
        columns = np.repeat(np.arange(len(edges) - 1) % 2 == 1, np.diff(edges))
        return np.ascontiguousarray(columns.reshape(right - left, height)[:, top:bottom].T)

    def areas(self) -> np.ndarray:
        """How many pixels each object has: int64 (N,)."""
        return np.array([int(counts[1::2].sum(dtype=np.int64)) for counts in self.counts], np.int64)


def objects_of(record: Record, classes: Sequence[str]) -> Objects:
    """The objects of a record, in the order of its regions or of their numbers; those without a pixel are left out.

    An object of a number map has the class that most of its pixels have in the label map, where background and VOID have
    no say; one that is only background or VOID there is left out. Without a label map it has the only class there is.

    classes: the names of `Data.classes`; a `background` is no object. Raises DataError when the files cannot be read or do
    not fit, and for a label map whose pieces nobody asked to be objects.
    """
    if record.objects is not None:
        return _of_numbers(record, classes)
    if record.label_map is None:
        return from_counts(
            masks.region_counts(record.regions, record.size),
            [region.label for region in record.regions],
            record.size,
            crowd=[region.crowd for region in record.regions],
            ids=[region.id for region in record.regions],
        )
    if not record.components:
        hint = "`components: true` makes each connected piece of a class an object"
        raise DataError("has classes, but no single objects", place=record.label_map, hint=hint)
    return _of_pieces(record, classes)


def has_objects(record: Record) -> bool:
    """Whether `objects_of` can tell one object from another."""
    return record.label_map is None or record.objects is not None or record.components > 0


def from_counts(
    counts: Sequence[np.ndarray],
    labels: Sequence[int] | np.ndarray,
    size: Size,
    *,
    crowd: Sequence[bool] | None = None,
    ids: Sequence[int] | np.ndarray | None = None,
) -> Objects:
    """Objects of run-lengths; those without a pixel are left out."""
    boxes = boxes_of(counts, size)
    kept = np.flatnonzero(boxes[:, 2] > boxes[:, 0])
    return Objects(
        np.asarray(labels, np.int64)[kept],
        boxes[kept],
        np.zeros(len(kept), np.bool_) if crowd is None else np.asarray(crowd, np.bool_)[kept],
        np.full(len(kept), -1, np.int64) if ids is None else np.asarray(ids, np.int64)[kept],
        tuple(counts[index] for index in kept.tolist()),
        size,
    )


def boxes_of(counts: Sequence[np.ndarray], size: Size) -> np.ndarray:
    """Boxes tight around run-lengths: float64 (N, 4), x0, y0, x1, y1, right and bottom exclusive; all 0 without a pixel."""
    height, boxes = size[0], np.zeros((len(counts), 4))
    for box, runs in zip(boxes, counts):
        starts, ends = _stretches(runs)
        if not len(starts):
            continue
        first, last = starts // height, (ends - 1) // height
        whole = bool((first != last).any())  # a stretch that goes on in the next column fills both to the edge
        top = 0 if whole else (starts - first * height).min()
        bottom = height if whole else (ends - last * height).max()
        box[:] = first[0], top, last[-1] + 1, bottom
    return boxes


def decoded(counts: np.ndarray, size: Size) -> np.ndarray:
    """The pixels of run-lengths: bool (H, W)."""
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    return np.ascontiguousarray(flat.reshape(size[1], size[0]).T)


def encoded(numbers: np.ndarray) -> dict[int, np.ndarray]:
    """The run-lengths of each value in a map (H, W) of whole numbers: value -> uint32 (n,), by ascending value."""
    flat = numbers.T.reshape(-1)
    starts = np.flatnonzero(np.concatenate((np.ones(min(1, len(flat)), np.bool_), flat[1:] != flat[:-1])))
    stops = np.append(starts[1:], len(flat))
    order = np.argsort(flat[starts], kind="stable")
    values, first = np.unique(flat[starts][order], return_index=True)
    edges = np.stack([starts[order], stops[order]], axis=1)
    return {
        int(value): _run_lengths(mine.reshape(-1), len(flat))
        for value, mine in zip(values.tolist(), np.split(edges, first[1:]))
    }


def _run_lengths(edges: np.ndarray, total: int) -> np.ndarray:
    """Where zeros and ones change, to run-lengths uint32: the end of the image adds a last run of zeros where there is one."""
    counts = np.diff(edges, prepend=0, append=total)
    return (counts if counts[-1] else counts[:-1]).astype(np.uint32)


def _stretches(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and ends of the ones in run-lengths, empty ones left out: int64 (n,) each."""
    edges = np.cumsum(counts, dtype=np.int64)
    starts, ends = edges[0::2][: len(edges) // 2], edges[1::2]
    some = ends > starts
    return starts[some], ends[some]


def _of_numbers(record: Record, classes: Sequence[str]) -> Objects:
    assert record.objects is not None
    numbers, void = masks.read_numbers(record.objects, record.size)
    found = {number: counts for number, counts in encoded(numbers).items() if number not in (0, void)}
    labels = _majorities(record, classes, numbers, list(found))
    kept = [(counts, label, number) for (number, counts), label in zip(found.items(), labels) if label is not None]
    return from_counts([k[0] for k in kept], [k[1] for k in kept], record.size, ids=[k[2] for k in kept])


def _majorities(
    record: Record, classes: Sequence[str], numbers: np.ndarray, found: Sequence[int]
) -> Sequence[int | None]:
    """The class of each of the ascending numbers `found`, None for one that is only background or VOID."""
    first = int(bool(classes) and classes[0] == BACKGROUND)
    if record.label_map is None:
        if len(classes) - first != 1:
            hint = "numbers alone cannot tell which object is of which class"
            raise DataError(f"has no label map for its {len(classes) - first} classes", place=record.objects, hint=hint)
        return [first] * len(found)
    label_map = masks.label_map(record)
    votes = np.zeros((len(found), VOID + 1), np.int64)
    if found:
        known = np.asarray(found, np.int64)
        for value, counts in encoded(label_map).items():  # a class at a time: no table of all pairs of pixels
            if value >= first and value != VOID:
                here = numbers.T.reshape(-1)[np.repeat(np.arange(len(counts)) & 1, counts).astype(np.bool_)]
                held, many = np.unique(here, return_counts=True)
                place = np.searchsorted(known, held).clip(0, len(known) - 1)
                mine = known[place] == held
                votes[place[mine], value] = many[mine]
    return [int(row.argmax()) if row.any() else None for row in votes]


def _of_pieces(record: Record, classes: Sequence[str]) -> Objects:
    label_map = masks.label_map(record)
    numbers, values = pieces(label_map)
    first = int(bool(classes) and classes[0] == BACKGROUND)
    areas = np.bincount(numbers.reshape(-1), minlength=len(values))
    chosen = (values >= first) & (values != VOID) & (areas >= record.components)
    name = np.where(chosen, np.cumsum(chosen), 0)  # from 1, in the order of their first pixels
    found = encoded(name[numbers])
    found.pop(0, None)
    return from_counts(list(found.values()), values[chosen], record.size)
