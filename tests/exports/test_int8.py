"""int8: near float32 on the photos, nearer with layers put back, refused without photos."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_package
import pytest
from onnx import numpy_helper
from small_networks import Small, source_of
from torch import Tensor

import maskwright as mw
from maskwright.core import events, machine
from maskwright.core.errors import ModelError, RecipeError
from maskwright.exports import bias_correction, onnx_files, quantised
from maskwright.exports.int8 import (
    _Enough,
    _first_that_holds,
    _inputs,
    _methods,
    _of_machine,
    _prepared,
    _quantised,
    int8,
)
from maskwright.exports.onnx import onnx, open_file
from maskwright.exports.quantised import Found
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
    model = onnx_package.load(str(path))
    operators = [node.op_type for node in model.graph.node]
    assert operators.count("DequantizeLinear") > operators.count("Conv") > 0
    assert {opset.domain for opset in model.opset_import} == {node.domain for node in model.graph.node} == {""}
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
            changed = quantised.in_float(model, trained, [name]).SerializeToString()
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


def test_the_judge_decides_how_many_layers_go_back(source: Source, tmp_path: Path) -> None:
    """Law: layers go back while more is lost than may be, and the predictor that is handed on is that of the file."""
    path, asked = tmp_path / "model.onnx", []

    def judge(predictor: Any) -> float:
        asked.append(len(quantised.layers(onnx_package.load(str(path)))))
        return 0.01 * (asked[-1] - 3)  # as many layers as there are over three, in hundredths

    written = int8(replace(source, judge=judge, max_drop=0.001), path)
    assert asked == [4, 4, 4, 0, 3]  # none, by three ways of measuring ranges; all, one back in float32
    assert written.facts is not None
    assert len(written.facts["float_layers"]) == 1  # type: ignore[arg-type]
    assert written.predictor is not None
    answers = [predictor.network(next(source.inputs()))[0] for predictor in (written.predictor, open_file(path, None))]
    assert np.array_equal(answers[0], answers[1])
    whole = int8(replace(source, judge=lambda predictor: 0.0, max_drop=0.0), path)
    assert whole.facts is not None
    assert whole.facts["float_layers"] == []
    with pytest.raises(ModelError, match="--max-drop"):
        int8(replace(source, judge=lambda predictor: 1.0), path)


def test_what_the_judge_found_good_enough_last_is_handed_on(source: Source, float32: Path, tmp_path: Path) -> None:
    """Law: whatever was tried after it, the file is again that of the predictor which was judged, and is not judged anew."""
    path, losses = tmp_path / "model.onnx", [0.2, 0.0, 0.2]
    judged: list[Any] = []

    def judge(predictor: Any) -> float:
        judged.append(predictor)
        return losses[len(judged) - 1]

    trained = _prepared(float32)
    model = _quantised(trained, list(source.inputs()), "minmax")
    enough = _Enough(replace(source, judge=judge, max_drop=0.1), path, onnx_files.metadata(float32), None)
    written = []
    for count, expected in enumerate([False, True, False]):
        tried = quantised.in_float(model, trained, quantised.layers(model)[:count])
        assert enough(tried, Found(0.0, 1.0, 0.0), count) == expected
        written.append(path.read_bytes())
    assert enough.last(model) is judged[1]
    assert path.read_bytes() == written[1] != written[2]


def test_products_of_activations_are_no_layers(tmp_path: Path) -> None:
    """Law: of a network with attention the layers with weights go back, all of them, and nothing else does."""

    class Attentive(Small):
        def forward(self, images: Tensor) -> Tensor:
            found = super().forward(images)
            flat = found.flatten(2)
            return found + ((flat @ flat.transpose(1, 2) / 100).softmax(1) @ flat).view(found.shape)

    (tmp_path / "photos").mkdir()
    source = source_of(tmp_path / "photos", network=Attentive())
    path = tmp_path / "model.onnx"
    in_eight: list[int] = []

    def judge(predictor: Any) -> float:
        in_eight.append(len(quantised.layers(onnx_package.load(str(path)))))
        return float(in_eight[-1] == 4)

    written = int8(replace(source, judge=judge), path, calibration="minmax")
    assert in_eight == [4, 0, 3]
    operators = [node.op_type for node in onnx_package.load(str(path)).graph.node]
    assert operators.count("MatMul") == 2
    assert "3 of 4 layers in 8 bits" in written.notes


def test_pixels_may_be_limited_beside_the_judge(source: Source, tmp_path: Path) -> None:
    def judge(predictor: Any) -> float:
        raise AssertionError("pixels are cheaper to ask, and say no")

    with pytest.raises(ModelError, match="changes too much"):
        int8(replace(source, judge=judge), tmp_path / "model.onnx", max_changed=0.0)


def test_reduced_weights_cannot_overflow_sixteen_bits(source: Source, tmp_path: Path) -> None:
    """Law: two products of an activation 0..255 and a weight stay below 32768, which CPUs without VNNI add up in int16."""
    for reduced in (False, True):
        path = tmp_path / f"{reduced}.onnx"
        written = int8(replace(source, max_drop=1), path, reduce_range=reduced)
        assert changed(source, path) < 0.1
        model = onnx_package.load(str(path))
        stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        makers = {name: node for node in model.graph.node for name in node.output}
        layers = [node for node in model.graph.node if node.name in quantised.layers(model)]
        most = max(int(np.abs(stored[makers[node.input[1]].input[0]].astype(int)).max()) for node in layers)
        assert most == (64 if reduced else 127)
        assert (2 * 255 * most < 1 << 15) == reduced
        assert any(f"weights in {7 if reduced else 8} bits" in note for note in written.notes)


@pytest.mark.parametrize(
    ("able", "kind", "reduced", "expected"),
    [
        ("AVX-512 VNNI", "x86_64", False, "exactly (AVX-512 VNNI)"),
        ("AMX", "x86_64", True, "exactly (AMX)"),
        (None, "x86_64", False, "`reduce_range`"),
        (None, "AMD64", False, "`reduce_range`"),
        (None, "x86_64", True, "7 bits"),
        (None, "arm64", False, "8 bits"),
    ],
)
def test_what_a_cpu_can_is_said(
    monkeypatch: pytest.MonkeyPatch, able: str | None, kind: str, reduced: bool, expected: str
) -> None:
    monkeypatch.setattr(machine, "cpu", lambda: {"int8": able})
    monkeypatch.setattr("platform.machine", lambda: kind)
    said = _of_machine(reduced)
    assert said.endswith(expected)
    assert ("overflow" in said) == ("`" in expected)


def test_notes_of_the_float_file_are_kept(source: Source, tmp_path: Path) -> None:
    scales = replace(
        source, description=replace(source.description, tta={"flip": False, "scales": [1.0, 1.5]}), max_drop=1
    )
    assert "takes one size" in int8(scales, tmp_path / "model.onnx").notes[0]


def test_windows_are_what_ranges_are_measured_on(source: Source, tmp_path: Path) -> None:
    windows = replace(source, description=replace(source.description, size=(32, 32), fit="crop"), max_drop=1)
    assert (
        "measured on 30 windows (minmax), held against float32 on 15 windows"
        in int8(windows, tmp_path / "m.onnx").notes[0]
    )


@pytest.mark.parametrize(
    ("options", "change", "error", "match"),
    [
        ({}, {"photos": ()}, RecipeError, "--calibrate FOLDER"),
        ({"images": 0}, {}, RecipeError, "images: 0 cannot be"),
        ({"max_changed": 2.0}, {}, RecipeError, "max_changed: 2.0 cannot be"),
        ({"max_changed": 0.0}, {}, ModelError, "max_changed"),
        ({}, {"max_drop": 0.0}, ModelError, "--max-drop"),
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


@pytest.mark.parametrize("fit", ["squash", "crop"])
@pytest.mark.parametrize("photos", [1, 2, 7, 8, 10])
@pytest.mark.parametrize("most", [1, 2, 7, 8, 9, 64])
def test_no_more_is_looked_at_than_asked_for_and_all_photos_are_checked(
    source: Source, fit: str, photos: int, most: int
) -> None:
    description = replace(source.description, size=(32, 32), fit=fit)
    known = replace(source, photos=source.photos[:photos], description=description)
    ranged, checked, same = _inputs(known, most)
    looked = {image.tobytes() for image in [*ranged, *checked]}
    assert 0 < len(looked) <= most
    assert ranged
    assert checked
    assert bool(same) == (min(photos, most) < 8)
    if same and most >= photos:
        seen = {next(replace(known, photos=(photo,)).inputs(1)).tobytes() for photo in known.photos}
        assert fit == "crop" or {image.tobytes() for image in checked} == seen
        assert fit == "squash" or len(checked) >= min(photos, len(ranged))


def test_few_photos_are_checked_on_windows_of_all(source: Source) -> None:
    small = replace(source.description, size=(16, 16), fit="crop")
    known = replace(source, photos=source.photos[:3], description=small)
    ranged, checked, _ = _inputs(known, 64)
    assert len(ranged) == 3 * 21
    places = [next(i for i, one in enumerate(ranged) if np.array_equal(one, image)) for image in checked]
    assert {place // 21 for place in places} == {0, 1, 2}


def test_few_photos_serve_twice_and_it_is_said(source: Source, tmp_path: Path) -> None:
    written = int8(replace(source, photos=source.photos[:2]), tmp_path / "model.onnx", max_changed=1)
    assert "which are those that the ranges were measured on" in written.notes[0]


@pytest.mark.parametrize(
    ("asked", "task", "good", "tried", "taken"),
    [
        ("auto", "semantic", {"minmax"}, ["minmax"], "minmax"),
        ("auto", "semantic", {"percentile", "entropy"}, ["minmax", "percentile"], "percentile"),
        ("auto", "semantic", {"entropy"}, ["minmax", "percentile", "entropy"], "entropy"),
        ("auto", "semantic", set(), ["minmax", "percentile", "entropy"], "minmax"),
        ("auto", "instance", {"entropy"}, ["minmax"], "minmax"),
        ("entropy", "semantic", {"minmax"}, ["entropy"], "entropy"),
    ],
)
def test_ranges_are_measured_another_way_before_a_layer_goes_back(
    asked: str, task: str, good: set[str], tried: list[str], taken: str
) -> None:
    made: list[str] = []

    def quantise(method: str) -> onnx_package.ModelProto:
        made.append(method)
        return onnx_package.ModelProto(producer_name=method)

    def enough(model: onnx_package.ModelProto, found: Found, back: int) -> bool:
        assert back == 0
        return model.producer_name in good

    same = Found(0.0, 1.0, 0.0)
    method, model = _first_that_holds(_methods(asked, task), quantise, lambda model: same, enough)
    assert (made, method, model.producer_name) == (tried, taken, taken)
