"""Scores of a folder of label maps: every image finds its own, whatever else lies there, or a sentence says why not."""

from pathlib import Path

import numpy as np
import pytest

import maskwright as mw
from maskwright.core.errors import DataError
from maskwright.core.table import Data, Packer
from maskwright.core.types import Coding
from maskwright.imaging import draw, images
from maskwright.prediction import evaluation, folders

GOLDEN = Path(__file__).parents[1] / "golden" / "bundle-1"
CODING = Coding((0, 1, 2, 255), (0, 1, 2, 255))


def truth(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 3, (12, 16)).astype(np.uint8)


def labelled(home: Path, ids: list[str]) -> Data:
    """Data whose image `id` is `truth` of its place in the list; an id without a suffix has an image with one."""
    packer = Packer()
    for number, id in enumerate(ids):
        file = home / "images" / (id if images.is_image_name(id) else f"{id}.png")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(draw.encode(np.zeros((12, 16, 3), np.uint8), "png"))
        label_map = home / "truth" / f"{number}.png"
        label_map.parent.mkdir(exist_ok=True)
        images.save_label_map(label_map, truth(number))
        packer.image(id, str(file), (12, 16), label_map=str(label_map), coding=CODING)
    return packer.pack(["background", "one", "two"])


def maps(folder: Path, files: dict[str, int]) -> Path:
    for name, number in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        images.save_label_map(folder / name, truth(number))
    return folder


@pytest.mark.parametrize(
    ("ids", "files"),
    [
        (["train/a0.jpg", "val/a0.jpg"], {"train/a0.png": 0, "val/a0.png": 1}),
        (["train/a0", "val/a0"], {"deep/train/a0.png": 0, "deep/val/a0.png": 1}),
        (["x/train/a0", "y/train/a0"], {"x/train/a0.png": 0, "y/train/a0.png": 1}),
        (["frame.0", "frame.1"], {"frame.0.png": 0, "frame.1.png": 1}),
        (["frame.0.jpg", "frame.1.jpg"], {"frame.0.png": 0, "frame.1.png": 1}),
        (["train/a", "train/b"], {"b.png": 1, "a.png": 0}),
        (["a.jpg", "a.webp"], {"a.jpg.png": 0, "a.webp.png": 1}),
        (["a.jpg", "a.jpg.png"], {"a.png": 0, "a.jpg.png.png": 1}),
        (["a0"], {"a0.png": 0, ".hidden/a0.png": 5}),
        (["images/a0.jpg", "a0.jpg"], {"images/a0.png": 0, "a0.png": 1}),
    ],
    ids=str,
)
def test_every_image_finds_its_own_map(ids: list[str], files: dict[str, int], tmp_path: Path) -> None:
    scores = evaluation.evaluate_folder(maps(tmp_path / "maps", files), labelled(tmp_path, ids))
    assert scores.headlines["miou"].value == 1


@pytest.mark.parametrize(
    ("ids", "files", "named"),
    [
        (["a0"], {"x/a0.png": 0, "y/a0.png": 1}, ["x/a0.png", "y/a0.png"]),
        (["p/a0"], {"x/a0.png": 0, "y/a0.png": 1}, ["x/a0.png", "y/a0.png", "p/a0"]),
        (["train/a0", "val/a0"], {"a0.png": 0}, ["train/a0", "val/a0", "a0.png"]),
        (["train/a0", "val/a0"], {"val/a0.png": 0}, ["train/a0", "val/a0"]),
    ],
    ids=str,
)
def test_what_fits_two_is_named(ids: list[str], files: dict[str, int], named: list[str], tmp_path: Path) -> None:
    data = labelled(tmp_path, ids)
    with pytest.raises(DataError, match="keep the folders of the images") as told:
        evaluation.evaluate_folder(maps(tmp_path / "maps", files), data)
    assert all(name in str(told.value) for name in named)


def test_an_image_without_a_map_is_named(tmp_path: Path) -> None:
    data = labelled(tmp_path, ["a", "b.c", "frame"])
    with pytest.raises(DataError, match=r"no label map for 2 of 3 images, such as b\.c"):
        evaluation.evaluate_folder(maps(tmp_path / "maps", {"a.png": 0, "b.png": 1, "frame.0.png": 2}), data)


def test_the_whole_folder_of_predict_scores_as_its_masks(tmp_path: Path) -> None:
    ids = ["train/a0.png", "val/a0.png", "b.1.png"]
    data = labelled(tmp_path, ids)
    out = tmp_path / "out"
    folders.predict_all(
        mw.load(GOLDEN), tmp_path / "images", out, cutout="background", probabilities="png", overlays=False
    )
    for number, id in enumerate(ids):
        images.save_label_map(out / "masks" / id, truth(number))
    assert evaluation.evaluate_folder(out, data).headlines["miou"].value == 1
    assert evaluation.evaluate_folder(out / "masks", data).headlines["miou"].value == 1
