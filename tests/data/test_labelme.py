"""labelme: every kind of shape, groups, photos inside the JSON or missing, the writer's round trip, damage of all kinds."""

import json
import math
from base64 import b64encode
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import of_json, survives
from tool_writers import base64_png, labelme, labelme_mask, labelme_polygon
from truth_writers import data, fates, photo, save_mask, save_photo, truth

from maskwright.core.errors import DataError, SetupError
from maskwright.core.table import Packer
from maskwright.core.types import VOID, Coding
from maskwright.data.formats import labelme as reader
from maskwright.data.ledger import Ledger
from maskwright.data.open import open_data, recognise
from maskwright.imaging import images, masks

SIZE = (40, 60)
SQUARE = [[10, 5], [30, 5], [30, 25], [10, 25]]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    cache = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(cache))
    return cache


def shape(points: Any = SQUARE, label: Any = "cat", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": None, "shape_type": "polygon", "flags": {}, **more}


def make(folder: Path, *shapes: Any, name: str = "a", photo_size: Any = SIZE, **more: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if photo_size:
        save_photo(folder / f"{name}.jpg", photo(photo_size))
    document = {"version": "5.0.1", "flags": {}, "shapes": list(shapes), "imagePath": f"{name}.jpg", "imageData": None}
    document |= {"imageHeight": SIZE[0], "imageWidth": SIZE[1], **more}
    (folder / f"{name}.json").write_text(json.dumps(document))
    return folder


def read(folder: Path, **options: Any):
    opened = open_data(folder, format="labelme", options=options)
    return opened.data, opened.ledger


def test_recognised_by_its_keys_and_read_from_one_file(tmp_path):
    folder = make(tmp_path, shape())
    assert recognise(folder) == ("labelme", "a.json holds `shapes` and `imagePath`")
    assert recognise(folder / "a.json")[0] == "labelme"
    (folder / "b.json").write_text("{}")
    save_photo(folder / "c.jpg", photo(SIZE))
    opened = open_data(folder / "a.json")
    assert opened.ledger.totals()["file"] == {"seen": 2, "used": 2, "repaired": 0, "ignored": 0, "refused": 0}
    ignored = fates(open_data(folder).ledger, "ignored")
    assert ignored == {("file", "b.json"): "no labelme JSON", ("file", "c.jpg"): "no label file lists it"}
    assert reader.sniff(tmp_path / "a.jpg")[0] == 0


@pytest.mark.parametrize(
    ("drawn", "pixels"),
    [
        (shape(), 400),
        (shape(shape_type=None), 400),  # labelme before version 3 knew polygons only
        (shape([[30, 25], [10, 5]], shape_type="rectangle"), 400),
        (shape([[20, 20], [20, 30]], shape_type="circle"), math.pi * 100),
        (shape([[20, 5], [30, 15], [20, 25], [10, 15]], shape_type="oriented_rectangle"), 200),
        (shape([*SQUARE, SQUARE[0]], shape_type="linestrip"), 400),
        (shape([[2, 3], [4, 4]], shape_type="mask", mask=base64_png(np.array([[1, 0, 1], [0, 0, 1]], bool))), 3),
        (shape([[50, 30], [70, 30], [70, 50], [50, 50]]), 100),  # clipped by the border
    ],
)
def test_shapes_cover_what_they_say(drawn, pixels, tmp_path):
    found, ledger = read(make(tmp_path, drawn))
    assert masks.region_area(found[0].regions[0], SIZE) == pytest.approx(pixels, rel=0.02)
    assert ledger.count("annotation", "used") == 1


@pytest.mark.parametrize(
    ("drawn", "fate", "why"),
    [
        (shape([[3, 3]], shape_type="point"), "ignored", "a point has no area"),
        (shape([[3, 3], [4, 4]], shape_type="points"), "ignored", "a point has no area"),
        (shape([[3, 3], [9, 9]], shape_type="line"), "ignored", "an open line has no area"),
        (shape(SQUARE, shape_type="linestrip"), "ignored", "an open line has no area"),
        (shape(shape_type="spline"), "refused", "no shape is called `spline`"),
        (shape(shape_type="rectangle", points=SQUARE[:3]), "refused", "a rectangle with 3 points"),
        (shape(shape_type="circle", points=[[3, 3], [3, 3]]), "refused", "a circle or ellipse without a radius"),
        (shape(SQUARE[:2]), "refused", "a polygon with fewer than 3 points"),
        (shape([[100, 5], [130, 5], [130, 25]]), "refused", "a polygon wholly outside the image"),
        (shape([[1, 2], [3, None], [5, 6]]), "refused", "`y` is missing"),
        (shape([[1, 2], [3, math.nan], [5, 6]]), "refused", "`y` is no number, or none of an image"),
        (shape([1, 2, 3, 4, 5, 6]), "refused", "its points are no list of x and y"),
        (shape(label=""), "refused", "it has no label"),
        (shape(label=None), "refused", "it has no label"),
        (shape(group_id=[1]), "refused", "its `group_id` is a list"),
        ("cat", "refused", "the entry is text, not an object"),
        (shape([[0, 0], [3, 3]], shape_type="mask"), "refused", "a mask without its pixels"),
        (shape([[0, 0], [3, 3]], shape_type="mask", mask="iVBO"), "refused", "its mask is no image of a kind"),
        (shape([[0, 0], [3, 3]], shape_type="mask", mask="a"), "refused", "its mask is no base64 text"),
        (
            shape([[0, 0], [3, 3]], shape_type="mask", mask=base64_png(np.ones((2, 2), bool))),
            "refused",
            "its mask is 2 x 2",
        ),
        (
            shape([[59, 0], [60, 1]], shape_type="mask", mask=base64_png(np.ones((2, 2), bool))),
            "refused",
            "a mask of 2 x 2",
        ),
    ],
)
def test_what_is_not_used_says_why(drawn, fate, why, tmp_path):
    found, ledger = read(make(tmp_path, shape(), drawn))
    assert [len(record.regions) for record in found] == [1]
    ((key, said),) = fates(ledger, fate).items()
    assert key == ("annotation", "a.json: shapes[1]")
    assert said.startswith(why)


def test_a_group_is_one_object_of_each_label(tmp_path):
    right = [[40, 5], [50, 5], [50, 25]]
    dot = shape([[0, 0], [1, 1]], shape_type="mask", mask=base64_png(np.ones((2, 2), bool)))
    drawn = [
        shape(group_id=3), shape(right, group_id=3), shape(right, "dog", group_id=3), shape(group_id=None),
        shape(right, group_id=4), {**dot, "group_id": 4}, {**shape(SQUARE[:1]), "group_id": 3},
    ]  # fmt: skip
    found, ledger = read(make(tmp_path, *drawn))
    regions = found[0].regions
    assert [(found.classes[r.label], len(r.polygons)) for r in regions] == [
        ("cat", 2),
        ("dog", 1),
        ("cat", 1),
        ("cat", 0),
    ]
    assert masks.region_area(regions[0], SIZE) == 400 + masks.region_area(regions[1], SIZE)
    assert masks.region_area(regions[3], SIZE) == 4 + masks.region_area(regions[1], SIZE)
    assert ledger.count("annotation", "used") == 6
    assert ledger.count("annotation", "refused") == 1


def test_flags_and_descriptions_are_kept(tmp_path):
    drawn = shape(flags={"occluded": True}, description="half of it")
    found, _ = read(make(tmp_path, drawn, flags={"blurred": True}))
    assert found[0].attributes == {"flags": {"blurred": True}}
    assert found[0].regions[0].attributes == {"flags": {"occluded": True}, "description": "half of it"}


def test_names_that_mean_void_or_background(tmp_path):
    found, ledger = read(make(tmp_path, shape(label="__ignore__"), shape([[0, 0], [5, 0], [5, 5]], "_background_")))
    assert found.classes == ("background",)
    assert (masks.label_map(found[0])[5:25, 10:30] == VOID).all()
    assert ledger.count("annotation", "used") == 2


def test_the_order_of_classes(tmp_path):
    folder = make(tmp_path, shape(label="dog"), shape(label="cat"), shape(label="10"), shape(label="9"))
    assert read(folder)[0].classes == ("background", "9", "10", "cat", "dog")
    (folder / "labels.txt").write_text("__ignore__\n_background_\ndog\nowl\ncat\n")
    found, ledger = read(folder)
    assert found.classes == ("background", "dog", "owl", "cat")
    assert [found.classes[r.label] for r in found[0].regions] == ["dog", "cat"]
    assert fates(ledger, "refused")["annotation", "a.json: shapes[2]"] == "labels.txt names no class `10`"
    assert ledger.count("file", "used") == 3
    found, ledger = read(folder, classes=["cat"])
    assert found.classes == ("background", "cat")
    assert fates(ledger, "refused")["annotation", "a.json: shapes[0]"] == "`classes` names no class `dog`"


def test_too_many_classes_are_one_error(tmp_path):
    with pytest.raises(DataError, match="more than 254 classes"):
        read(make(tmp_path, *(shape(label=f"c{i}") for i in range(255))))


def test_boxes_may_be_left_out(tmp_path):
    folder = make(tmp_path, shape(), shape([[0, 0], [9, 9]], shape_type="rectangle"))
    assert read(folder)[1].notes == ["1 object is a box: all pixels inside count as the object (boxes: fill)"]
    found, ledger = read(folder, boxes="ignore")
    assert len(found[0].regions) == 1
    assert fates(ledger, "ignored") == {("annotation", "a.json: shapes[1]"): "a box (boxes: ignore)"}


# --------------------------------------------------------------------------------------------------------------- photos


def test_a_missing_photo_is_taken_from_the_json(tmp_path, own_cache):
    content = photo(SIZE, seed=5)
    folder = make(tmp_path, shape(), photo_size=None, imageData=b64encode(content).decode())
    before = sorted(path.name for path in folder.iterdir())
    found, ledger = read(folder)
    assert Path(found[0].image).is_relative_to(own_cache / "labelme")
    assert Path(found[0].image).read_bytes() == content
    assert [record.id for record in found] == ["a"]
    assert [line.why for line in ledger.of("repaired")] == ["its photo is missing and was unpacked from `imageData`"]
    assert sorted(path.name for path in folder.iterdir()) == before
    assert read(folder)[0][0].image == found[0].image
    save_photo(folder / "a.jpg", photo(SIZE))
    assert read(folder)[0][0].image == str(folder / "a.jpg")


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({}, "the image file is nowhere below the folder"),
        ({"imageData": "a"}, "the image file is nowhere below the folder, and its `imageData` "),
        (
            {"imageData": b64encode(b"no picture").decode()},
            "the image file is nowhere below the folder, and its `imageData` is",
        ),
        ({"imagePath": 7}, "the image file is nowhere below the folder"),
        ({"imagePath": "../outside.jpg"}, "the image file is nowhere below the folder"),
        ({"imagePath": "/etc/passwd"}, "the image file is nowhere below the folder"),
    ],
)
def test_a_photo_that_is_nowhere(more, why, tmp_path):
    save_photo(tmp_path / "outside.jpg", photo(SIZE))
    folder = make(tmp_path / "set", shape(), photo_size=None, **more)
    found, ledger = read(make(folder, shape(), name="good"))
    assert [record.id for record in found] == ["good.jpg"]
    refused = fates(ledger, "refused")
    assert refused["image", "a.json"].startswith(why)
    assert fates(ledger, "ignored")["annotation", "a.json: shapes[0]"] == "its image is not used"


def test_photos_under_other_names_and_folders(tmp_path):
    folder = make(tmp_path, shape(), imagePath="C:\\pictures\\old.jpg")
    found, ledger = read(folder)
    assert [record.id for record in found] == ["a.jpg"]
    assert [line.why for line in ledger.of("repaired")] == ["`imagePath` is C:\\pictures\\old.jpg: found as a.jpg"]
    (folder / "photos").mkdir()
    (folder / "labels").mkdir()
    (folder / "a.jpg").rename(folder / "photos" / "a.jpg")
    (folder / "a.json").rename(folder / "labels" / "a.json")
    make(folder / "labels", shape(), photo_size=None, imagePath="..\\photos\\a.jpg")
    assert [record.id for record in read(folder)[0]] == ["photos/a.jpg"]
    found, ledger = read(folder / "labels", images=str(folder / "photos"))
    assert [record.id for record in found] == ["a.jpg"]
    with pytest.raises(DataError, match="not a folder"):
        read(folder, images="pictures")


def test_sizes_that_disagree_and_photos_that_are_turned(tmp_path):
    folder = make(tmp_path, shape(), photo_size=(41, 60))
    assert (
        fates(read(folder)[1], "refused")["image", "a.jpg"]
        == "the labels are for 60 x 40 pixels and the photo has 60 x 41"
    )
    save_photo(folder / "a.jpg", photo(SIZE, orientation=6))
    found, ledger = read(folder)
    assert (found[0].size, found[0].upright) == (SIZE, False)
    assert "EXIF rotation" in next(ledger.of("repaired")).why
    save_photo(folder / "a.jpg", photo(SIZE[::-1], orientation=6))
    assert (read(folder)[0][0].size, read(folder)[0][0].upright) == (SIZE, True)


def test_two_files_of_one_photo_are_joined(tmp_path):
    make(tmp_path, shape())
    make(tmp_path, shape(label="dog"), name="b", photo_size=None, imagePath="a.jpg")
    found, ledger = read(tmp_path)
    assert [len(record.regions) for record in found] == [2]
    assert fates(ledger, "ignored")["image", "b.json"] == "a.json lists the same photo: their objects were joined"


# -------------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"shapes": [], "imagePath"', r"a\.json: breaks off at line 1"),
        ('{"shapes": 3, "imagePath": "a.jpg"}', r"`shapes` is a number, not a list; a labelme JSON holds"),
        ("[]", "holds a list, not a labelme image"),
        ("{}", "has no `shapes`"),
        ("version https://git-lfs.github.com/spec/v1", "is a (git|Git) LFS pointer"),
        ("<html>", "is a web page"),
    ],
)
def test_files_that_are_none(content, message, tmp_path):
    folder = make(tmp_path, shape())
    (folder / "a.json").write_text(content)
    with pytest.raises(DataError, match=message):
        open_data(folder / "a.json", format="labelme", ledger=Ledger())
    make(folder, shape(), name="b")
    found, ledger = read(folder)
    assert [record.id for record in found] == ["b.jpg"]
    assert ("file", "a.json") in fates(ledger, "refused") | fates(ledger, "ignored")
    ledger.reconcile()


def test_no_label_file_at_all(tmp_path):
    save_photo(tmp_path / "a.jpg", photo(SIZE))
    with pytest.raises(DataError, match="no labelme JSON is in this folder"):
        read(tmp_path)
    with pytest.raises(DataError, match="not found"):
        reader.read(tmp_path / "none", Ledger())


@pytest.mark.parametrize("kind", [labelme_polygon, labelme_mask])
def test_random_damage_never_crashes(kind, tmp_path):
    labelme(kind)(tmp_path, truth(2, seed=4, size=(24, 32)))
    file = sorted(tmp_path.glob("*.json"))[0]
    assert survives(file, file, of_json(file, 120, seed=1), "labelme") > 20


# -------------------------------------------------------------------------------------------------------------- writer


def test_what_is_written_is_read_back(tmp_path):
    source = data(tmp_path / "photos", split="train")
    reader.write(source, tmp_path / "out")
    opened = open_data(tmp_path / "out")
    assert opened.format == "labelme"
    assert opened.data.classes == source.classes
    back = {Path(record.image).stem: record for record in opened.data}
    assert len(back) == len(source)
    for record in source:
        other = back[record.id]
        assert (other.size, other.split) == (record.size, record.split)
        assert Path(other.image).read_bytes() == Path(record.image).read_bytes()
        for mine, theirs in zip(record.regions, other.regions, strict=True):
            assert theirs.crowd == mine.crowd
            assert theirs.crowd or theirs.label == mine.label
            for a, b in zip(mine.polygons, theirs.polygons, strict=True):
                np.testing.assert_array_equal(a, b)
    with pytest.raises(SetupError, match="not empty"):
        reader.write(source, tmp_path / "out")


def test_parts_run_lengths_flags_and_label_maps_come_back(tmp_path):
    sample = next(sample for sample in truth() if len(sample.regions) > 3)
    save_photo(tmp_path / "p.jpg", sample.jpeg)
    save_mask(tmp_path / "p.png", sample.label_map)
    outlines = [region.polygons[0] for region in sample.regions]
    runs = masks.region_counts(sample.regions, sample.size)
    packer = Packer()
    packer.image("a", str(tmp_path / "p.jpg"), sample.size, attributes={"flags": {"good": True}})
    packer.region(1, polygons=[outline.reshape(-1) for outline in outlines[:2]], attributes={"description": "two"})
    packer.region(2, counts=runs[2])
    packer.region(3, counts=[sample.label_map.size])  # an object without a pixel
    values = (0, 1, 2, 3, 4, VOID)
    packer.image(
        "b", str(tmp_path / "p.jpg"), sample.size, label_map=str(tmp_path / "p.png"), coding=Coding(values, values)
    )
    source = packer.pack(("background", "disc", "square", "triangle", "star"))
    reader.write(source, tmp_path / "out")
    first, second = open_data(tmp_path / "out").data
    assert first.attributes == {"flags": {"good": True}}
    assert first.regions[0].attributes == {"description": "two"}
    assert [len(region.polygons) for region in first.regions] == [2, 0, 0]
    np.testing.assert_array_equal(first.regions[1].counts, runs[2])
    np.testing.assert_array_equal(masks.region_mask(first.regions[2], sample.size), False)
    np.testing.assert_array_equal(masks.label_map(second), sample.label_map)
    np.testing.assert_array_equal(images.read(second.image), images.read(sample.jpeg))


def test_real_files_hold_what_the_facts_say(real_data):
    folder = real_data / "labelme_voc3"
    facts = json.loads((real_data / "facts.json").read_text())
    opened = open_data(folder / "data_annotated")
    assert opened.format == "labelme"
    assert opened.ledger.totals()["annotation"]["used"] == sum(facts["labelme_voc3 labelme"]["shapes"].values())
    drawn = [replace(r, regions=tuple(region for region in r.regions if not region.crowd)) for r in opened.data]
    coco = facts["labelme_voc3/data_dataset_coco/annotations.json"]
    assert Counter(opened.data.classes[g.label] for r in drawn for g in r.regions) == coco["objects"]
    pixels = sum(masks.class_areas(record, len(opened.data.classes)) for record in drawn)
    told = {name: count for name, count in zip(opened.data.classes, pixels.tolist()) if count}
    assert told == coco["pixels_union_per_class"]


def test_what_json_cannot_hold_does_not_stop_the_writer(tmp_path):
    flags = {"\ud800": True, "many": 2**70, "seen": False}
    folder = make(tmp_path / "set", shape(flags=flags, description="\ud800"), flags=flags)
    found, _ = read(folder)
    reader.write(found, tmp_path / "out")
    (record,) = open_data(tmp_path / "out").data
    assert record.attributes == {"flags": {"\\ud800": True, "seen": False}}
    assert record.regions[0].attributes == {"flags": {"\\ud800": True, "seen": False}, "description": "\\ud800"}
