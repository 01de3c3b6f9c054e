"""Overlapping classes: masks against what was drawn, decoding against the sigmoid of the formula, pixel by pixel."""

import numpy as np
import pytest
from PIL import Image
from test_semantic import bilinear

from maskwright.core.types import BACKGROUND, VOID, Coding, Record, Region
from maskwright.imaging import images, masks
from maskwright.imaging.images import Fitting
from maskwright.tasks import multilabel

SIZE = (40, 50)
LABELS = [1, 2, 3]


def box(label: int, left: int, top: int, right: int, bottom: int, *, crowd: bool = False) -> Region:
    outline = np.array([(left, top), (right, top), (right, bottom), (left, bottom)], np.float64)
    return Region(label, (outline,), crowd=crowd)


def drawn(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    canvas = np.zeros(SIZE, bool)
    for left, top, right, bottom in boxes:
        canvas[top:bottom, left:right] = True
    return canvas


REGIONS = (
    box(1, 2, 3, 40, 38),
    box(2, 10, 10, 20, 20),
    box(1, 30, 0, 50, 12),  # another one of the first class
    box(3, 0, 0, 50, 40, crowd=True),
    box(3, 12, 14, 18, 30),
)


def test_each_class_has_all_that_is_drawn_of_it_and_void_where_only_a_crowd_is() -> None:
    found = masks.class_masks(Record("a", "a.jpg", SIZE, REGIONS), LABELS)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[0] == 1, drawn((2, 3, 40, 38), (30, 0, 50, 12)))
    np.testing.assert_array_equal(found[1] == 1, drawn((10, 10, 20, 20)))
    np.testing.assert_array_equal(found[2], np.where(drawn((12, 14, 18, 30)), 1, VOID))
    assert not (found[:2] == VOID).any()


@pytest.mark.parametrize("seed", range(5))
def test_a_mask_is_the_union_of_its_regions_whatever_their_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    regions = []
    for _ in range(8):
        points = rng.uniform(-5, 55, (int(rng.integers(3, 7)), 2))
        regions.append(Region(int(rng.integers(1, 4)), (points,), crowd=bool(rng.random() < 0.2)))
    found = masks.class_masks(Record("a", "a.jpg", SIZE, tuple(regions)), LABELS)
    for channel, label in enumerate(LABELS):
        expected = np.zeros(SIZE, np.uint8)
        for crowd in (True, False):
            for region in regions:
                if region.label == label and region.crowd == crowd:
                    expected[masks.region_mask(region, SIZE)] = VOID if crowd else 1
        np.testing.assert_array_equal(found[channel], expected)
    again = masks.class_masks(Record("a", "a.jpg", SIZE, tuple(regions[::-1])), [3, -1, 1])
    np.testing.assert_array_equal(again, np.stack([found[2], np.zeros(SIZE, np.uint8), found[0]]))


def test_a_label_map_file_is_one_class_a_pixel(tmp_path) -> None:
    stored = np.random.default_rng(0).choice(np.array([0, 7, 9, 255], np.uint8), SIZE)
    Image.fromarray(stored).save(tmp_path / "a.png")
    coding = Coding((0, 7, 9, 255), (0, 1, 2, VOID))
    found = masks.class_masks(Record("a", "a.jpg", SIZE, (), str(tmp_path / "a.png"), coding), [1, 2, -1])
    for mask, value in zip(found, (7, 9, None), strict=True):
        np.testing.assert_array_equal(mask, np.where(stored == 255, VOID, stored == value))


@pytest.mark.parametrize("how", ["squash", "pad"])
def test_encoding_is_the_masks_fitted_one_by_one(how) -> None:
    record = Record("a", "a.jpg", SIZE, REGIONS)
    fitting = images.plan(SIZE, (32, 32), how)
    found = multilabel.encode(record, fitting, LABELS)
    assert found.shape == (3, 32, 32)
    for mask, whole in zip(found, masks.class_masks(record, LABELS), strict=True):
        np.testing.assert_array_equal(mask, images.fit_label_map(whole, fitting))
    top, left, height, width = fitting.box
    outside = np.ones((32, 32), bool)
    outside[top : top + height, left : left + width] = False
    assert (found[:, outside] == VOID).all()


def test_where_nothing_overlaps_the_masks_are_the_label_map_in_parts() -> None:
    apart = (box(1, 2, 3, 20, 38), box(2, 25, 10, 45, 20))
    record = Record("a", "a.jpg", SIZE, apart)
    label_map = masks.label_map(record)
    np.testing.assert_array_equal(masks.class_masks(record, [0, 1, 2])[1:], [label_map == 1, label_map == 2])


def test_background_is_no_class() -> None:
    assert multilabel.channels((BACKGROUND, "cat", "dog")) == [1, 2]
    assert multilabel.channels(("cat", "dog")) == [0, 1]


@pytest.mark.parametrize("seed", range(12))
def test_decoding_is_bilinear_and_then_a_threshold(seed: int) -> None:
    rng = np.random.default_rng(seed)
    classes, h, w = int(rng.integers(1, 5)), 6, 7
    top, left, height, width = 1, 0, 4, 7
    logits = rng.normal(size=(classes, h, w)).astype(np.float32) * 3
    rows, columns = 4 * 5 + 1, 7 * 4 + 2
    found = multilabel.decode(logits, Fitting((rows, columns), (h, w), (top, left, height, width)))
    inside = logits[:, top : top + height, left : left + width]
    planes = np.stack([bilinear(plane, rows, columns) for plane in inside])
    clear = np.abs(planes) > 1e-3
    np.testing.assert_array_equal(found[clear], (planes > 0)[clear])
    assert found.shape == (classes, rows, columns)


def test_confidence_is_the_mean_probability_inside_the_mask() -> None:
    logits = np.random.default_rng(2).normal(size=(3, 8, 9)).astype(np.float32)
    logits[1] = -4  # never claimed
    found = multilabel.confidence(logits, Fitting((80, 90), (8, 9), (0, 0, 8, 9)))
    chances = 1 / (1 + np.exp(-logits.astype(np.float64)))
    expected = [chances[0][chances[0] > 0.5].mean(), 0, chances[2][chances[2] > 0.5].mean()]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_flat_view_shows_small_masks_on_large_ones() -> None:
    truth = np.zeros((3, *SIZE), np.uint8)
    truth[1][drawn((2, 3, 40, 38))] = 1
    truth[0][drawn((10, 10, 20, 20))] = 1
    truth[2] = VOID
    flat = multilabel.flat(truth)
    assert set(np.unique(flat)) == {0, 1, VOID}
    np.testing.assert_array_equal(flat == 0, drawn((10, 10, 20, 20)))
    np.testing.assert_array_equal(flat == VOID, ~drawn((2, 3, 40, 38)))
