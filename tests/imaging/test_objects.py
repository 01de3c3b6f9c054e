"""Objects of every kind of record: run-lengths, boxes and classes against counting pixel by pixel."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from maskwright.core.errors import DataError
from maskwright.core.types import VOID, Coding, Record, Region
from maskwright.imaging import masks, objects
from maskwright.imaging.components import pieces

CLASSES = ("background", "cat", "dog")
SMALL = st.tuples(st.integers(1, 9), st.integers(1, 9))
MAPS = hnp.arrays(np.uint8, SMALL, elements=st.integers(0, 3))


def flooded(values: np.ndarray, diagonal: bool) -> tuple[np.ndarray, list[int]]:
    """Pieces of equal values, pixel by pixel."""
    height, width = values.shape
    numbers, found = np.full(values.shape, -1), []
    for start in np.ndindex(values.shape):
        if numbers[start] >= 0:
            continue
        todo = [start]
        numbers[start] = len(found)
        while todo:
            y, x = todo.pop()
            for dy, dx in np.ndindex(3, 3):
                other = (y + dy - 1, x + dx - 1)
                inside = 0 <= other[0] < height and 0 <= other[1] < width
                beside = inside and (diagonal or 1 in (dy, dx))
                if beside and numbers[other] < 0 and values[other] == values[start]:
                    numbers[other] = len(found)
                    todo.append(other)
        found.append(int(values[start]))
    return numbers, found


def box(mask: np.ndarray) -> list[float]:
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def check(found: objects.Objects, expected: list[tuple[int, np.ndarray]]) -> None:
    """The labels, boxes, masks and areas of objects are those of masks that were made another way."""
    assert len(found) == len(expected)
    assert found.labels.tolist() == [label for label, _ in expected]
    assert found.boxes.tolist() == [box(mask) for _, mask in expected]
    assert found.areas().tolist() == [mask.sum() for _, mask in expected]
    assert found.masks().shape == (len(expected), *found.size)
    for index, (_, mask) in enumerate(expected):
        left, top, right, bottom = found.boxes[index].astype(int)
        assert int(found.counts[index].sum()) == mask.size
        assert found.counts[index].dtype == np.uint32
        np.testing.assert_array_equal(found.mask(index), mask)
        np.testing.assert_array_equal(found.masks()[index], mask)
        np.testing.assert_array_equal(found.cut(index), mask[top:bottom, left:right])


@given(MAPS)
def test_run_lengths_of_values_are_those_of_their_masks(values):
    found = objects.encoded(values)
    assert list(found) == np.unique(values).tolist()
    for value, counts in found.items():
        np.testing.assert_array_equal(objects.decoded(counts, values.shape), values == value)
        counts_again, why = masks.mend_counts(counts.tolist(), values.shape)
        assert why is None
        assert (counts[1:] > 0).all()
        np.testing.assert_array_equal(counts, counts_again)


@given(MAPS, st.booleans())
def test_pieces_are_those_of_a_flood(values, diagonal):
    numbers, found = pieces(values, diagonal=diagonal)
    expected, expected_values = flooded(values, diagonal)
    np.testing.assert_array_equal(numbers, expected)
    assert found.tolist() == expected_values


def test_pieces_of_a_spiral():
    """The longest way from one end of a piece to the other."""
    values = np.zeros((41, 41), np.uint8)
    y = x = 0
    dy, dx, reach = 0, 1, 40
    values[0, 0] = 1
    for turn in range(38):
        for _ in range(reach - (turn + 1) // 2 * 2 if turn > 1 else reach):
            if not (0 <= y + dy < 41 and 0 <= x + dx < 41):
                break
            y, x = y + dy, x + dx
            values[y, x] = 1
        dy, dx = dx, -dy
    for diagonal in (False, True):
        np.testing.assert_array_equal(pieces(values, diagonal=diagonal)[0], flooded(values, diagonal)[0])


corner = st.floats(-4, 20, width=32)
polygon = hnp.arrays(np.float64, st.tuples(st.integers(3, 6), st.just(2)), elements=corner)
drawn = st.lists(st.tuples(st.integers(1, 2), st.lists(polygon, min_size=1, max_size=3), st.booleans()), max_size=4)


@given(SMALL, drawn, st.data())
def test_objects_of_regions(size, shapes, data):
    regions = []
    for number, (label, polygons, crowd) in enumerate(shapes):
        region = Region(label, tuple(polygons), crowd=crowd, id=10 + number)
        if data.draw(st.booleans()):
            counts = masks.region_counts([region], size)[0]
            region = Region(label, counts=counts, crowd=crowd, id=10 + number)
        regions.append(region)
    found = objects.objects_of(Record("a", "a.jpg", size, tuple(regions)), CLASSES)
    shown = [region for region in regions if masks.region_mask(region, size).any()]
    check(found, [(region.label, masks.region_mask(region, size)) for region in shown])
    assert found.crowd.tolist() == [region.crowd for region in shown]
    assert found.ids.tolist() == [region.id for region in shown]


def test_run_lengths_for_another_size_are_refused():
    record = Record("a", "a.jpg", (4, 5), (Region(1, counts=np.array([3, 4], np.uint32)),))
    with pytest.raises(DataError, match="do not sum to the 4 x 5 pixels"):
        objects.objects_of(record, CLASSES)


@pytest.mark.parametrize(("wide", "void"), [(False, 255), (True, 65535)])
def test_objects_of_a_number_map_have_the_class_of_most_of_their_pixels(tmp_path, wide, void):
    rng = np.random.default_rng(3)
    for _ in range(20):
        size = tuple(rng.integers(3, 12, 2))
        some = [0, 1, 2, 7, 254, void] + ([255, 40000] if wide else [])
        numbers = rng.choice(some, size).astype(np.uint16 if wide else np.uint8)
        label_map = rng.choice([0, 1, 2, VOID], size, p=[0.4, 0.3, 0.2, 0.1]).astype(np.uint8)
        Image.fromarray(numbers).save(tmp_path / "numbers.png")
        Image.fromarray(label_map).save(tmp_path / "classes.png")
        record = Record("a", "a.jpg", size, label_map=str(tmp_path / "classes.png"),
                        coding=Coding((0, 1, 2, 255), (0, 1, 2, VOID)), objects=str(tmp_path / "numbers.png"))  # fmt: skip
        expected = []
        for number in np.unique(numbers):
            votes = np.bincount(label_map[numbers == number], minlength=256)[1:3]
            if number not in (0, void) and votes.any():
                expected.append((1 + int(votes.argmax()), numbers == number, int(number)))
        found = objects.objects_of(record, CLASSES)
        check(found, [(label, mask) for label, mask, _ in expected])
        assert found.ids.tolist() == [number for *_, number in expected]
        assert not found.crowd.any()


def test_numbers_alone_need_a_single_class(tmp_path):
    Image.fromarray(np.array([[0, 1, 1], [0, 3, 255]], np.uint8)).save(tmp_path / "numbers.png")
    record = Record("a", "a.jpg", (2, 3), objects=str(tmp_path / "numbers.png"))
    for classes, label in ((("background", "cat"), 1), (("cat",), 0)):
        assert objects.objects_of(record, classes).labels.tolist() == [label, label]
    with pytest.raises(DataError, match="no label map for its 2 classes"):
        objects.objects_of(record, CLASSES)


def test_colours_number_objects_too(tmp_path):
    picture = np.zeros((2, 4, 3), np.uint8)
    picture[0, 0], picture[0, 1:3], picture[1, 3] = (128, 0, 0), (0, 128, 0), (224, 224, 192)
    Image.fromarray(picture).save(tmp_path / "numbers.png")
    found = objects.objects_of(Record("a", "a.jpg", (2, 4), objects=str(tmp_path / "numbers.png")), ("cat",))
    assert found.boxes.tolist() == [[1, 0, 3, 1], [0, 0, 1, 1]]
    assert found.ids.tolist() == [0x008000, 0x800000]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((3, 3), np.uint8), "this label map is 3 x 3 pixels"),
        (np.full((2, 3), -1, np.int32), "outside 0..65535"),
        (np.full((2, 3), 70000, np.int32), "outside 0..65535"),
    ],
)
def test_what_is_no_map_of_numbers(tmp_path, values, message):
    Image.fromarray(values).save(tmp_path / "numbers.tif")
    with pytest.raises(DataError, match=message):
        objects.objects_of(Record("a", "a.jpg", (2, 3), objects=str(tmp_path / "numbers.tif")), ("cat",))


@given(MAPS, st.integers(1, 5), st.booleans())
def test_pieces_become_objects_only_when_asked(tmp_path_factory, values, least, background):
    path = tmp_path_factory.getbasetemp() / "pieces.png"
    values = np.where(values == 3, VOID, values).astype(np.uint8)
    Image.fromarray(values).save(path)
    classes = CLASSES if background else ("road", "cat", "dog")
    record = Record("a", "a.jpg", values.shape, label_map=str(path), coding=Coding((0, 1, 2, 255), (0, 1, 2, VOID)))
    assert not objects.has_objects(record)
    with pytest.raises(DataError, match="`components: true`"):
        objects.objects_of(record, classes)
    record = Record("a", "a.jpg", values.shape, label_map=record.label_map, coding=record.coding, components=least)
    numbers, labels = flooded(values, True)
    expected = [(label, numbers == number) for number, label in enumerate(labels) if label != VOID]
    expected = [e for e in expected if e[0] >= background and e[1].sum() >= least]
    check(objects.objects_of(record, classes), expected)


def test_many_objects_of_a_large_photo_need_little_memory():
    """500 objects on 12 megapixels, as masks 6 gigabytes."""
    rng, size = np.random.default_rng(0), (3000, 4000)
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    regions = tuple(Region(1, (rng.uniform((0, 0), (4000, 3000)) + rng.uniform(20, 300) * circle,)) for _ in range(500))
    tracemalloc.start()
    found = objects.objects_of(Record("a", "a.jpg", size, regions), CLASSES)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) == 500
    assert peak < 30e6
    for index in (0, 77, 499):
        mask = masks.region_mask(regions[index], size)
        assert found.boxes[index].tolist() == box(mask)
        np.testing.assert_array_equal(found.mask(index), mask)
