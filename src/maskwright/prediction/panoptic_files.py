"""The COCO panoptic format: a JSON with the segments of each image, and a folder of PNGs whose colours are their numbers.

A pixel's number is R + 256 G + 256 x 256 B, 0 is void. The folder has the JSON's name without `.json`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from maskwright.core import events, files
from maskwright.core.errors import DataError
from maskwright.core.words import counted
from maskwright.data.formats import coco_json
from maskwright.data.formats.coco_json import kind_of
from maskwright.data.formats.pairing import listed
from maskwright.imaging import images
from maskwright.imaging.objects import boxes_of, encoded
from maskwright.metrics.panoptic import NOTHING, Panoptics, PanopticScores, Segments

_LARGEST = 256**3 - 1
_MARK = b'"segments_info"'


@dataclass(frozen=True)
class Album:
    """A panoptic JSON. files: image id -> its PNG; segments: image id -> its `segments_info`; labels: category id -> class.
    names: image id -> its photo's name, where the JSON lists images."""

    path: Path
    classes: tuple[str, ...]
    things: tuple[bool, ...]
    labels: Mapping[Any, int]
    files: Mapping[Any, Path]
    segments: Mapping[Any, list[Any]]
    names: Mapping[Any, str]

    def read(self, id: Any, labels: Mapping[Any, int] | None = None) -> Segments:
        """The segments of an image. labels: category id -> class, left out: the JSON's own.

        Raises DataError when the PNG cannot be read, or the JSON does not describe what is in it.
        """
        path, known = self.files[id], self.labels if labels is None else labels
        with images.opened(path) as picture:
            colours = np.asarray(picture.convert("RGB")).astype(np.int64)
        map = colours @ np.array([1, 256, 256 * 256])
        rows = [_segment(row, known, self.path, id) for row in self.segments[id]]
        numbers = np.array([row[0] for row in rows], np.int64)
        if len(np.unique(numbers)) < len(numbers):
            raise DataError(f"two segments of the image {id} have one `id`", place=self.path)
        strange = np.setdiff1d(map, np.append(numbers, NOTHING))
        if len(strange):
            what = f"holds {counted(len(strange), 'segment')} that {self.path.name} does not list, such as {strange[0]}"
            raise DataError(what, place=path)
        crowd = np.array([row[2] for row in rows], np.bool_)
        return Segments(map, numbers, np.array([row[1] for row in rows], np.int64), crowd)


def is_panoptic(path: Path) -> bool:
    """Whether a file is a panoptic JSON, by its ends."""
    return path.is_file() and path.suffix.lower() == ".json" and _MARK in coco_json.ends(path)


def json_of(path: Path, but: Path | None = None) -> Path:
    """The panoptic JSON at a path: itself, or the only one of a folder. but: a file that is not meant.

    Raises DataError when a folder holds none, or several.
    """
    if not path.is_dir():
        return path
    names = [name for name in listed(path) if name.lower().endswith(".json")]
    found = [path / name for name in names if is_panoptic(path / name)]
    found = [file for file in found if but is None or file.resolve() != but.resolve()]
    if len(found) == 1:
        return found[0]
    hint = f"give the one that is meant: {found[0]}" if found else "a panoptic JSON is scored against another"
    raise DataError(f"holds {counted(len(found), 'panoptic JSON')}", place=path, hint=hint)


def open_album(path: Path, folder: Path | None = None, like: Album | None = None) -> Album:
    """A panoptic JSON. folder: of the PNGs; left out: the one of its name beside it, else its own where they lie right beside
    it. like: whose categories count where it lists none, as predictions do. Raises DataError when it is no such file."""
    tree, _ = coco_json.parsed(path)
    if not isinstance(tree, dict) or not isinstance(tree.get("annotations"), list):
        raise DataError(f"holds {kind_of(tree)} without a list of `annotations`: no panoptic JSON", place=path)
    if folder is None:
        folder = path.with_suffix("")
        folder = path.parent if not folder.exists() and _pngs_of(tree, path.parent) else folder
    if not folder.is_dir():
        raise DataError("not a folder", place=folder, hint="the PNGs lie in a folder with the name of the JSON")
    found: dict[Any, Path] = {}
    segments: dict[Any, list[Any]] = {}
    for number, entry in enumerate(tree["annotations"]):
        rows, name = (entry.get("segments_info"), entry.get("file_name")) if isinstance(entry, dict) else (None, None)
        if not isinstance(rows, list) or not isinstance(name, str) or not isinstance(entry.get("image_id"), int | str):
            what = f"`annotations[{number}]` has no `image_id`, `file_name` or `segments_info`"
            raise DataError(what, place=path)
        if entry["image_id"] in found:
            raise DataError(f"the image {entry['image_id']} is listed twice", place=path)
        found[entry["image_id"]], segments[entry["image_id"]] = folder / Path(name).name, rows
    listed = [i for i in tree.get("images") or [] if isinstance(i, dict) and isinstance(i.get("id"), int | str)]
    names = {image["id"]: str(image.get("file_name", image["id"])) for image in listed}
    if like is not None and not tree.get("categories"):
        return Album(path, like.classes, like.things, like.labels, found, segments, names)
    classes, things, labels = _categories(tree.get("categories"), path)
    return Album(path, classes, things, labels, found, segments, names)


def _pngs_of(tree: Any, folder: Path) -> bool:
    """Whether the first PNG that a panoptic JSON names lies right in a folder."""
    first = next(iter(tree["annotations"]), None)
    name = first.get("file_name") if isinstance(first, dict) else None
    return isinstance(name, str) and (folder / Path(name).name).is_file()


def evaluate(found: Path, truth: Path, *, allow_refused: bool = False, resamples: int = 1000) -> PanopticScores:
    """Panoptic quality of one panoptic JSON against another, or that of a folder. Classes are matched by name, images by their
    photos' names where both list them, else by id.

    Raises DataError when an image of the truth is not there (unless `allow_refused`: it is left out), or a class is not.
    """
    true = open_album(json_of(truth, but=found))
    ours = open_album(found, like=true)
    unknown = [name for name in ours.classes if name not in true.classes]
    partners = _partners(true, ours)
    absent = [id for id in true.files if id not in partners]
    if absent and not allow_refused:
        what = f"has no segments for {len(absent)} of {counted(len(true.files), 'image')}, such as {absent[0]}"
        raise DataError(what, place=found, hint="score the rest with --allow-refused")
    labels = {
        id: true.classes.index(ours.classes[c]) for id, c in ours.labels.items() if ours.classes[c] in true.classes
    }
    notes = [f"classes that the truth does not have: {', '.join(unknown)}"] if unknown else []
    if extra := len(ours.files.keys() - set(partners.values())):
        notes.append(f"{counted(extra, 'image')} that the truth does not list left out")
    panoptics = Panoptics(true.classes, true.things)
    common = [id for id in true.files if id in partners]
    for id in events.progress(common, "evaluate", len(common)):
        panoptics.add(str(true.names.get(id, id)), true.read(id), ours.read(partners[id], labels))
    return panoptics.scores(expected=len(true.files), resamples=resamples, notes=notes)


def _partners(true: Album, ours: Album) -> dict[Any, Any]:
    """Image id of the truth -> ours: of the photo of the same name where both list each photo under a name of its own and
    have one in common; else of the same id."""
    by_name = []
    for album in (true, ours):
        stems = {PurePosixPath(album.names[id]).stem: id for id in album.files if id in album.names}
        by_name.append(stems if len(stems) == len(album.files) else {})
    theirs, mine = by_name
    same = {id: mine[stem] for stem, id in theirs.items() if stem in mine}
    return same or {id: id for id in true.files if id in ours.files}


def write(path: Path, images: Iterable[tuple[str, Segments]], classes: Sequence[str], things: Sequence[bool]) -> None:
    """Writes a panoptic JSON and its PNGs; images: name of the photo and its segments. Categories are numbered from 1.

    Raises SetupError when nothing can be written there, DataError when two photos' PNGs would have one name.
    """
    folder = path.with_suffix("")
    entries, annotations = [], []
    taken: set[str] = set()
    for number, (name, segments) in enumerate(images, start=1):
        png = f"{Path(name).stem}.png"
        if png in taken:
            raise DataError(f"two photos are called {Path(name).stem}", place=path)
        taken.add(png)
        write_map(folder / png, segments.map)
        height, width = segments.map.shape
        entries.append({"id": number, "file_name": name, "height": height, "width": width})
        annotations.append({"image_id": number, "file_name": png, "segments_info": infos(segments)})
    files.write_json(path, {"images": entries, "annotations": annotations, "categories": categories(classes, things)})


def categories(classes: Sequence[str], things: Sequence[bool]) -> list[dict[str, Any]]:
    """The `categories` of a panoptic JSON, numbered from 1."""
    return [{"id": i, "name": n, "isthing": int(t)} for i, (n, t) in enumerate(zip(classes, things, strict=True), 1)]


def write_map(path: Path, map: np.ndarray) -> None:
    """A map of segment numbers (H, W) as a PNG of their colours. Raises SetupError when it cannot be written."""
    assert map.min(initial=0) >= 0
    assert map.max(initial=0) <= _LARGEST
    colours = map.astype("<u4", order="C").view(np.uint8).reshape(*map.shape, 4)[..., :3]
    with files.written_whole(path) as temporary:
        Image.fromarray(np.ascontiguousarray(colours)).save(temporary, "PNG")


def infos(segments: Segments) -> list[dict[str, Any]]:
    """`segments_info` of the segments that have a pixel."""
    runs, made = encoded(segments.map), []
    present = [int(number) in runs for number in segments.numbers]
    boxes = boxes_of([runs[int(number)] for number in segments.numbers[present]], segments.map.shape).astype(int)
    columns = (segments.numbers[present], segments.labels[present], segments.crowd[present], boxes.tolist())
    for number, label, crowd, (left, top, right, bottom) in zip(*columns, strict=True):
        info = {"id": int(number), "category_id": int(label) + 1, "iscrowd": int(crowd)}
        area = int(runs[int(number)][1::2].sum(dtype=np.int64))
        made.append({**info, "area": area, "bbox": [left, top, right - left, bottom - top]})
    return made


def _segment(row: Any, labels: Mapping[Any, int], path: Path, image: Any) -> tuple[int, int, bool]:
    """Number, class and crowd flag of a segment. DataError for what is none."""
    number, category = (row.get("id"), row.get("category_id")) if isinstance(row, dict) else (None, None)
    if type(number) is not int or not 0 < number <= _LARGEST:
        raise DataError(f"a segment of the image {image} has no `id` from 1 to {_LARGEST:,}", place=path)
    if not isinstance(category, int | str) or category not in labels:
        raise DataError(f"the segment {number} of the image {image} is of no category that is scored", place=path)
    return number, labels[category], bool(row.get("iscrowd"))


def _categories(rows: Any, path: Path) -> tuple[tuple[str, ...], tuple[bool, ...], dict[Any, int]]:
    """Names, whether they are things, and category id -> index."""
    if not isinstance(rows, list) or not rows:
        raise DataError("has no `categories`", place=path)
    labels: dict[Any, int] = {}
    names: dict[str, bool] = {}
    for number, row in enumerate(rows):
        id, name = (row.get("id"), row.get("name")) if isinstance(row, dict) else (None, None)
        if not isinstance(id, int | str) or not isinstance(name, str) or row.get("isthing") not in (0, 1):
            raise DataError(f"`categories[{number}]` has no `id`, `name` or `isthing`", place=path)
        if id in labels or name in names:
            raise DataError(f"two categories are called {name if name in names else id}", place=path)
        labels[id], names[name] = len(names), bool(row["isthing"])
    return tuple(names), tuple(names.values()), labels
