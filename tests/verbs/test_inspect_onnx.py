"""`maskwright inspect`: facts of files of ours and of others, of two files, and of what is no file at all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import maskwright as mw
from maskwright import cli
from maskwright.core.errors import ModelError, RecipeError
from maskwright.exports import onnx_facts

GOLDEN = Path(__file__).parents[1] / "golden" / "bundle-1" / "model.onnx"


def convolving(
    path: Path,
    *,
    sides: tuple[int | str, ...] = (1, 3, 8, 6),
    factor: float = 1.0,
    domain: str = "",
    kind: int = TensorProto.FLOAT,
) -> Path:
    """A file with one 3x3 convolution of 3 to 4 channels, which answers with the sum of what it sees."""
    weight = numpy_helper.from_array(np.full((4, 3, 3, 3), factor, np.float32), "weight")
    nodes = [helper.make_node("Conv", ["image", "weight"], ["seen"], pads=[1, 1, 1, 1])]
    if kind != TensorProto.FLOAT:
        nodes = [
            helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("Conv", ["floats", "weight"], ["seen"], pads=[1, 1, 1, 1]),
        ]
    nodes.append(helper.make_node("Sigmoid" if not domain else "Own", ["seen"], ["answer"], domain=domain))
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", kind, list(sides))],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, [sides[0], 4, *sides[2:]])],
        [weight],
    )
    opsets = [helper.make_opsetid("", 13), *([helper.make_opsetid(domain, 1)] if domain else [])]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=7, producer_name="somebody"), str(path))
    return path


def test_the_facts_of_a_foreign_file_are_those_it_was_made_with(tmp_path: Path) -> None:
    found = mw.inspect(str(convolving(tmp_path / "a.onnx"))).to_json()["files"][0]
    assert found["inputs"] == ({"name": "image", "type": "float32", "shape": (1, 3, 8, 6)},)
    assert found["operators"] == {"Conv": 1, "Sigmoid": 1}
    assert (found["opsets"], found["ir_version"], found["producer"]) == ({"ai.onnx": 13}, 7, "somebody")
    assert found["parameters"] == 4 * 3 * 9
    assert found["macs"] == 8 * 6 * 4 * 3 * 9
    assert found["megabytes"] == (tmp_path / "a.onnx").stat().st_size / 1e6
    assert found["milliseconds"] > 0
    assert (found["contract"], found["certificate"], found["failure"]) == (None, None, None)


def test_ranges_are_what_the_file_answers_to_both_scales(tmp_path: Path) -> None:
    found = mw.inspect(str(convolving(tmp_path / "a.onnx", factor=1e-3))).to_json()["files"][0]["ranges"]
    (low, high), (least, most) = found["0..255"]["answer"], found["0..1"]["answer"]
    assert 0.5 <= least <= low < 1
    assert most < 0.51 < high  # sigmoid of at most 27 times 1e-3


@pytest.mark.parametrize(
    ("sides", "size", "macs"),
    [
        (("n", 3, "h", "w"), "8x6", 8 * 6 * 108),
        (("n", 3, "h", "w"), None, 256 * 256 * 108),
        (("n", 3, 8, "w"), "99x6", 8 * 6 * 108),  # what the file fixes, it fixes
    ],
)
def test_open_lengths_are_filled(sides: tuple[int | str, ...], size: str | None, macs: int, tmp_path: Path) -> None:
    found = mw.inspect(str(convolving(tmp_path / "a.onnx", sides=sides)), size=size).to_json()["files"][0]
    assert found["macs"] == macs
    assert found["failure"] is None


def test_bytes_are_fed_as_bytes(tmp_path: Path) -> None:
    found = mw.inspect(str(convolving(tmp_path / "a.onnx", kind=TensorProto.UINT8))).to_json()["files"][0]
    assert list(found["ranges"]) == ["0..255"]


def test_a_file_of_ours_tells_its_contract_and_what_comes_next(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["inspect", str(GOLDEN)]) == 0
    out = capsys.readouterr().out
    assert "network/1" in out
    assert f"next: maskwright predict {GOLDEN}" in out.replace("\n", "")
    found = mw.inspect(str(GOLDEN))
    assert found.to_json()["files"][0]["macs"] > 0
    assert found.differing() == []


def test_two_files_are_shown_side_by_side_with_what_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = convolving(tmp_path / "one.onnx"), convolving(tmp_path / "other.onnx", sides=(1, 3, 16, 6))
    differing = set(mw.inspect(str(one), str(other)).differing())
    assert {"input", "output", "multiplications"} <= differing
    assert not {"opset", "IR version", "parameters", "Conv"} & differing
    assert cli.run(["inspect", str(one), str(other)], as_json=True) == 0
    told = json.loads(capsys.readouterr().out)
    assert [Path(known["path"]).name for known in told["files"]] == ["one.onnx", "other.onnx"]
    assert "multiplications" in told["differs"]
    assert "file" not in told["differs"]


def test_weights_next_to_nothing_are_counted(tmp_path: Path) -> None:
    assert onnx_facts.facts(convolving(tmp_path / "a.onnx", factor=1e-39)).denormals == 108
    assert onnx_facts.facts(convolving(tmp_path / "b.onnx", factor=0)).denormals == 0


def test_operators_that_onnxruntime_lacks_are_a_sentence_beside_the_facts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = convolving(tmp_path / "a.onnx", domain="somewhere")
    assert cli.run(["inspect", str(path)]) == 0
    out = capsys.readouterr().out
    assert "somewhere::Own" in out
    assert "does not run in onnxruntime" in out
    assert mw.inspect(str(path)).to_json()["files"][0]["milliseconds"] is None


def test_weights_that_lie_beside_are_counted_and_missed(tmp_path: Path) -> None:
    path = convolving(tmp_path / "a.onnx")
    onnx.save(onnx.load(str(path)), str(path), save_as_external_data=True, location="a.data", size_threshold=0)
    beside = tmp_path / "a.data"
    found = mw.inspect(str(path)).to_json()["files"][0]
    assert (found["parameters"], found["failure"]) == (108, None)
    assert found["megabytes"] == (path.stat().st_size + beside.stat().st_size) / 1e6
    beside.unlink()
    with pytest.raises(ModelError, match=r"keeps its weights in `a\.data`, which is missing"):
        mw.inspect(str(path))


@pytest.mark.parametrize("content", [b"", b"not a network", GOLDEN.read_bytes()[:1000], GOLDEN.read_bytes()[:-7]])
def test_torn_and_foreign_files_are_a_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "torn.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"torn\.onnx: is (torn, or )?no ONNX file"):
        mw.inspect(str(path))


def test_what_cannot_be_asked_for_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"gone\.onnx: not found"):
        mw.inspect(str(tmp_path / "gone.onnx"))
    with pytest.raises(ModelError, match="is a folder"):
        mw.inspect(str(tmp_path))
    for size in ("12", "0x4", "axb"):
        with pytest.raises(RecipeError, match="is no size; write height and width"):
            mw.inspect(str(GOLDEN), size=size)
    with pytest.raises(RecipeError, match="-1 threads"):
        mw.inspect(str(GOLDEN), threads=-1)


def test_another_size_than_the_file_was_made_for_is_a_sentence(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.zeros((3, 8), np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["image", "weight"], ["answer"])],
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "h", "w"])],
        [helper.make_tensor_value_info("answer", TensorProto.FLOAT, None)],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=7)
    onnx.save(model, str(tmp_path / "a.onnx"))
    found = mw.inspect(str(tmp_path / "a.onnx")).to_json()["files"][0]
    assert "give another with `--size`" in found["failure"]
    assert mw.inspect(str(tmp_path / "a.onnx"), size="4x3").to_json()["files"][0]["failure"] is None


def test_the_shipped_cat_model_is_what_was_measured(real_data: Path) -> None:
    folder = real_data / "catsegment"
    shown = mw.inspect(str(folder / "mobilenetv2_cat_segmentation.onnx"), photo=str(folder / "cat_test_image.jpeg"))
    found = shown.to_json()["files"][0]
    assert [(value["name"], tuple(value["shape"])) for value in (*found["inputs"], *found["outputs"])] == [
        ("data", (1, 3, 256, 128)),
        ("prob", (1, 1, 256, 128)),
    ]
    assert (found["opsets"]["ai.onnx"], found["ir_version"], found["parameters"]) == (11, 6, 366_313)
    assert (found["macs"], found["denormals"]) == (60_304_384, 12_997)
    assert set(found["operators"]) == {"Conv", "Relu", "Add", "Constant", "Resize", "Sigmoid", "Mul"}
    assert found["ranges"]["0..255"]["prob"][1] > 100
