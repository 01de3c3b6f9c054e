"""One truth, many layouts, one set of training tensors: whatever the label format, the network sees the same batch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from truth_writers import LAYOUTS, Layout, truth

from maskwright.data.open import open_data
from maskwright.imaging import images
from maskwright.training.augment import augmenter
from maskwright.training.cache import Samples
from maskwright.training.loader import Loader

SIZE = (48, 64)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_every_layout_gives_the_same_batches(layout: Layout, tmp_path: Path) -> None:
    samples = {sample.name: sample for sample in truth()}
    layout.write(tmp_path, list(samples.values()))
    data = open_data(tmp_path, options=layout.options).data
    name_of = {id: Path(image).stem for id, image in zip(data.ids, data.images, strict=True)}
    order = np.array(sorted(range(len(data)), key=lambda i: name_of[data.ids[i]]))  # readers list in their own order
    augment = augmenter("soft", SIZE, flip_pairs=[(1, 2)] if len(layout.classes) > 2 else [])
    loader = Loader(Samples(data, order, size=SIZE), augment, batch=4, seed=5, workers=0)
    position = 0
    for batch in loader.epoch(1):
        assert batch.images.dtype == batch.targets.dtype == torch.uint8
        for image, target, id in zip(batch.images, batch.targets, batch.ids, strict=True):
            sample = samples[name_of[id]]
            fitting = images.plan(sample.size, SIZE, "squash")
            fitted = images.fit(images.read(sample.jpeg), fitting)
            truth_map = images.fit_label_map(layout.reduced(sample.label_map), fitting)
            expected = augment(fitted, truth_map, np.random.default_rng((5, 1, 1, position)))
            np.testing.assert_array_equal(image.permute(1, 2, 0).numpy(), expected[0])
            np.testing.assert_array_equal(target.numpy(), expected[1])
            position += 1
    assert position == len(samples)
