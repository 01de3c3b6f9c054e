"""Scores: every number about a set of label maps, each headline with its interval, all with their convention.

Counts are kept per image, int (N, 3, C): pixels that truth and prediction have in common, true pixels, predicted
pixels. Everything else is computed from them, so that scores read back from JSON can be restated, compared and
tabulated again. To add a headline: its line in MEASURES and its formula in `measures_of`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.core.errors import DataError
from maskwright.core.files import written_whole
from maskwright.core.types import BACKGROUND
from maskwright.core.words import counted
from maskwright.metrics import markup
from maskwright.metrics.intervals import CONFIDENCE, Estimate, bootstrap

SCHEMA = 1

# headline -> what a person reads, and which classes it counts
MEASURES = {
    "miou": ("mean IoU", "the {present} of {classes} classes in the truth"),
    "miou_all": ("mean IoU, all classes", "all {classes} classes; absent ones are 0"),
    "miou_foreground": ("mean IoU, foreground", "the {foreground} in the truth, no background"),
    "mdice": ("mean Dice", "the {present} of {classes} classes in the truth"),
    "pixel_accuracy": ("pixel accuracy", "share of the scored pixels"),
    "mean_class_accuracy": ("mean class accuracy", "the {present} of {classes} classes in the truth"),
}


@dataclass(frozen=True, slots=True)
class ClassScore:
    """One class, pooled over all images. Ratios are None where undefined.

    iou, dice: None when the class is absent from truth and prediction.
    precision: None when never predicted. recall: None when absent from the truth.
    images: how many have it in their truth.
    """

    name: str
    iou: float | None
    dice: float | None
    precision: float | None
    recall: float | None
    truth_pixels: int
    predicted_pixels: int
    images: int


@dataclass(frozen=True, slots=True)
class ImageScore:
    """One image. miou: over the classes in its truth; iou: of the classes in its truth or prediction, by name.
    scored, void: pixels. miou and pixel_accuracy are None when every pixel is void."""

    id: str
    miou: float | None
    pixel_accuracy: float | None
    iou: dict[str, float]
    scored: int
    void: int


@dataclass(frozen=True, eq=False)
class Scores:
    """How well predictions agree with the truth. `scores["miou"]` is the value of a headline.

    classes: names in index order.
    ids: of the scored images, in ascending order.
    counts: int32 (N, 3, C), per image and class: common, true and predicted pixels.
    void: int64 (N,), pixels of each image that are VOID in the truth and count nowhere.
    matrix: int64 (C, C + 1), true x predicted class, the last column is "no class" (the prediction abstained).
    expected: how many images should have been scored.
    resolution, decision: words for the convention.
    headlines: the names of MEASURES -> Estimate; `miou_foreground` only where there is a background.
    resamples, seed: of the bootstrap.
    overlapping: each class has masks of its own. Then `void` counts the VOID pixels of all masks, the matrix knows hits and
      misses (last column) only, and there is no pixel accuracy, as a pixel is of several classes or of none.
    """

    classes: tuple[str, ...]
    ids: tuple[str, ...]
    counts: np.ndarray
    void: np.ndarray
    matrix: np.ndarray
    expected: int
    resolution: str
    decision: str
    headlines: dict[str, Estimate]
    resamples: int
    seed: int
    overlapping: bool = False

    @classmethod
    def of(cls, *, classes: tuple[str, ...], counts: np.ndarray, resamples: int, seed: int, **rest: Any) -> Scores:
        """Scores of these counts; computes the headlines. The arguments are the fields."""
        names = [n for n in MEASURES if n != "miou_foreground" or classes[0] == BACKGROUND]
        if rest.get("overlapping"):
            names.remove("pixel_accuracy")
        estimates = bootstrap(counts, measures_of(counts, names), resamples=resamples, seed=seed)
        headlines = dict(zip(names, estimates, strict=True))
        return cls(classes=classes, counts=counts, resamples=resamples, seed=seed, headlines=headlines, **rest)

    def __getitem__(self, headline: str) -> float | None:
        return self.headlines[headline].value

    def _repr_html_(self) -> str:
        return markup.scores(self.headlines, MEASURES, self.per_class, self.convention)

    @cached_property
    def totals(self) -> np.ndarray:
        """int64 (3, C): common, true and predicted pixels of each class over all images."""
        return self.counts.sum(axis=0, dtype=np.int64)

    @property
    def pixels(self) -> dict[str, int]:
        """total = scored + void; unanswered: scored pixels that were predicted VOID. Overlapping: scored are true pixels."""
        scored, void = int(self.totals[1].sum()), int(self.void.sum())
        unanswered = 0 if self.overlapping else int(self.matrix[:, -1].sum())
        return {"total": scored + void, "scored": scored, "void": void, "unanswered": unanswered}

    @cached_property
    def per_class(self) -> tuple[ClassScore, ...]:
        common, truth, predicted = self.totals
        columns = (_iou(self.totals), _dice(self.totals), ratio(common, predicted), ratio(common, truth))
        images = (self.counts[:, 1] > 0).sum(axis=0)
        rows = zip(self.classes, *columns, truth, predicted, images, strict=True)
        return tuple(
            ClassScore(name, _number(iou), _number(dice), _number(precision), _number(recall), int(t), int(p), int(n))
            for name, iou, dice, precision, recall, t, p, n in rows
        )

    @cached_property
    def per_image(self) -> tuple[ImageScore, ...]:
        common, truth, _ = np.moveaxis(self.counts, 1, 0)
        iou = _iou(np.moveaxis(self.counts, 1, 0))
        scored = truth.sum(axis=1, dtype=np.int64)
        mean, accuracy = _mean(iou, truth > 0), ratio(common.sum(axis=1, dtype=np.int64), scored)
        if self.overlapping:
            accuracy = np.full_like(accuracy, np.nan)
        return tuple(
            ImageScore(
                id=self.ids[i],
                miou=_number(mean[i]),
                pixel_accuracy=_number(accuracy[i]),
                iou={self.classes[c]: float(iou[i, c]) for c in np.flatnonzero(np.isfinite(iou[i]))},
                scored=int(scored[i]),
                void=int(self.void[i]),
            )
            for i in range(len(self.ids))
        )

    @property
    def convention(self) -> str:
        """What the numbers mean: classes counted, absent classes, VOID, pooled or per image, resolution, threshold."""
        present = int((self.totals[1] > 0).sum())
        drawn = f"{self.resamples:,} resamples, seed {self.seed}"
        known = any(estimate.low is not None for estimate in self.headlines.values())
        interval = f"{CONFIDENCE:.0%} percentile bootstrap over images ({drawn})" if known else "none"
        labels, wrong = "one label per pixel", "; a pixel predicted void is wrong"
        if self.overlapping:
            labels, wrong = "one mask per class, which may overlap", ""
        return (
            f"IoU, Dice and accuracies are pooled over the pixels of all images, at {self.resolution}, {labels} "
            f"({self.decision}); means count the {present} of {counted(len(self.classes), 'class')} that the truth has, "
            f"except `all classes`, where absent ones count 0; void pixels count nowhere{wrong}; intervals: {interval}."
        )

    def summary(self) -> dict[str, Any]:
        """Plain JSON values: headlines, classes, totals and convention; no confusion matrix, no images."""
        return {
            "schema": SCHEMA,
            "headlines": {name: estimate.to_json() for name, estimate in self.headlines.items()},
            "images": {"scored": len(self.ids), "of": self.expected},
            "pixels": self.pixels,
            "convention": self.convention,
            "resolution": self.resolution,
            "decision": self.decision,
            "overlapping": self.overlapping,
            "interval": {"confidence": CONFIDENCE, "resamples": self.resamples, "seed": self.seed},
            "classes": [{n: getattr(c, n) for n in ClassScore.__slots__} for c in self.per_class],
        }

    def to_json(self) -> dict[str, Any]:
        """`summary()` with `confusion` (true x predicted, the last column no class) and `per_image`: all there is."""
        rows = []
        for image, counts in zip(self.per_image, self.counts.tolist(), strict=True):
            index = (c for c, name in enumerate(self.classes) if name in image.iou)
            columns = [{"common": counts[0][c], "truth": counts[1][c], "predicted": counts[2][c]} for c in index]
            classes = {n: {"iou": v, **pixels} for (n, v), pixels in zip(image.iou.items(), columns, strict=True)}
            row = {n: getattr(image, n) for n in ("id", "miou", "pixel_accuracy", "scored", "void")}
            rows.append(row | {"classes": classes})
        return {**self.summary(), "confusion": self.matrix.tolist(), "per_image": rows}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Scores:
        """The scores that `to_json` wrote. Raises DataError for another schema."""
        if value.get("schema") != SCHEMA or "per_image" not in value:
            hint = "score again with this version, or read the file with the version that wrote it"
            raise DataError(f"not scores of schema {SCHEMA} with a per-image table", place="scores", hint=hint)
        try:
            return cls._parsed(value)
        except (KeyError, TypeError, ValueError, IndexError) as error:
            what = f"scores that are damaged ({type(error).__name__}: {error})"
            raise DataError(what, place="scores", hint="score again") from error

    @classmethod
    def _parsed(cls, value: dict[str, Any]) -> Scores:
        classes = tuple(c["name"] for c in value["classes"])
        index = {name: c for c, name in enumerate(classes)}
        rows = value["per_image"]
        counts = np.zeros((len(rows), 3, len(classes)), np.int32)
        for i, row in enumerate(rows):
            for name, pixels in row["classes"].items():
                counts[i, :, index[name]] = pixels["common"], pixels["truth"], pixels["predicted"]
        return cls(
            classes=classes,
            ids=tuple(row["id"] for row in rows),
            counts=counts,
            void=np.array([row["void"] for row in rows], np.int64),
            matrix=np.array(value["confusion"], np.int64),
            expected=value["images"]["of"],
            resolution=value["resolution"],
            decision=value["decision"],
            headlines={name: Estimate.from_json(e) for name, e in value["headlines"].items()},
            resamples=value["interval"]["resamples"],
            seed=value["interval"]["seed"],
            overlapping=value.get("overlapping", False),
        )

    def csv(self, path: Path) -> None:
        """Writes the per-image table; an IoU is left empty where truth and prediction both lack the class."""
        with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            fixed = ["id", "miou", "pixel_accuracy", "scored_pixels", "void_pixels"]
            writer.writerow(fixed + [f"iou {name}" for name in self.classes])
            for image in self.per_image:
                ious = [image.iou.get(name, "") for name in self.classes]
                accuracies = ["" if v is None else v for v in (image.miou, image.pixel_accuracy)]
                writer.writerow([image.id, *accuracies, image.scored, image.void, *ious])


def measures_of(counts: np.ndarray, names: list[str]) -> Callable[[np.ndarray], np.ndarray]:
    """The statistic: float (B, 3, C) summed counts -> float (B, S), the named headlines.

    `miou_all` holds the share of the classes that the whole truth has fixed: a resample that misses a rare class must
    not count it as a class that the model fails on.
    """
    share = (counts[:, 1].sum(axis=0) > 0).mean()

    def statistic(sums: np.ndarray) -> np.ndarray:
        common, truth, predicted = np.moveaxis(sums, 1, 0)
        three, present = (common, truth, predicted), truth > 0
        iou = _iou(three)
        formulas = {
            "miou": lambda: _mean(iou, present),
            "miou_all": lambda: _mean(iou, present) * share,
            "miou_foreground": lambda: _mean(iou[:, 1:], present[:, 1:]),
            "mdice": lambda: _mean(_dice(three), present),
            "pixel_accuracy": lambda: ratio(common.sum(axis=1), truth.sum(axis=1)),
            "mean_class_accuracy": lambda: _mean(ratio(common, truth), present),
        }
        return np.stack([formulas[name]() for name in names], axis=1)

    return statistic


def class_ious(sums: np.ndarray) -> np.ndarray:
    """float (B, 3, C) summed counts -> float (B, C); NaN where the truth has none of the class."""
    common, truth, predicted = np.moveaxis(sums, 1, 0)
    return np.where(truth > 0, _iou((common, truth, predicted)), np.nan)


def _iou(three: Any) -> np.ndarray:
    common, truth, predicted = three
    return ratio(common, truth.astype(np.float64) + predicted - common)


def _dice(three: Any) -> np.ndarray:
    common, truth, predicted = three
    return ratio(2.0 * common, truth.astype(np.float64) + predicted)


def scored_twice(id: str) -> DataError:
    return DataError("the image is scored twice", place=id, hint="every image needs an id of its own")


def ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """float64 part / whole, NaN where whole is 0."""
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0)


def _mean(values: np.ndarray, counted: np.ndarray) -> np.ndarray:
    """float64 mean of `values` over the last axis where `counted`; NaN where nothing is."""
    return ratio(np.where(counted, values, 0.0).sum(axis=-1), counted.sum(axis=-1))


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
