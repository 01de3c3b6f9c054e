"""What the writers of label-map formats share: safe file names, images copied as they are, label maps as palette PNG."""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from maskwright.core.errors import DataError, SetupError
from maskwright.core.files import cannot_write, check_writable
from maskwright.core.table import Data
from maskwright.data.formats.pairing import in_threads
from maskwright.imaging import images, masks


def empty_folder(folder: Path) -> None:
    """Makes the folder; SetupError when it cannot be written to or holds something, so that nothing is ever mixed."""
    check_writable(folder)
    if any(folder.iterdir()):
        raise SetupError("is not empty; a data set is only written into an empty folder", place=folder)


def stems(data: Data, *, by_split: bool = False) -> list[str]:
    """A file name without suffix for each record, from its id, unique: only letters, digits, `_`, `-`, `.`.

    by_split: unique within each list only, and without the list's name in front (`train/a` in "train" becomes `a`).
    """
    names: list[str] = []
    taken: set[tuple[str, str]] = set()
    for name, split in zip(data.ids, data.split, strict=True):
        of = data.split_names[split] if by_split and split >= 0 else ""
        base = name.rpartition(".")[0] if images.is_image_name(name) else name
        base = base.removeprefix(f"{of}/") if of else base
        stem = wanted = re.sub(r"[^\w.\-]", "_", base.strip("/")).lstrip(".") or "_"
        number = 2
        while (of, stem.lower()) in taken:
            stem, number = f"{wanted}_{number}", number + 1
        taken.add((of, stem.lower()))
        names.append(stem)
    return names


def write_images(data: Data, folder: Path, places: Sequence[str]) -> None:
    """Copies each image byte by byte to `<folder>/<place><suffix>`.

    An image whose EXIF orientation does not count is written as PNG of its stored pixels instead: the orientation is gone.
    """

    def copy(index: int) -> None:
        record = data[index]
        pixels = None if record.upright else images.read(record.image, upright=False)
        suffix = Path(record.image).suffix.lower() if pixels is None else ".png"
        target = folder / f"{places[index]}{suffix}"
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if pixels is None:
                shutil.copyfile(record.image, target)
            else:
                Image.fromarray(pixels).save(target)
        except FileNotFoundError as error:
            raise DataError("not found", place=record.image) from error
        except OSError as error:
            raise cannot_write(target, error) from error

    in_threads(copy, range(len(data)), "Copying images")


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
