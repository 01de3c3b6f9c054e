"""int8: near float32 on the photos, nearer with layers put back, refused without photos."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx as onnx_package
import pytest
from small_networks import KNOWN, source_of

import maskwright as mw
from maskwright.core import events
from maskwright.core.errors import ModelError, RecipeError
from maskwright.exports import bias_correction, onnx_files, quantised
from maskwright.exports.int8 import _prepared, _quantised, int8
from maskwright.exports.onnx import onnx, open_file
from maskwright.exports.source import Source


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return source_of(tmp_path_factory.mktemp("photos"))


@pytest.fixture(scope="module")
def float32(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("float") / "model.onnx"
    onnx(source, path)
    return path


def changed(source: Source, path: Path) -> float:
    """Share of the network's pixels that the file answers otherwise than torch."""
    predictor = open_file(path, None)
    return float(
        np.mean([(source.network(x)[0].argmax(0) != predictor.network(x)[0].argmax(0)).mean() for x in source.inputs()])
    )


def test_the_file_is_small_and_near_the_network_and_predicts_alone(
    source: Source, float32: Path, tmp_path: Path
) -> None:
    path = tmp_path / "model.int8.onnx"
    written = int8(source, path, max_changed=1)
    assert changed(source, path) < 0.05
    operators = [node.op_type for node in onnx_package.load(str(path)).graph.node]
    assert operators.count("DequantizeLinear") > operators.count("Conv") > 0
    kept, before = onnx_files.metadata(path), onnx_files.metadata(float32)
    assert {key: kept[key] for key in ("contract", "maskwright")} == {
        key: before[key] for key in ("contract", "maskwright")
    }
    assert mw.load(path)(source.photos[0]).label_map.shape == (60, 80)
    assert written.predictor is not None
    assert written.predictor.runtime.startswith("onnxruntime ")
    assert list(tmp_path.iterdir()) == [path]
    assert written.facts is not None
    assert written.facts["float_layers"] == []


def test_classes_that_nobody_sees_are_no_difference(source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantised, "session", lambda _: None)
    monkeypatch.setattr(quantised.Check, "_answer", lambda *_: np.full((2, 4, 4), -1.0))
    check = quantised.Check(b"", [np.zeros(1)], replace(source.description, multilabel=True))
    found = check(onnx_package.ModelProto())
    assert (found.changed, found.iou, found.error) == (0.0, 1.0, 0.0)


def test_layers_go_back_until_the_limit_holds(source: Source, tmp_path: Path) -> None:
    whole, limited = tmp_path / "all.onnx", tmp_path / "limited.onnx"
    first = int8(source, whole, max_changed=1)
    assert first.facts is not None
    start = first.facts["against_float32"]["pixels_changed"]  # type: ignore[index]
    said: list[str] = []
    with events.listening(lambda event: said.append(str(event.fields.get("text")))):
        written = int8(source, limited, max_changed=0.999 * start)
    assert written.facts is not None
    steps = written.facts["float_layers"]
    assert isinstance(steps, list)
    assert steps
    shares = [steps[0]["changed_before"], *(step["changed_after"] for step in steps)]
    assert shares[0] == start
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < start
    assert all(any(step["layer"] in line for line in said) for step in steps)
    in_bits = len(quantised.layers(onnx_package.load(str(limited))))
    assert in_bits + len(steps) == written.facts["layers"] == len(quantised.layers(onnx_package.load(str(whole))))


def test_a_layer_in_float_stays_in_float_when_onnxruntime_optimises(source: Source, tmp_path: Path) -> None:
    """Law: what a file answers does not depend on how far onnxruntime optimises it, whichever layer is in float32."""
    import onnxruntime as ort

    path = tmp_path / "all.onnx"
    int8(source, path, max_changed=1)
    onnx(source, tmp_path / "float.onnx")
    model = onnx_package.load(str(path))
    trained = _prepared(tmp_path / "float.onnx")
    pixels = next(iter(source.inputs()))
    levels = (ort.GraphOptimizationLevel.ORT_DISABLE_ALL, ort.GraphOptimizationLevel.ORT_ENABLE_ALL)
    expected = source.network(pixels)
    for name in quantised.layers(model):
        answers = []
        for level in levels:
            options = ort.SessionOptions()
            options.graph_optimization_level = level
            changed = quantised.in_float(model, trained, name).SerializeToString()
            session = ort.InferenceSession(changed, options, providers=["CPUExecutionProvider"])
            answers.append(session.run(None, {"image": pixels})[0])
        plain, optimised = (float(np.abs(answer - expected).mean()) for answer in answers)
        assert optimised < 1.5 * plain + 1e-3, name


def test_bias_correction_takes_the_mean_error_out(source: Source, float32: Path) -> None:
    trained = _prepared(float32)
    pixels = list(source.inputs())
    model = _quantised(trained, pixels, "minmax")
    check = quantised.Check(float32.read_bytes(), pixels, source.description)
    before = check(model).error
    assert bias_correction.correct(model, trained, pixels) == len(quantised.layers(model)) == 4
    assert check(model).error < 0.95 * before


@pytest.mark.parametrize("calibration", ["percentile", "entropy"])
def test_every_calibration_is_near(source: Source, tmp_path: Path, calibration: str) -> None:
    int8(source, tmp_path / "model.onnx", calibration=calibration, max_changed=1)  # type: ignore[arg-type]
    assert changed(source, tmp_path / "model.onnx") < 0.1


@pytest.mark.parametrize(
    ("options", "change", "error", "match"),
    [
        ({}, {"photos": ()}, RecipeError, "--calibrate FOLDER"),
        ({}, {"description": replace(KNOWN, task="instance")}, ModelError, "label pixels"),
        ({"images": 0}, {}, RecipeError, "images: 0 cannot be"),
        ({"max_changed": 2.0}, {}, RecipeError, "max_changed: 2.0 cannot be"),
        ({"max_changed": 0.0}, {}, ModelError, "max_changed="),
    ],
)
def test_what_cannot_be_is_refused(
    source: Source,
    tmp_path: Path,
    options: dict[str, float],
    change: dict[str, object],
    error: type[Exception],
    match: str,
) -> None:
    with pytest.raises(error, match=match):
        int8(replace(source, **change), tmp_path / "model.onnx", **options)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_few_photos_serve_twice_and_it_is_said(source: Source, tmp_path: Path) -> None:
    written = int8(replace(source, photos=source.photos[:2]), tmp_path / "model.onnx", max_changed=1)
    assert "which are those that the ranges were measured on" in written.notes[0]
