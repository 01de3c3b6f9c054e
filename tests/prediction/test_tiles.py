"""Tiles: every pixel is decided once, seams agree, memory does not grow with the image's height."""

import tracemalloc
from itertools import pairwise

import numpy as np
import pytest

from maskwright.prediction import tiles


def bright_or_dark(pixels: np.ndarray) -> np.ndarray:
    """A network that looks at single pixels: class 1 where the red channel is above 128."""
    red = pixels[:, :1]
    return np.concatenate([128 - red, red - 128], axis=1) / 16


@pytest.mark.parametrize("shape", [(1, 1), (20, 30), (32, 32), (33, 100), (200, 31), (77, 130)])
def test_a_local_network_gives_the_same_answer_as_without_tiles(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    label_map, confidence = tiles.predict(bright_or_dark, image, (32, 32), 2)
    np.testing.assert_array_equal(label_map, (image[:, :, 0] > 128).astype(np.uint8))
    assert ((confidence >= 0) & (confidence <= 1)).all()


@pytest.mark.parametrize("length", [1, 31, 32, 33, 56, 57, 64, 100, 1000])
def test_windows_cover_everything_and_overlap(length: int) -> None:
    starts = tiles.starts(length, 32)
    assert starts[0] == 0
    if length > 32:
        assert starts[-1] == length - 32
        assert all(0 < b - a <= 24 for a, b in pairwise(starts))


def test_seams_are_blended() -> None:
    """A network that answers another class in each window: between two windows the answer changes once, in the overlap."""
    calls = []

    def stubborn(pixels: np.ndarray) -> np.ndarray:
        calls.append(1)
        logits = np.zeros((1, 2, 32, 32), np.float32)
        logits[0, len(calls) % 2] = 4
        return logits

    label_map, _ = tiles.predict(stubborn, np.zeros((32, 56, 3), np.uint8), (32, 32), 2)
    changes = np.flatnonzero(np.diff(label_map[16].astype(int)))
    assert len(changes) == 1
    assert 24 <= changes[0] < 32


def test_memory_does_not_grow_with_height() -> None:
    def peak(height: int) -> int:
        image = np.zeros((height, 64, 3), np.uint8)
        tracemalloc.start()
        tiles.predict(bright_or_dark, image, (32, 32), 2)
        top = tracemalloc.get_traced_memory()[1] - height * 64  # the answer itself
        tracemalloc.stop()
        return top

    assert peak(4096) < 1.5 * peak(256)
