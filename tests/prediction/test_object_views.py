"""Two views of one image are fused as weighted boxes fusion says, object by object."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright.bundles.bundle import Description
from maskwright.core.errors import RecipeError
from maskwright.prediction import object_views
from maskwright.prediction.instances import InstancePredictor

WIDTH, HEIGHT, SIDE = 64, 48, 4
PAIRS = ((1, 2),)
Found = tuple[np.ndarray, ...]


def found(num: int, seed: int, spread: float = 1.0) -> Found:
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 40 * spread, (num, 2))
    boxes = np.concatenate([low, low + rng.uniform(2, 20, (num, 2))], axis=1).astype(np.float32)
    scores = np.sort(rng.uniform(0.05, 1, num))[::-1].astype(np.float32)
    return boxes, rng.integers(1, 4, num), scores, rng.uniform(0, 1, (num, 1, SIDE, SIDE)).astype(np.float32)


@given(st.integers(0, 12), st.integers(0, 99))
def test_mirrored_twice_is_what_it_was(num: int, seed: int) -> None:
    one = found(num, seed)
    twice = object_views.mirrored(object_views.mirrored(one, WIDTH, PAIRS), WIDTH, PAIRS)
    for before, after in zip(one, twice, strict=True):
        np.testing.assert_allclose(before, after, atol=1e-4)


def test_a_mirrored_left_is_a_right() -> None:
    one = found(3, 0)
    one[1][:] = (1, 2, 3)
    boxes, labels, _, masks = object_views.mirrored(one, WIDTH, PAIRS)
    assert labels.tolist() == [1, 3, 2]
    assert np.allclose(boxes[:, 0], WIDTH - one[0][:, 2])
    assert np.array_equal(masks, one[3][..., ::-1])
    assert (boxes[:, 2] > boxes[:, 0]).all()


@given(st.integers(0, 12), st.integers(0, 99))
def test_two_equal_views_are_one(num: int, seed: int) -> None:
    one = found(num, seed)
    kept = [i for i in range(num) if not any(iou(one[0][i], one[0][j]) > 0.4 for j in range(i))]
    one = tuple(part[kept] for part in one)
    for before, after in zip(one, object_views.merged(one, one), strict=True):
        np.testing.assert_allclose(before, after, rtol=1e-5)


@given(st.integers(0, 10), st.integers(0, 10), st.integers(0, 99))
def test_fused_as_by_hand(num: int, other: int, seed: int) -> None:
    ours, theirs = found(num, seed, 0.2), found(other, seed + 1000, 0.2)
    actual, expected = object_views.merged(ours, theirs), by_hand(ours, theirs)
    assert len(actual[0]) == len(expected)
    assert np.all(np.diff(actual[2]) <= 0)
    for index, (box, label, score, mask) in enumerate(expected):
        np.testing.assert_allclose(actual[0][index], box, atol=1e-3)
        assert actual[1][index] == label
        np.testing.assert_allclose(actual[2][index], score, rtol=1e-5)
        np.testing.assert_allclose(actual[3][index], mask, atol=1e-4)


def by_hand(ours: Found, theirs: Found) -> list[tuple[np.ndarray, int, float, np.ndarray]]:
    free, fused = set(range(len(theirs[0]))), []
    for box, label, score, mask in zip(*ours, strict=True):
        near = [(iou(box, theirs[0][j]), -j) for j in free if theirs[1][j] == label and iou(box, theirs[0][j]) > 0.5]
        if not near:
            fused.append((box, label, score / 2, mask))
            continue
        j = -max(near)[1]
        free.discard(j)
        share = score / (score + theirs[2][j])
        means = [share * a + (1 - share) * b for a, b in ((box, theirs[0][j]), (mask, theirs[3][j]))]
        fused.append((means[0], label, (score + theirs[2][j]) / 2, means[1]))
    fused += [(theirs[0][j], theirs[1][j], theirs[2][j] / 2, theirs[3][j]) for j in sorted(free)]
    return sorted(fused, key=lambda one: -one[2])


def iou(a: np.ndarray, b: np.ndarray) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(float(width), 0.0) * max(float(height), 0.0)
    return common / float((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common)


DESCRIPTION = Description(
    ("lamp", "left", "right"), ((9, 9, 9),) * 3, (HEIGHT, WIDTH), "squash", {"name": "mask_rcnn"}, task="instance"
)


def bright(pixels: np.ndarray) -> Found:
    """Finds what is bright: a `left` thing where that lies in the left half, else a `right` one."""
    rows, columns = np.nonzero(pixels[0, 0] > 200)
    if not len(rows):
        return found(0, 0)
    box = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]], np.float32)
    label = 2 if box[0, [0, 2]].mean() < WIDTH / 2 else 3
    return box, np.array([label]), np.array([0.8], np.float32), np.ones((1, 1, SIDE, SIDE), np.float32)


def test_a_predictor_that_looks_twice_agrees_with_itself_where_classes_change_places() -> None:
    photo = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    photo[10:20, 5:25] = 255
    swapping = replace(DESCRIPTION, flip_pairs=PAIRS)
    for description, scores in ((swapping, [0.8]), (DESCRIPTION, [0.4, 0.4])):
        once = InstancePredictor(bright, description, runtime="test")(photo)
        twice = InstancePredictor(bright, description, runtime="test", tta={"flip": True})(photo)
        assert once.scores.tolist() == pytest.approx([0.8])
        assert twice.scores.tolist() == pytest.approx(scores)
        assert np.array_equal(once.boxes[0], twice.boxes[0])
        assert np.array_equal(once.mask(0), twice.mask(0))


def test_nothing_in_two_views_is_nothing() -> None:
    predictor = InstancePredictor(bright, DESCRIPTION, runtime="test", tta={"flip": True})
    assert len(predictor(np.zeros((30, 40, 3), np.uint8))) == 0
    assert predictor.decision == "tta: flip"


def test_the_description_may_ask_for_it_and_scales_are_refused() -> None:
    asked = replace(DESCRIPTION, tta={"flip": True, "scales": [1.0]})
    assert InstancePredictor(bright, asked, runtime="test").flip
    assert not InstancePredictor(bright, asked, runtime="test", tta={"flip": False}).flip
    with pytest.raises(RecipeError, match="one size"):
        InstancePredictor(bright, asked, runtime="test", tta={"scales": [0.5, 1.0]})
