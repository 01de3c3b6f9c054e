"""The instance task: a Record becomes layers of object numbers at the network's size; boxes and small masks become Instances.

Layers are uint8 (P, h, w): objects that lie over each other stand in different ones. In each, 0 is nothing, VOID what lies
outside the image, IGNORED what counts nowhere (crowds, void pixels), and other numbers are objects; a table uint8 (P, 256)
has the class of each number, 0 elsewhere. Classes count from 1 as networks count them: the classes of the data without the
background.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from maskwright.core.types import BACKGROUND, VOID, Instances, Record
from maskwright.imaging import images, masks
from maskwright.imaging.images import Fitting
from maskwright.imaging.objects import Objects, objects_of
from maskwright.imaging.paste import pasted
from maskwright.tasks.thresholds import Thresholds, settled, surviving

IGNORED = VOID - 1  # the number of pixels that count nowhere
MOST = IGNORED - 1  # objects in a layer


def channels(classes: Sequence[str]) -> list[int]:
    """Indices of the classes that objects can have: all but the background."""
    return [index for index, name in enumerate(classes) if name != BACKGROUND]


def layered(objects: Objects) -> list[np.ndarray]:
    """Which objects share a layer: their positions, layer by layer. Each goes into the first where it covers no other.

    Large objects come first. Crowds lie together in the first layer where they cover no object; where there is none, in a
    last one without objects.
    """
    return [np.array([index for index, _ in members], np.int64) for members in _layers(objects)[0]]


def _layers(objects: Objects) -> tuple[list[list[tuple[int, np.ndarray]]], int]:
    """Layer by layer the objects that share it: their positions, and their pixels inside their boxes, bool (h, w).

    And the layer for what counts nowhere.
    """
    found: list[list[tuple[int, np.ndarray]]] = []
    taken: list[np.ndarray] = []
    areas = objects.areas()
    for index in sorted(np.flatnonzero(~objects.crowd).tolist(), key=lambda i: (-areas[i], i)):
        window, cut = _window(objects, index), objects.cut(index)
        fitting = (n for n, pixels in enumerate(taken) if len(found[n]) < MOST and not (pixels[window] & cut).any())
        number = next(fitting, len(found))
        if number == len(found):
            found.append([])
            taken.append(np.zeros(objects.size, np.bool_))
        found[number].append((index, cut))
        taken[number][window] |= cut
    if not objects.crowd.any():
        return found, 0
    crowds = _crowds(objects)
    place = next((n for n, pixels in enumerate(taken) if not (pixels & crowds).any()), len(found))
    return [*found, *[[]] * (place == len(found))], place


def _window(objects: Objects, index: int) -> tuple[slice, slice]:
    left, top, right, bottom = objects.boxes[index].astype(int).tolist()
    return slice(top, bottom), slice(left, right)


def _crowds(objects: Objects) -> np.ndarray:
    """The pixels of all crowds: bool (H, W)."""
    drawn = np.zeros(objects.size, np.bool_)
    for index in np.flatnonzero(objects.crowd).tolist():
        drawn[_window(objects, index)] |= objects.cut(index)
    return drawn


def _ignored(record: Record, objects: Objects) -> np.ndarray | None:
    """What counts nowhere, bool (H, W): crowds; VOID in a label map; the number for it in a map of object numbers.
    None where nothing does.

    In maps objects may cover some of it (those that their label map is not sure of): there the object is what counts.
    """
    if record.label_map is None and record.objects is None and not objects.crowd.any():
        return None
    drawn = _crowds(objects)
    if record.label_map is not None:
        drawn |= masks.label_map(record) == VOID
    if record.objects is not None:
        numbers, void = masks.read_numbers(record.objects, record.size)
        drawn |= numbers == void
    return drawn if drawn.any() else None


def encode(
    record: Record, fitting: Fitting | None, classes: tuple[str, ...], planes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Layers uint8 (planes, h, w) and their table uint8 (planes, 256), fitted, or at the image's own size.

    planes: at least as many as `layered` gives, and one. Each object is fitted by itself, as `images.fit_label_map` would
    fit the whole layer, most of which is empty.
    """
    objects = objects_of(record, classes)
    class_of = np.zeros(len(classes), np.uint8)
    class_of[channels(classes)] = np.arange(1, len(channels(classes)) + 1)
    fitting = fitting or Fitting(objects.size, objects.size, (0, 0, *objects.size))
    layers, table = np.zeros((planes, *fitting.size), np.uint8), np.zeros((planes, 256), np.uint8)
    top, left, h, w = fitting.box
    rows, columns = images.sources(objects.size, fitting)
    found, place = _layers(objects)
    ignored = _ignored(record, objects)
    for plane, members in enumerate(found or [[]] * (ignored is not None)):
        if (h, w) != fitting.size:
            layers[plane] = VOID
        inner = layers[plane, top : top + h, left : left + w]
        inner[:] = 0
        if plane == place and ignored is not None:
            np.copyto(inner, IGNORED, where=ignored.take(rows, axis=0).take(columns, axis=1))
        for number, (index, cut) in enumerate(members, start=1):
            x0, y0, x1, y1 = objects.boxes[index].astype(int).tolist()
            down, across = slice(*np.searchsorted(rows, (y0, y1))), slice(*np.searchsorted(columns, (x0, x1)))
            mask = cut.take(rows[down] - y0, axis=0).take(columns[across] - x0, axis=1)
            np.copyto(inner[down, across], number, where=mask, casting="unsafe")
            table[plane, number] = class_of[objects.labels[index]]
    return layers, table


def decode(
    found: Sequence[np.ndarray],
    fitting: Fitting,
    classes: tuple[str, ...],
    rules: Thresholds | None = None,
    image: str | None = None,
) -> Instances:
    """What a network found, on the image's own pixels, the surest first; what has no pixel there is left out.

    found: boxes float (N, 4) in pixels of the network's input, labels int (N,) from 1, scores float (N,) and masks float
    (N, 1, m, m), probabilities inside the boxes. classes: names of the labels, the first that of 1.
    """
    rules = rules or Thresholds()
    boxes, labels, scores, masks = (np.asarray(part) for part in found)
    top, left, height, width = fitting.box
    rows, columns = fitting.original
    scale = np.array([columns / width, rows / height] * 2)
    moved = (boxes.astype(np.float64).reshape(-1, 4) - (left, top, left, top)) * scale
    kept = surviving(moved, labels, scores, rules)
    moved = moved[kept]
    counts = tuple(
        pasted(mask[0], box, fitting.original, rules.mask) for mask, box in zip(masks[kept], moved, strict=True)
    )
    answer = Instances(
        labels=labels[kept].astype(np.int64) - 1,
        scores=scores[kept].astype(np.float32),
        boxes=np.clip(moved, 0, (columns, rows, columns, rows)),
        counts=counts,
        size=fitting.original,
        classes=classes,
        image=image,
    )
    return settled(answer, rules)
