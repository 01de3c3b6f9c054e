"""Which detection found which object: COCO's greedy matching, of many images at once.

Objects and detections of many images lie in columns (`Shapes`); what came of each detection at every IoU threshold and
for every range of sizes is kept as bits (`Matches`), from which `average_precision` computes all numbers.

The rule (Lin et al. 2014, "Microsoft COCO"; the reference implementation's `evaluateImg`): of each image and class the 100
surest detections, best first, take the free object that they overlap most, at least as much as the threshold says. Objects
that do not count (crowds, those outside the range of sizes) are taken only when no other is, crowds by any number of
detections; a detection that took one counts nowhere, nor does one that took nothing and lies outside the range itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from hotcoco import mask as coco

Kind = Literal["mask", "box"]
THRESHOLDS = np.linspace(0.5, 0.95, 10)
SIZES = {"all": (0.0, 1e10), "small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
MOST = 100  # detections of a class that an image may have; the least sure ones beyond count nowhere
_TYPES = {"image": "i4", "label": "i4", "score": "f8", "rank": "u1", "hits": "u8", "ignored": "u8"}
_TYPES |= {"truth_image": "i4", "truth_label": "i4", "truth_counts": "u1"}
_LOOSEST = float(THRESHOLDS[0])


@dataclass(frozen=True, slots=True)
class Shapes:
    """Objects or detections of several images, as columns.

    image: int64 (N,), position of the image. label: int64 (N,), index of the class.
    boxes: float64 (N, 4), x, y, width, height in pixels.
    rles: COCO run-lengths `{"size": [H, W], "counts": ...}`, compressed or not, taken one by one when they are needed.
    drawn: bool (N,), whether there are run-lengths; else only the box is known.
    areas: float64 (N,), pixels; what decides whether an object is small, medium or large.
    box_areas: float64 (N,), the same of a detection whose box is scored; of objects unused, they have one size.
    scores: float64 (N,), all finite; of objects unused. crowd: bool (N,); of detections unused.
    """

    image: np.ndarray
    label: np.ndarray
    boxes: np.ndarray
    rles: Sequence[Any]
    drawn: np.ndarray
    areas: np.ndarray
    box_areas: np.ndarray
    scores: np.ndarray
    crowd: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    def rle(self, positions: np.ndarray) -> list[Any]:
        return [self.rles[i] for i in positions.tolist()]


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """What came of D detections and G objects, image after image; the detections of a class in an image best first.

    image, label: int32 (D,). score: float64 (D,). rank: uint8 (D,), 0 is the surest of its class in its image.
    hits, ignored: uint64 (D,), a bit for each range of sizes and threshold: took an object that counts; counts nowhere.
    truth_image, truth_label: int32 (G,). truth_counts: uint8 (G,), a bit for each range of sizes: the object counts.
    """

    image: np.ndarray
    label: np.ndarray
    score: np.ndarray
    rank: np.ndarray
    hits: np.ndarray
    ignored: np.ndarray
    truth_image: np.ndarray
    truth_label: np.ndarray
    truth_counts: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[Matches]) -> Matches:
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__slots__))

    @classmethod
    def from_lists(cls, columns: Mapping[str, Sequence[float]]) -> Matches:
        """Of columns as JSON holds them. Raises KeyError, TypeError, ValueError or OverflowError for anything else."""
        made = cls(*(np.array(columns[name], _TYPES[name]) for name in cls.__slots__))
        for names in (cls.__slots__[:6], cls.__slots__[6:]):
            if len({getattr(made, name).shape for name in names}) > 1 or made.image.ndim != 1:
                raise ValueError("columns of different lengths")
        return made


def shapes(image: np.ndarray, label: np.ndarray, boxes: np.ndarray, rles: Sequence[Any], **known: Any) -> Shapes:
    """Shapes with what was left out filled in: all drawn, the boxes' areas, scores of 1, no crowd."""
    num, size = len(label), boxes[:, 2:].prod(axis=1)
    columns = {"drawn": np.ones(num, np.bool_), "areas": size, "box_areas": size, "scores": np.ones(num)}
    columns |= {"crowd": np.zeros(num, np.bool_), **known}
    return Shapes(image, label, boxes, rles, **columns)


def match(truth: Shapes, found: Shapes, kind: Kind) -> Matches:
    """What came of the detections in some images. Images of both are the same positions; sizes of masks must agree.

    mask: all detections are drawn; objects that are not are left out.
    """
    assert kind == "box" or found.drawn.all()
    objects = np.flatnonzero(truth.drawn) if kind == "mask" else np.arange(len(truth))
    order = np.lexsort((-found.scores, found.label, found.image))
    num_classes = 1 + max(found.label.max(initial=0), truth.label.max(initial=0))
    key = (found.image * num_classes + found.label)[order]
    rank = np.arange(len(key)) - np.searchsorted(key, key)
    order, key, rank = (column[rank < MOST] for column in (order, key, rank))
    truth_key = (truth.image * num_classes + truth.label)[objects]
    truth_order = objects[np.argsort(truth_key, kind="stable")]
    truth_key = np.sort(truth_key)

    sizes = found.areas if kind == "mask" else found.box_areas
    return settled(
        _pairs(truth, found, truth_order, order, truth_key, key, kind),
        rank,
        sizes[order],
        truth.areas[truth_order],
        truth.crowd[truth_order],
        image=found.image[order],
        label=found.label[order],
        score=found.scores[order],
        truth_image=truth.image[truth_order],
        truth_label=truth.label[truth_order],
    )


def settled(
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
    rank: np.ndarray,
    areas: np.ndarray,
    truth_areas: np.ndarray,
    crowd: np.ndarray,
    **who: np.ndarray,
) -> Matches:
    """What came of D detections and G objects of which `pairs` overlap: detection, object and IoU (P,), see `_pairs`.

    rank: int (D,). areas: (D,), truth_areas: (G,), pixels. crowd: bool (G,). who: the other columns of Matches.
    """
    uncounted = outside(truth_areas) | crowd
    hits, ignored = taken(pairs, rank, crowd, uncounted, outside(areas))
    counts = np.packbits(~uncounted, axis=0, bitorder="little")[0]
    columns = {"rank": rank, "hits": packed(hits), "ignored": packed(ignored), "truth_counts": counts, **who}
    return Matches(**{name: columns[name].astype(_TYPES[name]) for name in Matches.__slots__})


def packed(flags: np.ndarray) -> np.ndarray:
    """bool (sizes, thresholds, D) -> uint64 (D,), one bit each, the lowest first."""
    num = flags.shape[-1]
    octets = np.zeros((8, num), np.uint8)
    some = np.packbits(flags.reshape(len(SIZES) * len(THRESHOLDS), num), axis=0, bitorder="little")
    octets[: len(some)] = some
    return np.ascontiguousarray(octets.T).view("<u8")[:, 0].astype(np.uint64)


def unpacked(bits: np.ndarray) -> np.ndarray:
    """uint64 (D,) -> bool (sizes, thresholds, D)."""
    octets = np.ascontiguousarray(bits, "<u8").view(np.uint8).reshape(len(bits), 8).T
    flags = np.unpackbits(octets, axis=0, count=len(SIZES) * len(THRESHOLDS), bitorder="little")
    return flags.reshape(len(SIZES), len(THRESHOLDS), len(bits)).view(np.bool_)


def counting(bits: np.ndarray) -> np.ndarray:
    """uint8 (G,) -> bool (sizes, G), the objects that count in each range of sizes."""
    return np.unpackbits(bits[None], axis=0, count=len(SIZES), bitorder="little").astype(np.bool_)


def outside(areas: np.ndarray) -> np.ndarray:
    """bool (sizes, N), both ends of a range lie inside."""
    return np.stack([(areas < low) | (areas > high) for low, high in SIZES.values()])


def _pairs(
    truth: Shapes,
    found: Shapes,
    truth_order: np.ndarray,
    order: np.ndarray,
    truth_key: np.ndarray,
    key: np.ndarray,
    kind: Kind,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of a detection and an object of one image and class that overlap enough for the loosest threshold.

    Positions of detection and object in their orders, and IoU (of crowds: the share of the detection inside): (P,) each,
    the pairs of a detection one after the other.
    """
    first = np.searchsorted(truth_key, key)
    num = np.searchsorted(truth_key, key, side="right") - first
    detection = np.repeat(np.arange(len(key)), num)
    thing = np.arange(len(detection)) - np.repeat(np.cumsum(num) - num, num) + np.repeat(first, num)
    if kind == "box":
        crowd = truth.crowd[truth_order[thing]]
        iou = box_iou(found.boxes[order[detection]], truth.boxes[truth_order[thing]], crowd)
    else:
        iou = _mask_iou(truth, found, truth_order, order, first, num, key)
    enough = iou >= _LOOSEST
    return detection[enough], thing[enough], iou[enough]


def box_iou(ours: np.ndarray, theirs: np.ndarray, crowd: np.ndarray) -> np.ndarray:
    """float64 (P,), IoU of pairs of boxes x, y, width, height; where `crowd` the share of ours that lies inside."""
    low = np.maximum(ours[:, :2], theirs[:, :2])
    common = (np.minimum(ours[:, :2] + ours[:, 2:], theirs[:, :2] + theirs[:, 2:]) - low).clip(min=0).prod(axis=1)
    area = ours[:, 2] * ours[:, 3]
    union = np.where(crowd, area, area + theirs[:, 2] * theirs[:, 3] - common)
    return np.divide(common, union, out=np.zeros(len(common)), where=common > 0)


def _mask_iou(
    truth: Shapes,
    found: Shapes,
    truth_order: np.ndarray,
    order: np.ndarray,
    first: np.ndarray,
    num: np.ndarray,
    key: np.ndarray,
) -> np.ndarray:
    """float64 (P,), IoU of each detection's mask with those of its image and class: run-lengths are never decoded."""
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    ends = np.append(starts, len(key))[1:]
    tables = [np.zeros(0)]
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        if num[start]:
            things = truth_order[first[start] : first[start] + num[start]]
            table = coco.iou(found.rle(order[start:end]), truth.rle(things), truth.crowd[things].tolist())
            tables.append(table.reshape(-1))
    return np.concatenate(tables)


def taken(
    pairs: tuple[np.ndarray, np.ndarray, np.ndarray],
    rank: np.ndarray,
    crowd: np.ndarray,
    uncounted: np.ndarray,
    outside: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """hits, ignored: bool (sizes, thresholds, D). All detections of one rank choose at once: no two want the same object.

    uncounted: bool (sizes, G), outside: bool (sizes, D).
    """
    detection, thing, iou = pairs
    hits = np.zeros((len(SIZES), len(THRESHOLDS), len(rank)), np.bool_)
    ignored = np.repeat(outside[:, None], len(THRESHOLDS), axis=1)
    held = np.zeros((len(SIZES), len(THRESHOLDS), len(crowd)), np.bool_)
    by_strength = np.lexsort((thing, iou))  # of equal overlaps the last object is preferred
    strength = np.empty(len(iou), np.int64)
    strength[by_strength] = np.arange(len(iou))
    limits = np.minimum(THRESHOLDS, 1 - 1e-10)[:, None]
    turn = np.argsort(rank[detection], kind="stable")
    for now in np.split(turn, np.flatnonzero(np.diff(rank[detection[turn]])) + 1) if len(turn) else ():
        things = thing[now]
        able = (iou[now] >= limits) & (~held[:, :, things] | crowd[things])
        wish = np.where(able, strength[now] + len(iou) * ~uncounted[:, None, things], -1)
        begin = np.flatnonzero(np.diff(detection[now], prepend=-1))
        best = np.maximum.reduceat(wish, begin, axis=2)
        size, threshold, place = np.nonzero(best >= 0)
        chosen = thing[by_strength[best[size, threshold, place] % len(iou)]]
        who = detection[now][begin][place]
        held[size, threshold, chosen] = True
        hits[size, threshold, who] = ~uncounted[size, chosen]
        ignored[size, threshold, who] = uncounted[size, chosen]
    return hits, ignored
