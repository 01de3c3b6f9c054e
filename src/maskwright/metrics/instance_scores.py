"""InstanceScores: every number about how well objects are found, each headline with its interval, all with their convention.

What came of every detection is kept (`Matches`), so that scores read back from JSON can be tabulated and compared again. To
add a headline: its line in `precision_recall.MEASURES` and its column in `Curves.measures`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.core.errors import DataError
from maskwright.core.files import written_whole
from maskwright.core.types import BACKGROUND, SURE
from maskwright.core.words import counted
from maskwright.metrics.intervals import CONFIDENCE, Estimate, resampled
from maskwright.metrics.matching import Kind, Matches
from maskwright.metrics.precision_recall import MEASURES, averaged, measured

SCHEMA = 1
HEADLINES = {f"{kind}_{name}": f"{kind} {label}" for kind in ("mask", "box") for name, label in MEASURES.items()}
_OF_A_CLASS = ("ap", "ap50", "ap75", "ar100")


@dataclass(frozen=True, slots=True)
class InstanceClass:
    """One class. objects: those that count (no crowds); images: that have some; detections: that were looked at.

    measures: `mask_ap`, `mask_ap50`, `mask_ap75`, `mask_ar100` and the same of boxes; None without objects.
    """

    name: str
    objects: int
    images: int
    detections: int
    measures: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class InstanceImage:
    """One image at IoU 0.5, of masks where there are some.

    objects: that count (no crowds). detections: all of them; found: how many of those found an object.
    sure: detections surer than SURE that count; right: how many of those found an object.
    """

    id: str
    objects: int
    detections: int
    found: int
    sure: int
    right: int

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall of the sure detections, 0..1; None without any of them and any object."""
        total = self.objects + self.sure
        return 2 * self.right / total if total else None


_OF_AN_IMAGE = (*InstanceImage.__slots__, "f1")


@dataclass(frozen=True, eq=False)
class InstanceScores:
    """How well objects are found. `scores["mask_ap"]` is the value of a headline.

    classes: names in index order. ids: of the scored images, in the order in which they were added.
    matches: "mask" (unless only boxes were found) and "box" -> what came of every detection.
    expected: how many images should have been scored.
    resolution, areas: words for the convention; areas: what decides whether an object is small, medium or large.
    notes: what a reader of the numbers must know, one clause each.
    headlines: the names of HEADLINES that these matches have -> Estimate.
    resamples, seed: of the bootstrap.
    """

    classes: tuple[str, ...]
    ids: tuple[str, ...]
    matches: dict[Kind, Matches]
    expected: int
    resolution: str
    areas: str
    notes: tuple[str, ...]
    headlines: dict[str, Estimate]
    resamples: int
    seed: int

    @classmethod
    def of(
        cls,
        *,
        classes: tuple[str, ...],
        ids: tuple[str, ...],
        matches: dict[Kind, Matches],
        resamples: int,
        seed: int,
        **rest: Any,
    ) -> InstanceScores:
        """Scores of these matches; computes the headlines. The arguments are the fields."""
        headlines: dict[str, Estimate] = {}
        for kind, one in matches.items():
            statistic = statistic_of(one, len(classes))
            estimates = [_within(e) for e in resampled(len(ids), statistic, resamples=resamples, seed=seed)]
            headlines |= {f"{kind}_{name}": value for name, value in zip(MEASURES, estimates, strict=True)}
        return cls(
            classes=classes, ids=ids, matches=matches, headlines=headlines, resamples=resamples, seed=seed, **rest
        )

    def __getitem__(self, headline: str) -> float | None:
        return self.headlines[headline].value

    @property
    def first(self) -> Matches:
        """Of masks where there are some."""
        return next(iter(self.matches.values()))

    @cached_property
    def per_class(self) -> tuple[InstanceClass, ...]:
        one, num = self.first, len(self.classes)
        counting = _counting(one)
        objects = np.bincount(one.truth_label[counting], minlength=num)
        pairs = np.unique(np.stack([one.truth_label[counting], one.truth_image[counting]]), axis=1)
        images = np.bincount(pairs[0], minlength=num)
        detections = np.bincount(one.label, minlength=num)
        columns: dict[str, np.ndarray] = {}
        for kind, matches in self.matches.items():
            values = measured(matches, num)(np.ones((1, len(self.ids))))[0]
            columns |= {f"{kind}_{name}": values[:, list(MEASURES).index(name)] for name in _OF_A_CLASS}
        return tuple(
            InstanceClass(
                name=name,
                objects=int(objects[i]),
                images=int(images[i]),
                detections=int(detections[i]),
                measures={key: _number(values[i]) for key, values in columns.items()},
            )
            for i, name in enumerate(self.classes)
        )

    @cached_property
    def per_image(self) -> tuple[InstanceImage, ...]:
        one, num = self.first, len(self.ids)
        objects = np.bincount(one.truth_image[_counting(one)], minlength=num)
        detections = np.bincount(one.image, minlength=num)
        hits, ignored = ((bits & np.uint64(1)) > 0 for bits in (one.hits, one.ignored))
        sure = (one.score > SURE) & ~ignored
        counts = (np.bincount(one.image[chosen], minlength=num) for chosen in (hits, sure, sure & hits))
        columns = (objects.tolist(), detections.tolist(), *(count.tolist() for count in counts))
        return tuple(InstanceImage(*row) for row in zip(self.ids, *columns, strict=True))

    @property
    def objects(self) -> dict[str, int]:
        """counted: objects; crowds: objects that count nowhere; detections: that were looked at."""
        one = self.first
        known = int(_counting(one).sum())
        return {"counted": known, "crowds": len(one.truth_image) - known, "detections": len(one.image)}

    @property
    def convention(self) -> str:
        """What the numbers mean: matching, averaging, classes counted, sizes, crowds, resolution, intervals."""
        present = len(np.unique(self.first.truth_label[_counting(self.first)]))
        classes = counted(sum(name != BACKGROUND for name in self.classes), "class")
        drawn = f"{self.resamples:,} resamples, seed {self.seed}"
        known = any(estimate.low is not None for estimate in self.headlines.values())
        interval = f"{CONFIDENCE:.0%} basic bootstrap over images ({drawn})" if known else "none"
        return (
            "Average precision as COCO defines it: at 101 recalls, mean over IoU 0.50, 0.55, ... 0.95 (AP50, AP75: at one) "
            f"and over the {present} of {classes} that have objects, at {self.resolution}, at "
            "most 100 detections of a class in an image; AR1, AR10, AR100: the recall of so many; small is up to 32 x 32 "
            f"pixels, large from 96 x 96, by {self.areas}; crowds count nowhere, nor does what is found in them; "
            f"intervals: {interval}."
        )

    def summary(self) -> dict[str, Any]:
        """Plain JSON values: headlines, classes, counts and convention; no images, no detections."""
        rows = [
            {"name": c.name, "objects": c.objects, "images": c.images, "detections": c.detections, **c.measures}
            for c in self.per_class
        ]
        return {
            "schema": SCHEMA,
            "headlines": {name: estimate.to_json() for name, estimate in self.headlines.items()},
            "images": {"scored": len(self.ids), "of": self.expected},
            "objects": self.objects,
            "convention": self.convention,
            "resolution": self.resolution,
            "areas": self.areas,
            "notes": list(self.notes),
            "interval": {"confidence": CONFIDENCE, "resamples": self.resamples, "seed": self.seed},
            "classes": rows,
        }

    def to_json(self) -> dict[str, Any]:
        """`summary()` with `per_image` and `matches`, the columns of Matches: all there is."""
        rows = [{name: getattr(image, name) for name in _OF_AN_IMAGE} for image in self.per_image]
        columns = {k: {n: getattr(m, n).tolist() for n in Matches.__slots__} for k, m in self.matches.items()}
        return {**self.summary(), "per_image": rows, "matches": columns}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> InstanceScores:
        """The scores that `to_json` wrote. Raises DataError for another schema."""
        if value.get("schema") != SCHEMA or "matches" not in value:
            hint = "score again with this version, or read the file with the version that wrote it"
            raise DataError(f"not scores of objects of schema {SCHEMA} with their matches", place="scores", hint=hint)
        try:
            return cls(
                classes=tuple(c["name"] for c in value["classes"]),
                ids=tuple(row["id"] for row in value["per_image"]),
                matches={kind: Matches.from_lists(columns) for kind, columns in value["matches"].items()},
                expected=value["images"]["of"],
                resolution=value["resolution"],
                areas=value["areas"],
                notes=tuple(value["notes"]),
                headlines={name: Estimate.from_json(e) for name, e in value["headlines"].items()},
                resamples=value["interval"]["resamples"],
                seed=value["interval"]["seed"],
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            what = f"scores that are damaged ({type(error).__name__}: {error})"
            raise DataError(what, place="scores", hint="score again") from error

    def csv(self, path: Path) -> None:
        """Writes the per-image table, the columns of InstanceImage at IoU 0.5; an undefined F1 is empty."""
        with written_whole(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(_OF_AN_IMAGE)
            writer.writerows([getattr(image, name) for name in _OF_AN_IMAGE] for image in self.per_image)

    def _repr_html_(self) -> str:
        from maskwright.metrics import instance_tables

        return instance_tables.html(self)


def _within(estimate: Estimate) -> Estimate:
    """No share is below 0 or above 1."""
    low, high = (None if v is None else min(max(v, 0.0), 1.0) for v in (estimate.low, estimate.high))
    return Estimate(estimate.value, low, high)


def statistic_of(matches: Matches, num_classes: int) -> Callable[[np.ndarray], np.ndarray]:
    """float64 (B, N), how often each image counts in B resamples -> float64 (B, S), the MEASURES in their order."""
    statistic = measured(matches, num_classes)
    return lambda weights: averaged(statistic(weights))


def _counting(matches: Matches) -> np.ndarray:
    """bool (G,), the objects that are no crowds: those that count in the first range, which has every size."""
    return (matches.truth_counts & 1).astype(np.bool_)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
