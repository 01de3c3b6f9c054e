"""How fast photos become arrays and drawn regions become label maps, on one core: medians of several rounds.

    python benchmarks/imaging_speed.py ../shared/data/car-parts/trainingset/annotations.json
    python benchmarks/imaging_speed.py path/to/instances.json --photos path/to/photos --limit 200

Rows that belong together run in turns, so that a busy machine slows them alike. Where pycocotools is installed, its way
to a label map (decode every mask, paint it over the last) runs beside ours and must give the same pixels.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from maskwright.core.types import Record, Region
from maskwright.imaging import draw, images, masks
from maskwright.imaging.palette import palette

NETWORK = (256, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path, help="a COCO instances JSON")
    parser.add_argument("--photos", type=Path, help="their folder; else they are looked for beside the JSON")
    parser.add_argument("--limit", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    records, polygons = load(options.labels, options.photos or options.labels.parent, options.limit)
    regions = sum(len(record.regions) for record in records)
    print(f"{len(records)} images, {regions / len(records):.1f} regions each, {NETWORK[0]} x {NETWORK[1]} network")
    photos = [record.image for record in records]
    pixels = [images.read(path) for path in photos]
    label_maps = [masks.label_map(record) for record in records]
    fittings = [images.plan(record.size, NETWORK, "squash") for record in records]
    jobs: dict[str, Callable[[int], object]] = {
        "label_map": lambda i: masks.label_map(records[i]),
        "class_areas": lambda i: masks.class_areas(records[i], 255),
        "mend_polygon, all of an image": lambda i: [masks.mend_polygon(flat, records[i].size) for flat in polygons[i]],
        "probe": lambda i: images.probe(photos[i]),
        "read": lambda i: images.read(photos[i]),
        "  plain Pillow, no checks": lambda i: np.array(Image.open(photos[i]).convert("RGB")),
        "read_fitted": lambda i: images.read_fitted(photos[i], NETWORK, "squash"),
        "fit": lambda i: images.fit(pixels[i], fittings[i]),
        "fit_label_map": lambda i: images.fit_label_map(label_maps[i], fittings[i]),
        "overlay": lambda i: draw.overlay(pixels[i], label_maps[i], palette(20)),
    }
    try:
        from pycocotools import mask as official
    except ImportError:
        print("pycocotools is not installed: nothing to compare label_map with")
    else:
        jobs["  pycocotools label map"] = lambda i: painted_by_pycocotools(official, records[i], polygons[i])
        assert all(np.array_equal(jobs["  pycocotools label map"](i), label_maps[i]) for i in range(len(records)))
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(options.rounds):
        for name, job in jobs.items():
            start = time.perf_counter()
            for i in range(len(records)):
                job(i)
            seconds[name].append((time.perf_counter() - start) / len(records))
    for name, values in seconds.items():
        middle = median(values)
        print(f"{name:30s} {1 / middle:10,.0f} images/s {middle * 1e3:9.3f} ms")


def load(labels: Path, photos: Path, limit: int) -> tuple[list[Record], list[list[list[float]]]]:
    """Records of the first images with polygons, and the flat polygons of each."""
    source = json.loads(labels.read_text())
    places = {path.name: path for path in photos.rglob("*") if images.is_image_name(path)}
    drawn: dict[int, list[dict]] = {}
    for annotation in source["annotations"]:
        if isinstance(annotation["segmentation"], list) and not annotation.get("iscrowd"):
            drawn.setdefault(annotation["image_id"], []).append(annotation)
    records, polygons = [], []
    for image in [image for image in source["images"] if image["id"] in drawn][:limit]:
        found = drawn[image["id"]]
        regions = tuple(Region(a["category_id"], tuple(points(p) for p in a["segmentation"])) for a in found)
        path = str(places[Path(image["file_name"]).name])
        records.append(Record(str(image["id"]), path, (image["height"], image["width"]), regions))
        polygons.append([flat for a in found for flat in a["segmentation"]])
    return records, polygons


def points(flat: list[float]) -> np.ndarray:
    return np.array(flat, np.float64).reshape(-1, 2)


def painted_by_pycocotools(official, record: Record, polygons: list[list[float]]) -> np.ndarray:
    """Every region decoded to a whole mask, large painted before small."""
    left = iter(polygons)
    rles = []
    for region in record.regions:
        parts = [next(left) for _ in region.polygons]
        rles.append(official.merge(official.frPyObjects(parts, *record.size)))
    canvas = np.zeros(record.size, np.uint8)
    for i in np.argsort(-official.area(rles).astype(np.int64), kind="stable"):
        canvas[official.decode(rles[i]).astype(bool)] = record.regions[i].label
    return canvas


if __name__ == "__main__":
    main()
