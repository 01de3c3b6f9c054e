"""The shapes of labelling tools: curves stay close to their polygons, run-lengths of a part are those of the whole."""

import numpy as np
import pytest
from tool_writers import cropped

from maskwright.core.types import Region
from maskwright.data.formats import shapes


@pytest.mark.parametrize("radius", [0.01, 1, 10, 1000, 40_000])
def test_curves_and_their_polygons_lie_close_together(radius):
    points = np.array(shapes.ellipse(5, 7, radius, radius)).reshape(-1, 2) - (5, 7)
    middles = (points + np.roll(points, 1, axis=0)) / 2
    np.testing.assert_allclose(np.hypot(*points.T), radius)
    assert (radius - np.hypot(*middles.T)).max() <= shapes.SAGITTA


def test_run_lengths_of_a_crop_are_those_of_the_whole():
    rng = np.random.default_rng(0)
    for _ in range(200):
        size = tuple(rng.integers(1, 7, 2).tolist())
        mask = rng.random(size) < rng.choice([0, 0.3, 0.8, 1])
        counts = shapes.run_lengths(mask, 0, 0, size)
        assert (counts[1:] > 0).all()
        np.testing.assert_array_equal(shapes.mask_of(counts, size), mask)
        if mask.any():
            crop, left, top = cropped(Region(0, counts=counts), size)
            np.testing.assert_array_equal(shapes.run_lengths(crop, left, top, size), counts)
