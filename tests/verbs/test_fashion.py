"""iMaterialist-Fashion through the commands: a data set written, what was found handed in, answers scored by its rules."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import maskwright as mw
from maskwright import cli
from maskwright.bundles.bundle import Description
from maskwright.core.errors import DataError, RecipeError
from maskwright.data import synthetic
from maskwright.data.open import open_data
from maskwright.prediction.instances import InstancePredictor

ATTRIBUTES = ("striped", "long", "short")


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO JSON beside its photos: every object drawn, with a score, and every third with attributes."""
    folder = synthetic.make(tmp_path_factory.mktemp("fashion") / "photos", num=10, size=(72, 96), seed=5)
    tree = json.loads((folder / "annotations.json").read_text())
    for number, one in enumerate(tree["annotations"]):
        one["score"] = round(0.99 - number / 1000, 3)
        if number % 3 == 0:
            one["attributes"] = list(ATTRIBUTES[: 1 + number % 2])
    (folder / "annotations.json").write_text(json.dumps(tree))
    return folder / "annotations.json"


@pytest.fixture(scope="module")
def fashion(found: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as an iMaterialist data set."""
    folder = tmp_path_factory.mktemp("as") / "imaterialist"
    assert mw.convert(str(found.parent), str(folder), to="imaterialist", allow_loss=True).written
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_data_set_is_written_as_the_competition_has_it(found: Path, fashion: Path) -> None:
    """Masks, classes and attributes come back; only corners of polygons and numbers do not."""
    described = json.loads((fashion / "label_descriptions.json").read_text())
    assert [one["name"] for one in described["attributes"]] == ["striped", "long"]
    assert set(rows(fashion / "objects.csv")[0]) == {"ImageId", "EncodedPixels", "Height", "Width", "ClassId"}
    before, after = open_data(found.parent).data, open_data(fashion).data
    bill = mw.convert(str(found.parent), str(fashion.parent / "again"), to="imaterialist", dry_run=True).bill
    assert {loss.kind for loss in bill.losses} <= {"sub-pixel corners", "ids"}
    assert before.classes == after.classes
    for record, copy in zip(before, after, strict=True):
        assert [dict(r.attributes) for r in record.regions] == [dict(r.attributes) for r in copy.regions]


def test_what_was_found_is_handed_in_and_scores_one(found: Path, fashion: Path, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "submission.csv"
    described = fashion / "label_descriptions.json"
    done = mw.convert(str(found), str(out), to="imaterialist-submission", option=[f"descriptions={described}"])
    written = rows(out)
    assert list(written[0]) == ["ImageId", "EncodedPixels", "ClassId"]
    assert {row["ImageId"] for row in written} == {Path(image).stem for image in open_data(found.parent).data.images}
    objects = len(json.loads(found.read_text())["annotations"])
    assert done.handed_in.objects + done.handed_in.hidden == objects
    assert sum(bool(row["EncodedPixels"]) for row in written) == done.handed_in.objects
    (tmp_path / "label_descriptions.json").write_bytes(described.read_bytes())
    with pytest.raises(SystemExit, match="0"):
        cli.main(["evaluate", str(out), str(fashion), "--json"])
    told = json.loads(capsys.readouterr().out)["restated"]
    assert told["convention"] == "imaterialist"
    values = {name: estimate["value"] for name, estimate in told["values"].items()}
    assert set(values) == {"score", "score of classes alone"}
    assert all(0.9 < value <= 1 for value in values.values())  # objects that surer ones hide in part have lost pixels


def test_no_pixel_is_handed_in_twice(found: Path, fashion: Path, tmp_path: Path) -> None:
    out = tmp_path / "submission.csv"
    option = [f"descriptions={fashion / 'label_descriptions.json'}"]
    mw.convert(str(found), str(out), to="imaterialist-submission", option=option)
    taken: dict[str, np.ndarray] = {}
    for row in rows(out):
        mask = np.zeros(512 * 512, np.int64)
        numbers = np.array(row["EncodedPixels"].split(), np.int64).reshape(-1, 2)
        for start, length in numbers.tolist():
            assert start >= 1
            mask[start - 1 : start - 1 + length] += 1
        taken[row["ImageId"]] = taken.get(row["ImageId"], 0) + mask
    assert max(int(mask.max()) for mask in taken.values()) == 1


def test_a_results_file_is_judged_beside_its_average_precision(found: Path, tmp_path: Path) -> None:
    keys = ("image_id", "category_id", "segmentation", "score")
    entries = [{key: one[key] for key in keys} for one in json.loads(found.read_text())["annotations"]]
    results = tmp_path / "results.json"
    results.write_text(json.dumps(entries))
    judged = mw.evaluate(str(results), str(found), convention="imaterialist")
    assert judged.scores is not None
    assert judged.scores["mask_ap"] == pytest.approx(1)
    assert {name: e.value for name, e in judged.restated.values.items()} == {"score of classes alone": 1.0}
    assert "attributes of the truth are not compared" in judged.restated.text
    assert "imaterialist" in judged.table()
    assert mw.evaluate(str(results), str(found)).restated is None
    bare = [{**{k: v for k, v in one.items() if k != "segmentation"}, "bbox": [1, 1, 5, 5]} for one in entries]
    results.write_text(json.dumps(bare))
    with pytest.raises(DataError, match="the competition scores masks"):
        mw.evaluate(str(results), str(found), convention="imaterialist")


def nothing(pixels: np.ndarray) -> tuple[np.ndarray, ...]:
    return (
        np.zeros((0, 4), np.float32),
        np.zeros(0, np.int64),
        np.zeros(0, np.float32),
        np.zeros((0, 1, 8, 8), np.float32),
    )


def test_a_model_that_finds_nothing_scores_the_floor(
    found: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = open_data(found.parent).data
    description = Description(data.classes[1:], (), (64, 64), "squash", {"name": "mask_rcnn"}, task="instance")
    model = InstancePredictor(nothing, description, runtime="test")
    monkeypatch.setattr("maskwright.prediction.predictor.load", lambda *args, **options: model)
    judged = mw.evaluate(str(tmp_path / "model.onnx"), str(found.parent), convention="imaterialist")
    assert judged.restated.floor == {name: e.value for name, e in judged.restated.values.items()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "imaterialist-submission"}, "no label_descriptions.json beside it"),
        ({"to": "imaterialist-submission", "allow_loss": True}, "--allow-loss: does nothing"),
        ({"to": "imaterialist-submission", "option": ["colour=1"]}, "--option colour: is no option here"),
        ({"to": "modanet"}, "`modanet` is only read, not written.*`coco` is the same JSON"),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], message: str, found: Path, tmp_path: Path) -> None:
    with pytest.raises((DataError, RecipeError), match=message):
        mw.convert(str(found), str(tmp_path / "out.csv"), **options)
    assert not any(tmp_path.iterdir())


def test_answers_that_cannot_be_handed_in_or_scored(found: Path, fashion: Path, tmp_path: Path) -> None:
    option = [f"descriptions={fashion / 'label_descriptions.json'}"]
    tree = json.loads(found.read_text())
    del tree["annotations"][3]["score"]
    (tmp_path / "half.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"annotations\[3\] has no `score`"):
        mw.convert(str(tmp_path / "half.json"), str(tmp_path / "out.csv"), to="imaterialist-submission", option=option)
    tree["categories"][0]["name"] = "spaceship"
    (tmp_path / "half.json").write_text(json.dumps(tree))
    with pytest.raises(DataError, match=r"annotations\[3\] has no `score`|no class `spaceship`"):
        mw.convert(str(tmp_path / "half.json"), str(tmp_path / "out.csv"), to="imaterialist-submission", option=option)
    (fashion / "few.csv").write_text("ImageId,EncodedPixels,ClassId\nx,1 2,0\n")
    try:
        with pytest.raises(DataError, match="has no row for the image"):
            mw.evaluate(str(fashion / "few.csv"), str(fashion / "objects.csv"))
    finally:
        (fashion / "few.csv").unlink()
    with pytest.raises(RecipeError, match="is for objects, one by one"):
        mw.evaluate(str(fashion / "images"), str(found.parent), convention="imaterialist")
