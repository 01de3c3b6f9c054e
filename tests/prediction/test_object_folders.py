"""Folders of photos through a model that finds objects: what is written is scored as what was found, and keeps its shape."""

import csv
import json
import os
import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import maskwright as mw
from maskwright.bundles.bundle import Description
from maskwright.core.errors import DataError, RecipeError
from maskwright.core.types import Instances, Record
from maskwright.data import synthetic
from maskwright.data.formats import coco_write, yolo_write
from maskwright.data.open import open_data
from maskwright.imaging import draw, images, masks
from maskwright.imaging.objects import from_counts, objects_of
from maskwright.imaging.run_lengths import of_mask
from maskwright.metrics.panoptic import Segments
from maskwright.prediction import coco_truth, instance_evaluation, json_lists, object_folders, panoptic_files
from maskwright.prediction.evaluation import THREADS
from maskwright.prediction.instances import InstancePredictor
from maskwright.prediction.panoptic_merging import merging
from maskwright.prediction.predictor import Predictor

GOLDEN = Path(__file__).parents[1] / "golden" / "bundle-1"
OUT_FILES = {"objects.json", "coco.json", "predictions.csv"}


class Known(InstancePredictor):
    """Finds what it was told: file name -> objects."""

    def __init__(self, classes: Sequence[str], told: Callable[[Path], Instances]):
        colours = ((0, 0, 0),) * len(classes)
        description = Description(tuple(classes), colours, (64, 64), "squash", {"name": "mask_rcnn"}, task="instance")
        super().__init__(lambda pixels: (), description, runtime="test")
        self.told = told

    def __call__(self, image: Any, *, upright: bool = True) -> Instances:
        images.read(image, upright=upright)  # raises DataError for what is none
        return self.told(Path(image))


def remembering(path: Path, *, worsen: bool = False) -> tuple[Known, Any]:
    """Finds the very objects that the labels of a folder hold; in other order of classes, and with scores."""
    data = open_data(path).data
    classes = tuple(name for name in reversed(data.classes) if name != "background")
    table = {label: classes.index(name) for label, name in enumerate(data.classes) if name in classes}
    rng = np.random.default_rng(3)
    found = {}
    for record in data:
        objects = objects_of(record, data.classes)
        labels = np.array([table[label] for label in objects.labels.tolist()], np.int64)
        scores = np.sort(rng.random(len(objects)).astype(np.float32))[::-1]
        boxes = objects.boxes + (rng.normal(0, 3, objects.boxes.shape) * worsen)
        one = Instances(labels, scores, boxes, objects.counts, objects.size, classes, record.image)
        if worsen:
            one = one.only(rng.permutation(len(one))[: max(1, len(one) - 1)])
        found[Path(record.image).name] = one
    return Known(classes, lambda path: found[path.name]), data


def table(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.make(tmp_path_factory.mktemp("objects") / "photos", num=8, size=(72, 96), seed=5)


@pytest.mark.parametrize("kind", ["coco", "renumbered", "yolo"])
def test_what_is_written_scores_as_what_was_found(photos: Path, tmp_path: Path, kind: str) -> None:
    """Classes and images go by name, whatever numbers the labels give them."""
    labelled = photos
    if kind == "yolo":
        yolo_write.write(open_data(photos).data, labelled := tmp_path / "yolo")
    elif kind == "renumbered":
        coco_write.write(open_data(photos).data, labelled := tmp_path / "renumbered")
        file = labelled / "annotations.json"
        document = json.loads(file.read_text())
        for image in document["images"]:
            image["id"] = 1000 - image["id"]
        for entry in document["annotations"]:
            entry["image_id"], entry["category_id"] = 1000 - entry["image_id"], entry["category_id"] + 70
        for category in document["categories"]:
            category["id"] += 70
        file.write_text(json.dumps(document))
    for worsen in (False, True):
        predictor, data = remembering(labelled, worsen=worsen)
        where = Path(data[0].image).parent
        object_folders.predict_all(predictor, where, tmp_path / "out", overlays=False)
        scores = mw.evaluate(str(tmp_path / "out" / "objects.json"), str(labelled)).scores
        direct = instance_evaluation.evaluate(predictor, data)
        if worsen:
            assert 0.2 < (direct["mask_ap"] or 0) < 1
        else:
            assert scores["mask_ap"] == scores["box_ap"] == pytest.approx(1, abs=1e-12)
        for name in ("mask_ap", "mask_ap50", "mask_ar100", "box_ap", "box_ap75"):
            assert scores[name] == pytest.approx(direct[name], abs=1e-9)


def test_the_data_set_holds_the_very_pixels_twice(photos: Path, tmp_path: Path) -> None:
    predictor, _ = remembering(photos)
    written = object_folders.predict_all(predictor, photos / "images", tmp_path / "out")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {*OUT_FILES, "objects", "overlays"}
    document = json.loads((tmp_path / "out" / "coco.json").read_text())
    names = {image["id"]: image["file_name"] for image in document["images"]}
    classes = {row["id"]: row["name"] for row in document["categories"]}
    assert tuple(classes.values()) == predictor.classes
    assert [entry["id"] for entry in document["annotations"]] == list(range(1, len(document["annotations"]) + 1))
    seen: dict[str, int] = {}
    for entry in document["annotations"]:
        name = names[entry["image_id"]]
        found, place = predictor.told(Path(name)), seen.setdefault(name, 0)
        seen[name] += 1
        runs = found.counts[place]
        assert classes[entry["category_id"]] == found.classes[found.labels[place]]
        assert np.float32(entry["score"]) == found.scores[place]
        assert masks.mend_counts(entry["rle"]["counts"], found.size)[0].tolist() == runs.tolist()  # type: ignore[union-attr]
        drawn = masks.region_counts([coco_region(entry["segmentation"])], found.size)[0]
        assert np.array_equal(drawn, runs)
        x, y, width, height = entry["bbox"]
        assert from_counts([runs], [0], found.size).boxes[0].tolist() == [x, y, x + width, y + height]
        assert entry["area"] == runs[1::2].sum()
    assert sum(seen.values()) == sum(written.objects.values()) == len(table(tmp_path / "out"))
    truth = coco_truth.read(tmp_path / "out" / "coco.json")
    assert len(truth.refusals) == 0
    perfect, _ = instance_evaluation.score_results(tmp_path / "out" / "objects.json", truth, resamples=10)
    assert perfect["mask_ap"] == pytest.approx(1, abs=1e-12)


def coco_region(polygons: list[list[float]]) -> Any:
    from maskwright.core.types import Region

    return Region(0, tuple(np.array(part, np.float64).reshape(-1, 2) for part in polygons))


def test_object_numbers_are_those_of_the_table_and_are_scored(photos: Path, tmp_path: Path) -> None:
    predictor, data = remembering(photos)
    out = tmp_path / "out"
    object_folders.predict_all(predictor, photos / "images", out)
    rows: dict[str, list[dict[str, str]]] = {}
    for row in table(out):
        rows.setdefault(row["image"], []).append(row)
    for record in data:
        stem = Path(record.image).stem
        found = predictor.told(Path(record.image))
        numbers, void = masks.read_numbers(out / "objects" / f"{stem}.png", record.size)
        expected = np.zeros(record.size, int)
        for index in range(len(found))[::-1]:
            expected[found.mask(index)] = index + 1
        assert void == 255
        assert np.array_equal(numbers, expected)
        for index, row in enumerate(rows[stem]):
            assert (row["number"], row["class"]) == (str(index + 1), found.classes[found.labels[index]])
            assert row["score"] == f"{found.scores[index]:.4f}"
            assert [float(row[name]) for name in ("x0", "y0", "x1", "y1")] == found.boxes[index].round(1).tolist()
            assert int(row["area"]) == found.areas()[index]
    evaluated = mw.evaluate(str(out), str(photos), objects=True)
    assert evaluated.panoptic["sq"] > 0.8


@pytest.mark.parametrize("num", [0, 1, 254, 255, 300])
def test_many_objects_get_16_bits(num: int, tmp_path: Path) -> None:
    size = (20, 20)
    counts = tuple(of_mask(np.arange(400).reshape(size) == place) for place in range(num))
    found = Instances(
        np.zeros(num, np.int64), np.linspace(1, 0, num, dtype=np.float32), np.zeros((num, 4)), counts, size, ("a",)
    )
    numbers = object_folders.numbered(found)
    assert numbers.dtype == (np.uint8 if num <= 254 else np.uint16)
    object_folders.write_numbers(tmp_path / "a.png", numbers)
    read, void = masks.read_numbers(tmp_path / "a.png", size)
    assert np.array_equal(read, numbers)
    assert void not in read
    assert set(np.unique(read).tolist()) == {0, *range(1, num + 1)}
    record = Record("a", "a.png", size, objects=str(tmp_path / "a.png"))
    assert len(objects_of(record, ("background", "a"))) == num


def test_bad_photos_photos_of_one_name_and_nothing_found(tmp_path: Path) -> None:
    home, out = tmp_path / "photos", tmp_path / "out"
    picture = draw.encode(np.zeros((10, 12, 3), np.uint8), "png")
    for name in ("a/x.png", "b/x.png", "b/x.jpg.png", "y.png", "0012.png"):
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(picture)
    (home / "broken.png").write_bytes(b"no")

    def told(path: Path) -> Instances:
        num = 0 if path.name == "y.png" else 1
        whole = (np.array([0, 120], np.uint32),) * num
        boxes = np.array([[0, 0, 12, 10.0]] * num).reshape(num, 4)
        return Instances(np.zeros(num, np.int64), np.ones(num, np.float32), boxes, whole, (10, 12), ("cat",))

    written = object_folders.predict_all(Known(("cat",), told), home, out)
    assert (written.images, written.objects) == (5, {"cat": 4})
    assert [Path(name).name for name in written.failed] == ["broken.png"]
    assert [row["error"] != "" for row in table(out)].count(True) == 1
    called = [row["image_id"] for row in json.loads((out / "objects.json").read_text())]
    assert sorted(called) == ["0012.png", "a/x.png", "b/x.png", "x.jpg.png"]
    document = json.loads((out / "coco.json").read_text())
    assert [image["file_name"] for image in document["images"]].count("y.png") == 1
    assert len({image["id"] for image in document["images"]}) == 5
    assert len(list((out / "objects").rglob("*.png"))) == len(list((out / "overlays").rglob("*.jpg"))) == 5
    truth = coco_truth.read(out / "coco.json")
    scores, _ = instance_evaluation.score_results(out / "objects.json", truth, resamples=10)
    assert scores["mask_ap"] == 1


def test_a_folder_of_results_is_known_again_and_others_are_left_alone(photos: Path, tmp_path: Path) -> None:
    predictor, _ = remembering(photos)
    for name in ("objects.json", "coco.json", "panoptic.json"):
        other = tmp_path / name.partition(".")[0]
        other.mkdir()
        (other / name).write_text("mine")
        with pytest.raises(RecipeError, match=f"{name} is a file that `predict` did not write"):
            object_folders.predict_all(predictor, photos / "images", other)
        assert (other / name).read_text() == "mine"
    for _ in range(2):
        object_folders.predict_all(predictor, photos / "images", tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}

    def stopped(path: Path) -> Instances:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        object_folders.predict_all(Known(("cat",), stopped), photos / "images", tmp_path / "out")
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()} == before


def test_panoptic_files_have_quality_one_for_perfect_models(photos: Path, tmp_path: Path) -> None:
    semantic = mw.load(GOLDEN)
    assert isinstance(semantic, Predictor)
    every, _ = remembering(photos)

    def two(path: Path) -> Instances:
        found = every.told(path)
        return replace(found.only(found.labels < 2), classes=found.classes[:2])

    told = Known(every.classes[:2], two)
    how = merging(told.classes, semantic, least_stuff=0)
    out = tmp_path / "out"
    object_folders.predict_all(told, photos / "images", out, merging=how)
    assert {path.name for path in out.iterdir()} == {*OUT_FILES, "objects", "overlays", "panoptic", "panoptic.json"}
    truth = []
    for path in sorted((photos / "images").iterdir(), reverse=True):  # in another order: images go by name
        truth.append((path.name, how(told(path), path)))
    panoptic_files.write(tmp_path / "truth.json", truth, how.classes, how.things)
    evaluated = mw.evaluate(str(out / "panoptic.json"), str(tmp_path / "truth.json"))
    assert evaluated.to_json()["headlines"]["pq"]["value"] == 1
    album = panoptic_files.open_album(out / "panoptic.json")
    assert album.things == how.things
    numbers: set[int] = set()
    for id in album.files:
        segments = album.read(id)
        assert isinstance(segments, Segments)
        numbers |= set(segments.numbers[segments.labels < len(told.classes)].tolist())
    assert numbers <= {int(row["number"]) for row in table(out)}


def test_an_id_goes_before_a_name(tmp_path: Path) -> None:
    """Photos and classes called like the numbers of others: a number, as text too, is an id."""
    document = {
        "images": [
            {"id": 3, "file_name": "train/7.jpg", "width": 9, "height": 8},
            {"id": 7, "file_name": "val/3.jpg", "width": 9, "height": 8},
            {"id": 8, "file_name": "val/7.jpg", "width": 9, "height": 8},
        ],
        "annotations": [],
        "categories": [{"id": 1, "name": "2"}, {"id": 2, "name": "1"}, {"id": 5, "name": "cat"}],
    }
    (tmp_path / "truth.json").write_text(json.dumps(document))
    truth = coco_truth.read(tmp_path / "truth.json")
    images = {3: 0, "3": 0, 7: 1, "7": 1, "3.jpg": 1, "train/7.jpg": 0, "val/7.jpg": 2, "7.jpg": None, "x": None}
    assert {name: coco_truth.find(truth.positions, name) for name in images} == images
    labels = {1: 0, "1": 0, 2: 1, "2": 1, 5: 2, "cat": 2, "dog": None}
    assert {name: coco_truth.find(truth.labels, name) for name in labels} == labels


def test_json_lists_are_json_and_appear_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    for rows in ([], [1], [{"a": np.arange(3)}, "b", np.float32(0.1)]):
        with json_lists.written(path, "x", "y", z=[1]) as lists:
            lists.add("y", *rows)
            assert lists.count("y") == len(rows)
        assert json.loads(path.read_text()) == {"z": [1], "x": [], "y": json.loads(json_lists.spelt(rows))}
        with json_lists.written(tmp_path / "b.json", json_lists.ONLY) as lists:
            lists.add(json_lists.ONLY, *rows)
        assert json.loads((tmp_path / "b.json").read_text()) == json.loads(json_lists.spelt(rows))
    before = path.read_bytes()

    def stopped() -> None:
        with json_lists.written(path, "x") as lists:
            lists.add("x", 1)
            raise DataError("stopped")

    with pytest.raises(DataError, match="stopped"):
        stopped()
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["a.json"]


def test_memory_does_not_grow_with_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four times the photos, each with objects of many corners: the peak rises by far less than what is written."""
    corners = np.random.default_rng(0).integers(0, 1000, (2000, 2)).astype(np.float64)
    monkeypatch.setattr(object_folders, "outlines", lambda region, size: (corners,))
    runs, num = np.array([0, 480], np.uint32), 10
    scores = np.linspace(1, 0, num, dtype=np.float32)
    found = Instances(np.zeros(num, np.int64), scores, np.zeros((num, 4)), (runs,) * num, (20, 24), ("a",))
    picture = draw.encode(np.zeros((20, 24, 3), np.uint8), "png")
    peaks, sizes = [], []
    for photos in (5 * THREADS, 20 * THREADS):
        home = tmp_path / str(photos)
        home.mkdir()
        for number in range(photos):
            (home / f"{number}.png").write_bytes(picture)
        tracemalloc.start()
        object_folders.predict_all(Known(("a",), lambda path: found), home, tmp_path / f"out{photos}", overlays=False)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        sizes.append((tmp_path / f"out{photos}" / "coco.json").stat().st_size)
    assert sizes[1] - sizes[0] > 8_000_000
    assert peaks[1] - peaks[0] < 0.4 * (sizes[1] - sizes[0])
