"""What a data set loses when it is written in another format: measured, by comparing it with what is read back.

Objects are compared one by one at full resolution. The pixels of a loss are those of the objects' masks that changed, each
counted once for each object: the sum over all kinds is the sum of the objects' differences, whatever they are called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from maskwright.core import events
from maskwright.core.table import Data
from maskwright.core.words import counted
from maskwright.data.losses import losses_of, single_objects

KINDS = {
    "unreadable": "refused by the reader: not written at all",
    "images": "the image is not there when it is read back",
    "classes": "of classes that the format has no place for",
    "single objects": "no object can be told from its neighbour of the same class any more",
    "objects": "not there when they are read back",
    "crowds": "groups that are not drawn one by one, or what class they are of",
    "overlaps": "pixels that another object lies over",
    "holes": "filled",
    "several parts": "parts are left out, joined by a line, or become objects of their own",
    "outlines": "pixels at the outline",
    "sub-pixel corners": "corners of polygons are not where they were",
    "attributes": "what is said of objects or images beyond class and shape",
    "void": "pixels that count nowhere become something",
    "class pixels": "pixels of a label map that read as another class",
    "lists": "images of different lists (train, val, test) become one",
    "ids": "the numbers of annotations",
    "names of lists": "lists are called otherwise, or are no longer lists",
    "background": "a background class is added",
}
HARMLESS = ("ids", "names of lists", "background")  # told, but no reason to stop


@dataclass(frozen=True, slots=True)
class Loss:
    """One kind of loss: how many objects and images it is about, and how many pixels of their masks changed."""

    kind: str
    objects: int
    pixels: int
    images: int

    @property
    def harmless(self) -> bool:
        return self.kind in HARMLESS

    def sentence(self) -> str:
        """`overlaps: 12 objects, 3,400 pixels (pixels that another object lies over)`."""
        told = [counted(self.objects, "object")] if self.objects else []
        told += [counted(self.pixels, "pixel")] if self.pixels else []
        told = told or [counted(self.images, "image")]
        return f"{self.kind}: {', '.join(told)} ({KINDS[self.kind]})"


@dataclass(frozen=True, slots=True)
class Bill:
    """All losses, in the order of KINDS; and what was compared."""

    losses: tuple[Loss, ...]
    images: int
    objects: int
    pixels: int  # of all objects' masks

    @property
    def empty(self) -> bool:
        """True when nothing is lost but what is harmless."""
        return all(loss.harmless for loss in self.losses)

    def to_json(self) -> dict[str, Any]:
        rows = [
            {"kind": n.kind, "objects": n.objects, "pixels": n.pixels, "images": n.images, "harmless": n.harmless}
            for n in self.losses
        ]
        return {"images": self.images, "objects": self.objects, "pixels": self.pixels, "losses": rows}


def compare(before: Data, after: Data, rows: Mapping[int, int], unreadable: int = 0) -> Bill:
    """The bill of `before` becoming `after`.

    rows: position in `before` -> position in `after`; an image that is not there is lost with all its objects.
    unreadable: items that the reader of `before` had refused.
    """
    tally = _Tally()
    if unreadable:
        tally.add("unreadable", objects=unreadable)
    lost = set(before.classes) - set(after.classes)
    name = {i: after.classes.index(n) for i, n in enumerate(before.classes) if n in after.classes}
    if lost:
        tally.add("classes")
    if after.has_background and not before.has_background:
        tally.add("background", images=len(before))
    for index in events.progress(range(len(before)), "Comparing"):
        record = before[index]
        copy = after[rows[index]] if index in rows else None
        with_objects = single_objects(record, before.classes)
        if with_objects is not None:
            tally.objects += len(with_objects)
            tally.pixels += int(with_objects.areas().sum())
        for kind, objects, pixels in losses_of(record, with_objects, copy, after.classes, name):
            tally.add(kind, objects, pixels)
        tally.next_image()
    _compare_lists(before, after, rows, tally)
    losses = tuple(Loss(kind, *tally.row(kind)) for kind in KINDS if kind in tally.kinds)
    return Bill(losses, len(before), tally.objects, tally.pixels)


@dataclass
class _Tally:
    """Adds losses up; an image counts once for each kind."""

    kinds: dict[str, list[int]] = field(default_factory=dict)
    objects: int = 0
    pixels: int = 0
    _here: set[str] = field(default_factory=set)

    def add(self, kind: str, objects: int = 0, pixels: int = 0, images: int = 0) -> None:
        row = self.kinds.setdefault(kind, [0, 0, 0])
        for place, number in enumerate((objects, pixels, images)):
            row[place] += number
        self._here.add(kind)

    def next_image(self) -> None:
        for kind in self._here - {"unreadable", "background"}:
            self.kinds[kind][2] += 1
        self._here.clear()

    def row(self, kind: str) -> list[int]:
        return self.kinds[kind]


def _compare_lists(before: Data, after: Data, rows: Mapping[int, int], tally: _Tally) -> None:
    """Lists that are called otherwise do no harm; images of several lists that are in one now do."""
    moved: dict[tuple[str | None, str | None], int] = Counter(
        (before[i].split, after[row].split) for i, row in rows.items()
    )
    changed = sum(number for (old, new), number in moved.items() if old != new)
    if changed:
        harmless = len({new for _, new in moved}) == len(moved)
        tally.add("names of lists" if harmless else "lists", images=changed)
