"""int8 and float16 of models that find objects: layers are coarse, what computes boxes is not; graphs with branches."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_package
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from maskwright.bundles.bundle import Description
from maskwright.core.errors import RecipeError
from maskwright.core.types import Instances
from maskwright.exports import bias_correction, onnx_half, onnx_layers, quantised
from maskwright.exports.int8 import int8
from maskwright.exports.onnx import onnx, open_file
from maskwright.exports.source import Source
from maskwright.imaging import run_lengths
from maskwright.models.build import build
from maskwright.prediction.instances import InstancePredictor

SMALL: dict[str, Any] = {
    "name": "mask_rcnn",
    "encoder": "mobilenet_v2",
    "channels": 16,
    "anchors": (8, 16, 24, 32, 48),
    "score": 0.0,
    "pre_nms_test": 50,
    "post_nms_test": 50,
    "max_detections": 20,
}
KNOWN = Description(("a", "b"), ((0, 0, 0),) * 2, (64, 64), "squash", SMALL, "imagenet", task="instance")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A small Mask R-CNN that finds many objects with random weights."""
    torch.manual_seed(0)
    folder, random = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for index in range(8):
        coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8))
        coarse.resize((80, 60), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
    segmenter = build(KNOWN).eval()
    for name, weights in segmenter.named_parameters():
        if name.endswith("cls_score.weight"):
            weights.data.mul_(50)  # scores differ, as those of a trained network do
        if name.endswith("mask_fcn_logits.bias"):
            weights.data.fill_(2)  # masks fill their boxes
    return Source(segmenter, KNOWN, tuple(sorted(folder.iterdir())), max_drop=1)


@pytest.fixture(scope="module")
def float32(source: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("float") / "model.onnx"
    onnx(source, path)
    return path


@pytest.mark.slow
def test_eight_bits_stand_in_layers_and_nowhere_else(source: Source, float32: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.int8.onnx"
    written = int8(source, path, images=8)
    model, before = onnx_package.load(str(path)), onnx_package.load(str(float32))
    assert path.stat().st_size < 0.45 * float32.stat().st_size
    in_bits = quantised.layers(model)
    assert len(in_bits) > 60
    assert not [
        name for name in in_bits if name.endswith(("cls_logits/Conv", "pred/Gemm", "score/Gemm", "logits/Conv"))
    ]
    count = {
        which: [node.op_type for node in graph.node].count("If")
        for which, graph in enumerate((model.graph, before.graph))
    }
    assert count[0] == count[1] > 0
    read = {name for node in model.graph.node if node.op_type == "QuantizeLinear" for name in node.input[:1]}
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    assert {makers[name] for name in read} <= {
        *onnx_layers.WEIGHTED,
        *onnx_layers.BETWEEN,
        "Sub",
        "Div",
        "Reshape",
        "Gather",
    }
    assert isinstance(written.predictor, InstancePredictor)
    expected, actual = (predictor(source.photos[0]) for predictor in (source.predictor, written.predictor))
    assert isinstance(expected, Instances)
    assert isinstance(actual, Instances)
    assert len(actual) > 0
    assert abs(len(expected) - len(actual)) <= 10
    assert written.facts is not None
    assert 0 < written.facts["against_float32"]["objects_changed"] < 1  # type: ignore[index]
    assert "takes one image at a time" in written.notes  # what the float file says


@pytest.mark.slow
def test_photos_without_objects_have_no_ranges(source: Source, tmp_path: Path) -> None:
    blind = replace(source.description, model={**SMALL, "score": 1.0})
    with pytest.raises(RecipeError, match=r"no object is found .*--calibrate FOLDER"):
        int8(Source(build(blind).eval(), blind, source.photos), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_float16_halves_the_layers_and_keeps_boxes_exact(source: Source, float32: Path, tmp_path: Path) -> None:
    path = tmp_path / "half.onnx"
    path.write_bytes(float32.read_bytes())
    onnx_half.halve(path, objects=True)
    model = onnx_package.load(str(path))
    onnx_package.checker.check_model(model, full_check=True)
    layers = [node for node in model.graph.node if node.op_type in onnx_layers.WEIGHTED]
    halves = {tensor.name for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    assert all(node.input[1] in halves for node in layers)
    types = {node.op_type for node in model.graph.node if any(name.endswith("_half") for name in node.output)}
    assert types <= {*onnx_layers.WEIGHTED, *onnx_layers.BETWEEN, "Cast"}
    assert path.stat().st_size < 0.6 * float32.stat().st_size
    ends = [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]
    assert set(ends) == {TensorProto.FLOAT, TensorProto.INT64}
    whole, half = open_file(float32, None), open_file(path, None)
    expected, actual = (predictor(source.photos[0]) for predictor in (whole, half))
    assert isinstance(expected, Instances)
    assert isinstance(actual, Instances)
    common, total, _, count = quantised.shared(expected, actual)
    assert count >= 0.8 * len(expected) > 0
    assert common > 0.8 * total


def branching() -> onnx_package.ModelProto:
    """image -> Conv -> Relu -> Conv -> If(sum > 0, then + w, else the first convolution's answer), float32 (1, 2, h, w)."""
    weights = [numpy_helper.from_array(np.eye(2, dtype=np.float32)[:, :, None, None], f"w{i}") for i in range(2)]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2, None, None]) for name in ("image", "out")]
    inner = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("then", "else")]
    branches = [
        helper.make_graph([helper.make_node("Add", ["b", "shift"], ["then"])], "then", [], inner[:1]),
        helper.make_graph([helper.make_node("Identity", ["a"], ["else"])], "else", [], inner[1:]),
    ]
    nodes = [
        helper.make_node("If", ["positive"], ["out"], "if", then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Greater", ["total", "nothing"], ["positive"], "greater"),
        helper.make_node("ReduceSum", ["b"], ["total"], "sum", keepdims=0),
        helper.make_node("Conv", ["r", "w1"], ["b"], "second"),
        helper.make_node("Relu", ["a"], ["r"], "between"),
        helper.make_node("Conv", ["image", "w0"], ["a"], "first"),
    ]
    constants = [numpy_helper.from_array(np.float32(0), "nothing"), numpy_helper.from_array(np.float32(7), "shift")]
    graph = helper.make_graph(nodes, "branching", value[:1], value[1:], [*weights, *constants])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_branches_read_what_stands_around_them() -> None:
    model = branching()
    assert onnx_layers.reads(model.graph.node[0]) == {"positive", "a", "b", "shift"}
    onnx_layers.sort(model.graph)
    onnx_package.checker.check_model(model, full_check=True)
    names = [node.name for node in model.graph.node]
    assert names == ["first", "between", "second", "sum", "greater", "if"]
    onnx_layers.sort(model.graph)
    assert [node.name for node in model.graph.node] == names


def test_features_are_layers_and_what_lies_between_them() -> None:
    model = branching()
    assert onnx_layers.features(model.graph, answers=True) == ["second", "between", "first"]
    assert onnx_layers.features(model.graph, answers=False) == ["between", "first"]
    model.graph.node[4].op_type = "Sqrt"  # of a normalisation: stays as it is, and what stands before it is no answer
    assert onnx_layers.features(model.graph, answers=True) == ["second", "first"]
    assert onnx_layers.features(model.graph, answers=False) == ["first"]
    model.graph.node[4].op_type = "TopK"
    assert onnx_layers.features(model.graph, answers=False) == []


def test_without_biases_in_eight_bits_there_is_nothing_to_correct() -> None:
    assert bias_correction.correct(branching(), branching(), []) == 0


def test_float16_reaches_into_branches(tmp_path: Path) -> None:
    onnx_layers.sort((model := branching()).graph)
    onnx_package.save(model, str(tmp_path / "model.onnx"))
    onnx_half.halve(tmp_path / "model.onnx", objects=True)
    onnx_package.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for sign, expected in ((1, 9), (-1, -2)):
        answer = session.run(None, {"image": np.full((1, 2, 3, 3), 2.0 * sign, np.float32)})[0]
        assert np.array_equal(answer, np.full((1, 2, 3, 3), expected))


def drawn(*objects: tuple[int, float, slice]) -> Instances:
    """Objects of label, score and columns, 10 x 10."""
    masks = [np.zeros((10, 10), bool) for _ in objects]
    for mask, (_, _, columns) in zip(masks, objects, strict=True):
        mask[:, columns] = True
    labels, scores = (np.array([found[i] for found in objects], kind) for i, kind in ((0, np.int64), (1, np.float32)))
    return Instances(labels, scores, np.zeros((len(objects), 4)), tuple(map(run_lengths.of_mask, masks)), (10, 10), ())


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        ([], [], (0, 0, 0, 0)),
        ([(0, 0.9, slice(0, 5))], [(0, 0.9, slice(0, 5))], (1.8, 1.8, 1, 1)),
        ([(0, 0.9, slice(0, 5))], [(0, 0.7, slice(0, 5))], (1.4, 1.6, 1, 1)),
        ([(0, 0.9, slice(0, 5))], [(0, 0.9, slice(0, 4))], (1.44, 1.8, 0.8, 1)),  # four of five columns
        ([(0, 0.9, slice(0, 4))], [(0, 0.9, slice(0, 2))], (0.9, 1.8, 0.5, 1)),
        ([(0, 0.9, slice(0, 5))], [(0, 0.9, slice(0, 2))], (0, 1.8, 0, 0)),
        ([(0, 0.9, slice(0, 5))], [(1, 0.6, slice(0, 5))], (0, 1.5, 0, 0)),
        ([(0, 0.9, slice(0, 5))], [], (0, 0.9, 0, 0)),
        ([], [(0, 0.1, slice(0, 5))], (0, 0.1, 0, 0)),
        (
            [(0, 0.5, slice(0, 5)), (0, 0.4, slice(0, 4))],
            [(0, 0.5, slice(0, 4)), (0, 0.4, slice(0, 5))],
            (1.6, 1.8, 2, 2),
        ),
    ],
)
def test_objects_are_shared_by_score_and_overlap(ours: Any, theirs: Any, expected: tuple[float, ...]) -> None:
    np.testing.assert_allclose(quantised.shared(drawn(*ours), drawn(*theirs)), expected, atol=1e-6)


def test_overlaps_are_those_of_the_pixels() -> None:
    """Law: the IoU of run-lengths is that of decoded masks; of one without a pixel it is 0."""
    random = np.random.default_rng(0)
    masks = [[random.random((9, 7)) < share for share in (0.0, 0.2, 0.5, 0.9, 1.0)] for _ in range(2)]
    ours, theirs = (
        Instances(np.zeros(5, int), np.ones(5), np.zeros((5, 4)), tuple(map(run_lengths.of_mask, some)), (9, 7), ())
        for some in masks
    )
    expected = [[(one & other).sum() / max((one | other).sum(), 1) for other in masks[1]] for one in masks[0]]
    np.testing.assert_allclose(quantised._overlaps(ours, theirs), expected)


def test_of_objects_that_are_the_same_nothing_is_changed() -> None:
    """Law: a share is never below 0, however sums are rounded."""
    random = np.random.default_rng(0)
    for count in range(1, 40):
        same = drawn(*((label, score, slice(0, 5)) for label, score in enumerate(random.random(count))))
        found = quantised.Check._objects(None, [(same, same)])  # type: ignore[arg-type]
        assert 0 <= found.changed < 1e-12
        assert found.iou == 1
