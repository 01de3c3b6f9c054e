"""VGG Image Annotator: every dialect and shape, which attribute is the class, photos found and not, damage."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
from damage import of_json, survives
from tool_writers import via_one, via_project, via_three
from truth_writers import fates, photo, save_photo, truth

from maskwright.core.errors import DataError, RecipeError
from maskwright.data.formats import via
from maskwright.data.open import open_data, recognise
from maskwright.imaging import masks

SIZE = (40, 60)
POLYGON = {"name": "polygon", "all_points_x": [10, 30, 30, 10], "all_points_y": [5, 5, 25, 25]}
RECT = {"name": "rect", "x": 10, "y": 5, "width": 20, "height": 20}


def region(shape: Any = POLYGON, **attributes: Any) -> dict[str, Any]:
    return {"shape_attributes": shape, "region_attributes": attributes}


def entry(*regions: Any, name: str = "a.jpg", **more: Any) -> dict[str, Any]:
    return {"filename": name, "size": -1, "regions": list(regions), "file_attributes": {}, **more}


def make(folder: Path, *entries: Any, project: dict[str, Any] | None = None) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_photo(folder / "a.jpg", photo(SIZE))
    tree = {f"{number}": item for number, item in enumerate(entries)}
    (folder / "via.json").write_text(json.dumps({"_via_img_metadata": tree, **project} if project else tree))
    return folder


def three(folder: Path, *items: Any, **more: Any) -> Path:
    save_photo(folder / "a.jpg", photo(SIZE))
    kinds = {"0": "cat", "1": "dog"}
    project = {
        "attribute": {
            "1": {"aname": "kind", "type": 4, "options": kinds},
            "2": {"aname": "seen", "type": 2, "options": {"3": "x"}},
        },
        "file": {"1": {"fid": 1, "fname": "a.jpg", "type": 2}},
        "view": {"1": {"fid_list": [1]}},
        "metadata": {f"1_{number}": item for number, item in enumerate(items)},
        **more,
    }
    (folder / "via3.json").write_text(json.dumps(project))
    return folder


def item(*xy: Any, **more: Any) -> dict[str, Any]:
    return {"vid": "1", "flg": 0, "z": [], "xy": list(xy), "av": {"1": "1"}, **more}


def read(folder: Path, **options: Any):
    opened = open_data(folder, format="via", options=options)
    return opened.data, opened.ledger


def test_recognised(tmp_path):
    assert recognise(make(tmp_path / "1", entry(region(kind="cat"))))[0] == "via"
    assert recognise(make(tmp_path / "2", entry(), project={"_via_settings": {}})) == (
        "via",
        "via.json is a VIA project",
    )
    assert recognise(three(tmp_path / "3", item(7, 0, 0, 9, 0, 9, 9))) == ("via", "via3.json is a VIA 3 project")


@pytest.mark.parametrize(
    ("shape", "pixels"),
    [
        (POLYGON, 400),
        (RECT, 400),
        ({"name": "rect", "x": 30, "y": 25, "width": -20, "height": -20}, 400),
        ({"name": "circle", "cx": 30, "cy": 20, "r": 10}, math.pi * 100),
        ({"name": "ellipse", "cx": 30, "cy": 20, "rx": 16, "ry": 8}, math.pi * 128),
        ({"name": "ellipse", "cx": 30, "cy": 20, "rx": 16, "ry": 8, "theta": math.pi / 2}, math.pi * 128),
        ({"name": "polyline", "all_points_x": [10, 30, 30, 10, 10], "all_points_y": [5, 5, 25, 25, 5]}, 400),
    ],
)
def test_shapes_cover_what_they_say(shape, pixels, tmp_path):
    found, ledger = read(make(tmp_path, entry(region(shape, kind="cat"))))
    assert masks.region_area(found[0].regions[0], SIZE) == pytest.approx(pixels, rel=0.02)
    assert ledger.count("annotation", "used") == 1


def test_an_ellipse_is_turned_clockwise(tmp_path):
    shape = {"name": "ellipse", "cx": 30, "cy": 20, "rx": 18, "ry": 3, "theta": math.pi / 4}
    mask = masks.region_mask(read(make(tmp_path, entry(region(shape, kind="cat"))))[0][0].regions[0], SIZE)
    assert mask[30, 40]
    assert not mask[10, 40]


@pytest.mark.parametrize(
    ("drawn", "fate", "why"),
    [
        (region({"name": "point", "cx": 3, "cy": 3}, kind="cat"), "ignored", "a point has no area"),
        (region({**POLYGON, "name": "polyline"}, kind="cat"), "ignored", "an open line has no area"),
        (region({"name": "blob"}, kind="cat"), "refused", "no shape is called `blob`"),
        (region({"name": "circle", "cx": 3, "cy": 3, "r": 0}, kind="cat"), "refused", "a circle or ellipse without a radius"),
        (region({"name": "circle", "cx": 3, "cy": 3}, kind="cat"), "refused", "`r` is missing"),
        (region({"name": "rect", "x": "here", "y": 3, "width": 3, "height": 3}, kind="cat"), "refused", "`x` is no number"),
        (region({**POLYGON, "all_points_x": [1, 2]}, kind="cat"), "refused",
         "its `all_points_x` and `all_points_y` are no lists of equal length"),
        (region(), "refused", "it has no `kind`"),
        (region(kind=" "), "refused", "it has no `kind`"),
        (region(kind={"cat": False}), "refused", "it has no `kind`"),
        (7, "refused", "the region has no `shape_attributes`"),
    ],
)  # fmt: skip
def test_what_is_not_used_says_why(drawn, fate, why, tmp_path):
    found, ledger = read(make(tmp_path, entry(region(kind="cat"), drawn)))
    assert [len(record.regions) for record in found] == [1]
    assert fates(ledger, fate) == {("annotation", "via.json: 0: regions[1]"): why}


def test_the_class_is_the_only_attribute_or_asked_for(tmp_path):
    folder = make(tmp_path, entry(region(kind="cat", colour="red"), region(kind="dog", colour=""), region(kind="cat")))
    with pytest.raises(
        DataError, match=r"`kind` \(3 regions\), `colour` \(1 region\); say which with `class_attribute: kind`"
    ):
        read(folder)
    found, _ = read(folder, class_attribute="kind")
    assert found.classes == ("background", "cat", "dog")
    assert [dict(r.attributes) for r in found[0].regions] == [{"colour": "red"}, {}, {}]
    assert read(folder, class_attribute="colour")[0].classes == ("background", "red")
    with pytest.raises(RecipeError, match="no region has an attribute `knd`; did you mean `kind`"):
        read(folder, class_attribute="knd")


def test_without_attributes_all_is_one_class(tmp_path):
    folder = make(tmp_path, entry(region(), region()))
    found, ledger = read(folder)
    assert found.classes == ("background", "object")
    assert ledger.notes == ["no region has an attribute: all are of one class, `object` (class_name)"]
    assert read(folder, class_name="balloon")[0].classes == ("background", "balloon")


def test_ticked_boxes_are_an_object_each(tmp_path):
    found, ledger = read(make(tmp_path, entry(region(kind={"cat": True, "dog": True, "owl": False}))))
    assert [found.classes[r.label] for r in found[0].regions] == ["cat", "dog"]
    assert [line.why for line in ledger.of("repaired")] == ["it has 2 classes: an object for each"]


def test_numbers_stand_for_what_the_project_says(tmp_path):
    options = {"2": "dog", "1": "cat", "fox": "a red animal"}
    project = {"_via_attributes": {"region": {"kind": {"type": "radio", "options": options}}}}
    found, _ = read(make(tmp_path, entry(region(kind="1"), region(kind="fox"), region(kind="9")), project=project))
    assert found.classes == ("background", "dog", "cat", "fox", "9")
    assert [found.classes[r.label] for r in found[0].regions] == ["cat", "fox", "9"]


def test_via_three(tmp_path):
    drawn = [
        item(7, 10, 5, 30, 5, 30, 25, 10, 25),
        item(2, 10, 5, 20, 20, av={"1": "0", "2": "3"}),
        item(3, 30, 20, 10), item(4, 30, 20, 16, 8), item(6, 0, 0, 9, 0, 9, 9, 0, 0),
        item(1, 3, 3), item(8, 1, 2, 3, 4), item(7, 1, 2, 3), item(), item(2, 1, 1, 5, 5, z=[0, 3]), 7,
        item(7, 0, 0, 9, 0, 9, 9, vid="2"),
    ]  # fmt: skip
    found, ledger = read(three(tmp_path, *drawn), class_attribute="kind")
    assert found.classes == ("background", "cat", "dog")
    areas = [masks.region_area(r, SIZE) for r in found[0].regions]
    assert areas == pytest.approx([400, 400, math.pi * 100, math.pi * 128, 40.5], rel=0.15)
    assert found[0].regions[1].attributes == {"seen": {"x": True}}
    why = {**fates(ledger, "refused"), **fates(ledger, "ignored")}
    told = {
        key[1].rpartition("[")[2]: text for key, text in why.items() if key[0] == "annotation" and ": 1: " in key[1]
    }
    assert told == {
        "5]": "a point has no area",
        "6]": "no shape is called `number 8`",
        "7]": "a polygon with an odd number of coordinates",
        "8]": "it has no shape",
        "9]": "it is a stretch of time, not a shape",
    }
    assert why["image", "via3.json: 2"] == "no view has this number"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"view": {"1": {"fid_list": [1, 1]}}}, "it shows several files"),
        ({"view": {"1": {"fid_list": [4]}}}, "its file is not listed"),
        ({"file": {"1": {"fname": "a.mp4", "type": 4}}}, "its file is no image"),
        ({"file": {"1": {"fname": None, "type": 2}}}, "it has no `filename`"),
    ],
)
def test_via_three_views_that_are_no_photo(more, why, tmp_path):
    found, ledger = read(three(tmp_path, item(7, 0, 0, 9, 0, 9, 9), **more), class_attribute="kind")
    assert not len(found)
    assert (fates(ledger, "refused") | fates(ledger, "ignored"))["image", "via3.json: 1"] == why


def test_images_that_cannot_be_used(tmp_path):
    entries = [
        entry(region(kind="cat")), entry(region(kind="cat"), name="lost.jpg"), entry(name="../outside.jpg"), entry(name=None),
        7, entry(regions=4), entry(region(kind="dog")), entry(name="https://host/photos/a.jpg?token=1"),
    ]  # fmt: skip
    save_photo(tmp_path / "outside.jpg", photo(SIZE))
    found, ledger = read(make(tmp_path / "set", *entries))
    assert [len(record.regions) for record in found] == [2]
    refused = {key[1]: why for key, why in fates(ledger, "refused").items()}
    assert refused == {
        "via.json: 1": "the image file is nowhere below the folder",
        "via.json: 2": "the image file is nowhere below the folder",
        "via.json: 3": "it has no `filename`",
        "via.json: 4": "it has no `filename`",
        "via.json: 5": "`regions` is a number, not a list",
    }
    ignored = fates(ledger, "ignored")
    assert ignored["annotation", "via.json: 1: regions[0]"] == "its image is not used"
    assert ignored["image", "via.json: 6"] == "via.json lists the same photo: their objects were joined"


def test_splits_sizes_and_file_attributes(tmp_path):
    make(tmp_path / "train", entry(region(kind="cat"), file_attributes={"width": 60, "note": ""}, size=5))
    make(tmp_path / "val", entry(region(kind="cat")))
    found, ledger = read(tmp_path)
    assert [(record.id, record.split) for record in found] == [("train/a.jpg", "train"), ("val/a.jpg", "val")]
    assert found[0].attributes == {"width": 60}
    assert ledger.notes == [
        "1 photo has another number of bytes than the labels say, such as a.jpg: were they saved again?"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": {"filename": "a.jpg"', r"via\.json: breaks off at line 1"),
        ('{"a": {"name": "a.jpg"}}', "no entry has a `filename`; export the annotations as JSON"),
        ("7", "holds a number, not the regions of images"),
        ('{"_via_img_metadata": "x"}', "holds text, not the regions of images"),
    ],
)
def test_files_that_are_none(content, message, tmp_path):
    (make(tmp_path, entry()) / "via.json").write_text(content)
    with pytest.raises(DataError, match=message):
        open_data(tmp_path / "via.json", format="via")


@pytest.mark.parametrize("write", [via_one, via_project, via_three])
def test_random_damage_never_crashes(write, tmp_path):
    write(tmp_path, truth(3, seed=4, size=(24, 32)))
    (file,) = tmp_path.glob("*.json")
    assert survives(tmp_path, file, of_json(file, 120, seed=2), "via") > 20


def test_every_region_of_the_real_file_is_read(real_data, tmp_path):
    """ModaNet's labels in VIA's form; its photos cannot be had, so plain ones of the stated size take their place."""
    file = real_data / "modanet" / "vgg_val.json"
    tree = json.loads(file.read_text())
    plain = photo((600, 400))
    for image in tree.values():
        (tmp_path / image["filename"]).write_bytes(plain)
    opened = open_data(file, options={"images": str(tmp_path)})
    assert opened.format == "via"
    assert len(opened.data) == len(tree) == 1067
    assert opened.ledger.totals()["annotation"]["used"] == len(opened.data.regions) == 5434
    assert opened.data.classes == ("background", *(str(number) for number in range(1, 14)))
    missing = open_data(file, format="via").ledger
    assert missing.totals()["image"]["refused"] == 1067
    assert "say where they are with `images: FOLDER`" in missing.notes[0]


def test_sniff_never_raises(tmp_path):
    assert via.sniff(tmp_path / "nothing.json")[0] == 0
