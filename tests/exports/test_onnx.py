"""ONNX files: every opset, precision and shape answers as torch does, or is refused with a reason."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx as onnx_package
import pytest
import torch
from small_networks import KNOWN, SIZE, Small, source_of

import maskwright as mw
from maskwright.core.errors import ModelError, RecipeError
from maskwright.exports import onnx_files
from maskwright.exports.onnx import checked, onnx, open_file
from maskwright.exports.source import Source
from maskwright.models.segmenter import wrap


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    return source_of(tmp_path_factory.mktemp("photos"), photos=4)


def shape(path: Path) -> list[Any]:
    """The input's sides: lengths, or names."""
    sides = onnx_package.load(str(path)).graph.input[0].type.tensor_type.shape.dim
    return [side.dim_param or side.dim_value for side in sides]


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 20])
def test_every_opset_answers_as_torch_does(source: Source, tmp_path: Path, opset: int) -> None:
    path = tmp_path / "model.onnx"
    written = onnx(source, path, opset=opset)
    assert {entry.domain: entry.version for entry in onnx_package.load(str(path)).opset_import}[""] == opset
    predictor = open_file(path, None)
    for image in source.inputs():
        np.testing.assert_allclose(predictor.network(image), source.network(image), atol=1e-4)
    assert written.facts is not None
    assert written.facts["parity"] == json.loads(onnx_files.metadata(path)["parity"])
    assert mw.load(path)(source.photos[0]).label_map.shape == (60, 80)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("opset", "said"), [(6, "7 to 20 can"), (21, "7 to 20 can"), (9, "11 is the least that this network can have")]
)
def test_an_opset_that_cannot_be_names_one_that_can(source: Source, tmp_path: Path, opset: int, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        onnx(source, tmp_path / "model.onnx", opset=opset)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("dynamic", "sides"), [("none", [1, 3, *SIZE]), ("batch", ["n", 3, *SIZE])])
def test_the_input_has_the_sides_that_were_asked_for(
    source: Source, tmp_path: Path, dynamic: Any, sides: list[Any]
) -> None:
    onnx(source, tmp_path / "model.onnx", dynamic=dynamic)
    assert shape(tmp_path / "model.onnx") == sides
    if dynamic == "batch":
        images = np.concatenate(list(source.inputs(2)))
        found = open_file(tmp_path / "model.onnx", None).network(images)
        np.testing.assert_allclose(found, source.network(images), atol=1e-4)


@pytest.mark.parametrize("size", [(32, 96), (101, 77)])
def test_a_file_of_any_size_answers_as_torch_at_others(source: Source, tmp_path: Path, size: tuple[int, int]) -> None:
    onnx(source, tmp_path / "model.onnx", dynamic="size")
    assert shape(tmp_path / "model.onnx") == ["n", 3, "h", "w"]
    image = np.random.default_rng(1).integers(0, 256, (1, 3, *size)).astype(np.float32)
    found = open_file(tmp_path / "model.onnx", None).network(image)
    np.testing.assert_allclose(found, source.network(image), atol=1e-4)


class Rigid(Small):
    """Knows the size it was made for."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) + torch.linspace(0, 9, int(images.shape[3]))


@pytest.mark.filterwarnings("ignore:Converting a tensor")
def test_a_network_of_one_size_is_not_exported_for_any(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    rigid = source_of(tmp_path / "photos", photos=2, network=Rigid())
    with pytest.raises(ModelError, match="cannot take any size"):
        onnx(rigid, tmp_path / "model.onnx", dynamic="size")


def test_float16_is_half_the_size_with_float32_at_both_ends(source: Source, tmp_path: Path) -> None:
    written = onnx(source, tmp_path / "half.onnx", precision="fp16")
    onnx(source, tmp_path / "whole.onnx")
    half, whole = (onnx_package.load(str(tmp_path / name)) for name in ("half.onnx", "whole.onnx"))

    def weights(model: Any) -> int:
        return sum(len(tensor.raw_data) for tensor in model.graph.initializer if len(tensor.dims) == 4)

    assert 2 * weights(half) == weights(whole) > 0
    ends = [value.type.tensor_type.elem_type for value in (*half.graph.input, *half.graph.output)]
    assert ends == [onnx_package.TensorProto.FLOAT] * 2
    predictor = open_file(tmp_path / "half.onnx", None)
    for image in source.inputs():
        expected, actual = source.network(image), predictor.network(image)
        assert (expected.argmax(1) != actual.argmax(1)).mean() < 0.01
        assert 0 < np.abs(expected - actual).max() < 0.02 * np.abs(expected).max()
    assert any("CPU" in note for note in written.notes)


def test_without_photos_it_is_held_against_fixed_pixels(source: Source, tmp_path: Path) -> None:
    written = onnx(replace(source, photos=()), tmp_path / "model.onnx")
    assert written.facts is not None
    assert written.facts["parity"]["images"] == 1  # type: ignore[index]


def test_one_size_predicts_at_one_scale_and_says_so(source: Source, tmp_path: Path) -> None:
    several = replace(source, description=replace(KNOWN, tta={"flip": True, "scales": [1.0, 1.5]}))
    written = onnx(several, tmp_path / "model.onnx")
    assert any("one scale" in note for note in written.notes)
    assert mw.load(tmp_path / "model.onnx").tta == {"flip": True, "scales": [1.0]}
    assert not any("one scale" in note for note in onnx(several, tmp_path / "any.onnx", dynamic="size").notes)
    assert mw.load(tmp_path / "any.onnx").tta == {"flip": True, "scales": [1.0, 1.5]}


@pytest.mark.parametrize("options", [{"precision": "fp16"}, {"dynamic": "size"}])
def test_a_self_contained_file_has_no_such_options(source: Source, tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="self_contained"):
        onnx(source, tmp_path / "model.onnx", self_contained=True, **options)


def test_a_bundle_is_given_a_file_that_agrees_or_none(source: Source, tmp_path: Path) -> None:
    pixels = list(source.inputs())
    parity = checked(source.segmenter, KNOWN, tmp_path / "model.onnx", pixels)
    assert list(json.loads(onnx_files.metadata(tmp_path / "model.onnx")["parity"])) == [
        "images",
        "max_logit_difference",
        "pixels_changed",
        "size_mb",
        "opset",
    ]
    assert parity.images == len(pixels)

    drifting = wrap(Drifting(), "unit").eval()
    with pytest.raises(ModelError, match="nothing was written"):
        checked(drifting, KNOWN, tmp_path / "other.onnx", pixels)
    assert not (tmp_path / "other.onnx").exists()


class Drifting(Small):
    """Answers otherwise than its trace."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return super().forward(images) + (0.0 if torch.jit.is_tracing() else 9.0 * torch.randn(1))
