"""`maskwright evaluate` on objects that another tool found: results files, folders of object numbers, panoptic JSONs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hotcoco import mask as coco
from PIL import Image

import maskwright as mw
from maskwright.core.errors import DataError, RecipeError
from maskwright.core.types import Instances, Record
from maskwright.data import synthetic
from maskwright.data.open import open_data
from maskwright.imaging import masks
from maskwright.imaging.objects import objects_of
from maskwright.metrics.panoptic import Segments
from maskwright.prediction import instance_evaluation, panoptic_files

Rows = list[dict[str, Any]]
GOLDEN = Path(__file__).parents[1] / "golden" / "bundle-1"
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "json.md"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.make(tmp_path_factory.mktemp("objects") / "photos", num=12, size=(72, 96), seed=5)


@pytest.fixture(scope="module")
def labels(photos: Path) -> Path:
    return photos / "annotations.json"


@pytest.fixture(scope="module")
def rows(labels: Path) -> Rows:
    """Every object of the truth, found: with its polygons, and a score."""
    found = json.loads(labels.read_text())["annotations"]
    keys = ("image_id", "category_id", "segmentation")
    return [{**{key: one[key] for key in keys}, "score": 1 - i / 1000} for i, one in enumerate(found)]


@pytest.fixture
def score(tmp_path: Path, labels: Path) -> Callable[..., Any]:
    def scored(rows: Any, data: Path = labels, **options: Any) -> Any:
        (tmp_path / "results.json").write_text(json.dumps(rows))
        return mw.evaluate(str(tmp_path / "results.json"), str(data), **options)

    return scored


def sizes(labels: Path) -> dict[int, tuple[int, int]]:
    return {image["id"]: (image["height"], image["width"]) for image in json.loads(labels.read_text())["images"]}


def run_lengths(row: dict[str, Any], labels: Path) -> dict[str, Any]:
    height, width = sizes(labels)[row["image_id"]]
    packed = coco.merge(coco.fr_py_objects(row["segmentation"], height, width))
    return {"size": packed["size"], "counts": packed["counts"].decode()}


def counts(row: dict[str, Any], labels: Path) -> dict[str, Any]:
    packed = run_lengths(row, labels)
    runs, _ = masks.mend_counts(packed["counts"], tuple(packed["size"]))
    assert runs is not None
    return {"size": packed["size"], "counts": runs.tolist()}


def worsened(rows: Rows) -> Rows:
    """Some not found, some of the wrong class, some moved."""
    found = []
    for number, row in enumerate(rows):
        if number % 5 == 0:
            continue
        moved = [[value + 2.5 * (number % 3) for value in part] for part in row["segmentation"]]
        category = row["category_id"] % 4 + 1 if number % 7 == 0 else row["category_id"]
        found.append({**row, "segmentation": moved, "category_id": category, "score": 0.2 + number * 37 % 100 / 200})
    return found


def test_every_way_to_write_a_mask_scores_the_same(rows: Rows, labels: Path, score: Callable[..., Any]) -> None:
    worse = worsened(rows)
    first = score(worse).scores
    assert 0.1 < first["mask_ap"] < 0.9
    for encode in (run_lengths, counts):
        other = score([{**row, "segmentation": encode(row, labels)} for row in worse]).scores
        assert other.to_json() == first.to_json()
    flat = score([{**row, "segmentation": row["segmentation"][0]} for row in worse]).scores
    assert flat.to_json() == first.to_json()
    as_text = [{**row, "image_id": str(row["image_id"]), "category_id": str(row["category_id"])} for row in worse]
    assert score(as_text).scores.to_json() == first.to_json()


def test_perfect_results_score_one(rows: Rows, score: Callable[..., Any], capsys: Any) -> None:
    evaluated = score(rows)
    scores = evaluated.scores
    assert scores["mask_ap"] == scores["box_ap"] == pytest.approx(1, abs=1e-12)
    assert "AP50" in evaluated.table()
    assert scores.convention.split(",")[0] in evaluated.table().replace("\n", " ")
    assert max(map(len, evaluated.table().splitlines())) <= 80


def test_a_model_gives_what_its_results_file_gives(rows: Rows, photos: Path, score: Callable[..., Any]) -> None:
    """`instance_evaluation.score` calls a function of a record; a file with the same objects scores the same."""
    worse = worsened(rows)
    data = open_data(photos).data
    names = {
        image["file_name"]: image["id"] for image in json.loads((photos / "annotations.json").read_text())["images"]
    }

    def predict(record: Record) -> Instances:
        mine = [row for row in worse if row["image_id"] == names[Path(record.image).name]]
        packed = [run_lengths(row, photos / "annotations.json") for row in mine]
        runs = tuple(masks.mend_counts(rle["counts"], record.size)[0] for rle in packed)
        boxes = np.array([coco.to_bbox(rle) for rle in packed], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([row["category_id"] for row in mine], np.int64) + 1
        answers = np.array([row["score"] for row in mine], np.float32)
        classes = ("nothing", *data.classes)  # another order and another class than those of the data
        return Instances(labels, answers, boxes, runs, record.size, classes, record.image)  # type: ignore[arg-type]

    ours = instance_evaluation.score(predict, data, resamples=0)
    boxed = [{**row, "bbox": coco.to_bbox(run_lengths(row, photos / "annotations.json")).tolist()} for row in worse]
    file = score(boxed).scores
    for name, estimate in ours.headlines.items():
        assert estimate.value == pytest.approx(file[name], abs=1e-12), name
    lost = ("nothing", "disc", "square", "triangle")
    empty = Instances(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros((0, 4)), (), (1, 1), lost)
    with pytest.raises(DataError, match="class `star`"):
        instance_evaluation.score(lambda record: empty, data)


def test_boxes_alone_are_enough(rows: Rows, labels: Path, score: Callable[..., Any]) -> None:
    boxes = [
        {k: v for k, v in row.items() if k != "segmentation"}
        | {"bbox": coco.to_bbox(run_lengths(row, labels)).tolist()}
        for row in worsened(rows)
    ]
    scores = score(boxes).scores
    assert {name.split("_")[0] for name in scores.headlines} == {"box"}
    assert scores["box_ap"] == pytest.approx(score(worsened(rows)).scores["box_ap"], abs=1e-12)
    assert any("have no mask" in note for note in scores.notes)


def test_masks_and_boxes_of_one_file_go_by_their_own_sizes(rows: Rows, labels: Path, score: Callable[..., Any]) -> None:
    """As the reference implementation's scores of boxes do; a file with both is two files in one."""
    both: Rows = []
    for number, row in enumerate(worsened(rows)):
        packed = run_lengths(row, labels)
        x, y, width, height = coco.to_bbox(packed).tolist()
        grown = 1 if number % 3 else 1.4  # large enough for another range of sizes
        both.append({**row, "segmentation": packed, "bbox": [x, y, width * grown, height * grown]})
    one, boxes, drawn = (
        score([{key: v for key, v in row.items() if key != left_out} for row in both]).scores
        for left_out in ("", "segmentation", "bbox")
    )
    for name in one.headlines:
        assert one[name] == (drawn if name.startswith("mask") else boxes)[name], name
    unlike = [name for name in boxes.headlines if boxes[name] != drawn[name]]
    assert "box_ap_small" in unlike


BAD: list[tuple[str, dict[str, Any] | list[Any] | int]] = [
    ("`score` is not a finite number", {"score": True}),
    ("`score` is not a finite number", {"score": 10**400}),
    ("`score` is not a finite number", {"score": float("nan")}),
    ("numbers that are no box", {"bbox": [10**400, 2, 3, 4]}),
    ("numbers that are no box", {"bbox": [1, 2, float("inf"), 4]}),
    ("no image of the data set", {"image_id": 999}),
    ("no category of the data set", {"category_id": 999}),
    ("it has no `score`", {"score": None}),
    ("`score` is not a finite number", {"score": "high"}),
    ("neither a mask nor a box", {"segmentation": []}),
    ("run-lengths of another size", {"segmentation": {"size": [5, 5], "counts": [25]}}),
    ("do not sum to", {"segmentation": {"size": [72, 96], "counts": [5]}}),
    ("no compressed COCO string", {"segmentation": {"size": [72, 96], "counts": "~~~"}}),
    ("fewer than 3 points", {"segmentation": [[1, 2, 3, 4]]}),
    ("`segmentation` is text", {"segmentation": "mask"}),
    ("no list of four numbers", {"bbox": [1, 2, 3]}),
    ("numbers that are no box", {"bbox": [1, 2, -3, 4]}),
    ("it is a list", [1]),
    ("it is a number", 7),
]


@pytest.mark.parametrize(("word", "change"), BAD, ids=str)
def test_what_cannot_be_scored_is_counted_with_its_reason(
    rows: Rows, labels: Path, score: Callable[..., Any], word: str, change: Any
) -> None:
    image = next(id for id, size in sizes(labels).items() if size == (72, 96))
    good = next(row for row in rows if row["image_id"] == image)
    bad: Any = {**good, **change} if isinstance(change, dict) else change
    if isinstance(change, dict) and change.get("score", 0) is None:
        del bad["score"]
    mixed = [*rows[:3], bad, *rows[3:], bad]
    with pytest.raises(
        DataError, match=r"2 detections cannot be scored: 2 x .*first: entry 3.*--allow-refused"
    ) as error:
        score(mixed)
    assert word in str(error.value)
    rest = score(mixed, allow_refused=True)
    assert rest.refused == 2
    assert [estimate.value for estimate in rest.scores.headlines.values()] == [
        estimate.value for estimate in score(rows).scores.headlines.values()
    ]
    assert any(word in note for note in rest.scores.notes)


def test_what_is_no_results_file_is_said(labels: Path, rows: Rows, score: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds a data set, not detections"):
        mw.evaluate(str(labels), str(labels))
    with pytest.raises(DataError, match="holds text, not a list"):
        score("hello")
    with pytest.raises(DataError, match=r"not found|cannot be read"):
        mw.evaluate(str(tmp_path / "absent.json"), str(labels))
    (tmp_path / "half.json").write_text('[{"image_id": 1, ')
    with pytest.raises(DataError, match="breaks off"):
        mw.evaluate(str(tmp_path / "half.json"), str(labels))
    for option, value in (("tiles", True), ("flip", True), ("convention", "sagemaker")):
        with pytest.raises(RecipeError, match="does nothing"):
            score(rows, **{option: value})


def test_no_detection_and_a_truth_without_objects(rows: Rows, labels: Path, score: Callable[..., Any]) -> None:
    assert score([]).scores["mask_ap"] == 0
    tree = json.loads(labels.read_text())
    path = labels.parent.parent / "empty.json"
    path.write_text(json.dumps({**tree, "annotations": []}))
    assert score(rows, path).scores["mask_ap"] is None


def test_what_the_truth_says_wrongly_is_told(rows: Rows, labels: Path, score: Callable[..., Any]) -> None:
    tree = json.loads(labels.read_text())
    path = labels.parent.parent / "odd.json"

    def scored(change: dict[str, Any], entries: str, number: int = 0) -> Any:
        changed = [{**e, **change} if i == number else e for i, e in enumerate(tree[entries])]
        path.write_text(json.dumps({**tree, entries: changed}))
        return score(rows, path).scores

    plain = score(rows).scores
    for area in (10**400, True, "12", float("nan"), None):  # no number: its pixels are counted
        assert scored({"area": area}, "annotations")["mask_ap"] == plain["mask_ap"]
    for width in (10**400, 2**32, True, 96.0):
        with pytest.raises(DataError, match=r"`images\[0\]` has no usable `height` and `width`"):
            scored({"width": width}, "images")
    with pytest.raises(DataError, match="no usable"):
        scored({"width": 100_000, "height": 100_000}, "images")  # more pixels than run-lengths can count
    twice = scored({"id": tree["annotations"][0]["id"]}, "annotations", 1)
    assert "1 true object with the id of another: each counts" in twice.notes
    assert twice["mask_ap"] == plain["mask_ap"]
    assert not plain.notes


def test_stated_boxes_and_areas_of_the_truth_count(rows: Rows, labels: Path, score: Callable[..., Any]) -> None:
    tree = json.loads(labels.read_text())
    for annotation in tree["annotations"]:
        annotation["area"], annotation["bbox"] = 100_000, [0, 0, 1, 1]
    path = labels.parent.parent / "stated.json"
    path.write_text(json.dumps(tree))
    scores = score(rows, path).scores
    assert (scores["mask_ap_small"], scores["box_ap"]) == (None, 0)
    assert scores["mask_ap_large"] == pytest.approx(1, abs=1e-12)
    assert "that the labels state" in scores.convention
    for annotation in tree["annotations"]:
        del annotation["area"], annotation["bbox"]
    path.write_text(json.dumps(tree))
    bare = score(rows, path).scores
    assert bare["box_ap"] == pytest.approx(1, abs=1e-12)
    assert "the pixels of its mask" in bare.convention


def test_true_objects_that_are_only_boxes_or_nothing(rows: Rows, labels: Path, score: Callable[..., Any]) -> None:
    tree = json.loads(labels.read_text())
    tree["annotations"][0]["segmentation"] = []
    path = labels.parent.parent / "boxes.json"
    path.write_text(json.dumps(tree))
    scores = score(rows[1:], path).scores
    assert scores["mask_ap"] == pytest.approx(1, abs=1e-12)
    assert scores["box_ar100"] < 1
    assert any("without a mask" in note for note in scores.notes)
    tree["annotations"][1]["category_id"] = 99
    path.write_text(json.dumps(tree))
    with pytest.raises(DataError, match="1 true object cannot be scored"):
        score(rows, path)
    assert score(rows, path, allow_refused=True).refused == 1


def test_a_folder_with_several_jsons_needs_a_part(
    rows: Rows, photos: Path, tmp_path: Path, score: Callable[..., Any]
) -> None:
    text = (photos / "annotations.json").read_text()
    (tmp_path / "set" / "annotations").mkdir(parents=True)
    for name in ("train", "val"):
        (tmp_path / "set" / "annotations" / f"instances_{name}.json").write_text(text)
    with pytest.raises(DataError, match="2 COCO JSONs"):
        score(rows, tmp_path / "set")
    assert score(rows, tmp_path / "set", part="val").scores["mask_ap"] == pytest.approx(1, abs=1e-12)
    assert score(rows, photos).scores["mask_ap"] == pytest.approx(1, abs=1e-12)


def test_a_part_that_says_nothing_is_told(rows: Rows, score: Callable[..., Any], capfd: Any) -> None:
    assert len(score(rows, part="val").scores.ids) == 12
    assert "--part val says nothing of a single JSON" in capfd.readouterr().err
    with pytest.raises(RecipeError, match="no part is called `valid`"):
        score(rows, part="valid")


def test_a_split_scores_its_part_alone(
    rows: Rows, photos: Path, labels: Path, tmp_path: Path, score: Callable[..., Any]
) -> None:
    ids = list(open_data(photos).data.ids)
    parts = {"train": ids[:6], "val": ids[6:10], "test": ids[10:]}
    (tmp_path / "split.json").write_text(json.dumps(parts))
    names = {image["id"]: image["file_name"] for image in json.loads(labels.read_text())["images"]}
    worse = worsened(rows)
    for part, mine in parts.items():
        kept = [row for row in worse if any(id.endswith(names[row["image_id"]]) for id in mine)]
        scored = score(worse, split=str(tmp_path / "split.json"), part=part).scores
        tree = json.loads(labels.read_text())
        tree["images"] = [image for image in tree["images"] if any(id.endswith(image["file_name"]) for id in mine)]
        there = {image["id"] for image in tree["images"]}
        tree["annotations"] = [a for a in tree["annotations"] if a["image_id"] in there]
        (tmp_path / "some.json").write_text(json.dumps(tree))
        alone = score(kept, tmp_path / "some.json").scores
        assert {**scored.to_json(), "notes": []} == alone.to_json()
        assert any(f"{len(worse) - len(kept)} detections" in note for note in scored.notes)
    assert score(worse, split=str(tmp_path / "split.json")).part == "val"
    (tmp_path / "split.json").write_text(json.dumps({"train": ["nobody.jpg"], "val": []}))
    with pytest.raises(DataError, match="0 images called nobody"):
        score(worse, split=str(tmp_path / "split.json"), part="train")


def test_other_formats_know_images_by_name_and_classes_by_index(tmp_path: Path, score: Callable[..., Any]) -> None:
    yolo = synthetic.make(tmp_path / "yolo", num=6, size=(72, 96), seed=5, format="yolo")
    data = open_data(yolo).data
    rows = []
    for record in data:
        for region in record.regions:
            part = [region.polygons[0].reshape(-1).tolist()]
            row = {"image_id": Path(record.image).stem, "category_id": region.label, "segmentation": part, "score": 0.5}
            rows.append(row)
    assert score(rows, yolo).scores["mask_ap"] == pytest.approx(1, abs=1e-12)
    named = [{**row, "category_id": data.classes[row["category_id"]]} for row in rows]
    assert score(named, yolo).scores["mask_ap"] == pytest.approx(1, abs=1e-12)


def numbered(photos: Path, folder: Path, keep: Callable[[int], bool] = lambda number: True) -> Path:
    """Object-number maps of the truth, small objects on top."""
    folder.mkdir()
    data = open_data(photos).data
    for record in data:
        truth = objects_of(record, data.classes)
        map = np.zeros(record.size, np.uint8)
        for number in np.argsort(-truth.areas(), kind="stable").tolist():
            if keep(number):
                map[truth.mask(number)] = number + 1
        Image.fromarray(map).save(folder / f"{Path(record.image).stem}.png")
    return folder


def test_a_folder_of_object_numbers(photos: Path, tmp_path: Path) -> None:
    whole = mw.evaluate(str(numbered(photos, tmp_path / "all")), str(photos), objects=True)
    assert whole.panoptic["pq"] == pytest.approx(1, abs=1e-12)
    assert whole.scores["mask_ap50"] > 0.9  # what lies below another object is not in the maps
    assert whole.scores.classes == ("object",)
    some = mw.evaluate(str(numbered(photos, tmp_path / "some", lambda n: n == 0)), str(photos), objects=True)
    assert some.scores["mask_ar100"] < whole.scores["mask_ar100"]
    assert some.panoptic["sq"] > 0.9  # what lay below the objects that are gone shows
    assert some.panoptic["rq"] < 1
    assert all(word in some.table() for word in ("PQ", "AP50", "no scores", "no classes"))
    with pytest.raises(RecipeError, match="--objects: is for a folder of object-number maps; leave it out"):
        mw.evaluate(str(GOLDEN), str(photos), objects=True)


def test_panoptic_jsons_are_recognised(tmp_path: Path) -> None:
    drawn = np.zeros((1, 8, 8), bool)
    drawn[0, :4] = True
    rows = [("a.jpg", Segments.of_masks(drawn, np.array([0])))]
    for name in ("truth", "found"):
        panoptic_files.write(tmp_path / f"{name}.json", rows, ("cat", "sky"), (True, False))
    evaluated = mw.evaluate(str(tmp_path / "found.json"), str(tmp_path / "truth.json"), out=str(tmp_path / "out"))
    assert evaluated.to_json()["headlines"]["pq"]["value"] == 1
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["schema"] == 1
    assert "PQ" in evaluated.table()


@pytest.mark.parametrize("layout", ["coco", "beside", "deep"])
def test_the_truth_of_panoptic_segments_may_be_a_folder(tmp_path: Path, layout: str) -> None:
    drawn = np.zeros((2, 8, 8), bool)
    drawn[0, :4], drawn[1, 4:, :5] = True, True
    for folder, order in (("truth", [0, 1]), ("found", [1, 0])):
        rows = [("a.jpg", Segments.of_masks(drawn[order], np.array(order)))]
        panoptic_files.write(tmp_path / folder / "panoptic.json", rows, ("cat", "sky"), (True, False))
    truth, found = tmp_path / "truth", tmp_path / "found" / "panoptic.json"
    if layout == "beside":
        (truth / "panoptic" / "a.png").rename(truth / "a.png")
        (truth / "panoptic").rmdir()
    if layout == "deep":
        (tmp_path / "all").mkdir()
        truth = truth.rename(tmp_path / "all" / "annotations").parent
    (truth / "instances.json").write_text('{"images": [], "annotations": [], "categories": []}')
    assert mw.evaluate(str(found), str(truth)).panoptic["pq"] == 1
    panoptic_files.write(truth / "second.json", rows, ("cat", "sky"), (True, False))
    with pytest.raises(DataError, match="holds 2 panoptic JSONs; give the one that is meant: "):
        mw.evaluate(str(found), str(truth))
    (tmp_path / "none").mkdir()
    (tmp_path / "none" / "a.txt").write_text("")
    for empty in (found.parent, tmp_path / "none"):
        with pytest.raises(DataError, match="holds 0 panoptic JSONs"):
            mw.evaluate(str(found), str(empty))


def test_files_and_json_keys_are_those_of_the_documentation(
    rows: Rows, photos: Path, score: Callable[..., Any], tmp_path: Path
) -> None:
    text = DOCUMENTATION.read_text(encoding="utf-8")
    documented = dict(re.findall(r"^\| `evaluate` of (\w+) \| (.*) \|$", text, re.MULTILINE))
    said = {name: set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", row))) for name, row in documented.items()}
    evaluated = score(rows, out=str(tmp_path / "out"))
    assert set(evaluated.to_json()) - {"schema", "next"} == said["objects"] - {"panoptic", "restated"}
    judged = mw.evaluate(str(tmp_path / "results.json"), str(photos / "annotations.json"), convention="imaterialist")
    assert set(judged.to_json()) - {"schema", "next"} == said["objects"] - {"panoptic"}
    folder = mw.evaluate(str(numbered(photos, tmp_path / "maps")), str(photos), objects=True)
    assert set(folder.to_json()) - {"schema", "next"} == said["objects"] - {"restated"}
    assert set(folder.to_json()["panoptic"]) - {"schema"} == said["panoptic"] - {"model", "data", "part", "refused"}
    saved = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert saved == json.loads(json.dumps({"schema": 1, **evaluated.to_json()}))
    assert len((tmp_path / "out" / "per_image.csv").read_text().splitlines()) == 13
    assert "<table>" in evaluated._repr_html_()


def test_real_figures_through_the_command(real_data: Path) -> None:
    folder = real_data / "cocoapi_eval" / "cocoapi"
    found = folder / "instances_val2014_fakesegm100_results.json"
    scores = mw.evaluate(str(found), str(folder / "instances_val2014_100.json")).scores
    assert scores["mask_ap"] == pytest.approx(0.3195452759, abs=1e-9)
    assert scores.objects == {"counted": 830, "crowds": 9, "detections": 734}
