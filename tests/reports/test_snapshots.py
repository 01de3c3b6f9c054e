"""The pictures a run keeps: the best and the worst images of either task, with what is true and what was predicted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_objects
import numpy as np
import pytest
from PIL import ImageDraw

import maskwright as mw
from maskwright.core.table import Data
from maskwright.core.types import Instances, Record, Region
from maskwright.imaging import draw_objects, images
from maskwright.imaging.objects import objects_of
from maskwright.imaging.palette import class_colours
from maskwright.metrics.average_precision import Detections
from maskwright.metrics.instance_scores import InstanceScores
from maskwright.prediction import instance_evaluation, scoring
from maskwright.prediction.instances import InstancePredictor
from maskwright.prediction.scoring import AnyScores
from maskwright.reports import snapshots

GOLDEN = Path(__file__).parents[1] / "golden" / "bundle-1"
Made = tuple[Path, Data, Any, AnyScores]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Data:
    return fake_objects.photos(tmp_path_factory.mktemp("photos") / "photos", 15)


def quality(image: Any) -> float | None:
    return image.f1 if hasattr(image, "sure") else image.miou


@pytest.fixture(scope="module")
def made(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """The pictures of a task, written once."""
    done: dict[str, Made] = {}

    def of(task: str) -> Made:
        if task not in done:
            predictor = mw.load(GOLDEN) if task == "semantic" else fake_objects.predictor(data)
            scores = scoring.evaluate(predictor, data, resamples=0)
            folder = tmp_path_factory.mktemp(task) / "pictures"
            colours = class_colours(predictor.classes)
            loss = (lambda logits, labels: float(labels.mean())) if task == "semantic" else None
            snapshots.write(folder, fake_objects.samples(data), predictor, ("val", data, scores), colours, loss)
            done[task] = (folder, data, predictor, scores)
        return done[task]

    return of


@pytest.mark.parametrize(("task", "measure"), [("semantic", "mean IoU"), ("instance", "F1 at IoU 0.5")])
def test_the_worst_images_come_first_and_every_picture_is_there(
    made: Callable[[str], Made], task: str, measure: str
) -> None:
    folder, _, _, scores = made(task)
    index = json.loads((folder / "index.json").read_text())
    assert index["measure"] == measure
    assert index["part"] == "val"
    known = {image.id: quality(image) for image in scores.per_image}
    ranked = sorted((value, id) for id, value in known.items() if value is not None)
    worst = [entry for entry in index["val"] if entry["rank"] == "worst"]
    assert [(entry["score"], entry["id"]) for entry in worst] == ranked[: snapshots.NUM_WORST]
    best = [entry for entry in index["val"] if entry["rank"] == "best"]
    assert [(entry["score"], entry["id"]) for entry in best] == ranked[-snapshots.NUM_BEST :][::-1]
    assert all((entry["loss"] is None) == (task == "instance") for entry in index["val"])
    listed = {entry[kind] for entry in index["val"] for kind in ("image", "truth", "predicted")}
    listed |= {entry["file"] for entry in index["train"]}
    assert listed == {file.name for file in folder.glob("*.webp")}
    assert max(images.read(folder / name).shape[0] for name in listed) <= snapshots.SIDE
    assert len(snapshots.answers(folder)) == len(index["val"])
    sheet = snapshots.contact_sheet(folder)
    assert sheet.dtype == np.uint8
    assert sheet.shape[0] > 4 * 200


def test_images_without_a_score_are_not_ranked(data: Data) -> None:
    bare = [replace(record, regions=()) for record in data.select(range(4))]
    detections = Detections(data.classes)
    for number, record in enumerate([*bare, *data.select(range(4, 15))]):
        found = fake_objects.predictor(data, weak=0)(record.image)
        nothing = found.only(np.zeros(0, np.int64)) if number < 2 else found
        truth = objects_of(record, data.classes)
        detections.add(record.id, truth, instance_evaluation.named(nothing, data.classes))
    scores = detections.scores(resamples=0)
    assert [row.f1 for row in scores.per_image[:2]] == [None, None]
    ranked = [id for id, _ in snapshots.best_and_worst(scores)]
    assert len(set(ranked)) == 12
    assert not set(ranked) & {record.id for record in bare[:2]}


def test_where_nothing_is_scored_only_samples_are_kept(data: Data, tmp_path: Path) -> None:
    predictor = fake_objects.predictor(data)
    samples = fake_objects.samples(data)
    snapshots.write(tmp_path, samples, predictor, None, class_colours(predictor.classes), None)
    index = json.loads((tmp_path / "index.json").read_text())
    assert len(index["train"]) == len(samples)
    assert snapshots.answers(tmp_path) == []


def test_runs_before_there_was_a_measure_are_still_read(made: Callable[[str], Made], tmp_path: Path) -> None:
    folder, *_ = made("semantic")
    index = json.loads((folder / "index.json").read_text())
    expected = snapshots.contact_sheet(folder)
    for file in folder.glob("*.webp"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    old = [{"miou" if key == "score" else key: value for key, value in entry.items()} for entry in index["val"]]
    (tmp_path / "index.json").write_text(json.dumps({"train": index["train"], "val": old, "part": "val"}))
    assert np.array_equal(snapshots.contact_sheet(tmp_path), expected)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"train": []}'])
def test_a_folder_without_answers_has_none(tmp_path: Path, text: str) -> None:
    assert snapshots.answers(tmp_path) == []
    (tmp_path / "index.json").write_text(text)
    assert snapshots.answers(tmp_path) == []


def test_only_objects_that_are_sure_are_drawn(data: Data) -> None:
    image = images.read(data[0].image)
    found: Instances = fake_objects.predictor(data, skill=1.0)(data[0].image)
    colours = class_colours(found.classes)
    weak = found.only(found.scores <= snapshots.SURE)
    assert len(weak)
    assert np.array_equal(snapshots.drawn(image, weak, colours), snapshots.small(image))
    sure = found.only(found.scores > snapshots.SURE)
    assert np.array_equal(snapshots.drawn(image, found, colours), snapshots.drawn(image, sure, colours))
    assert (snapshots.drawn(image, found, colours) != snapshots.small(image)).any()


def test_crowds_are_not_drawn_as_true_objects() -> None:
    corners = np.array([[2.0, 2], [9, 2], [9, 9], [2, 9]])
    regions = (Region(1, (corners,)), Region(1, (corners + 10,), crowd=True), Region(2, (corners + 5,)))
    record = Record("a", "a.jpg", (30, 30), regions)
    told = snapshots.true_objects(record, ("background", "cat", "dog"), ("dog", "cat"))
    assert told.labels.tolist() == [1, 0]


def test_true_objects_have_the_classes_of_the_model(data: Data) -> None:
    names = tuple(reversed([name for name in data.classes if name != "background"]))
    for record in data:
        objects, told = objects_of(record, data.classes), snapshots.true_objects(record, data.classes, names)
        assert sorted(data.classes[i] for i in objects.labels) == sorted(names[i] for i in told.labels)
        assert (np.diff(told.areas()) >= 0).all()
        assert np.isnan(told.scores).all()
        fewer = snapshots.true_objects(record, data.classes, names[:1])
        assert {fewer.classes[i] for i in fewer.labels} <= {names[0]}


def test_true_objects_are_named_without_a_score(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    plain = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw,
        "text",
        lambda pen, at, text, *rest, **how: (written.append(text), plain(pen, at, text, *rest, **how)),
    )
    names = tuple(name for name in data.classes if name != "background")
    truth = snapshots.true_objects(data[0], data.classes, names)
    draw_objects.drawn(images.read(data[0].image), truth, class_colours(names))
    assert sorted(written) == sorted(names[label] for label in truth.labels)


def test_colours_of_labels_that_count_from_one() -> None:
    colours = class_colours(("cat", "dog"))
    shifted = snapshots.after_nothing(colours)
    assert shifted[0].max() == 0
    assert np.array_equal(shifted[1:3], colours[:2])
    assert np.array_equal(shifted[255], colours[255])


def test_the_model_of_these_tests_is_one(data: Data) -> None:
    scores = scoring.evaluate(fake_objects.predictor(data, skill=1.0, weak=0), data, resamples=0)
    assert isinstance(scores, InstanceScores)
    assert isinstance(fake_objects.predictor(data), InstancePredictor)
    assert (scores["mask_ap50"] or 0) > 0.95
