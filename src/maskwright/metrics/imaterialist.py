"""The score of the iMaterialist-Fashion competition.

For each image and each class that it truly or allegedly holds: TP / (TP + FP + FN) at every IoU threshold .50, .55 ... .95,
averaged over the thresholds; an image's score is the average over its classes, 1 where it holds and gets nothing; the
score is the average over images. A class is its number together with its attributes. (The rules of the competition's
evaluation page; source read: amirassov/kaggle-imaterialist, src/metric.py.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from hotcoco import mask as coco

from maskwright.core.errors import DataError
from maskwright.core.types import Region
from maskwright.imaging import masks, run_lengths
from maskwright.metrics.conventions import Restated
from maskwright.metrics.intervals import Estimate, bootstrap
from maskwright.metrics.scores import ratio

NAME = "imaterialist"
TWENTIETHS = np.arange(10, 20)  # the thresholds times 20: an IoU must be above them
Size = tuple[int, int]
Kind = tuple[int, frozenset[str]]  # class index and attributes


@dataclass(frozen=True)
class FashionScore:
    """score: 0..1, the average of `images`, id -> score; classes: class index -> the average over the images that hold
    or get one of it, whatever the attributes; empty: the share of images that truly hold nothing, 0..1."""

    score: float
    images: dict[str, float]
    classes: dict[int, float]
    empty: float = 0.0


class FashionScores:
    """Collects images one by one.

    attributes: a class with other attributes is another class, as in 2019.
    size: height, width that both sides are brought to (nearest pixel); None: they must have one size.
    """

    def __init__(self, *, attributes: bool = True, size: Size | None = (512, 512)):
        self.attributes, self.size = attributes, size
        self._images: dict[str, dict[Kind, float]] = {}
        self._empty: set[str] = set()

    def add(
        self,
        id: str,
        truth: Sequence[Region],
        predicted: Sequence[Region],
        size: Size,
        predicted_size: Size | None = None,
    ) -> float:
        """Counts one image and gives its score. size: height, width of the truth, and of the predictions if those have
        no `predicted_size`.

        Raises DataError when the image was counted before, or the sizes differ and none was given to bring them to.
        """
        if id in self._images:
            raise DataError("was scored before", place=id)
        found = predicted_size or size
        if self.size is None and size != found:
            raise DataError(f"the masks are {found} (height, width), the truth {size}", place=id)
        to = self.size or size
        true = self._by_class(truth, size, to)
        answers = self._by_class(predicted, found, to)
        scores = {kind: class_score(true.get(kind, []), answers.get(kind, [])) for kind in true.keys() | answers.keys()}
        self._images[id] = scores
        if not truth:
            self._empty.add(id)
        return _mean(list(scores.values()))

    def result(self) -> FashionScore:
        """The score of all images so far; 1 where there is none, as for an image without anything."""
        images = {id: _mean(list(scores.values())) for id, scores in sorted(self._images.items())}
        labels: dict[int, list[float]] = {}
        for scores in self._images.values():
            for kind, score in scores.items():
                labels.setdefault(kind[0], []).append(score)
        classes = {n: _mean(labels[n]) for n in sorted(labels)}
        return FashionScore(_mean(list(images.values())), images, classes, len(self._empty) / max(1, len(images)))

    def _by_class(self, regions: Sequence[Region], size: Size, to: Size) -> dict[Kind, list[dict]]:
        kinds: dict[Kind, list[dict]] = {}
        for region in regions:
            more = region.attributes.get("attributes", ()) if self.attributes else ()
            kinds.setdefault((region.label, frozenset(map(str, more))), []).append(_at(region, size, to))
        return kinds


def restated(scores: Mapping[str, FashionScore], classes: Sequence[str], note: str = "") -> Restated:
    """Mean over images and classes of TP / (TP + FP + FN) at IoU above 0.50, 0.55 ... 0.95 (iMaterialist-Fashion 2019).

    Of objects, one by one: of a model, a COCO results file or the CSV that is handed in. The floor is the share of images
    without any object, which an empty answer gets right.

    scores: what each is called -> FashionScore, all of the same images. note: what a reader must know besides, one clause.
    """
    values: dict[str, Estimate] = {}
    floor: dict[str, float | None] = {}
    for name, one in scores.items():
        sums = np.array([[score, 1.0] for score in one.images.values()]).reshape(-1, 2)
        values[name] = bootstrap(sums, lambda s: ratio(s[:, :1], s[:, 1:]))[0]
        floor[name] = one.empty
    text = (
        "each image's mean, over the classes it holds or gets, of TP / (TP + FP + FN) at IoU above 0.50, 0.55, ... 0.95, "
        "averaged over images; an image that holds and gets nothing has 1; masks are compared at 512 x 512 (nearest pixel); "
        "all that was found counts alike, however sure: a low score threshold costs false positives"
    )
    return Restated(NAME, values, floor, "an all-empty answer", tuple(classes), f"{text}{'; ' if note else ''}{note}.")


def class_score(truth: Sequence[dict], predicted: Sequence[dict]) -> float:
    """The average over the thresholds of TP / (TP + FP + FN) for the objects of one class in one image, 0..1.

    truth, predicted: COCO run-lengths of one size. Pairs are matched one to one, the best overlap first; where masks of
    one side do not overlap, as the competition demands of predictions, an IoU above .5 leaves no choice.
    """
    if not truth or not predicted:
        return float(not truth and not predicted)
    common, union = _overlaps(predicted, truth)
    ones, others = np.nonzero(2 * common > union)
    common, union = common[ones, others], union[ones, others]
    found = np.zeros(len(TWENTIETHS), np.int64)
    used: tuple[set[int], set[int]] = set(), set()
    for pair in np.argsort(-common / np.maximum(union, 1), kind="stable").tolist():
        one, other = int(ones[pair]), int(others[pair])
        if one not in used[0] and other not in used[1]:
            used[0].add(one)
            used[1].add(other)
            found += 20 * common[pair] > TWENTIETHS * union[pair]  # whole numbers: no threshold is missed by a rounding
    return float(np.mean(found / (len(truth) + len(predicted) - found)))


def _overlaps(predicted: Sequence[dict], truth: Sequence[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels in common and in either, int64 (P, T) each."""
    iou = np.asarray(coco.iou(list(predicted), list(truth), [False] * len(truth)), np.float64)
    iou = iou.reshape(len(predicted), len(truth))
    areas = [np.asarray(coco.area(list(rles)), np.int64).reshape(-1) for rles in (predicted, truth)]
    both = areas[0][:, None] + areas[1][None, :]
    common = np.rint(iou * both / (1 + iou)).astype(np.int64)  # exact: iou = common / (both - common), far below 2**53
    return common, both - common


def _at(region: Region, size: Size, to: Size) -> dict:
    """A region of an image of one size as COCO run-lengths of another."""
    if tuple(size) == tuple(to):
        return masks.region_rle(region, to)
    counts = run_lengths.at_size(masks.region_counts([region], size)[0], size, to)
    return masks.region_rle(Region(region.label, counts=counts), to)


def _mean(scores: list[float]) -> float:
    return float(np.mean(scores)) if scores else 1.0
