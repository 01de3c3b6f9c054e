"""YOLO segmentation: rows good and bad, images without rows, data.yaml in its dialects, the real sets counted."""

import json

import numpy as np
import pytest
from truth_writers import fates, photo, save_photo

from maskwright.core.errors import DataError, RecipeError
from maskwright.core.types import VOID
from maskwright.data.formats import yolo
from maskwright.data.ledger import Ledger
from maskwright.data.open import open_data, recognise
from maskwright.imaging import masks

SIZE = (8, 12)
LEFT = "0 0 0 0.5 0 0.5 1 0 1"  # the left half
TOP = "4 0 0 1 0 1 0.5 0 0.5"


def make(folder, rows, names=None, **config):
    """images/train/a.jpg ... with labels/train/a.txt of the given rows (None: no file), and data.yaml."""
    for seed, (name, text) in enumerate(rows.items()):
        save_photo(folder / "images" / f"{name}.jpg", photo(SIZE, seed=seed))
        if text is not None:
            target = folder / "labels" / f"{name}.txt"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
    about = {"names": {0: "cat", 4: "dog"} if names is None else names, **config}
    (folder / "data.yaml").write_text(json.dumps(about))
    return folder


def read(path, **options):
    ledger = Ledger()
    found = yolo.read(path, ledger, **options)
    ledger.reconcile()
    return found, ledger


def test_rows_become_regions_and_ids_with_gaps_classes(tmp_path):
    folder = make(
        tmp_path, {"train/a": f"{LEFT}\n\n{TOP}\n", "val/b": "", "val/c": None}, train="images/train", val="images/val"
    )
    found, ledger = read(folder)
    assert found.classes == ("background", "cat", "dog")
    expected = np.zeros(SIZE, np.uint8)
    expected[:, :6] = 1  # the two are equally large: the later one is painted last
    expected[:4] = 2
    maps = {record.id: masks.label_map(record) for record in found}
    np.testing.assert_array_equal(maps.pop("images/train/a.jpg"), expected)
    assert not any(label_map.any() for label_map in maps.values())
    assert [record.split for record in found] == ["train", "val", "val"]
    assert ledger.totals()["annotation"] == {"seen": 2, "used": 2, "repaired": 0, "ignored": 0, "refused": 0}
    assert any("1 image has no label file" in note for note in ledger.notes)
    assert any("gaps, from 0 to 4" in note for note in ledger.notes)


@pytest.mark.parametrize(
    ("row", "fate", "why"),
    [
        ("7 0 0 1 0 1 1", "refused", "no class has the number 7"),
        ("cat 0 0 1 0 1 1", "refused", "no class has the number cat"),
        ("-1 0 0 1 0 1 1", "refused", "no class has the number -1"),
        ("0 0.5 0.5 1 1", "ignored", "a box, no polygon"),
        ("0 0 0 1 0 1 1 0.9", "refused", "a polygon with an odd number of coordinates"),
        ("0 0 0", "refused", "a polygon with fewer than 3 points"),
        ("0 0 0 1 x 1 1", "refused", "a row with something else than numbers"),
        ("0 0 0 nan 0 1 1", "refused", "a polygon with coordinates that are not finite"),
        ("0 0 0 11 0 11 7", "refused", "its coordinates are not shares (0..1) of the image's width and height"),
        ("0 1.1 0 1.2 0 1.2 1", "refused", "a polygon wholly outside the image"),
    ],
)
def test_rows_that_are_not_used_say_why(row, fate, why, tmp_path):
    found, ledger = read(make(tmp_path, {"a": f"{LEFT}\n{row}"}))
    assert len(found) == 1
    assert ledger.count("annotation", "used") == 1
    assert fates(ledger, fate) == {("annotation", "a.txt:2"): why}


def test_a_little_over_the_border_is_clipped_and_7_0_is_7(tmp_path):
    found, ledger = read(make(tmp_path, {"a": "4.0 -0.1 -0.1 0.5 -0.1 0.5 1.1 -0.1 1.1"}))
    expected = np.zeros(SIZE, np.uint8)
    expected[:, :6] = 2
    np.testing.assert_array_equal(masks.label_map(found[0]), expected)
    assert not ledger.lines


def test_images_without_a_label_file(tmp_path):
    folder = make(tmp_path, {"train/a": LEFT, "train/b": None, "extra/c": None, "extra/d": LEFT}, train="images/train")
    found, ledger = read(folder)
    assert [record.id for record in found] == ["images/extra/d.jpg", "images/train/a.jpg", "images/train/b.jpg"]
    assert [record.split for record in found] == [None, "train", "train"]
    assert fates(ledger, "ignored")["image", "c.jpg"] == "unlabelled: it has no label file"
    found, ledger = read(folder, unlabelled="ignore")
    assert [record.id for record in found] == ["images/extra/d.jpg", "images/train/a.jpg"]
    with pytest.raises(RecipeError, match="`unlabelled` cannot be `drop`"):
        read(folder, unlabelled="drop")


@pytest.mark.parametrize(
    ("photo_name", "label_name"),
    [
        ("images/my_images/a", "labels/my_images/a"),
        ("images/images_of_cats/a", "labels/images_of_cats/a"),
        ("train/images/a", "train/labels/a"),
        ("images/images/a", "images/labels/a"),  # the last folder called images is the one beside labels
        ("my_images/a", "my_images/a"),
    ],
)
def test_label_files_of_folders_called_anything(photo_name, label_name, tmp_path):
    save_photo(tmp_path / f"{photo_name}.jpg", photo(SIZE))
    (tmp_path / label_name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / f"{label_name}.txt").write_text(LEFT)
    (tmp_path / "data.yaml").write_text(json.dumps({"names": {0: "cat"}}))
    found, _ = read(tmp_path)
    assert [len(record.regions) for record in found] == [1]


def test_every_file_has_a_fate(tmp_path):
    folder = make(tmp_path, {"a": LEFT, "b": LEFT, "c": LEFT})
    (folder / "images" / "b.jpg").write_bytes(b"\xff\xd8\xff no image")
    (folder / "labels" / "c.txt").write_bytes(b"\xff\xfe\x00")
    (folder / "labels" / "lost.txt").write_text(LEFT)
    (folder / "labels" / "train.cache").write_bytes(b"x")
    (folder / "readme.txt").write_text("hello")
    found, ledger = read(folder)
    assert [record.id for record in found] == ["images/a.jpg"]
    refused = fates(ledger, "refused")
    assert {key for key in refused if key[0] == "image"} == {("image", "b.jpg"), ("image", "c.jpg")}
    assert refused["annotation", "lost.txt"] == "a label file without an image"
    assert refused["annotation", "c.txt"].startswith("cannot be read as text")
    ignored = fates(ledger, "ignored")
    assert ignored["annotation", "b.txt:1"] == "its image is refused"
    assert ("file", "readme.txt") in ignored
    assert ("file", "train.cache") in ignored
    assert ledger.totals()["file"]["seen"] == 10


@pytest.mark.parametrize(
    ("config", "splits"),
    [
        ({"train": "images/train", "val": "images/val"}, ["train", "val"]),
        ({"train": "../images/train", "val": "../images/val", "test": "../test/images"}, ["train", "val"]),
        ({"path": "/home/me/pets", "train": "images/train", "val": ["images/val"]}, ["train", "val"]),
        ({"path": ".", "train": "/home/me/pets/images/train", "val": "./images/val/"}, ["train", "val"]),
        ({"train": "images/train", "val": "images/train"}, [None, "val"]),  # by the folder's name where no list says
        ({"train": "train.txt", "val": "val.txt"}, ["train", "val"]),
        ({"nc": 2}, ["train", "val"]),
    ],
)
def test_lists_are_found_however_the_paths_are_written(config, splits, tmp_path):
    folder = make(tmp_path, {"train/a": LEFT, "val/b": TOP}, **config)
    (folder / "train.txt").write_text("/data/elsewhere/images/train/a.jpg\n")
    (folder / "val.txt").write_text("./images/val/b.jpg\n")
    found, _ = read(folder)
    assert [record.split for record in found] == splits


def test_labels_beside_the_images_and_names_in_a_text_file(tmp_path):
    save_photo(tmp_path / "a.jpg", photo(SIZE))
    (tmp_path / "a.txt").write_text("1 0 0 1 0 1 1 0 1")
    (tmp_path / "classes.txt").write_text("cat\ndog\n")
    assert recognise(tmp_path)[0] == "yolo"
    found, ledger = read(tmp_path)
    assert found.classes == ("background", "cat", "dog")
    assert (masks.label_map(found[0]) == 2).all()
    assert ledger.totals()["file"]["used"] == 3
    found, _ = read(tmp_path, classes=["void", "background"])
    assert found.classes == ("background",)


def test_a_class_called_void_counts_nowhere(tmp_path):
    found, _ = read(make(tmp_path, {"a": LEFT}, ["void", "cat"]))
    assert found.classes == ("background", "cat")
    assert (masks.label_map(found[0])[:, :6] == VOID).all()


@pytest.mark.parametrize(
    ("rows", "names", "message"),
    [
        ({"a": None}, ["cat"], "no image has a label file"),
        ({"a": "0 0.5 0.5 1 1"}, ["cat"], "1 usable row is a box, none is a polygon"),
        ({"a": LEFT}, [], "nothing names the classes"),
        ({"a": LEFT}, [["cat"]], "`names` has an entry that names no class"),
        ({"a": LEFT}, {"one": "cat"}, "`names` has an entry that names no class"),
    ],
)
def test_sets_that_cannot_be_read(rows, names, message, tmp_path):
    with pytest.raises(DataError, match=message):
        read(make(tmp_path, rows, names))


def test_recognised_by_its_rows_or_its_yaml(tmp_path):
    folder = make(tmp_path / "set", {"train/a": LEFT}, ["cat"], train="images/train")
    assert recognise(folder) == ("yolo", "data.yaml and label files with rows")
    assert recognise(folder / "data.yaml")[0] == "yolo"
    assert len(open_data(folder / "data.yaml").data) == 1
    (folder / "data.yaml").unlink()
    assert recognise(folder) == ("yolo", "label files with rows of numbers")
    (folder / "labels" / "train" / "a.txt").write_text("a cat")
    assert yolo.sniff(folder)[0] == 0


@pytest.mark.parametrize("name", ["feral-cat-yolov8-seg", "coco128-seg"])
def test_real_sets_are_read_whole(name, real_data):
    facts = json.loads((real_data / "facts.json").read_text())[name]
    opened = open_data(real_data / name)
    assert opened.format == "yolo"
    assert opened.ledger.num_refused == 0
    assert len(opened.data) == facts["images"]
    assert opened.ledger.count("annotation", "used") == len(opened.data.regions) == facts["polygons"]
    counts = np.bincount(opened.data.regions.label)
    assert sorted(counts[counts > 0].tolist()) == sorted(facts["rows_per_class_id"].values())
    assert {record.split for record in opened.data} == {"train", "val"}
