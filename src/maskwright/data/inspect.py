"""The slow look at a data set: every image and label map is decoded and counted, and struck off when it is broken.

`inspect` works in threads (Pillow, hashing and the file system let go of Python's lock) and keeps what it found in a
cache file, keyed by what each result hangs on: the files' paths, sizes and times, the regions, the Coding. Broken files
are never cached; a cache that cannot be read or written costs time and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from multiprocessing.pool import ThreadPool
from typing import Any

import numpy as np
from PIL import Image

from maskwright.core import events
from maskwright.core.cores import usable_cores
from maskwright.core.errors import DataError
from maskwright.core.table import DROPPED, Data, Strings
from maskwright.core.types import VOID, Record, Region
from maskwright.core.words import counted
from maskwright.data import inspect_cache
from maskwright.data.ledger import Ledger
from maskwright.imaging import images, masks, stores
from maskwright.imaging.objects import objects_of

DIM = 32  # grey levels of 255; a 16-bit image that is darker all over uses only its lowest bits
TINY = 16  # pixels; smaller objects vanish at most networks' sizes


@dataclass(frozen=True)
class Inspected:
    """What is in the pixels of N images and C classes. Images that cannot be used are gone from `data`.

    data: with sizes and EXIF orientation as the files really have them.
    pixels: int64 (N, C), pixels of each class in the label map, where the smaller object hides the larger.
    union: int64 (N, C), pixels that the objects of each class cover together, hidden ones and crowds included; for
        label-map files and for background the same as `pixels`.
    void: int64 (N,), pixels that count nowhere.
    objects: int64 (C,), regions of each class, crowds included, and the objects of number maps; else label maps have none.
    numbered: int64 (N, C), the objects of number maps in each image.
    digests: N content hashes of the image files.
    """

    data: Data
    pixels: np.ndarray
    union: np.ndarray
    void: np.ndarray
    objects: np.ndarray
    numbered: np.ndarray
    digests: Strings

    @property
    def presence(self) -> np.ndarray:
        """bool (N, C): which image shows which class, where nothing hides it."""
        return self.pixels > 0

    def select(self, indices: np.ndarray | Sequence[int]) -> Inspected:
        """The images at these positions, in this order."""
        i = np.asarray(indices, np.int64)
        pixels, union, void, numbered = self.pixels[i], self.union[i], self.void[i], self.numbered[i]
        return _counted(self.data.select(i), pixels, union, void, numbered, self.digests.take(i))

    @property
    def digest_of(self) -> dict[str, str]:
        """id -> content hash, as `split.make` and `split.leaks` take it."""
        return dict(zip(self.data.ids, self.digests, strict=True))


def inspect(data: Data, ledger: Ledger, *, workers: int | None = None) -> Inspected:
    """Decodes every image and label map of `data`; tells the ledger what is refused, repaired and worth a note.

    workers: threads; left out: one a core.
    """
    keys = [inspect_cache.key_of(record) for record in data]
    path = inspect_cache.file_of(data)
    known = inspect_cache.load(path, _row_type(len(data.classes)))
    rows = np.zeros(len(data), _row_type(len(data.classes)))
    todo = []
    for i, key in enumerate(keys):
        if key in known:
            rows[i] = known[key]
        else:
            todo.append(i)
    trouble: dict[int, _Trouble] = {}
    if todo:
        with ThreadPool(workers or usable_cores()) as pool:
            looks = pool.imap(partial(_looked_at, data, rows), todo, chunksize=4)
            found = list(events.progress(looks, "Checking images", total=len(todo)))
        trouble = {i: t for i, t in zip(todo, found, strict=True) if t is not None}
        whole = [i for i in range(len(data)) if i not in trouble and keys[i]]
        for n in whole:
            rows["key"][n] = np.frombuffer(keys[n], np.uint8)
        inspect_cache.store(path, rows[whole])
    return _told(data, rows, trouble, ledger)


def _told(data: Data, rows: np.ndarray, trouble: dict[int, _Trouble], ledger: Ledger) -> Inspected:
    """The result, and what the ledger must hear."""
    for i, problem in trouble.items():
        _refuse(data, i, problem, ledger)
    used = np.array([i for i in range(len(data)) if i not in trouble], np.int64)
    rows, data = rows[used], data.select(used)
    for n in np.flatnonzero(rows["upright"] != data.upright).tolist():
        why = "labels fit the image before EXIF rotation, which is left out"
        ledger.revise("image", data.images[n], "repaired", why)
    data = replace(data, sizes=rows["size"].astype(np.int32), upright=rows["upright"])
    pixels, union, void, numbered = (rows[name].astype(np.int64) for name in ("pixels", "union", "void", "numbered"))
    for n in np.flatnonzero(rows["flat"]).tolist():
        _ignore_flat(data, n, ledger)
    inspected = _counted(data, pixels, union, void, numbered, Strings.pack(d.tobytes().hex() for d in rows["digest"]))
    _note(inspected, rows, ledger)
    return inspected


def _counted(
    data: Data, pixels: np.ndarray, union: np.ndarray, void: np.ndarray, numbered: np.ndarray, digests: Strings
) -> Inspected:
    labels = data.regions.label[data.region_numbers()[1]]
    objects = np.bincount(labels[labels != DROPPED], minlength=len(data.classes)) + numbered.sum(axis=0)
    return Inspected(data, pixels, union, void, objects.astype(np.int64), numbered, digests)


# ----------------------------------------------------------------------------------------------------------- one record


@dataclass(frozen=True)
class _Trouble:
    """Why a record cannot be used; `label_map`: it is the label map's fault, not the image's."""

    why: str
    label_map: bool = False


def _row_type(num_classes: int) -> np.dtype[Any]:
    return np.dtype(
        [
            ("key", np.uint8, 16),
            ("digest", np.uint8, 16),
            ("size", np.int32, 2),
            ("upright", np.bool_),
            ("turned", np.bool_),  # has an EXIF orientation that its size can neither confirm nor deny
            ("frames", np.int32),
            ("alpha", np.bool_),
            ("dim", np.bool_),
            ("tiny", np.int32),
            ("flat", np.int32),  # objects without a pixel
            ("void", np.int32),
            ("pixels", np.int32, (num_classes,)),
            ("union", np.int32, (num_classes,)),
            ("numbered", np.int32, (num_classes,)),
        ]
    )


def _looked_at(data: Data, rows: np.ndarray, i: int) -> _Trouble | None:
    """Fills row i, or says why it cannot."""
    record, row = data[i], rows[i]
    try:
        content = stores.content(record.image)
        probe = images.probe(content)
        size, upright = _agreed(record, probe)
        pixels = images.read(content, upright=upright)
    except DataError as error:
        return _Trouble(_sentence(error))
    except OSError as error:
        return _Trouble(f"cannot be read ({(error.strerror or str(error)).lower()})")
    record, num_classes = replace(record, size=size, upright=upright), len(data.classes)
    try:
        label_map = masks.label_map(record)
        if record.objects is not None:
            row["numbered"] = np.bincount(objects_of(record, data.classes).labels, minlength=num_classes)
    except DataError as error:
        return _Trouble(_sentence(error), label_map=record.label_map is not None)
    counts = np.array(Image.fromarray(label_map).histogram())  # quicker than np.bincount
    assert not counts[num_classes:VOID].any(), f"{record.id}: a label beyond the classes"
    row["digest"] = np.frombuffer(blake2b(content, digest_size=16).digest(), np.uint8)
    row["size"], row["upright"] = size, upright
    row["turned"] = upright and probe.orientation != 1 and probe.size == probe.stored_size
    row["frames"] = probe.frames
    row["dim"] = probe.mode.startswith("I") and int(pixels.max()) < DIM
    row["alpha"] = probe.mode in ("RGBA", "LA", "PA")
    row["void"], row["pixels"], row["union"] = counts[VOID], counts[:num_classes], counts[:num_classes]
    if record.label_map is None:
        row["union"] = masks.class_areas(record, num_classes)
        row["tiny"] = sum(_is_tiny(region) for region in record.regions)
        row["flat"] = sum(_is_flat(region, size) for region in record.regions)
        if data.has_background:
            row["union"][0] = counts[0]
    return None


def _agreed(record: Record, probe: images.Probe) -> tuple[tuple[int, int], bool]:
    """The size (H, W) that image and labels agree on, and whether EXIF orientation is applied for it."""
    shown = probe.size if record.upright else probe.stored_size
    if record.size in (shown, (0, 0)):
        return shown, record.upright
    if record.size == probe.stored_size:
        return record.size, False
    (height, width), (rows, columns) = shown, record.size
    raise DataError(f"the image is {width} x {height} pixels, its labels are for {columns} x {rows}")


def _is_tiny(region: Region) -> bool:
    """By its run-lengths, or by the box around its polygons, which is never smaller than the object."""
    if region.counts is not None:
        return int(region.counts[1::2].sum()) < TINY
    points = np.concatenate(region.polygons) if region.polygons else np.zeros((1, 2))
    return float(np.prod(points.max(axis=0) - points.min(axis=0))) < TINY


def _is_flat(region: Region, size: tuple[int, int]) -> bool:
    """Whether it has no pixel; only outlines around next to nothing are drawn to find out."""
    if region.counts is not None:
        return not region.counts[1::2].any()
    for points in region.polygons:
        x, y = points.T
        if abs(x[1:] @ y[:-1] - x[:-1] @ y[1:] + x[0] * y[-1] - x[-1] * y[0]) > 2 * TINY:  # twice its area
            return False
    return not masks.region_counts([region], size)[0][1::2].any()


def _sentence(error: DataError) -> str:
    return f"{error.what}; {error.hint}" if error.hint else error.what


def _refuse(data: Data, i: int, trouble: _Trouble, ledger: Ledger) -> None:
    """An image goes by its path in the ledger, a label map by its own, a region by its id and its image's path."""
    image, label_map = data.images[i], data.label_maps[i]
    if trouble.label_map:
        ledger.revise("annotation", label_map, "refused", trouble.why)
        ledger.revise("image", image, "refused", "its label map cannot be used")
        return
    ledger.revise("image", image, "refused", trouble.why)
    why = "its image is refused"
    if label_map:
        ledger.revise("annotation", label_map, "ignored", why)
    for item in _annotation_items(data, i, ledger):
        ledger.revise("annotation", item, "ignored", why)


def _ignore_flat(data: Data, i: int, ledger: Ledger) -> None:
    """Tells the objects of an image that have no pixel."""
    record = data[i]
    for region in record.regions:
        if _is_flat(region, record.size):
            name = f"annotation {region.id} of {record.image}" if region.id >= 0 else f"an annotation of {record.image}"
            told = (n.item for n in ledger.of("repaired") if n.kind == "annotation" and n.item.endswith(name))
            ledger.revise("annotation", next(told, name), "ignored", "its outline encloses no pixel")


def _annotation_items(data: Data, i: int, ledger: Ledger) -> list[str]:
    """What the ledger calls the regions of an image: those with a line as it stands there, the others by their ids."""
    tail = f" of {data.images[i]}"
    told = [n.item for n in ledger.of("repaired") if n.kind == "annotation" and n.item.endswith(tail)]
    ids = data.regions.id[data.first_region[i] : data.first_region[i] + data.num_regions[i]]
    numbers = sorted(ids.tolist(), reverse=True)
    names = [f"annotation {id}{tail}" if id >= 0 else f"an annotation{tail}" for id in numbers]
    others = [name for name in names if not any(item.endswith(name) for item in told)]
    return told + others[: len(names) - len(told)]


# ---------------------------------------------------------------------------------------------------------------- notes


def _note(found: Inspected, rows: np.ndarray, ledger: Ledger) -> None:
    """Facts about the whole that a person should know before training."""
    data = found.data

    def where(i: int) -> str:
        return data.ids[i]

    if not len(data):
        return
    drawn = data.coding < 0
    missing = (found.union.sum(axis=0) == 0) & ((found.objects > 0) | ~drawn.any())  # without objects: the reader knew
    if absent := [data.classes[c] for c in np.flatnonzero(missing)]:
        ledger.note(f"{counted(len(absent), 'class has', 'classes have')} no pixel: {_few(absent)}")
    moving = drawn & (rows["frames"] > 1)
    _note_images(ledger, moving, where, "is animated, its", "are animated, their", "first frame is used")
    _note_images(ledger, rows["alpha"], where, "has", "have", "transparency, which is laid over white")
    dim = "16 bits of which only the lowest say something, so nothing but black to show: scale the values to 16 bits"
    _note_images(ledger, rows["dim"], where, "has", "have", dim)
    _note_images(ledger, rows["turned"], where, "is", "are", "mirrored or half-turned by EXIF, taken as displayed")
    all_void = found.void == data.sizes.astype(np.int64).prod(axis=1)
    _note_images(
        ledger, all_void, where, "is", "are", "all VOID and teach nothing" if all_void.sum() > 1 else "all VOID"
    )
    if tiny := int(rows["tiny"].sum()):
        ledger.note(f"{counted(tiny, 'object is', 'objects are')} smaller than {TINY} pixels")
    foreground = slice(int(data.has_background), None)
    if empty := int((drawn & ~found.union[:, foreground].any(axis=1)).sum()):
        ledger.note(f"{counted(empty, 'image has', 'images have')} no object")
    covered = int(found.pixels[drawn, foreground].sum() + found.void[drawn].sum())
    if covered and (share := found.union[drawn, foreground].sum() / covered - 1) >= 0.0005:
        ledger.note(f"{100 * share:.1f} % of the drawn pixels belong to two classes: the smaller object is in front")
    for same in _duplicates(found.digests):
        ledger.note(f"the same file under {len(same)} names: {_few([where(i) for i in same])}")


def _note_images(ledger: Ledger, which: np.ndarray, where: Any, one: str, many: str, what: str) -> None:
    numbers = np.flatnonzero(which).tolist()
    if numbers:
        ledger.note(
            f"{counted(len(numbers), f'image {one}', f'images {many}')} {what}: {_few([where(i) for i in numbers])}"
        )


def _duplicates(digests: Strings) -> Iterable[list[int]]:
    groups: dict[str, list[int]] = {}
    for i, digest in enumerate(digests):
        groups.setdefault(digest, []).append(i)
    return (group for group in groups.values() if len(group) > 1)


def _few(names: Sequence[str], most: int = 5) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")
