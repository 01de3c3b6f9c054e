"""Laws of the rasteriser: COCO's rule to the pixel, the painting order, label-map files of every kind, hostile labels."""

import json
import struct
import time
import zlib
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from maskwright.core.errors import DataError
from maskwright.core.types import VOID, Coding, Record, Region
from maskwright.imaging import masks

SQUARE = np.zeros((4, 6), bool)
SQUARE[1:3, 1:3] = True
SQUARE[3, 5] = True
CORNER = np.zeros((4, 6), bool)
CORNER[0, 0] = True

VECTORS = {  # measured with pycocotools: mask, run-lengths, compressed
    "square and a pixel": (SQUARE, [5, 2, 2, 2, 12, 1], "5220:O"),
    "empty": (np.zeros((4, 6), bool), [24], "h0"),
    "full": (np.ones((4, 6), bool), [0, 24], "0h0"),
    "first pixel": (CORNER, [0, 1, 23], "01g0"),
}


def counts_of(mask):
    """Run-lengths by walking: column after column, zeros first."""
    counts, value = [0], False
    for pixel in mask.T.reshape(-1):
        if pixel != value:
            counts.append(0)
            value = not value
        counts[-1] += 1
    return counts


def region(mask, label=1, **options):
    return Region(label, counts=np.array(counts_of(mask), np.uint32), **options)


def polygon(*flat, label=1, **options):
    return Region(label, (np.array(flat, float).reshape(-1, 2),), **options)


# --- run-lengths


@pytest.mark.parametrize("name", VECTORS)
def test_run_length_vectors(name):
    mask, counts, text = VECTORS[name]
    assert counts_of(mask) == counts
    drawn = Region(1, counts=np.array(counts, np.uint32))
    assert masks.region_rle(drawn, (4, 6)) == {"size": [4, 6], "counts": text.encode()}
    assert np.array_equal(masks.region_mask(drawn, (4, 6)), mask)
    assert masks.region_area(drawn, (4, 6)) == mask.sum()
    assert np.array_equal(masks.paint([drawn], (4, 6)), mask)
    for stored in (counts, text, text.encode(), tuple(counts), np.array(counts)):
        found, why = masks.mend_counts(stored, (4, 6))
        assert why is None
        assert found.dtype == np.uint32
        assert found.tolist() == counts


def test_a_long_run_length_vector():
    mask = np.zeros((300, 400), bool)
    mask[100:200, 150:250] = True
    counts = counts_of(mask)
    assert (len(counts), counts[:4]) == (201, [45100, 100, 200, 100])
    text = masks.region_rle(region(mask), (300, 400))["counts"]
    assert text.startswith(rb"\Q\1T3X6000")
    assert masks.mend_counts(text, (300, 400))[0].tolist() == counts


sizes = st.tuples(st.integers(1, 40), st.integers(1, 40))


@st.composite
def drawn_masks(draw, count=1):
    """A size and `count` random masks, from nearly empty to nearly full, blobs and noise."""
    size = draw(sizes)
    found = []
    for seed in draw(st.lists(st.integers(0, 2**32), min_size=count, max_size=count)):
        rng = np.random.default_rng(seed)
        mask = rng.random(size) < rng.choice([0, 0.02, 0.5, 0.98, 1])
        top, left = rng.integers(0, size[0]), rng.integers(0, size[1])
        mask[top : top + rng.integers(1, 20), left : left + rng.integers(1, 20)] = rng.random() < 0.7
        found.append(mask)
    return size, found


@given(drawn_masks())
def test_run_lengths_round_trip(drawn):
    size, (mask,) = drawn
    assert np.array_equal(masks.region_mask(region(mask), size), mask)
    text = masks.region_rle(region(mask), size)["counts"]
    found, why = masks.mend_counts(text.decode(), size)
    assert why is None
    assert found.tolist() == counts_of(mask)


@given(
    st.one_of(st.binary(max_size=30), st.text(max_size=30), st.text("0123456789:;<=>?@ABCOPQ_`abklmno", max_size=30)),
    sizes,
)
@settings(max_examples=400)
def test_hostile_strings_fit_or_are_refused(text, size):
    found, why = masks.mend_counts(text, size)
    assert (found is None) == (why is not None)
    if found is not None:
        assert found.sum(dtype=np.int64) == size[0] * size[1]
        assert masks.region_mask(Region(0, counts=found), size).shape == size


BAD_COUNTS = {
    "sum too small": [5, 2],
    "sum too large": [5, 2, 18],
    "negative": [-1, 25],
    "negative that sums": [30, -6],
    "decimals": [5.0, 19.0],
    "words": ["5", "19"],
    "nothing": [],
    "null": None,
    "nested": [[24]],
    "ragged": [[1], [2, 3]],
    "a hole": [5, None],
    "huge": [2**70, 1],
    "wraps to the right sum": [2**64 - 1, 25],
    "wraps int64": [2**62, 2**62, 2**62, 2**62, 24],
    "yes and no": [True, False],
    "a number": 24,
    "a mapping": {"a": 1},
    "endless string": "o" * 200_000,
    "far too large string": "oooooo1" * 3,
}


@pytest.mark.parametrize("name", BAD_COUNTS)
def test_run_lengths_that_do_not_fit_are_refused_with_a_reason(name):
    found, why = masks.mend_counts(BAD_COUNTS[name], (4, 6))
    assert found is None
    assert "run-length" in why


def test_run_lengths_of_another_image_are_never_drawn():
    strange = Region(1, counts=np.array([5, 2], np.uint32))
    for door in (masks.region_rle, masks.region_mask, masks.region_area, lambda r, size: masks.paint([r], size)):
        with pytest.raises(DataError, match="4 x 6"):
            door(strange, (4, 6))


# --- polygons


def test_the_polygon_vector():
    drawn = polygon(1, 1, 4, 1, 4, 3, 1, 3)
    expected = np.zeros((4, 6), bool)
    expected[1:3, 1:4] = True  # right and bottom edge excluded
    assert np.array_equal(masks.region_mask(drawn, (4, 6)), expected)


def test_a_polygon_of_two_points_is_no_box_and_no_polygon_is_nothing():
    assert masks.region_area(polygon(1, 1, 3, 2), (4, 6)) == 0
    assert masks.region_area(Region(1), (4, 6)) == 0
    assert not masks.paint([Region(1), polygon(1, 1, 3, 2)], (4, 6)).any()


coordinates = st.one_of(
    st.floats(-60, 140, width=32), st.integers(-60, 140).map(float), st.integers(-20, 200).map(lambda v: v / 2)
)
polygons = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=9).map(
    lambda points: [v for p in points for v in p]
)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # pycocotools under numpy 2
@given(st.lists(polygons, min_size=1, max_size=4), st.tuples(st.integers(1, 80), st.integers(1, 80)))
@settings(max_examples=300)
def test_polygons_equal_pycocotools(flats, size):
    official = pytest.importorskip("pycocotools.mask", exc_type=ImportError)
    expected = official.decode(official.merge(official.frPyObjects(flats, *size))).astype(bool)
    drawn = Region(1, tuple(np.array(flat).reshape(-1, 2) for flat in flats))
    assert np.array_equal(masks.region_mask(drawn, size), expected)
    assert masks.region_rle(drawn, size) == official.merge(official.frPyObjects(flats, *size))
    assert np.array_equal(masks.paint([drawn], size), expected)


@given(st.lists(polygons, min_size=1, max_size=4), sizes)
def test_several_polygons_are_their_union(flats, size):
    parts = [np.array(flat).reshape(-1, 2) for flat in flats]
    expected = np.any([masks.region_mask(Region(1, (part,)), size) for part in parts], axis=0)
    assert np.array_equal(masks.region_mask(Region(1, tuple(parts)), size), expected)
    assert masks.region_area(Region(1, tuple(parts)), size) == expected.sum()


@given(polygons, sizes)
def test_a_usable_polygon_keeps_its_coordinates(flat, size):
    found, why = masks.mend_polygon(flat, size)
    if why is None:
        assert found == flat
    else:
        assert found is None
        assert masks.region_area(Region(1, (np.array(flat).reshape(-1, 2),)), size) == 0


BAD_POLYGONS = {
    "odd": ([1, 1, 4, 1, 4, 3, 1], "odd"),
    "two points": ([1, 1, 4, 1], "fewer than 3"),
    "nothing": ([], "fewer than 3"),
    "NaN": ([1, 1, 4, float("nan"), 4, 3], "not finite"),
    "infinite": ([1, 1, 4, float("inf"), 4, 3], "not finite"),
    "both infinities": ([float("inf"), 1, float("-inf"), 1, 4, 3], "not finite"),
    "1e30": ([0, 0, 1e30, 0, 1e30, 1e30], "far outside"),
    "1e9": ([0, 0, 1e9, 0, 4, 4], "far outside"),
    "integer without end": ([0, 0, 10**400, 0, 4, 4], "no list of numbers"),
    "left of it": ([-9, 1, -4, 1, -4, 3], "wholly outside"),
    "below it": ([1, 11, 4, 11, 4, 13], "wholly outside"),
    "words": (["1", "1", "4", "1", "4", "3"], "no list of numbers"),
    "a word": ([1, 1, 4, "1", 4, 3], "no list of numbers"),
    "null inside": ([1, 1, None, 1, 4, 3], "no list of numbers"),
    "pairs": ([[1, 1], [4, 1], [4, 3], [1, 3], [0, 0], [1, 2]], "no list of numbers"),
    "a mapping": ({"size": [4, 6]}, "no list of numbers"),
    "a string": ("1 1 4 1 4 3", "no list of numbers"),
    "null": (None, "no list of numbers"),
    "a number": (7, "no list of numbers"),
}


@pytest.mark.parametrize("name", BAD_POLYGONS)
def test_polygons_that_cannot_be_drawn_are_refused_with_a_reason(name):
    flat, reason = BAD_POLYGONS[name]
    found, why = masks.mend_polygon(flat, (4, 6))
    assert found is None
    assert reason in why


def test_polygons_partly_outside_and_arrays_are_kept():
    flat = [-3.5, -2, 4, -1, 9, 3, 1, 30]
    assert masks.mend_polygon(flat, (4, 6)) == (flat, None)
    assert masks.mend_polygon(np.array(flat), (4, 6)) == (flat, None)
    assert masks.mend_polygon(tuple(flat), (4, 6)) == (flat, None)


def test_coordinates_no_one_checked_neither_hang_nor_crash():
    start = time.process_time()
    values = (1e9, -1e9, 1e30, -1e30, float("nan"), float("inf"), 5e15, 2**31, 2**33)
    for a in values:
        for b in values:
            flat = [0.0, 0.0, a, b, 4.0, 4.0, b, a]
            assert masks.region_mask(polygon(*flat), (40, 60)).shape == (40, 60)
    assert time.process_time() - start < 5


# --- painting


def painted_slowly(regions, size):
    """The law: crowds as VOID, then the rest by falling area, ties in the order given; each covers what is below it."""
    canvas = np.zeros(size, np.uint8)
    layers = [(r, masks.region_mask(r, size)) for r in regions]
    for r, mask in layers:
        if r.crowd:
            canvas[mask] = VOID
    rest = [(-int(mask.sum()), i, r, mask) for i, (r, mask) in enumerate(layers) if not r.crowd]
    for _, _, r, mask in sorted(rest, key=lambda item: item[:2]):
        canvas[mask] = r.label
    return canvas


@given(drawn_masks(count=5), st.lists(st.tuples(st.integers(0, 255), st.booleans()), min_size=5, max_size=5))
def test_painting_order(drawn, kinds):
    size, found = drawn
    regions = [region(mask, label, crowd=crowd) for mask, (label, crowd) in zip(found, kinds)]
    assert np.array_equal(masks.paint(regions, size), painted_slowly(regions, size))


@given(st.lists(st.tuples(polygons, st.integers(0, 3)), max_size=6), st.tuples(st.integers(1, 90), st.integers(1, 90)))
def test_painting_order_of_polygons(drawn, size):
    regions = [polygon(*flat, label=label) for flat, label in drawn]
    found = masks.paint(regions, size)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert found.flags.writeable
    assert np.array_equal(found, painted_slowly(regions, size))


def test_a_mirror_stays_visible_on_its_door_and_the_later_of_two_equals_wins():
    door, mirror = polygon(0, 0, 8, 0, 8, 8, 0, 8, label=1), polygon(2, 2, 4, 2, 4, 4, 2, 4, label=2)
    for order in ([door, mirror], [mirror, door]):
        assert np.unique(masks.paint(order, (8, 8)), return_counts=True)[1].tolist() == [60, 4]
    twin = polygon(2, 2, 4, 2, 4, 4, 2, 4, label=3)
    assert masks.paint([mirror, twin], (8, 8))[2, 2] == 3
    assert masks.paint([twin, mirror], (8, 8))[2, 2] == 2


def test_a_small_crowd_does_not_cover_a_large_object():
    crowd = polygon(0, 0, 3, 0, 3, 3, 0, 3, crowd=True)
    found = masks.paint([polygon(1, 0, 8, 0, 8, 8, 1, 8, label=4), crowd], (8, 8))
    assert found[0, 0] == VOID
    assert found[0, 2] == 4


# --- areas


@given(drawn_masks(count=5), st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=5, max_size=5))
def test_class_areas_are_unions(drawn, kinds):
    size, found = drawn
    regions = tuple(region(mask, label, crowd=crowd) for mask, (label, crowd) in zip(found, kinds))
    expected = [
        np.any([np.zeros(size, bool)] + [m for m, (k, _) in zip(found, kinds) if k == c], axis=0).sum()
        for c in range(4)
    ]
    areas = masks.class_areas(Record("a", "a.jpg", size, regions), 4)
    assert areas.dtype == np.int64
    assert areas.tolist() == expected


def test_class_areas_leave_void_and_unknown_classes_out(tmp_path):
    void = polygon(0, 0, 8, 0, 8, 8, 0, 8, label=VOID)
    assert masks.class_areas(Record("a", "a.jpg", (8, 8), (void,)), 3).tolist() == [0, 0, 0]
    path = written(tmp_path, np.array([[0, 1, 9], [2, 9, 1]]), 8, grey=True)
    record = Record("a", "a.jpg", (2, 3), label_map=str(path), coding=Coding((0, 1, 2, 9), (0, 1, 2, VOID)))
    assert masks.class_areas(record, 4).tolist() == [1, 2, 1, 0]


COCO_SETS = (
    "car-parts/trainingset/annotations.json",
    "car-parts/testset/annotations.json",
    "coco_tiny/annotations/instances_train2017.json",
    "coco_tiny/annotations/instances_val2017.json",
)


@pytest.mark.parametrize("name", COCO_SETS)
def test_class_areas_equal_the_counted_facts(real_data, name):
    facts = json.loads((real_data / "facts.json").read_text())[name]["pixels_union_per_class"]
    source = json.loads((real_data / name).read_text())
    names = {category["id"]: category["name"] for category in source["categories"]}
    positions = {number: i for i, number in enumerate(names)}
    drawn = defaultdict(list)
    for annotation in source["annotations"]:
        drawn[annotation["image_id"]].append(annotation)
    total = np.zeros(len(names), np.int64)
    for image in source["images"]:
        size = (image["height"], image["width"])
        regions = tuple(from_coco(a, size, positions[a["category_id"]]) for a in drawn[image["id"]])
        total += masks.class_areas(Record("", "", size, regions), len(names))
    assert {n: int(a) for n, a in zip(names.values(), total) if a} == {n: a for n, a in facts.items() if a}


def from_coco(annotation, size, label):
    shape, crowd = annotation["segmentation"], bool(annotation.get("iscrowd"))
    if isinstance(shape, dict):
        return Region(label, counts=masks.mend_counts(shape["counts"], size)[0], crowd=crowd)
    parts = [masks.mend_polygon(flat, size)[0] for flat in shape]
    return Region(label, tuple(np.array(flat, float).reshape(-1, 2) for flat in parts), crowd=crowd)


# --- label-map files


def written(folder, values, bits, *, grey):
    """A PNG written bit by bit: grey or palette indices of 1, 2, 4, 8 or 16 bits."""
    height, width = values.shape
    rows = b""
    for row in values:
        digits = "".join(format(int(v), f"0{bits}b") for v in row)
        digits += "0" * (-len(digits) % 8)
        rows += b"\0" + int(digits, 2).to_bytes(len(digits) // 8, "big")
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 0 if grey else 3, 0, 0, 0))]
    if not grey:
        chunks.append((b"PLTE", np.random.default_rng(1).integers(0, 256, 3 << bits, np.uint8).tobytes()))
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    framed = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in chunks]
    path = folder / f"{bits}-{grey}.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(framed))
    return path


DEPTHS = [(1, True), (2, True), (4, True), (8, True), (16, True), (1, False), (2, False), (4, False), (8, False)]


@pytest.mark.parametrize(("bits", "grey"), DEPTHS)
def test_indices_are_read_as_stored_whatever_the_depth(tmp_path, bits, grey):
    values = np.random.default_rng(bits).integers(0, min(2**bits, 5000), (13, 21))
    path = written(tmp_path, values, bits, grey=grey)
    known = np.unique(values)
    assert masks.stored_values(path, False) == {int(v): int((values == v).sum()) for v in known}
    coding = Coding(tuple(known.tolist()), tuple((known % 250).tolist()))
    found = masks.read_label_map(path, coding, (13, 21))
    assert found.dtype == np.uint8
    assert found.flags.writeable
    assert np.array_equal(found, values % 250)


@pytest.mark.parametrize("form", ["PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_exact_kinds_of_files_hold_indices(tmp_path, form):
    values = np.random.default_rng(0).integers(0, 9, (20, 30), dtype=np.uint8)
    path = tmp_path / "labels"
    picture = Image.fromarray(values)
    picture.save(path, form, **({"lossless": True} if form == "WEBP" else {}))
    every = tuple(range(9))
    assert np.array_equal(masks.read_label_map(path, Coding(every, every), (20, 30)), values)


def test_grey_stored_as_colour_is_still_an_index(tmp_path):
    values = np.array([[0, 255], [255, 0]], np.uint8)
    coding = Coding((0, 255), (0, 1))
    for layers in (3, 4):
        stack = np.repeat(values[..., None], layers, axis=2)
        stack[..., 3:] = 255
        Image.fromarray(stack).save(tmp_path / "a.png")
        assert masks.read_label_map(tmp_path / "a.png", coding, (2, 2)).tolist() == [[0, 1], [1, 0]]
    Image.fromarray(np.dstack([values, np.full_like(values, 255)])).save(tmp_path / "a.png")
    assert masks.read_label_map(tmp_path / "a.png", coding, (2, 2)).tolist() == [[0, 1], [1, 0]]
    Image.fromarray(np.array([[[1, 2, 3]]], np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(DataError, match="colours"):
        masks.read_label_map(tmp_path / "b.png", coding, (1, 1))


COLOURS = {(0, 0, 0): 0, (128, 0, 0): 1, (0, 0, 128): 2, (224, 224, 192): VOID, (255, 255, 255): 3}
COLOUR_CODING = Coding(
    *zip(*sorted(((r << 16 | g << 8 | b), label) for (r, g, b), label in COLOURS.items())), colour=True
)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_colours_stand_for_classes(tmp_path, mode):
    which = np.random.default_rng(0).integers(0, len(COLOURS), (20, 30))
    stored = np.array(list(COLOURS), np.uint8)[which]
    expected = np.array(list(COLOURS.values()), np.uint8)[which]
    picture = Image.fromarray(stored)
    (picture.quantize(len(COLOURS)) if mode == "P" else picture.convert(mode)).save(tmp_path / "a.png")
    assert np.array_equal(masks.read_label_map(tmp_path / "a.png", COLOUR_CODING, (20, 30)), expected)
    counts = masks.stored_values(tmp_path / "a.png", True)
    assert counts == {
        r << 16 | g << 8 | b: int((which == i).sum()) for i, (r, g, b) in sorted(enumerate(COLOURS), key=lambda x: x[1])
    }
    assert list(counts) == sorted(counts)


def test_transparent_and_unknown_colours_are_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[[128, 0, 0, 255], [128, 0, 0, 254]]], np.uint8)).save(path)
    with pytest.raises(DataError, match="transparent"):
        masks.read_label_map(path, COLOUR_CODING, (1, 2))
    Image.fromarray(np.array([[[128, 0, 0], [128, 0, 1], [128, 0, 1]]], np.uint8)).save(path)
    with pytest.raises(DataError, match=r"a\.png: .*#800001 \(2 pixels\)"):
        masks.read_label_map(path, COLOUR_CODING, (1, 3))


def test_unknown_values_are_named_with_their_pixels(tmp_path):
    path = written(tmp_path, np.array([[0, 1, 7, 7], [9, 1, 7, 0]]), 8, grey=False)
    with pytest.raises(DataError, match=r"7 \(3 pixels\), 9 \(1 pixels\)") as caught:
        masks.read_label_map(path, Coding((0, 1), (0, 1)), (2, 4))
    assert str(path) in str(caught.value)
    many = written(tmp_path, np.arange(256).reshape(16, 16), 8, grey=True)
    with pytest.raises(DataError, match="and 248 more"):
        masks.read_label_map(many, Coding((), ()), (16, 16))


def test_another_size_names_both(tmp_path):
    path = written(tmp_path, np.zeros((5, 7)), 8, grey=False)
    with pytest.raises(DataError, match=r"5 x 7.*7 x 5"):
        masks.read_label_map(path, Coding((0,), (0,)), (7, 5))


def test_jpeg_label_maps_need_a_threshold(tmp_path):
    path = tmp_path / "mask.jpg"
    values = np.zeros((32, 32), np.uint8)
    values[8:24, 8:24] = 255
    for picture in (Image.fromarray(values), Image.fromarray(values).convert("RGB")):
        picture.save(path, quality=80)
        with pytest.raises(DataError, match="threshold"):
            masks.read_label_map(path, Coding((0, 255), (0, 1)), (32, 32))
        with pytest.raises(DataError, match="threshold"):
            masks.stored_values(path, True)
        assert masks.stored_values(path, False, 128) == {0: 768, 255: 256}
        found = masks.read_label_map(path, Coding((0, 255), (0, 1), threshold=128), (32, 32))
        assert np.array_equal(found, values // 255)


def test_a_threshold_cuts_at_its_level(tmp_path):
    path = written(tmp_path, np.array([[0, 99, 100, 101, 255]]), 8, grey=True)
    coding = Coding((0, 255), (0, 1), threshold=100)
    assert masks.read_label_map(path, coding, (1, 5)).tolist() == [[0, 0, 1, 1, 1]]
    path = written(tmp_path, np.array([[0, 99, 100, 101, 255]]) << 8, 16, grey=True)
    assert masks.read_label_map(path, coding, (1, 5)).tolist() == [[0, 0, 1, 1, 1]]


def test_an_orientation_is_never_applied_to_a_label_map(tmp_path):
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    tags = Image.Exif()
    tags[0x0112] = 6
    Image.fromarray(values).save(tmp_path / "a.png", exif=tags)
    every = tuple(range(6))
    assert np.array_equal(masks.read_label_map(tmp_path / "a.png", Coding(every, every), (2, 3)), values)


def test_broken_label_maps_are_a_sentence(tmp_path):
    path = written(tmp_path, np.zeros((50, 70)), 8, grey=False)
    whole = path.read_bytes()
    for data in (whole[:-30], b"", b"<html>", whole[:20]):
        path.write_bytes(data)
        with pytest.raises(DataError, match=path.name):
            masks.stored_values(path, False)


def test_the_door_reads_the_file_or_paints_the_regions(tmp_path):
    path = written(tmp_path, np.array([[0, 1], [2, 1]]), 2, grey=False)
    coding = Coding((0, 1, 2), (2, 0, VOID))
    record = Record("a", "a.jpg", (2, 2), label_map=str(path), coding=coding)
    assert masks.label_map(record).tolist() == [[2, 0], [VOID, 0]]
    record = Record("a", "a.jpg", (2, 2), (polygon(0, 0, 1, 0, 1, 2, 0, 2, label=5),))
    assert masks.label_map(record).tolist() == [[5, 0], [5, 0]]


VOC_CLASSES = (
    "background aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person "
    "pottedplant sheep sofa train tvmonitor"
)


@pytest.mark.parametrize("split", ["train", "val"])
def test_real_palette_files_hold_the_counted_pixels(real_data, split):
    facts = json.loads((real_data / "facts.json").read_text())[f"VOCdevkit/VOC2012 {split}"]["pixels_per_value"]
    names = {**dict(enumerate(VOC_CLASSES.split())), VOID: "VOID"}
    folder = real_data / "VOCdevkit" / "VOC2012"
    total = defaultdict(int)
    for name in (folder / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().split():
        for value, count in masks.stored_values(folder / "SegmentationClass" / f"{name}.png", False).items():
            total[names[value]] += count
    assert total == facts
