"""Objects on a smaller picture lie where their nearest pixels lay."""

import numpy as np
import pytest

from maskwright.core.types import Instances
from maskwright.imaging.fit_objects import fitted
from maskwright.imaging.objects import from_counts
from maskwright.imaging.paste import run_lengths


def made(seed: int, size: tuple[int, int], num: int) -> Instances:
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(num):
        y, x = (int(rng.integers(0, side)) for side in size)
        mask = np.zeros(size, bool)
        mask[y : y + int(rng.integers(1, 30)), x : x + int(rng.integers(1, 30))] = True
        masks.append(mask & (rng.uniform(size=size) < 0.8))
    objects = from_counts([run_lengths(mask, (0, 0), size) for mask in masks], np.arange(num) % 3, size)
    scores = rng.uniform(size=len(objects)).astype(np.float32)
    return Instances(objects.labels, scores, objects.boxes, objects.counts, size, ("a", "b", "c"), "photo.jpg")


@pytest.mark.parametrize("size", [(60, 80), (17, 23), (1, 1), (60, 23), (120, 200)])
def test_every_pixel_is_that_of_the_nearest_one(size: tuple[int, int]) -> None:
    found = made(size[0], (60, 80), 12)
    rows, columns = (((np.arange(new) + 0.5) * old / new).astype(int) for new, old in zip(size, (60, 80), strict=True))
    expected = {i: mask[np.ix_(rows, columns)] for i, mask in enumerate(found.masks())}
    kept = [i for i, mask in expected.items() if mask.any()]
    small = fitted(found, size)
    assert small.size == size
    assert np.array_equal(small.masks(), np.array([expected[i] for i in kept]).reshape(len(kept), *size))
    for name in ("labels", "scores"):
        assert np.array_equal(getattr(small, name), getattr(found, name)[kept])
    assert np.allclose(small.boxes, found.boxes[kept] * np.array([size[1] / 80, size[0] / 60] * 2))
    assert small.image == "photo.jpg"


def test_the_same_size_changes_nothing() -> None:
    found = made(3, (40, 50), 8)
    same = fitted(found, (40, 50))
    assert len(same) == len(found)
    assert all(np.array_equal(a, b) for a, b in zip(same.counts, found.counts, strict=True))


def test_boxes_alone_and_nothing_at_all() -> None:
    boxes = Instances(np.zeros(1, np.int64), np.ones(1), np.array([[10.0, 20, 30, 40]]), (), (60, 80), ("a",))
    assert fitted(boxes, (30, 40)).boxes.tolist() == [[5, 10, 15, 20]]
    assert len(fitted(boxes.only(np.zeros(0, int)), (30, 40))) == 0
    assert len(fitted(made(1, (60, 80), 4).only(np.zeros(0, int)), (30, 40))) == 0


def test_some_of_the_objects_are_those_that_were_asked_for() -> None:
    found = made(5, (60, 80), 9)
    chosen = found.only(np.array([4, 1]))
    assert np.array_equal(chosen.masks(), found.masks()[[4, 1]])
    assert np.array_equal(chosen.boxes, found.boxes[[4, 1]])
    sure = found.only(found.scores > 0.5)
    assert np.array_equal(sure.scores, found.scores[found.scores > 0.5])
    assert np.array_equal(sure.labels, found.labels[found.scores > 0.5])
