"""The photos of an exporter are what the network sees of them: fitted whole, or the windows that prediction cuts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_networks import KNOWN, Small

from maskwright.bundles.bundle import Description
from maskwright.exports.source import Source
from maskwright.imaging import images
from maskwright.models.segmenter import wrap

SIZES = ((100, 130), (20, 200), (60, 40))


@pytest.fixture
def photos(tmp_path: Path) -> tuple[Path, ...]:
    random = np.random.default_rng(0)
    for index, (height, width) in enumerate(SIZES):
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(tmp_path / f"{index}.png")
    return tuple(sorted(tmp_path.iterdir()))


def seen(photo: Path, known: Description) -> list[bytes]:
    """All that the network is asked while a photo is predicted."""
    asked: list[bytes] = []

    def network(pixels: np.ndarray) -> np.ndarray:
        asked.append(pixels.tobytes())
        return np.zeros((1, 3, *pixels.shape[2:]), np.float32)

    source = Source(wrap(Small(), "unit").eval(), known)
    source.running(network, "counted")(photo)
    return asked


@pytest.mark.parametrize("base_size", [None, 80])
@pytest.mark.parametrize("most", [None, 1, 2, 3, 7, 40, 500])
def test_inputs_are_windows_of_prediction(photos: tuple[Path, ...], base_size: int | None, most: int | None) -> None:
    known = replace(KNOWN, fit="crop", base_size=base_size)
    found = [image.tobytes() for image in Source(wrap(Small(), "unit").eval(), known, photos).inputs(most)]
    there = [seen(photo, known) for photo in photos]
    assert set(found) <= set().union(*map(set, there))
    assert len(found) <= (most or len(photos))
    assert len(set(found)) == len(found)
    if most is None or most >= 3:
        assert all(set(found) & set(windows) for windows in there)
    if most == 500:
        assert sorted(found) == sorted(window for windows in there for window in windows)


def test_one_window_a_photo_lies_elsewhere_in_every_one(photos: tuple[Path, ...]) -> None:
    known = replace(KNOWN, fit="crop", size=(16, 16))
    source = Source(wrap(Small(), "unit").eval(), known, photos[:1] * 20)
    assert len({image.tobytes() for image in source.inputs()}) >= 15


def test_whole_photos_are_fitted_as_everywhere(photos: tuple[Path, ...]) -> None:
    for fit in ("squash", "pad"):
        source = Source(wrap(Small(), "unit").eval(), replace(KNOWN, fit=fit), photos)
        for path, image in zip(photos, source.inputs(), strict=True):
            expected = images.read_fitted(path, KNOWN.size, fit)[0]
            assert image.shape == (1, 3, *KNOWN.size)
            np.testing.assert_array_equal(image[0].transpose(1, 2, 0), expected)
