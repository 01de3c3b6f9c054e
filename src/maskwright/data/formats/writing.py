"""What writers share: safe file names, images copied as they are, the regions of any record, label maps as palette PNG."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from posixpath import commonpath

import numpy as np
from PIL import Image

from maskwright.core.errors import DataError, SetupError
from maskwright.core.files import cannot_write, check_writable
from maskwright.core.table import DROPPED, Data
from maskwright.core.types import BACKGROUND, VOID, Record, Region
from maskwright.data.formats.pairing import in_threads
from maskwright.imaging import images, masks, stores
from maskwright.imaging.objects import encoded, has_objects, objects_of

_LINKED: ContextVar[dict[str, int] | None] = ContextVar("linked", default=None)


def empty_folder(folder: Path) -> None:
    """Makes the folder; SetupError when it cannot be written to or holds something, so that nothing is ever mixed."""
    check_writable(folder)
    if any(folder.iterdir()):
        raise SetupError("is not empty; a data set is only written into an empty folder", place=folder)


def stems(data: Data, *, by_split: bool = False) -> list[str]:
    """A file name without suffix for each record, from its id, unique: only letters, digits, `_`, `-`, `.`.

    A folder that all ids lie in is left out. by_split: unique within each list only, and without the list's name in front
    (`train/a` in "train" becomes `a`).
    """
    names: list[str] = []
    taken: set[tuple[str, str]] = set()
    lists = [data.split_names[split] if by_split and split >= 0 else "" for split in data.split]
    bases = [name.rpartition(".")[0] if images.is_image_name(name) else name for name in data.ids]
    bases = [b.removeprefix(f"{of}/").strip("/") if of else b.strip("/") for b, of in zip(bases, lists, strict=True)]
    folders = {base.rpartition("/")[0] for base in bases}
    above = commonpath(folders) if folders and all(folders) else ""
    for base, of in zip(bases, lists, strict=True):
        stem = wanted = re.sub(r"[^\w.\-]", "_", base.removeprefix(f"{above}/")).lstrip(".") or "_"
        number = 2
        while (of, stem.lower()) in taken:
            stem, number = f"{wanted}_{number}", number + 1
        taken.add((of, stem.lower()))
        names.append(stem)
    return names


def image_suffix(record: Record) -> str:
    """The suffix that `write_images` gives a record's image."""
    return stores.suffix(record.image) if record.upright else ".png"


def write_images(data: Data, folder: Path, places: Sequence[str]) -> None:
    """Copies each image byte by byte to `<folder>/<place><suffix>`.

    An image whose EXIF orientation does not count is written as PNG of its stored pixels instead: the orientation is gone.
    """
    linked = _LINKED.get()

    def write(index: int) -> None:
        record = data[index]
        pixels = None if record.upright else images.read(record.image, upright=False)
        target = folder / f"{places[index]}{image_suffix(record)}"
        if linked is not None:
            linked[str(target)] = index
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if pixels is not None:
                Image.fromarray(pixels).save(target)
            elif stores.is_stored(record.image):
                target.write_bytes(stores.content(record.image))
            elif linked is not None:
                target.symlink_to(Path(record.image).absolute())
            else:
                shutil.copyfile(record.image, target)
        except FileNotFoundError as error:
            raise DataError("not found", place=record.image) from error
        except OSError as error:
            raise cannot_write(target, error) from error

    in_threads(write, range(len(data)), "Writing images" if linked is None else "Linking images")


@contextmanager
def images_linked() -> Iterator[dict[str, int]]:
    """Inside the block `write_images` links where it would copy; gives each file's path -> position of its record."""
    placed: dict[str, int] = {}
    token = _LINKED.set(placed)
    try:
        yield placed
    finally:
        _LINKED.reset(token)


def copy_linked(places: Sequence[str]) -> None:
    """Puts a copy where a link is. Raises DataError when its source is not there, SetupError when it cannot be written."""

    def copy(place: str) -> None:
        target = Path(place)
        if target.is_symlink():
            source = target.readlink()
            try:
                target.unlink()
                shutil.copyfile(source, target)
            except FileNotFoundError as error:
                raise DataError("not found", place=source) from error
            except OSError as error:
                raise cannot_write(target, error) from error

    in_threads(copy, places, "Copying images")


def drawn(record: Record, classes: Sequence[str]) -> tuple[Region, ...]:
    """What is drawn on an image as regions, whatever its source.

    Its own; else its objects one by one; else one for each class in its label map. What counts nowhere in a label map is a
    crowd, of whatever class, where there is one besides the background.
    """
    if record.label_map is None and record.objects is None:
        return record.regions
    single = objects_of(record, classes) if has_objects(record) else None
    first = int(classes[0] == BACKGROUND)
    found = [Region(label, counts=runs) for label, runs in zip(single.labels.tolist(), single.counts)] if single else []
    if record.label_map is not None:
        for value, runs in encoded(masks.label_map(record)).items():
            if value == VOID and len(classes) > first:
                found.append(Region(first, counts=runs, crowd=True))
            elif single is None and first <= value < VOID:
                found.append(Region(value, counts=runs))
    return tuple(found)


def draws_background(data: Data) -> bool:
    """Whether an object is drawn of class 0, so that a list of classes must name it."""
    labels = data.regions.label[data.region_numbers()[1]]
    return bool((labels[labels != DROPPED] == 0).any())


def write_label_maps(
    data: Data, folder: Path, places: Sequence[str], *, palette: np.ndarray, stored: np.ndarray | None = None
) -> None:
    """Paints each record's label map into `<folder>/<place>.png`, a palette PNG.

    palette: uint8 (256, 3). stored: uint8 (256,), the value to store for each class index; None = the index itself.
    """

    def save(index: int) -> None:
        label_map = masks.label_map(data[index])
        values = label_map if stored is None else stored[label_map]
        images.save_label_map(folder / f"{places[index]}.png", values, palette)

    in_threads(save, range(len(data)), "Writing label maps")
