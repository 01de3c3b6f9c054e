"""The generator of shapes: repeatable, exact, in every format that can be written."""

import numpy as np
import pytest
from truth_writers import fates

from maskwright.core.errors import DataError
from maskwright.data import synthetic
from maskwright.data.open import open_data
from maskwright.imaging import images, masks


def test_same_seed_same_pixels_and_a_longer_set_begins_alike():
    first, longer, other = synthetic.truth(3, 5), synthetic.truth(6, 5), synthetic.truth(3, 6)
    for a, b in zip(first, longer, strict=False):
        np.testing.assert_array_equal(a.image, b.image)
        assert [s.outline.tolist() for s in a.shapes] == [s.outline.tolist() for s in b.shapes]
    assert any(a.image.shape != b.image.shape or (a.image != b.image).any() for a, b in zip(first, other, strict=True))


def test_what_a_set_holds():
    samples = synthetic.truth(60, size=(128, 160))
    shapes = [shape for sample in samples for shape in sample.shapes]
    counts = np.bincount([shape.label for shape in shapes], minlength=5)
    assert counts[0] == 0
    assert counts[1:].min() >= 0.15 * len(shapes)
    assert 1 <= sum(not sample.shapes for sample in samples) <= 10
    sizes = [sample.image.shape[:2] for sample in samples]
    assert sizes.count((128, 160)) >= 45
    assert len(set(sizes)) >= 10
    assert all(sample.image.dtype == np.uint8 and sample.image.shape[2] == 3 for sample in samples)
    assert any((shape.outline < 0).any() for shape in shapes), "none is cut by the border"


def test_pixels_agree_with_the_outlines(tmp_path):
    """Where a shape's whole pixels are, the picture is its colour, far from the ground's just outside."""
    data = synthetic.as_data(synthetic.truth(20), tmp_path)
    contrasts = []
    for record in data:
        picture, label_map = images.read(record.image).astype(float), masks.label_map(record)
        for region in record.regions:
            inside = masks.region_mask(region, record.size) & (label_map == region.label)
            near = np.zeros_like(inside)
            rows, columns = np.nonzero(inside)
            near[max(0, rows.min() - 6) : rows.max() + 7, max(0, columns.min() - 6) : columns.max() + 7] = True
            outside = near & (label_map == 0)
            contrasts.append(np.linalg.norm(picture[inside].mean(axis=0) - picture[outside].mean(axis=0)))
    assert min(contrasts) > 40


def test_colour_does_not_tell_the_class(tmp_path):
    """The mean colours of the classes are nearer to each other than colours spread within a class."""
    data = synthetic.as_data(synthetic.truth(80), tmp_path)
    colours: dict[int, list[np.ndarray]] = {}
    for record in data:
        picture = images.read(record.image).astype(float)
        for region in record.regions:
            colours.setdefault(region.label, []).append(picture[masks.region_mask(region, record.size)].mean(axis=0))
    means = np.array([np.mean(found, axis=0) for found in colours.values()])
    within = np.mean([np.std(found, axis=0).mean() for found in colours.values()])
    assert np.std(means, axis=0).max() < 0.5 * within


@pytest.mark.parametrize("format", ["coco", "voc", "folder"])
def test_make_and_read_back(format, tmp_path):
    folder = synthetic.make(tmp_path / "shapes", num=10, size=(64, 80), seed=2, format=format)
    opened = open_data(folder)
    assert opened.format == format
    assert opened.data.classes == synthetic.CLASSES
    assert len(opened.data) == 10
    assert opened.ledger.num_refused == 0
    expected = {s.name: s for s in synthetic.truth(10, 2, size=(64, 80))}
    (tmp_path / "photos").mkdir()
    truth = {r.id: masks.label_map(r) for r in synthetic.as_data(list(expected.values()), tmp_path / "photos")}
    for record in opened.data:
        name = record.image.rpartition("/")[2].removesuffix(".jpg")
        np.testing.assert_array_equal(masks.label_map(record), truth[name])
    assert not fates(opened.ledger, "ignored")


def test_a_format_that_cannot_hold_the_classes(tmp_path):
    with pytest.raises(DataError, match="holds one class"):
        synthetic.make(tmp_path / "pets", num=2, format="pet")
