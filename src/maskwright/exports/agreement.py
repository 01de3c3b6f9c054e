"""How far an exported model is from the trained one, on the same photos: in logits, in pixels, in objects, and in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from maskwright.core import cores, events
from maskwright.core.errors import ModelError
from maskwright.core.types import Instances, Prediction
from maskwright.core.words import counted
from maskwright.prediction.predictor import AnyPredictor, Predictor
from maskwright.prediction.whole import Whole

SAME_BOX = 0.01  # of the longer side of the image, at least 2 pixels: boxes nearer than that are the same object's
FAINT = 15.0  # a probability of 3e-7
SMALL = 100  # pixels: below, one pixel more or less says nothing about the model
WARM_UPS, TURNS, PATIENCE = 3, 21, 10.0  # turns; seconds after which no further turn begins
Name = TypeVar("Name", str, int)


@dataclass(frozen=True)
class Agreement:
    """Of two models on `images` photos.

    pixels_changed: share of the photos' own pixels that are answered differently (of objects: that belong to other objects).
    max_logit_difference, largest_logit: where both have logits, else None. Logits of classes that exclude each other count
    from the largest of their pixel, as a softmax takes them, and none is fainter than -15.
    objects: found by the trained model; unmatched: by one of the two alone; min_iou: the least overlap of an object's pixels as
    both draw it; max_score_difference: of an object. None for models that label pixels.
    """

    images: int
    pixels_changed: float
    max_logit_difference: float | None = None
    largest_logit: float | None = None
    objects: int | None = None
    unmatched: int | None = None
    min_iou: float | None = None
    max_score_difference: float | None = None

    def words(self) -> str:
        said = [f"{100 * self.pixels_changed:.4f} % of the pixels answered differently"]
        if self.max_logit_difference is not None:
            said.insert(0, f"largest logit difference {self.max_logit_difference:.2g} (of {self.largest_logit:.3g})")
        if self.objects is not None:
            alone = f"{self.unmatched} of {counted(self.objects, 'object')} found by one alone"
            said.append(
                f"{alone}, masks agree to an IoU of {self.min_iou:.4f}, scores to {self.max_score_difference:.2g}"
            )
        return ", ".join(said)


def compare(trained: AnyPredictor, exported: AnyPredictor, photos: Sequence[Path]) -> Agreement:
    """Both models on every photo.

    Raises ModelError when the exported one answers in another shape, or with numbers that are not finite.
    """
    changed, total = 0, 0
    logits: list[tuple[float, float]] = []
    objects: list[tuple[int, int, float, float]] = []
    for photo in events.progress(photos, "compare", len(photos)):
        ours, our_logits = _answered(trained, photo)
        theirs, their_logits = _answered(exported, photo)
        if isinstance(ours, Instances):
            if not isinstance(theirs, Instances) or ours.size != theirs.size:
                raise ModelError("the exported model does not answer with objects of the same photo", place=photo)
            objects.append(matched(ours, theirs))
            different = cover(ours) != cover(theirs)
        else:
            different = _different(ours, theirs, photo)
            if our_logits is not None and their_logits is not None:
                overlapping = trained.description.multilabel
                logits.append(_apart(our_logits, their_logits, overlapping, photo))
        changed, total = changed + int(different.sum()), total + different.size
    return Agreement(
        len(photos),
        changed / max(total, 1),
        *(max(column) for column in zip(*logits, strict=True)) if logits else (None, None),
        *summed(objects) if objects else (None,) * 4,
    )


def cover(found: Instances) -> np.ndarray:
    """uint64 (H, W): for each pixel objects of which classes cover it, and how many, as one number; order does not count."""
    shown = np.zeros(found.size, np.uint64)
    for index, label in enumerate(found.labels.tolist()):
        shown[found.mask(index)] += np.uint64(pow(1_000_003, label, 1 << 64))
    return shown


def matched(ours: Instances, theirs: Instances, near: float | None = None) -> tuple[int, int, float, float]:
    """Objects of ours, those that only one of the two has, the least IoU and the largest difference of scores of the others.

    Of the same class, the nearest box is the same object, if no side of it is more than `near` pixels away (left out: see
    SAME_BOX).
    """
    near = max(2.0, SAME_BOX * max(ours.size)) if near is None else near
    free, unmatched, least, most = set(range(len(theirs))), 0, 1.0, 0.0
    for index in range(len(ours)):
        gaps = {
            other: float(np.abs(theirs.boxes[other] - ours.boxes[index]).max())
            for other in free
            if theirs.labels[other] == ours.labels[index]
        }
        best = min(gaps, key=lambda other: (gaps[other], other), default=None)
        if best is None or gaps[best] > near:
            unmatched += 1
            continue
        free.discard(best)
        most = max(most, float(abs(ours.scores[index] - theirs.scores[best])))
        one, other = ours.mask(index), theirs.mask(best)
        union = int((one | other).sum())
        least = min(least, int((one & other).sum()) / union if union >= SMALL else 1.0)
    return len(ours), unmatched + len(free), least, most


def latency(predictors: dict[str, AnyPredictor], photo: Path) -> dict[str, float]:
    """Milliseconds that each takes for one photo, once read: the median of turns taken in rotation.

    All compute with `cores.threads()` meanwhile.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(cores.threads())
    try:
        return rotated({name: _call(predictor, photo) for name, predictor in predictors.items()})
    finally:
        torch.set_num_threads(before)


def rotated(calls: Mapping[Name, Callable[[], object]]) -> dict[Name, float]:
    """Milliseconds of each call, the median of turns taken in rotation; slow ones are stopped after a few seconds."""
    taken: dict[Name, list[float]] = {name: [] for name in calls}
    start = time.perf_counter()
    for turn in range(WARM_UPS + TURNS):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            if turn >= WARM_UPS or time.perf_counter() - start > PATIENCE:
                taken[name].append(1000 * (time.perf_counter() - begin))
        if calls and time.perf_counter() - start > PATIENCE and all(taken.values()):
            break
    return {name: round(float(np.median(times)), 3) for name, times in taken.items()}


def probe(predictor: AnyPredictor) -> dict[str, Any]:
    """What the model says of a picture that can be drawn anywhere: the same numbers on every machine, but for rounding."""
    height, width = predictor.description.size
    found = predictor(picture(height + 7, width + 3))
    if isinstance(found, Instances):
        return {"found": len(found), "scores": [round(float(score), 5) for score in found.scores[:8]]}
    shares = [round(area / found.label_map.size, 5) for area in found.areas()]
    if not isinstance(predictor, Predictor) or not _has_logits(predictor):
        return {"shares": shares}
    values = predictor.logits(picture(height, width))[0]
    return {"shares": shares, "logits": [round(float(v), 5) for v in values[:, :: max(1, height // 4), 0].ravel()[:64]]}


def picture(height: int, width: int) -> np.ndarray:
    """uint8 (height, width, 3): discs of all colours on a slope, by arithmetic alone."""
    y, x = np.mgrid[0:height, 0:width].astype(np.int64)
    canvas = np.stack([255 * x // max(width - 1, 1), 255 * y // max(height - 1, 1), (7 * x + 11 * y) % 256], axis=2)
    for index in range(7):
        cy, cx, r = (
            height * (index * 3 % 7 + 1) // 8,
            width * (index * 5 % 7 + 1) // 8,
            min(height, width) * (index + 2) // 40,
        )
        inside = (y - cy) ** 2 + (x - cx) ** 2 <= r * r
        canvas[inside] = (37 * index % 256, 91 * index % 256, 255 - 29 * index)
    return canvas.astype(np.uint8)


def _has_logits(predictor: AnyPredictor) -> bool:
    return isinstance(predictor, Predictor) and not predictor.tiled and not isinstance(predictor.network, Whole)


def _answered(predictor: AnyPredictor, photo: Path) -> tuple[Any, np.ndarray | None]:
    """What a predictor says of a photo, and the logits it says it from, where it has some."""
    if not isinstance(predictor, Predictor) or not _has_logits(predictor):
        return predictor(photo), None
    logits, fitting = predictor.logits(photo)
    return predictor.decoded(logits, fitting), logits


def _apart(ours: np.ndarray, theirs: np.ndarray, overlapping: bool, photo: Path) -> tuple[float, float]:
    """Largest difference of two logits, and the largest of the trained one's.

    Those of classes that exclude each other count from the pixel's largest, as a softmax does; below -FAINT all are alike.
    """
    if ours.shape != theirs.shape or not np.isfinite(theirs).all():
        raise ModelError(
            "the exported network answers in another shape, or with numbers that are not finite", place=photo
        )
    if not overlapping:
        ours, theirs = (logits - logits.max(axis=0) for logits in (ours, theirs))
    ours, theirs = (np.clip(logits, -FAINT, FAINT) for logits in (ours, theirs))
    return float(np.abs(ours - theirs).max()), float(np.abs(ours).max())


def _different(ours: Prediction, theirs: Any, photo: Path) -> np.ndarray:
    """bool (H, W), the pixels that the two answer differently."""
    if not isinstance(theirs, Prediction) or ours.label_map.shape != theirs.label_map.shape:
        raise ModelError("the exported model does not answer with a label map of the same photo", place=photo)
    if ours.masks is not None and theirs.masks is not None:
        found: np.ndarray = (ours.masks != theirs.masks).any(axis=0)
        return found
    return ours.label_map != theirs.label_map


def summed(rows: Sequence[tuple[int, int, float, float]]) -> tuple[int, int, float, float]:
    """What `matched` says of several photos, as of one."""
    objects, unmatched, least, most = zip(*rows, strict=True)
    return sum(objects), sum(unmatched), min(least), max(most)


def _call(predictor: AnyPredictor, photo: Path) -> Callable[[], object]:
    """What is timed: the network on the fitted photo; of a file that does the fitting itself, all of it."""
    network = predictor.network
    if isinstance(network, Whole):
        from maskwright.imaging import images

        pixels = images.read(photo)
        return lambda: predictor(pixels)
    known = predictor.description
    from maskwright.imaging.images import read_fitted
    from maskwright.prediction.predictor import as_input

    fitted = as_input(read_fitted(photo, known.size, known.whole_fit)[0])
    return lambda: network(fitted)
