"""Objects in training: masks, boxes and classes stay together through every change, whoever prepares the batch."""

import numpy as np
import pytest
import torch
from PIL import Image
from truth_of_objects import CLASSES, PAIRS, packed

from maskwright.imaging.objects import objects_of
from maskwright.models.instance_segmenter import Layers as Targets
from maskwright.models.instance_segmenter import objects
from maskwright.tasks import instance
from maskwright.tasks.instance import IGNORED
from maskwright.training.augment import augmenter
from maskwright.training.cache import Samples
from maskwright.training.loader import Loader
from maskwright.training.truth import Layers

SIZE = (48, 64)
SWAPPED = np.arange(256)
for a, b in PAIRS:
    SWAPPED[[a + 1, b + 1]] = b + 1, a + 1


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return packed(tmp_path_factory.mktemp("objects"), 9)


def layers_of(data):
    planes = max(len(instance.layered(objects_of(record, data.classes))) for record in data)
    assert planes > 1
    return Layers(data.classes, planes)


@pytest.mark.parametrize("cache", ["none", "memory", "disk"])
@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
def test_samples_are_what_the_task_says_cached_or_not(data, cache, fit):
    samples = Samples(data, range(len(data)), size=SIZE, fit=fit, truth=layers_of(data), cache=cache)
    for _ in range(2):
        for index in range(len(data)):
            image, layers, table = samples[index]
            assert image.shape[:2] == layers.shape[1:]
            again = samples.load(index)
            assert all((a == b).all() for a, b in zip((image, layers, table), again, strict=True))
            numbers = {(p, n) for p in range(len(layers)) for n in np.unique(layers[p]).tolist() if n not in (0, 255)}
            assert numbers <= {(p, n) for p, n in zip(*np.nonzero(table), strict=True)}


@pytest.mark.parametrize("strength", ["soft", "medium", "hard"])
@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_an_object_is_moved_as_it_would_be_alone(data, strength, fit):
    change = augmenter(strength, SIZE, flip_pairs=PAIRS, fit=fit)
    samples = Samples(data, range(len(data)), size=SIZE, fit=fit, truth=layers_of(data))
    mirrored = 0
    for index in range(len(data)):
        for seed in range(4):
            image, layers, table = samples[index]
            moved_image, moved, moved_table = change.objects(image, layers, table, np.random.default_rng(seed))
            plain = augmenter(strength, SIZE, fit=fit)(image, layers, np.random.default_rng(seed))
            assert (moved_image == plain[0]).all()
            for plane, number in zip(*np.nonzero(table), strict=True):
                alone = (layers[plane] == number).astype(np.uint8)
                _, expected = plain_change(image, alone, strength, fit, seed)
                assert ((moved[plane] == number) == (expected == 1)).all()
            swapped = SWAPPED[table]
            same, other = (moved_table == table).all(), (moved_table == swapped).all()
            assert same or other
            mirrored += other and not same
    assert mirrored


@pytest.mark.parametrize("strength", ["soft", "medium", "hard"])
@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
def test_ignored_pixels_are_moved_with_the_picture(data, strength, fit):
    change = augmenter(strength, SIZE, flip_pairs=PAIRS, fit=fit)
    samples = Samples(data, range(len(data)), size=SIZE, fit=fit, truth=layers_of(data))
    moved_some = 0
    for index in range(len(data)):
        rng = np.random.default_rng(index)
        image, layers, table = (array.copy() for array in samples[index])
        top, left = rng.integers(0, 30, 2)
        window = layers[index % len(layers), top : top + 25, left : left + 25]
        window[window == 0] = IGNORED
        for seed in range(4):
            _, moved, moved_table = change.objects(image, layers, table, np.random.default_rng(seed))
            alone = (layers == IGNORED).any(axis=0).astype(np.uint8)
            _, expected = plain_change(image, alone, strength, fit, seed)
            assert ((moved == IGNORED).any(axis=0) == (expected == 1)).all()
            assert not moved_table[:, IGNORED:].any()
            (found,) = objects(Targets(torch.from_numpy(moved[None]), torch.from_numpy(moved_table[None])))
            assert ("ignored" in found) == (expected == 1).any()
            if "ignored" in found:
                assert (found["ignored"].numpy() == (expected == 1)).all()
                moved_some += 1
    assert moved_some > 20


def test_empty_layers_stay_empty_and_change_nothing(data):
    """A sample is the same, whatever number of layers another one needs."""
    samples = Samples(data, range(len(data)), size=SIZE, truth=layers_of(data))
    change = augmenter("hard", SIZE, flip_pairs=PAIRS)
    for index in range(len(data)):
        image, layers, table = samples[index]
        more = (
            np.concatenate([layers, np.zeros((5, *SIZE), np.uint8)]),
            np.concatenate([table, np.zeros((5, 256), "u1")]),
        )
        few = change.objects(image, layers, table, np.random.default_rng(index))
        many = change.objects(image, *more, np.random.default_rng(index))
        assert (few[0] == many[0]).all()
        for one, other in zip(few[1:], many[1:], strict=True):
            assert (one == other[: len(one)]).all()
            assert not other[len(one) :].any()


def plain_change(image, labels, strength, fit, seed):
    return augmenter(strength, SIZE, fit=fit)(image, labels, np.random.default_rng(seed))


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_do_not_depend_on_who_prepares_them(data, workers):
    def loader(number):
        samples = Samples(data, range(len(data)), size=SIZE, truth=layers_of(data))
        return Loader(samples, augmenter("soft", SIZE, flip_pairs=PAIRS), batch=4, leftover=True, workers=number)

    ours, alone = loader(workers), loader(0)
    for epoch in range(2):
        for batch, expected in zip(ours.epoch(epoch), alone.epoch(epoch), strict=True):
            assert batch.ids == expected.ids
            assert batch.others is None
            for a, b in (
                (batch.images, expected.images),
                (batch.targets, expected.targets),
                (batch.tables, expected.tables),
            ):
                assert torch.equal(a, b)
    ours.close()


def test_boxes_are_tight_around_the_masks_and_classes_count_from_1(data):
    samples = Samples(data, range(len(data)), size=SIZE, truth=layers_of(data))
    loader = Loader(samples, augmenter("hard", SIZE, flip_pairs=PAIRS), batch=3, workers=0)
    for batch in loader.epoch(0):
        for found in objects(Targets(batch.targets, batch.tables)):
            assert len(found["boxes"]) == len(found["labels"]) == len(found["masks"])
            assert set(found["labels"].tolist()) <= set(range(1, len(CLASSES)))
            for box, mask in zip(found["boxes"], found["masks"], strict=True):
                y, x = torch.nonzero(mask, as_tuple=True)
                assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_a_photo_without_objects_has_none(tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    empty = Targets(torch.zeros(1, 2, 40, 60, dtype=torch.uint8), torch.zeros(1, 2, 256, dtype=torch.uint8))
    (found,) = objects(empty)
    assert found["boxes"].shape == (0, 4)
    assert found["masks"].shape == (0, 40, 60)
