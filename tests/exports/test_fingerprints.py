"""Whatever is changed in an exported file, its fingerprints say what it was."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from maskwright.core.errors import ModelError
from maskwright.exports import fingerprints

Change = Callable[[onnx.ModelProto], None]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    weights = [numpy_helper.from_array(np.arange(6, dtype=np.float32).reshape(2, 3), name) for name in ("w", "v")]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], name="/first"),
        helper.make_node("Add", ["a", "v"], ["b"]),
        helper.make_node("Clip", ["b"], ["y"], name="/last"),
    ]
    ends = [helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, ("n", k)) for n, k in (("x", 2), ("y", 3))]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    helper.set_model_props(model, {"maskwright": '{"classes": ["cat"]}', "contract": "network/1"})
    onnx.save(model, str(tmp_path / "model.onnx"))
    return tmp_path / "model.onnx"


def changed(file: Path, change: Change) -> Path:
    model = onnx.load(str(file))
    change(model)
    other = file.with_name("changed.onnx")
    onnx.save(model, str(other))
    return other


def other_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "Sub"


def other_attribute(model: onnx.ModelProto) -> None:
    model.graph.node[0].attribute.append(helper.make_attribute("alpha", 2))


def other_weight(model: onnx.ModelProto) -> None:
    values = numpy_helper.to_array(model.graph.initializer[0]).copy()
    values[1, 2] += 1e-6
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(values, "w"))


def less_weights(model: onnx.ModelProto) -> None:
    del model.graph.initializer[1]


def other_class(model: onnx.ModelProto) -> None:
    next(p for p in model.metadata_props if p.key == "maskwright").value = '{"classes": ["dog"]}'


def more_metadata(model: onnx.ModelProto) -> None:
    model.metadata_props.add(key="author", value="me")


def other_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = "z"


def other_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 18


def other_name(model: onnx.ModelProto) -> None:
    model.graph.name = "h"


def swapped(model: onnx.ModelProto) -> None:
    first, second = (onnx.TensorProto.FromString(w.SerializeToString()) for w in model.graph.initializer)
    model.graph.initializer[0].CopyFrom(second)
    model.graph.initializer[1].CopyFrom(first)


CHANGES: list[tuple[Change, str]] = [
    (other_operator, "operator `1 Add` is gone"),
    (other_attribute, "operator `0 MatMul /first` was changed"),
    (other_weight, "weight `w` was changed"),
    (less_weights, "weight `v` is gone"),
    (other_class, "metadata entry `maskwright` was changed"),
    (more_metadata, "metadata entry `author` was added"),
    (other_input, "inputs, outputs or operator versions"),
    (other_opset, "inputs, outputs or operator versions"),
    (other_name, "bytes were changed"),
    (swapped, "weights stand in another order"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES, ids=lambda value: getattr(value, "__name__", "")[:20])
def test_each_change_is_named(file: Path, change: Change, words: str) -> None:
    then = fingerprints.of_file(file)
    found = fingerprints.changes(then, fingerprints.of_file(changed(file, change)))
    assert any(words in line for line in found), found


def test_nothing_changed_is_nothing_found(file: Path) -> None:
    assert fingerprints.changes(fingerprints.of_file(file), fingerprints.of_file(file)) == []


def test_the_parts_are_those_that_onnx_reads(file: Path) -> None:
    found, model = fingerprints.of_file(file), onnx.load(str(file))
    assert list(found["operators"]) == ["0 MatMul /first", "1 Add", "2 Clip /last"]
    assert list(found["weights"]) == [w.name for w in model.graph.initializer]
    assert list(found["metadata"]) == [p.key for p in model.metadata_props]


def test_a_certificate_changes_nothing_else_and_is_replaced_whole(file: Path) -> None:
    then, model = fingerprints.of_file(file), onnx.load(str(file))
    for text in ("first", "{" + "ä" * 300 + "}"):
        fingerprints.append_certificate(file, text)
        assert fingerprints.certificate_in(file) == text
        assert fingerprints.of_file(file) == then
        now = onnx.load(str(file))
        onnx.checker.check_model(now)
        assert [p.value for p in now.metadata_props if p.key == "certificate"] == [text]
        assert now.graph == model.graph


@pytest.mark.parametrize("kept", [1, 10, 100, -1, -40])
def test_a_torn_file_is_told_in_one_sentence(file: Path, kept: int) -> None:
    torn = file.with_name("torn.onnx")
    torn.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ModelError, match="torn"):
        fingerprints.of_file(torn)


def test_weights_in_a_file_beside_count(tmp_path: Path) -> None:
    path, weights = tmp_path / "model.xml", tmp_path / "model.bin"
    path.write_bytes(b"<net/>")
    weights.write_bytes(b"12")
    then = fingerprints.of_file(path)
    path, weights = path.rename(tmp_path / "moved.xml"), weights.rename(tmp_path / "moved.bin")
    assert fingerprints.changes(then, fingerprints.of_file(path)) == []
    weights.write_bytes(b"13")
    assert fingerprints.changes(then, fingerprints.of_file(path)) == ["the file of its weights `.bin` was changed"]
    weights.unlink()
    assert fingerprints.changes(then, fingerprints.of_file(path)) == ["the file of its weights `.bin` is gone"]


def test_what_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").mkdir()
    with pytest.raises(ModelError, match="cannot be read"):
        fingerprints.of_file(tmp_path / "model.onnx")


def test_any_byte_of_a_file_of_another_kind_counts(tmp_path: Path) -> None:
    folder = tmp_path / "model.mlpackage" / "data"
    folder.mkdir(parents=True)
    (folder / "a.bin").write_bytes(b"12")
    (folder / "b.bin").write_bytes(b"3")
    then = fingerprints.of_file(folder.parent)
    (folder / "a.bin").write_bytes(b"1")
    (folder / "b.bin").write_bytes(b"23")
    assert fingerprints.changes(then, fingerprints.of_file(folder.parent)) == ["its bytes were changed"]
