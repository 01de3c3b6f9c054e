"""Objects become layers without losing a pixel, crowds and void their own number; what is found comes back onto the image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskwright.core.types import VOID, Coding, Record, Region
from maskwright.imaging import images
from maskwright.imaging.objects import decoded, objects_of
from maskwright.tasks import instance
from maskwright.tasks.instance import IGNORED

CLASSES = ("background", "left_door", "right_door", "wheel")


def boxes_record(seed: int, count: int, size: tuple[int, int] = (40, 60), crowds: bool = False) -> Record:
    """Boxes anywhere, over each other, some of them crowds."""
    rng = np.random.default_rng(seed)
    regions = []
    for number in range(count):
        x, y = rng.integers(0, size[1] - 6), rng.integers(0, size[0] - 6)
        w, h = rng.integers(2, 20, 2)
        polygon = np.array([[x, y], [x + w, y], [x + w, y + h], [x, y + h]], np.float64).clip(0, (size[1], size[0]))
        crowd = bool(crowds and rng.random() < 0.3)
        regions.append(Region(int(rng.integers(1, 4)), (polygon,), crowd=crowd, id=number))
    return Record("a", "a.jpg", size, tuple(regions))


@given(seed=st.integers(0, 10_000), count=st.integers(0, 12))
@settings(max_examples=60, deadline=None)
def test_every_object_is_in_a_layer_whole_and_all_crowds_are_ignored(seed, count):
    record = boxes_record(seed, count, crowds=True)
    objects = objects_of(record, CLASSES)
    planes = max(1, len(instance.layered(objects)))
    layers, table = instance.encode(record, None, CLASSES, planes)
    found = [
        (int(table[plane, number]), (layers[plane] == number))
        for plane in range(planes)
        for number in np.flatnonzero(table[plane]).tolist()
    ]
    expected = [(int(objects.labels[i]), objects.mask(i)) for i in range(len(objects)) if not objects.crowd[i]]
    key = lambda pair: (pair[0], pair[1].tobytes())  # noqa: E731
    for (a, mask), (b, truth) in zip(sorted(found, key=key), sorted(expected, key=key), strict=True):
        assert a == b
        assert (mask == truth).all()
    crowds = np.any([objects.mask(i) for i in np.flatnonzero(objects.crowd)] or [np.zeros(record.size)], axis=0)
    assert ((layers == IGNORED).any(axis=0) == crowds).all()
    assert set(np.unique(layers[table.sum(1) == 0])) <= {0, IGNORED}
    assert not table[:, IGNORED].any()


def test_crowds_need_a_layer_more_only_where_they_cover_an_object_in_each():
    square = lambda left, side, **more: Region(1, (square_at(left, side),), **more)  # noqa: E731
    for regions, planes in (
        ((square(0, 10), square(20, 9, crowd=True)), 1),
        ((square(0, 10), square(5, 10, crowd=True), square(6, 9, crowd=True)), 2),
        ((square(0, 10), square(2, 4), square(3, 2), square(7, 12, crowd=True)), 3),  # beside the second
        ((square(5, 10, crowd=True),), 1),
    ):
        assert len(instance.layered(objects_of(Record("a", "a.jpg", (40, 60), regions), CLASSES))) == planes


def square_at(left: int, side: int) -> np.ndarray:
    return np.array([[left, 3], [left + side, 3], [left + side, 3 + side], [left, 3 + side]], np.float64)


@pytest.mark.parametrize("fit", ["squash", "pad"])
@pytest.mark.parametrize("numbered", [True, False])
def test_void_pixels_of_maps_are_ignored(tmp_path, fit, numbered):
    """Pixels whose class or number counts nowhere; an object counts even where its class is not known."""
    numbers, classes = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint8)
    numbers[10:20, 10:30], numbers[8:10, 10:30], classes[10:20, 14:30] = 7, VOID, 2
    classes[8:10, 10:30] = classes[10:20, 10:14] = classes[30:, 50:] = VOID
    for name, array in (("numbers", numbers), ("classes", classes)):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    coding = Coding((0, 2, VOID), (0, 2, VOID))
    files = {"label_map": str(tmp_path / "classes.png"), "coding": coding}
    files |= {"objects": str(tmp_path / "numbers.png")} if numbered else {"components": 5}
    record = Record("a", "a.jpg", (40, 60), **files)
    fitting = images.plan(record.size, (32, 32), fit)
    layers, table = instance.encode(record, fitting, CLASSES, 2)
    object_ = numbers == 7 if numbered else classes == 2
    fitted = images.fit_label_map(((classes == VOID) & ~object_).astype(np.uint8), fitting)
    assert ((layers[0] == IGNORED) == (fitted == 1)).all()
    assert (fitted == 1).any()
    assert ((layers[0] == 1) == (images.fit_label_map(object_.astype(np.uint8), fitting) == 1)).all()
    assert (table[0, 1], table.sum()) == (2, 2)


def test_an_image_of_void_alone_is_ignored(tmp_path):
    Image.fromarray(np.full((4, 6), VOID, np.uint8)).save(tmp_path / "numbers.png")
    record = Record("a", "a.jpg", (4, 6), objects=str(tmp_path / "numbers.png"))
    layers, table = instance.encode(record, None, ("background", "thing"), 1)
    assert (layers == IGNORED).all()
    assert not table.any()


@pytest.mark.parametrize("fit", ["squash", "pad"])
def test_fitted_layers_are_the_fitted_masks(fit):
    record = boxes_record(3, 9)
    fitting = images.plan(record.size, (32, 32), fit)
    objects = objects_of(record, CLASSES)
    groups = instance.layered(objects)
    layers, table = instance.encode(record, fitting, CLASSES, len(groups) + 1)
    assert layers.shape == (len(groups) + 1, 32, 32)
    assert not table[-1].any()
    for plane, members in enumerate(groups):
        for number, index in enumerate(members.tolist(), start=1):
            alone = images.fit_label_map(objects.mask(index).astype(np.uint8), fitting)
            assert ((layers[plane] == number) == (alone == 1)).all()
            assert table[plane, number] == objects.labels[index]
    assert ((layers[:-1] == VOID) == (images.fit_label_map(np.zeros(record.size, np.uint8), fitting) == VOID)).all()


def test_more_objects_than_a_layer_holds():
    points = [(x, y) for x in range(0, 60, 2) for y in range(0, 40, 2)]
    regions = [
        Region(1, (np.array([[x, y], [x + 1, y], [x + 1, y + 1], [x, y + 1]], np.float64),), id=n)
        for n, (x, y) in enumerate(points)
    ]
    objects = objects_of(Record("a", "a.jpg", (40, 60), tuple(regions)), CLASSES)
    groups = instance.layered(objects)
    assert [len(group) for group in groups] == [253, 253, 94]
    assert sorted(np.concatenate(groups).tolist()) == list(range(600))


@pytest.mark.parametrize("fit", ["squash", "pad"])
@pytest.mark.parametrize("original", [(40, 60), (400, 300), (33, 97)])
def test_what_is_found_comes_back_where_it_was(fit, original):
    """A full mask in a box that stands on whole pixels of both the network's input and the image."""
    fitting = images.plan(original, (64, 64), fit)
    top, left, height, width = fitting.box
    box = np.array([left + width / 4, top + height / 4, left + width / 2, top + height / 2])
    masks = np.ones((1, 1, 28, 28), np.float32)
    found = instance.decode((box[None], np.array([3]), np.array([0.9]), masks), fitting, CLASSES[1:])
    h, w = original
    assert found.boxes[0].tolist() == pytest.approx([w / 4, h / 4, w / 2, h / 2])
    assert found.labels.tolist() == [2]
    assert found.classes[2] == "wheel"
    mask = decoded(found.counts[0], original)
    inside = np.zeros(original, bool)
    inside[round(h / 4) : round(h / 2), round(w / 4) : round(w / 2)] = True
    assert (mask != inside).sum() <= h / 4 + w / 4 + 2  # the rim rounds either way
    assert found.size == original


def test_nothing_found_is_nothing():
    fitting = images.plan((40, 60), (64, 64), "squash")
    empty = (np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 1, 28, 28)))
    found = instance.decode(empty, fitting, CLASSES[1:])
    assert len(found.labels) == len(found.counts) == 0
