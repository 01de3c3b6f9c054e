"""The file for Lens Studio: folding that changes no number, operators that are refused, ranges, heads, the import recipe."""

from __future__ import annotations

import copy
import re
import warnings
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.functional import interpolate

from maskwright.bundles.bundle import Description
from maskwright.core import events
from maskwright.core.errors import ModelError, RecipeError
from maskwright.exports import folding, lens_studio
from maskwright.exports.lens_studio import head_of
from maskwright.exports.source import Source
from maskwright.imaging import images
from maskwright.models import MODELS
from maskwright.models.segmenter import NORMALIZATIONS, Segmenter, wrap
from maskwright.prediction import predictor, with_onnx

SIZE = (32, 16)
EXACT = 1e-4 * 255
CLASSES = ("background", "cat", "dog", "hen", "owl", "pig", "rat")


class Plain(nn.Module):
    """Half the size and back; the first layer pads, so that its border sees what stands for nothing."""

    stride = 2

    def __init__(self, classes: int, *, skip: bool = False):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.shortcut = nn.Conv2d(3, 8, 1, 2) if skip else None
        self.head = nn.Conv2d(8, classes, 3, padding=1)
        norm: Any = self.stem[1]
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        with torch.no_grad():
            self.head.weight *= 3

    def forward(self, x: Tensor) -> Tensor:
        features = self.stem(x)
        if self.shortcut is not None:
            features = features + self.shortcut(x)
        return self.head(interpolate(features, scale_factor=2.0, mode="nearest"))


class Other(Plain):
    """The same with one more operation, of those that a lens may lack."""

    def __init__(self, classes: int, operation: nn.Module):
        super().__init__(classes)
        self.stem.append(operation)


def described(classes: int, **known: Any) -> Description:
    given: dict[str, Any] = {"size": SIZE, "fit": "squash", "model": {"name": "plain"}, **known}
    return Description(CLASSES[:classes], tuple((index, 0, 0) for index in range(classes)), **given)


def source_of(network: nn.Module, description: Description, normalization: str = "unit") -> Source:
    return Source(wrap(network, normalization).eval(), replace(description, normalization=normalization))


def written(source: Source, folder: Path, **options: Any) -> Path:
    path = folder / "lens.onnx"
    lens_studio.lens_studio(source, path, **options)
    return path


def answered(path: Path, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(["prob"], {"data": pixels})[0]


def exact(segmenter: Segmenter, pixels: np.ndarray) -> Tensor:
    """The logits in float64."""
    network = copy.deepcopy(segmenter).double()
    normal = (torch.from_numpy(pixels).double() - network.mean) / network.std
    with torch.inference_mode():
        return network.network(normal)


def noise(size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(1).uniform(0, 255, (1, 3, *size)).astype(np.float32)


@pytest.mark.parametrize("name", NORMALIZATIONS)
@pytest.mark.parametrize("skip", [False, True])
def test_every_normalization_is_folded_without_a_trace_at_the_border_too(name: str, skip: bool, tmp_path: Path) -> None:
    source = source_of(Plain(2, skip=skip), described(2), name)
    path = written(source, tmp_path)
    expected = 255 * exact(source.segmenter, noise()).softmax(1)[:, 1:].numpy()
    assert np.abs(answered(path, noise()) - expected).max() < EXACT


def convolutions(path: Path) -> int:
    return sum(node.op_type == "Conv" for node in onnx.load(str(path)).graph.node)


def test_a_pure_scaling_costs_no_layer_and_another_one_layer_of_twelve_numbers(tmp_path: Path) -> None:
    (tmp_path / "unit").mkdir()
    unit = written(source_of(Plain(2), described(2), "unit"), tmp_path / "unit")
    imagenet = written(source_of(Plain(2), described(2), "imagenet"), tmp_path)
    assert (convolutions(unit), convolutions(imagenet)) == (2, 3)


def test_without_padding_a_normalization_with_a_mean_costs_no_layer_either(tmp_path: Path) -> None:
    class Unpadded(Plain):
        def __init__(self) -> None:
            super().__init__(2)
            self.stem[0] = nn.Conv2d(3, 8, 2, 2, 0)

    source = source_of(Unpadded(), described(2), "imagenet")
    path = written(source, tmp_path)
    expected = 255 * exact(source.segmenter, noise()).softmax(1)[:, 1:].numpy()
    assert convolutions(path) == 2
    assert np.abs(answered(path, noise()) - expected).max() < EXACT


HEADS = [(classes, "plain", multilabel) for classes in (2, 3, 7) for multilabel in (False, True)]
HEADS += [(classes, "lens", False) for classes in (2, 5)]  # it has an implied background: its classes never overlap


@pytest.mark.parametrize(("classes", "model", "multilabel"), HEADS)
def test_heads_say_what_softmax_and_argmax_say(classes: int, model: str, multilabel: bool, tmp_path: Path) -> None:
    size = (64, 32)
    network = Plain(classes) if model == "plain" else MODELS["lens"](classes, width=0.1)
    source = source_of(network, described(classes, multilabel=multilabel, size=size))
    found, z = answered(written(source, tmp_path), noise(size)), exact(source.segmenter, noise(size))
    logits = with_onnx.from_lens(found, head_of(source.description))
    assert found.dtype == np.float32
    if multilabel:
        assert np.abs(found - 255 * z.sigmoid().numpy()).max() < EXACT
    elif classes == 2:
        assert found.shape == (1, 1, *size)
        assert np.abs(found - 255 * z.softmax(1)[:, 1:].numpy()).max() < EXACT
    else:
        best = z.topk(2, dim=1).values
        clear = (best[:, 0] - best[:, 1] > 1e-4).numpy()
        wins = np.eye(classes, dtype=np.bool_)[z.argmax(1).numpy()].transpose(0, 3, 1, 2)
        assert ((found > 127.5) == wins).all(axis=1)[clear].all()
    expected = z.sigmoid() if multilabel else z.softmax(1)
    back = torch.from_numpy(logits).double()
    torch.testing.assert_close(back.sigmoid() if multilabel else back.softmax(1), expected, rtol=0, atol=1e-4)


def test_softmax_is_written_when_it_is_asked_for(tmp_path: Path) -> None:
    source = source_of(Plain(3), described(3))
    path = written(source, tmp_path, softmax=True)
    z = exact(source.segmenter, noise())
    assert np.abs(answered(path, noise()) - 255 * z.softmax(1).numpy()).max() < EXACT
    back = torch.from_numpy(with_onnx.from_lens(answered(path, noise()), "softmax")).double()
    torch.testing.assert_close(back.softmax(1), z.softmax(1), rtol=0, atol=1e-4)


def test_the_lens_network_gives_the_form_of_the_file_that_was_shipped(tmp_path: Path) -> None:
    network = MODELS["lens"](2)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):  # equal ones would be written once
            nn.init.normal_(layer.bias)
    source = source_of(network, described(2, size=(256, 128)))
    result = lens_studio.lens_studio(source, tmp_path / "lens.onnx")
    model = onnx.load(str(tmp_path / "lens.onnx"))
    sides = [
        [side.dim_value for side in v.type.tensor_type.shape.dim] for v in (*model.graph.input, *model.graph.output)
    ]
    assert [value.name for value in (*model.graph.input, *model.graph.output)] == ["data", "prob"]
    assert sides == [[1, 3, 256, 128], [1, 1, 256, 128]]
    assert (model.ir_version, [(entry.domain, entry.version) for entry in model.opset_import]) == (6, [("", 11)])
    assert result.facts is not None
    operators = {"Conv": 54, "Relu": 37, "Add": 14, "Constant": 11, "Resize": 5, "Sigmoid": 1, "Mul": 1}
    assert result.facts["operators"] == operators
    assert (result.facts["parameters"], result.facts["macs"]) == (366_313, 60_304_384)


def test_the_written_file_is_a_predictor_like_any_other(tmp_path: Path) -> None:
    source = source_of(Plain(3), described(3), "imagenet")
    written(source, tmp_path)
    opened = predictor.load(tmp_path / "lens.onnx")
    photo = np.random.default_rng(2).integers(0, 256, (50, 40, 3), dtype=np.uint8)
    ours, theirs = source.predictor(photo), opened(photo)
    assert (ours.label_map != theirs.label_map).mean() < 1e-3
    np.testing.assert_allclose(ours.confidence, theirs.confidence, atol=1e-3)


@pytest.mark.parametrize(
    ("operation", "named"),
    [
        (nn.ReLU6(), "Clip"),
        (nn.Upsample(scale_factor=2, mode="bilinear"), "Resize (linear)"),
        (nn.MaxPool2d(3, 1, 1), "MaxPool"),
        (nn.Conv2d(8, 8, 3, padding=1, groups=2), "Conv (in groups of channels)"),
        (nn.Conv2d(8, 8, 3, padding=4), "Conv (padded by more than its kernel)"),
    ],
)
def test_operators_that_are_not_known_everywhere_are_refused_by_name(
    operation: nn.Module, named: str, tmp_path: Path
) -> None:
    known = described(2)
    if isinstance(operation, nn.Upsample):
        operation = nn.Sequential(operation, nn.Conv2d(8, 8, 2, 2))
    if isinstance(operation, nn.Conv2d) and operation.padding == (4, 4):
        operation = nn.Sequential(operation, nn.Conv2d(8, 8, 7))
    network = Other(2, operation)
    with pytest.raises(ModelError, match=re.escape(named)) as caught:
        lens_studio.lens_studio(source_of(network, known), tmp_path / "lens.onnx")
    allowed = named.split()[0]
    assert "stem" in str(caught.value)
    assert "cat_lens" in str(caught.value)
    assert f"allow_operators={allowed}" in str(caught.value)
    with pytest.raises(ModelError, match=f"allow_operators=Erf,{allowed}`"):  # and what was allowed already
        lens_studio.lens_studio(source_of(network, known), tmp_path / "lens.onnx", allow_operators="Erf")
    written(source_of(network, known), tmp_path, allow_operators=allowed)


def test_what_cannot_be_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path, fine = tmp_path / "lens.onnx", source_of(Plain(2), described(2))
    with pytest.raises(RecipeError, match=r"no ONNX operator is called `Klip`.*`Clip`"):
        lens_studio.lens_studio(fine, path, allow_operators="Klip")
    with pytest.raises(RecipeError, match="opset 17"):
        lens_studio.lens_studio(fine, path, opset=17)
    odd = source_of(MODELS["lens"](2, width=0.1), described(2, size=(100, 64)))
    with pytest.raises(ModelError, match=r"100 x 64.*steps of 32.*`size` 96 or 128 x 64"):
        lens_studio.lens_studio(odd, path)
    with pytest.raises(ModelError, match="`background` alone"):
        lens_studio.lens_studio(source_of(Plain(1), described(1)), path)


def rescaled(path: Path, factor: float, place: int = 1) -> None:
    """Makes the first layer of a file see its input times `factor`."""
    model = onnx.load(str(path))
    first = next(node for node in model.graph.node if "data" in node.input)
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == first.input[place])
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(factor), weight.name))
    onnx.save(model, str(path))


def test_a_file_that_wants_0_to_1_or_answers_0_to_1_is_found_out(tmp_path: Path) -> None:
    source = source_of(Plain(2), described(2))
    path = written(source, tmp_path)
    assert "its range is sure" in lens_studio.check_range(source, path, "object")
    rescaled(path, 255)
    with pytest.raises(ModelError, match=r"away from torch for pixels of 0\.\.255"):
        lens_studio.check_range(source, path, "object")
    model = onnx.load(str(written(source, tmp_path)))
    for node in model.graph.node:
        if node.op_type == "Mul":
            del node.attribute[:]
            node.op_type, node.input[1] = "Add", node.input[0]  # twice the probability, 0..2
    onnx.save(model, str(path))
    with pytest.raises(ModelError, match="away from torch"):
        lens_studio.check_range(source, path, "object")


def test_a_model_that_answers_alike_everywhere_is_not_called_proved(tmp_path: Path) -> None:
    network = Plain(2)
    nn.init.zeros_(network.head.weight)
    told: list[events.Event] = []
    with events.listening(told.append):
        result = lens_studio.lens_studio(source_of(network, described(2)), tmp_path / "lens.onnx")
    assert any("not proved" in note for note in result.notes)
    assert any(event.name == "warn" and "not proved" in event.fields["text"] for event in told)


def test_weights_that_are_next_to_nothing_become_nothing(tmp_path: Path) -> None:
    network = Plain(2)
    with torch.no_grad():
        network.head.weight[:, 0] = torch.tensor([0.0, 1e-39]).view(2, 1, 1)
    source = source_of(network, described(2))
    result = lens_studio.lens_studio(source, tmp_path / "lens.onnx")
    assert any("9 weights below 1e-20 became 0" in note for note in result.notes)
    expected = 255 * exact(source.segmenter, noise()).softmax(1)[:, 1:].numpy()
    assert np.abs(answered(tmp_path / "lens.onnx", noise()) - expected).max() < EXACT


@pytest.mark.parametrize(("fit", "stretch"), [("squash", "true"), ("pad", "false"), ("crop", "false")])
def test_the_import_recipe_has_the_numbers_of_the_file(fit: str, stretch: str, tmp_path: Path) -> None:
    result = lens_studio.lens_studio(source_of(Plain(3), described(3, fit=fit)), tmp_path / "lens.onnx")
    text = (tmp_path / "lens.import.txt").read_text()
    model = onnx.load(str(tmp_path / "lens.onnx"))
    shapes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    for name, (_, channels, height, width) in shapes.items():
        assert f'setName("{name}")' in text
        assert f"setShape(new vec3({width}, {height}, {channels}))" in text
        assert re.search(rf"name +{name}\n  shape +{width} x {height} x {channels}", text)
    assert re.findall(r"scale +([\d ]+)", text)[0].split() == ["1", "1", "1"]
    assert re.findall(r"bias +([\d ]+)", text)[0].split() == ["0", "0", "0"]
    assert f"setStretch({stretch})" in text
    assert ("fill colour 124, 116, 104" in text) == ("VerticalAlignment.Center" in text) == (fit == "pad")
    assert ("new vec4(0.486, 0.455, 0.408, 1)" in text) == (fit == "pad")
    assert "channel 1: cat" in text
    assert "{" not in re.sub(r"function \(\) \{.*\}", "", text, flags=re.DOTALL)
    assert any("camera frame" in note for note in result.notes) == (fit == "crop")


def test_budgets_warn_and_write(tmp_path: Path) -> None:
    told: list[str] = []
    with events.listening(lambda event: told.append(event.fields.get("text", ""))):
        written(source_of(Plain(2), described(2, size=(16, 32))), tmp_path, max_mb=1e-4, max_mmacs=1e-3)
    assert [
        bool(re.search(word, " ".join(told))) for word in ("MB, more than", "are more than", "wider than tall")
    ] == [True] * 3


def test_photos_are_what_is_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    seen: list[Path] = []
    read = images.read_fitted
    monkeypatch.setattr(
        images, "read_fitted", lambda path, *rest, **more: (seen.append(path), read(path, *rest, **more))[1]
    )
    written(replace(source_of(Plain(2), described(2)), photos=(tmp_path / "a.png",)), tmp_path)
    assert seen == [tmp_path / "a.png"]


def test_a_point_layer_moves_through_nearest_upsampling_into_the_layer_before() -> None:
    """1x1 after a resize is 1x1 before it: the graph answers the same with one layer less."""
    body = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.Upsample(scale_factor=2), nn.Conv2d(4, 1, 1), nn.Sigmoid()
    ).eval()
    stream = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            body, (torch.zeros(1, 3, 8, 8),), stream, dynamo=False, opset_version=11, input_names=["data"]
        )
    model = onnx.load_from_string(stream.getvalue())
    sigmoid = next(node for node in model.graph.node if node.op_type == "Sigmoid")
    assert folding.into_previous(model, sigmoid.input[0])
    assert not folding.into_previous(model, sigmoid.input[0])
    onnx.checker.check_model(model, full_check=True)
    pixels = np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = body(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(session.run(None, {"data": pixels})[0], expected, atol=1e-6)


def test_short_names_change_no_answer() -> None:
    body = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1), nn.Sigmoid()).eval()
    stream = BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            body, (torch.zeros(1, 3, 8, 8),), stream, dynamo=False, input_names=["data"], output_names=["prob"]
        )
    model = onnx.load_from_string(stream.getvalue())
    before, size = model.SerializeToString(), model.ByteSize()
    assert folding.short_names(model)
    assert model.ByteSize() < size
    assert [node.name for node in model.graph.node] == ["Conv_0", "Relu_1", "Conv_2", "Sigmoid_3"]
    onnx.checker.check_model(model, full_check=True)
    pixels = np.random.default_rng(0).random((1, 3, 8, 8), dtype=np.float32)
    answers = [
        onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(["prob"], {"data": pixels})[0]
        for file in (before, model.SerializeToString())
    ]
    np.testing.assert_array_equal(*answers)
