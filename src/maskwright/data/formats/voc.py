"""PASCAL VOC: JPEGImages, SegmentationClass and SegmentationObject (palette PNG, 255 = void), lists in ImageSets/Segmentation.

Also sets of other classes in VOC's layout, as labelme and CVAT write them, with their list of classes beside the folders.
Written: the same layout (`voc_write`).
Source of layout, class order and palette: the VOC2012 development kit (Everingham et al., IJCV 2010).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from maskwright.core.errors import DataError
from maskwright.core.table import Data
from maskwright.core.types import VOID, Coding
from maskwright.core.words import counted
from maskwright.data.formats import Format, class_lists
from maskwright.data.formats.class_lists import ClassList
from maskwright.data.formats.pairing import (
    Pair,
    Probed,
    account,
    by_stem,
    in_threads,
    listed,
    pack_pairs,
    probe,
    probe_pairs,
    read_list,
    sentence,
    stray,
)
from maskwright.data.formats.voc_write import (
    CANNOT_HOLD,
    CLASSES,
    IMAGES,
    LABEL_MAPS,
    LISTS,
    OBJECTS,
    voc_palette,
    write,
)
from maskwright.data.ledger import Ledger

OFFICIAL = ("trainval", "train", "val", "test")  # a later one wins; trainval is no split of its own
OTHERS = {"Annotations": "boxes", "ImageSets": "another list"}
ARCHIVES = (".tar", ".zip", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar")


def read(path: Path, ledger: Ledger, *, labels: str | None = None) -> Data:
    """The segmentation part of a VOC folder, with its official lists.

    labels: file with class names in order of the palette index (class_names.txt, CVAT's labelmap.txt); looked for beside
      the folders when left out, and VOC's 20 classes when there is none.
    """
    base = _base(path)
    names = listed(path)
    top = "" if base == path else base.relative_to(path).as_posix() + "/"
    class_file = path / labels if labels is not None else class_lists.find(base, path)
    classes, coding = _classes(class_file)
    images, label_maps = by_stem(names, top + IMAGES), by_stem(names, top + LABEL_MAPS)
    lists = [name for name in names if Path(name).match(f"{top}{LISTS}/*.txt") and not Path(name).name.startswith(".")]
    lists = [name for name in lists if Path(name).stem in OFFICIAL] or lists
    splits = _splits(path, lists, ledger) if lists else dict.fromkeys(label_maps)
    if not lists:
        ledger.note(f"no list in {LISTS}/: every image with a label map is taken")
    pairs = [_pair(path, stem, images.get(stem, []), label_maps.get(stem, []), split) for stem, split in splits.items()]
    probed = probe_pairs(pairs, ledger)
    objects, unfit = _objects(path, probed, by_stem(names, top + OBJECTS), ledger)
    taken = {name for stem in splits for name in (*images.get(stem, ()), *label_maps.get(stem, ()))}
    taken |= {*lists, *(name for name in names if path / name == class_file), *objects.values()}
    account(ledger, path, names, taken, lambda name: unfit.get(name) or _why(name, top, bool(lists)))
    numbered = {stem: path / name for stem, name in objects.items()}
    return pack_pairs(probed, classes, coding, ledger, numbered)


def sniff(path: Path) -> tuple[float, str]:
    """Knows the folder by its sub-folders; archives and web pages are known too, so that `read` can say what to do."""
    if path.is_file() and (error := _file_instead(path)) is not None:
        return 0.1, f"{error.what}: {error.hint}"
    bases = _bases(path) if path.is_dir() else []
    if not bases:
        return 0.0, f"no {IMAGES} and {LABEL_MAPS} folders"
    if bases[0] == path:
        return 1.0, f"{IMAGES} and {LABEL_MAPS}"
    below = bases[0].relative_to(path).as_posix()
    return (1.0 if bases[0].name.startswith("VOC") else 0.8), f"{IMAGES} and {LABEL_MAPS} in {below}/"


def _base(path: Path) -> Path:
    """The folder that holds JPEGImages and SegmentationClass: the path itself, or one below it or below its VOCdevkit."""
    if path.is_file():
        raise _file_instead(path) or DataError("a file where a folder is needed", place=path)
    if not path.is_dir():
        raise DataError("not found", place=path)
    bases = _bases(path)
    if not bases:
        raise DataError(f"has no {IMAGES} and {LABEL_MAPS} folders", place=path, hint="name the folder above them")
    if len(bases) > 1:
        several = ", ".join(base.relative_to(path).as_posix() for base in bases)
        raise DataError(f"holds several VOC sets: {several}", place=path, hint="name one of them")
    return bases[0]


def _bases(path: Path) -> list[Path]:
    for pattern in ("", "*/", "VOCdevkit/*/"):
        found = sorted(path.glob(pattern + LABEL_MAPS))
        bases = [folder.parent for folder in found if folder.is_dir() and (folder.parent / IMAGES).is_dir()]
        if bases:
            return bases
    return []


def _file_instead(path: Path) -> DataError | None:
    """What to do with an archive, or with the web page that was downloaded in its place."""
    try:
        with path.open("rb") as file:
            start = file.read(512)
    except OSError:
        return None
    if start.lstrip().lower().startswith((b"<!doctype html", b"<html")):
        hint = "download the archive itself, such as VOCtrainval_11-May-2012.tar"
        return DataError("is a web page (HTML), not a data set", place=path, hint=hint)
    if path.suffix.lower() in ARCHIVES or start.startswith((b"PK\x03\x04", b"\x1f\x8b")) or start[257:262] == b"ustar":
        return DataError("is an archive", place=path, hint="unpack it first and give the folder")
    return None


def _splits(path: Path, lists: Sequence[str], ledger: Ledger) -> dict[str, str | None]:
    """id -> official list. Ids of both train and val count as val, so that what is scored was never trained on."""
    splits: dict[str, str | None] = {}
    both = []
    for name in sorted(lists, key=lambda name: OFFICIAL.index(Path(name).stem) if Path(name).stem in OFFICIAL else 0):
        split = Path(name).stem
        for member in read_list(path / name, ledger):
            both += [member] if splits.get(member) not in (None, split) else []
            splits[member] = None if split in ("trainval", "default") else split
    if both:
        ledger.note(
            f"{counted(len(both), 'id is', 'ids are')} in several lists, such as {both[0]}: the last of train, val, test counts"
        )
    return splits


def _pair(path: Path, stem: str, images: list[str], label_maps: list[str], split: str | None) -> Pair:
    image, label_map = (path / files[0] if len(files) == 1 else None for files in (images, label_maps))
    refused = None
    if image is None or label_map is None:
        what, files = (IMAGES, images) if image is None else (LABEL_MAPS, label_maps)
        refused = f"several files in {what}: {', '.join(files)}" if files else f"its file in {what}/ is missing"
    return Pair(stem, image, label_map, split, refused)


def _objects(
    path: Path, probed: Sequence[Probed], files: Mapping[str, list[str]], ledger: Ledger
) -> tuple[dict[str, str], dict[str, str]]:
    """The maps of object numbers that fit their label maps, id -> file; and file -> why it does not."""
    found = [(item, files[item.pair.id]) for item in probed if item.pair.id in files]
    headers = in_threads(probe, [path / names[0] for _, names in found], "Reading headers of object maps")
    objects: dict[str, str] = {}
    unfit: dict[str, str] = {}
    for (item, names), header in zip(found, headers, strict=True):
        if len(names) > 1:
            unfit |= dict.fromkeys(names, f"several files in {OBJECTS}: {', '.join(names)}")
        elif isinstance(header, DataError):
            unfit[names[0]] = sentence(header)
        elif header.stored_size != item.label_map.stored_size:
            (rows, columns), (height, width) = header.stored_size, item.label_map.stored_size
            unfit[names[0]] = f"it is {columns} x {rows} pixels and its label map {width} x {height}"
        else:
            objects[item.pair.id] = names[0]
    if unfit:
        ledger.note(
            f"{counted(len(unfit), 'map')} of object numbers cannot be used: those images have no single objects"
        )
    elif 0 < len(objects) < len(probed):
        without = counted(len(probed) - len(objects), "image has", "images have")
        ledger.note(f"{without} no file in {OBJECTS}/: no single objects")
    return objects, unfit


def _why(name: str, top: str, has_lists: bool) -> str:
    """Why a file below a VOC folder is not used."""
    if not name.startswith(top):
        return f"outside {top}"
    folder = name[len(top) :].split("/")[0]
    if folder in OTHERS:
        return f"{OTHERS[folder]}: not needed for segmentation"
    if folder in (IMAGES, LABEL_MAPS, OBJECTS) and stray(name) is None:
        return "not in a segmentation list" if has_lists else f"unlabelled: it has no file in {LABEL_MAPS}/"
    return "not part of the segmentation data" if folder not in (IMAGES, LABEL_MAPS, OBJECTS) else ""


def _classes(file: Path | None) -> tuple[tuple[str, ...], Callable[[Probed], Coding]]:
    """The classes, and how each label map is read: indices as they are, RGB copies by exact colour.

    In a set whose list names colours (CVAT) palette files are read by colour as well.
    """
    named = ClassList(CLASSES) if file is None else class_lists.read(file)
    by_value = named.keys is not None and not named.colour
    names = dict(sorted(zip(named.keys or (), named.names))) if by_value else class_lists.by_order(named.names)
    classes, labels = class_lists.table({VOID: "void", **names}, file)
    indices = Coding(tuple(labels), tuple(labels.values()))
    palette = voc_palette().astype(np.int64) @ (1 << 16, 1 << 8, 1)
    colours = {int(palette[value]): label for value, label in labels.items() if value <= VOID}
    if named.colour:
        classes, colours = class_lists.table(dict(zip(named.keys or (), named.names)))
    colours = dict(sorted({int(palette[VOID]): VOID, **colours}.items()))
    coloured = Coding(tuple(colours), tuple(colours.values()), colour=True)
    by_mode = {"RGB": coloured, "RGBA": coloured, "P": coloured if named.colour else indices}
    return classes, lambda item: by_mode.get(item.label_map.mode, indices)


FORMAT = Format(
    name="voc",
    summary="PASCAL VOC: JPEGImages, SegmentationClass, SegmentationObject (palette PNG, 255 = void) and the official lists.",
    sniff=sniff,
    read=read,
    write=write,
    cannot_hold=CANNOT_HOLD,
)
