"""COCO instances JSON, as COCO itself, its exporters and its many dialects write it.

A data set is one JSON, or a folder with one or several of them and the photos; several become one Data whose splits come
from the names of the JSONs. What is odd in a JSON is told in the ledger by `coco_objects`, photos are found by
`coco_photos`, `coco_write` writes.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path, PurePath
from typing import Any, NamedTuple, get_args

import numpy as np

from maskwright.core.errors import DataError, RecipeError
from maskwright.core.registry import suggestion
from maskwright.core.table import Data
from maskwright.core.types import BACKGROUND, MAX_CLASSES
from maskwright.core.words import counted
from maskwright.data.formats import Format, coco_json, pairing
from maskwright.data.formats.coco_dialect import COCO, Dialect
from maskwright.data.formats.coco_json import kind_of
from maskwright.data.formats.coco_objects import Album, Crowd, Listing, add_images, add_objects
from maskwright.data.formats.coco_photos import Photos, PhotoSource, readable, split_of
from maskwright.data.formats.coco_write import CANNOT_HOLD, write
from maskwright.data.ledger import Ledger
from maskwright.imaging import stores
from maskwright.imaging.images import is_image_name

_LABEL_FOLDERS = {"annotations", "annotation", "labels", "label", "data", "json", "ann"}
_BACKGROUNDS = {"background", "_background_", "__background__"}


def read(path: Path, ledger: Ledger, *, crowd: Crowd = "ignore", images: str | None = None) -> Data:
    """Reads a COCO JSON, or a folder with one or several.

    Records are named by the path of their photo below the folder; class 0 is `background`, the categories follow in the
    order of their ids. Raises DataError when no JSON can be read as COCO instances.

    crowd: what becomes of objects marked `iscrowd`: `ignore` makes their pixels count nowhere, `foreground` takes them
      as objects, `drop` leaves them out.
    images: the folder that holds the photos, absolute or below the data set; left out, they are searched below it.
    """
    return read_dialect(path, ledger, COCO, crowd=crowd, images=images)


def read_dialect(
    path: Path, ledger: Ledger, dialect: Dialect, *, crowd: Crowd = "ignore", images: str | None = None
) -> Data:
    """`read` for a relative of COCO, whose files `dialect` loads."""
    if crowd not in get_args(Crowd):
        raise RecipeError(f"`crowd` cannot be `{crowd}`", hint=suggestion(crowd, get_args(Crowd)))
    survey = _survey(Path(path), dialect, search=images is None)
    album = Album(*_photos(survey, images), ledger, crowd, dialect.measured)
    classes = {BACKGROUND: 0}
    with no_garbage_collection():
        for json in survey.jsons:
            _add(album, classes, survey, json)
        data = album.packer.pack(tuple(classes))
    _account_files(album, survey)
    _note(album, data, survey)
    del album, survey
    _give_memory_back()
    return data


def sniff(path: Path) -> tuple[float, str]:
    """Looks at the ends of the JSONs in the folder, in its sub-folders and in theirs."""
    found = pairing.files_near(path, ".json")
    best = (0.0, f"no COCO JSON among {len(found)} JSON files" if found else "no JSON file here")
    for json in found:
        sure, why, trouble = coco_json.glimpse(json)
        if trouble and ("instances" in json.name or "annotations" in json.name or path.is_file()):
            sure = 0.3
        best = max(best, (sure, f"{json.name} {why}"), key=lambda judged: judged[0])
        if sure >= 0.9:
            break
    return best


def sniff_dialect(path: Path, dialect: Dialect, marks: Sequence[bytes], why: str) -> tuple[float, str]:
    """How surely a JSON here is of a dialect: 0.98 when what COCO would read has all `marks` at its ends."""
    for json in pairing.files_near(path, dialect.suffix):
        sure, _, trouble = dialect.glimpse(json)
        with suppress(OSError):
            ends = coco_json.ends(json) if sure >= 0.5 or trouble else b""
            if not all(mark in ends for mark in marks):
                continue
            return 0.98, f"{json.name} {why}"
    return 0.0, f"no {dialect.kind} here {why}"


class Survey(NamedTuple):
    """The files of a data set. whole: the user named a folder, so that every file in it gets a fate."""

    root: Path
    names: list[str]  # all files below, relative
    whole: bool
    jsons: list[str]  # those to read, training lists first
    passed: dict[str, str]  # other JSONs -> why they are not read
    broken: dict[str, coco_json.Trouble]  # JSONs that are none
    dialect: Dialect


def _survey(path: Path, dialect: Dialect, search: bool) -> Survey:
    """Lists the files (those beside a single JSON only to `search` for photos) and chooses the JSONs.

    Photos of a folder like `annotations` lie beside it: then the folder above is the data set.
    """
    if not path.exists():
        raise DataError("not found", place=path)
    root, whole, inside = (path, True, "") if path.is_dir() else (path.parent, False, "")
    if root.name in ("", ".."):
        root = Path(os.path.abspath(root))
    names = pairing.listed(root) if whole else list(pairing.walk(root)) if search else []
    if search and root.name in _LABEL_FOLDERS and not any(is_image_name(PurePath(name).name) for name in names):
        root, inside = root.parent, f"{root.name}/"
        names = list(pairing.walk(root))
    if not whole:
        trouble = dialect.glimpse(path)[2]
        if trouble:
            raise trouble.error(path)
        return Survey(root, names, whole, [inside + path.name], {}, {}, dialect)
    listed = [name for name in names if name.startswith(inside) and _is_listing(name, dialect.suffix)]
    chosen, passed, broken = _choose(root, listed, dialect)
    if broken and not chosen:
        name, trouble = next(iter(broken.items()))
        raise trouble.error(root / name)
    if not chosen:
        seen = f"; {next(iter(passed))} {next(iter(passed.values()))}" if passed else ""
        what = f"no {dialect.name} {dialect.kind} is in this folder{seen}"
        raise DataError(what, place=path, hint=f"name the {dialect.kind} itself")
    return Survey(root, names, whole, chosen, passed, broken, dialect)


def _choose(
    root: Path, names: list[str], dialect: Dialect
) -> tuple[list[str], dict[str, str], dict[str, coco_json.Trouble]]:
    """The JSONs that hold instances; why others do not; what others are instead of JSON."""
    chosen, passed, broken = [], {}, {}
    for name in names:
        sure, why, trouble = dialect.glimpse(root / name)
        if trouble:
            broken[name] = trouble
        elif sure < 0.5:
            passed[name] = why
        else:
            chosen.append(name)
    official = {PurePath(name).parent for name in chosen if PurePath(name).name.startswith("instances_")}
    for name in list(chosen):
        if PurePath(name).parent in official and not PurePath(name).name.startswith("instances_"):
            chosen.remove(name)
            passed[name] = "`instances_*.json` lies beside it"
    order = {"train": 0, "val": 1, "test": 2, None: 3}
    return sorted(chosen, key=lambda name: (order[split_of(name)], name)), passed, broken


def _is_listing(name: str, suffix: str) -> bool:
    parts = name.split("/")
    return name.lower().endswith(suffix) and not any(p.startswith(".") or p == "__MACOSX" for p in parts)


def _photos(survey: Survey, images: str | None) -> tuple[PhotoSource, str]:
    """Where photos are searched, and what stands before their names in the ids."""
    dialect = survey.dialect
    if images is None:
        return Photos(survey.root, survey.names, dialect.key), ""
    places = (survey.root / images, survey.root.parent / images, Path(images).expanduser())
    store = next(filter(None, (dialect.store(place) for place in places if place.exists())), None)
    if store is not None:
        return store, ""
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        hint = "`images` is the folder that holds the photos, absolute or below the data set"
        raise DataError("not a folder", place=places[0], hint=hint)
    below = folder.resolve().is_relative_to(survey.root.resolve())
    inside = folder.resolve().relative_to(survey.root.resolve()).as_posix() if below else "."
    return Photos(folder, pairing.walk(folder), dialect.key), "" if inside == "." else f"{inside}/"


def _add(album: Album, classes: dict[str, int], survey: Survey, json: str) -> None:
    """Everything in one JSON. `classes` (name -> index) grows by its categories."""
    place, dialect = survey.root / json, survey.dialect
    document = dialect.load(place)
    split = split_of(json) if len(survey.jsons) > 1 else None
    listing = Listing(json, str(place), split, document.finite, dialect.kind, dialect.entry)
    labels = _labels(document.categories, classes, album.ledger, place)
    add_images(album, document.images, listing)
    if document.images and not document.annotations:
        album.ledger.note(f"{json} has no annotation at all: all its images count as empty")
    add_objects(album, document.annotations, listing, labels, document.told)
    album.others |= {str(file) for file in document.files}
    for note in document.notes:
        album.ledger.note(note)


def _labels(categories: list[Any], classes: dict[str, int], ledger: Ledger, place: Path) -> dict[Any, int]:
    """Category id -> class index; new names join `classes` in the order of their ids."""
    names: dict[Any, str] = {}
    for number, category in enumerate(categories):
        id, name = _category(category, f"categories[{number}]", place)
        if names.setdefault(id, name) != name:
            raise DataError(f"two categories have the id {id}: `{names[id]}` and `{name}`", place=place)
    labels: dict[Any, int] = {}
    first: dict[str, Any] = {}
    for id in sorted(names, key=lambda id: (isinstance(id, str), id)):
        name = names[id]
        if name.lower() in _BACKGROUNDS:
            ledger.note(f"category `{name}` is the background itself, not a class of its own")
            name = BACKGROUND
        elif first.setdefault(name, id) != id:
            ledger.note(f"{place.name}: categories {first[name]} and {id} are both called `{name}`: they are one class")
        labels[id] = classes.setdefault(name, len(classes))
    if len(classes) > MAX_CLASSES:
        what = f"{counted(len(classes), 'class')} with the background, and a label map can hold {MAX_CLASSES}"
        raise DataError(what, place=place, hint="leave categories out of a copy of the JSON")
    return labels


def _category(category: Any, where: str, place: Path) -> tuple[Any, str]:
    if not isinstance(category, dict):
        raise DataError(f"`{where}` is {kind_of(category)}, not an object", place=place)
    id, name = category.get("id"), category.get("name")
    if not isinstance(id, int | str):
        raise DataError(f"`{where}` has no `id`" if id is None else f"`{where}.id` is {kind_of(id)}", place=place)
    if isinstance(name, int | float):
        name = str(name)
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"`{where}` has no `name`", place=place)
    return id, readable(name.strip())


def _account_files(album: Album, survey: Survey) -> None:
    """A fate for every file: of a whole folder all, of a single JSON itself and the photos that it uses."""
    ledger, root = album.ledger, str(survey.root)
    used = {*map(stores.file_of, album.paths), *(os.path.join(root, json) for json in survey.jsons), *album.others}
    names = survey.names if survey.whole else []
    taken = {name for name in names if os.path.join(root, name) in used}
    for json, trouble in survey.broken.items():
        ledger.seen("file")
        ledger.refused("file", survey.root / json, trouble.what)

    def why(name: str) -> str:
        spoilt = os.path.join(root, name) in album.spoilt
        unlisted = f"no {survey.dialect.kind} lists it" if is_image_name(PurePath(name).name) else ""
        return survey.passed.get(name) or ("its image is refused" if spoilt else unlisted)

    pairing.account(ledger, survey.root, [name for name in names if name not in survey.broken], taken, why)
    ledger.seen("file", len(used) - len(taken))
    ledger.used("file", len(used) - len(taken))


def _note(album: Album, data: Data, survey: Survey) -> None:
    """What a person should know about the set as a whole."""
    note, counts = album.ledger.note, np.bincount(data.regions.label, minlength=len(data.classes))
    empty = [name for name, count in zip(data.classes[1:], counts[1:], strict=True) if not count]
    if empty and len(data):
        note(f"{len(empty)} of {len(data.classes) - 1} classes have no object: {', '.join(empty)}")
    if counts[0]:
        note(f"{counted(counts[0], 'object is', 'objects are')} drawn as background")
    if album.num_crowds:
        become = {"ignore": "count nowhere", "foreground": "are taken as objects", "drop": "are left out"}
        note(f"{album.num_crowds} crowd regions {become[album.crowd]} (crowd: {album.crowd})")
    if album.num_without_mask:
        without = counted(album.num_without_mask, "object has", "objects have")
        note(f"{without} no mask: the pixels there count as what lies around them")
    if album.num_missing * 2 > album.num_missing + len(data):
        where, total = album.photos.folder, album.num_missing + len(data)
        note(
            f"{album.num_missing:,} of {total:,} images are not below {where}: say where they are with `images: FOLDER`"
        )


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Millions of fresh lists that hold no cycle need no collector looking through them again and again."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _give_memory_back() -> None:
    """Lets the C library hand freed memory to the system: a parsed JSON leaves gigabytes behind (glibc only)."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


FORMAT = Format(
    name="coco",
    summary="COCO instances JSON: polygons and run-lengths, one or several files",
    sniff=sniff,
    read=read,
    write=write,
    cannot_hold=CANNOT_HOLD,
)
