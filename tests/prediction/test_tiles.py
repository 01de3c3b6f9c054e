"""Tiles: every pixel is decided once, seams agree, memory does not grow with the image's height."""

import tracemalloc
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from maskwright.bundles.bundle import Description
from maskwright.core.errors import RecipeError
from maskwright.core.types import Network
from maskwright.prediction import tiles
from maskwright.prediction.predictor import Predictor


def bright_or_dark(pixels: np.ndarray) -> np.ndarray:
    """A network that looks at single pixels: class 1 where the red channel is above 128."""
    red = pixels[:, :1]
    return np.concatenate([128 - red, red - 128], axis=1) / 16


def windows(network: Network, size: tuple[int, int] = (32, 32), overlap: float = 0.25, **known: object) -> Predictor:
    description = Description(("no", "yes"), ((0, 0, 0), (9, 9, 9)), size, "crop", {"name": "unet"}, **known)  # type: ignore[arg-type]
    return Predictor(network, description, runtime="torch", overlap=overlap)


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("shape", [(1, 1), (20, 30), (32, 32), (33, 100), (200, 31), (77, 130)])
def test_a_local_network_gives_the_same_answer_as_without_tiles(shape: tuple[int, int], overlap: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    prediction = windows(bright_or_dark, overlap=overlap)(image)
    np.testing.assert_array_equal(prediction.label_map, (image[:, :, 0] > 128).astype(np.uint8))
    assert ((prediction.confidence >= 0) & (prediction.confidence <= 1)).all()


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.6, 0.9])
@pytest.mark.parametrize("length", [1, 31, 32, 33, 56, 57, 64, 100, 1000])
def test_windows_cover_everything_and_overlap(length: int, overlap: float) -> None:
    starts = tiles.starts(length, 32, overlap)
    assert starts[0] == 0
    if length > 32:
        assert starts[-1] == length - 32
        assert all(0 < b - a <= np.ceil(32 * (1 - overlap)) for a, b in pairwise(starts))


@pytest.mark.parametrize("shape", [(1, 1), (50, 40), (65, 99)])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.9])
def test_bands_give_every_row_once_and_probabilities(shape: tuple[int, int], overlap: float) -> None:
    rng = np.random.default_rng(1)

    def random(window: np.ndarray) -> np.ndarray:
        found = rng.random((3, *window.shape[:2]), np.float32)
        return found / found.sum(0)

    found = list(tiles.bands(random, np.zeros((*shape, 3), np.uint8), (32, 16), overlap))
    assert [start for start, _ in found] == list(np.cumsum([0, *(band.shape[1] for _, band in found)])[:-1])
    whole = np.concatenate([band for _, band in found], axis=1)
    assert whole.shape == (3, *shape)
    np.testing.assert_allclose(whole.sum(0), 1, atol=1e-5)


def test_seams_are_blended() -> None:
    """A network that answers another class in each window: between two windows the answer changes once, in the overlap."""
    calls = []

    def stubborn(pixels: np.ndarray) -> np.ndarray:
        calls.append(1)
        logits = np.zeros((1, 2, 32, 32), np.float32)
        logits[0, len(calls) % 2] = 4
        return logits

    label_map = windows(stubborn)(np.zeros((32, 56, 3), np.uint8)).label_map
    changes = np.flatnonzero(np.diff(label_map[16].astype(int)))
    assert len(changes) == 1
    assert 24 <= changes[0] < 32


@pytest.mark.parametrize("shape", [(40, 60), (200, 100), (64, 64)])
def test_base_size_scales_the_image_and_answers_on_its_own_pixels(shape: tuple[int, int]) -> None:
    """Windows over the image at another size: a vertical edge stays where it is, whatever the size."""
    image = np.zeros((*shape, 3), np.uint8)
    image[:, shape[1] // 2 :] = 255
    seen: list[tuple[int, ...]] = []

    def noting(pixels: np.ndarray) -> np.ndarray:
        seen.append(pixels.shape)
        return bright_or_dark(pixels)

    prediction = windows(noting, base_size=128)(image)
    assert prediction.label_map.shape == shape
    assert set(seen) == {(1, 3, 32, 32)}
    long, short = 128, round(128 * min(shape) / max(shape))
    assert len(seen) == len(tiles.starts(long, 32)) * len(tiles.starts(short, 32))
    assert (prediction.label_map != (image[:, :, 0] > 128)).mean() < 0.04


def test_an_overlap_that_cannot_be_is_refused() -> None:
    for overlap in (-0.1, 0.95, 1.0):
        with pytest.raises(RecipeError, match=r"0 to 0\.9"):
            windows(bright_or_dark, overlap=overlap)


def test_an_overlap_without_windows_is_refused() -> None:
    description = Description(("no", "yes"), ((0, 0, 0), (9, 9, 9)), (32, 32), "squash", {"name": "unet"})
    Predictor(bright_or_dark, description, runtime="torch")
    Predictor(bright_or_dark, description, runtime="torch", tiled=True, overlap=0.5)
    Predictor(bright_or_dark, replace(description, fit="crop"), runtime="torch", overlap=0.5)
    with pytest.raises(RecipeError, match=r"--overlap: is for windows, .*; ask for windows with `--tiles`"):
        Predictor(bright_or_dark, description, runtime="torch", overlap=0.5)


def test_memory_does_not_grow_with_height() -> None:
    def peak(height: int) -> int:
        image = np.zeros((height, 64, 3), np.uint8)
        tracemalloc.start()
        windows(bright_or_dark)(image)
        top = tracemalloc.get_traced_memory()[1] - height * 64  # the answer itself
        tracemalloc.stop()
        return top

    assert peak(4096) < 1.5 * peak(256)
