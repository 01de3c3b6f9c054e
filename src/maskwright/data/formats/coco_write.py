"""A Data as COCO instances JSON in COCO's own layout: `annotations/instances_<list>.json` and `<list>/` for each official
list; `annotations.json` and `images/` for what is in none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import orjson

from maskwright.core.files import written_whole
from maskwright.core.table import Data
from maskwright.core.types import VOID, Record, Region
from maskwright.data.formats.writing import empty_folder, stems, write_images
from maskwright.imaging import masks

CANNOT_HOLD = (
    "label maps without a background class (reading adds one)",
    "VOID pixels of a set whose only class is background",
    "holes of polygons",
    "attributes of images",
    "official lists of other names than train, val and test, or a single list",
)


def write(data: Data, folder: Path) -> None:
    """Writes the data set, photos included, into an empty folder (made when missing).

    Polygons stay polygons, run-lengths stay run-lengths with their crowd flag; a label map becomes one run-length object
    for each class, its VOID pixels a crowd. Raises SetupError when the folder is not empty or cannot be written, DataError
    when a photo or a label map cannot be read.
    """
    folder = Path(folder)
    empty_folder(folder)
    names = stems(data, by_split=True)
    documents: dict[str | None, dict[str, Any]] = {}
    for number, (record, name) in enumerate(zip(data, names, strict=True), start=1):
        document = documents.setdefault(record.split, _document())
        (height, width), suffix = record.size, Path(record.image).suffix.lower() if record.upright else ".png"
        document["images"].append({"id": number, "file_name": name + suffix, "width": width, "height": height})
        regions = record.regions if record.label_map is None else _regions(record, data)
        document["annotations"] += [_annotation(region, record.size, number) for region in regions]
    for split, document in (documents or {None: _document()}).items():
        _number(document["annotations"])
        first = 0 if any(a["category_id"] == 0 for a in document["annotations"]) or not data.has_background else 1
        document["categories"] = [{"id": i, "name": c} for i, c in enumerate(data.classes) if i >= first]
        path = folder / (f"annotations/instances_{split}.json" if split else "annotations.json")
        with written_whole(path) as temporary:
            temporary.write_bytes(orjson.dumps(document))
    write_images(data, folder, [f"{record.split or 'images'}/{name}" for record, name in zip(data, names, strict=True)])


def _document() -> dict[str, Any]:
    return {"info": {}, "images": [], "annotations": []}


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
    counts, _ = masks.mend_counts(rle["counts"], size)
    assert counts is not None
    segmentation: Any = [polygon.reshape(-1).tolist() for polygon in region.polygons]
    if region.counts is not None:
        segmentation = {"size": list(size), "counts": rle["counts"].decode()}
    return {
        "id": region.id,
        "image_id": image_id,
        "category_id": region.label,
        "iscrowd": int(region.crowd),
        "area": int(counts[1::2].sum()),
        "bbox": _box(counts, size[0]),
        "segmentation": segmentation,
        **({"attributes": attributes} if attributes else {}),
        **({"attribute_ids": ids} if ids else {}),
    }


def _box(counts: np.ndarray, height: int) -> list[int]:
    """x, y, width, height of the pixels in run-lengths."""
    edges = np.cumsum(counts, dtype=np.int64)
    starts, ends = edges[0::2][: len(edges) // 2], edges[1::2]
    starts, ends = starts[ends > starts], ends[ends > starts]
    if not len(starts):
        return [0, 0, 0, 0]
    left, right = starts[0] // height, (ends[-1] - 1) // height + 1
    whole = (starts // height != (ends - 1) // height).any()  # a run that goes on in the next column
    top, bottom = (0, height) if whole else ((starts % height).min(), ((ends - 1) % height).max() + 1)
    return [int(left), int(top), int(right - left), int(bottom - top)]


def _number(annotations: list[dict[str, Any]]) -> None:
    """Gives a fresh id to each annotation that has none, or one that is taken."""
    taken: set[int] = set()
    fresh = max((a["id"] for a in annotations), default=0)
    for annotation in annotations:
        if annotation["id"] < 0 or annotation["id"] in taken:
            fresh = max(fresh, 0) + 1
            annotation["id"] = fresh
        taken.add(annotation["id"])
