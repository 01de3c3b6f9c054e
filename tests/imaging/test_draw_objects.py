"""Laws of the pictures of objects."""

import tracemalloc

import numpy as np
import pytest

from maskwright.core.types import Instances
from maskwright.imaging.draw_objects import OPACITY, _places, _worn, drawn
from maskwright.imaging.objects import boxes_of
from maskwright.imaging.palette import class_colours
from maskwright.imaging.paste import run_lengths

CLASSES = ("cat", "dog")
COLOURS = class_colours(CLASSES)
RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (120, 160, 3), dtype=np.uint8)


def instances(
    rows: list[tuple[int, float, tuple[int, int, int, int]]], size: tuple[int, int] = (120, 160)
) -> Instances:
    """Rectangles: class, score, box."""
    counts = []
    for _, _, (x0, y0, x1, y1) in rows:
        counts.append(run_lengths(np.ones((y1 - y0, x1 - x0), np.bool_), (y0, x0), size))
    labels = np.array([row[0] for row in rows], np.int64)
    scores = np.array([row[1] for row in rows], np.float32)
    return Instances(labels, scores, boxes_of(counts, size), tuple(counts), size, CLASSES)


def washed(pixels: np.ndarray, label: int) -> np.ndarray:
    return pixels * (1 - OPACITY) + COLOURS[label] * OPACITY


def test_nothing_is_drawn_for_nothing_and_the_photo_is_left_alone() -> None:
    before = PHOTO.copy()
    assert np.array_equal(drawn(PHOTO, instances([]), COLOURS), PHOTO)
    drawn(PHOTO, instances([(0, 0.9, (10, 40, 60, 90))]), COLOURS)
    assert np.array_equal(PHOTO, before)


def test_masks_have_their_classes_colours_and_the_surest_is_on_top() -> None:
    rows = [(0, 0.3, (10, 50, 100, 110)), (1, 0.9, (60, 60, 150, 115))]
    for chosen in (rows, rows[::-1]):
        picture = drawn(PHOTO, instances(chosen), COLOURS).astype(int)
        inside = (slice(70, 100), slice(15, 55))
        assert np.abs(picture[inside] - washed(PHOTO[inside], 0)).max() <= 1
        both = (slice(70, 105), slice(65, 95))
        assert np.abs(picture[both][:, 5:30] - washed(PHOTO[both][:, 5:30], 1)).max() <= 1
    outside = np.ones(PHOTO.shape[:2], bool)
    outside[30:116, 8:152] = False
    assert np.array_equal(picture[outside], PHOTO[outside])


def test_objects_of_one_class_have_lines_of_different_tints() -> None:
    rows = [(0, 0.9, (10, 40, 50, 80)), (0, 0.8, (60, 40, 100, 80)), (0, 0.7, (110, 40, 150, 80))]
    picture = drawn(PHOTO, instances(rows), COLOURS)
    assert len({tuple(picture[60, x].tolist()) for x in (10, 60, 110)}) == 3


@pytest.mark.parametrize("ground", [0, 128, 255])
def test_labels_can_be_read_on_any_photo(ground: int) -> None:
    """Ink and paper differ by most of the scale, whatever lies below."""
    photo = np.full((120, 160, 3), ground, np.uint8)
    picture = drawn(photo, instances([(1, 0.93, (20, 50, 140, 110))]), COLOURS).astype(float)
    label = picture[37:49, 22:60].mean(axis=2)  # above the box
    assert label.max() - label.min() > 90


def test_boxes_alone_are_drawn_too_and_may_reach_the_edge() -> None:
    found = Instances(
        np.array([0, 1]),
        np.array([0.5, np.nan], np.float32),
        np.array([[0.0, 0.0, 160.0, 120.0], [-5.0, 30.0, 20.5, 500.0]]),
        (),
        (120, 160),
        CLASSES,
    )
    changed = (drawn(PHOTO, found, COLOURS) != PHOTO).any(axis=2)
    assert changed[-1].mean() > 0.9
    assert changed[:, -1].mean() > 0.9
    assert not changed[60:110, 30:150].any()


@pytest.mark.parametrize("size", [(1, 1), (2, 400), (400, 2), (9, 9)])
def test_tiny_images_are_drawn(size: tuple[int, int]) -> None:
    photo = np.zeros((*size, 3), np.uint8)
    found = instances([(0, 1.0, (0, 0, size[1], size[0]))], size)
    assert drawn(photo, found, COLOURS).shape == photo.shape


def test_an_outline_is_what_lies_near_the_outside() -> None:
    for width in (1, 2, 3, 5):
        mask = RNG.random((30, 40)) < 0.97
        padded = np.pad(mask, width)
        expected = np.ones_like(mask)
        for dy in range(-width, width + 1):
            for dx in range(-width, width + 1):
                expected &= padded[width + dy : width + dy + 30, width + dx : width + dx + 40]
        assert np.array_equal(_worn(mask, width), expected)


def test_labels_avoid_each_other_where_they_can() -> None:
    same = [((50, 50, 90, 90), 40, 12)] * 4
    places = _places(same, (120, 160))
    assert len(set(places)) == 4
    assert all(0 <= x0 <= x1 < 160 and 0 <= y0 <= y1 < 120 for x0, y0, x1, y1 in places)
    for number, (x0, y0, x1, y1) in enumerate(places):
        assert all(x0 > a1 or x1 < a0 or y0 > b1 or y1 < b0 for a0, b0, a1, b1 in places[:number])


def test_memory_is_that_of_the_photo_however_many_objects() -> None:
    size = (1000, 1200)
    photo = np.zeros((*size, 3), np.uint8)
    corners = RNG.integers(0, 900, (150, 2)).tolist()
    found = instances([(i % 2, i / 150, (x, y, x + 60, y + 60)) for i, (x, y) in enumerate(corners)], size)
    drawn(photo, found.only(np.arange(2)), COLOURS)  # fonts are loaded
    tracemalloc.start()
    drawn(photo, found, COLOURS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * photo.nbytes
