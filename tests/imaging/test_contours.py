"""Outlines drawn by COCO's rule give back their masks, by both rasterisers that know the rule."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as reference

from maskwright.core.types import Region
from maskwright.imaging import contours, masks, objects
from maskwright.imaging.components import pieces

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
MASKS = hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))
corner = st.floats(0, 12, width=32)
polygon = hnp.arrays(np.float64, st.tuples(st.integers(3, 6), st.just(2)), elements=corner)


def by_reference(polygons: tuple[np.ndarray, ...], size: tuple[int, int]) -> np.ndarray:
    if not polygons:
        return np.zeros(size, bool)
    rles = reference.frPyObjects([polygon.reshape(-1).tolist() for polygon in polygons], *size)
    return reference.decode(reference.merge(rles)).astype(bool)


@given(MASKS)
def test_contours_draw_their_mask(mask):
    found = contours.contours(mask)
    assert len(found) == int((pieces(mask.view(np.uint8), diagonal=False)[1] == 1).sum())
    np.testing.assert_array_equal(masks.region_mask(Region(0, found), mask.shape), mask)
    np.testing.assert_array_equal(by_reference(found, mask.shape), mask)
    for outline in found:
        assert (outline == outline.round()).all()


@given(MASKS)
def test_one_polygon_holds_all_pieces_and_holes(mask):
    region = Region(0, counts=objects.encoded(mask.view(np.uint8)).get(1, np.array([mask.size], np.uint32)))
    one, own = contours.one_outline(region, mask.shape)
    assert not own
    assert (one is None) == (not mask.any())
    if one is not None:
        np.testing.assert_array_equal(masks.region_mask(Region(0, (one,)), mask.shape), mask)
        np.testing.assert_array_equal(by_reference((one,), mask.shape), mask)
    np.testing.assert_array_equal(masks.region_mask(Region(0, contours.outlines(region, mask.shape)), mask.shape), mask)


def test_a_ring_keeps_its_hole_and_what_lies_in_it():
    mask = np.ones((9, 9), bool)
    mask[2:7, 2:7] = False
    mask[4, 4] = True
    found = contours.contours(mask)
    assert sorted(map(len, found)) == [4, 4 + 4 + 2]
    np.testing.assert_array_equal(masks.region_mask(Region(0, found), mask.shape), mask)


@given(st.lists(polygon, min_size=1, max_size=3), st.floats(-3, 3))
def test_one_outline_of_any_region_has_its_pixels_and_stays_inside(polygons, shift):
    size = (10, 12)
    region = Region(0, tuple(p + shift for p in polygons))
    mask = masks.region_mask(region, size)
    one, own = contours.one_outline(region, size)
    if one is None:
        assert not mask.any()
        return
    np.testing.assert_array_equal(masks.region_mask(Region(0, (one,)), size), mask)
    assert one.min() >= 0
    assert (one.max(axis=0) <= (12, 10)).all()
    if own:
        assert {tuple(c) for p in region.polygons for c in p.tolist()} == {tuple(c) for c in one.tolist()}
    inside = all(p.min() >= 0 and (p.max(axis=0) <= (12, 10)).all() for p in region.polygons)
    assert own or not inside or len(region.polygons) > 1


def test_parts_are_joined_where_they_are_nearest():
    left = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], float)
    one = contours.joined([left, left + np.array([6, 1]), left + np.array([0, 9])])
    assert len(one) == 4 + 2 * (4 + 2)
    steps = (np.diff(np.concatenate([one, one[:1]]), axis=0) ** 2).sum(axis=1)
    assert sorted(steps.tolist()) == [5, 5, *[16] * 12, 20, 20]


def test_a_large_mask_takes_no_time_pixel_by_pixel():
    y, x = np.mgrid[:1500, :2000]
    mask = ((x - 1000) ** 2 + (y - 750) ** 2 < 700**2) & ((x // 50 + y // 50) % 3 > 0)
    found = contours.contours(mask)
    np.testing.assert_array_equal(masks.region_mask(Region(0, found), mask.shape), mask)
