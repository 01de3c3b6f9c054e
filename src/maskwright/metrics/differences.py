"""How much better one model is than another on the same images: of pixels or of objects, with an interval.

    paired_difference(Scores.from_json(...), Scores.from_json(...), "miou")

Each resample draws the same images for both, so what makes an image hard for both cancels out.
"""

from __future__ import annotations

import numpy as np

from maskwright.core.errors import DataError
from maskwright.metrics.instance_scores import InstanceScores
from maskwright.metrics.intervals import CONFIDENCE, Estimate, bootstrap, resampled
from maskwright.metrics.matching import Kind, Matches
from maskwright.metrics.precision_recall import MEASURES, averaged, measured
from maskwright.metrics.scores import Scores, class_ious, measures_of

AnyScores = Scores | InstanceScores


def paired_difference(
    a: AnyScores,
    b: AnyScores,
    headline: str | None = None,
    *,
    resamples: int = 1000,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Estimate:
    """Headline of a minus headline of b, with its interval. headline: left out: the first that `a` has.

    Raises DataError unless both have the headline and were scored against the same truth: the same classes and images in
    the same order, and the same true pixels or objects.
    """
    name = next(iter(a.headlines)) if headline is None else headline
    if name not in a.headlines or name not in b.headlines:
        common = [known for known in a.headlines if known in b.headlines]
        hint = f"it can be {', '.join(common)}" if common else "one is of pixels, the other of objects"
        raise DataError(f"the two scores do not both have `{name}`", hint=hint)
    if mismatch := _mismatch(a, b, name):
        what = f"two scores can only be compared on the same truth; {mismatch}"
        raise DataError(what, hint="score both models on the same images with the same class list")
    return _differences(a, b, name, resamples, confidence, seed)[0]


def class_differences(a: AnyScores, b: AnyScores, *, resamples: int = 1000, seed: int = 0) -> dict[str, Estimate]:
    """The same for every class: its IoU, of objects its mask AP, of a minus that of b; no value where it is undefined."""
    if mismatch := _mismatch(a, b, "mask_ap" if isinstance(a, InstanceScores) else "miou"):
        what = f"two scores can only be compared on the same truth; {mismatch}"
        raise DataError(what, hint="score both models on the same images with the same class list")
    found = _differences(a, b, None, resamples, CONFIDENCE, seed)
    return dict(zip(a.classes, found, strict=True))


def _differences(
    a: AnyScores, b: AnyScores, name: str | None, resamples: int, confidence: float, seed: int
) -> list[Estimate]:
    """Of one headline, or without a name of each class."""
    if isinstance(a, InstanceScores) and isinstance(b, InstanceScores):
        kind = _kind(name or "mask_ap")
        column = list(MEASURES).index((name or "mask_ap").partition("_")[2])
        ours, theirs = (measured(scores.matches[kind], len(a.classes)) for scores in (a, b))

        def of_weights(weights: np.ndarray) -> np.ndarray:
            both = [statistic(weights) for statistic in (ours, theirs)]
            if name is not None:
                both = [averaged(measures)[:, None] for measures in both]
            return (both[0] - both[1])[:, :, column]

        return resampled(len(a.ids), of_weights, resamples=resamples, confidence=confidence, seed=seed)
    assert isinstance(a, Scores)
    assert isinstance(b, Scores)
    measure = class_ious if name is None else measures_of(a.counts, [name])

    def of_sums(sums: np.ndarray) -> np.ndarray:
        return measure(sums[:, 0]) - measure(sums[:, 1])

    both = np.stack([a.counts, b.counts], axis=1)
    return bootstrap(both, of_sums, resamples=resamples, confidence=confidence, seed=seed)


def _kind(name: str) -> Kind:
    return "mask" if name.startswith("mask") else "box"


def _mismatch(a: AnyScores, b: AnyScores, name: str) -> str | None:
    """Why the two were not scored against the same truth. name: a headline that both have, so both are of one kind."""
    if a.classes != b.classes:
        return "their classes differ"
    if only := sorted(set(a.ids) ^ set(b.ids)):
        return f"images in only one of them: {len(only)}, the first is `{only[0]}`"
    if a.ids != b.ids:
        return "their images are in different orders"
    if isinstance(a, InstanceScores) and isinstance(b, InstanceScores):
        one, other = a.matches[_kind(name)], b.matches[_kind(name)]
        true = [n for n in Matches.__slots__ if n.startswith("truth")]
        same = all(np.array_equal(getattr(one, n), getattr(other, n)) for n in true)
        return None if same else "their true objects differ"
    assert isinstance(a, Scores)
    assert isinstance(b, Scores)
    changed = (a.counts[:, 1] != b.counts[:, 1]).any(axis=1)
    return f"the true pixels of `{a.ids[int(changed.argmax())]}` differ" if changed.any() else None
