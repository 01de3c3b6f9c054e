"""The true objects of a COCO JSON as columns for scoring: ids, boxes and areas are the file's own, no photo is needed.

Polygons become run-lengths only when a detection of their class is in their image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from hotcoco import mask as coco

from maskwright.core.errors import DataError
from maskwright.core.words import counted
from maskwright.data.formats import coco_json
from maskwright.data.formats.coco import no_garbage_collection
from maskwright.data.formats.coco_json import kind_of
from maskwright.data.formats.coco_photos import split_of
from maskwright.data.formats.pairing import listed
from maskwright.imaging import masks
from maskwright.metrics.matching import Shapes, shapes
from maskwright.prediction.coco_entries import Unusable, box_of, find, is_finite, is_plain, outline, run_lengths

_LONGEST_SIDE = 1_000_000
_MOST_PIXELS = 2**32 - 1  # that run-lengths can count
STATED = "the `area` that the labels state"


@dataclass
class Refusals:
    """Entries that cannot be scored. reasons: why -> how many and the first of them."""

    reasons: dict[str, tuple[int, str]] = field(default_factory=dict)

    def add(self, why: str, where: str) -> None:
        count, first = self.reasons.get(why, (0, where))
        self.reasons[why] = count + 1, first

    def __len__(self) -> int:
        return sum(count for count, _ in self.reasons.values())

    def lines(self) -> list[str]:
        return [f"{count:,} x {why} (first: {first})" for why, (count, first) in self.reasons.items()]

    def to_json(self) -> dict[str, int]:
        return {why: count for why, (count, _) in self.reasons.items()}


@dataclass(frozen=True)
class Truth:
    """What detections are scored against.

    place: what messages call it. ids: of the images, in ascending order of the numbers they have in the file.
    positions: what a results file may call an image -> its position. sizes: [height, width] of each.
    classes: names; labels: what a results file may call a class -> its index.
    areas: words for the convention. others: what a results file may call images that are not scored.
    notes: what a reader of the scores must know.
    """

    place: str
    ids: tuple[str, ...]
    positions: Mapping[Any, int]
    sizes: Sequence[list[int]]
    classes: tuple[str, ...]
    labels: Mapping[Any, int]
    shapes: Shapes
    areas: str
    refusals: Refusals
    others: Mapping[Any, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


class Outlines(Sequence[Any]):
    """COCO segmentations that become run-lengths when they are asked for; None where there is none."""

    def __init__(self, drawn: list[Any], sizes: list[list[int]]):
        self._drawn, self._sizes = drawn, sizes

    def __len__(self) -> int:
        return len(self._drawn)

    def __getitem__(self, index: Any) -> Any:
        drawn = self._drawn[index]
        return run_lengths(drawn, self._sizes[index]) if isinstance(drawn, list) else drawn


class Chosen(Sequence[Any]):
    """Some of a sequence, taken when they are asked for."""

    def __init__(self, whole: Sequence[Any], places: np.ndarray):
        self._whole, self._places = whole, places.tolist()

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: Any) -> Any:
        return self._whole[self._places[index]]


def json_of(path: Path, part: str | None) -> Path | None:
    """The COCO instances JSON at a path: itself, or that of a folder (of several, the one for `part`); None: no COCO.

    Raises DataError when a folder holds several and `part` does not say which; of a single file `part` says nothing.
    """
    if path.is_file():
        return path if path.suffix.lower() == ".json" and coco_json.glimpse(path)[0] >= 0.5 else None
    names = [name for name in listed(path) if name.lower().endswith(".json")] if path.is_dir() else []
    found = [name for name in names if coco_json.glimpse(path / name)[0] >= 0.5]
    official = [name for name in found if Path(name).name.startswith("instances_")]
    found = official or found
    chosen = found if part in (None, "all") else [name for name in found if split_of(name) == part]
    if found and len(chosen) != 1:
        what = f"holds {counted(len(found), 'COCO JSON')}, {len(chosen)} of them for the part `{part or 'all'}`"
        hint = f"image ids count within one file: give `{path / found[0]}`, or --part train, val or test"
        raise DataError(what, place=path, hint=hint)
    return path / chosen[0] if chosen else None


def read(path: Path) -> Truth:
    """The objects of a COCO instances JSON. Raises DataError when it is none, or has no image."""
    with no_garbage_collection():
        return _read(path)


def _read(path: Path) -> Truth:
    document = coco_json.load(path)
    refusals = Refusals()
    images = _images(document.images, path)
    classes, labels = _classes(document.categories, path)
    positions = {id: number for number, id in enumerate(images)}
    sizes = [size for _, size in images.values()]
    columns = _Columns(document.finite)
    for number, annotation in enumerate(document.annotations):
        try:
            columns.add(annotation, positions, sizes, labels)
        except Unusable as reason:
            refusals.add(str(reason), f"annotations[{number}]")
    areas = STATED if columns.stated else "the pixels of its mask"
    if columns.stated and columns.stated < len(columns.label):
        areas = f"{STATED}, or by its pixels"
    ids = tuple(name for name, _ in images.values())
    positions = _photos(document.images, positions) | positions
    labels = {name: index for index, name in enumerate(classes) if find(labels, name) is None} | labels
    notes = _notes(document.annotations)
    return Truth(str(path), ids, positions, sizes, classes, labels, columns.shapes(), areas, refusals, notes=notes)


def _notes(annotations: list[Any]) -> tuple[str, ...]:
    """Says when objects have one id: they may be one and the same, as in a file that was joined with itself."""
    given = [entry["id"] for entry in annotations if isinstance(entry, dict) and isinstance(entry.get("id"), int | str)]
    more = len(given) - len(set(given))
    return (f"{counted(more, 'true object')} with the id of another: each counts",) if more else ()


def ends_of(path: PurePosixPath) -> set[str]:
    """What a photo may be called: the ends of its path, up to two folders above it, and its name without suffix."""
    return {"/".join(path.parts[-many:]) for many in (1, 2, 3)} | {path.stem}


def _photos(images: list[Any], positions: Mapping[Any, int]) -> dict[Any, int]:
    """What photos are called -> their positions, but for names that two have, or that are an image's id."""
    found: dict[Any, int] = {}
    twice: set[Any] = set()
    for image in images:
        if isinstance(image.get("file_name"), str):
            position = positions[image["id"]]
            names = ends_of(PurePosixPath(image["file_name"]))
            twice |= {name for name in names if found.setdefault(name, position) != position}
    return {n: position for n, position in found.items() if n not in twice and find(positions, n) is None}


def only(truth: Truth, ids: Sequence[str]) -> Truth:
    """The truth of some images alone. ids: as readers call them, the paths of photos, of which the JSON may know the end.

    Raises DataError when an id is no image of the truth, or two.
    """
    by_name: dict[str, list[int]] = {}
    for number, known in enumerate(truth.ids):
        by_name.setdefault(PurePosixPath(known).name, []).append(number)
    kept = []
    for id in ids:
        found = [n for n in by_name.get(PurePosixPath(id).name, []) if _same_end(id, truth.ids[n])]
        if len(found) != 1:
            raise DataError(f"has {counted(len(found), 'image')} called {id}", place=truth.place)
        kept.append(found[0])
    kept.sort()
    place = {number: new for new, number in enumerate(kept)}
    shapes = truth.shapes
    mine = np.flatnonzero(np.isin(shapes.image, kept))
    columns = {n: getattr(shapes, n)[mine] for n in Shapes.__slots__ if n != "rles"}
    columns["image"] = np.searchsorted(kept, columns["image"])
    return replace(
        truth,
        ids=tuple(truth.ids[number] for number in kept),
        positions={name: place[number] for name, number in truth.positions.items() if number in place},
        sizes=[truth.sizes[number] for number in kept],
        shapes=Shapes(rles=Chosen(shapes.rles, mine), **columns),
        others={name: number for name, number in truth.positions.items() if number not in place},
    )


def _same_end(one: str, other: str) -> bool:
    """Whether one path is the end of the other."""
    return f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}")


@dataclass
class _Columns:
    """The objects that were usable. finite: no number in the file can be NaN. stated: how many have an `area`."""

    finite: bool
    image: list[int] = field(default_factory=list)
    label: list[int] = field(default_factory=list)
    boxes: list[Any] = field(default_factory=list)
    drawn: list[Any] = field(default_factory=list)
    sizes: list[list[int]] = field(default_factory=list)
    areas: list[float] = field(default_factory=list)
    crowd: list[bool] = field(default_factory=list)
    stated: int = 0

    def add(
        self, entry: Any, positions: Mapping[Any, int], sizes: Sequence[list[int]], labels: Mapping[Any, int]
    ) -> None:
        """Adds an annotation. Raises Unusable, and adds nothing."""
        if not isinstance(entry, dict):
            raise Unusable(f"the entry is {kind_of(entry)}, not an object")
        position, label = find(positions, entry.get("image_id")), find(labels, entry.get("category_id"))
        if position is None or label is None:
            raise Unusable("no image has its `image_id`" if position is None else "no category has its `category_id`")
        if entry.get("iscrowd") not in (None, 0, 1):
            raise Unusable("`iscrowd` is neither 0 nor 1")
        size, drawn = sizes[position], entry.get("segmentation")
        drawn = drawn if self.finite and is_plain(drawn, size) else outline(drawn, size)
        box, area = box_of(entry), entry.get("area")
        if isinstance(drawn, dict) and isinstance(drawn["counts"], str):
            counts, why = masks.mend_counts(drawn["counts"], (size[0], size[1]))
            if counts is None:
                raise Unusable(str(why))
        if drawn is None and box is None:
            raise Unusable("neither a mask nor a box")
        known = is_finite(area) and area >= 0
        if drawn is not None and (box is None or not known):
            drawn = run_lengths(drawn, size) if isinstance(drawn, list) else drawn
            box = coco.to_bbox(drawn).tolist() if box is None else box
        assert box is not None
        if not known:
            area = coco.area(drawn) if drawn is not None else box[2] * box[3]
        self.stated += known
        self.image.append(position)
        self.label.append(label)
        self.boxes.append(box)
        self.drawn.append(drawn)
        self.sizes.append(size)
        self.areas.append(area)  # type: ignore[arg-type]
        self.crowd.append(bool(entry.get("iscrowd")))

    def shapes(self) -> Shapes:
        num = len(self.label)
        return shapes(
            np.array(self.image, np.int64),
            np.array(self.label, np.int64),
            np.array(self.boxes, np.float64).reshape(num, 4),
            Outlines(self.drawn, self.sizes),
            drawn=np.array([drawn is not None for drawn in self.drawn], np.bool_),
            areas=np.array(self.areas, np.float64),
            crowd=np.array(self.crowd, np.bool_),
        )


def _images(entries: list[Any], path: Path) -> dict[Any, tuple[str, list[int]]]:
    """Image id -> its file name and [height, width], in ascending order of the ids. DataError for what is no image."""
    images: dict[Any, tuple[str, list[int]]] = {}
    for number, entry in enumerate(entries):
        where, id = f"images[{number}]", entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(id, int | str):
            raise DataError(f"`{where}` has no `id`", place=path)
        height, width = entry.get("height"), entry.get("width")
        sides = (height, width)
        if (
            not all(type(side) is int and 1 <= side <= _LONGEST_SIDE for side in sides)
            or math.prod(sides) > _MOST_PIXELS
        ):
            raise DataError(f"`{where}` has no usable `height` and `width`", place=path)
        if id in images:
            raise DataError(f"two images have the id {id}", place=path)
        images[id] = str(entry.get("file_name") or id), [height, width]
    if not images:
        raise DataError("has no image", place=path)
    names = [name for name, _ in images.values()]
    if len(set(names)) < len(names):
        images = {id: (str(id), size) for id, (_, size) in images.items()}
    return dict(sorted(images.items(), key=lambda item: (isinstance(item[0], str), item[0])))


def _classes(categories: list[Any], path: Path) -> tuple[tuple[str, ...], dict[Any, int]]:
    """The names, in the order of their ids, and category id -> index; of one name two ids are one class."""
    names: dict[Any, str] = {}
    for number, category in enumerate(categories):
        id, name = (category.get("id"), category.get("name")) if isinstance(category, dict) else (None, None)
        if not isinstance(id, int | str) or not isinstance(name, int | str) or not str(name).strip():
            raise DataError(f"`categories[{number}]` has no `id` or no `name`", place=path)
        if names.setdefault(id, str(name)) != str(name):
            raise DataError(f"two categories have the id {id}: `{names[id]}` and `{name}`", place=path)
    if not names:
        raise DataError("has no category", place=path)
    order = sorted(names, key=lambda id: (isinstance(id, str), id))
    classes = tuple(dict.fromkeys(names[id] for id in order))
    return classes, {id: classes.index(names[id]) for id in order}
