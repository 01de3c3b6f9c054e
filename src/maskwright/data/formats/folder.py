"""Folders of images and masks in any of the usual layouts: index PNG, black and white, colour-coded, SageMaker's channels.

Read: see `read`; which files belong together is decided in `layouts.py`, what the values mean in `stored_values.py`.
Written: `images/`, `masks/` (palette PNG of class indices, below `train/`, `val/`, ... where the data have lists) and
`classes.txt` with a line `<value> <name>` for each class.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from maskwright.core.errors import DataError
from maskwright.core.files import write_text
from maskwright.core.table import Data
from maskwright.core.types import BACKGROUND, Coding
from maskwright.core.words import counted
from maskwright.data.formats import Format, class_lists
from maskwright.data.formats.class_lists import ClassList, standard_name
from maskwright.data.formats.layouts import File, Layout, lay_out, nothing_pairs
from maskwright.data.formats.pairing import Pair, Probed, account, listed, pack_pairs, probe_pairs, stray
from maskwright.data.formats.stored_values import FOREGROUND, Scan, check_clean, meanings, sagemaker_labels, scan
from maskwright.data.formats.writing import empty_folder, stems, write_images, write_label_maps
from maskwright.data.ledger import Kind, Ledger
from maskwright.imaging.palette import class_colours

LABEL_MAPS = {"train": "train_label_map.json", "val": "validation_label_map.json", None: "label_map.json"}
UNLABELLED = "unlabelled: it has no mask"
NEEDS_THRESHOLD = "a JPEG cannot hold class values: its edges are blurred"
Rule = Callable[[int], int | None]  # stored value -> label
GLIMPSE_FOLDERS, GLIMPSE_FILES = 200, 200


def read(
    path: Path,
    ledger: Ledger,
    *,
    images: str | None = None,
    masks: str | None = None,
    prefix: str | None = None,
    suffix: str | None = None,
    classes: list[str] | dict[str | int, Any] | None = None,
    labels: str | None = None,
    threshold: int | None = None,
) -> Data:
    """Images and masks of the same stem, in two folders or side by side; official lists from folders named after them.

    images: folder of the images below the data set; found by its name when left out.
    masks: folder of the masks; found by its name when left out.
    prefix: what a mask's name has before its image's; found out when left out.
    suffix: what a mask's name has behind its image's, such as `_mask`; found out when left out.
    classes: names in order of the stored values, or name: value, or name: [r, g, b]; instead of a file of classes.
    labels: file of classes (classes.txt, CVAT's labelmap.txt, JSON); looked for in the folder when left out.
    threshold: grey level (1..255) from which on a mask shows the class; for JPEG and blurred masks.
    """
    if threshold is not None and not 1 <= threshold <= 255:
        raise DataError(f"a threshold of {threshold} divides nothing", place=path, hint="give a grey level of 1 to 255")
    names = listed(path)
    images, masks = (None if folder is None else _below(path, folder) for folder in (images, masks))
    named = _class_list(path, classes, labels, ledger)
    layout = lay_out(names, images=images, masks=masks, prefix=prefix, suffix=suffix)
    if not layout.pairs:
        raise nothing_pairs(layout, path)
    label_maps = _label_maps(path)
    used = {*label_maps, *([named.place] if named else [])}
    account_layout(path, names, layout, used, ledger)
    probed = probe_pairs(layout_pairs(path, layout, ledger), ledger)
    if threshold is not None:
        return _pack_threshold(probed, threshold, named, ledger)
    return _pack(path, probed, named, dict(label_maps.values()), ledger)


def sniff(path: Path) -> tuple[float, str]:
    """Looks at a few names of each folder; opens no file."""
    if not path.is_dir():
        return 0.0, "not a folder"
    layout = lay_out(glimpse(path))
    if not layout.pairs:
        return 0.0, "no folder of masks beside the images"
    image, mask = (file.name.rpartition("/")[0] or "." for file in layout.pairs[0])
    if image == mask:
        most = len(layout.pairs) >= len(layout.unlabelled)
        return (0.4 if most else 0.1), "images and masks of matching names side by side"
    return 0.7 if layout.certain else 0.6, f"images in {image}/ with masks of matching names in {mask}/"


def write(data: Data, folder: Path) -> None:
    """Writes `images/`, `masks/` and `classes.txt`. A class index is its own stored value."""
    empty_folder(folder)
    splits = (None if number < 0 else data.split_names[number] for number in data.split)
    places = [
        f"{split}/{stem}" if split else stem for split, stem in zip(splits, stems(data, by_split=True), strict=True)
    ]
    write_images(data, folder / "images", places)
    write_label_maps(data, folder / "masks", places, palette=class_colours(data.classes))
    write_text(folder / "classes.txt", class_lists.to_text(data.classes, numbered=True))


def _below(path: Path, folder: str) -> str:
    """A folder of the data set as a relative path."""
    if not (path / folder).is_dir() or not (path / folder).is_relative_to(path):
        hint = "name a folder below the data set; both sides must lie in it"
        raise DataError("not a folder of the data set", place=path / folder, hint=hint)
    return (path / folder).relative_to(path).as_posix()


def _class_list(path: Path, classes: Any, labels: str | None, ledger: Ledger) -> ClassList | None:
    """From the options, else from a file that is called like one; a JSON file that turns out to be another thing is noted."""
    if classes is not None:
        return class_lists.given(classes)
    found = path / labels if labels is not None else class_lists.find(path)
    try:
        return None if found is None else class_lists.read(found)
    except DataError as error:
        if labels is not None or found is None or found.suffix != ".json":
            raise
        ledger.note(f"{found.name} is no list of classes ({error.what}): not used")
        return None


def _label_maps(path: Path) -> dict[str, tuple[str | None, Rule]]:
    """SageMaker's label maps: file -> the list it is for, and its rule from stored value to label."""
    found = {}
    for split, name in LABEL_MAPS.items():
        for file in (path / name, path / "label_map" / name):
            if file.is_file():
                try:
                    value = json.loads(file.read_bytes())
                except ValueError as error:
                    raise DataError("not valid JSON", place=file) from error
                found[str(file)] = (split, sagemaker_labels(value, file))
    return found


def account_layout(path: Path, names: list[str], layout: Layout, used: set[str], ledger: Ledger) -> None:
    """Files: masks and paired images are used, the rest ignored; images that have no mask are ignored as images too."""
    for note in layout.notes:
        ledger.note(note)
    unclear = [file for images, masks in layout.unclear for file in (*images, *masks)]
    taken = {file.name for pair in layout.pairs for file in pair}
    taken |= {file.name for file in (*layout.orphans, *unclear)}
    taken |= {name for name in names if str(path / name) in used}
    unlabelled = {file.name for file in layout.unlabelled}
    for file in layout.unlabelled:
        ledger.seen("image")
        ledger.ignored("image", path / file.name, UNLABELLED)
    account(ledger, path, names, taken, lambda n: UNLABELLED if n in unlabelled else layout.left.get(n, ""))


def layout_pairs(path: Path, layout: Layout, ledger: Ledger) -> list[Pair]:
    """The layout's pairs; masks without an image, and groups that cannot be told apart, are refused at once."""
    refused: dict[str, tuple[Kind, str]] = {
        mask.name: ("annotation", "a mask without an image") for mask in layout.orphans
    }
    for images, masks in layout.unclear:
        why = "several images or masks of one name: " + ", ".join(file.name for file in (*images, *masks))
        refused |= {file.name: ("image", why) for file in images} | {file.name: ("annotation", why) for file in masks}
    for name, (kind, why) in refused.items():
        ledger.seen(kind)
        ledger.refused(kind, path / name, why)
    return [_pair(path, image, mask) for image, mask in layout.pairs]


def _pair(path: Path, image: File, mask: File) -> Pair:
    split = image.split or mask.split
    key = image.key if split is None else f"{split}/{image.key}"
    return Pair(key, path / image.name, path / mask.name, split)


def _pack_threshold(probed: list[Probed], threshold: int, named: ClassList | None, ledger: Ledger) -> Data:
    names = [name for name in named.names if standard_name(name) not in (BACKGROUND, None)] if named else [FOREGROUND]
    if len(names) != 1:
        raise DataError("a threshold makes one class", place=named.place if named else None, hint="name one class")
    coding = Coding((0, 255), (0, 1), threshold=threshold)
    return pack_pairs(probed, (BACKGROUND, names[0]), lambda _: coding, ledger)


def _pack(
    path: Path, probed: list[Probed], named: ClassList | None, rules: Mapping[str | None, Rule], ledger: Ledger
) -> Data:
    """Reads the stored values, gives them meaning and packs."""
    if not probed:
        first = next(ledger.of("refused"))
        raise DataError(f"no image can be used with its mask; the first: {first.why}", place=first.item)
    clean = [item for item in probed if item.label_map.format != "JPEG"]
    if not clean:
        hint = "give `threshold: 128` if the masks show one class in white on black"
        what = counted(len(probed), "mask is a JPEG file", "masks are all JPEG files")
        raise DataError(f"{what}; {NEEDS_THRESHOLD}", place=path, hint=hint)
    found = scan(clean, named)
    check_clean(found, path)
    rule_of = {item.pair.split: rules.get(item.pair.split, rules.get(None, _as_stored)) for item in clean}
    stored = {(split, value) for split, values in found.values for value in values}
    labels = {label for split, value in stored if (label := rule_of[split](value)) is not None}
    if not labels:
        raise DataError("no mask holds a value that the label map names", place=path)
    classes, index = class_lists.table(meanings(labels, named, ledger, colour=found.colour), path)
    codings = {split: _coding(rule, found, split, index, bool(rules)) for split, rule in rule_of.items()}
    return pack_pairs(
        probed,
        classes,
        lambda item: NEEDS_THRESHOLD if item.label_map.format == "JPEG" else codings[item.pair.split],
        ledger,
    )


def _coding(rule: Rule, found: Scan, split: str | None, index: Mapping[int, int], mapped: bool) -> Coding:
    """The values that a mask of a list may hold; values that no scanned mask held, but that mean something, are among them."""
    possible = found.of(split) | (set(range(256)) if mapped else set(index))
    labels = {value: rule(value) for value in sorted(possible)}
    table = {value: index[label] for value, label in labels.items() if label is not None and label in index}
    return Coding(tuple(table), tuple(table.values()), colour=found.colour)


def _as_stored(value: int) -> int | None:
    return value


def glimpse(path: Path) -> list[str]:
    """Some names of each of the first folders."""
    names = []
    for number, (folder, subfolders, files) in enumerate(os.walk(path, followlinks=True)):
        if number >= GLIMPSE_FOLDERS:
            break
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        above = os.path.relpath(folder, path).replace(os.sep, "/")
        some = islice((name for name in sorted(files) if stray(name) is None), GLIMPSE_FILES)
        names += [name if above == "." else f"{above}/{name}" for name in some]
    return names


FORMAT = Format(
    name="folder",
    summary="Folders of images and masks: index PNG, black and white, colour-coded, SageMaker's four channels.",
    sniff=sniff,
    read=read,
    write=write,
    cannot_hold=("single objects", "overlaps", "crowds as regions", "attributes", "ids"),
)
