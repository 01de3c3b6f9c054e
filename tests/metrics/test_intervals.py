"""Bootstrap intervals against a plain loop with the same seed, and against what they promise on simulated data."""

import numpy as np
import pytest

from maskwright.core.errors import DataError
from maskwright.metrics import intervals
from maskwright.metrics.confusion import Confusion
from maskwright.metrics.differences import class_differences, paired_difference
from maskwright.metrics.intervals import Estimate, bootstrap

CLASSES = ("background", "cat", "dog", "rare")


def share(sums: np.ndarray) -> np.ndarray:
    """(B, 2) sums -> (B, 1): the second as a share of the first."""
    return sums[:, 1:] / sums[:, :1]


def confusion(num_images: int, seed: int, mistakes: float, *, rare: int = 2) -> Confusion:
    """Random truths that depend on `seed` only; the class `rare` is in the first `rare` images only."""
    counter = Confusion(CLASSES)
    for i in range(num_images):
        rng = np.random.default_rng([seed, i])
        truth = rng.integers(0, 3 + (i < rare), (8, 9)).astype(np.uint8)
        wrong = rng.random(truth.shape) < mistakes * rng.random()
        counter.add(f"{i:04}", truth, np.where(wrong, 0, truth).astype(np.uint8))
    return counter


@pytest.mark.parametrize("seed", [0, 7])
def test_every_headline_equals_a_loop_that_scores_each_resample_by_itself(seed):
    counter = confusion(9, 3, 0.8)
    scores = counter.scores(resamples=60, seed=seed)
    share_present = len([c for c in scores.per_class if c.truth_pixels]) / len(CLASSES)
    rng = np.random.default_rng(seed)
    values: dict[str, list[float]] = {name: [] for name in scores.headlines}
    for _ in range(60):
        drawn = scores.counts[rng.integers(0, 9, 9)]
        common, truth, predicted = drawn.sum(axis=0)
        present = [c for c in range(4) if truth[c]]
        iou = {c: common[c] / (truth[c] + predicted[c] - common[c]) for c in present}
        values["miou"].append(sum(iou.values()) / len(present))
        values["miou_all"].append(sum(iou.values()) / len(present) * share_present)
        values["miou_foreground"].append(sum(iou[c] for c in present if c) / len([c for c in present if c]))
        values["mdice"].append(np.mean([2 * common[c] / (truth[c] + predicted[c]) for c in present]))
        values["pixel_accuracy"].append(common.sum() / truth.sum())
        values["mean_class_accuracy"].append(np.mean([common[c] / truth[c] for c in present]))
    for name, estimate in scores.headlines.items():
        assert (estimate.low, estimate.high) == pytest.approx(tuple(np.percentile(values[name], [2.5, 97.5])))
        assert estimate.low <= estimate.value <= estimate.high


def test_the_interval_holds_the_truth_as_often_as_it_says():
    """Shares of images that differ widely in size and difficulty: the quantity is known, 0.6 by construction."""
    rng = np.random.default_rng(1)
    held = 0
    for trial in range(400):
        size = rng.integers(50, 500, 60)
        right = rng.binomial(size, rng.beta(6, 4, 60))
        estimate = bootstrap(np.stack([size, right], axis=1), share, resamples=300, seed=trial)[0]
        held += estimate.low <= 0.6 <= estimate.high
    assert 0.91 <= held / 400 <= 0.98


def test_the_interval_narrows_with_the_root_of_the_images_and_widens_with_confidence():
    rng = np.random.default_rng(2)
    counts = np.stack([np.full(6400, 100), rng.binomial(100, rng.beta(3, 2, 6400))], axis=1)

    def width(num: int, confidence: float = 0.95) -> float:
        estimate = bootstrap(counts[:num], share, confidence=confidence)[0]
        return estimate.high - estimate.low

    assert width(6400) == pytest.approx(width(400) / 4, rel=0.15)
    assert width(400, 0.5) < width(400, 0.9) < width(400, 0.99)


def test_the_seed_decides_and_blocks_do_not(monkeypatch):
    counts = np.random.default_rng(0).integers(1, 50, (13, 2))
    first = bootstrap(counts, share, seed=4)
    assert bootstrap(counts, share, seed=4) == first
    assert bootstrap(counts, share, seed=5) != first
    monkeypatch.setattr(intervals, "_BLOCK", 13 * 7)
    assert bootstrap(counts, share, seed=4) == first


@pytest.mark.parametrize(("num", "resamples"), [(0, 100), (1, 100), (5, 0)])
def test_no_interval_without_two_images_and_resamples(num, resamples):
    estimate = confusion(num, 0, 0.5).scores(resamples=resamples).headlines["miou"]
    assert (estimate.value is None) == (num == 0)
    assert (estimate.low, estimate.high) == (None, None)


def test_resamples_where_a_statistic_is_undefined_are_left_out():
    counts = np.array([[1, 1], [0, 0]])

    def statistic(sums: np.ndarray) -> np.ndarray:
        return np.where(sums[:, :1] > 0, sums[:, 1:] / np.maximum(sums[:, :1], 1), np.nan)

    assert bootstrap(counts, statistic) == [Estimate(1.0, 1.0, 1.0)]
    assert bootstrap(counts * 0, statistic) == [Estimate(None)]


def test_a_paired_difference_equals_a_loop_and_is_narrower_than_the_two_apart():
    a, b = confusion(40, 3, 0.4).scores(), confusion(40, 3, 0.5).scores()
    got = paired_difference(a, b, seed=9)
    rng = np.random.default_rng(9)
    differences = []
    for _ in range(1000):
        drawn = rng.integers(0, 40, 40)
        pair = []
        for scores in (a, b):
            common, truth, predicted = scores.counts[drawn].sum(axis=0)
            here = truth > 0
            pair.append((common / np.maximum(truth + predicted - common, 1))[here].mean())
        differences.append(pair[0] - pair[1])
    assert got.value == pytest.approx(a["miou"] - b["miou"])
    assert (got.low, got.high) == pytest.approx(tuple(np.percentile(differences, [2.5, 97.5])))
    assert got.low > 0
    alone = a.headlines["miou"]
    assert got.high - got.low < alone.high - alone.low


def test_class_differences_are_those_of_the_classes_and_mean_to_that_of_all():
    a, b = confusion(40, 3, 0.4).scores(), confusion(40, 3, 0.5).scores()
    found, whole = class_differences(a, b), paired_difference(a, b)
    ious = [[c.iou for c in scores.per_class] for scores in (a, b)]
    assert [e.value for e in found.values()] == pytest.approx([x - y for x, y in zip(*ious, strict=True)])
    assert whole.value == pytest.approx(np.mean([e.value for e in found.values()]))
    assert all(e.low < e.value < e.high for e in found.values())
    assert {e.value for e in class_differences(a, a).values()} == {0.0}


@pytest.mark.parametrize("headline", ["miou", "miou_all", "miou_foreground", "mdice", "pixel_accuracy"])
def test_a_paired_difference_is_odd_and_nought_with_itself(headline):
    a, b = confusion(12, 3, 0.4).scores(resamples=0), confusion(12, 3, 0.6).scores(resamples=0)
    there, back = paired_difference(a, b, headline), paired_difference(b, a, headline)
    assert (there.value, there.low, there.high) == pytest.approx((-back.value, -back.high, -back.low))
    assert paired_difference(a, a, headline) == Estimate(0.0, 0.0, 0.0)


def test_scores_of_different_truths_are_not_compared():
    a = confusion(5, 3, 0.4).scores()
    with pytest.raises(DataError, match="images in only one of them: 1, the first is `0004`"):
        paired_difference(a, confusion(4, 3, 0.4).scores())
    with pytest.raises(DataError, match="the true pixels of `0000` differ"):
        paired_difference(a, confusion(5, 8, 0.4).scores())
    with pytest.raises(DataError, match="their classes differ"):
        paired_difference(a, Confusion(("x", "y")).scores())
