"""A Data as COCO instances JSON: `annotations.json`, or one JSON for each official list, and the photos below `images/`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from maskwright.core.files import cannot_write, check_writable, written_whole
from maskwright.core.table import Data
from maskwright.core.types import VOID, Record, Region
from maskwright.imaging import masks

CANNOT_HOLD = (
    "label maps without a background class (reading adds one)",
    "VOID pixels of a set whose only class is background",
    "holes of polygons",
    "attributes of images",
)


def write(data: Data, folder: Path) -> None:
    """Writes the data set into a folder (made when missing).

    Polygons stay polygons, run-lengths stay run-lengths with their crowd flag; a label map becomes one run-length object
    for each class, its VOID pixels a crowd. A photo that is not below `folder` is linked (or else copied) into
    `folder/images/`. Records of an official list go to `annotations/instances_<list>.json`, all others to
    `annotations.json`. Raises SetupError when a file cannot be written.
    """
    folder = Path(folder)
    check_writable(folder)
    documents: dict[str, dict[str, Any]] = {}
    for number, record in enumerate(data, start=1):
        name = f"annotations/instances_{record.split}.json" if record.split else "annotations.json"
        document = documents.setdefault(name, {"info": {}, "images": [], "annotations": []})
        height, width = record.size
        file_name = _photo(record, folder)
        document["images"].append({"id": number, "file_name": file_name, "width": width, "height": height})
        regions = record.regions if record.label_map is None else _regions(record, data)
        document["annotations"] += [_annotation(region, record.size, number) for region in regions]
    for name, document in documents.items() or [("annotations.json", {"info": {}, "images": [], "annotations": []})]:
        _number(document["annotations"])
        first = 0 if any(a["category_id"] == 0 for a in document["annotations"]) or not data.has_background else 1
        document["categories"] = [{"id": i, "name": c} for i, c in enumerate(data.classes) if i >= first]
        with written_whole(folder / name) as temporary:
            temporary.write_bytes(orjson.dumps(document))


def _photo(record: Record, folder: Path) -> str:
    """The `file_name` of a record: its place below the folder, or its id once the photo is in `images/`."""
    image = Path(record.image)
    if image.resolve().is_relative_to(folder.resolve()):
        return image.resolve().relative_to(folder.resolve()).as_posix()
    name = record.id if record.id.lower().endswith(image.suffix.lower()) else record.id + image.suffix
    name = "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", ".", ".."))
    target = folder / "images" / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            os.link(image.resolve(), target)
        except OSError:  # another file system, or none that links
            shutil.copyfile(image, target)
    except OSError as error:
        raise cannot_write(target, error) from error
    return name


def _regions(record: Record, data: Data) -> list[Region]:
    """A label map as one region for each class in it; VOID as a crowd, of whatever class."""
    flat = masks.label_map(record).T.reshape(-1)
    starts = np.flatnonzero(np.concatenate(([True], flat[1:] != flat[:-1])))
    ends, values = np.append(starts[1:], len(flat)), flat[starts]
    regions = []
    for value in np.unique(values).tolist():
        mine = values == value
        # the stretches without the class, then with it, one after the other; and what is left at the end
        edges = np.stack([starts[mine], ends[mine]], axis=1).reshape(-1)
        counts = np.diff(edges, prepend=0, append=len(flat)).astype(np.uint32)
        crowd, background = value == VOID, int(data.has_background)
        if (value == 0 and background) or (crowd and len(data.classes) == background):
            continue
        regions.append(Region(background if crowd else value, counts=counts, crowd=crowd))
    return regions


def _annotation(region: Region, size: tuple[int, int], image_id: int) -> dict[str, Any]:
    attributes = dict(region.attributes)
    ids = attributes.pop("attribute_ids", None)
    if attributes.keys() == {"attributes"}:
        attributes = attributes["attributes"]
    rle = masks.region_rle(region, size)
    segmentation: Any = [polygon.reshape(-1).tolist() for polygon in region.polygons]
    if region.counts is not None:
        segmentation = {"size": list(size), "counts": rle["counts"].decode()}
    return {
        "id": region.id,
        "image_id": image_id,
        "category_id": region.label,
        "iscrowd": int(region.crowd),
        "area": masks.region_area(region, size),
        "bbox": _box(region, size),
        "segmentation": segmentation,
        **({"attributes": attributes} if attributes else {}),
        **({"attribute_ids": ids} if ids else {}),
    }


def _box(region: Region, size: tuple[int, int]) -> list[float]:
    """x, y, width, height: of the polygons' points inside the image, or of the run-lengths' pixels."""
    height, width = size
    if region.counts is None:
        points = np.concatenate([np.zeros((0, 2)), *region.polygons]).clip(0, [width, height])
        (x0, y0), (x1, y1) = (points.min(axis=0), points.max(axis=0)) if len(points) else ((0, 0), (0, 0))
        return [float(x0), float(y0), float(x1 - x0), float(y1 - y0)]
    edges = np.cumsum(region.counts, dtype=np.int64)
    starts, ends = edges[0::2][: len(edges) // 2], edges[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    if not len(starts):
        return [0.0, 0.0, 0.0, 0.0]
    left, right = starts[0] // height, (ends[-1] - 1) // height + 1
    whole = (starts // height != (ends - 1) // height).any()  # a run that goes on in the next column
    top, bottom = (0, height) if whole else ((starts % height).min(), ((ends - 1) % height).max() + 1)
    return [float(left), float(top), float(right - left), float(bottom - top)]


def _number(annotations: list[dict[str, Any]]) -> None:
    """Gives a fresh id to each annotation that has none, or one that is taken."""
    taken: set[int] = set()
    fresh = max((a["id"] for a in annotations), default=0)
    for annotation in annotations:
        if annotation["id"] < 0 or annotation["id"] in taken:
            fresh = max(fresh, 0) + 1
            annotation["id"] = fresh
        taken.add(annotation["id"])
