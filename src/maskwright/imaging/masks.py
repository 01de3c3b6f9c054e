"""Drawn regions to pixels, by COCO's rule (hotcoco underneath): the only rasteriser, in training and in scoring.

Label maps are uint8 (H, W) of class indices, VOID = 255. Run-lengths are COCO's: column-major, the first counts zeros.
hotcoco is imported where it draws: a model that labels pixels predicts without it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskwright.core.errors import DataError
from maskwright.core.types import VOID, Coding, Record, Region
from maskwright.imaging import images, mat_files

Size = tuple[int, int]
VOID_NUMBERS = (255, 65535, 0xE0E0C0)  # of maps of object numbers: 8 bits, 16 bits, VOC's colours
_STRIP = 64  # columns turned at a time: a strip fits the cache


def label_map(record: Record) -> np.ndarray:
    """What is drawn on an image, as uint8 (H, W) of class indices: its regions painted, or its label-map file read."""
    if record.label_map is None:
        return paint(record.regions, record.size)
    assert record.coding is not None
    return read_label_map(record.label_map, record.coding, record.size)


def paint(regions: Sequence[Region], size: Size) -> np.ndarray:
    """Regions as a label map uint8 (H, W), 0 where nothing is drawn.

    Crowds come first, as VOID; then the others, large before small, so that a mirror stays visible on its door; regions
    of equal area in the order given. Where a labelling tool says what lies above what (the attribute `z_order`, 0 where a
    region has none), that goes before the area.
    """
    from hotcoco import mask as coco

    height, width = size
    if not regions:
        return np.zeros(size, np.uint8)
    rles = [region_rle(region, size) for region in regions]
    areas = np.array(coco.area(rles), np.int64)
    areas[[region.crowd for region in regions]] = height * width + 1
    canvas = np.zeros((width, height), np.uint8)  # transposed: run-lengths go down the columns
    for i in np.lexsort((-areas, np.array([_level(region) for region in regions]))).tolist():
        left, _, across, _ = coco.to_bbox(rles[i])
        columns = slice(int(left), int(left + across))
        drawn = coco.decode(rles[i]).T[columns].view(bool)
        np.copyto(canvas[columns], VOID if regions[i].crowd else regions[i].label, where=drawn)
    label_map = np.empty(size, np.uint8)
    for left in range(0, width, _STRIP):
        label_map[:, left : left + _STRIP] = canvas[left : left + _STRIP].T
    return label_map


def _level(region: Region) -> float:
    """Where a region lies in the order of painting: crowds below all, then by `z_order`."""
    level = region.attributes.get("z_order", 0)
    return -math.inf if region.crowd else level if isinstance(level, int) and abs(level) < 1 << 31 else 0


def class_masks(record: Record, labels: Sequence[int]) -> np.ndarray:
    """What is drawn on an image, each class by itself: uint8 (len(labels), H, W) of 0, 1 and VOID.

    1 where a region of the class lies, whatever else lies there; VOID where only a crowd of it does. A label-map file: 1
    where it has the class; where it is VOID, so is every class.

    labels: class indices; -1, which no region has, gives an empty mask.
    """
    from hotcoco import mask as coco

    height, width = record.size
    if record.label_map is not None:
        drawn = label_map(record)
        masks = (drawn == np.asarray(labels, np.int16).reshape(-1, 1, 1)).astype(np.uint8)
        masks[:, drawn == VOID] = VOID
        return masks
    channels = {label: channel for channel, label in enumerate(labels)}
    canvas = np.zeros((len(labels), width, height), np.uint8)  # transposed, as in `paint`
    for region in sorted(record.regions, key=lambda region: not region.crowd):  # crowds first
        if region.label in channels:
            rle = region_rle(region, record.size)
            left, _, across, _ = coco.to_bbox(rle)
            columns = slice(int(left), int(left + across))
            drawn = coco.decode(rle).T[columns].view(bool)
            np.copyto(canvas[channels[region.label], columns], VOID if region.crowd else 1, where=drawn)
    return np.ascontiguousarray(canvas.transpose(0, 2, 1))


def read_label_map(path: str | Path, coding: Coding, size: Size) -> np.ndarray:
    """A label-map file as uint8 (H, W) of class indices.

    Palette files are read as indices and grey ones as stored values, whatever their bit depth; as colours when
    `coding.colour`. An EXIF orientation is not applied. Raises DataError when the file cannot be read, has another
    size, or holds a value that `coding` does not name.
    """
    stored = _stored(path, coding.colour, coding.threshold, size)
    starts, lengths = _stretches(stored)
    found = stored.reshape(-1)[starts]
    known, labels = np.asarray(coding.values, np.int64), np.asarray(coding.labels, np.uint8)
    entry = np.searchsorted(known, found).clip(0, max(0, len(known) - 1))
    strange = known[entry] != found if len(known) else np.ones(len(found), bool)
    if strange.any() and coding.others is None:
        counts = _tally(found[strange], lengths[strange])
        raise DataError(f"holds values that stand for no class: {_listed(counts, coding.colour)}", place=path)
    meant = labels[entry] if len(labels) else np.zeros(len(found), np.uint8)
    if coding.others is not None:
        meant[strange] = coding.others
    return np.repeat(meant, lengths).reshape(size)


def read_numbers(path: str | Path, size: Size) -> tuple[np.ndarray, int]:
    """A map of object numbers as it is stored, (H, W) of an integer type; and the number that counts nowhere there.

    That number is 255, with 16 bits 65535. A file of several colours gives r << 16 | g << 8 | b as numbers, of which VOC's
    void colour counts nowhere. Raises DataError as `read_label_map` does.
    """
    with images.opened(path) as picture:
        _check_size(picture, size)
        _check_exact(picture)
        if picture.mode in ("RGB", "RGBA"):
            colours = _colours(picture)
            if (colours != (colours & 255) * 0x010101).any():
                return colours, VOID_NUMBERS[-1]
        numbers = _indices(picture)
    if numbers.dtype != np.uint8 and numbers.size and (numbers.min() < 0 or numbers.max() > VOID_NUMBERS[1]):
        raise DataError("holds object numbers outside 0..65535", place=path)
    return numbers, VOID_NUMBERS[numbers.dtype != np.uint8]


def stored_values(path: str | Path, colour: bool, threshold: int | None = None) -> dict[int, int]:
    """The values in a label-map file and their pixel counts, ascending; colours as r << 16 | g << 8 | b."""
    stored = _stored(path, colour, threshold, None)
    starts, lengths = _stretches(stored)
    return _tally(stored.reshape(-1)[starts], lengths)


def region_rle(region: Region, size: Size) -> dict[str, Any]:
    """A region as COCO's compressed run-lengths `{"size": [H, W], "counts": bytes}`; several polygons: their union."""
    from hotcoco import mask as coco

    height, width = size
    if region.counts is not None:
        _check_sum(region.counts, size)
        return coco.fr_py_objects({"size": [height, width], "counts": region.counts.tolist()}, height, width)
    parts = [coco.fr_poly(points.reshape(-1).tolist(), height, width) for points in region.polygons]
    return parts[0] if len(parts) == 1 else coco.merge(parts) if parts else coco.fr_poly([], height, width)


def region_counts(regions: Sequence[Region], size: Size) -> list[np.ndarray]:
    """The run-lengths of many regions, uint32 (n,) each, column-major, zeros first; several polygons: their union."""
    drawn = [number for number, region in enumerate(regions) if region.counts is None]
    texts = [region_rle(regions[number], size)["counts"] for number in drawn]
    counts = [region.counts for region in regions]
    if texts:
        pairs, first, num = _uncompressed(texts)
        for number, start, many in zip(drawn, first.tolist(), num.tolist()):
            counts[number] = pairs[start:].reshape(-1)[:many].astype(np.uint32)
    for region, own in zip(regions, counts):
        if region.counts is not None:
            _check_sum(region.counts, size)
        assert own is not None
    return counts  # type: ignore[return-value]


def region_mask(region: Region, size: Size) -> np.ndarray:
    """The pixels of a region: bool (H, W)."""
    from hotcoco import mask as coco

    return np.ascontiguousarray(coco.decode(region_rle(region, size)), np.bool_)


def region_area(region: Region, size: Size) -> int:
    """How many pixels a region covers."""
    from hotcoco import mask as coco

    return int(coco.area(region_rle(region, size)))


def class_areas(record: Record, num_classes: int) -> np.ndarray:
    """Pixels of each class in one image, int64 (C,).

    Regions: the union of a class's regions, crowds included, even where another class is painted over it. A label-map
    file: the pixels with its index. VOID is not counted.
    """
    from hotcoco import mask as coco

    if record.label_map is not None:
        return np.bincount(label_map(record).reshape(-1), minlength=256)[:num_classes]
    areas = np.zeros(num_classes, np.int64)
    for label in {region.label for region in record.regions if region.label < num_classes}:
        rles = [region_rle(region, record.size) for region in record.regions if region.label == label]
        areas[label] = coco.area(coco.merge(rles))
    return areas


def _check_sum(counts: np.ndarray, size: Size) -> None:
    if int(counts.sum(dtype=np.uint64)) != size[0] * size[1]:
        raise DataError(f"the run-lengths of a region do not sum to the {size[0]} x {size[1]} pixels of its image")


def mend_polygon(flat: Any, size: Size) -> tuple[list[float] | None, str | None]:
    """A reader's guard for a flat polygon x0, y0, x1, y1, ...: itself when it can be drawn, else None; and why.

    Points outside the image are fine, the rasteriser clips; a polygon wholly outside, with fewer than 3 points, an odd
    number of coordinates, or coordinates that are no sane numbers is not.
    """
    if isinstance(flat, np.ndarray):
        flat = flat.tolist()
    if not isinstance(flat, list | tuple):
        return None, "a polygon that is no list of numbers"
    if len(flat) % 2:
        return None, "a polygon with an odd number of coordinates"
    if len(flat) < 6:
        return None, "a polygon with fewer than 3 points"
    height, width = size
    try:
        if not math.isfinite(sum(flat)):
            return None, "a polygon with coordinates that are not finite"
        xs, ys = flat[0::2], flat[1::2]
        left, right, top, bottom = min(xs), max(xs), min(ys), max(ys)
    except (TypeError, OverflowError):
        return None, "a polygon that is no list of numbers"
    far_x, far_y = 10 * width + 1e4, 10 * height + 1e4
    if left < -far_x or right > far_x or top < -far_y or bottom > far_y:
        return None, "a polygon with coordinates far outside the image"
    if right <= 0 or left >= width or bottom <= 0 or top >= height:
        return None, "a polygon wholly outside the image"
    return list(flat), None


def mend_counts(counts: Any, size: Size) -> tuple[np.ndarray | None, str | None]:
    """A reader's guard for run-lengths, a list or a compressed string: uint32 (n,) if they fit or None, and why."""
    if isinstance(counts, str):
        counts = counts.encode(errors="replace")
    if isinstance(counts, bytes):
        if not _is_compressed(counts):
            return None, "run-lengths that are no compressed COCO string"
        pairs, _, count = _uncompressed([counts])
        values = pairs.reshape(-1)[: count[0]]
    else:
        try:
            values = np.asarray(counts)
        except (ValueError, TypeError, OverflowError):
            return None, "run-lengths that are no list of numbers"
        if values.ndim != 1 or values.dtype.kind not in "iu" or not len(values):
            return None, "run-lengths that are no list of whole numbers"
    if values.min() < 0:
        return None, "a negative run-length"
    total = size[0] * size[1]
    if values.max() > total or int(values.sum()) != total:
        return None, f"run-lengths that do not sum to the {size[0]} x {size[1]} pixels of the image"
    return values.astype(np.uint32), None


def misfits(texts: Sequence[bytes], pixels: Sequence[int]) -> np.ndarray:
    """Which compressed run-lengths, of many, do not fit images of so many pixels: bool (N,); `mend_counts` says why."""
    if not texts:
        return np.zeros(0, np.bool_)
    groups = np.frombuffer(b"".join(texts), np.uint8) - 48
    ends = np.cumsum([len(text) for text in texts]) - 1
    last = np.flatnonzero(groups < 32)
    sound = len(last) and groups.max() <= 63 and (groups[ends] < 32).all() and all(texts)
    if not sound or np.diff(last, prepend=-1).max() > 7:  # one of them cannot be read at all: each by itself
        return np.array([mend_counts(t, (1, n))[0] is None for t, n in zip(texts, pixels, strict=True)], np.bool_)
    pairs, first, _ = _uncompressed(texts)
    negative = np.minimum.reduceat(np.minimum(pairs[:, 0], pairs[:, 1]), first[:-1]) < 0
    return np.asarray(negative | (np.add.reduceat(pairs[:, 0] + pairs[:, 1], first[:-1]) != pixels), np.bool_)


def _uncompressed(texts: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compressed COCO run-lengths as numbers, many strings at once (cocoapi maskApi.c, rleFrString).

    A number is written in groups of 5 bits, low first, plus 48; bit 0x20 says that more follow, the last group carries
    the sign. From the fourth on, a run-length is stored as its difference to the one two before.

    Returns rows of (zeros, ones) int64 (R, 2), each string's first row (N + 1,), and its count of run-lengths (N,);
    where that is odd, the last row ends in 0.
    """
    groups = np.frombuffer(b"".join(texts), np.uint8) - 48
    last = np.flatnonzero(groups < 32)  # the last group of each number
    length = np.diff(last, prepend=-1)
    numbers = (groups[last] & 31).astype(np.int64)
    numbers -= (numbers & 16) << 1
    for back in range(1, length.max()):  # few numbers are long
        longer = np.flatnonzero(length > back)
        numbers[longer] = (numbers[longer] << 5) + (groups[last[longer] - back] & 31)

    upto = np.searchsorted(last, np.cumsum([len(text) for text in texts]) - 1) + 1
    count = np.diff(upto, prepend=0)
    first = np.concatenate(([0], np.cumsum((count + 1) // 2)))
    flat = np.zeros(2 * first[-1], np.int64)
    flat[np.arange(len(numbers)) + np.repeat(2 * first[:-1] - upto + count, count)] = numbers

    pairs = flat.reshape(-1, 2)
    zeros = pairs[first[:-1], 0].copy()  # the first run stands outside the chain of differences
    pairs[first[:-1], 0] = 0
    np.cumsum(pairs, axis=0, out=pairs)
    before = np.concatenate((np.zeros((1, 2), np.int64), pairs[first[1:-1] - 1]))
    pairs -= np.repeat(before, np.diff(first), axis=0)
    pairs[first[:-1], 0] = zeros
    pairs[first[1:][count % 2 == 1] - 1, 1] = 0
    return pairs, first, count


def _is_compressed(text: bytes) -> bool:
    """True for what `_uncompressed` can read: known characters, numbers of at most 7 groups, the last one complete."""
    groups = np.frombuffer(text, np.uint8) - 48
    if not len(groups) or groups.max() > 63 or groups[-1] > 31:
        return False
    last = np.flatnonzero(groups < 32)
    return bool(np.diff(last, prepend=-1).max() <= 7)


def _stored(path: str | Path, colour: bool, threshold: int | None, size: Size | None) -> np.ndarray:
    """The values in a label-map file as they are stored: (H, W) of an integer type, at most 24 bits used."""
    if Path(path).suffix.lower() == mat_files.SUFFIX:
        return mat_files.label_values(path, size)
    with images.opened(path) as picture:
        _check_size(picture, size)
        if threshold is not None:
            wide = picture.mode.startswith("I")  # 16 bits, which Pillow would clip
            grey = np.asarray(picture) >> 8 if wide else np.asarray(picture.convert("L"))
            return np.where(grey >= threshold, np.uint8(255), np.uint8(0))
        _check_exact(picture)
        return _colours(picture) if colour else _indices(picture)


def _check_size(picture: Image.Image, size: Size | None) -> None:
    width, height = picture.size
    if size is not None and (height, width) != tuple(size):
        raise images.Refused(
            f"this label map is {height} x {width} pixels (height x width), its image {size[0]} x {size[1]}"
        )


def _check_exact(picture: Image.Image) -> None:
    if picture.format in ("JPEG", "MPO"):
        hint = "if it shows one class in white on black, give a `threshold` (a grey level, say 128)"
        raise images.Refused("a JPEG file holds no exact labels: compression changes them", hint)


def _colours(picture: Image.Image) -> np.ndarray:
    rgba = np.frombuffer(picture.convert("RGBA").tobytes(), ">u4").astype(np.uint32)
    if (rgba & 255 != 255).any():
        raise images.Refused("a colour-coded label map with transparent pixels", "save it without transparency")
    return (rgba >> 8).reshape(picture.height, picture.width)


def _indices(picture: Any) -> np.ndarray:
    packing = str(picture.tile[0].args) if picture.tile else ""
    values = np.asarray(picture)
    if picture.mode in ("1", "L", "P") or picture.mode.startswith("I"):
        spread = 85 if "L;2" in packing else 17 if "L;4" in packing else 1  # Pillow stretches 2 and 4 bits over 0..255
        return values // np.uint8(spread) if spread > 1 else values.astype(np.uint8) if picture.mode == "1" else values
    if picture.mode == "LA" and (values[..., 1] == 255).all():
        return values[..., 0]
    if picture.mode in ("RGB", "RGBA") and (values[..., :3] == values[..., :1]).all():
        return values[..., 0]
    raise images.Refused(f"holds colours (mode {picture.mode}), not class indices", "name the colour of each class")


def _stretches(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Starts and lengths of the stretches of equal values, row after row: a label map has few, whatever it codes."""
    flat = values.reshape(-1)
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    return starts, np.diff(starts, append=len(flat))


def _tally(values: np.ndarray, weights: np.ndarray) -> dict[int, int]:
    found, place = np.unique(values, return_inverse=True)
    counts = np.bincount(place, weights=weights)
    return {int(value): int(count) for value, count in zip(found, counts)}


def _listed(counts: dict[int, int], colour: bool) -> str:
    shown = sorted(counts, key=lambda value: -counts[value])[:8]
    names = ", ".join(f"{f'#{value:06x}' if colour else value} ({counts[value]:,} pixels)" for value in shown)
    return names + (f" and {len(counts) - 8} more" if len(counts) > 8 else "")
