"""Masks pasted into boxes: equal to interpolating each pixel by itself, run-lengths equal to those of the whole mask."""

import numpy as np
import pytest
from hotcoco import mask as coco
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.imaging.paste import pasted, run_lengths


def whole(counts, size):
    """bool (H, W) of run-lengths."""
    values = np.repeat(np.arange(len(counts)) % 2 == 1, counts)
    assert len(values) == size[0] * size[1]
    return values.reshape(size[1], size[0]).T


@given(seed=st.integers(0, 10_000), height=st.integers(1, 9), width=st.integers(1, 9))
@settings(max_examples=200, deadline=None)
def test_run_lengths_of_a_piece_are_those_of_the_whole(seed, height, width):
    rng = np.random.default_rng(seed)
    size = height + int(rng.integers(0, 4)), width + int(rng.integers(0, 4))
    corner = int(rng.integers(0, size[0] - height + 1)), int(rng.integers(0, size[1] - width + 1))
    piece = rng.random((height, width)) < rng.random()
    full = np.zeros(size, np.uint8)
    full[corner[0] : corner[0] + height, corner[1] : corner[1] + width] = piece
    counts = run_lengths(piece, corner, size)
    assert (whole(counts, size) == full).all()
    flat = full.T.ravel()
    edges = [*np.flatnonzero(np.diff(np.concatenate(([0], flat)))).tolist(), flat.size]
    runs = np.diff([0, *edges]).tolist()
    assert counts.tolist() == (runs[:-1] if runs[-1] == 0 else runs)
    assert coco.decode({"size": list(size), "counts": counts.tolist()}).tolist() == full.tolist()


def one_by_one(mask, box, size, threshold):
    """The definition, a pixel at a time, for boxes larger than the mask."""
    (m, n), (x0, y0, x1, y1) = mask.shape, box
    framed = np.pad(mask, 1)
    found = np.zeros(size, bool)
    for y in range(size[0]):
        for x in range(size[1]):
            u, v = (x + 0.5 - x0) / (x1 - x0) * n + 0.5, (y + 0.5 - y0) / (y1 - y0) * m + 0.5
            if not (0 <= u < n + 1 and 0 <= v < m + 1) or not (y0 - 1 < y < y1 and x0 - 1 < x < x1):
                continue
            i, j = int(v), int(u)
            a, b = v - i, u - j
            corners = framed[i : i + 2, j : j + 2]
            value = (1 - a) * ((1 - b) * corners[0, 0] + b * corners[0, 1])
            value += a * ((1 - b) * corners[1, 0] + b * corners[1, 1])
            found[y, x] = value > threshold
    return found


@given(seed=st.integers(0, 10_000))
@settings(max_examples=100, deadline=None)
def test_a_mask_in_a_larger_box_is_interpolated(seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((5, 6)).astype(np.float32)
    x0, y0 = rng.uniform(-8, 20, 2)
    box = (x0, y0, x0 + rng.uniform(7, 30), y0 + rng.uniform(6, 30))
    size = (27, 31)
    expected = one_by_one(mask, box, size, 0.5)
    found = whole(pasted(mask, box, size), size)
    assert (found != expected).sum() <= 2  # values next to the threshold round either way


@pytest.mark.parametrize("size", [(40, 50), (1000, 1200)])
def test_a_full_mask_fills_its_box(size):
    box = (10.0, 5.0, 30.0, 25.0)
    found = whole(pasted(np.ones((28, 28)), box, size), size)
    assert found[5:25, 10:30].all()
    assert found.sum() == 400


@pytest.mark.parametrize("box", [(60, 60, 70, 70), (-9, -9, -2, -2), (5, 5, 5, 5), (20, 9, 10, 30)])
def test_nothing_of_a_box_that_is_not_in_the_image(box):
    assert whole(pasted(np.ones((28, 28)), box, (40, 50)), (40, 50)).sum() == 0


def test_small_boxes_average_the_mask():
    """A box of a few pixels and a fine mask: what covers more than half of a pixel has it."""
    mask = np.zeros((28, 28), np.float32)
    mask[:, :14] = 1
    found = whole(pasted(mask, (3.0, 3.0, 7.0, 7.0), (10, 10)), (10, 10))
    assert found[3:7, 3:5].all()
    assert found.sum() == 8


def test_500_objects_on_12_megapixels_are_cheap():
    import time
    import tracemalloc

    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 2500, (500, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(20, 400, (500, 2))], axis=1)
    masks = rng.random((500, 28, 28)).astype(np.float32)
    tracemalloc.start()
    began = time.process_time()
    found = [pasted(mask, box, (3000, 4000)) for mask, box in zip(masks, boxes, strict=True)]
    assert time.process_time() - began < 10
    assert tracemalloc.get_traced_memory()[1] < 60e6
    tracemalloc.stop()
    assert all(counts.sum() == 12_000_000 for counts in found)


def test_a_box_thinner_than_any_pixel_takes_no_memory():
    counts = pasted(np.ones((28, 28), np.float32), (10.0, 10.0, 10.0008, 10.0008), (32, 32))
    assert whole(counts, (32, 32)).sum() == 0
