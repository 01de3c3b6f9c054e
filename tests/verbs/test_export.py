"""`export` and `verify` as a person uses them: certified on the images of the run, verified without torch, refused in words."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import maskwright as mw
from maskwright.bundles import bundle as bundles
from maskwright.core import events
from maskwright.core.errors import DataError, MaskwrightError, ModelError, RecipeError, SetupError
from maskwright.data import synthetic
from maskwright.exports import certificate
from maskwright.verbs import export

SMALL = {
    "size": 64,
    "train.batch": 8,
    "train.epochs": 2,
    "train.workers": 0,
    "model.weights": "none",
    "model.encoder": "mobilenet_v2",
}
CODE = (
    "import sys; sys.modules['torch'] = sys.modules['onnx'] = None; from maskwright.cli import main; main(sys.argv[1:])"
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.make(tmp_path_factory.mktemp("export") / "photos", num=24, size=(96, 90))


@pytest.fixture(scope="module")
def run(photos: Path) -> Path:
    return Path(mw.train(str(photos), SMALL, out=str(photos.parent / "runs")).run)


@pytest.fixture(scope="module")
def exported(run: Path, photos: Path) -> Path:
    return Path(mw.export(str(run), "opset=13", out=str(photos.parent / "model.onnx")).path)


def test_it_is_certified_on_the_validation_images_of_its_run(run: Path, exported: Path) -> None:
    split = json.loads((run / "split.json").read_text())
    said = certificate.load(exported)
    assert said["certified"]
    assert said["options"] == {"opset": 13}
    assert said["photos"] == "the validation images of its run"
    assert said["loss"]["images"] == said["agreement"]["images"] == len(split["val"])
    assert said["loss"]["ids"] == certificate.digest(split["val"])
    assert abs(said["loss"]["change"]) < 1e-3
    model = onnx.load(str(exported))
    assert {o.version for o in model.opset_import} == {13}
    assert (model.producer_name, model.producer_version) == ("maskwright", mw.__version__)


def test_it_is_verified_without_torch_and_scores_what_is_said(run: Path, exported: Path, photos: Path) -> None:
    commands = [
        ["verify", str(exported)],
        ["verify", str(exported), "--data", str(run / "recipe.yaml"), "--part", "val"],
    ]
    for tokens in commands:
        result = subprocess.run([sys.executable, "-c", CODE, *tokens, "--json"], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        answer = json.loads(result.stdout)
        assert answer["ran"].startswith("onnx")
    assert "as its certificate says" in answer["score"]


def test_the_certificate_alone_in_the_file_is_enough(exported: Path, tmp_path: Path) -> None:
    alone = tmp_path / "moved.onnx"
    alone.write_bytes(exported.read_bytes())
    assert mw.verify(str(alone)).ran


def test_a_few_of_many_images_are_found_again(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskwright.verbs.export.MOST_SCORED", 2)
    path = run / "bundle" / "model-few.onnx"
    found = mw.export(str(run), out=str(path))
    assert found.certificate.loss is not None
    assert found.certificate.loss.images == 2
    try:
        assert "as its certificate says" in str(mw.verify(str(path), data=str(run / "recipe.yaml"), part="val").score)
        assert "as its certificate says" in str(mw.verify(str(path), data=str(photos)).score)
        assert "not those" in str(mw.verify(str(path), data=str(photos), part="all").score)
    finally:
        path.unlink()
        certificate.beside(path).unlink()


def test_a_file_without_a_certificate_of_its_own_is_run_where_that_is_possible(run: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.tensorrt.onnx"
    if not mw.export(str(run), target="tensorrt", out=str(path), uncertified=True).certificate.certified:
        assert str(mw.verify(str(path)).ran).startswith("onnxruntime")


def test_a_score_needs_a_runtime(exported: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maskwright.exports import onnx as exporter

    def missing(*_: Any) -> None:
        raise SetupError("needs `onnxruntime`")

    monkeypatch.setattr(exporter, "open_file", missing)
    assert mw.verify(str(exported)).ran is None
    with pytest.raises(SetupError, match="onnxruntime"):
        mw.verify(str(exported), data=str(photos))


def test_what_is_no_exported_file_is_told_with_the_one_that_is(exported: Path, tmp_path: Path) -> None:
    for name in ("model.xml", "model.bin"):
        (tmp_path / name).write_bytes(b"")
    wrong = {
        certificate.beside(exported): f"is a certificate, .* `maskwright verify {exported}`",
        tmp_path / "model.bin": r"holds the weights of model\.xml",
        tmp_path: "is a folder",
    }
    for path, words in wrong.items():
        with pytest.raises(ModelError, match=words):
            mw.verify(str(path))
    with pytest.raises(RecipeError, match="--part"):
        mw.verify(str(exported), part="val")


def other_operator(model: onnx.ModelProto) -> None:
    next(n for n in model.graph.node if n.op_type == "Relu").op_type = "Sigmoid"


def other_weight(model: onnx.ModelProto) -> None:
    values = numpy_helper.to_array(model.graph.initializer[3]).copy()
    values.flat[0] += 1e-3
    model.graph.initializer[3].CopyFrom(numpy_helper.from_array(values, model.graph.initializer[3].name))


def other_class(model: onnx.ModelProto) -> None:
    entry = next(p for p in model.metadata_props if p.key == "maskwright")
    described = json.loads(entry.value)
    described["classes"][1] = "zebra"
    entry.value = json.dumps(described)


def other_metadata(model: onnx.ModelProto) -> None:
    next(p for p in model.metadata_props if p.key == "contract").value = "network/9"


def other_certificate(model: onnx.ModelProto) -> None:
    entry = next(p for p in model.metadata_props if p.key == "certificate")
    entry.value = entry.value.replace('"max_drop": 0.01', '"max_drop": 0.02')


TAMPERINGS = [
    (other_operator, "operator .* Relu"),
    (other_weight, "the weight `.*` was changed"),
    (other_class, "`classes` of its description"),
    (other_metadata, "metadata entry `contract`"),
    (other_certificate, "what it says is not what was sealed"),
]


@pytest.mark.parametrize(("change", "words"), TAMPERINGS, ids=lambda value: getattr(value, "__name__", ""))
def test_tampering_is_found_and_named(exported: Path, tmp_path: Path, change: Any, words: str) -> None:
    model = onnx.load(str(exported))
    change(model)
    onnx.save(model, str(tmp_path / "model.onnx"))
    with pytest.raises(ModelError, match=words):
        mw.verify(str(tmp_path / "model.onnx"))


def test_views_that_an_exporter_left_out_are_no_tampering(exported: Path) -> None:
    from maskwright.verbs.verify import _fields

    known = certificate.load(exported)
    known["description"] |= {"tta": {"flip": True, "scales": [0.5, 1.0]}, "format": 2}
    assert _fields(exported, known) == []
    known["description"]["classes"] = ["zebra"]
    assert _fields(exported, known) == ["`classes` of its description was changed"]


def test_a_file_that_answers_otherwise_here_fails(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskwright.exports import agreement

    monkeypatch.setattr(agreement, "probe", lambda predictor: {"shares": [1.0], "logits": [0.0]})
    with pytest.raises(ModelError, match="known picture"):
        mw.verify(str(exported))


@pytest.mark.parametrize("kept", [0, 30, 5000, -1])
def test_a_torn_file_is_one_sentence(exported: Path, tmp_path: Path, kept: int) -> None:
    torn = tmp_path / "model.onnx"
    torn.write_bytes(exported.read_bytes()[:kept])
    certificate.beside(torn).write_bytes(certificate.beside(exported).read_bytes())
    with pytest.raises(ModelError):
        mw.verify(str(torn))


MISTAKES: list[tuple[dict[str, Any], type[MaskwrightError], str]] = [
    ({"target": "onx"}, RecipeError, "did you mean `onnx`"),
    ({"options": ("opsett=13",)}, RecipeError, "opset"),
    ({"options": ("precision=fp8",)}, RecipeError, "precision"),
    ({"opset": 99}, (ModelError, RecipeError), "opset"),  # type: ignore[list-item]
    ({"max_drop": -1.0}, RecipeError, "--max-drop"),
    ({"out": "model.pt"}, RecipeError, "ending"),
    ({"out": "MODEL.ONNX"}, RecipeError, "ending"),
    ({"images": "/nowhere"}, DataError, "nowhere"),
    ({"data": "/nowhere"}, DataError, "nowhere"),
]


@pytest.mark.parametrize(("changes", "kind", "words"), MISTAKES, ids=lambda value: str(value)[:24])
def test_mistakes_are_one_sentence_and_leave_nothing(
    run: Path, tmp_path: Path, changes: dict[str, Any], kind: Any, words: str
) -> None:
    given = {"out": str(tmp_path / "new" / "model.onnx"), **changes}
    with pytest.raises(kind, match=words):
        mw.export(str(run), *given.pop("options", ()), **given)
    assert not list(tmp_path.iterdir())


def test_what_loses_too_much_is_not_written(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = certificate.certify

    def certify(source: Any, written: Any, path: Path, **known: Any) -> Any:
        def turned(pixels: np.ndarray) -> np.ndarray:
            return -np.asarray(source.network(pixels))

        return original(source, replace(written, predictor=source.running(turned, "onnxruntime")), path, **known)

    monkeypatch.setattr(certificate, "certify", certify)
    with pytest.raises(ModelError, match="nothing was written"):
        mw.export(str(run), out=str(tmp_path / "model.onnx"), max_drop=0.001)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_said(run: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(SetupError, match="cannot be written"):
        mw.export(str(run), out=str(tmp_path / "model.onnx"))


def test_a_full_disk_leaves_nothing(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maskwright.core import files

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_text", full)
    with pytest.raises(SetupError, match="no space left"):
        mw.export(str(run), out=str(tmp_path / "model.onnx"))
    assert not list(tmp_path.iterdir())


def test_images_that_moved_away_are_said_and_the_pictures_of_the_run_taken(
    run: Path, photos: Path, tmp_path: Path
) -> None:
    heard: list[str] = []
    away = photos.with_name("away")
    photos.rename(away)
    try:
        with events.listening(lambda event: heard.append(event.fields.get("text", ""))):
            found = mw.export(str(run), out=str(tmp_path / "model.onnx"))
    finally:
        away.rename(photos)
    assert found.certificate.loss is None
    assert any("cannot be read" in text for text in heard)
    assert any("pictures that the run kept" in text for text in heard)


def test_a_bundle_knows_its_run_from_inside(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run / "bundle")
    assert mw.export(".", out=str(tmp_path / "model.onnx")).certificate.photos == "the validation images of its run"


def test_of_the_run_nothing_is_said_that_was_not_asked_for(run: Path, photos: Path, tmp_path: Path) -> None:
    """Law: with images of one's own the run gives int8 its training images; where it cannot, `--calibrate` is what helps."""
    heard: list[str] = []
    own = synthetic.make(tmp_path / "own", num=4, size=(96, 90))
    away = photos.with_name("away")

    def images() -> tuple[Any, ...]:
        heard.clear()
        with events.listening(lambda event: heard.append(event.fields.get("text", ""))):
            return export._images(bundles.load(run), None, str(own), None, ranged=True)

    labelled, compared, ranges, _ = images()
    assert (labelled, len(compared)) == (None, 4)
    assert not any("can be scored" in text for text in heard)
    assert {path.parent for path in ranges}.isdisjoint({path.parent for path in compared})
    photos.rename(away)
    try:
        assert images()[2] == compared
    finally:
        away.rename(photos)
    assert any("cannot be read" in text and "`--calibrate`" in text and "`--data`" not in text for text in heard)


def test_as_many_photos_are_looked_at_as_asked_for(
    run: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "MOST_CALIBRATED", 4)
    given: dict[str, Any] = {"target": "int8", "images": str(photos), "calibrate": str(photos), "max_drop": 1.0}
    for options, expected in (((), (4, 4)), (("images=12",), (6, 6))):
        facts = mw.export(str(run), *options, **given, out=f"{tmp_path}/").certificate.facts
        assert (facts["calibration"]["photos"], facts["against_float32"]["photos"]) == expected


def test_photos_to_measure_ranges_on_are_for_files_with_ranges(run: Path, tmp_path: Path) -> None:
    heard: list[str] = []
    own, other = (synthetic.make(tmp_path / name, num=2, size=(96, 90)) for name in ("own", "other"))
    with events.listening(lambda event: heard.append(event.fields.get("text", ""))):
        ranged = export._images(bundles.load(run), None, str(own), str(other), ranged=True)
        assert not heard
        plain = export._images(bundles.load(run), None, str(own), str(other), ranged=False)
    assert {path.parent.parent for path in ranged[2]} == {other}
    assert plain[2] == plain[1] == ranged[1]
    assert [text for text in heard if "`--calibrate` is for files that measure ranges" in text] == heard != []
