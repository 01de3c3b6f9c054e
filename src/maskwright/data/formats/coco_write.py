"""A Data as COCO instances JSON in COCO's own layout: `annotations/instances_<list>.json` and `<list>/` for each official
list; `annotations.json` and `images/` for what is in none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from maskwright.core.files import written_whole
from maskwright.core.table import Data
from maskwright.core.types import Region
from maskwright.data.formats.writing import drawn, empty_folder, image_suffix, stems, write_images
from maskwright.imaging import masks
from maskwright.imaging.objects import boxes_of

CANNOT_HOLD = (
    "label maps without a background class (reading adds one)",
    "VOID pixels of a set whose only class is background",
    "holes of polygons",
    "attributes of images",
    "official lists of other names than train, val and test, or a single list",
)


def write(data: Data, folder: Path) -> None:
    """Writes the data set, photos included, into an empty folder (made when missing).

    Polygons stay polygons, run-lengths stay run-lengths with their crowd flag; numbered objects become run-lengths, a label
    map without objects one for each class, its VOID pixels a crowd. Raises SetupError when the folder is not empty or cannot
    be written, DataError when a photo or a label map cannot be read.
    """
    folder = Path(folder)
    empty_folder(folder)
    names = stems(data, by_split=True)
    documents: dict[str | None, dict[str, Any]] = {}
    for number, (record, name) in enumerate(zip(data, names, strict=True), start=1):
        document = documents.setdefault(record.split, _document())
        (height, width), file_name = record.size, name + image_suffix(record)
        document["images"].append({"id": number, "file_name": file_name, "width": width, "height": height})
        regions = drawn(record, data.classes)
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


def _annotation(region: Region, size: tuple[int, int], image_id: int) -> dict[str, Any]:
    attributes = dict(region.attributes)
    ids = attributes.pop("attribute_ids", None)
    if attributes.keys() == {"attributes"}:
        attributes = attributes["attributes"]
    rle = masks.region_rle(region, size)
    counts, _ = masks.mend_counts(rle["counts"], size)
    assert counts is not None
    left, top, right, bottom = boxes_of([counts], size)[0].astype(int).tolist()
    segmentation: Any = [polygon.reshape(-1).tolist() for polygon in region.polygons]
    if region.counts is not None:
        segmentation = {"size": list(size), "counts": rle["counts"].decode()}
    return {
        "id": region.id,
        "image_id": image_id,
        "category_id": region.label,
        "iscrowd": int(region.crowd),
        "area": int(counts[1::2].sum()),
        "bbox": [left, top, right - left, bottom - top],
        "segmentation": segmentation,
        **({"attributes": attributes} if attributes else {}),
        **({"attribute_ids": ids} if ids else {}),
    }


def _number(annotations: list[dict[str, Any]]) -> None:
    """Gives a fresh id to each annotation that has none, or one that is taken."""
    taken: set[int] = set()
    fresh = max((a["id"] for a in annotations), default=0)
    for annotation in annotations:
        if annotation["id"] < 0 or annotation["id"] in taken:
            fresh = max(fresh, 0) + 1
            annotation["id"] = fresh
        taken.add(annotation["id"])
