"""Label Studio: brush run-lengths, shapes in percent, several annotators, the ways in which a task names its photo."""

import json
import math
from base64 import urlsafe_b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import of_json, survives
from tool_writers import brush, label_studio, label_studio_min, rle_pack
from truth_writers import fates, photo, save_photo, truth

from maskwright.core.errors import DataError
from maskwright.data.formats import label_studio as reader
from maskwright.data.formats.label_studio_brush import decoded
from maskwright.data.formats.shapes import Unusable
from maskwright.data.open import open_data, recognise
from maskwright.imaging import masks

SIZE = (40, 60)
SQUARE = [[10, 10], [50, 10], [50, 60], [10, 60]]  # in percent: 24 x 20 pixels
BOX = {"x": 10, "y": 10, "width": 40, "height": 50}


def result(kind: str = "polygonlabels", value: Any = None, labels: Any = ("cat",), **more: Any) -> dict[str, Any]:
    value = {"points": SQUARE, "closed": True} if value is None else value
    about = {"original_width": SIZE[1], "original_height": SIZE[0], "image_rotation": 0}
    named = {"from_name": "label", "to_name": "image", "type": kind}
    return {**about, **named, "value": {**value, kind: list(labels)} if isinstance(value, dict) else value, **more}


def annotation(*results: Any, **more: Any) -> dict[str, Any]:
    return {"completed_by": 1, "was_cancelled": False, "result": list(results), **more}


def task(*annotations: Any, image: Any = "/data/upload/1/a.jpg", **more: Any) -> dict[str, Any]:
    return {"id": 7, "annotations": list(annotations), "data": {"image": image}, **more}


def make(folder: Path, *tasks: Any, photo_name: str = "a.jpg", photo_size: tuple[int, int] = SIZE) -> Path:
    save_photo(folder / photo_name, photo(photo_size))
    (folder / "export.json").write_text(json.dumps(list(tasks)))
    return folder


def read(folder: Path, **options: Any):
    opened = open_data(folder, format="label_studio", options=options)
    return opened.data, opened.ledger


def labels_of(found) -> list[str]:
    return [found.classes[region.label] for record in found for region in record.regions]


# -------------------------------------------------------------------------------------------------------- run-lengths


@pytest.mark.parametrize("plain_below", [0, 2, 5, 10**9])
@pytest.mark.parametrize(
    ("word_size", "sizes"), [(8, (3, 4, 8, 16)), (1, (1, 2, 3, 4)), (5, (2, 2, 7, 9)), (8, (16, 8, 4, 3))]
)
def test_brush_strokes_of_any_packing_are_unpacked(plain_below, word_size, sizes):
    rng = np.random.default_rng(0)
    for share in (0, 0.1, 0.5, 1):
        mask = rng.random((5, 7)) < share
        mask[2:4] |= share > 0
        words = np.repeat(mask.reshape(-1) * np.uint8((1 << word_size) - 1), 4)
        packed = rle_pack(words, word_size=word_size, sizes=sizes, plain_below=plain_below)
        np.testing.assert_array_equal(decoded(packed, (5, 7)), mask)


def test_the_beginning_of_a_published_stream():
    """2,527 x 3,332 pixels whose first 65,536 words are 0: what a public export begins with."""
    start = [2, 1, 233, 240, 57, 27, 255, 255, 255, 0]
    size = (2527, 3332)
    with pytest.raises(Unusable, match="its `rle` breaks off"):
        decoded(start, size)
    empty = brush(np.zeros(size, bool))
    assert empty[:9] == start[:9]
    assert not decoded(empty, size).any()


def test_what_is_painted_is_where_alpha_is_not_0():
    words = np.array([[255, 0, 0, 0], [0, 0, 0, 1], [9, 9, 9, 255]], np.uint8)
    np.testing.assert_array_equal(decoded(rle_pack(words.reshape(-1)), (1, 3)), [[False, True, True]])


@pytest.mark.parametrize(
    ("rle", "why"),
    [
        (None, "its `rle` is no list of bytes"),
        ([1, 2, 300], "its `rle` is no list of bytes"),
        ([True] * 20, "its `rle` is no list of bytes"),
        ([0, 0, 0, 8], "its `rle` is too short"),
        (brush(np.ones((5, 5), bool)), "its brush strokes are for 25 pixels, and its image has 2 x 3"),
        ([255] * 40, "its brush strokes are for 1,073,741,824 pixels, and its image has 2 x 3"),
        (brush(np.ones((2, 3), bool))[:8], "its `rle` breaks off"),
        ([*rle_pack(np.zeros(24, np.uint8))[:7], 255, 255, 255, 255], "its brush strokes go on after the last pixel"),
    ],
)
def test_streams_that_are_none(rle, why):
    with pytest.raises(Unusable) as caught:
        decoded(rle, (2, 3))
    assert caught.value.why == why


# -------------------------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    ("drawn", "pixels"),
    [
        (result(), 480),
        (result("labels"), 480),  # with tags of their own for shapes and labels
        (result("rectanglelabels", BOX), 480),
        (result("rectanglelabels", {**BOX, "x": 60, "y": 40, "rotation": 90}), 480),
        (result("ellipselabels", {"x": 50, "y": 50, "radiusX": 20, "radiusY": 25}), math.pi * 120),
        (result("ellipselabels", {"x": 50, "y": 50, "radiusX": 20, "radiusY": 25, "rotation": 90}), math.pi * 120),
        (result("brushlabels", {"format": "rle", "rle": brush(np.eye(*SIZE, dtype=bool))}), 40),
    ],
)
def test_shapes_cover_what_they_say(drawn, pixels, tmp_path):
    found, ledger = read(make(tmp_path, task(annotation(drawn))))
    assert masks.region_area(found[0].regions[0], SIZE) == pytest.approx(pixels, rel=0.02)
    assert ledger.count("annotation", "used") == 1


def test_a_rectangle_turns_around_its_upper_left_corner(tmp_path):
    drawn = result("rectanglelabels", {"x": 50, "y": 25, "width": 40, "height": 25, "rotation": 90})
    found, _ = read(make(tmp_path, task(annotation(drawn))))
    assert np.round(found[0].regions[0].polygons[0], 6).tolist() == [[30, 10], [30, 34], [20, 34], [20, 10]]


@pytest.mark.parametrize(
    ("drawn", "fate", "why"),
    [
        (result("keypointlabels", {"x": 5, "y": 5, "width": 1}), "ignored", "a point has no area"),
        (result("choices", {}, ["good"], type="choices"), "ignored",
         "no drawn shape: it says something of the image or of another region"),
        ({"type": "relation", "from_id": "a", "to_id": "b"}, "ignored",
         "no drawn shape: it says something of the image or of another region"),
        (7, "ignored", "no drawn shape: it says something of the image or of another region"),
        (result(labels=[]), "refused", "it has no label"),
        (result(labels=[None]), "refused", "it has no label"),
        (result(image_rotation=90), "refused", "drawn on the image turned by 90 degrees"),
        (result(item_index=1), "refused", "drawn on another image of the task than its first"),
        (result(original_width=61), "refused", "drawn on an image of 61 x 40 pixels, not 60 x 40"),
        (result(value={"points": SQUARE, "closed": False}), "refused", "a polygon that was left open"),
        (result(value={"points": SQUARE[:2]}), "refused", "a polygon with fewer than 3 points"),
        (result(value={"points": "x"}), "refused", "its points are no list of x and y"),
        (result("rectanglelabels", {**BOX, "width": None}), "refused", "`width` is missing"),
        (result("brushlabels", {"format": "png", "rle": []}), "refused", "brush strokes in the format `png`"),
        (result("brushlabels", {"rle": [1]}), "refused", "its `rle` is too short"),
    ],
)  # fmt: skip
def test_what_is_not_used_says_why(drawn, fate, why, tmp_path):
    found, ledger = read(make(tmp_path, task(annotation(result(), drawn))))
    assert [len(record.regions) for record in found] == [1]
    assert fates(ledger, fate) == {("annotation", "export.json: task 7: result[1]"): why}


def test_results_of_one_id_are_one_region(tmp_path):
    bare = {"from_name": "shape", "to_name": "image", "type": "polygon", "original_width": 60, "original_height": 40}
    drawn = [
        {**bare, "id": "r1", "value": {"points": SQUARE}},
        {
            **bare,
            "id": "r1",
            "type": "labels",
            "from_name": "kind",
            "value": {"points": SQUARE, "labels": ["cat", "dog"]},
        },
        {"id": "r1", "type": "choices", "from_name": "state", "value": {"choices": ["sleeping"]}},
        {"id": "r1", "type": "textarea", "from_name": "remark", "value": {"text": ["a b"]}},
    ]
    found, ledger = read(make(tmp_path, task(annotation(*drawn))))
    assert labels_of(found) == ["cat", "dog"]
    assert found[0].regions[0].attributes == {"state": ["sleeping"], "remark": ["a b"]}
    assert [line.why for line in ledger.of("repaired")] == ["it has 2 classes: an object for each"]


def test_boxes_may_be_left_out(tmp_path):
    found, ledger = read(make(tmp_path, task(annotation(result(), result("rectanglelabels", BOX)))), boxes="ignore")
    assert len(found[0].regions) == 1
    assert list(fates(ledger, "ignored").values()) == ["a box (boxes: ignore)"]


# --------------------------------------------------------------------------------------------------------- annotations


def by(label: str, person: Any = 1, day: int = 1, **more: Any) -> dict[str, Any]:
    changed = f"2024-05-{day:02d}T10:00:00.000000Z"
    return annotation(result(labels=[label]), completed_by=person, updated_at=changed, **more)


@pytest.mark.parametrize(
    ("annotations", "annotator", "taken"),
    [
        ([by("a"), by("b")], None, "b"),
        ([by("a", day=3), by("b")], None, "a"),
        ([by("a", day=3), by("b", ground_truth=True), by("c")], None, "b"),
        ([by("a"), by("b", was_cancelled=True, day=9)], None, "a"),
        ([by("a"), by("b", person=2, day=9)], "1", "a"),
        ([by("a", person={"id": 4, "email": "x@y.z"}), by("b", person=2, ground_truth=True)], "x@y.z", "a"),
        ([annotation(result(labels=["a"])), annotation(result(labels=["b"]))], None, "b"),
    ],
)
def test_one_annotation_of_a_task_is_taken(annotations, annotator, taken, tmp_path):
    found, ledger = read(make(tmp_path, task(*annotations)), annotator=annotator)
    assert labels_of(found) == [taken]
    assert ledger.count("annotation", "ignored") == len(annotations) - 1
    assert ledger.notes[0] == "1 task has several annotations: the ground truth, else the one changed last, is taken"


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (task(), "unlabelled: the task has no annotation"),
        (task(by("a", was_cancelled=True)), "the annotation was cancelled"),
        (task(by("a", person=5)), "not by `2` (annotator)"),
        (task({"result": None}), "it has no `result`"),
        (task(predictions=[annotation(result())]), "unlabelled: the task has no annotation"),
    ],
)
def test_tasks_without_an_annotation_are_ignored(one, why, tmp_path):
    found, ledger = read(make(tmp_path, one, task(by("b", person=2)) | {"id": 8}), annotator="2")
    assert labels_of(found) == ["b"]
    assert fates(ledger, "ignored")["image", "export.json: task 7"] == why


def test_an_empty_annotation_shows_no_object(tmp_path):
    found, _ = read(make(tmp_path, task(annotation())))
    assert [record.regions for record in found] == [()]


def test_json_min_and_its_several_annotators(tmp_path):
    about = {"original_width": SIZE[1], "original_height": SIZE[0]}
    entry = {"image": "/data/upload/3/a.jpg", "id": 1, "annotator": 1, "updated_at": "2024-01-02", "quality": "good"}
    shapes = [{"points": SQUARE, "closed": True, "polygonlabels": ["cat"], **about}]
    boxes = [{**BOX, "rotation": 0, "rectanglelabels": ["dog"], **about}]
    later = {**entry, "annotator": 2, "updated_at": "2024-01-03", "label": [{**shapes[0], "polygonlabels": ["owl"]}]}
    folder = make(tmp_path, {**entry, "label": shapes, "box": boxes}, later)
    assert recognise(folder) == ("label_studio", 'export.json holds "polygonlabels"')
    assert labels_of(read(folder)[0]) == ["owl"]
    found, ledger = read(folder, annotator="1")
    assert labels_of(found) == ["cat", "dog"]
    assert ledger.totals()["image"]["seen"] == 1


def test_one_annotation_as_sync_storages_keep_it(tmp_path):
    folder = make(tmp_path)
    document = {**annotation(result()), "id": 3, "task": {"id": 7, "data": {"image": "s3://bucket/deep/a.jpg"}}}
    (folder / "export.json").write_text(json.dumps(document))
    assert recognise(folder)[0] == "label_studio"
    assert labels_of(read(folder)[0]) == ["cat"]


# -------------------------------------------------------------------------------------------------------------- photos


@pytest.mark.parametrize(
    ("image", "photo_name", "repair"),
    [
        ("/data/upload/1/0a1b2c3d-my_cat.jpg", "0a1b2c3d-my_cat.jpg", None),
        (
            "/data/upload/1/0a1b2c3d-my_cat.jpg",
            "my_cat.jpg",
            "found as my_cat.jpg, without the prefix that Label Studio gave it",
        ),
        ("/data/upload/1/my%20cat.jpg", "photos/my cat.jpg", None),
        ("/data/local-files/?d=disk/set/my%20cat.jpg", "set/my cat.jpg", None),
        ("https://host.example/x/y/cat.jpg?token=a/b.png", "cat.jpg", None),
        ("s3://bucket/x/cat.jpg", "x/cat.jpg", None),
        ("gs://bucket/cat.jpg", "cat.jpg", None),
        ("/tasks/4/resolve/?fileuri=" + urlsafe_b64encode(b"s3://bucket/set/cat.jpg").decode(), "cat.jpg", None),
    ],
)
def test_the_ways_to_name_a_photo(image, photo_name, repair, tmp_path):
    found, ledger = read(make(tmp_path, task(annotation(result()), image=image), photo_name=photo_name))
    assert [record.id for record in found] == [photo_name]
    assert [line.why for line in ledger.of("repaired")] == ([repair] if repair else [])


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (task(by("a"), image="/data/local-files/?d=../../outside.jpg"), "the image file is nowhere below the folder"),
        (task(by("a"), image="http://[bad"), "the image file is nowhere below the folder"),
        (task(by("a"), image="/resolve/?fileuri=%%%"), "the image file is nowhere below the folder"),
        (task(by("a"), data={}), "its data name no image"),
        (task(by("a"), data={"left": "a.jpg", "right": "b.png"}),
         "several of its data could be the photo: `left`, `right` (say which with `image_key`)"),
        (7, "the entry is no task"),
        (task(by("a")) | {"id": 9}, "the labels are for 60 x 40 pixels and the photo has 59 x 40"),
    ],
)  # fmt: skip
def test_images_that_cannot_be_used(one, why, tmp_path):
    save_photo(tmp_path / "outside.jpg", photo(SIZE))
    folder = make(tmp_path / "set", one, task(by("b"), image="good.jpg"), photo_size=(40, 59))
    save_photo(folder / "good.jpg", photo(SIZE))
    found, ledger = read(folder)
    assert [record.id for record in found] == ["good.jpg"]
    assert [said for (kind, _), said in fates(ledger, "refused").items() if kind == "image"] == [why]


def test_the_photo_may_be_named_by_option_or_upload(tmp_path):
    data = {"left": "a.jpg", "right": "b.png"}
    assert len(read(make(tmp_path, task(by("a"), data=data)), image_key="left")[0]) == 1
    assert len(read(make(tmp_path, task(by("a"), data={"image": "/x/y.jpg"}, file_upload="a.jpg")))[0]) == 1
    ledger = read(make(tmp_path, task(by("a"), data=data)), image_key="up")[1]
    assert list(fates(ledger, "refused").values()) == ["its data have no `up`"]


# -------------------------------------------------------------------------------------------------------------- damage


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"annotations": [', r"export\.json: breaks off at line 1"),
        ("7", "holds a number, not Label Studio's tasks"),
        ("\ufeff", "is empty"),
    ],
)
def test_files_that_are_none(content, message, tmp_path):
    file = make(tmp_path) / "export.json"
    file.write_text(content)
    with pytest.raises(DataError, match=message):
        open_data(file, format="label_studio")


@pytest.mark.parametrize("write", [label_studio("polygonlabels"), label_studio("brushlabels"), label_studio_min])
def test_random_damage_never_crashes(write, tmp_path):
    write(tmp_path, truth(3, seed=4, size=(24, 32)))
    (file,) = tmp_path.glob("*.json")
    assert survives(tmp_path, file, of_json(file, 120, seed=3), "label_studio") > 20


def test_sniff_never_raises(tmp_path):
    assert reader.sniff(tmp_path / "nothing.json")[0] == 0
