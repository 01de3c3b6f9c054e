"""Batches with a mask for each class: the truth of every pixel goes through fitting, cache, warp, flip and workers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from maskwright.core.recipe import Entry
from maskwright.core.table import Data, Packer
from maskwright.core.types import VOID
from maskwright.imaging import masks
from maskwright.training.augment import Ranges, augmenter
from maskwright.training.cache import Samples
from maskwright.training.loader import Loader
from maskwright.training.mix import mixer
from maskwright.training.truth import ClassMasks

SIZE = (32, 48)
LABELS = [1, 2, 3]
NAMES = ("left_wing", "right_wing", "bird")


@pytest.fixture
def data(tmp_path: Path) -> Data:
    """Six photos, each with three overlapping objects and a crowd."""
    rng = np.random.default_rng(0)
    packer = Packer()
    for number in range(6):
        height, width = 50 + 3 * number, 60 - 2 * number
        path = tmp_path / f"{number}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path)
        packer.image(f"photo {number}", str(path), (height, width))
        packer.region(3, polygons=[(5.0, 5.0, width - 5.0, 5.0, width - 5.0, height - 9.0, 5.0, height - 5.0)])
        packer.region(1, polygons=[(2.0, 8.0, width / 2 + 6, 9.0, 19.0, 32.0)])
        packer.region(2, polygons=[(width - 3.0, 10.0, width / 2 - 4, 12.0, width - 12.0, 30.0)])
        packer.region(2, polygons=[(0.0, 40.0, 12.0, 40.0, 12.0, 48.0)], crowd=True)
    return packer.pack(["background", *NAMES])


@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
@pytest.mark.parametrize("where", ["memory", "disk", "none"])
def test_cached_masks_are_the_masks(data: Data, where: str, fit: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "cache"))
    samples = Samples(data, range(6), size=SIZE, fit=fit, truth=ClassMasks(LABELS), cache=where)
    plain = Samples(data, range(6), size=SIZE, fit=fit, cache="none")
    for _ in range(2):
        for i in (3, 0, 5, 1):
            image, found = samples[i]
            np.testing.assert_array_equal(image, plain[i][0])
            assert found.shape == (3, *image.shape[:2])
            assert set(np.unique(found)) == {0, 1, VOID}
            if fit == "crop":
                np.testing.assert_array_equal(found, masks.class_masks(data[i], LABELS))
            painted = plain[i][1]  # what is seen from above lies in its mask, too
            for channel, label in enumerate(LABELS):
                assert (found[channel][painted == label] == 1).all()
    assert where == "none" or samples.num_cached == 6


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_every_mask_is_warped_as_a_label_map_would_be(data: Data, fit: str, workers: int) -> None:
    samples = Samples(data, range(6), size=SIZE, fit=fit, truth=ClassMasks(LABELS))
    operation = Ranges(flip=0.5, scale=1.3, rotate=15.0)
    pairs = [(0, 1)]
    loader = Loader(samples, augmenter(operation, SIZE, flip_pairs=pairs, fit=fit), batch=3, seed=4, workers=workers)
    alone = augmenter(operation, SIZE, fit=fit)  # swaps nothing: masks one by one have no sides
    flipped = 0
    order = loader.order(2)
    for number, batch in enumerate(loader.epoch(2)):
        assert batch.targets.shape == (3, 3, *SIZE)
        assert batch.targets.dtype == torch.uint8
        for row in range(3):
            position = 3 * number + row
            image, truth = samples[int(order[position])]
            warped = [alone(image, mask, np.random.default_rng((4, 2, 1, position)))[1] for mask in truth]
            found = batch.targets[row].numpy()
            swapped = [warped[1], warped[0], warped[2]]
            is_flipped = not np.array_equal(found, np.stack(warped))
            np.testing.assert_array_equal(found, np.stack(swapped if is_flipped else warped))
            flipped += is_flipped
    loader.close()
    assert 0 < flipped < 6


@pytest.mark.parametrize("name", ["mixup", "cutmix", "copy_paste"])
def test_mixes_know_masks(data: Data, name: str) -> None:
    samples = Samples(data, range(6), size=SIZE, truth=ClassMasks(LABELS))
    mix = mixer([Entry(name=name, chance=1.0)], NAMES)
    loader = Loader(samples, augmenter("none", SIZE), batch=3, workers=0, mix=mix)
    for batch in loader.epoch(0):
        assert batch.targets.shape == (3, 3, *SIZE)
        assert set(np.unique(batch.targets)) <= {0, 1, VOID}
        assert (batch.others is not None) == (name == "mixup")
        if batch.others is not None:
            assert batch.others.shape == batch.targets.shape
