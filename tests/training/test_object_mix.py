"""Laws of copy-paste of objects: every pixel is of the object on top, numbers never collide, boxes stay tight, draws repeat."""

import cv2
import numpy as np
import pytest
import torch
from truth_of_objects import CLASSES, PAIRS, packed

from maskwright.core import recipe as recipes
from maskwright.core.errors import RecipeError
from maskwright.core.recipe import Entry
from maskwright.core.types import VOID
from maskwright.imaging.objects import objects_of
from maskwright.models.instance_segmenter import Layers as Targets
from maskwright.models.instance_segmenter import objects
from maskwright.tasks import instance
from maskwright.tasks.instance import IGNORED, MOST
from maskwright.training import MIXES, for_objects, mix
from maskwright.training.augment import augmenter
from maskwright.training.cache import Samples
from maskwright.training.loader import Loader
from maskwright.training.truth import Layers

NAMES = CLASSES[1:]
SIZE = (48, 64)
EVERYTHING = {"chance": 1.0, "blend": 0.0}


def made(**options):
    return MIXES["copy_paste"](NAMES, **{"blend": 0.0, **options}).objects


def sample(rng, mark, planes=3, most=6, numbers=MOST):
    """A sample of rectangles; its pixels hold its mark, so that they tell where they came from."""
    layers, table = np.zeros((planes, *SIZE), np.uint8), np.zeros((planes, 256), np.uint8)
    layers[:, :3] = VOID
    for plane in range(planes):
        for number in rng.choice(np.arange(1, numbers + 1), int(rng.integers(0, most)), replace=False).tolist():
            top, left = int(rng.integers(3, 40)), int(rng.integers(0, 56))
            place = layers[plane, top : top + int(rng.integers(2, 20)), left : left + int(rng.integers(2, 20))]
            if (place == 0).all():
                place[:] = number
                table[plane, number] = rng.integers(1, 4)
    table[0, 250] = 1  # an object that was moved out of the picture
    return np.full((*SIZE, 3), mark, np.uint8), layers, table


def masks_of(parts):
    """(class, its pixels) of every object that has some, as anybody would read them."""
    _, layers, table = parts
    found = []
    for plane, number in zip(*np.nonzero(table), strict=True):
        mask = layers[plane] == number
        if mask.any():
            found.append((int(table[plane, number]), mask))
    return found


def as_set(found):
    return sorted((label, mask.tobytes()) for label, mask in found)


@pytest.mark.parametrize("seed", range(40))
def test_pixels_belong_to_what_lies_on_top(seed):
    rng = np.random.default_rng(seed)
    below, other = sample(rng, 10), sample(rng, 200)
    for array in (*below, *other):
        array.flags.writeable = False
    image, layers, table = out = made()(below, other, np.random.default_rng(seed))
    pasted = image[..., 0] == 200
    assert (image == np.where(pasted[..., None], other[0], below[0])).all()
    whole = as_set(masks_of(other))
    above = [(label, mask) for label, mask in masks_of(out) if (mask & pasted).any()]
    left = [(label, mask) for label, mask in masks_of(out) if not (mask & pasted).any()]
    assert set(as_set(above)) <= set(whole)  # each came whole, with its class
    assert (np.any([mask for _, mask in above] or [pasted & False], axis=0) == pasted).all()
    expected = [(label, mask & ~pasted) for label, mask in masks_of(below) if (mask & ~pasted).any()]
    assert as_set(left) == as_set(expected)
    shown = {(p, n) for p in range(3) for n in np.unique(layers[p]).tolist() if n not in (0, VOID)}
    assert shown == set(zip(*(part.tolist() for part in np.nonzero(table)), strict=True)) or not pasted.any()
    assert not (layers[:, pasted] == VOID).any()
    assert (layers[:, ~pasted] == below[1][:, ~pasted]).all()


def test_about_half_of_the_objects_are_pasted_and_never_none():
    shares = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        below, other = sample(rng, 10), sample(rng, 200)
        if many := len(masks_of(other)):
            out = made()(below, other, np.random.default_rng(seed))
            taken = sum(bool((out[0][..., 0] == 200)[mask].all()) for _, mask in masks_of(other))
            assert taken
            shares.append((taken / many, many))
    assert np.mean([share for share, many in shares if many > 3]) == pytest.approx(0.55, abs=0.1)


def test_only_chosen_classes_are_pasted():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        below, other = sample(rng, 10), sample(rng, 200)
        out = made(classes=["wheel"])(below, other, np.random.default_rng(seed))
        pasted = out[0][..., 0] == 200
        wheels = [mask for label, mask in masks_of(other) if label == 3]
        assert pasted.any() == bool(wheels)
        assert not (pasted & ~np.any(wheels or [pasted & False], axis=0)).any()


def test_a_full_layer_sends_objects_to_the_next_and_a_full_sample_takes_none():
    """All numbers are taken in the first layer: what is pasted lies in the second; where both are full nothing changes."""
    below = (np.full((16, 64, 3), 10, np.uint8), np.zeros((2, 16, 64), np.uint8), np.zeros((2, 256), np.uint8))
    below[1][0].reshape(-1)[:MOST], below[2][0, 1 : MOST + 1] = np.arange(1, MOST + 1), 1
    other = (np.full((16, 64, 3), 200, np.uint8), np.zeros((2, 16, 64), np.uint8), np.zeros((2, 256), np.uint8))
    other[1][0, 8:10, :5], other[2][0, 7] = 7, 2
    image, layers, table = made()(below, other, np.random.default_rng(0))
    assert (image[8:10, :5] == 200).all()
    assert not layers[0, 8:10, :5].any()
    assert set(table[1, np.unique(layers[1, 8:10, :5])].tolist()) == {2}
    assert ((table[0] > 0).sum(), (table[1] > 0).sum()) == (MOST, 1)
    below[1][1], below[2][1] = below[1][0], below[2][0]
    out = made()(below, other, np.random.default_rng(0))
    assert all(a is b for a, b in zip(out, below, strict=True))
    below[2][1, MOST] = 0
    below[1][1][below[1][1] == MOST] = 0
    other[1][1, 8:9, :3], other[2][1, 9] = 9, 3  # both want the last number of the second layer
    _, layers, table = made()(below, other, np.random.default_rng(1))
    assert (table[1, MOST], (layers[1] == MOST).sum()) in ((2, 10), (3, 3))


def test_an_object_that_is_covered_entirely_is_gone():
    below = (np.zeros((*SIZE, 3), np.uint8), np.zeros((1, *SIZE), np.uint8), np.zeros((1, 256), np.uint8))
    below[1][0, 10:20, 10:20], below[2][0, 1] = 1, 1
    other = tuple(array.copy() for array in below)
    other[1][0, 8:30, 8:30], other[2][0, 1] = 1, 3
    _, layers, table = made()(below, other, np.random.default_rng(0))
    assert table.sum() == 3
    assert ((layers > 0) == (other[1] > 0)).all()
    (found,) = objects(Targets(torch.from_numpy(layers[None]), torch.from_numpy(table[None])))
    assert found["boxes"].tolist() == [[8, 8, 30, 30]]


def test_crowds_of_the_other_sample_stay_behind_and_those_below_what_is_pasted_are_gone():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        below, other = sample(rng, 10), sample(rng, 200)
        for layers in (below[1], other[1]):
            window = layers[int(rng.integers(3)), 5:30, 10:40]
            window[window == 0] = IGNORED
        image, layers, table = made()(below, other, np.random.default_rng(seed))
        pasted = image[..., 0] == 200
        assert ((layers == IGNORED) == (below[1] == IGNORED) & ~pasted).all()
        assert not table[:, IGNORED:].any()


def test_soft_edges_leave_the_labels_alone():
    rng = np.random.default_rng(5)
    below, other = sample(rng, 10), sample(rng, 200)
    hard, soft = (made(blend=blend)(below, other, np.random.default_rng(1)) for blend in (0.0, 1.5))
    assert (hard[1] == soft[1]).all()
    assert (hard[2] == soft[2]).all()
    differs = (hard[0] != soft[0]).any(axis=2)
    pasted = (hard[0][..., 0] == 200).astype(np.uint8)
    kernel = np.ones((13, 13), np.uint8)
    assert differs.any()
    assert not (differs & (cv2.dilate(pasted, kernel) == cv2.erode(pasted, kernel))).any()


# ------------------------------------------------------------------------------------------------------- in the loader


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return packed(tmp_path_factory.mktemp("mixed"), 9)


def loader_of(data, *, workers=0, strength="hard", fit="squash", pairs=PAIRS, entries=None, seed=0):
    planes = max(len(instance.layered(objects_of(record, data.classes))) for record in data)
    samples = Samples(data, range(len(data)), size=SIZE, fit=fit, truth=Layers(data.classes, planes))
    entries = [Entry(name="copy_paste", **EVERYTHING)] if entries is None else entries
    change = augmenter(strength, SIZE, flip_pairs=pairs, fit=fit)
    return Loader(samples, change, batch=4, leftover=True, workers=workers, mix=mix.mixer(entries, NAMES), seed=seed)


@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
@pytest.mark.parametrize("strength", ["none", "soft", "hard"])
def test_boxes_stay_tight_around_masks_and_no_two_objects_of_a_layer_meet(data, strength, fit):
    loader = loader_of(data, strength=strength, fit=fit)
    more = 0
    for epoch in range(3):
        plain = loader_of(data, strength=strength, fit=fit, entries=[])
        for batch, alone in zip(loader.epoch(epoch), plain.epoch(epoch), strict=True):
            found = objects(Targets(batch.targets, batch.tables))
            for one, layers, table in zip(found, batch.targets.numpy(), batch.tables.numpy(), strict=True):
                expected = []
                for label, mask in masks_of((None, layers, table)):
                    y, x = np.nonzero(mask)
                    box = [x.min(), y.min(), x.max() + 1, y.max() + 1]
                    if box[2] - box[0] > 1 and box[3] - box[1] > 1:  # thinner ones cannot be learnt from
                        expected.append(([float(v) for v in box], label, mask))
                assert one["boxes"].tolist() == [box for box, _, _ in expected]
                assert one["labels"].tolist() == [label for _, label, _ in expected]
                for mask, (_, _, other) in zip(one["masks"].numpy(), expected, strict=True):
                    assert (mask == other).all()
            more += sum(len(one["boxes"]) for one in found)
            more -= sum(len(one["boxes"]) for one in objects(Targets(alone.targets, alone.tables)))
    assert more > 0


def test_classes_of_a_pair_change_places_in_what_is_pasted_too(data):
    """With and without pairs the same pixels, and in mirrored samples, pasted ones among them, left and right swapped."""
    swaps = np.arange(256)
    for a, b in PAIRS:
        swaps[[a + 1, b + 1]] = b + 1, a + 1
    flips = {"strength": [Entry(name="flip", chance=1.0)]}
    ours, plain = loader_of(data, **flips), loader_of(data, pairs=[], **flips)
    changed = 0
    for batch, alone in zip(ours.epoch(0), plain.epoch(0), strict=True):
        assert torch.equal(batch.images, alone.images)
        assert torch.equal(batch.targets, alone.targets)
        assert (batch.tables.numpy() == swaps[alone.tables.numpy()]).all()
        changed += int((batch.tables != alone.tables).sum())
    assert changed


@pytest.mark.parametrize("workers", [1, 3])
def test_a_sample_is_the_same_whoever_prepares_it_and_after_a_resume(data, workers):
    loaders = loader_of(data, workers=workers), loader_of(data)
    for ours, alone in zip(loaders[0].epoch(3), loaders[1].epoch(3), strict=True):
        assert_same(ours, alone)
    for ours, alone in zip(loaders[0].epoch(3, first=1), list(loader_of(data).epoch(3))[1:], strict=True):
        assert_same(ours, alone)
    loaders[0].close()
    first, again, other = (next(iter(loader_of(data, seed=seed).epoch(0))) for seed in (0, 0, 1))
    assert_same(first, again)
    assert not torch.equal(first.images, other.images)


def assert_same(one, other):
    assert one.ids == other.ids
    assert torch.equal(one.images, other.images)
    assert torch.equal(one.targets, other.targets)
    assert torch.equal(one.tables, other.tables)


@pytest.mark.parametrize("name", MIXES)
def test_only_what_pastes_objects_is_allowed(name):
    recipe = recipes.build({"task": "instance", "data": [{"path": "somewhere"}], "mix": [name]})
    if MIXES[name](NAMES).objects is not None:
        for_objects.check(recipe)
    else:
        with pytest.raises(RecipeError, match=f"mix.0: `{name}` is for models that label pixels"):
            for_objects.check(recipe)


def test_a_background_in_the_list_cannot_be_pasted():
    with pytest.raises(RecipeError, match="no class that could be pasted"):
        mix.mixer([Entry(name="copy_paste")], ("background",))
