"""Probabilities: they sum to one, the mask is their highest, through every way to predict and into every kind of file."""

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import maskwright as mw
from maskwright.core.errors import RecipeError
from maskwright.data import synthetic
from maskwright.imaging import draw
from maskwright.imaging.images import Fitting
from maskwright.prediction import folders, probabilities
from maskwright.prediction.predictor import Predictor

GOLDEN = Path(__file__).parents[1] / "golden" / "bundle-1"
IMAGE = synthetic.truth(1, 99, size=(80, 100))[0].image
WAYS: list[dict[str, Any]] = [{}, {"tiled": True}, {"tta": {"flip": True}}, {"tiled": True, "tta": {"flip": True}}]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photos" / "a b.png"
    path.parent.mkdir()
    path.write_bytes(draw.encode(IMAGE, "png"))
    return path


@pytest.mark.parametrize("way", WAYS, ids=str)
def test_they_sum_to_one_and_the_mask_is_their_highest(way: dict[str, Any]) -> None:
    predictor = mw.load(GOLDEN, **way)
    found = predictor.probabilities(IMAGE)
    assert found.shape == (5, 80, 100)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    np.testing.assert_array_equal(found.argmax(0), predictor(IMAGE).label_map)


@pytest.mark.parametrize("kind", ["npz", "png"])
@pytest.mark.parametrize("way", WAYS[:2], ids=str)
def test_files_hold_them_and_the_mask_is_still_their_highest(
    way: dict[str, Any], kind: str, photo: Path, tmp_path: Path
) -> None:
    predictor = mw.load(GOLDEN, **way)
    folders.predict_all(predictor, photo, tmp_path / "out", overlays=False, probabilities=kind)
    home = tmp_path / "out" / "probabilities"
    if kind == "npz":
        with np.load(home / "a b.npz") as kept:
            found, names = kept["probabilities"], tuple(kept["classes"])
        assert found.dtype == np.float16
        assert names == predictor.classes
        close = 2e-3
    else:
        files = [home / "a b" / f"{i}_{name}.png" for i, name in enumerate(predictor.classes)]
        assert sorted((home / "a b").iterdir()) == sorted(files)
        with Image.open(files[0]) as picture:
            assert picture.mode == "I;16"
        found, close = np.stack([np.array(Image.open(f)) for f in files]) / 65535, 1e-4
    mask = np.array(Image.open(tmp_path / "out" / "masks" / "a b.png"))
    np.testing.assert_array_equal(found.argmax(0), mask)
    np.testing.assert_allclose(found.astype(np.float64).sum(0), 1, atol=close)
    np.testing.assert_allclose(found, predictor.probabilities(IMAGE), atol=close)
    assert not list(home.glob(".*")), "nothing is left behind"


@pytest.mark.parametrize("kind", ["npz", "png"])
def test_ties_that_rounding_makes_go_to_the_mask(kind: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    logits = (np.zeros((4, 9, 9)) + rng.normal(0, 1e-5, (4, 9, 9))).astype(np.float32)
    label_map = logits.argmax(0).astype(np.uint8)
    with probabilities.File(tmp_path / "x", kind, "abcd") as file:
        for strip in probabilities.strips(logits, Fitting((9, 9), (9, 9), (0, 0, 9, 9)), label_map):
            file(strip)
    np.testing.assert_array_equal(stored(tmp_path / "x", kind).argmax(0), label_map)


@pytest.mark.parametrize("kind", ["npz", "png"])
def test_the_mask_is_their_highest_even_where_they_say_otherwise(kind: str, tmp_path: Path) -> None:
    label_map = np.array([[0, 1, 2, 3, 0, 3]], np.uint8)
    found = np.zeros((4, 1, 6), np.float32)
    found[3, 0, :3] = 1  # the highest that can be stored, of another class
    found[:, 0, 3] = 0.25
    found[[0, 2], 0, 4] = 0.5
    found[[0, 3], 0, 5] = 0.5
    with probabilities.File(tmp_path / "x", kind, "abcd") as file:
        file((0, found, label_map))
    kept = stored(tmp_path / "x", kind)
    np.testing.assert_array_equal(kept.argmax(0), label_map)
    assert kept.max() <= 1
    np.testing.assert_allclose(kept[:, :, 3:], found[:, :, 3:], atol=1e-3)


def stored(path: Path, kind: str) -> np.ndarray:
    """float (4, H, W), 0..1, of the classes `abcd`."""
    if kind == "npz":
        with np.load(f"{path}.npz") as archive:
            return archive["probabilities"]
    return np.stack([np.array(Image.open(path / f"{i}_{name}.png")) for i, name in enumerate("abcd")]) / 65535


def test_names_of_classes_cannot_leave_the_folder_or_collide() -> None:
    names = probabilities.file_names(["../../etc", "a/b", "a b", "a:b"])
    assert len(set(names)) == 4
    assert not any("/" in name or name.startswith(".") for name in names)


def test_other_kinds_and_broken_images_leave_nothing(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.png").write_bytes(b"no")
    with pytest.raises(RecipeError, match="--probabilities: probabilities are not written as `tiff`"):
        folders.predict_all(mw.load(GOLDEN), tmp_path / "photos", tmp_path / "out", probabilities="tiff")
    written = folders.predict_all(mw.load(GOLDEN), tmp_path / "photos", tmp_path / "out", probabilities="npz")
    assert list(written.failed) == [str(tmp_path / "photos" / "broken.png")]
    assert not list((tmp_path / "out" / "probabilities").iterdir())


@pytest.mark.slow
def test_memory_does_not_grow_with_the_photo(tmp_path: Path) -> None:
    known = mw.load(GOLDEN).description

    def network(pixels: np.ndarray) -> np.ndarray:
        return np.zeros((1, 5, *pixels.shape[2:]), np.float32)

    def peak(rows: int) -> int:
        image = np.zeros((rows, 2000, 3), np.uint8)
        tracemalloc.start()
        with probabilities.File(tmp_path / "x", "npz", known.classes) as file:
            Predictor(network, known, runtime="torch")(image, keep=file)
        top = tracemalloc.get_traced_memory()[1] - rows * 2000  # the mask itself
        tracemalloc.stop()
        return top

    assert peak(4000) < 1.3 * peak(1000)
