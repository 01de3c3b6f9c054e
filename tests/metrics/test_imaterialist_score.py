"""The competition's score against its rules spelt out over sets of pixels, with fractions."""

from fractions import Fraction

import numpy as np
import pytest

from maskwright.core.errors import DataError
from maskwright.core.types import Region
from maskwright.imaging import run_lengths
from maskwright.metrics.imaterialist import FashionScores

SIZE = (12, 16)
THRESHOLDS = [Fraction(n, 20) for n in range(10, 20)]
Objects = list[tuple[int, tuple[str, ...], np.ndarray]]


def regions(objects: Objects) -> list[Region]:
    made = []
    for label, attributes, mask in objects:
        counts = run_lengths.of_mask(mask)
        made.append(Region(label, counts=counts, attributes={"attributes": list(attributes)} if attributes else {}))
    return made


def by_rules(truth: Objects, predicted: Objects) -> Fraction:
    """One image; the masks of the predictions share no pixel."""
    kinds = {(label, frozenset(more)) for label, more, _ in (*truth, *predicted)}
    scores = []
    for kind in kinds:
        true, found = ([set(np.flatnonzero(m).tolist()) for n, a, m in side if (n, frozenset(a)) == kind]
                       for side in (truth, predicted))  # fmt: skip
        for threshold in THRESHOLDS:
            hits = sum(any(Fraction(len(t & p), len(t | p)) > threshold for p in found if t | p) for t in true)
            scores.append(Fraction(hits, len(true) + len(found) - hits))
    return sum(scores, Fraction(0)) / len(scores) if scores else Fraction(1)


def scene(rng: np.random.Generator, attributes: bool) -> tuple[Objects, Objects]:
    """Boxes on a grid, and what somebody made of them: moved a little, renamed, forgotten, invented."""
    truth, predicted, free = [], [], np.ones(SIZE, bool)
    taken = np.ones(SIZE, bool)
    for _ in range(rng.integers(0, 5)):
        top, left, high, wide = rng.integers(0, 8), rng.integers(0, 10), *rng.integers(2, 8, 2)
        mask = np.zeros(SIZE, bool)
        mask[top : top + high, left : left + wide] = True
        mask &= taken
        moved = np.roll(mask, tuple(rng.integers(-1, 2, 2)), (0, 1)) & free
        label, named = int(rng.integers(1, 4)), ("a", "b")[: rng.integers(0, 3)] if attributes else ()
        if mask.any():
            taken &= ~mask
            truth.append((label, named, mask))
        if moved.any() and rng.random() < 0.8:
            free &= ~moved
            predicted.append((label if rng.random() < 0.8 else 1, named[:1] if rng.random() < 0.2 else named, moved))
    return truth, predicted


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("attributes", [False, True])
def test_scores_are_what_the_rules_say(seed: int, attributes: bool) -> None:
    rng = np.random.default_rng(seed)
    scores, expected = FashionScores(attributes=attributes, size=None), {}
    for number in range(4):
        truth, predicted = scene(rng, attributes)
        expected[str(number)] = by_rules(truth, predicted)
        assert scores.add(str(number), regions(truth), regions(predicted), SIZE) == pytest.approx(
            float(expected[str(number)])
        )
    result = scores.result()
    assert result.images == pytest.approx({id: float(score) for id, score in expected.items()}, abs=1e-12)
    assert result.score == pytest.approx(float(sum(expected.values()) / 4), abs=1e-12)


def strip(pixels: int) -> np.ndarray:
    mask = np.zeros((1, 40), bool)
    mask[0, :pixels] = True
    return mask


@pytest.mark.parametrize("common", range(20, 41))
def test_an_iou_that_equals_a_threshold_is_not_above_it(common: int) -> None:
    """`common` of 40 pixels: IoUs .5, .525, .55 ... as they are, without the error of decimal fractions."""
    scores = FashionScores(size=None)
    score = scores.add("x", regions([(1, (), strip(40))]), regions([(1, (), strip(common))]), (1, 40))
    assert score == sum(Fraction(common, 40) > threshold for threshold in THRESHOLDS) / 10


def test_the_four_cases_of_a_class() -> None:
    whole = np.ones(SIZE, bool)
    one, other = regions([(1, (), whole)]), regions([(2, (), whole)])
    cases = {"both": (one, one, 1.0), "neither": ([], [], 1.0), "missed": (one, [], 0.0), "invented": ([], one, 0.0)}
    cases |= {"renamed": (one, other, 0.0), "half": (one, [*one, *other], 0.5)}
    scores = FashionScores(size=None)
    for id, (truth, predicted, expected) in cases.items():
        assert scores.add(id, truth, predicted, SIZE) == expected
    result = scores.result()
    assert result.classes == {1: pytest.approx(2 / 5), 2: 0.0}
    assert FashionScores().result().score == 1.0


def test_attributes_belong_to_the_class_unless_told_otherwise() -> None:
    whole = np.ones(SIZE, bool)
    truth, plain, turned = (regions([(1, names, whole)]) for names in (("a", "b"), (), ("b", "a")))
    assert [FashionScores().add("x", truth, other, SIZE) for other in (plain, turned)] == [0.0, 1.0]
    assert FashionScores(attributes=False).add("x", truth, plain, SIZE) == 1.0


def test_both_sides_are_brought_to_one_size() -> None:
    """A truth at its own size against an answer at 512 x 512; without a common size that is refused."""
    half = np.zeros((40, 60), bool)
    half[:20] = True
    answer = np.zeros((512, 512), bool)
    answer[:256] = True
    truth, predicted = regions([(1, (), half)]), regions([(1, (), answer)])
    assert FashionScores().add("x", truth, predicted, (40, 60), (512, 512)) == 1.0
    scores = FashionScores(size=None)
    with pytest.raises(DataError, match=r"x: the masks are \(512, 512\)"):
        scores.add("x", truth, predicted, (40, 60), (512, 512))
    scores.add("x", truth, truth, (40, 60))
    with pytest.raises(DataError, match="scored before"):
        scores.add("x", truth, truth, (40, 60))
