"""What one image loses when it is written in another format: its objects beside those that are read back.

Each loss is a kind (of `bill.KINDS`), a number of objects and a number of pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hotcoco import mask as coco

from maskwright.core.types import VOID, Record, Region
from maskwright.imaging import masks
from maskwright.imaging.components import pieces
from maskwright.imaging.objects import Objects, boxes_of, has_objects, objects_of

NEAR = 1e-6  # pixels; corners closer than that are the same
Window = tuple[int, int, int, int]  # x0, y0, x1, y1, right and bottom exclusive
Found = Iterator[tuple[str, int, int]]  # kind, objects, pixels


@dataclass(frozen=True)
class Scene:
    """What all objects of an image share. name: class index before -> after.

    painted: the label map that is read back, uint8 (H, W); None where nobody needs it.
    covers: how many of the objects lie on each pixel, int32 (H, W).
    """

    name: Mapping[int, int]
    painted: np.ndarray | None
    covers: np.ndarray


def losses_of(
    record: Record, own: Objects | None, copy: Record | None, classes: Sequence[str], name: Mapping[int, int]
) -> Found:
    """What one image loses. own: its objects, None where it has none. name: class index before -> after."""
    if copy is None:
        yield "images", 0 if own is None else len(own), 0 if own is None else int(own.areas().sum())
        return
    if dict(record.attributes) != dict(copy.attributes) and record.attributes:
        yield "attributes", 0, 0
    theirs = single_objects(copy, classes)
    needed = record.label_map is not None or theirs is None or _has_crowds(own)
    painted = masks.label_map(copy) if needed else None
    if record.label_map is not None and painted is not None:
        yield from _of_label_maps(masks.label_map(record), painted, name, own)
    if own is None:
        return
    partner = list(range(len(own)))
    if theirs is None:
        yield from _without_objects(own, painted, name)
    else:
        partner = _matched(own, theirs, name)
        scene = Scene(name, painted, _covers(own))
        for index, other in enumerate(partner):
            yield from _of_object(own, index, theirs, other, scene)
    if record.label_map is None:
        yield from _of_regions(_shown(record), _shown(copy) if copy.label_map is None else None, partner)


def single_objects(record: Record, classes: Sequence[str]) -> Objects | None:
    """The objects of a record, None where nothing tells one from another."""
    return objects_of(record, classes) if has_objects(record) else None


def _has_crowds(objects: Objects | None) -> bool:
    return objects is not None and bool(objects.crowd.any())


def _of_label_maps(ours: np.ndarray, theirs: np.ndarray, name: Mapping[int, int], own: Objects | None) -> Found:
    """Pixels that changed their class, and void that became something. Those of single objects are told with these."""
    table = np.arange(256)
    for old in range(VOID):
        table[old] = name.get(old, -1)
    changed = table[ours] != theirs
    void = int((changed & (ours == VOID)).sum())
    if void:
        yield "void", 0, void
    changed &= ours != VOID
    if own is not None:
        for index in range(len(own)):
            window, cut = _cut(own, index)
            changed[window] &= ~cut
    if changed.any():
        yield "class pixels", 0, int(changed.sum())


def _without_objects(own: Objects, painted: np.ndarray | None, name: Mapping[int, int]) -> Found:
    """Objects that became pixels of a label map."""
    assert painted is not None
    for index in range(len(own)):
        crowd, label = bool(own.crowd[index]), int(own.labels[index])
        window, cut = _cut(own, index)
        kept = painted[window] == (VOID if crowd else name.get(label, -1))
        pixels = int((cut & ~kept).sum())
        if crowd:
            yield "crowds", 1, pixels
        elif label not in name:
            yield "classes", 1, pixels
        else:
            yield "single objects", 1, 0
            if pixels:
                yield "overlaps", 1, pixels


def _of_object(own: Objects, index: int, theirs: Objects, other: int, scene: Scene) -> Found:
    """How one object changed; other: its place among theirs, -1 when it is gone."""
    area = int(own.counts[index][1::2].sum(dtype=np.int64))
    if other >= 0:
        same_class = scene.name.get(int(own.labels[index])) == int(theirs.labels[other])
        if own.crowd[index]:
            pixels = _difference(own.counts[index], theirs.counts[other])
            if pixels or not same_class:
                yield "crowds", 1, pixels
        elif not np.array_equal(own.counts[index], theirs.counts[other]):
            yield from _of_shapes(own, index, theirs, other, scene)
    elif own.crowd[index]:
        window, cut = _cut(own, index)
        assert scene.painted is not None
        yield "crowds", 1, int((cut & (scene.painted[window] != VOID)).sum())
    elif int(own.labels[index]) not in scene.name:
        yield "classes", 1, area
    else:
        yield ("objects" if _alone(own, index, scene).any() else "overlaps"), 1, area


def _of_shapes(own: Objects, index: int, theirs: Objects, other: int, scene: Scene) -> Found:
    """Names for the pixels in which two masks differ; each pixel has one."""
    boxes = np.stack([own.boxes[index], theirs.boxes[other]]).astype(int)
    window = (*boxes[:, :2].min(axis=0).tolist(), *boxes[:, 2:].max(axis=0).tolist())
    mask = _in_window(own.boxes[index], own.cut(index), window)
    copy = _in_window(theirs.boxes[other], theirs.cut(other), window)
    lost, gained = mask & ~copy, copy & ~mask
    covered = lost & ~_in_window(own.boxes[index], _alone(own, index, scene), window)
    lost &= ~covered
    numbers, values = pieces(mask.view(np.uint8))
    left_out = np.bincount(numbers[copy & mask], minlength=len(values)) == 0
    parts = lost & left_out[numbers]
    background, grounds = pieces((~mask).view(np.uint8), diagonal=False)
    at_edge = np.zeros(len(grounds), np.bool_)
    for edge in (background[0], background[-1], background[:, 0], background[:, -1]):
        at_edge[edge] = True
    holes = gained & ~at_edge[background]
    rest = (lost & ~parts) | (gained & ~holes)
    for kind, pixels in (("overlaps", covered), ("several parts", parts), ("holes", holes), ("outlines", rest)):
        if pixels.any():
            yield kind, 1, int(pixels.sum())


def _of_regions(ours: Sequence[Region], theirs: Sequence[Region] | None, partner: Sequence[int]) -> Found:
    """What regions say beyond their pixels: corners, attributes, numbers. theirs: None where there are no regions."""
    for region, other in zip(ours, partner, strict=True):
        if other < 0:
            continue
        copy = theirs[other] if theirs is not None else None
        if region.polygons and not region.crowd:
            if copy is None or not _corners_kept(region.polygons, copy.polygons):
                yield "sub-pixel corners", 1, 0
            elif len(copy.polygons) != len(region.polygons):
                yield "several parts", 1, 0
        if region.attributes and (copy is None or dict(copy.attributes) != dict(region.attributes)):
            yield "attributes", 1, 0
        if region.id >= 0 and (copy is None or copy.id != region.id):
            yield "ids", 1, 0


def _corners_kept(ours: Sequence[np.ndarray], theirs: Sequence[np.ndarray]) -> bool:
    """Whether each corner has one of theirs at its place."""
    if not theirs:
        return False
    kept = {tuple(corner) for corner in np.round(np.concatenate(theirs) / NEAR).astype(np.int64).tolist()}
    corners = np.round(np.concatenate(ours) / NEAR).astype(np.int64)
    return all(any((x + dx, y + dy) in kept for dx in (0, -1, 1) for dy in (0, -1, 1)) for x, y in corners.tolist())


def _shown(record: Record) -> list[Region]:
    """The regions that have a pixel, as `objects_of` lists them."""
    boxes = boxes_of(masks.region_counts(record.regions, record.size), record.size)
    return [region for region, box in zip(record.regions, boxes) if box[2] > box[0]]


# ---------------------------------------------------------------------------------------------------------------- masks


def _matched(own: Objects, theirs: Objects, name: Mapping[int, int]) -> list[int]:
    """For each object its place among theirs, -1 for none: the same pixels and class first, then by intersection over union."""
    keys = [-1 if crowd else name.get(label, -2) for label, crowd in zip(own.labels.tolist(), own.crowd.tolist())]
    other_keys = [-1 if crowd else label for label, crowd in zip(theirs.labels.tolist(), theirs.crowd.tolist())]
    same: dict[tuple[int, bytes], list[int]] = {}
    for place, key in reversed(list(enumerate(other_keys))):
        same.setdefault((key, theirs.counts[place].tobytes()), []).append(place)
    partner = [
        found.pop() if (found := same.get((key, own.counts[index].tobytes()))) else -1 for index, key in enumerate(keys)
    ]
    taken = set(partner)
    for key in set(keys):
        left = [index for index, mine in enumerate(keys) if mine == key and partner[index] < 0]
        free = [place for place, other in enumerate(other_keys) if other == key and place not in taken]
        for index, place in _nearest(own, left, theirs, free):
            partner[index] = place
    return partner


def _nearest(own: Objects, left: Sequence[int], theirs: Objects, free: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Pairs of largest intersection over union, the largest first, each object once."""
    if not left or not free:
        return
    ours, others = ([_rle(o.counts[i], o.size) for i in which] for o, which in ((own, left), (theirs, free)))
    shares = np.asarray(coco.iou(ours, others, [False] * len(others))).reshape(len(left), len(free))
    rows, columns = np.nonzero(shares > 0)
    used_rows, used_columns = set(), set()
    for at in np.argsort(-shares[rows, columns], kind="stable").tolist():
        row, column = int(rows[at]), int(columns[at])
        if row not in used_rows and column not in used_columns:
            used_rows.add(row)
            used_columns.add(column)
            yield left[row], free[column]


def _rle(counts: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    return masks.region_rle(Region(0, counts=counts), size)


def _cut(objects: Objects, index: int) -> tuple[tuple[slice, slice], np.ndarray]:
    left, top, right, bottom = objects.boxes[index].astype(int).tolist()
    return (slice(top, bottom), slice(left, right)), objects.cut(index)


def _in_window(box: np.ndarray, cut: np.ndarray, window: Window) -> np.ndarray:
    """The pixels inside a box, in a window around it: bool (h, w)."""
    left, top, right, bottom = window
    made = np.zeros((bottom - top, right - left), np.bool_)
    x0, y0, x1, y1 = box.astype(int).tolist()
    made[y0 - top : y1 - top, x0 - left : x1 - left] = cut
    return made


def _covers(objects: Objects) -> np.ndarray:
    covers = np.zeros(objects.size, np.int32)
    for index in range(len(objects)):
        window, cut = _cut(objects, index)
        covers[window] += cut
    return covers


def _alone(objects: Objects, index: int, scene: Scene) -> np.ndarray:
    """The pixels of an object that no other has: bool (h, w) inside its box."""
    window, cut = _cut(objects, index)
    return cut & (scene.covers[window] == 1)


def _difference(ours: np.ndarray, theirs: np.ndarray) -> int:
    """How many pixels are in just one of two run-lengths."""
    edges = [np.cumsum(counts, dtype=np.int64)[: len(counts) // 2 * 2] for counts in (ours, theirs)]
    both = np.sort(np.concatenate(edges))
    return int((both[1::2] - both[0::2]).sum())
