"""Pixel counts and the scores made of them, against sets of pixels counted in plain Python."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.core.errors import DataError
from maskwright.core.types import BACKGROUND, VOID
from maskwright.metrics import tables
from maskwright.metrics.confusion import Confusion
from maskwright.metrics.scores import Scores


def names(num: int, *, background: bool = False) -> tuple[str, ...]:
    return ((BACKGROUND,) if background else ()) + tuple(f"class {c}" for c in range(background, num))


def score(pairs, num: int, *, background: bool = False, resamples: int = 0, **options) -> Scores:
    confusion = Confusion(names(num, background=background))
    for i, (truth, predicted) in enumerate(pairs):
        confusion.add(f"image {i:03}", truth, predicted)
    return confusion.scores(resamples=resamples, **options)


def flat(*values: int) -> np.ndarray:
    return np.array([values], np.uint8)


@st.composite
def data_sets(draw):
    """(number of classes, [(truth, predicted), ...]) with void, absent classes, abstentions and odd shapes."""
    num = draw(st.sampled_from([1, 2, 3, 5, 20, 255]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    values = np.append(rng.choice(num, size=min(num, draw(st.integers(1, 4))), replace=False), VOID).astype(np.uint8)
    sizes = draw(st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6)), min_size=1, max_size=5))
    return num, [tuple(rng.choice(values, size=size) for _ in range(2)) for size in sizes]


def pixel_sets(pairs, label: int):
    """Pixels that are `label` in the truth, and in the prediction: sets of (image, row, column) without void."""
    truth, predicted = set(), set()
    for i, (t, p) in enumerate(pairs):
        for row in range(t.shape[0]):
            for column in range(t.shape[1]):
                if t[row, column] != VOID:
                    if t[row, column] == label:
                        truth.add((i, row, column))
                    if p[row, column] == label:
                        predicted.add((i, row, column))
    return truth, predicted


def mean(values):
    values = list(values)
    return sum(values) / len(values) if values else None


def share(part: int, whole: int):
    return part / whole if whole else None


@settings(max_examples=60, deadline=None)
@given(data_sets(), st.booleans())
def test_everything_equals_counts_of_pixel_sets(data, background):
    num, pairs = data
    scores = score(pairs, num, background=background)
    sets = {c: pixel_sets(pairs, c) for c in range(num)}
    truth_of = {c: t for c, (t, _) in sets.items()}
    present = [c for c in range(num) if truth_of[c]]
    iou = {c: share(len(t & p), len(t | p)) for c, (t, p) in sets.items()}
    dice = {c: share(2 * len(t & p), len(t) + len(p)) for c, (t, p) in sets.items()}
    recall = {c: share(len(t & p), len(t)) for c, (t, p) in sets.items()}
    for c, row in enumerate(scores.per_class):
        t, p = sets[c]
        assert row.iou == pytest.approx(iou[c])
        assert row.dice == pytest.approx(dice[c])
        assert row.recall == pytest.approx(recall[c])
        assert row.precision == pytest.approx(share(len(t & p), len(p)))
        assert (row.truth_pixels, row.predicted_pixels) == (len(t), len(p))
        assert row.images == len({image for image, _, _ in t})
    assert scores["miou"] == pytest.approx(mean(iou[c] for c in present))
    assert scores["miou_all"] == pytest.approx(mean(iou[c] or 0.0 for c in range(num)) if present else None)
    assert scores["mdice"] == pytest.approx(mean(dice[c] for c in present))
    assert scores["mean_class_accuracy"] == pytest.approx(mean(recall[c] for c in present))
    scored = sum(map(len, truth_of.values()))
    assert scores["pixel_accuracy"] == pytest.approx(share(sum(len(t & p) for t, p in sets.values()), scored))
    assert ("miou_foreground" in scores.headlines) == background
    if background:
        assert scores["miou_foreground"] == pytest.approx(mean(iou[c] for c in present if c))
    total = sum(t.size for t, _ in pairs)
    unanswered = sum(int(((t != VOID) & (p == VOID)).sum()) for t, p in pairs)
    assert scores.pixels == {"total": total, "scored": scored, "void": total - scored, "unanswered": unanswered}


@settings(max_examples=30, deadline=None)
@given(data_sets())
def test_the_matrix_and_the_images_equal_literal_loops(data):
    num, pairs = data
    matrix = np.zeros((num, num + 1), int)
    for truth, predicted in pairs:
        for t, p in zip(truth.flat, predicted.flat, strict=True):
            if t != VOID:
                matrix[t, num if p == VOID else p] += 1
    scores = score(pairs, num)
    assert scores.matrix.tolist() == matrix.tolist()
    for row, pair in zip(scores.per_image, pairs, strict=True):
        alone = score([pair], num)
        assert row.miou == pytest.approx(alone["miou"])
        assert row.pixel_accuracy == pytest.approx(alone["pixel_accuracy"])
        assert row.iou == {c.name: c.iou for c in alone.per_class if c.iou is not None}
        assert row.scored + row.void == pair[0].size


@settings(max_examples=30, deadline=None)
@given(data_sets(), st.randoms(use_true_random=False))
def test_neither_the_order_nor_the_number_of_counters_matters(data, random):
    num, pairs = data
    order = list(range(len(pairs)))
    random.shuffle(order)
    counters = [Confusion(names(num)) for _ in range(3)]
    for i in order:
        counters[random.randrange(3)].add(f"image {i:03}", *pairs[i])
    whole = Confusion(names(num))
    for counter in counters:
        whole.merge(counter)
    assert len(whole) == len(pairs)
    assert whole.scores(resamples=20).to_json() == score(pairs, num, resamples=20).to_json()


@settings(max_examples=30, deadline=None)
@given(data_sets(), st.integers(0, 2**32))
def test_renumbering_the_classes_changes_no_mean(data, seed):
    num, pairs = data
    table = np.append(np.random.default_rng(seed).permutation(num), np.arange(num, 256)).astype(np.uint8)
    before, after = score(pairs, num), score([(table[t], table[p]) for t, p in pairs], num)
    for name in before.headlines:
        assert after[name] == pytest.approx(before[name])


@pytest.mark.parametrize("num", [1, 2, 19, 255])
def test_a_perfect_answer_is_one_and_a_wrong_one_is_zero(num):
    truth = np.resize(np.append(np.arange(num), VOID).astype(np.uint8), (17, 23))
    scored = truth != VOID
    perfect = score([(truth, np.where(scored, truth, 0).astype(np.uint8))] * 3, num, background=num > 1, resamples=50)
    assert {(e.value, e.low, e.high) for e in perfect.headlines.values()} == {(1.0, 1.0, 1.0)}
    wrong = np.where(scored, (truth + 1) % num if num > 1 else VOID, 0).astype(np.uint8)
    zero = score([(truth, wrong)] * 3, num, background=num > 1, resamples=50)
    assert {(e.value, e.low, e.high) for e in zero.headlines.values()} == {(0.0, 0.0, 0.0)}


def test_a_class_that_only_the_prediction_has_lowers_the_all_class_mean_only():
    scores = score([(flat(0, 0, 1, 1), flat(0, 2, 1, 1))], 4)
    assert [c.iou for c in scores.per_class] == [0.5, 1.0, 0.0, None]
    assert [c.precision for c in scores.per_class] == [1.0, 1.0, 0.0, None]
    assert [c.recall for c in scores.per_class] == [0.5, 1.0, None, None]
    assert (scores["miou"], scores["miou_all"]) == (0.75, 0.375)


def test_a_predicted_void_is_wrong_and_no_class():
    scores = score([(flat(0, 0, 1, VOID), flat(0, VOID, VOID, VOID))], 2)
    assert scores["pixel_accuracy"] == pytest.approx(1 / 3)
    assert [(c.iou, c.predicted_pixels) for c in scores.per_class] == [(0.5, 1), (0.0, 0)]
    assert scores.matrix.tolist() == [[1, 0, 1], [0, 0, 1]]
    assert scores.pixels["unanswered"] == 2


def test_an_image_without_a_scored_pixel_and_no_image_at_all_have_no_number():
    void = np.full((2, 2), VOID, np.uint8)
    for scores in (score([(void, np.zeros((2, 2), np.uint8))], 3, resamples=9), score([], 3, resamples=9)):
        assert {(e.value, e.low) for e in scores.headlines.values()} == {(None, None)}
        assert "undefined" in str(scores.headlines["miou"])
        assert tables.text(scores)


def test_views_and_images_larger_than_a_block_count_the_same():
    rng = np.random.default_rng(0)
    truth, predicted = rng.integers(0, 7, (2, 700, 900), np.uint8)
    expected = np.bincount(truth.ravel() * np.int64(8) + predicted.ravel(), minlength=56).reshape(7, 8)
    assert score([(truth, predicted)], 7).matrix.tolist() == expected.tolist()
    assert score([(truth.T, predicted.T)], 7).matrix.tolist() == expected.tolist()
    wide = np.repeat(truth, 2, axis=1)[:, ::2]
    assert score([(wide, np.asfortranarray(predicted))], 7).matrix.tolist() == expected.tolist()


BAD = {
    "value": (flat(0, 1), flat(0, 3), "car.png: the prediction has 1 pixel of value 3, which is no class; 0 to 2 are"),
    "value under void": (flat(0, VOID), flat(0, 9), "the prediction has 1 pixel of value 9"),
    "values": (flat(0, 1, 1), flat(7, 9, 9), "3 pixels of value 7, 9"),
    "truth": (flat(0, 254), flat(0, 0), "car.png: the truth has 1 pixel of value 254"),
    "size": (flat(0, 1, 2), flat(0, 1), "car.png: the prediction is 2 x 1 pixels, the truth 3 x 1; predictions are"),
    "type": (flat(0, 1), np.array([[0, 1]]), "the prediction must be a label map, uint8 (H, W); got int64 (1, 2)"),
    "colour": (flat(0, 1), np.zeros((1, 2, 3), np.uint8), "got uint8 (1, 2, 3)"),
}


@pytest.mark.parametrize(("truth", "predicted", "message"), BAD.values(), ids=BAD)
def test_what_cannot_be_counted_is_named_and_counted_nowhere(truth, predicted, message):
    confusion = Confusion(names(3))
    with pytest.raises(DataError) as error:
        confusion.add("car.png", truth, predicted)
    assert message in str(error.value)
    assert len(confusion) == confusion.matrix.sum() == 0


def test_no_image_is_scored_twice():
    one, two = Confusion(names(2)), Confusion(names(2))
    for confusion in (one, two):
        confusion.add("a", flat(0, 1), flat(0, 1))
    with pytest.raises(DataError, match="a: the image is scored twice"):
        one.add("a", flat(0, 1), flat(0, 1))
    with pytest.raises(DataError, match="a: the image is scored twice"):
        one.merge(two)
    assert one.matrix.sum() == 2


def test_scoring_needs_numpy_only():
    modules = "confusion, conventions, intervals, scores"
    heavy = "{'torch', 'scipy', 'cv2', 'rich', 'PIL', 'hotcoco'}"
    code = f"from maskwright.metrics import {modules}; import sys; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
    code = "import maskwright.metrics, sys; print('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
