"""Inspecting: counts equal a slow count, broken files are struck off with a reason, the cache changes nothing."""

import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskwright.core.table import Data, Packer
from maskwright.core.types import VOID, Coding
from maskwright.data import inspect as inspecting
from maskwright.data.inspect import inspect
from maskwright.data.ledger import Ledger
from maskwright.imaging import masks

CLASSES = ("background", "cat", "dog", "hat")


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "cache"))


def picture(path: Path, size=(20, 30), *, seed=0, orientation=1, mode="RGB") -> str:
    """An image file of stored height, width `size`."""
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    image = Image.fromarray(pixels).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, exif=exif)
    return str(path)


def told(data: Data) -> Ledger:
    """A ledger as the reader of `data` leaves it: everything used."""
    ledger = Ledger()
    for kind, count in (("image", len(data)), ("annotation", int(data.num_regions.sum() + (data.coding >= 0).sum()))):
        ledger.seen(kind, count)
        ledger.used(kind, count)
    return ledger


def drawn(folder: Path, num=5, **shape) -> Data:
    """Photos with polygons, run-lengths and crowds."""
    rng = np.random.default_rng(4)
    packer = Packer()
    for i in range(num):
        packer.image(f"i{i}", picture(folder / f"{i}.png", seed=i, **shape), (20, 30), split="train")
        for k in range(i):
            label, points = int(rng.integers(1, 4)), rng.random(8) * 20
            packer.region(label, polygons=[points], crowd=k == 3, id=10 * i + k)
        if i == 2:
            packer.region(1, counts=[50, 100, 450], id=99)
    return packer.pack(CLASSES)


def stored(folder: Path, num=4, labels=(0, 1, 2, 3, VOID)) -> Data:
    """Photos with label-map files of the values 0, 10, 20, 30 and 255."""
    packer = Packer()
    coding = Coding((0, 10, 20, 30, 255), labels)
    for i in range(num):
        values = np.random.default_rng(i).choice([0, 10, 20, 255], (20, 30)).astype(np.uint8)
        label_map = folder / f"m{i}.png"
        image = picture(folder / f"{i}.png", seed=i)
        Image.fromarray(values).save(label_map)
        packer.image(f"s{i}", image, (20, 30), label_map=str(label_map), coding=coding)
    return packer.pack(CLASSES)


def same(a, b) -> None:
    for name in ("pixels", "union", "void", "objects"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert list(a.digests) == list(b.digests)
    assert list(a.data.ids) == list(b.data.ids)
    np.testing.assert_array_equal(a.data.sizes, b.data.sizes)
    np.testing.assert_array_equal(a.data.upright, b.data.upright)


def test_counts_of_drawn_regions_equal_a_slow_count(tmp_path):
    data = drawn(tmp_path)
    found = inspect(data, told(data))
    for i, record in enumerate(data):
        label_map = masks.label_map(record)
        assert found.pixels[i].tolist() == [(label_map == c).sum() for c in range(4)]
        assert found.void[i] == (label_map == VOID).sum()
        for c in range(1, 4):
            over = [masks.region_mask(r, record.size) for r in record.regions if r.label == c]
            assert found.union[i, c] == (np.any(over, axis=0).sum() if over else 0)
    assert (found.union[:, 0] == found.pixels[:, 0]).all()
    assert found.objects.tolist() == [0] + [sum(r.label == c for x in data for r in x.regions) for c in (1, 2, 3)]
    assert found.presence.tolist() == (found.pixels > 0).tolist()
    assert len(set(found.digests)) == 5
    assert found.digest_of["i3"] == found.digests[3]


def test_counts_of_label_maps_equal_a_slow_count(tmp_path):
    data = stored(tmp_path)
    found = inspect(data, told(data))
    for i in range(4):
        values = np.asarray(Image.open(tmp_path / f"m{i}.png"))
        assert found.pixels[i].tolist() == [(values == v).sum() for v in (0, 10, 20, 30)]
        assert found.void[i] == (values == 255).sum()
    np.testing.assert_array_equal(found.union, found.pixels)
    assert found.objects.tolist() == [0] * 4


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_change_nothing(tmp_path, monkeypatch, workers):
    data = drawn(tmp_path, 20)
    first = inspect(data, told(data))
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "other"))
    same(first, inspect(data, told(data), workers=workers))


def test_select_keeps_rows_together(tmp_path):
    data = drawn(tmp_path)
    found = inspect(data, told(data))
    same(found.select([3, 1]), inspect(data.select([3, 1]), told(data)))


# ------------------------------------------------------------------------------------------------------ broken files


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def no_image(path):
    path.write_text("hello")


BROKEN = [
    (truncated, "truncated"),
    (no_image, "image"),
    (lambda path: path.write_bytes(b""), "empty"),
    (lambda path: path.unlink(), "cannot be read (no such file or directory)"),
    (lambda path: path.write_text("<!DOCTYPE html><html></html>"), "HTML"),
    (lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\n"), "Git LFS"),
    (lambda path: picture(path, (40, 30)), "the image is 30 x 40 pixels, its labels are for 30 x 20"),
]


@pytest.mark.parametrize(("spoil", "words"), BROKEN)
@pytest.mark.parametrize("kind", [drawn, stored])
def test_a_broken_image_is_refused_with_its_annotations(tmp_path, kind, spoil, words):
    data = kind(tmp_path)
    spoil(tmp_path / "2.png")
    ledger = told(data)
    found = inspect(data, ledger)
    assert list(found.data.ids) == [id for id in data.ids if not id.endswith("2")]
    assert len(found.pixels) == len(found.union) == len(found.void) == len(found.digests) == len(data) - 1
    refused = [line for line in ledger.lines if line.fate == "refused"]
    assert [(line.kind, line.item) for line in refused] == [("image", str(tmp_path / "2.png"))]
    assert words in refused[0].why
    ignored = [line for line in ledger.lines if line.fate == "ignored"]
    assert len(ignored) == (3 if kind is drawn else 1)
    assert {line.why for line in ignored} == {"its image is refused"}
    ledger.reconcile()
    assert ledger.count("image", "used") == len(data) - 1
    assert found.objects.sum() == sum(len(r.regions) for r in found.data)


BROKEN_MAPS = [
    (lambda path: Image.new("L", (30, 20), 77).save(path), "77 (600 pixels)"),
    (lambda path: Image.new("L", (30, 21)).save(path), "label map is 21 x 30"),
    (truncated, "truncated"),
    (no_image, "image"),
    (lambda path: path.unlink(), "not found"),
    (lambda path: Image.new("RGB", (30, 20), "red").save(path), "holds colours"),
]


@pytest.mark.parametrize(("spoil", "words"), BROKEN_MAPS)
def test_a_broken_label_map_is_refused_with_its_image(tmp_path, spoil, words):
    data = stored(tmp_path)
    spoil(tmp_path / "m1.png")
    ledger = told(data)
    found = inspect(data, ledger)
    assert list(found.data.ids) == ["s0", "s2", "s3"]
    by_kind = {line.kind: line for line in ledger.of("refused")}
    assert by_kind["annotation"].item == str(tmp_path / "m1.png")
    assert words in by_kind["annotation"].why
    assert by_kind["image"].why == "its label map cannot be used"
    ledger.reconcile()


def test_a_repaired_annotation_of_a_refused_image_keeps_one_line(tmp_path):
    data = drawn(tmp_path)
    ledger = Ledger()
    ledger.seen("image", 5)
    ledger.used("image", 5)
    total = int(data.num_regions.sum())
    ledger.seen("annotation", total)
    ledger.used("annotation", total - 1)
    ledger.repaired("annotation", f"/x.json: annotation 20 of {tmp_path / '2.png'}", "left out: a polygon")
    no_image(tmp_path / "2.png")
    inspect(data, ledger)
    ledger.reconcile()
    assert ledger.count("annotation", "repaired") == 0
    assert ledger.count("annotation", "used") == total - 3
    assert sorted(line.item for line in ledger.of("ignored")) == [
        f"/x.json: annotation 20 of {tmp_path / '2.png'}",
        f"annotation 21 of {tmp_path / '2.png'}",
        f"annotation 99 of {tmp_path / '2.png'}",
    ]


def test_nothing_left_is_no_crash(tmp_path):
    data = drawn(tmp_path, 2)
    for name in ("0.png", "1.png"):
        no_image(tmp_path / name)
    ledger = told(data)
    found = inspect(data, ledger)
    assert len(found.data) == 0
    assert found.pixels.shape == (0, 4)
    assert ledger.num_refused == 2
    empty = data.select([])
    assert len(inspect(empty, told(empty)).data) == 0


# ------------------------------------------------------------------------------------------------------- EXIF and sizes

TURNED = [
    # stored height and width, orientation, size that the labels are for -> upright, size; None = refused
    ((20, 30), 1, (20, 30), (True, (20, 30))),
    ((30, 20), 6, (20, 30), (True, (20, 30))),
    ((20, 30), 6, (20, 30), (False, (20, 30))),
    ((20, 30), 8, (20, 30), (False, (20, 30))),
    ((20, 30), 3, (20, 30), (True, (20, 30))),
    ((20, 30), 6, (0, 0), (True, (30, 20))),
    ((20, 30), 1, (0, 0), (True, (20, 30))),
    ((20, 30), 1, (30, 20), None),
    ((20, 30), 6, (40, 60), None),
]


@pytest.mark.parametrize(("stored_size", "orientation", "labelled", "expected"), TURNED)
def test_sizes_and_exif(tmp_path, stored_size, orientation, labelled, expected):
    packer = Packer()
    path = picture(tmp_path / "a.jpg", stored_size, orientation=orientation)
    packer.image("a", path, labelled)
    packer.region(1, polygons=[[1, 1, 9, 1, 9, 9]], id=1)
    data = packer.pack(CLASSES)
    for _ in range(2):  # the second time from the cache
        ledger = told(data)
        found = inspect(data, ledger)
        ledger.reconcile()
        if expected is None:
            assert [line.fate for line in ledger.lines if line.kind == "image"] == ["refused"]
            continue
        record = found.data[0]
        assert (record.upright, record.size) == expected
        lines = [(line.kind, line.item, line.fate) for line in ledger.lines]
        assert lines == ([] if record.upright else [("image", path, "repaired")])
        assert found.pixels.sum() + found.void.sum() == 600
    if orientation == 3:
        assert ledger.notes == ["1 image is mirrored or half-turned by EXIF, taken as displayed: a"]


# ---------------------------------------------------------------------------------------------------------------- notes


def test_notes(tmp_path):
    packer = Packer()
    square = [2, 2, 12, 2, 12, 12, 2, 12]
    frames = [Image.new("P", (30, 20), n) for n in range(3)]
    for n, frame in enumerate(frames):
        frame.putpixel((n, n), 9)
    frames[0].save(tmp_path / "moves.gif", save_all=True, append_images=frames[1:])
    paths = {"moves": str(tmp_path / "moves.gif"), "clear": picture(tmp_path / "clear.png", mode="RGBA")}
    paths |= {name: picture(tmp_path / f"{name}.png", seed=8) for name in ("one", "two")}
    paths["crowded"] = picture(tmp_path / "crowded.png", seed=5)
    for name, path in paths.items():
        packer.image(name, path, (20, 30))
        if name == "crowded":
            packer.region(1, counts=[0, 600], crowd=True)
        elif name != "clear":
            packer.region(2, polygons=[square])
    packer.region(1, polygons=[[1, 1, 2, 1, 2, 2]])
    packer.region(3, polygons=[[0, 0, 0.2, 0, 0.2, 0.2]])
    data = packer.pack((*CLASSES, "never"))
    ledger = told(data)
    inspect(data, ledger)
    assert ledger.notes == [
        "1 class has no pixel: hat",
        "1 image is animated, its first frame is used: moves",
        "1 image has transparency, which is laid over white: clear",
        "1 image is all VOID: crowded",
        "2 objects are smaller than 16 pixels",
        "1 image has no object",
        "the same file under 2 names: one, two",
    ]


@pytest.mark.parametrize(("highest", "told_of"), [(200, 1), (4095, 1), (65535, 0)])
def test_sixteen_bits_that_are_hardly_used_are_told(highest, told_of, tmp_path):
    grey = np.linspace(0, highest, 600).reshape(20, 30).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "dark.png")
    packer = Packer()
    packer.image("dark", str(tmp_path / "dark.png"), (20, 30))
    data = packer.pack(CLASSES)
    ledger = told(data)
    inspect(data, ledger)
    assert sum("16 bits of which only the lowest say something" in note for note in ledger.notes) == told_of


def test_overlaps_are_told(tmp_path):
    packer = Packer()
    packer.image("a", picture(tmp_path / "a.png"), (20, 30))
    packer.region(1, polygons=[[0, 0, 20, 0, 20, 10, 0, 10]])
    packer.region(2, polygons=[[0, 0, 2, 0, 2, 10, 0, 10]])
    data = packer.pack(CLASSES[:3])
    ledger = told(data)
    inspect(data, ledger)
    assert ledger.notes == ["10.0 % of the drawn pixels belong to two classes: the smaller object is in front"]


# ---------------------------------------------------------------------------------------------------------------- cache


def test_the_second_time_nothing_is_decoded(tmp_path, monkeypatch):
    for data in (drawn(tmp_path / "d"), stored(tmp_path / "s")):
        first = inspect(data, told(data))
        with monkeypatch.context() as patch:
            patch.setattr(inspecting, "_looked_at", lambda *_: pytest.fail("decoded again"))
            same(first, inspect(data, told(data)))


CHANGES = [
    lambda folder: picture(folder / "1.png", seed=77),  # another photo
    lambda folder: Image.new("L", (30, 20), 10).save(folder / "m1.png"),  # another label map
]


@pytest.mark.parametrize("change", CHANGES)
def test_changed_files_are_looked_at_again_and_only_they(tmp_path, monkeypatch, change):
    data = stored(tmp_path)
    inspect(data, told(data))
    time.sleep(0.02)
    change(tmp_path)
    looked = []
    original = inspecting._looked_at
    monkeypatch.setattr(inspecting, "_looked_at", lambda *a: looked.append(a[2]) or original(*a))
    again = inspect(data, told(data))
    assert looked == [1]
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "fresh"))
    same(again, inspect(data, told(data)))


def test_changed_labels_are_looked_at_again(tmp_path):
    data = drawn(tmp_path)
    first = inspect(data, told(data))
    packer = Packer()
    for n, record in enumerate(data):
        packer.record(record)
        if n == 0:
            packer.region(3, polygons=[[0, 0, 9, 0, 9, 9]])
    more = packer.pack(CLASSES)
    second = inspect(more, told(more))
    assert second.pixels[0, 3] > first.pixels[0, 3] == 0
    np.testing.assert_array_equal(second.pixels[1:], first.pixels[1:])
    other = stored(tmp_path / "s")
    plain = inspect(other, told(other))
    swapped = stored(tmp_path / "s", labels=(0, 2, 1, 3, VOID))
    np.testing.assert_array_equal(inspect(swapped, told(swapped)).pixels[:, [0, 2, 1, 3]], plain.pixels)


def break_files(folder: Path, content: bytes) -> None:
    for path in (folder / "cache" / "inspect").iterdir():
        path.write_bytes(content if content != b"half" else path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("content", [b"", b"rubbish", b"half", b"\x93NUMPY\x01\x00v\x00{'descr': 'broken'"])
def test_a_broken_cache_is_made_again(tmp_path, monkeypatch, content):
    data = drawn(tmp_path)
    first = inspect(data, told(data))
    break_files(tmp_path, content)
    same(first, inspect(data, told(data)))
    monkeypatch.setattr(inspecting, "_looked_at", lambda *_: pytest.fail("decoded again"))
    same(first, inspect(data, told(data)))


def test_a_pickle_in_the_cache_is_not_opened(tmp_path):
    data = drawn(tmp_path)
    first = inspect(data, told(data))
    for path in (tmp_path / "cache" / "inspect").iterdir():
        np.save(path, np.array([{"an": "object"}], dtype=object), allow_pickle=True)
    same(first, inspect(data, told(data)))


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "file"))
    data = drawn(tmp_path)
    assert len(inspect(data, told(data)).data) == 5


def test_broken_images_are_tried_again(tmp_path):
    """A photo that is mended is used the next time."""
    data = drawn(tmp_path)
    good = (tmp_path / "3.png").read_bytes()
    no_image(tmp_path / "3.png")
    assert len(inspect(data, told(data)).data) == 4
    (tmp_path / "3.png").write_bytes(good)
    assert len(inspect(data, told(data)).data) == 5
