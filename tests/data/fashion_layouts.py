"""The one truth in the layouts of fashion data sets, written with json, csv and numpy alone; more rows for `LAYOUTS`."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from truth_writers import (
    CLASSES,
    SHAPES,
    Layout,
    Truth,
    as_counts,
    as_polygons,
    as_string,
    coco,
    run_lengths,
    save_photo,
)

from maskwright.core.types import VOID, Region
from maskwright.imaging import masks

MODANET = ("bag", "belt", "boots", "footwear", "outer", "dress", "sunglasses", "pants", "top", "shorts", "skirt")
MODANET += ("headwear", "scarf/tie")


def pixels(mask: np.ndarray, *, first: int = 1) -> str:
    """A mask bool (H, W) as `start length ...`, column after column, the top left pixel being number `first`."""
    counts = run_lengths(mask)
    starts = np.cumsum(counts)[0::2] + first
    return " ".join(f"{start} {length}" for start, length in zip(starts.tolist(), counts[1::2]))


def write_csv(path: Path, header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def modanet(folder: Path, samples: list[Truth]) -> None:
    """ModaNet's classes and boxes, `area` that of the box."""
    coco(as_polygons)(folder, samples)
    document = json.loads((folder / "instances.json").read_text())
    document["categories"] = [{"id": 7 * i, "name": name} for i, name in enumerate(MODANET, 1)]
    for annotation in document["annotations"]:
        xs, ys = annotation["segmentation"][0][0::2], annotation["segmentation"][0][1::2]
        annotation["bbox"] = [3, 3, max(xs) - min(xs), max(ys) - min(ys)]
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    (folder / "instances.json").write_text(json.dumps(document))


def fashionpedia(folder: Path, samples: list[Truth]) -> None:
    """Polygons and run-lengths of both kinds in turn, no boxes, an attribute each."""

    def mixed(region: Region, size: tuple[int, int]) -> Any:
        return (as_polygons, as_counts, as_string)[region.id % 3](region, size)

    coco(mixed)(folder, samples)
    document = json.loads((folder / "instances.json").read_text())
    document["attributes"] = [{"id": 5, "name": "striped"}]
    for annotation in document["annotations"]:
        annotation["attribute_ids"] = [5] if annotation["id"] % 2 else []
    (folder / "instances.json").write_text(json.dumps(document))


def descriptions() -> str:
    categories = [{"id": i, "name": name} for i, name in enumerate(SHAPES)]
    attributes = [{"id": 4, "name": "striped"}, {"id": 9, "name": "short"}]
    return json.dumps({"info": {}, "categories": categories, "attributes": attributes})


def objects(samples: list[Truth], first: int = 1) -> list[tuple[Truth, Region | None, str]]:
    """What a CSV can hold of the truth: all that is no crowd; an image without objects has one row without pixels."""
    made: list[tuple[Truth, Region | None, str]] = []
    for sample in samples:
        drawn = [region for region in sample.regions if not region.crowd]
        made += [(sample, r, pixels(masks.region_mask(r, sample.size), first=first)) for r in drawn]
        made += [] if drawn else [(sample, None, "")]
    return made


def imaterialist(folder: Path, samples: list[Truth]) -> None:
    rows = []
    for i, (sample, region, runs) in enumerate(objects(samples)):
        label = "0" if region is None else f"{region.label - 1}{('', '_4', '_9_4')[i % 3]}"
        rows.append((f"{sample.name}.jpg", runs, *sample.size, label))
    write_csv(folder / "train.csv", ("ImageId", "EncodedPixels", "Height", "Width", "ClassId"), rows)
    _beside(folder, samples)


def imaterialist_2020(folder: Path, samples: list[Truth]) -> None:
    rows = []
    for sample, region, runs in objects(samples):
        rows.append((sample.name, runs, *sample.size, 0 if region is None else region.label - 1, "4,9"))
    write_csv(folder / "train.csv", ("ImageId", "EncodedPixels", "Height", "Width", "ClassId", "AttributesIds"), rows)
    _beside(folder, samples)


def diy(folder: Path, samples: list[Truth]) -> None:
    """The columns of a home-made set, pixels counted from 0."""
    rows = []
    for sample, region, runs in objects(samples, first=0):
        label = 1 if region is None else region.label
        rows.append((f"{sample.name}.jpg", runs, label, *sample.size, SHAPES[label - 1]))
    write_csv(folder / "train.csv", ("img_id", "rle", "cat_id", "h", "w", "cat_name"), rows)
    _beside(folder, samples, named=False)


def _beside(folder: Path, samples: list[Truth], *, named: bool = True) -> None:
    for sample in samples:
        save_photo(folder / "train" / f"{sample.name}.jpg", sample.jpeg)
    if named:
        (folder / "label_descriptions.json").write_text(descriptions())


def no_crowds(label_map: np.ndarray) -> np.ndarray:
    return np.where(label_map == VOID, 0, label_map).astype(np.uint8)


LAYOUTS = (
    Layout("modanet", modanet, "modanet", ("background", *MODANET)),
    Layout("fashionpedia", fashionpedia, "fashionpedia"),
    Layout("imaterialist", imaterialist, "imaterialist", CLASSES, reduced=no_crowds),
    Layout("imaterialist 2020", imaterialist_2020, "imaterialist", CLASSES, reduced=no_crowds),
    Layout("imaterialist diy", diy, "imaterialist", CLASSES, {"first_pixel": 0}, reduced=no_crowds),
)
