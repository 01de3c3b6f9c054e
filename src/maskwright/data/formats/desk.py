"""The label files and photos of a data set that a labelling tool wrote: found, chosen, and every file given its fate.

`laid_out` makes the Desk that a reader works on; `sheets` fills it. Only files below the data set, or below the folder
`images`, are ever opened, whatever a path in a label file says.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from maskwright.core.errors import DataError
from maskwright.core.table import Data, Packer
from maskwright.core.types import BACKGROUND
from maskwright.core.words import counted
from maskwright.data.formats import coco_json, pairing
from maskwright.data.formats.coco_photos import Photos, readable
from maskwright.data.ledger import Ledger
from maskwright.imaging.images import is_image_name

Boxes = Literal["fill", "ignore"]
Sign = Callable[[bytes], str | None]  # both ends of a file -> why it is a label file of this format, one clause

SURE = 0.9
_WINDOW = 1 << 18  # bytes that are looked at, at each end of a file
_MOST_GLIMPSES = 40


@dataclass(frozen=True, slots=True)
class Listed:
    """A photo that is in the Data: its position there, the label file, the size its labels were drawn on, its list."""

    position: int
    file: str
    size: tuple[int, int]
    split: str | None


@dataclass
class Desk:
    """The files of a data set and what its label files add up to while they are read.

    names: all files below the root, relative; whole: the user named a folder, so that every file in it gets a fate.
    files: the label files, relative; passed: files that are none, and why; broken: label files that cannot be used.
    photos, photo_names: the photos, found by name, and all files among which they are searched; prefix: what stands before
    their names in the ids.
    known: classes in the order that a list gives them; closed: what that list is called, if there are no others.
    """

    root: Path
    names: list[str]
    whole: bool
    files: list[str]
    passed: dict[str, str]
    photos: Photos
    photo_names: list[str]
    prefix: str
    ledger: Ledger
    boxes: Boxes = "fill"
    broken: dict[str, DataError] = field(default_factory=dict)
    known: list[str] = field(default_factory=list)
    closed: str | None = None
    also_used: set[str] = field(default_factory=set)
    packer: Packer = field(default_factory=Packer)
    classes: dict[str, int] = field(default_factory=lambda: {BACKGROUND: 0})
    listed: dict[str, Listed] = field(default_factory=dict)  # by the photo's path
    spoilt: set[str] = field(default_factory=set)
    num_missing: int = 0
    num_boxes: int = 0


def laid_out(path: Path, ledger: Ledger, suffix: str, sign: Sign, what: str, images: str | None, boxes: Boxes) -> Desk:
    """Lists the files, chooses the label files by their `sign` (a file that the user names needs none).

    suffix: of label files; what: what one is called, for messages; images: the folder of the photos, or None: below the
    data set. Raises DataError when there is no label file.
    """
    path = Path(path)
    if not path.exists():
        raise DataError("not found", place=path)
    whole = path.is_dir()
    root = path if whole else path.parent
    names = pairing.listed(root) if whole else list(pairing.walk(root)) if images is None else []
    folder = root if images is None else _folder(root, images)
    photo_names = names if images is None else list(pairing.walk(folder))
    prefix = "" if folder == root or not folder.is_relative_to(root) else f"{folder.relative_to(root).as_posix()}/"
    desk = Desk(root, names, whole, [], {}, Photos(folder, photo_names), photo_names, prefix, ledger, boxes)
    if not whole:
        desk.files.append(path.name)
        return desk
    for name in names:
        if name.lower().endswith(suffix) and pairing.stray(f"{name}.png") is None:
            _choose(desk, name, sign, what)
    if desk.broken and not desk.files:
        raise next(iter(desk.broken.values()))
    if not desk.files:
        raise DataError(f"no {what} is in this folder", place=path, hint="name the label file itself")
    return desk


def give_up(desk: Desk, file: str, error: DataError) -> None:
    """A label file that cannot be used: refused in the ledger; where it is the last one, the error itself."""
    if len(desk.files) == 1:
        raise error
    desk.files.remove(file)
    desk.broken[file] = error


def sniff(path: Path, suffix: str, sign: Sign, what: str) -> tuple[float, str]:
    """How sure a format is of a path, by the sign at the ends of its nearest files."""
    for file in pairing.files_near(path, suffix)[:_MOST_GLIMPSES]:
        why = sign(_ends(file))
        if why:
            return SURE, f"{readable(file.name)} {why}"
    return 0.0, f"no {what}"


def _folder(root: Path, images: str) -> Path:
    places = (root / images, root.parent / images, Path(images).expanduser())
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        hint = "`images` is the folder that holds the photos, absolute or below the data set"
        raise DataError("not a folder", place=places[0], hint=hint)
    return folder


def _choose(desk: Desk, name: str, sign: Sign, what: str) -> None:
    ends = _ends(desk.root / name)
    trouble = coco_json.not_json(ends) if name.lower().endswith(".json") else None
    if trouble:
        desk.broken[name] = trouble.error(desk.root / name)
    elif sign(ends):
        desk.files.append(name)
    else:
        desk.passed[name] = f"no {what}"


def _ends(path: Path) -> bytes:
    try:
        return coco_json.ends(path, _WINDOW)
    except OSError:
        return b""


def account_files(desk: Desk) -> None:
    """A fate for every file: of a whole folder all, of a single label file itself and the photos that it uses."""
    ledger, root = desk.ledger, str(desk.root)
    used = {*desk.listed, *(os.path.join(root, name) for name in (*desk.files, *desk.also_used))}
    names = [name for name in desk.names if name not in desk.broken] if desk.whole else []
    for name, error in desk.broken.items():
        ledger.seen("file")
        ledger.refused("file", readable(str(desk.root / name)), pairing.sentence(error))

    def why(name: str) -> str:
        unlisted = "no label file lists it" if is_image_name(name) else ""
        return desk.passed.get(name) or (
            "its image is not used" if os.path.join(root, name) in desk.spoilt else unlisted
        )

    taken = {name for name in names if os.path.join(root, name) in used}
    pairing.account(ledger, desk.root, names, taken, why)
    ledger.seen("file", len(used) - len(taken))
    ledger.used("file", len(used) - len(taken))


def note_whole(desk: Desk, data: Data) -> None:
    """What a person should know about the set as a whole."""
    note, counts = desk.ledger.note, np.bincount(data.regions.label, minlength=len(data.classes))
    empty = [name for name, count in zip(data.classes[1:], counts[1:]) if not count]
    if empty and len(data):
        note(f"{len(empty)} of {counted(len(data.classes) - 1, 'class')} have no object: {', '.join(empty)}")
    if desk.num_boxes:
        told = counted(desk.num_boxes, "object is a box", "objects are boxes")
        note(f"{told}: all pixels inside count as the object (boxes: fill)")
    if desk.num_missing * 2 > desk.num_missing + len(data):
        total = desk.num_missing + len(data)
        note(
            f"{desk.num_missing:,} of {total:,} images are not below {desk.photos.folder}:"
            " say where they are with `images: FOLDER`"
        )
