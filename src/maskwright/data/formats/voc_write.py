"""A Data as a VOC folder: JPEGImages, SegmentationClass and, where there are single objects, SegmentationObject; the lists.

`class_names.txt` is written too where the classes are not VOC's.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from maskwright.core.errors import DataError
from maskwright.core.files import write_text, written_whole
from maskwright.core.table import Data
from maskwright.core.types import VOID, Record
from maskwright.core.words import counted
from maskwright.data.formats import class_lists
from maskwright.data.formats.pairing import in_threads
from maskwright.data.formats.writing import empty_folder, stems, write_images, write_label_maps
from maskwright.imaging import images, masks
from maskwright.imaging.objects import has_objects, objects_of

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
IMAGES, LABEL_MAPS, OBJECTS, LISTS = "JPEGImages", "SegmentationClass", "SegmentationObject", "ImageSets/Segmentation"
CANNOT_HOLD = (
    "overlaps",
    "the class of crowds",
    "corners of polygons",
    "the numbers of objects",
    "attributes",
    "lists beyond train, val and test",
)
MOST_OBJECTS = masks.VOID_NUMBERS[1] - 1


def voc_palette() -> np.ndarray:
    """VOC's colours, uint8 (256, 3): bits 0, 1, 2 of the index go to red, green, blue from the highest bit downwards."""
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for place in range(8):
        for channel in range(3):
            colours[:, channel] |= ((index >> (3 * place + channel) & 1) << (7 - place)).astype(np.uint8)
    return colours


def write(data: Data, folder: Path) -> None:
    """Writes images, palette PNGs and lists; a record that is in no list, or in one VOC does not know, is in trainval only.

    Objects are numbered from 1 in the order of the data and painted as label maps are, the smaller over the larger; crowds
    are void in both. An image of more than 254 objects has a grey PNG of 16 bits, whose void is 65535.
    """
    folder = Path(folder)
    empty_folder(folder)
    names = stems(data)
    write_images(data, folder / IMAGES, names)
    write_label_maps(data, folder / LABEL_MAPS, names, palette=voc_palette())
    _write_objects(data, folder / OBJECTS, names)
    splits = [data.split_names[number] if number >= 0 else None for number in data.split]
    lists = {
        name: [n for n, split in zip(names, splits, strict=True) if split == name] for name in ("train", "val", "test")
    }
    lists["trainval"] = [n for n, split in zip(names, splits, strict=True) if split != "test"]
    for name, members in lists.items():
        if members:
            write_text(folder / LISTS / f"{name}.txt", "".join(f"{member}\n" for member in members))
    if data.classes != CLASSES:
        write_text(folder / "class_names.txt", class_lists.to_text(data.classes))


def _write_objects(data: Data, folder: Path, names: list[str]) -> None:
    """The maps of object numbers of the records that have single objects."""

    def save(index: int) -> None:
        record = data[index]
        if has_objects(record):
            save_numbers(folder / f"{names[index]}.png", numbered(record, data.classes))

    in_threads(save, range(len(data)), "Writing object maps")


def numbered(record: Record, classes: tuple[str, ...]) -> np.ndarray:
    """Which object each pixel shows, from 1 in the order of `objects_of`: uint8 (H, W), uint16 above 254 objects.

    What counts nowhere is 255, with 16 bits 65535. Raises DataError for more than 65,534 objects.
    """
    objects = objects_of(record, classes)
    if len(objects) > MOST_OBJECTS:
        what = f"{counted(len(objects), 'object')} are more than the {MOST_OBJECTS:,} that a map of numbers can hold"
        raise DataError(what, place=record.image)
    void = VOID if len(objects) < VOID else masks.VOID_NUMBERS[1]
    numbers = np.zeros(record.size, np.uint8 if void == VOID else np.uint16)
    if record.label_map is not None:
        numbers[masks.label_map(record) == VOID] = void
    areas = np.where(objects.crowd, np.iinfo(np.int64).max, objects.areas())  # crowds lie below all
    for index in np.argsort(-areas, kind="stable").tolist():
        left, top, right, bottom = objects.boxes[index].astype(int)
        number = void if objects.crowd[index] else index + 1
        np.copyto(numbers[top:bottom, left:right], numbers.dtype.type(number), where=objects.cut(index))
    return numbers


def save_numbers(path: Path, numbers: np.ndarray) -> None:
    """A map of object numbers as PNG: uint8 with VOC's palette, uint16 as grey."""
    if numbers.dtype == np.uint8:
        images.save_label_map(path, numbers, voc_palette())
        return
    with written_whole(path) as temporary:
        Image.fromarray(numbers).save(temporary, format="PNG")
