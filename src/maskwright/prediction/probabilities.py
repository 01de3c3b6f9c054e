"""Probabilities on an image's own pixels, in strips of rows, and the files they are kept in: npz, or 16-bit PNGs.

No strip is larger than a few dozen megabytes, whatever the photo; what is collected for a file lies on the disk.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskwright.core import files
from maskwright.core.errors import RecipeError
from maskwright.core.registry import suggestion
from maskwright.imaging.images import Fitting
from maskwright.prediction import views

# first row, probabilities float32 (C, rows, W), label map uint8 (H, W) of the whole image, decided as far as these rows
Strip = tuple[int, np.ndarray, np.ndarray]
Keep = Callable[[Strip], None]
KINDS = ("npz", "png")
STRIP = 1 << 22  # values of a strip
MOST = 65535  # what a 16-bit PNG stores for a probability of 1


def check(kind: str | None) -> None:
    """Raises RecipeError for a kind of file that is not written."""
    if kind is not None and kind not in KINDS:
        raise RecipeError(
            f"probabilities are not written as `{kind}`", place="--probabilities", hint=suggestion(kind, KINDS)
        )


def strips(logits: np.ndarray, fitting: Fitting, label_map: np.ndarray, multilabel: bool = False) -> Iterator[Strip]:
    """Logits (C, h, w) as probabilities of the original pixels, resized as `semantic.decode` resizes them."""
    inside = np.ascontiguousarray(views.inside(logits, fitting), np.float32)
    num_classes, height, width = inside.shape
    rows, columns = fitting.original
    channels = [Image.fromarray(channel) for channel in inside]
    step = max(1, STRIP // (columns * num_classes))
    for start in range(0, rows, step):
        stop = min(rows, start + step)
        box = (0.0, start * height / rows, float(width), stop * height / rows)
        planes = (c.resize((columns, stop - start), Image.Resampling.BILINEAR, box) for c in channels)
        found = views.probabilities(np.stack([np.asarray(plane) for plane in planes]), multilabel)
        yield start, found, label_map


class File:
    """Collects the strips of one image and writes them: a context manager that is called with each strip.

    npz: `NAME.npz` with `probabilities` float16 (C, H, W) and `classes`, their names.
    png: `NAME/CLASS.png`, 16 bits, 65535 = 1.
    exclusive: argmax over the classes is always the class in the mask (ties that rounding makes go to it).
    """

    def __init__(self, path: Path, kind: str, classes: Sequence[str], *, exclusive: bool = True):
        self.path, self.kind, self.classes, self.exclusive = path, kind, classes, exclusive

    def __enter__(self) -> File:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.folder = tempfile.TemporaryDirectory(prefix=".probabilities-", dir=self.path.parent)
        self.collected = Path(self.folder.name) / "probabilities.npy"
        self.array: Any = None
        return self

    def __call__(self, strip: Strip) -> None:
        start, found, label_map = strip
        if self.array is None:
            kind, shape = np.float16 if self.kind == "npz" else np.uint16, (len(self.classes), *label_map.shape)
            self.array = np.lib.format.open_memmap(self.collected, mode="w+", dtype=kind, shape=shape)
        kept = found.astype(np.float16) if self.kind == "npz" else np.rint(found * MOST).astype(np.uint16)
        rows = slice(start, start + found.shape[1])
        if self.exclusive:
            _settle(kept, label_map[rows])
        self.array[:, rows] = kept

    def __exit__(self, error: Any, *_: object) -> None:
        try:
            if error is None and self.kind == "npz":
                self._write_npz()
            elif error is None:
                self._write_pngs()
        finally:
            self.array = None  # lets go of the file, so that it can be deleted everywhere
            self.folder.cleanup()

    def _write_npz(self) -> None:
        import zipfile

        self.array.flush()
        names = Path(self.folder.name) / "classes.npy"
        np.save(names, np.array(self.classes))
        with (
            files.written_whole(self.path.with_name(self.path.name + ".npz")) as temporary,
            zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        ):
            archive.write(self.collected, self.collected.name)
            archive.write(names, names.name)

    def _write_pngs(self) -> None:
        for name, channel in zip(file_names(self.classes), self.array, strict=True):
            with files.written_whole(self.path / f"{name}.png") as temporary:
                Image.fromarray(np.asarray(channel)).save(temporary, format="PNG")


def file_names(classes: Sequence[str]) -> list[str]:
    """A file name for each class: `3_left_door`; its number keeps names apart that lose signs."""
    bare = ["".join(c if c.isalnum() or c in "-_." else "_" for c in name) for name in classes]
    return [f"{index}_{name}" for index, name in enumerate(bare)]


def _settle(kept: np.ndarray, label_map: np.ndarray) -> None:
    """Gives the class in the mask the highest number; where another had it, all others go one step below."""
    other = kept.argmax(0) != label_map
    if other.any():
        winner, highest = label_map[None].astype(np.intp), kept.max(0)
        below = np.nextafter(highest, np.float16(0)) if kept.dtype == np.float16 else highest - 1
        own = np.where(other, highest, np.take_along_axis(kept, winner, 0)[0])
        np.minimum(kept, below, out=kept, where=other)
        np.put_along_axis(kept, winner, own[None], 0)
