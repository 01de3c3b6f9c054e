"""PASCAL VOC: lists, palette, fates of every file, sets of other classes in the same layout."""

import json

import numpy as np
import pytest
from truth_writers import COLOURS, data, fates, photo, save_mask, save_photo

from maskwright.core.errors import DataError, SetupError
from maskwright.data.formats import voc
from maskwright.data.ledger import Ledger
from maskwright.imaging import masks

# index -> colour, as the development kit prints them
PALETTE = {
    1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 4: (0, 0, 128), 5: (128, 0, 128), 6: (0, 128, 128),
    7: (128, 128, 128), 8: (64, 0, 0), 9: (192, 0, 0), 10: (64, 128, 0), 11: (192, 128, 0), 12: (64, 0, 128),
    13: (192, 0, 128), 14: (64, 128, 128), 15: (192, 128, 128), 16: (0, 64, 0), 17: (128, 64, 0), 18: (0, 192, 0),
    19: (128, 192, 0), 20: (0, 64, 128), 255: (224, 224, 192),
}  # fmt: skip
MASK = np.array([[0, 8, 8, 255], [12, 12, 0, 20]], np.uint8)


def read(path, **options):
    ledger = Ledger()
    found = voc.read(path, ledger, **options)
    ledger.reconcile()
    return found, ledger


def make(base, names, lists, mask=MASK):
    for i, name in enumerate(names):
        save_photo(base / "JPEGImages" / f"{name}.jpg", photo(mask.shape[:2], seed=i))
        save_mask(
            base / "SegmentationClass" / f"{name}.png", mask, palette=voc.voc_palette() if mask.ndim == 2 else None
        )
    for split, text in lists.items():
        path = base / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, newline="")
    return base


def test_palette_is_the_development_kits():
    assert {i: tuple(voc.voc_palette()[i].tolist()) for i in PALETTE} == PALETTE
    assert len({tuple(colour) for colour in voc.voc_palette().tolist()}) == 256


@pytest.mark.parametrize("given", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_reads_from_the_set_the_kit_or_the_folder_above(given, tmp_path):
    make(tmp_path / "VOCdevkit" / "VOC2012", "ab", {"train": "a\n", "val": "b \r\n", "trainval": "a\r\nb\r\n"})
    assert voc.sniff(tmp_path / given)[0] == 1.0
    found, ledger = read(tmp_path / given)
    assert found.classes == voc.CLASSES
    assert [(record.id, record.split) for record in found] == [("a", "train"), ("b", "val")]
    assert [masks.label_map(record).tolist() for record in found] == [MASK.tolist()] * 2
    assert not ledger.lines
    assert not ledger.notes


def test_every_file_has_a_fate(tmp_path):
    make(tmp_path, ["a", "b", "lost", "unlisted"], {"train": "a\nb\nlost\nnowhere\nbare\n", "train_aug": "b\n"})
    (tmp_path / "JPEGImages" / "lost.jpg").unlink()
    save_photo(tmp_path / "JPEGImages" / "bare.jpg", photo())
    save_photo(tmp_path / "JPEGImages" / "._a.jpg", b"x")
    save_photo(tmp_path / "JPEGImages" / "b.txt", b"x")
    save_mask(tmp_path / "SegmentationObject" / "a.png", MASK)
    save_photo(tmp_path / "Annotations" / "a.xml", b"<annotation/>")
    found, ledger = read(tmp_path)
    assert list(found.ids) == ["a", "b"]
    assert fates(ledger, "refused") == {
        ("image", "lost"): "its file in JPEGImages/ is missing",
        ("image", "nowhere"): "its file in JPEGImages/ is missing",
        ("image", "bare.jpg"): "its file in SegmentationClass/ is missing",
    }
    assert fates(ledger, "ignored") == {
        ("annotation", "lost.png"): "its image is refused",
        ("file", "unlisted.jpg"): "not in a segmentation list",
        ("file", "unlisted.png"): "not in a segmentation list",
        ("file", "train_aug.txt"): "another list: not needed for segmentation",
        ("file", "._a.jpg"): "AppleDouble file of macOS",
        ("file", "b.txt"): "not an image",
        ("file", "a.xml"): "boxes: not needed for segmentation",
    }
    assert ledger.totals()["file"] == {"seen": 14, "used": 8, "repaired": 0, "ignored": 6, "refused": 0}
    assert [record.objects for record in found] == [str(tmp_path / "SegmentationObject" / "a.png"), None]


def test_an_id_of_two_lists_is_validated_on_only(tmp_path):
    make(tmp_path, "ab", {"train": "a\nb\na\n", "val": "b\n"})
    found, ledger = read(tmp_path)
    assert [(record.id, record.split) for record in found] == [("a", "train"), ("b", "val")]
    assert len(ledger.notes) == 2


def test_without_lists_every_pair_is_taken(tmp_path):
    make(tmp_path, "ab", {})
    save_photo(tmp_path / "JPEGImages" / "c.jpg", photo())
    found, ledger = read(tmp_path)
    assert [(record.id, record.split) for record in found] == [("a", None), ("b", None)]
    assert fates(ledger, "ignored") == {("file", "c.jpg"): "unlabelled: it has no file in SegmentationClass/"}


def test_rgb_copies_are_read_by_exact_colour(tmp_path):
    make(tmp_path, "a", {"train": "a"}, voc.voc_palette()[MASK])
    found, _ = read(tmp_path)
    assert masks.label_map(found[0]).tolist() == MASK.tolist()
    other = voc.voc_palette()[MASK]
    other[0, 0] = (1, 0, 0)
    save_mask(tmp_path / "SegmentationClass" / "a.png", other)
    found, _ = read(tmp_path)
    with pytest.raises(DataError, match="010000"):
        masks.label_map(found[0])


@pytest.mark.parametrize(
    ("file", "text", "classes"),
    [
        ("class_names.txt", "_background_\ncat\ntv/monitor", ("background", "cat", "tv/monitor")),
        ("labels.txt", "__ignore__\n_background_\ncat\npotted plant\n", ("background", "cat", "potted plant")),
        ("classes.txt", "road\nsky\ntree", ("road", "sky", "tree")),
        ("classes.txt", "2: tree\n0: road\n1: sky", ("road", "sky", "tree")),
    ],
)
def test_classes_come_from_the_list_beside(file, text, classes, tmp_path):
    mask = np.array([[0, 1, 2, 255]], np.uint8)
    make(tmp_path, "a", {}, mask)
    (tmp_path / file).write_text(text)
    found, _ = read(tmp_path)
    assert found.classes == classes
    assert masks.label_map(found[0]).tolist() == mask.tolist()
    assert read(tmp_path, labels=file)[0].classes == classes


def test_a_value_that_is_no_class_is_refused_with_its_name(tmp_path):
    make(tmp_path, "a", {"train": "a"}, np.array([[0, 21]], np.uint8))
    found, _ = read(tmp_path)
    with pytest.raises(DataError, match="21"):
        masks.label_map(found[0])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("VOCtrainval_11-May-2012.tar", b"<!DOCTYPE html><html>", "web page"),
        ("VOCtrainval_11-May-2012.tar", b"x" * 600, "archive; unpack it first"),
        ("voc", b"PK\x03\x04", "archive"),
        ("voc.txt", b"hello", "a file where a folder is needed"),
        ("missing", None, "not found"),
    ],
)
def test_what_is_no_folder_is_named(name, content, words, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    assert voc.sniff(tmp_path / name)[0] < 0.3
    with pytest.raises(DataError, match=words):
        voc.read(tmp_path / name, Ledger())


def test_several_sets_are_not_mixed(tmp_path):
    make(tmp_path / "VOC2007", "a", {})
    make(tmp_path / "VOC2012", "a", {})
    with pytest.raises(DataError, match="VOC2007, VOC2012"):
        voc.read(tmp_path, Ledger())


def test_broken_headers_and_other_sizes_are_refused(tmp_path):
    make(tmp_path, ["good", "empty", "html", "small"], {})
    save_photo(tmp_path / "JPEGImages" / "empty.jpg", b"")
    save_photo(tmp_path / "SegmentationClass" / "html.png", b"<html>")
    save_mask(tmp_path / "SegmentationClass" / "small.png", MASK[:1])
    found, ledger = read(tmp_path)
    assert list(found.ids) == ["good"]
    assert fates(ledger, "refused") == {
        ("image", "empty.jpg"): "is empty (0 bytes)",
        ("annotation", "html.png"): "is a web page (HTML), not an image; download the image itself",
        ("image", "html.jpg"): "its label map cannot be used",
        ("annotation", "small.png"): "it is 4 x 1 pixels and its image 4 x 2",
        ("image", "small.jpg"): "its label map cannot be used",
    }


@pytest.mark.parametrize("of_stored", [True, False])
def test_labels_of_turned_photos(of_stored, tmp_path):
    """Labels that fit only the stored pixels switch EXIF orientation off; what fits both ways follows the others."""
    for name, orientation in (("turned", 6), ("plain", 1), ("half", 3)):
        save_photo(tmp_path / "JPEGImages" / f"{name}.jpg", photo((2, 4), orientation=orientation))
        mask = MASK.T if name == "turned" and not of_stored else MASK
        save_mask(tmp_path / "SegmentationClass" / f"{name}.png", np.ascontiguousarray(mask))
    found, ledger = read(tmp_path)
    assert {record.id: record.upright for record in found} == {
        "turned": not of_stored,
        "plain": True,
        "half": not of_stored,
    }
    assert all(masks.label_map(record).shape == record.size for record in found)
    assert ledger.count("image", "repaired") == (2 if of_stored else 0)


@pytest.mark.parametrize("split", ["train", None])
def test_round_trip(split, tmp_path):
    before = data(tmp_path / "photos", split=split)
    voc.write(before, tmp_path / "written")
    after, ledger = read(tmp_path / "written")
    assert ledger.num_refused == 0
    assert after.classes == before.classes
    assert sorted((record.id, record.split) for record in after) == sorted(
        (record.id, record.split) for record in before
    )
    again = {record.id: record for record in after}
    for record in before:
        np.testing.assert_array_equal(masks.label_map(again[record.id]), masks.label_map(record))
    with pytest.raises(SetupError, match="not empty"):
        voc.write(before, tmp_path / "written")


def test_vocs_own_classes_need_no_list(tmp_path):
    make(tmp_path / "voc", "ab", {"train": "a", "val": "b"})
    found, _ = read(tmp_path / "voc")
    voc.write(found, tmp_path / "copy")
    assert not (tmp_path / "copy" / "class_names.txt").exists()
    assert (tmp_path / "copy" / "SegmentationClass" / "a.png").exists()
    assert read(tmp_path / "copy")[0].classes == voc.CLASSES


def test_colour_lists_turn_palette_files_into_colours(tmp_path):
    """CVAT numbers its palette files by colour, not by class: the list of colours speaks."""
    palette = np.zeros((256, 3), np.uint8)
    palette[[5, 9]] = COLOURS[[1, 2]]
    save_photo(tmp_path / "JPEGImages" / "a.jpg", photo((1, 3)))
    save_mask(tmp_path / "SegmentationClass" / "a.png", np.array([[0, 9, 5]], np.uint8), palette=palette)
    lines = [
        f"{name}:{','.join(map(str, COLOURS[i].tolist()))}::" for i, name in enumerate(("background", "cat", "dog"))
    ]
    (tmp_path / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "\n".join(lines))
    found, _ = read(tmp_path)
    assert found.classes == ("background", "cat", "dog")
    assert masks.label_map(found[0]).tolist() == [[0, 2, 1]]


@pytest.mark.parametrize("split", ["train", "val"])
def test_real_counts(split, real_data):
    facts = json.loads((real_data / "facts.json").read_text())[f"VOCdevkit/VOC2012 {split}"]
    found, ledger = read(real_data / "VOCdevkit")
    assert not ledger.lines
    records = [record for record in found if record.split == split]
    assert len(records) == facts["listed"]
    counts = sum(np.bincount(masks.label_map(record).reshape(-1), minlength=256) for record in records)
    names = {**dict(enumerate(voc.CLASSES)), 255: "VOID"}
    assert {names[i]: int(n) for i, n in enumerate(counts) if n} == facts["pixels_per_value"]


def test_real_set_of_labelme(real_data):
    found, ledger = read(real_data / "labelme_voc3" / "data_dataset_voc")
    assert found.classes[-1] == "tv/monitor"
    assert ledger.totals()["image"]["used"] == 3
    counts = sum(np.bincount(masks.label_map(record).reshape(-1), minlength=256) for record in found)
    drawn = {name for name, count in zip(found.classes, counts, strict=False) if count}
    assert drawn == {"background", "bottle", "bus", "car", "chair", "person", "sofa"}
