"""The generated truth in formats of object numbers and of MATLAB matrices, written by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from truth_writers import CLASSES, COLOURS, SHAPES, Layout, Truth, save_mask, save_photo, voc

from maskwright.core.types import VOID
from maskwright.imaging import masks


def numbered(sample: Truth) -> tuple[np.ndarray, list[int]]:
    """The visible objects numbered from 1 without gaps, uint8 (H, W), VOID where it counts nowhere; the class of each."""
    areas = [masks.region_area(region, sample.size) for region in sample.regions]
    numbers = np.zeros(sample.size, np.int64)
    for place in sorted(range(len(areas)), key=lambda place: (not sample.regions[place].crowd, -areas[place], place)):
        region = sample.regions[place]
        numbers[masks.region_mask(region, sample.size)] = -1 if region.crowd else place + 1
    seen = [number for number in np.unique(numbers).tolist() if number > 0]
    made = np.where(numbers < 0, VOID, 0).astype(np.uint8)
    for new, old in enumerate(seen, 1):
        made[numbers == old] = new
    return made, [sample.regions[old - 1].label for old in seen]


def penn_fudan(folder: Path, samples: list[Truth]) -> None:
    for sample in samples:
        save_photo(folder / "PNGImages" / f"{sample.name}.jpg", sample.jpeg)
        save_mask(folder / "PedMasks" / f"{sample.name}_mask.png", numbered(sample)[0])
    (folder / "readme.txt").write_text("masks")


def with_table(folder: Path, samples: list[Truth]) -> None:
    """16 bits, void 65535."""
    with (folder / "objects.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["class", "image", "object"])
        rows.writerows([shape, "another", number] for number, shape in enumerate(SHAPES, 1))
        for sample in samples:
            numbers, labels = numbered(sample)
            wide = np.where(numbers == VOID, np.uint16(65535), numbers)
            save_photo(folder / "images" / f"{sample.name}.jpg", sample.jpeg)
            save_mask(folder / "instances" / f"{sample.name}.png", wide)
            rows.writerows([CLASSES[label], sample.name, number] for number, label in enumerate(labels, 1))


def voc_objects(folder: Path, samples: list[Truth]) -> None:
    voc(folder, samples)
    for sample in samples:
        place = folder / "VOCdevkit" / "VOC2012" / "SegmentationObject" / f"{sample.name}.png"
        save_mask(place, numbered(sample)[0], palette=COLOURS)


def voc_objects_in_colour(folder: Path, samples: list[Truth]) -> None:
    voc(folder, samples)
    colours = np.random.default_rng(0).permutation(256)[:, None] * np.array([1, 0, 0]) + np.array([0, 1, 7])
    colours[0], colours[VOID] = 0, (224, 224, 192)
    for sample in samples:
        place = folder / "VOCdevkit" / "VOC2012" / "SegmentationObject" / f"{sample.name}.png"
        save_mask(place, colours.astype(np.uint8)[numbered(sample)[0]])


def matlab(folder: Path, samples: list[Truth]) -> None:
    from scipy.io import savemat

    for number, sample in enumerate(samples):
        save_photo(folder / "photos" / f"{sample.name}.jpg", sample.jpeg)
        place = folder / "annotations" / "pixel-level" / f"{sample.name}.mat"
        place.parent.mkdir(parents=True, exist_ok=True)
        values = np.where(sample.label_map == VOID, len(CLASSES), sample.label_map)
        savemat(place, {"groundtruth": values.astype(np.float64 if number % 2 else np.uint8)}, do_compression=True)
    tags = folder / "annotations" / "image-level"
    tags.mkdir()
    savemat(tags / "tags.mat", {"tags": np.arange(4)})
    names = np.empty((1, len(CLASSES) + 1), object)
    names[0] = ["null", *SHAPES, "ignore"]
    savemat(folder / "label_list.mat", {"label_list": names})


def one_class(label_map: np.ndarray) -> np.ndarray:
    return np.where(label_map == VOID, VOID, label_map > 0).astype(np.uint8)


NUMBER_LAYOUTS = (
    Layout("Penn-Fudan", penn_fudan, "index_png", ("background", "object"), reduced=one_class),
    Layout("object numbers and a table", with_table, "index_png", options={"table": "objects.csv"}),
    Layout("voc with objects", voc_objects, "voc"),
    Layout("voc with objects in colour", voc_objects_in_colour, "voc"),
    Layout("matlab", matlab, "mat"),
)
