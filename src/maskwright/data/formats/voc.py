"""PASCAL VOC: JPEGImages, SegmentationClass (palette PNG, 255 = void) and the lists of ImageSets/Segmentation.

Also sets of other classes in VOC's layout, as labelme and CVAT write them, with their list of classes beside the folders.
Written: the same layout; `class_names.txt` too where the classes are not VOC's.
Source of layout, class order and palette: the VOC2012 development kit (Everingham et al., IJCV 2010).
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from maskwright.core.errors import DataError
from maskwright.core.files import write_text
from maskwright.core.table import Data
from maskwright.core.types import BACKGROUND, VOID, Coding
from maskwright.data.formats import Format, class_lists
from maskwright.data.formats.pairing import (
    Pair,
    Probed,
    account,
    by_stem,
    listed,
    pack_pairs,
    probe_pairs,
)
from maskwright.data.formats.writing import empty_folder, lines, stems, write_images, write_label_maps
from maskwright.data.ledger import Ledger

CLASSES = tuple(
    f"{BACKGROUND} aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
    "pottedplant sheep sofa train tvmonitor".split()
)
IMAGES, LABEL_MAPS, OBJECTS, LISTS = "JPEGImages", "SegmentationClass", "SegmentationObject", "ImageSets/Segmentation"
OFFICIAL = ("train", "val", "trainval", "test")
ARCHIVES = (".tar", ".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")
COLOUR_MODES = ("RGB", "RGBA")


def voc_palette() -> np.ndarray:
    """VOC's colours, uint8 (256, 3): bits 0, 1, 2 of the index go to red, green, blue from the highest bit downwards."""
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for shift in range(8):
        for channel in range(3):
            colours[:, channel] |= ((index >> (3 * shift + channel) & 1) << (7 - shift)).astype(np.uint8)
    return colours


def read(path: Path, ledger: Ledger, *, labels: str | None = None) -> Data:
    """The segmentation part of a VOC folder, with its official lists.

    labels: file with class names in order of the palette index (class_names.txt, CVAT's labelmap.txt); looked for beside
      the folders when left out, and VOC's 20 classes when there is none.
    """
    base = _base(path)
    names = listed(path)
    top = "" if base == path else base.relative_to(path).as_posix() + "/"
    class_file = path / labels if labels is not None else class_lists.find(*([base] if base == path else [base, path]))
    classes, codings = _classes(class_file)
    images, label_maps = by_stem(names, top + IMAGES), by_stem(names, top + LABEL_MAPS)
    lists = [name for name in names if name.startswith(f"{top}{LISTS}/") and name.endswith(".txt") and not stray_list(name)]
    splits = _splits(path, lists, ledger)
    if not lists:
        splits = dict.fromkeys(label_maps)
        ledger.note(f"no list in {LISTS}/: every image with a label map is taken")
    pairs = [_pair(path, stem, images.get(stem, []), label_maps.get(stem, []), split) for stem, split in splits.items()]
    taken = {name for stem in splits for name in (*images.get(stem, ()), *label_maps.get(stem, ()))}
    taken |= {*lists, *(name for name in names if class_file is not None and path / name == class_file)}
    account(ledger, path, names, taken, lambda name: _why(name, top, bool(lists)))
    return pack_pairs(probe_pairs(pairs, ledger), classes, lambda item: codings[_is_coloured(item, class_file)], ledger)


def sniff(path: Path) -> tuple[float, str]:
    """Knows the folder by its sub-folders; archives and web pages are known too, so that `read` can say what to do."""
    if path.is_file() and _not_a_folder(path) is not None:
        return 0.1, "an archive or a web page where a folder is needed"
    found = _bases(path) if path.is_dir() else []
    if not found:
        return 0.0, f"no {IMAGES} and {LABEL_MAPS} folders"
    known = found[0] == path or found[0].name.startswith("VOC")
    where = "" if found[0] == path else f" in {found[0].relative_to(path).as_posix()}/"
    return (1.0 if known else 0.8), f"{IMAGES} and {LABEL_MAPS}{where}"


def write(data: Data, folder: Path) -> None:
    """Writes images, palette PNGs and lists; a record in no list stands in trainval.txt alone."""
    empty_folder(folder)
    names = stems(data)
    write_images(data, folder / IMAGES, names)
    write_label_maps(data, folder / LABEL_MAPS, names, palette=voc_palette())
    in_list: dict[str | None, list[str]] = {}
    for name, number in zip(names, data.split, strict=True):
        in_list.setdefault(None if number < 0 else data.split_names[number], []).append(name)
    in_list["trainval"] = [name for split in ("train", "val", None) for name in in_list.pop(split, [])] if None in in_list else [
        name for split in ("train", "val") for name in in_list.get(split, [])
    ]
    for split, members in in_list.items():
        write_text(folder / LISTS / f"{split}.txt", lines(members))
    if data.classes != CLASSES:
        write_text(folder / "class_names.txt", lines(data.classes))
