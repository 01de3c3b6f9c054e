"""What of a network's findings counts as an object: thresholds on score, overlap, mask and area, the same in every runtime.

A network finds too much on purpose (low scores, all classes); these rules choose. They are applied after the network, so a
bundle's model.onnx needs no change when they do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from maskwright.core.errors import RecipeError
from maskwright.core.types import Instances
from maskwright.imaging.objects import boxes_of
from maskwright.imaging.paste import run_lengths

LIMITS = {"score": (0.0, 1.0), "nms": (0.0, 1.0), "mask": (0.0, 1.0), "min_area": (0.0, float("inf"))}


@dataclass(frozen=True)
class Thresholds:
    """score: objects below it are dropped. nms: of two boxes of one class whose intersection over union is above it, the
    weaker is dropped (1: none is, beyond what the network itself drops). mask: a pixel belongs to an object where its
    probability is above it. min_area: objects of fewer pixels are dropped. exclusive: one pixel, one object: the surer of
    two objects keeps the pixels that both have, before `min_area` is asked.
    """

    score: float = 0.0
    nms: float = 1.0
    mask: float = 0.5
    min_area: int = 0
    exclusive: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def changed(self, given: Mapping[str, Any], place: str = "thresholds") -> Thresholds:
        """With what is given in place of what was. Raises RecipeError for other names and values out of range."""
        known = {field.name for field in fields(self)}
        for name, value in given.items():
            if name not in known:
                raise RecipeError(f"no threshold is called `{name}`", place=place, hint=", ".join(sorted(known)))
            if name in LIMITS:
                low, high = LIMITS[name]
                number = isinstance(value, int | float) and not isinstance(value, bool)
                if not (number and low <= value <= high):
                    reach = f"{low:g} to {high:g}" if high < float("inf") else f"{low:g} or more"
                    raise RecipeError(f"can be {reach}, not {value}", place=f"{place}.{name}")
            elif not isinstance(value, bool):
                raise RecipeError(f"is true or false, not {value}", place=f"{place}.{name}")
        return replace(self, **given)


def surviving(boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray, rules: Thresholds) -> np.ndarray:
    """Positions of the findings that `score` and `nms` leave, the surest first, equals in their order.

    boxes: float (N, 4), x0, y0, x1, y1. labels: int (N,). scores: float (N,).
    """
    order = np.argsort(-np.asarray(scores), kind="stable")
    order = order[np.asarray(scores)[order] >= rules.score]
    if rules.nms >= 1:
        return order
    kept: list[int] = []
    for index in order.tolist():
        same = [other for other in kept if labels[other] == labels[index]]
        if not same or _overlaps(boxes[index], boxes[same]).max() <= rules.nms:
            kept.append(index)
    return np.array(kept, np.int64)


def settled(found: Instances, rules: Thresholds) -> Instances:
    """The objects, the surest first, without pixels that a surer one has (with `exclusive`), and without small ones.

    Boxes of objects that lose pixels become tight around what is left.
    """
    boxes, counts = found.boxes, found.counts
    if rules.exclusive and len(found) > 1:
        counts = tuple(_apart(counts, found.size))
        changed = [index for index, (a, b) in enumerate(zip(counts, found.counts, strict=True)) if a is not b]
        boxes = boxes.copy()
        boxes[changed] = boxes_of([counts[index] for index in changed], found.size)
    areas = np.array([runs[1::2].sum(dtype=np.int64) for runs in counts], np.int64)
    kept = np.flatnonzero(areas >= max(rules.min_area, 1)) if counts else np.arange(len(found))
    return replace(
        found,
        labels=found.labels[kept],
        scores=found.scores[kept],
        boxes=boxes[kept],
        counts=tuple(counts[index] for index in kept.tolist()) if counts else (),
    )


def _apart(counts: Sequence[np.ndarray], size: tuple[int, int]) -> list[np.ndarray]:
    """Run-lengths without the pixels of those before them; the very same arrays where nothing is lost."""
    taken, left = np.zeros(size[0] * size[1], np.bool_), []
    for runs in counts:
        edges = np.cumsum(runs, dtype=np.int64)
        starts, stops = edges[0::2][: len(edges) // 2], edges[1::2]
        if not len(starts):
            left.append(runs)
            continue
        low, high = int(starts[0]), int(stops[-1])
        window = taken[low:high]
        mine = np.repeat(np.arange(len(runs) - 1) & 1 == 0, runs[1:]) if len(runs) > 1 else np.zeros(0, np.bool_)
        mine = mine[: high - low]
        if (window & mine).any():
            kept = mine & ~window
            window |= mine
            first, last = low // size[0], (high - 1) // size[0] + 1  # whole columns, as run-lengths go
            block = np.zeros((last - first) * size[0], np.bool_)
            block[low - first * size[0] : high - first * size[0]] = kept
            left.append(run_lengths(block.reshape(last - first, size[0]).T, (0, first), size))
        else:
            window |= mine
            left.append(runs)
    return left


def _overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of a box (4,) with others (N, 4)."""
    corner = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    shared = corner.clip(min=0).prod(axis=1)
    area = (others[:, 2:] - others[:, :2]).clip(min=0).prod(axis=1) + (box[2:] - box[:2]).clip(min=0).prod()
    return np.asarray(shared / np.maximum(area - shared, 1e-12))
