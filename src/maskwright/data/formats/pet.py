"""Oxford-IIIT Pet: images/, annotations/trimaps (1 pet, 2 background, 3 border) and the lists with species and breed.

Written: the same layout, for data of background and pet (and border). Source: Parkhi et al., "Cats and Dogs", CVPR 2012.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args
from xml.etree import ElementTree

import numpy as np

from maskwright.core.errors import DataError, RecipeError
from maskwright.core.files import write_text
from maskwright.core.registry import suggestion
from maskwright.core.table import Data
from maskwright.core.types import BACKGROUND, VOID, Coding
from maskwright.core.words import counted
from maskwright.data.formats import Format
from maskwright.data.formats.pairing import Pair, account, by_stem, listed, pack_pairs, probe_pairs, read_list, stray
from maskwright.data.formats.writing import empty_folder, stems, write_images, write_label_maps
from maskwright.data.ledger import Ledger
from maskwright.imaging.palette import class_colours

PET, BACKGROUND_VALUE, BORDER_VALUE = 1, 2, 3
BORDER = "border"
SPECIES = {1: "cat", 2: "dog"}
LISTS = {"list.txt": None, "trainval.txt": "train", "test.txt": "test"}  # a later one wins
MOST_XML_BYTES = 200_000

Border = Literal["class", "ignore", "foreground", "background"]
Classes = Literal["trimap", "species", "breed"]


@dataclass(frozen=True, slots=True)
class Listed:
    """A line of a list. number: CLASS, 1..37 in the whole set; breed: the name up to its last `_`."""

    split: str | None
    number: int
    species: str
    breed: str


def read(path: Path, ledger: Ledger, *, border: Border = "ignore", classes: Classes = "trimap") -> Data:
    """Listed images with their trimaps; head boxes, species and breed become attributes.

    border: what the unclassified seam (value 3) is: a `class` of its own, `ignore` (counts nowhere), or part of the
      `foreground` or `background`.
    classes: `trimap` makes background and pet; `species` background, cat and dog; `breed` background and every listed breed.
    """
    for option, value, known in (("border", border, get_args(Border)), ("classes", classes, get_args(Classes))):
        if value not in known:
            raise RecipeError(f"`{option}` cannot be `{value}`", hint=suggestion(value, known))
    base = _base(path)
    names = listed(path)
    top = "" if base == path else base.relative_to(path).as_posix() + "/"
    images, trimaps = by_stem(names, f"{top}images"), by_stem(names, f"{top}annotations/trimaps")
    lists = [name for name in LISTS if f"{top}annotations/{name}" in names]
    members = _members(base, lists, ledger) if lists else {name: _unlisted(name) for name in trimaps}
    if not lists:
        ledger.note("no list in annotations/: every image with a trimap is taken")
    xmls = [name for name in names if name.startswith(f"{top}annotations/xmls/") and name.endswith(".xml")]
    heads = _head_boxes(path, [name for name in xmls if Path(name).stem in members], ledger)
    taken = {name for member in members for name in (*images.get(member, ()), *trimaps.get(member, ()))}
    taken |= {*heads, *(f"{top}annotations/{name}" for name in lists)}
    damaged = {name for name, box in heads.items() if isinstance(box, str)}
    account(ledger, path, [n for n in names if n not in damaged], taken, lambda n: _why(n, top, bool(lists)))
    boxes = {Path(name).stem: box for name, box in heads.items() if isinstance(box, list)}
    pairs = [
        _pair(path, name, images.get(name, []), trimaps.get(name, []), member, boxes.get(name))
        for name, member in members.items()
    ]
    all_classes = _class_names(classes, border, members.values())
    return pack_pairs(
        probe_pairs(pairs, ledger),
        all_classes,
        lambda item: _coding(members[item.pair.id], all_classes, classes, border),
        ledger,
    )


def sniff(path: Path) -> tuple[float, str]:
    """Knows the folder by images/ and annotations/trimaps/."""
    base = _find(path)
    if base is None:
        return 0.0, "no images and annotations/trimaps folders"
    has_list = any((base / "annotations" / name).is_file() for name in LISTS)
    return (1.0 if has_list else 0.9), "images/ and annotations/trimaps/" + (" with their lists" if has_list else "")


def write(data: Data, folder: Path) -> None:
    """Writes trimaps of data with one class beside the background (and `border`); VOID becomes border.

    Raises DataError for data with more classes.
    """
    pets = [name for name in data.classes if name not in (BACKGROUND, BORDER)]
    if len(pets) != 1:
        what = f"a trimap holds one class beside the background, these data have {len(pets)}"
        raise DataError(what, hint="keep or merge classes first, or write another format")
    empty_folder(folder)
    names = stems(data)
    stored = np.full(256, BORDER_VALUE, np.uint8)
    for index, name in enumerate(data.classes):
        stored[index] = {BACKGROUND: BACKGROUND_VALUE, BORDER: BORDER_VALUE}.get(name, PET)
    write_images(data, folder / "images", names)
    write_label_maps(
        data, folder / "annotations" / "trimaps", names, palette=class_colours(("", *pets, "", BORDER)), stored=stored
    )
    splits = [data.split_names[number] if number >= 0 else None for number in data.split]
    rows = _rows([_unlisted(name) for name in names], names)
    for name, wanted in (("list", (None, "train", "val", "test")), ("trainval", ("train", "val")), ("test", ("test",))):
        text = "".join(row for row, split in zip(rows, splits, strict=True) if name == "list" or split in wanted)
        write_text(folder / "annotations" / f"{name}.txt", text)


def _find(path: Path) -> Path | None:
    for pattern in ("", "*/"):
        for trimaps in sorted(path.glob(f"{pattern}annotations/trimaps")):
            base = trimaps.parent.parent
            if trimaps.is_dir() and (base / "images").is_dir():
                return base
    return None


def _base(path: Path) -> Path:
    if not path.is_dir():
        raise DataError("not a folder" if path.exists() else "not found", place=path)
    base = _find(path)
    if base is None:
        raise DataError("has no images and annotations/trimaps folders", place=path, hint="name the folder above them")
    return base


def _members(base: Path, lists: Sequence[str], ledger: Ledger) -> dict[str, Listed]:
    """Name -> its line. A name of both trainval and test counts as test, so that what is scored was never trained on."""
    members: dict[str, Listed] = {}
    both = []
    for name in lists:
        file = base / "annotations" / name
        for line in read_list(file, ledger):
            image, *columns = line.split()
            if image in members and members[image].split not in (None, LISTS[name]):
                both.append(image)
            members[image] = _line(image, columns, LISTS[name], file)
    if both:
        ledger.note(
            f"{counted(len(both), 'name is', 'names are')} in trainval and test, such as {both[0]}: counted as test"
        )
    return members


def _line(name: str, columns: Sequence[str], split: str | None, file: Path) -> Listed:
    """`NAME CLASS SPECIES BREED`; what the set's README says of the ranges of BREED is wrong, so that column is not used."""
    try:
        number, species = int(columns[0]), SPECIES[int(columns[1])]
    except (ValueError, LookupError) as error:
        hint = "a line is `NAME CLASS SPECIES BREED` with SPECIES 1 (cat) or 2 (dog)"
        raise DataError(f"cannot be read at `{name}`", place=file, hint=hint) from error
    return Listed(split, number, species, _breed(name))


def _unlisted(name: str) -> Listed:
    """What a name alone tells: cats begin with a capital."""
    return Listed(None, 0, "cat" if name[:1].isupper() else "dog", _breed(name))


def _breed(name: str) -> str:
    return name.rpartition("_")[0] or name


def _rows(members: Sequence[Listed], names: Sequence[str]) -> list[str]:
    """The lines of list.txt, breeds numbered by name, and once more within their species."""
    breeds = sorted({(member.breed, member.species) for member in members})
    number = {breed: i for i, breed in enumerate(breeds, 1)}
    within = {breed: sum(other[1] == breed[1] for other in breeds[: i + 1]) for i, breed in enumerate(breeds)}
    species = {name: value for value, name in SPECIES.items()}
    keys = [(member.breed, member.species) for member in members]
    return [f"{n} {number[key]} {species[key[1]]} {within[key]}\n" for n, key in zip(names, keys, strict=True)]


def _class_names(classes: Classes, border: Border, members: Iterable[Listed]) -> tuple[str, ...]:
    drawn: list[str] = ["pet"]
    if classes == "species":
        drawn = list(SPECIES.values())
    elif classes == "breed":
        drawn = list(dict.fromkeys(breed for _, breed in sorted({(m.number, m.breed) for m in members})))
    return (BACKGROUND, *drawn, *([BORDER] if border == "class" else []))


def _coding(member: Listed, names: tuple[str, ...], classes: Classes, border: Border) -> Coding:
    pet = names.index({"trimap": "pet", "species": member.species, "breed": member.breed}[classes])
    seam = {"class": len(names) - 1, "ignore": VOID, "foreground": pet, "background": 0}[border]
    return Coding((PET, BACKGROUND_VALUE, BORDER_VALUE), (pet, 0, seam))


def _pair(
    path: Path, name: str, images: list[str], trimaps: list[str], member: Listed, head: list[float] | None
) -> Pair:
    image, trimap = (path / files[0] if len(files) == 1 else None for files in (images, trimaps))
    refused = None
    if image is None or trimap is None:
        what, files = ("images", images) if image is None else ("trimaps", trimaps)
        refused = (
            f"several files in {what}: {', '.join(files)}" if files else f"listed, but its file in {what}/ is missing"
        )
    about: dict[str, Any] = {"species": member.species, "breed": member.breed}
    return Pair(name, image, trimap, member.split, refused, about if head is None else {"head_box": head, **about})


def _head_boxes(path: Path, names: Sequence[str], ledger: Ledger) -> dict[str, list[float] | str | None]:
    """File -> head box x0, y0, x1, y1 (right and bottom exclusive), None where it has none, or why it is refused."""
    found = {name: _head_box(path / name) for name in names}
    for name, box in found.items():
        if isinstance(box, str):
            ledger.seen("file")
            ledger.refused("file", path / name, box)
    return found


def _head_box(file: Path) -> list[float] | str | None:
    """VOC's boxes count pixels from 1, both ends inclusive."""
    try:
        text = file.read_bytes() if file.stat().st_size <= MOST_XML_BYTES else b""
        plain = text.replace(b"\0", b"").upper()  # UTF-16 shows its ASCII too
        if not text or b"<!DOCTYPE" in plain or b"<!ENTITY" in plain:
            return (
                "XML with a DOCTYPE, which could be an entity bomb, is not read"
                if text
                else "empty, or too long for a box"
            )
        box = ElementTree.fromstring(text).find("object/bndbox")
        if box is None:
            return None
        left, top, right, bottom = (float(box.findtext(name, "")) for name in ("xmin", "ymin", "xmax", "ymax"))
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:
        return f"its head box cannot be read ({error})"
    sane = all(map(math.isfinite, (left, top, right, bottom))) and left <= right and top <= bottom
    return [left - 1, top - 1, right, bottom] if sane else "its head box is not one"


def _why(name: str, top: str, has_lists: bool) -> str:
    """Why a file of the set is not used."""
    if not name.startswith(top):
        return f"outside {top}"
    if name.endswith(".xml"):
        return "a head box of an image that is not used"
    if Path(name).name.lower() == "readme":
        return "a description for people"
    if name.startswith((f"{top}images/", f"{top}annotations/trimaps/")) and stray(name) is None:
        return "in no list" if has_lists else "unlabelled: it has no trimap"
    return ""


FORMAT = Format(
    name="pet",
    summary="Oxford-IIIT Pet: images, trimaps (pet, background, border) and the lists with species and breed.",
    sniff=sniff,
    read=read,
    write=write,
    cannot_hold=(
        "more than one class",
        "single objects",
        "overlaps",
        "crowds as regions",
        "attributes",
        "a list of val",
    ),
)
