"""What the formats with label-map files share: walking the folder, and turning matched files into records with fates.

A reader lists its folder once (`walk`), decides which image belongs to which label map (`Pair`), has the headers of both
read (`probe_pairs`), packs what fits (`pack_pairs`) and accounts for every file (`account`). In the ledger an image goes by
the path of its file, an annotation by the path of its label map (by its id where there is none). A file counts as used
when it was read or holds an image or annotation with a fate of its own; all other files are ignored with a reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from maskwright.core.errors import DataError
from maskwright.core.events import progress
from maskwright.core.table import Data, Packer
from maskwright.core.types import Coding
from maskwright.data.ledger import Ledger
from maskwright.imaging import images, mat_files

In = TypeVar("In")
Out = TypeVar("Out")

SPLITS = {"train": "train", "training": "train", "trn": "train"}
SPLITS |= {"val": "val", "valid": "val", "validation": "val", "dev": "val", "test": "test", "testing": "test"}
NOT_AN_IMAGE = "not an image"
OF_THE_SYSTEM = {"Thumbs.db", "desktop.ini", "Icon\r", "__MACOSX"}
KINDS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".gif": "GIF", ".bmp": "BMP", ".webp": "WEBP"}
KINDS |= {".tif": "TIFF", ".tiff": "TIFF"}


@dataclass(frozen=True, slots=True)
class Pair:
    """An image and its label map, as the reader matched them.

    image, label_map: None where the file is missing; `refused` then says so.
    refused: why the two cannot be used, known before any header was read.
    """

    id: str
    image: Path | None
    label_map: Path | None
    split: str | None = None
    refused: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Probed:
    """A pair whose headers agree: `upright` and `size` are those of Record."""

    pair: Pair
    image: images.Probe
    label_map: images.Probe
    upright: bool

    @property
    def size(self) -> tuple[int, int]:
        return self.image.size if self.upright else self.image.stored_size


def walk(root: Path) -> Iterator[str]:
    """The files below a folder, as sorted relative paths with forward slashes; linked folders are entered once.

    Raises DataError for a folder that may not be looked into, since its files would be lost from the account.
    """

    def closed(error: OSError) -> None:
        raise DataError(f"cannot be looked into ({error.strerror})", place=error.filename) from error

    entered = set()
    for folder, subfolders, names in os.walk(root, followlinks=True, onerror=closed):
        real = os.path.realpath(folder)
        if real in entered:
            subfolders.clear()
            continue
        entered.add(real)
        subfolders.sort()
        above = os.path.relpath(folder, root).replace(os.sep, "/")
        yield from (name if above == "." else f"{above}/{name}" for name in sorted(names))


def files_near(path: Path, suffix: str) -> list[Path]:
    """The file itself, or those of a suffix in the folder, in its sub-folders and in theirs, the nearest 200 first."""
    if path.is_file():
        return [path] if path.suffix.lower() == suffix else []
    return sorted(set(_walk_near(path, suffix)), key=lambda file: (len(file.parts), file))[:200]


def _walk_near(folder: Path, suffix: str, depth: int = 2) -> Iterator[Path]:
    try:
        entries = list(os.scandir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.name.lower().endswith(suffix):
            yield Path(entry.path)
        elif depth and os.path.isdir(entry.path):  # False, not an error, for a link to itself
            yield from _walk_near(Path(entry.path), suffix, depth - 1)


def listed(root: Path) -> list[str]:
    """All of `walk`, for a folder that must exist and hold something."""
    if not root.is_dir():
        raise DataError("not a folder" if root.exists() else "not found", place=root)
    names = list(progress(walk(root), f"Listing {root.name}", unit="files"))
    if not names:
        raise DataError("the folder is empty", place=root)
    return names


def stray(name: str) -> str | None:
    """Why a file can be neither an image nor a label map, judged by its relative path alone; None when it can."""
    parts = name.split("/")
    if readable(name) != name:
        return "its name is not valid UTF-8"
    if OF_THE_SYSTEM & set(parts):
        return "left behind by the operating system"
    if parts[-1].startswith("._"):
        return "AppleDouble file of macOS"
    if any(part.startswith(".") for part in parts):
        return "hidden"
    return None if images.is_image_name(parts[-1]) else NOT_AN_IMAGE


def read_list(path: Path, ledger: Ledger) -> list[str]:
    """The lines of an official list, without blanks at either end, comments (`#`) and repetitions."""
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read as a list ({error})", place=path) from error
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(set(lines)) < len(lines):
        ledger.note(f"{path.name} repeats {len(lines) - len(set(lines))} of its lines")
    return list(dict.fromkeys(lines))


def by_stem(names: Iterable[str], folder: str) -> dict[str, list[str]]:
    """The image files below a folder (relative, "" = all): path without folder and suffix -> files of that stem."""
    above = folder + "/" if folder else ""
    stems: dict[str, list[str]] = {}
    for name in names:
        if name.startswith(above) and stray(name) is None:
            stems.setdefault(name[len(above) :].rpartition(".")[0], []).append(name)
    return stems


def account(
    ledger: Ledger, root: Path, names: Sequence[str], taken: Collection[str], why: Callable[[str], str]
) -> None:
    """Gives every listed file its fate: used when taken, else ignored.

    The reason is what kind of stray it is, or `why(name)`, which may be "" for a file that is simply not an image.
    """
    ledger.seen("file", len(names))
    for name in names:
        if name in taken:
            ledger.used("file")
            continue
        reason = stray(name)
        if reason is None or reason == NOT_AN_IMAGE:
            reason = why(name) or reason or "not needed"
        ledger.ignored("file", readable(str(root / name)), reason)


def readable(name: str) -> str:
    """A path that can be printed: bytes that are no UTF-8 are spelt out."""
    return name if name.isascii() else name.encode(errors="backslashreplace").decode()


def in_threads(function: Callable[[In], Out], items: Sequence[In], label: str) -> list[Out]:
    """`function` of every item, in order, by a few threads: for work that waits for the disk or for Pillow."""
    with ThreadPoolExecutor(min(16, (os.cpu_count() or 1) + 4)) as pool:
        return list(progress(pool.map(function, items), label, total=len(items)))


def probe_pairs(pairs: Sequence[Pair], ledger: Ledger) -> list[Probed]:
    """Reads the headers of both files of each pair; what cannot be used is refused here, with the reason."""
    ledger.seen("image", len(pairs))
    ledger.seen("annotation", sum(pair.label_map is not None for pair in pairs))
    paths = [path for pair in pairs if pair.refused is None for path in (pair.image, pair.label_map) if path]
    headers = dict(zip(paths, in_threads(probe, paths, "Reading image headers"), strict=True))
    agreeing: list[tuple[Pair, images.Probe, images.Probe]] = []
    for pair in pairs:
        if pair.refused is not None or pair.image is None or pair.label_map is None:
            refuse_image(ledger, pair, pair.refused or "its image or label map is missing")
            continue
        image, label_map = headers[pair.image], headers[pair.label_map]
        if isinstance(image, DataError):
            refuse_image(ledger, pair, sentence(image))
        elif isinstance(label_map, DataError):
            refuse_label_map(ledger, pair, sentence(label_map))
        else:
            agreeing.append((pair, image, label_map))
    _note_kinds(ledger, [(pair.image, image) for pair, image, _ in agreeing if pair.image])
    return _same_size(agreeing, ledger)


def pack_pairs(
    probed: Sequence[Probed],
    classes: Sequence[str],
    coding: Callable[[Probed], Coding | str],
    ledger: Ledger,
    objects: Mapping[str, Path] | None = None,
) -> Data:
    """Packs pairs into a Data; `coding` gives the Coding of a label map, or why it is refused.

    objects: id -> map of object numbers, for the pairs that have one.
    """
    packer = Packer()
    for item in probed:
        pair, code = item.pair, coding(item)
        if isinstance(code, str):
            refuse_label_map(ledger, pair, code)
            continue
        if item.upright:
            ledger.used("image")
        else:
            ledger.repaired("image", pair.image, "labels fit the image before EXIF rotation, which is left out")
        ledger.used("annotation")
        packer.image(
            pair.id,
            str(pair.image),
            item.size,
            label_map=str(pair.label_map),
            coding=code,
            objects=str(objects[pair.id]) if objects and pair.id in objects else None,
            split=pair.split,
            upright=item.upright,
            attributes=pair.attributes,
        )
    return packer.pack(classes)


def refuse_image(ledger: Ledger, pair: Pair, why: str) -> None:
    """Refuses the image; its label map, where there is one, is then not needed."""
    ledger.refused("image", pair.image or pair.id, why)
    if pair.label_map is not None:
        ledger.ignored("annotation", pair.label_map, "its image is refused")


def refuse_label_map(ledger: Ledger, pair: Pair, why: str) -> None:
    """Refuses the label map, and with it the image."""
    ledger.refused("annotation", pair.label_map, why)
    ledger.refused("image", pair.image, "its label map cannot be used")


def sentence(error: DataError) -> str:
    """An error's words without its place, which the ledger shows anyway."""
    return f"{error.what}; {error.hint}" if error.hint else error.what


def probe(path: Path) -> images.Probe | DataError:
    """A file's header, or why there is none; a MATLAB file's matrix counts as a picture."""
    try:
        if path.suffix.lower() == mat_files.SUFFIX:
            size = mat_files.size_of(path)
            return images.Probe(size, size, "MAT", "MAT", 1, 1)
        return images.probe(path)
    except DataError as error:
        return error


def _same_size(agreeing: list[tuple[Pair, images.Probe, images.Probe]], ledger: Ledger) -> list[Probed]:
    """Keeps the pairs of one size. A label map that only fits the stored pixels switches EXIF orientation off.

    Half-turned, mirrored and square images fit both ways: they follow the turned ones of their data set, where those agree.
    """
    turned = [(image, mask) for _, image, mask in agreeing if image.size != image.stored_size]
    as_stored = bool(turned) and all(mask.stored_size == image.stored_size for image, mask in turned)
    probed = []
    for pair, image, mask in agreeing:
        if mask.stored_size not in (image.size, image.stored_size):
            (height, width), (rows, columns) = image.size, mask.stored_size
            refuse_label_map(ledger, pair, f"it is {columns} x {rows} pixels and its image {width} x {height}")
            continue
        either = image.size == image.stored_size
        upright = not (as_stored and image.orientation != 1) if either else mask.stored_size == image.size
        probed.append(Probed(pair, image, mask, upright))
    return probed


def _note_kinds(ledger: Ledger, probes: Sequence[tuple[Path, images.Probe]]) -> None:
    misnamed = [f"{p.name} ({h.format})" for p, h in probes if KINDS.get(p.suffix.lower(), h.format) != h.format]
    if misnamed:
        ledger.note(f"{_few(misnamed)}: not the kind of file that the name says; read as what it is")
    moving = [path.name for path, header in probes if header.frames > 1]
    if moving:
        ledger.note(f"{_few(moving)}: animated, only the first frame is used")


def _few(names: Sequence[str], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
