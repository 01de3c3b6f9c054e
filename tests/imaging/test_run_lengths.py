"""Run-lengths from crops and at other sizes, against whole masks drawn pixel by pixel."""

import numpy as np
import pytest

from maskwright.imaging import run_lengths
from maskwright.imaging.objects import decoded

SIZES = [(1, 1), (7, 5), (30, 44), (512, 512), (60, 88)]


def blob(size: tuple[int, int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mask = rng.random(size) < rng.choice([0.0, 0.02, 0.5, 1.0])
    top, left = rng.integers(0, size[0] + 1), rng.integers(0, size[1] + 1)
    mask[:top], mask[:, :left] = mask[:top] & (seed % 2 == 0), mask[:, :left] & (seed % 3 == 0)
    return mask


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("to", SIZES)
def test_another_size_is_that_of_the_whole_mask(seed: int, to: tuple[int, int]) -> None:
    mask = blob((30, 44), seed)
    found = run_lengths.at_size(run_lengths.of_mask(mask), mask.shape, to)
    assert found.dtype == np.uint32
    assert found.sum() == to[0] * to[1]
    np.testing.assert_array_equal(decoded(found, to), run_lengths.resized(mask, to))
    np.testing.assert_array_equal(found, run_lengths.of_mask(run_lengths.resized(mask, to)))


@pytest.mark.parametrize("seed", range(30))
def test_a_crop_is_where_it_was_cut(seed: int) -> None:
    whole, rng = np.zeros((30, 44), bool), np.random.default_rng(seed)
    crop = blob((int(rng.integers(1, 31)), int(rng.integers(1, 45))), seed)
    top, left = (int(rng.integers(0, side - part + 1)) for side, part in zip(whole.shape, crop.shape))
    whole[top : top + crop.shape[0], left : left + crop.shape[1]] = crop
    np.testing.assert_array_equal(run_lengths.of_crop(crop, left, top, whole.shape), run_lengths.of_mask(whole))
