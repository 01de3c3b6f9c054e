"""One truth, many layouts: every reader must give back the same pixels, classes and label maps."""

import numpy as np
import pytest
from fashion_layouts import LAYOUTS as FASHION_LAYOUTS
from number_writers import NUMBER_LAYOUTS, numbered
from tool_writers import TOOL_LAYOUTS
from truth_writers import CLASSES, LAYOUTS, Layout, truth

from maskwright.data.open import open_data
from maskwright.imaging import images, masks, objects

EVERY = LAYOUTS + TOOL_LAYOUTS + FASHION_LAYOUTS + NUMBER_LAYOUTS
TRUTH = {sample.name: sample for sample in truth()}


def test_truth_is_worth_reading():
    seen = {int(value) for sample in TRUTH.values() for value in np.unique(sample.label_map)}
    assert seen == {0, 1, 2, 3, 4, 255}
    assert any(not sample.regions for sample in TRUTH.values()) or len(TRUTH) < 20
    assert len({sample.size for sample in TRUTH.values()}) > 2


@pytest.mark.parametrize("layout", EVERY, ids=lambda layout: layout.name)
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


@pytest.mark.parametrize("layout", EVERY, ids=lambda layout: layout.name)
def test_gives_the_same_objects(layout: Layout, tmp_path):
    """Where objects are drawn they are whole; where pixels are numbered the one in front is seen."""
    layout.write(tmp_path, list(TRUTH.values()))
    data = open_data(tmp_path, options=layout.options).data
    with_objects = [record for record in data if objects.has_objects(record)]
    assert len(with_objects) in (0, len(data))
    for record in with_objects:
        sample = TRUTH[record.image.rpartition("/")[2].removesuffix(".jpg")]
        found = objects.objects_of(record, data.classes)
        whole = [region for region in sample.regions if not region.crowd]
        expected = [(region.label, masks.region_mask(region, sample.size)) for region in whole]
        if record.objects is not None:
            numbers, labels = numbered(sample)
            expected = [(label, numbers == number) for number, label in enumerate(labels, 1)]
        names = CLASSES if set(data.classes) == set(CLASSES) else data.classes
        name = {label: names[min(label, len(names) - 1)] for label in range(5)}
        mine = [(data.classes[found.labels[i]], found.mask(i).tobytes()) for i in np.flatnonzero(~found.crowd)]
        assert sorted(mine) == sorted((name[label], mask.tobytes()) for label, mask in expected)
