"""COCO: every trap ends in a fate with a reason, what is written reads back the same, and the real files give their counts."""

import copy
import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from maskwright.core.errors import DataError, RecipeError, SetupError
from maskwright.core.table import Data, Packer
from maskwright.core.types import VOID, Coding
from maskwright.data.formats.coco import FORMAT
from maskwright.data.formats.coco_photos import Photos, split_of
from maskwright.data.ledger import Ledger
from maskwright.imaging import masks

H, W = 20, 30
SQUARE = [2.0, 3.0, 12.0, 3.0, 12.0, 13.0, 2.0, 13.0]
TRIANGLE = [20, 1, 29, 1, 25, 18]


def photo(path: Path, size: tuple[int, int] = (H, W)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1]).save(path)
    return path


def image(id: Any = 1, name: Any = "a.png", **changes: Any) -> dict[str, Any]:
    return {"id": id, "file_name": name, "height": H, "width": W} | changes


def annotation(id: Any = 1, image_id: Any = 1, category_id: Any = 1, **changes: Any) -> dict[str, Any]:
    own = {"id": id, "image_id": image_id, "category_id": category_id, "segmentation": [SQUARE]}
    own |= {"iscrowd": 0, "bbox": [2, 3, 10, 10], "area": 100}
    return {key: value for key, value in (own | changes).items() if value is not ...}


def document(**changes: Any) -> dict[str, Any]:
    categories = [{"id": 1, "name": "cat"}, {"id": 7, "name": "dog"}]
    return {"images": [image()], "annotations": [annotation()], "categories": categories} | changes


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def data_set(folder: Path, content: Any, photos: tuple[str, ...] = ("a.png",)) -> Path:
    for name in photos:
        photo(folder / name)
    write_json(folder / "annotations.json", content)
    return folder


def read(path: Path, **options: Any) -> tuple[Data, Ledger]:
    ledger = Ledger()
    data = FORMAT.read(path, ledger, **options)
    ledger.reconcile()
    assert len(data) == ledger.count("image", "used") + ledger.count("image", "repaired")
    assert len(data.regions) == ledger.count("annotation", "used") + ledger.count("annotation", "repaired")
    assert len(set(data.ids)) == len(data)
    return data, ledger


def fate_of(ledger: Ledger, kind: str) -> tuple[str, str]:
    """The fate of the one item of a kind, and why."""
    (line,) = [line for line in ledger.lines if line.kind == kind] or [None]
    if line is None:
        assert ledger.totals()[kind]["used"] == ledger.totals()[kind]["seen"]
        return "used", ""
    return line.fate, line.why


def rle(counts: Any, size: Any = (H, W)) -> dict[str, Any]:
    return {"size": list(size), "counts": counts}


NAN, INF = math.nan, math.inf
ANNOTATIONS = {
    "plain": ({}, "used", ""),
    "boolean crowd flag": ({"iscrowd": False}, "used", ""),
    "no crowd flag, box, area": ({"iscrowd": ..., "bbox": ..., "area": ...}, "used", ""),
    "crowd flag null": ({"iscrowd": None}, "used", ""),
    "crowd flag text": ({"iscrowd": "yes"}, "refused", "`iscrowd` is 'yes'"),
    "crowd flag 2": ({"iscrowd": 2}, "refused", "neither 0 nor 1"),
    "two parts": ({"segmentation": [SQUARE, TRIANGLE]}, "used", ""),
    "category of another id": ({"category_id": 7}, "used", ""),
    "ids as text": ({"image_id": "1", "category_id": "7"}, "used", ""),
    "no id": ({"id": ...}, "used", ""),
    "id too big": ({"id": 2**64 - 1}, "used", ""),
    "id text": ({"id": "a-b"}, "used", ""),
    "keypoints": ({"keypoints": [1, 2, 2], "num_keypoints": 1, "isbbox": False, "color": "#fff"}, "used", ""),
    "box only, []": ({"segmentation": []}, "ignored", "box only, no mask"),
    "box only, [[]]": ({"segmentation": [[]]}, "ignored", "box only, no mask"),
    "box only, null": ({"segmentation": None}, "ignored", "box only, no mask"),
    "box only, missing": ({"segmentation": ...}, "ignored", "box only, no mask"),
    "neither box nor mask": ({"segmentation": [], "bbox": ...}, "ignored", "no mask"),
    "one point": ({"segmentation": [[1, 2]]}, "refused", "fewer than 3 points"),
    "two points": ({"segmentation": [[1, 2, 3, 4]]}, "refused", "fewer than 3 points"),
    "odd count": ({"segmentation": [[*SQUARE, 5]]}, "refused", "odd number"),
    "one good part": ({"segmentation": [[1, 2, 3, 4], SQUARE]}, "repaired", "left out: a polygon with fewer than 3"),
    "one empty part": ({"segmentation": [[], SQUARE]}, "repaired", "left out"),
    "flat list": ({"segmentation": SQUARE}, "repaired", "not in a list"),
    "points as pairs": (
        {"segmentation": [[[1, 2], [3, 4], [5, 9], [1, 9], [1, 5], [1, 3]]]},
        "refused",
        "no list of num",
    ),
    "NaN": ({"segmentation": [[NAN, *SQUARE[1:]]]}, "refused", "not finite"),
    "NaN later": ({"segmentation": [[*SQUARE[:-1], NAN]]}, "refused", "not finite"),
    "infinity": ({"segmentation": [[INF, *SQUARE[1:]]]}, "refused", "not finite"),
    "1e300": ({"segmentation": [[1e300, *SQUARE[1:]]]}, "refused", "far outside"),
    "partly outside": ({"segmentation": [[-5, 3, 12, 3, 12, 13, -5, 13]]}, "used", ""),
    "beyond the right edge": ({"segmentation": [[20, 3, 40, 3, 40, 13, 20, 13]]}, "used", ""),
    "wholly outside": ({"segmentation": [[31, 3, 40, 3, 40, 13, 31, 13]]}, "refused", "wholly outside"),
    "text for a part": ({"segmentation": ["123456"]}, "refused", "no list of numbers"),
    "text in a part": ({"segmentation": [["1", "2", "3", "4", "5", "6"]]}, "refused", "no list of numbers"),
    "null in a part": ({"segmentation": [[1, 2, 3, None, 5, 6]]}, "refused", "no list of numbers"),
    "huge whole number": ({"segmentation": [[10**400, *SQUARE[1:]]]}, "refused", "no list of numbers"),
    "object for a part": ({"segmentation": [{"a": 1}]}, "refused", "no list of numbers"),
    "segmentation text": ({"segmentation": "SQUARE"}, "refused", "`segmentation` is text"),
    "segmentation number": ({"segmentation": 7}, "refused", "`segmentation` is a number"),
    "run-lengths": ({"segmentation": rle([5, 10, H * W - 15])}, "used", ""),
    "compressed run-lengths": ({"segmentation": rle("0hb0")}, "used", ""),
    "run-lengths of another sum": ({"segmentation": rle([5, 10])}, "refused", "run-lengths that do not"),
    "negative run-length": ({"segmentation": rle([-5, H * W + 5])}, "refused", "negative"),
    "run-lengths of floats": ({"segmentation": rle([0.5, H * W - 0.5])}, "refused", "whole numbers"),
    "run-lengths of another size": (
        {"segmentation": rle([600], (10, 60))},
        "refused",
        "run-lengths for 10 x 60 pixels",
    ),
    "run-lengths transposed": ({"segmentation": rle([600], (W, H))}, "refused", "height and width are swapped"),
    "run-lengths without size": ({"segmentation": {"counts": [600]}}, "refused", "without a `size`"),
    "run-lengths without counts": ({"segmentation": {"size": [H, W]}}, "refused", "no list"),
    "broken compressed": ({"segmentation": rle("\x00 zz")}, "refused", "no compressed COCO string"),
    "unknown image": ({"image_id": 9}, "refused", "no image has its `image_id` 9"),
    "no image": ({"image_id": ...}, "refused", "it has no `image_id`"),
    "image id a list": ({"image_id": [1]}, "refused", "no image has its `image_id` [1]"),
    "unknown category": ({"category_id": 2}, "refused", "no category has its `category_id` 2"),
    "no category": ({"category_id": ...}, "refused", "it has no `category_id`"),
}


@pytest.mark.parametrize("name", ANNOTATIONS)
def test_the_fate_of_an_annotation(tmp_path: Path, name: str) -> None:
    changes, fate, why = ANNOTATIONS[name]
    data, ledger = read(data_set(tmp_path, document(annotations=[annotation(**changes)])))
    found, reason = fate_of(ledger, "annotation")
    assert found == fate
    assert why in reason
    for record in data:
        assert masks.label_map(record).shape == (H, W)
    for line in ledger.lines:
        assert "annotations.json: annotation" in line.item


@pytest.mark.parametrize("entry", [None, 3, "text", [1], True])
def test_annotations_and_images_that_are_no_objects(tmp_path: Path, entry: Any) -> None:
    _, ledger = read(data_set(tmp_path, document(annotations=[entry])))
    assert fate_of(ledger, "annotation")[0] == "refused"
    _, ledger = read(data_set(tmp_path, document(images=[entry], annotations=[])))
    assert fate_of(ledger, "image")[0] == "refused"


IMAGES = {
    "plain": ({}, "used", ""),
    "id text": ({"id": "1"}, "used", ""),
    "backslashes": ({"name": ".\\a.png"}, "used", ""),
    "absolute path of another machine": ({"name": "/home/me/photos/a.png"}, "used", ""),
    "other case": ({"name": "A.PNG"}, "repaired", "found as a.png"),
    "no size": ({"height": None, "width": None}, "repaired", "size was read from the file"),
    "size 0": ({"height": 0}, "repaired", "size was read from the file"),
    "size text": ({"width": "30"}, "repaired", "size was read from the file"),
    "size absurd": ({"width": 10**12}, "repaired", "size was read from the file"),
    "size float": ({"width": 30.0}, "used", ""),
    "size fraction": ({"width": 30.5}, "repaired", "size was read from the file"),
    "missing file": ({"name": "b.png"}, "refused", "nowhere below"),
    "file above the data set": ({"name": "../../../etc/passwd"}, "refused", "nowhere below"),
    "no name": ({"name": None}, "refused", "no `file_name`"),
    "no id": ({"id": None}, "refused", "`id` is null"),
    "id a list": ({"id": [1]}, "refused", "`id` is a list"),
    "unreadable and without size": ({"name": "text.png", "width": None}, "refused", "no usable size, and the file"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_the_fate_of_an_image(tmp_path: Path, name: str) -> None:
    changes, fate, why = IMAGES[name]
    folder = data_set(tmp_path, document(images=[image(**changes)]))
    (folder / "text.png").write_text("<html>")
    data, ledger = read(folder)
    found, reason = fate_of(ledger, "image")
    assert found == fate
    assert why in reason
    assert [record.size for record in data] == ([] if fate == "refused" else [(H, W)])
    assert fate_of(ledger, "annotation")[0] == ("refused" if fate == "refused" else "used")


DOCUMENTS = {
    "nothing": ("", "is empty"),
    "blanks": (" \n\t", "is empty"),
    "pointer": ("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 9\n", "git LFS pointer"),
    "web page": ("<!DOCTYPE html><html></html>", "is a web page"),
    "archive": ("PK\x03\x04....", "is an archive"),
    "truncated": (json.dumps(document())[:-40], "breaks off at line 1, column"),
    "truncated in a word": ('{"images": [], "annot', "breaks off at line 1, column"),
    "no JSON": ("{'images': []}", "is not JSON"),
    "text": ('"images"', "holds text, not a COCO data set"),
    "results": ([annotation(score=0.9)], "holds a list, as COCO results do"),
    "too deep": ("[" * 200_000, "nested too deeply"),
    "no annotations": ({"images": [], "categories": []}, "has no `annotations`"),
    "no categories": ({"images": [], "annotations": []}, "has no `categories`"),
    "annotations an object": (document(annotations={"1": annotation()}), "`annotations` is an object, not a list"),
    "images null": (document(images=None), "`images` is null, not a list"),
    "category no object": (document(categories=["cat"]), "`categories[0]` is text, not an object"),
    "category without id": (document(categories=[{"name": "cat"}]), "`categories[0]` has no `id`"),
    "category without name": (document(categories=[{"id": 1}]), "`categories[0]` has no `name`"),
    "one id, two names": (document(categories=[{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]), "have the id 1"),
    "too many": (document(categories=[{"id": n, "name": f"c{n}"} for n in range(255)]), "256 classes"),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_file_that_is_no_data_set_ends_in_one_sentence(tmp_path: Path, name: str) -> None:
    content, what = DOCUMENTS[name]
    path = write_json(tmp_path / "annotations.json", content)
    with pytest.raises(DataError, match=r"annotations\.json: .") as error:
        read(path)
    assert what in str(error.value)
    with pytest.raises(DataError):
        read(tmp_path)
    for place in (path, tmp_path):
        assert 0 <= FORMAT.sniff(place)[0] <= 1


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_other_encodings_are_read(tmp_path: Path, encoding: str) -> None:
    text = json.dumps(document(categories=[{"id": 1, "name": "Kätzchen"}]), ensure_ascii=False)
    (photo(tmp_path / "a.png").parent / "x.json").write_bytes(text.encode(encoding))
    assert read(tmp_path / "x.json")[0].classes == ("background", "Kätzchen")


def test_broken_text_in_names_stays_printable(tmp_path: Path) -> None:
    content = document(images=[image(name="\ud800.png")], categories=[{"id": 1, "name": "c\udcff"}])
    data, ledger = read(data_set(tmp_path, content))
    assert data.classes == ("background", "c\\udcff")
    json.dumps(ledger.to_json(), ensure_ascii=False).encode()


# ---------------------------------------------------------------------------------------------------- classes and ids


def test_classes_follow_the_order_of_ids_after_the_background(tmp_path: Path) -> None:
    categories = [
        {"id": 90, "name": "z"},
        {"id": 0, "name": "a"},
        {"id": 10**15, "name": "huge"},
        {"id": 5, "name": "m"},
    ]
    content = document(categories=categories, annotations=[annotation(1, category_id=0), annotation(2, category_id=90)])
    data, ledger = read(data_set(tmp_path, content))
    assert data.classes == ("background", "a", "m", "z", "huge")
    assert [region.label for region in data[0].regions] == [1, 3]
    assert "2 of 4 classes have no object: m, huge" in ledger.notes


@pytest.mark.parametrize("name", ["_background_", "background", "__background__", "Background"])
def test_a_background_category_is_the_background(tmp_path: Path, name: str) -> None:
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": name}]
    inner = [4, 5, 8, 5, 8, 9, 4, 9]
    annotations = [annotation(1), annotation(2, category_id=2, segmentation=[inner])]
    data, ledger = read(data_set(tmp_path, document(categories=categories, annotations=annotations)))
    assert data.classes == ("background", "cat")
    assert any(name in note for note in ledger.notes)
    assert masks.label_map(data[0]).sum() == 100 - 16


def test_two_categories_of_one_name_are_one_class(tmp_path: Path) -> None:
    categories = [{"id": 1, "name": "door"}, {"id": 2, "name": " door "}, {"id": 1, "name": "door"}]
    content = document(categories=categories, annotations=[annotation(1), annotation(2, category_id=2)])
    data, ledger = read(data_set(tmp_path, content))
    assert data.classes == ("background", "door")
    assert [region.label for region in data[0].regions] == [1, 1]
    assert any("both called `door`" in note for note in ledger.notes)


def test_duplicate_annotation_ids_are_both_kept(tmp_path: Path) -> None:
    data, ledger = read(data_set(tmp_path, document(annotations=[annotation(), annotation()])))
    assert [region.id for region in data[0].regions] == [1, -1]
    assert fate_of(ledger, "annotation") == ("repaired", "another annotation has the id 1: kept without one")


def test_an_id_of_two_photos_belongs_to_neither(tmp_path: Path) -> None:
    content = document(images=[image(1, "a.png"), image(1, "b.png"), image(2, "c.png")])
    data, ledger = read(data_set(tmp_path, content, ("a.png", "b.png", "c.png")))
    assert list(data.ids) == ["c.png"]
    assert ledger.totals()["image"]["refused"] == 2
    assert ledger.totals()["annotation"]["refused"] == 1


def test_the_same_image_listed_twice_is_one_image(tmp_path: Path) -> None:
    images = [image(1), image(1), image(2)]
    data, ledger = read(data_set(tmp_path, document(images=images, annotations=[annotation(1), annotation(2, 2)])))
    assert [len(record.regions) for record in data] == [2]
    assert ledger.totals()["image"] == {"seen": 3, "used": 1, "repaired": 0, "ignored": 2, "refused": 0}
    images[2]["height"] = H + 1
    data, ledger = read(data_set(tmp_path, document(images=images, annotations=[annotation(1), annotation(2, 2)])))
    assert ledger.totals()["annotation"]["refused"] == 1


def test_images_without_objects_are_used(tmp_path: Path) -> None:
    content = document(images=[image(1), image(2, "b.png")])
    data, _ = read(data_set(tmp_path, content, ("a.png", "b.png")))
    assert [len(record.regions) for record in data] == [1, 0]
    _, ledger = read(data_set(tmp_path, document(annotations=[])))
    assert any("no annotation at all" in note for note in ledger.notes)


def test_objects_keep_their_order_whatever_the_order_of_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    owners = rng.integers(1, 6, 60).tolist()
    images = [image(n, f"{n}.png") for n in range(1, 6)]
    shapes = [[[0, 0, n % 20 + 2, 0, 9, 9]] for n in range(60)]
    annotations = [
        annotation(n, owner, segmentation=shape, attribute_ids=[n])
        for n, (owner, shape) in enumerate(zip(owners, shapes, strict=True))
    ]
    data, _ = read(
        data_set(tmp_path, document(images=images, annotations=annotations), tuple(f"{n}.png" for n in range(6)))
    )
    for number, record in enumerate(data, start=1):
        mine = [n for n, owner in enumerate(owners) if owner == number]
        assert [region.id for region in record.regions] == mine
        assert [region.polygons[0].reshape(-1).tolist() for region in record.regions] == [shapes[n][0] for n in mine]
        assert [region.attributes["attribute_ids"] for region in record.regions] == [[n] for n in mine]


def test_attributes_are_kept(tmp_path: Path) -> None:
    annotations = [
        annotation(1, attribute_ids=[3, 4], attributes={"occluded": True}),
        annotation(2, attribute_ids=[], attributes={}),
        annotation(3, attributes=["old", "red"]),
    ]
    data, _ = read(data_set(tmp_path, document(annotations=annotations)))
    expected = [{"occluded": True, "attribute_ids": [3, 4]}, {}, {"attributes": ["old", "red"]}]
    assert [dict(region.attributes) for region in data[0].regions] == expected


@pytest.mark.parametrize(
    ("crowd", "label_map", "word"), [("ignore", VOID, "ignore"), ("foreground", 1, "taken"), ("drop", 0, "left out")]
)
@pytest.mark.parametrize("flag", [1, True])
def test_crowds(tmp_path: Path, crowd: str, label_map: int, word: str, flag: object) -> None:
    annotations = [annotation(iscrowd=flag, segmentation=rle([0, H * W]))]
    data, ledger = read(data_set(tmp_path, document(annotations=annotations)), crowd=crowd)
    assert (masks.label_map(data[0]) == label_map).all()
    assert any("1 crowd regions" in note and word in note for note in ledger.notes)
    assert ledger.count("annotation", "ignored") == (crowd == "drop")
    with pytest.raises(RecipeError, match="ignored"):
        read(tmp_path, crowd="ignored")


def test_the_slow_road_agrees_with_the_fast_one(tmp_path: Path) -> None:
    """A NaN anywhere sends every annotation down the road for odd ones."""
    annotations = [annotation(n, segmentation=[SQUARE, TRIANGLE], attribute_ids=[n]) for n in range(5)]
    fast, first = read(data_set(tmp_path / "fast", document(annotations=annotations)))
    slow, second = read(data_set(tmp_path / "slow", document(annotations=annotations, info={"version": NAN})))
    assert first.totals() == second.totals()
    for one, other in zip(fast[0].regions, slow[0].regions, strict=True):
        assert [p.tolist() for p in one.polygons] == [p.tolist() for p in other.polygons]
        assert (one.id, one.label, one.attributes) == (other.id, other.label, other.attributes)


# ------------------------------------------------------------------------------------------------- folders and photos

LAYOUTS = {  # JSONs with the name of their photo; where the photos lie -> expected ids and splits
    "COCO": (
        {"annotations/instances_train2017.json": "1.png", "annotations/instances_val2017.json": "1.png"},
        {"train2017/1.png": "train", "val2017/1.png": "val"},
    ),
    "COCO below images": (
        {"annotations/instances_train.json": "1.png", "annotations/instances_val.json": "1.png"},
        {"images/train/1.png": "train", "images/val/1.png": "val"},
    ),
    "COCO with short folders": (
        {"annotations/instances_train2017.json": "1.png", "annotations/instances_val2017.json": "1.png"},
        {"train/1.png": "train", "val/1.png": "val"},
    ),
    "car parts": (
        {"trainingset/annotations.json": "1.png", "testset/annotations.json": "1.png"},
        {"trainingset/JPEGImages/1.png": "train", "testset/JPEGImages/1.png": "test"},
    ),
    "roboflow": (
        {"train/_annotations.coco.json": "1.png", "valid/_annotations.coco.json": "1.png", "test/x.json": "1.png"},
        {"train/1.png": "train", "valid/1.png": "val", "test/1.png": "test"},
    ),
    "one folder": ({"annotations.json": "1.png"}, {"1.png": None}),
    "sub-folders in names": ({"a.json": "u/1.png", "b.json": "v/1.png"}, {"pics/u/1.png": None, "pics/v/1.png": None}),
    "beside": ({"data/sample.json": "1.png"}, {"images/1.png": None}),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path: Path, name: str) -> None:
    jsons, photos = LAYOUTS[name]
    for path, file_name in jsons.items():
        write_json(tmp_path / path, document(images=[image(5, file_name)], annotations=[annotation(1, 5)]))
    for path in photos:
        photo(tmp_path / path)
    data, ledger = read(tmp_path)
    assert {record.id: record.split for record in data} == photos
    assert all(record.image == str(tmp_path / record.id) for record in data)
    assert all(len(record.regions) == 1 for record in data)
    assert ledger.totals()["file"] == {
        "seen": len(jsons) + len(photos),
        "used": len(jsons) + len(photos),
    } | dict.fromkeys(("repaired", "ignored", "refused"), 0)
    assert FORMAT.sniff(tmp_path)[0] >= 0.9
    for path in jsons:
        data, ledger = read(tmp_path / path)
        assert [record.split for record in data] == [None]
        assert ledger.totals()["file"]["seen"] == 2


def test_the_folder_of_the_jsons_may_be_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_json(tmp_path / "annotations/instances_val.json", document())
    photo(tmp_path / "val/a.png")
    assert list(read(tmp_path / "annotations")[0].ids) == ["val/a.png"]
    monkeypatch.chdir(tmp_path / "annotations")
    assert list(read(Path("instances_val.json"))[0].ids) == ["val/a.png"]
    assert list(read(Path("."))[0].ids) == ["val/a.png"]


def test_every_other_file_is_ignored_with_a_reason(tmp_path: Path) -> None:
    data_set(tmp_path, document(), ("a.png", "b.png", ".hidden/c.png"))
    others = {
        "captions.json": {"images": [], "annotations": [{"image_id": 1, "caption": "a cat"}]},
        "results.json": [annotation(score=1.0)],
        "panoptic.json": document(annotations=[{"segments_info": []}]),
        "settings.json": {"images": 3},
        "notes.txt": "hello",
    }
    for name, content in others.items():
        write_json(tmp_path / name, content)
    data, ledger = read(tmp_path)
    assert list(data.ids) == ["a.png"]
    why = {Path(line.item).name: line.why for line in ledger.of("ignored")}
    assert why.keys() == {*others, "b.png", "c.png"}
    assert why["b.png"] == "no JSON lists it"
    assert why["c.png"] == "hidden"
    assert "captions" in why["captions.json"]
    assert "results" in why["results.json"]
    assert "panoptic" in why["panoptic.json"]
    assert ledger.num_refused == 0


def test_instances_go_before_their_neighbours(tmp_path: Path) -> None:
    photo(tmp_path / "train2017/a.png")
    for name in ("instances_train2017.json", "person_keypoints_train2017.json", "stuff_train2017.json"):
        write_json(tmp_path / "annotations" / name, document())
    data, ledger = read(tmp_path)
    assert len(data[0].regions) == 1
    assert [line.why for line in ledger.of("ignored")] == ["`instances_*.json` lies beside it"] * 2


def test_a_broken_json_beside_a_good_one_is_refused(tmp_path: Path) -> None:
    data_set(tmp_path, document())
    write_json(tmp_path / "val.json", DOCUMENTS["pointer"][0])
    data, ledger = read(tmp_path)
    assert len(data) == 1
    assert fate_of(ledger, "file") == ("refused", "is a git LFS pointer, not the file itself")


def test_a_photo_of_two_splits_is_refused_in_the_second(tmp_path: Path) -> None:
    photo(tmp_path / "images/a.png")
    write_json(tmp_path / "train.json", document())
    write_json(tmp_path / "val.json", document())
    data, ledger = read(tmp_path)
    assert [record.split for record in data] == ["train"]
    assert [(line.kind, line.fate) for line in ledger.lines] == [("image", "refused"), ("annotation", "refused")]
    assert "train.json lists the same photo for another split" in ledger.lines[0].why


def test_jsons_of_several_tools_for_the_same_photos_are_joined(tmp_path: Path) -> None:
    photo(tmp_path / "images/a.png")
    write_json(tmp_path / "cats.json", document(categories=[{"id": 1, "name": "cat"}]))
    write_json(tmp_path / "dogs.json", document(categories=[{"id": 1, "name": "dog"}]))
    data, _ = read(tmp_path)
    assert data.classes == ("background", "cat", "dog")
    assert [region.label for region in data[0].regions] == [1, 2]


def test_an_ambiguous_name_is_refused_with_both_places(tmp_path: Path) -> None:
    data_set(tmp_path, document(), ("u/a.png", "v/a.png"))
    data, ledger = read(tmp_path)
    assert len(data) == 0
    assert fate_of(ledger, "image") == ("refused", "there are 2 files of that name: u/a.png and v/a.png")


def test_missing_photos_are_told_once_with_a_hint(tmp_path: Path) -> None:
    folder = tmp_path / "labels only"
    names = [f"{n}.png" for n in range(4)]
    images = [image(n, name) for n, name in enumerate(names)]
    write_json(folder / "x.json", document(images=images, annotations=[annotation(n, n) for n in range(4)]))
    data, ledger = read(folder)
    assert len(data) == 0
    assert ledger.totals()["annotation"]["refused"] == 4
    assert sum("`images: FOLDER`" in note for note in ledger.notes) == 1
    for name in names:
        photo(tmp_path / "photos" / name)
    for place in (str(tmp_path / "photos"), "../photos"):
        data, ledger = read(folder, images=place)
        assert list(data.ids) == names
        assert Path(data.images[0]).resolve() == tmp_path / "photos" / "0.png"
        assert ledger.notes == ["1 of 2 classes have no object: dog"]
    with pytest.raises(DataError, match="not a folder"):
        read(folder, images="nowhere")


def test_photos_of_a_named_folder_inside(tmp_path: Path) -> None:
    data_set(tmp_path, document(), ("old/a.png", "new/a.png"))
    assert list(read(tmp_path, images="new")[0].ids) == ["new/a.png"]
    assert list(read(tmp_path / "annotations.json", images="old")[0].ids) == ["old/a.png"]


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not found"):
        read(tmp_path / "nothing")
    photo(tmp_path / "a.png")
    with pytest.raises(DataError, match="no COCO instances JSON is in this folder"):
        read(tmp_path)
    assert FORMAT.sniff(tmp_path) == (0.0, "no JSON file here")
    assert FORMAT.sniff(tmp_path / "nothing")[0] == 0


def test_a_large_json_is_recognised_by_its_ends(tmp_path: Path) -> None:
    images = [image(n, f"{n:090d}.png") for n in range(9_000)]
    path = write_json(tmp_path / "x.json", {"images": images, "annotations": [annotation(n) for n in range(9_000)]})
    assert FORMAT.sniff(tmp_path)[0] == 0.9
    path.write_text(path.read_text().replace("segmentation", "caption"))
    assert FORMAT.sniff(tmp_path)[0] == 0


@pytest.mark.parametrize(
    ("json", "split"),
    [
        ("annotations/instances_train2017.json", "train"),
        ("trainingset/annotations.json", "train"),
        ("testset/annotations.json", "test"),
        ("valid/_annotations.coco.json", "val"),
        ("train/instances_val.json", "val"),
        ("a/validation-set.json", "val"),
        ("annotations/image_info_test-dev2017.json", "test"),
        ("trains/valley.json", None),
        ("contest/trainer.json", None),
    ],
)
def test_splits_by_name(json: str, split: str | None) -> None:
    assert split_of(json) == split


def test_nothing_outside_the_folder_is_ever_found() -> None:
    photos = Photos(Path("/d"), ["a/x.png", "b/y.png"])
    assert photos.find("../../b/y.png", photos.places("j.json"))[0] == "b/y.png"
    assert photos.find("../x.jpg", photos.places("a/j.json"))[0] is None


# ------------------------------------------------------------------------------------------------------ laws for all

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=6,
)


def spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values inside a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [(*path, key) for key, _ in items] + [spot for key, inner in items for spot in spots(inner, (*path, key))]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_damage_ends_in_a_sentence_or_in_the_ledger(tmp_path: Path, data: st.DataObject) -> None:
    crowd = annotation(3, iscrowd=1, segmentation=rle([5, 10, H * W - 15]))
    damaged = copy.deepcopy(
        document(annotations=[annotation(1), annotation(2, segmentation=[SQUARE, TRIANGLE]), crowd])
    )
    for _ in range(data.draw(st.integers(1, 3))):
        found = spots(damaged)
        *way, last = found[data.draw(st.integers(0, len(found) - 1))]
        place: Any = damaged
        for step in way:
            place = place[step]
        place[last] = data.draw(JSON)
    folder = data_set(tmp_path, damaged)
    try:
        result, _ = read(folder / "annotations.json")
    except DataError:
        return
    for record in result:
        masks.label_map(record)


def test_round_trip_of_everything_it_can_hold(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    packer = Packer()
    for number in range(6):
        size = (int(rng.integers(1, 40)), int(rng.integers(1, 50)))
        path = photo(tmp_path / f"photos/{number}.png", size)
        packer.image(f"deep/{number}.png", str(path), size)
        for n in range(number):
            points = rng.uniform(-3, 1.2, (int(rng.integers(1, 3)), 8)) * max(size)
            polygons = [p.tolist() for p in np.abs(points)]
            if n % 3:
                packer.region(
                    int(rng.integers(1, 3)), polygons=polygons, id=n, attributes={"attribute_ids": [n], "x": "y"}
                )
            else:
                mask = rng.random(size[0] * size[1]) < 0.5
                counts = np.diff(np.flatnonzero(np.diff(mask, prepend=False)), prepend=0, append=0)
                counts = counts[:-1].tolist()
                counts.append(len(mask) - sum(counts))
                packer.region(1, counts=counts, crowd=n == 3, id=7)
    data = packer.pack(("background", "cat", "dog"))
    FORMAT.write(data, tmp_path / "out")
    again, ledger = read(tmp_path / "out")
    assert again.classes == data.classes
    assert ledger.totals()["image"]["used"] == len(data)
    for one, other in zip(data, again, strict=True):
        assert np.array_equal(masks.label_map(one), masks.label_map(other))
        assert Path(other.image).read_bytes() == Path(one.image).read_bytes()
        shown = [r for r in one.regions if r.counts is not None or masks.region_area(r, one.size)]
        for r, s in zip(shown, [r for r in other.regions if masks.region_area(r, one.size)], strict=False):
            assert np.array_equal(masks.region_mask(r, one.size), masks.region_mask(s, one.size))
            assert (r.label, r.crowd, r.attributes) == (s.label, s.crowd, s.attributes)
    stored = json.loads((tmp_path / "out/annotations.json").read_text())
    assert len({a["id"] for a in stored["annotations"]}) == len(data.regions)


def test_area_and_box_are_those_of_the_mask(tmp_path: Path) -> None:
    mask = np.zeros((H, W), bool)
    mask[4:9, 6:17] = True
    flat = mask.T.reshape(-1)
    counts = np.diff(np.flatnonzero(np.diff(flat)) + 1, prepend=0, append=flat.size).tolist()
    packer = Packer()
    packer.image("a.png", str(photo(tmp_path / "a.png")), (H, W))
    packer.region(1, counts=counts)
    packer.region(1, polygons=[[6, 4, 17, 4, 17, 9, 6, 9]])
    packer.region(1, counts=[H * W])
    packer.region(1, counts=[H - 2, 4, H * W - H - 2])
    FORMAT.write(packer.pack(("background", "cat")), tmp_path / "out")
    annotations = json.loads((tmp_path / "out/annotations.json").read_text())["annotations"]
    assert [(a["area"], a["bbox"]) for a in annotations] == [
        (55, [6, 4, 11, 5]),
        (55, [6, 4, 11, 5]),
        (0, [0, 0, 0, 0]),
        (4, [0, 0, 2, H]),
    ]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    seed=st.integers(0, 2**20),
    split=st.sampled_from([None, "train"]),
)
def test_label_maps_become_objects_and_the_same_label_maps(
    tmp_path: Path, rows: int, columns: int, seed: int, split: str | None
) -> None:
    shutil.rmtree(tmp_path)
    rng = np.random.default_rng(seed)
    packer, maps = Packer(), []
    for number, list_of in enumerate((split, "val" if split else None)):
        maps.append(rng.choice(np.array([0, 1, 2, VOID], np.uint8), (rows, columns)))
        image = photo(tmp_path / f"{number}.png", (rows, columns))
        Image.fromarray(maps[-1]).save(tmp_path / f"{number}_map.png")
        coding = Coding((0, 1, 2, VOID), (0, 1, 2, VOID))
        path = str(tmp_path / f"{number}_map.png")
        packer.image(str(number), str(image), (rows, columns), label_map=path, coding=coding, split=list_of)
    FORMAT.write(packer.pack(("background", "cat", "dog")), tmp_path / "out")
    again, _ = read(tmp_path / "out")
    assert [record.split for record in again] == [split, "val" if split else None]
    for record, expected in zip(again, maps, strict=True):
        assert np.array_equal(masks.label_map(record), expected)


def test_background_objects_survive_and_a_full_folder_is_left_alone(tmp_path: Path) -> None:
    packer = Packer()
    packer.image("a", str(photo(tmp_path / "a.png")), (H, W))
    packer.region(1, polygons=[SQUARE])
    packer.region(0, polygons=[[4, 5, 8, 5, 8, 9, 4, 9]])
    data = packer.pack(("background", "cat"))
    FORMAT.write(data, tmp_path / "out")
    again, _ = read(tmp_path / "out")
    assert again.classes == ("background", "cat")
    assert masks.label_map(again[0]).sum() == 84
    with pytest.raises(SetupError, match="not empty"):
        FORMAT.write(data, tmp_path / "out")


def test_an_empty_data_set_is_written_and_read(tmp_path: Path) -> None:
    FORMAT.write(Packer().pack(("background", "cat")), tmp_path / "out")
    data, _ = read(tmp_path / "out")
    assert (len(data), data.classes) == (0, ("background", "cat"))


# ------------------------------------------------------------------------------------------------------ the real files

WITHOUT_PHOTOS = ("modanet", "cocoapi_eval")
REAL = (
    "car-parts/testset/annotations.json",
    "car-parts/trainingset/annotations.json",
    "coco_tiny/annotations/instances_train2017.json",
    "coco_tiny/annotations/instances_val2017.json",
    "cocoapi_eval/cocoapi/instances_val2014_100.json",
    "cocoapi_eval/gt_dataset.json",
    "fashionpedia/data/sample.json",
    "labelme_voc3/data_dataset_coco/annotations.json",
    "modanet/instances_test.json",
    "modanet/instances_val.json",
)


@pytest.mark.parametrize("name", REAL)
def test_the_counts_of_real_files(real_data: Path, tmp_path: Path, name: str) -> None:
    facts = json.loads((real_data / "facts.json").read_text())[name]
    images = None
    if name.startswith(WITHOUT_PHOTOS):  # the reader looks at no pixel: empty files stand in
        images = str(tmp_path)
        for entry in json.loads((real_data / name).read_text())["images"]:
            (tmp_path / entry["file_name"]).touch()
    data, ledger = read(real_data / name, images=images)
    assert ledger.totals()["image"]["used"] == facts["images"]
    assert ledger.totals()["annotation"]["used"] == facts["annotations"]
    assert ledger.num_refused == 0
    assert int(data.regions.crowd.sum()) == facts["crowd"]
    assert int((data.num_regions == 0).sum()) == facts["images_without_annotation"]
    background = any("background" in note for note in ledger.notes)
    assert len(data.classes) - 1 + background == facts["categories"]
    parts = Counter(
        "rle" if k else str(min(n, 5)) for k, n in zip(data.regions.kind, data.regions.num_parts, strict=True)
    )
    assert parts == facts["encoding (number of polygon parts, 5 = five or more, or rle)"]
    objects = np.bincount(data.regions.label, minlength=len(data.classes))
    assert {name: n for name, n in zip(data.classes, objects.tolist(), strict=True) if n} == facts["objects"]
    assert int(data.sizes.prod(axis=1, dtype=np.int64).sum()) == facts["total_pixels"]
    pixels = sum(masks.class_areas(record, len(data.classes)) for record in data)
    assert {n: p for n, p in zip(data.classes, pixels.tolist(), strict=True) if p} == facts["pixels_union_per_class"]


@pytest.mark.parametrize(
    ("name", "num_images", "num_objects", "splits"),
    [
        ("car-parts", 500, 3884, {"train": 400, "test": 100}),
        ("coco_tiny", 90, 996, {"train": 40, "val": 50}),
        ("fashionpedia", 2, 12, {None: 2}),
        ("labelme_voc3/data_dataset_coco", 3, 12, {None: 3}),
    ],
)
def test_real_folders(real_data: Path, name: str, num_images: int, num_objects: int, splits: dict[str, int]) -> None:
    data, ledger = read(real_data / name)
    assert (len(data), len(data.regions)) == (num_images, num_objects)
    assert Counter(record.split for record in data) == splits
    assert ledger.num_refused == 0
    assert all(Path(record.image).is_file() for record in data)
    assert FORMAT.sniff(real_data / name)[0] >= 0.9


def test_a_real_file_without_its_photos(real_data: Path) -> None:
    data, ledger = read(real_data / "modanet")
    assert len(data) == 0
    assert ledger.totals()["image"]["refused"] == 2126
    assert ledger.totals()["annotation"]["refused"] == 10822
    assert any("2,126 of 2,126 images" in note for note in ledger.notes)


def test_what_the_real_files_hold_besides(real_data: Path) -> None:
    data, _ = read(real_data / "fashionpedia")
    assert any(region.attributes.get("attribute_ids") for record in data for region in record.regions)
    with pytest.raises(DataError, match="1,231 classes"):
        read(real_data / "cocoapi_eval" / "lvis_val_100.json")
    with pytest.raises(DataError, match="holds a list, as COCO results do"):
        read(real_data / "cocoapi_eval" / "official_fakesegm100.json")
    for name in ("VOCdevkit/VOC2012", "oxford-iiit-pet", "imaterialist-fashion-2019", "coco128-seg", "cat_mask_folder"):
        assert FORMAT.sniff(real_data / name)[0] == 0
