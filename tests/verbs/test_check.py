"""`check`: the counts of the real sets, exactly; every fate in the JSON; a page that reads at 80 columns without colour."""

import io
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from number_writers import numbered, voc_objects
from PIL import Image
from rich.console import Console
from truth_writers import SHAPES, truth

from maskwright.core.errors import DataError, RecipeError
from maskwright.verbs.check import Checked, check
from maskwright.verbs.check_page import grouped


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "cache"))


def page(checked: Checked, width: int = 80) -> str:
    out = io.StringIO()
    checked.show(Console(file=out, width=width, highlight=False, color_system=None))
    return out.getvalue()


def facts_of(real_data: Path, name: str) -> dict:
    return json.loads((real_data / "facts.json").read_text())[name]


# ------------------------------------------------------------------------------------------------------- the real sets

COCO = [
    "car-parts/testset/annotations.json",
    "car-parts/trainingset/annotations.json",
    "coco_tiny/annotations/instances_train2017.json",
    "coco_tiny/annotations/instances_val2017.json",
]


@pytest.mark.parametrize("name", COCO)
def test_coco_sets_are_counted_exactly(real_data, name):
    facts, found = facts_of(real_data, name), check(str(real_data / name)).to_json()
    assert found["format"] == "coco"
    assert (found["images"], found["annotations"], found["crowds"]) == (
        facts["images"],
        facts["annotations"],
        facts["crowd"],
    )
    assert found["ledger"]["totals"]["annotation"]["seen"] == facts["annotations"]
    assert found["pixels"] == facts["total_pixels"]
    drawn = [row for row in found["classes"] if row["objects"]]
    assert {row["name"]: row["objects"] for row in drawn} == facts["objects"]
    assert {row["name"]: row["pixels"] for row in drawn} == facts["pixels_union_per_class"]


def test_a_whole_coco_folder_is_its_lists(real_data):
    for folder, lists in (
        ("car-parts", {"train": COCO[1], "test": COCO[0]}),
        ("coco_tiny", {"train": COCO[2], "val": COCO[3]}),
    ):
        found = check(str(real_data / folder)).to_json()
        for part, name in lists.items():
            facts = facts_of(real_data, name)
            assert found["splits"][part]["images"] == facts["images"]
            pixels = {c: n for c, n in found["splits"][part]["pixels"].items() if n and c != "background"}
            assert pixels == facts["pixels_union_per_class"]
        assert {part: found["training"][part] for part in ("train", "val", "test")} == (
            {"train": 320, "val": 80, "test": 100} if folder == "car-parts" else {"train": 40, "val": 50, "test": 0}
        )


def test_voc_is_counted_exactly(real_data):
    found = check(str(real_data / "VOCdevkit")).to_json()
    assert found["format"] == "voc"
    images = dict.fromkeys([row["name"] for row in found["classes"]], 0)
    for part in ("train", "val"):
        facts = facts_of(real_data, f"VOCdevkit/VOC2012 {part}")
        there = found["splits"][part]
        assert there["images"] == facts["listed"] == facts["label_maps"]
        counted = {name: n for name, n in there["pixels"].items() if n} | {"VOID": there["void_pixels"]}
        assert counted == facts["pixels_per_value"]
        for name in images:
            images[name] += facts["images_per_value"].get(name, 0)
    assert {row["name"]: row["images"] for row in found["classes"]} == images
    assert found["annotations"] == 240
    assert found["training"]["how"] == "official lists (train 160, val 80)"


def test_pets_are_counted_exactly(real_data):
    found = check(str(real_data / "oxford-iiit-pet"), option=["border=class"]).to_json()
    assert found["format"] == "pet"
    assert found["images"] == 230
    names = {"pet": "foreground (1)", "background": "background (2)", "border": "border (3)"}
    for part, name in (("train", "trainval"), ("test", "test")):
        facts = facts_of(real_data, f"oxford-iiit-pet {name}")
        assert found["splits"][part]["images"] == facts["listed"]
        assert {names[c]: n for c, n in found["splits"][part]["pixels"].items()} == facts["pixels_per_value"]
    plain = check(str(real_data / "oxford-iiit-pet")).to_json()
    border = next(row["pixels"] for row in found["classes"] if row["name"] == "border")
    assert plain["void_pixels"] == border
    ignored = {line["item"] for line in plain["ledger"]["lines"] if line["fate"] == "ignored"}
    strays = facts_of(real_data, "oxford-iiit-pet folder")
    for name in [*strays["jpg in no list"], *strays["not jpg"]]:
        assert any(item.endswith(f"images/{name}") for item in ignored), name


# ---------------------------------------------------------------------------------------------------- a set made here


def coco(folder: Path, *, broken: int = 0, num: int = 6) -> str:
    """Squares on grey photos as COCO JSON; the first `broken` photos are no images."""
    (folder / "images").mkdir(parents=True)
    document = {"images": [], "annotations": [], "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]}
    for i in range(num):
        Image.fromarray(np.full((20, 30, 3), 10 * i, np.uint8)).save(folder / "images" / f"{i}.png")
        if i < broken:
            (folder / "images" / f"{i}.png").write_text("rubbish")
        document["images"].append({"id": i, "file_name": f"{i}.png", "height": 20, "width": 30})
        square = [0, 0, 10, 0, 10, 10, 0, 10]
        document["annotations"].append(
            {
                "id": 50 + i,
                "image_id": i,
                "category_id": 3,
                "iscrowd": 0,
                "segmentation": [square],
                "bbox": [0, 0, 10, 10],
            }
        )
    (folder / "labels.json").write_text(json.dumps(document))
    (folder / "notes.txt").write_text("stray")
    return str(folder)


def test_the_json_of_a_small_set(tmp_path):
    path = coco(tmp_path / "set")
    checked = check(path)
    found = checked.to_json()
    assert next(iter(found)) == "schema"
    assert json.loads(json.dumps(found)) == found
    assert (found["schema"], found["format"], found["images"], found["annotations"], found["crowds"]) == (
        1,
        "coco",
        6,
        6,
        0,
    )
    assert found["classes"] == [
        {"name": "background", "objects": None, "images": 6, "pixels": 3000, "painted_pixels": 3000},
        {"name": "cat", "objects": 6, "images": 6, "pixels": 600, "painted_pixels": 600},
        {"name": "dog", "objects": 0, "images": 0, "pixels": 0, "painted_pixels": 0},
    ]
    assert (found["pixels"], found["void_pixels"]) == (3600, 0)
    assert found["sizes"] == {"smallest": [20, 30], "median": [20, 30], "largest": [20, 30]}
    assert {part: found["training"][part] for part in ("train", "val", "test")} == {"train": 4, "val": 2, "test": 0}
    assert found["leaks"] == []
    assert [(line["item"], line["fate"]) for line in found["ledger"]["lines"]] == [(f"{path}/notes.txt", "ignored")]
    assert found["next"] == [f"maskwright train {path}"]
    assert checked.refused == checked.exit_code == 0  # ignored items are no fault


def test_refused_items_show_in_code_page_and_next_step(tmp_path):
    path = coco(tmp_path / "set", broken=2)
    checked = check(path)
    assert checked.refused >= 2
    assert checked.exit_code == DataError.exit_code
    assert checked.to_json()["images"] == 4
    totals = checked.to_json()["ledger"]["totals"]
    for row in totals.values():
        assert row["seen"] == sum(row[fate] for fate in ("used", "repaired", "ignored", "refused"))
    assert totals["image"]["refused"] == 2
    assert "2 images is no image" in " ".join(page(checked).split())
    assert "images/0.png, images/1.png" in " ".join(page(checked).split())
    assert checked.next == [f"maskwright check {path} --json", f"maskwright train {path} --allow-refused"]


def test_nothing_usable_is_a_page_not_a_crash(tmp_path):
    checked = check(coco(tmp_path / "set", broken=3, num=3))
    assert checked.to_json()["images"] == 0
    assert "there is no image to split" in page(checked)
    assert checked.next == [f"maskwright check {tmp_path / 'set'} --json"]


def test_quick_decodes_nothing(tmp_path):
    checked = check(coco(tmp_path / "set", broken=2), quick=True)
    found = checked.to_json()
    assert found["images"] == 6
    assert found["pixels"] is None
    assert found["classes"][1] == {"name": "cat", "objects": 6, "images": 6, "pixels": None, "painted_pixels": None}
    assert "cat" in page(checked)
    assert checked.next == [f"maskwright check {tmp_path / 'set'}"]


def test_options_reach_the_reader_and_the_next_command(tmp_path):
    path = coco(tmp_path / "a set")
    checked = check(path, option=["crowd=drop"])
    source = json.dumps({"path": path, "format": {"name": "coco", "crowd": "drop"}})
    assert checked.next == [f"maskwright train '{path}' 'data={source}'"]
    with pytest.raises(RecipeError, match="did you mean `crowd`"):
        check(path, option=["crwd=drop"])
    with pytest.raises(RecipeError, match="is not a change"):
        check(path, option=["crowd"])


def test_leaks_and_unseen_classes_are_told(tmp_path):
    """The same photo in two official lists, and a class that only validates."""
    for part, colour in (("train", 1), ("val", 2)):
        for kind in ("images", "masks"):
            (tmp_path / "set" / part / kind).mkdir(parents=True)
        for i in range(2):
            Image.new("RGB", (8, 8), (5, 5, 5 + i)).save(tmp_path / "set" / part / "images" / f"{i}.png")
            Image.new("L", (8, 8), colour if i else 0).save(tmp_path / "set" / part / "masks" / f"{i}.png")
    checked = check(str(tmp_path / "set"), format="folder", option=["classes=[background, cat, dog]"])
    found = checked.to_json()
    assert [leak["why"] for leak in found["leaks"]] == ["the same file content"] * 2
    assert found["training"]["only_in_validation"] == ["dog"]
    text = " ".join(page(checked).split())
    assert "leak: the same file content in train and val" in text
    assert "1 class in validation or test that no training image shows: dog" in text


# ------------------------------------------------------------------------------------------------------------ the page


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_page_fits_and_has_no_escape_codes(tmp_path, width):
    path = coco(tmp_path / ("long" * 8), broken=1)
    text = page(check(path), width)
    lines = [line for line in text.splitlines() if path not in line]
    assert max(len(line) for line in lines) <= width
    assert "\x1b" not in text
    for word in ("format", "images", "split", "ledger", "refused", "cat", "dog", "notes.txt"):
        assert word in text


def test_the_page_in_a_terminal_that_knows_only_ascii(tmp_path):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    check(coco(tmp_path / "set")).show(Console(file=out, width=80, color_system=None))
    out.flush()
    assert b"###" in out.buffer.getvalue()


def test_a_page_of_many_classes_and_reasons_is_cut():
    classes = [
        {"name": f"class {n}", "objects": n, "images": n, "pixels": n * 10, "painted_pixels": n * 10} for n in range(90)
    ]
    lines = [
        {"kind": "file", "item": f"/d/{why}/{n}.txt", "fate": "ignored", "why": why}
        for why in ("not an image", *"abcdefghijk")
        for n in range(217 if why == "not an image" else 2)
    ]
    facts = {
        "path": "/d", "format": "folder", "reason": "it looks so", "images": 90, "annotations": 90, "crowds": 0,
        "numbered_objects": None,
        "sizes": None, "classes": classes, "pixels": 90_000, "void_pixels": 9, "splits": {}, "leaks": [],
        "training": {"how": "fold", "train": 80, "val": 10, "test": 0, "only_in_validation": []},
        "ledger": {"totals": {"file": dict.fromkeys(("seen", "used", "repaired", "ignored", "refused"), 3)}, "lines": lines,
                   "notes": ["word " * 200]},
    }  # fmt: skip
    text = page(Checked(facts))
    assert "... and 60 smaller classes: see --json" in text
    assert "class 89" in text
    assert "class 12 " not in text
    assert "not an image/0.txt, not an image/1.txt, not an image/2.txt ... and 214 more: see --json" in " ".join(
        text.split()
    )
    assert "... and 4 more reasons: see --json" in text
    assert len(text.splitlines()) < 80


def test_reasons_that_differ_in_numbers_only_are_one():
    def line(kind, item, why):
        return {"kind": kind, "item": item, "fate": "refused", "why": why}

    lines = [
        line("annotation", "a", "no polygon"),
        line("image", "x", "the image is 3 x 4 pixels"),
        line("image", "y", "the image is 12 x 4,000 pixels"),
        line("image", "z", "truncated"),
        line("annotation", "b", "no polygon"),
        line("annotation", "c", "no polygon"),
    ]
    assert grouped(lines) == [
        ("image", "the image is 3 x 4 pixels or the like", ["x", "y"]),
        ("image", "truncated", ["z"]),
        ("annotation", "no polygon", ["a", "b", "c"]),
    ]


def test_unreadable_paths_are_one_sentence(tmp_path):
    with pytest.raises(DataError, match="not found"):
        check(str(tmp_path / "nothing"))


def test_objects_of_number_maps_are_counted_by_class(tmp_path):
    """Nothing but the maps says how many there are: they are decoded for it, kept in the cache, and left out when quick."""
    samples = truth()
    voc_objects(tmp_path, samples)
    expected = Counter(SHAPES[label - 1] for sample in samples for label in numbered(sample)[1])
    for _ in range(2):
        facts = check(str(tmp_path / "VOCdevkit")).facts
        assert facts["numbered_objects"] == sum(expected.values()) > len(samples)
        assert {row["name"]: row["objects"] for row in facts["classes"] if row["objects"]} == expected
        assert facts["annotations"] == len(samples)
    assert check(str(tmp_path / "VOCdevkit"), quick=True).facts["numbered_objects"] is None
