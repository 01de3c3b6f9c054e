"""`maskwright tune-thresholds`: what it stores, when it stores nothing, and what it refuses."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import maskwright as mw
from maskwright import cli
from maskwright.bundles import bundle as bundles
from maskwright.bundles.bundle import Description
from maskwright.core.errors import DataError, RecipeError
from maskwright.data import synthetic
from maskwright.data.open import open_data
from maskwright.imaging.images import read_fitted
from maskwright.imaging.objects import objects_of
from maskwright.prediction import predictor
from maskwright.prediction.instances import InstancePredictor

SIZE = (64, 80)
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "json.md"
GOLDEN = Path(__file__).parents[1] / "golden" / "bundle-1"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.make(tmp_path_factory.mktemp("tuned") / "photos", num=16, size=(72, 96), seed=3)


def answers_of(photos: Path) -> dict[str, tuple[np.ndarray, ...]]:
    """For the pixels of each photo the true objects as boxes, sure, and two that are not there, less so."""
    data, answers = open_data(photos).data, {}
    for number, record in enumerate(data):
        pixels, fitting = read_fitted(record.image, SIZE, "squash")
        rng, truth = np.random.default_rng(number), objects_of(record, data.classes)
        scale = np.array([SIZE[1] / fitting.original[1], SIZE[0] / fitting.original[0]] * 2)
        corner = rng.uniform(0, 40, (2, 2))
        boxes = np.concatenate([truth.boxes * scale, np.concatenate([corner, corner + 12], axis=1)])
        labels = np.concatenate([truth.labels, rng.integers(1, 5, 2)])
        scores = np.concatenate([rng.uniform(0.6, 0.9, len(truth)), rng.uniform(0.05, 0.4, 2)])
        answers[digest(pixels)] = (boxes, labels, scores, np.ones((len(labels), 1, 14, 14), np.float32))
    return answers


def digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.tobytes()).hexdigest()


@pytest.fixture
def bundle(tmp_path: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A bundle with a model.onnx that says what it is; whoever loads it gets a network that knows the photos."""
    folder, answers, load = tmp_path / "bundle", answers_of(photos), predictor.load
    folder.mkdir()
    classes = open_data(photos).data.classes
    colours = tuple((20 * i, 0, 0) for i in range(1, len(classes)))
    known = Description(classes[1:], colours, SIZE, "squash", {"name": "mask_rcnn"}, task="instance")
    bundles.save_description(folder, known)
    value = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1])
    other = helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["boxes"])], "same", [value], [other])
    model = helper.make_model(graph)
    helper.set_model_props(model, {"contract": "objects/1", "maskwright": json.dumps(known.to_json())})
    onnx.save(model, str(folder / bundles.ONNX))

    def network(pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        return answers[digest(pixels[0].transpose(1, 2, 0).astype(np.uint8))]

    def loaded(path: str | Path, **options: Any) -> Any:
        if str(folder) not in str(path):
            return load(path, **options)
        return InstancePredictor(network, described(Path(path)), runtime="test")

    monkeypatch.setattr(predictor, "load", loaded)
    return folder


def described(path: Path) -> Description:
    return metadata(path) if path.suffix == ".onnx" else bundles.load(path).description


def metadata(path: Path) -> Description:
    held = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    assert held["contract"] == "objects/1"
    return bundles.describe(json.loads(held["maskwright"]), path)


def test_a_sure_gain_is_stored_in_both_files(bundle: Path, photos: Path) -> None:
    result = mw.tune_thresholds(str(bundle), str(photos))
    stored = bundles.load(bundle).description
    assert result.stored == [str(bundle / "bundle.json"), str(bundle / "model.onnx")]
    assert 0.4 <= stored.thresholds["score"] <= 0.6
    assert stored.thresholds == result.tuned.after.to_json()
    record = stored.scores["thresholds"]
    assert (record["metric"], record["images"]) == ("f1", 16)
    assert record["gain"] > 0
    assert record["held_out_gain"]["low"] > 0
    assert record["seconds"] >= 0
    assert metadata(bundle / "model.onnx") == stored
    assert sorted(path.name for path in bundle.iterdir()) == ["bundle.json", "model.onnx"]
    again = mw.tune_thresholds(str(bundle), str(photos))
    assert (again.tuned.gain, again.stored) == (0.0, [])


def test_a_dry_run_stores_nothing_and_says_how_to(bundle: Path, photos: Path) -> None:
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    result = mw.tune_thresholds(str(bundle), str(photos), metric="f1_50", exclusive=True, dry_run=True)
    assert result.tuned.sure
    assert result.next == [f"maskwright tune-thresholds {bundle} {photos} --metric f1_50 --exclusive"]
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


def test_an_unsure_gain_is_stored_by_force_alone(
    bundle: Path, photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskwright.prediction import tuning

    monkeypatch.setattr(tuning.Tuned, "sure", property(lambda self: False))
    assert cli.run(["tune-thresholds", str(bundle), str(photos)]) == 0
    assert "not stored: this gain cannot be told from none" in capsys.readouterr().out
    assert not bundles.load(bundle).description.thresholds
    assert mw.tune_thresholds(str(bundle), str(photos), force=True).stored
    assert bundles.load(bundle).description.thresholds


def test_the_file_in_a_bundle_is_never_tuned_apart_from_it(bundle: Path, photos: Path) -> None:
    stored = mw.tune_thresholds(str(bundle / "model.onnx"), str(photos), exclusive=True, force=True).stored
    assert stored == [str(bundle / "bundle.json"), str(bundle / "model.onnx")]
    assert metadata(bundle / "model.onnx").thresholds == bundles.load(bundle).description.thresholds != {}


def test_a_bare_onnx_file_keeps_its_thresholds_in_its_metadata(bundle: Path, photos: Path) -> None:
    (bundle / "bundle.json").unlink()
    file = bundle / "model.onnx"
    assert mw.tune_thresholds(str(file), str(photos), exclusive=True, force=True).stored == [str(file)]
    assert metadata(file).thresholds["exclusive"] is True
    assert not (bundle / "bundle.json").exists()


def test_what_is_printed_is_documented(bundle: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["tune-thresholds", str(bundle), str(photos)], as_json=True) == 0
    printed = json.loads(capsys.readouterr().out)
    row = next(line for line in DOCUMENTATION.read_text().split("\n") if line.startswith("| `tune-thresholds`"))
    for key in printed:
        assert key == "schema" or f"`{key}`" in row, key


def test_what_cannot_be_is_refused(bundle: Path, photos: Path) -> None:
    with pytest.raises(RecipeError, match=r"--metric: no measure to tune by is called `f2`; it can be `f1`, `f1_50`"):
        mw.tune_thresholds(str(bundle), str(photos), metric="f2")
    with pytest.raises(RecipeError, match="is for models that find objects"):
        mw.tune_thresholds(str(GOLDEN), str(photos))
    with pytest.raises(DataError, match="no image is in the part `test`"):
        mw.tune_thresholds(str(bundle), str(photos), part="test")
