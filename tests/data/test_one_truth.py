"""One truth, many layouts: every reader must give back the same pixels, classes and label maps."""

import numpy as np
import pytest
from truth_writers import LAYOUTS, Layout, truth

from maskwright.data.open import open_data
from maskwright.imaging import images, masks

TRUTH = {sample.name: sample for sample in truth()}


def test_truth_is_worth_reading():
    seen = {int(value) for sample in TRUTH.values() for value in np.unique(sample.label_map)}
    assert seen == {0, 1, 2, 3, 4, 255}
    assert any(not sample.regions for sample in TRUTH.values()) or len(TRUTH) < 20
    assert len({sample.size for sample in TRUTH.values()}) > 2


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_reads_the_same_label_maps(layout: Layout, tmp_path):
    layout.write(tmp_path, list(TRUTH.values()))
    opened = open_data(tmp_path, options=layout.options)
    assert opened.format == layout.format
    assert opened.data.classes == layout.classes
    opened.ledger.reconcile()
    assert opened.ledger.num_refused == 0
    names = [record.image.rpartition("/")[2].removesuffix(".jpg") for record in opened.data]
    assert sorted(names) == sorted(TRUTH)
    for name, record in zip(names, opened.data, strict=True):
        sample = TRUTH[name]
        assert record.size == sample.size
        np.testing.assert_array_equal(masks.label_map(record), layout.reduced(sample.label_map))
        np.testing.assert_array_equal(images.read(record.image), images.read(sample.jpeg))
