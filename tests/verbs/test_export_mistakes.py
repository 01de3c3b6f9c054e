"""Whatever is wrong with what `export`, `verify`, `inspect` and their like are given: one sentence, an exit code, no file."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file

import maskwright as mw
from maskwright import cli
from maskwright.bundles import bundle as bundles
from maskwright.bundles.bundle import Description
from maskwright.data import synthetic
from maskwright.exports import agreement, certificate
from maskwright.exports import onnx as exporter
from maskwright.models.build import build

KNOWN = Description(
    ("shape", "other"), ((0, 0, 0), (9, 9, 9)), (32, 32), "squash", {"name": "lens", "width": 0.5}, "unit"
)
OWN = "BUNDLE/model.onnx"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photos, a bundle, and what a stranger may name in their place."""
    folder = tmp_path_factory.mktemp("mistakes")
    photos = synthetic.make(folder / "photos", num=4, size=(64, 64))
    (folder / "bundle").mkdir()
    torch.manual_seed(0)
    segmenter = build(KNOWN).eval()
    save_file(segmenter.state_dict(), str(folder / "bundle" / bundles.WEIGHTS))
    bundles.save_description(folder / "bundle", KNOWN)
    exporter.checked(segmenter, KNOWN, folder / "bundle" / bundles.ONNX, [np.zeros((1, 3, 32, 32), np.float32)])
    (folder / "empty").mkdir()
    (folder / "broken").mkdir()
    (folder / "broken" / "a.jpg").write_text("no picture")
    (folder / "one").mkdir()
    first = min((photos / "images").iterdir())
    (folder / "one" / first.name).write_bytes(first.read_bytes())
    return folder


@pytest.fixture(scope="module")
def exported(place: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "latency", lambda *_: {})
        return Path(mw.export(str(place / "bundle"), images=str(place / "one"), out=str(place / "model.onnx")).path)


def told(tokens: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """The exit code of a command, and its only error."""
    code = cli.run(tokens)
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    return code, errors[0] if len(errors) == 1 else "\n".join(errors)


EXPORTS: list[tuple[list[str], int, str]] = [
    (["--for", "onx"], 2, "no exporter is called `onx`; did you mean `onnx`?"),
    (["--for", "onnx", "layout=nchw"], 2, "unknown option"),
    (["--opset", "0"], 4, "opset 0 cannot be written; 7 to 20 can"),
    (["--opset", "-3"], 4, "opset -3 cannot be written"),
    (["--opset", "99"], 4, "opset 99 cannot be written"),
    (["--opset", "abc"], 2, "--opset"),
    (["opset=abc"], 2, "got `abc`"),
    (["--opset", "13", "opset=14"], 2, "--opset: is given twice; leave `opset=14` out"),
    (["--for", "lens-studio", "--opset", "17"], 2, "opset 17; take 11"),
    (["--self-contained", "--opset", "12"], 2, "needs opset 18 or newer"),
    (["--for", "openvino", "--opset", "13"], 2, "unknown option"),
    (["--images", "PLACE/nowhere"], 3, "no such file, folder or pattern"),
    (["--images", "PLACE/empty"], 3, "holds no images"),
    (["--images", "PLACE/broken"], 3, "is no image"),
    (["--data", "PLACE/empty"], 3, "empty"),
    (["--data", "PLACE/photos", "--images", "PLACE/one"], 2, "leave one out"),
    (["--for", "int8", "--calibrate", "PLACE/empty"], 3, "holds no images"),
    (["--for", "int8", "--calibrate", "PLACE/broken"], 3, "is no image"),
    (["--max-drop", "2"], 2, "it can be 0 to 1"),
    (["--out", OWN], 2, "is a bundle's own"),
    (["--out", "OUT/model.pt"], 2, "has not the ending of this target"),
    (["--out", "OUT/model"], 2, "call it .*model.onnx"),
    (["--out", "PLACE/one/NAME.jpg/model.onnx"], 5, "cannot be written"),
]


@pytest.mark.parametrize(("tokens", "code", "words"), EXPORTS, ids=lambda value: str(value)[:40])
def test_an_export_that_cannot_be(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tokens: list[str], code: int, words: str
) -> None:
    import re

    own = (place / "bundle" / "model.onnx").read_bytes()
    name = min((place / "one").iterdir()).stem
    meant = {"PLACE": str(place), "BUNDLE": str(place / "bundle"), "OUT": str(tmp_path), "NAME": name}
    for word, path in meant.items():
        tokens = [token.replace(word, path) for token in tokens]
    if "--images" not in tokens and "--data" not in tokens:
        tokens = [*tokens, "--images", str(place / "one")]
    if "--out" not in tokens and "--for" not in tokens:
        tokens = [*tokens, "--out", str(tmp_path / "new" / "model.onnx")]
    elif "--out" not in tokens:
        tokens = [*tokens, "--out", f"{tmp_path}/new/"]
    before = sorted(place.rglob("*"))
    found, error = told(["export", str(place / "bundle"), *tokens], capsys)
    assert (code, found) == (found, code), error
    assert re.search(words, error), error
    assert list(tmp_path.iterdir()) == []
    assert before == sorted(place.rglob("*"))
    assert own == (place / "bundle" / "model.onnx").read_bytes()


def described(path: Path, key: str, change: Callable[[Any], Any]) -> onnx.ModelProto:
    model = onnx.load(str(path))
    entry = next(entry for entry in model.metadata_props if entry.key == key)
    entry.value = change(entry.value)
    return model


def foreign(_: Path, out: Path) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 8, 8]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ends[:1], ends[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(out))


def without_weights(good: Path, out: Path) -> None:
    onnx.save(onnx.load(str(good)), str(out), save_as_external_data=True, location="away.data", size_threshold=0)
    out.with_name("away.data").unlink()


def newer(good: Path, out: Path) -> None:
    onnx.save(described(good, "maskwright", lambda text: json.dumps({**json.loads(text), "format": 99})), str(out))


def other_contract(good: Path, out: Path) -> None:
    onnx.save(described(good, "contract", lambda _: "network/9"), str(out))


def torn(kept: float) -> Callable[[Path, Path], None]:
    return lambda good, out: out.write_bytes(good.read_bytes()[: int(kept * good.stat().st_size)]) and None


FILES: dict[str, tuple[Callable[[Path, Path], Any], dict[str, str]]] = {  # what verbs say that refuse it
    "foreign": (foreign, {"verify": "has no certificate", "predict": "is not a Maskwright export"}),
    "empty": (lambda _, out: out.touch(), {"verify": "is empty", "inspect": "is no ONNX file", "predict": "or no ONNX file"}),
    "text": (lambda _, out: out.write_text("hello " * 9), dict.fromkeys(("verify", "inspect", "predict"), "or no ONNX file")),
    "folder": (lambda _, out: out.mkdir(), dict.fromkeys(("verify", "inspect", "predict"), "is a folder")),
    "missing": (lambda _, __: None, dict.fromkeys(("verify", "inspect", "predict"), "not found")),
    "external": (
        without_weights,
        {"verify": "was changed", "inspect": "keeps its weights in `away.data`", "predict": "in a second file"},
    ),
    "newer": (newer, {"verify": "entry `maskwright` was changed", "predict": "bundle format 99; this version reads up to"}),
    "contract": (other_contract, {"verify": "entry `contract` was changed", "predict": "the contract `network/9`"}),
    **{
        f"torn at {kept}": (torn(kept), dict.fromkeys(("verify", "inspect", "predict"), "is torn"))
        for kept in (0.001, 0.1, 0.5, 0.9, 0.9999)
    },
}  # fmt: skip


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_cannot_be_used(
    kind: str, exported: Path, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make, said = FILES[kind]
    path = tmp_path / "m.onnx"
    make(exported, path)
    there = sorted(tmp_path.rglob("*"))
    for verb, words in said.items():
        more = [str(place / "one"), "--out", str(tmp_path / "masks")] if verb == "predict" else []
        code, error = told([verb, str(path), *more], capsys)
        assert code == 4, (verb, error)
        assert error.startswith(f"error: {path}: "), error
        assert words in error
        assert there == sorted(tmp_path.rglob("*"))
    if kind != "folder":  # which could hold label maps
        code, error = told(["evaluate", str(path), str(place / "photos")], capsys)
        assert (code, said["predict"] in error) == (4, True), error


def test_a_certificate_that_was_taken_out_of_the_file_is_missed(
    exported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.onnx"
    model = onnx.load(str(exported))
    kept = [entry for entry in model.metadata_props if entry.key != "certificate"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, str(path))
    certificate.beside(path).write_bytes(certificate.beside(exported).read_bytes())
    code, error = told(["verify", str(path)], capsys)
    assert code == 4
    assert "the metadata entry `certificate` is gone" in error


def test_the_size_is_that_of_the_file_as_it_ends(exported: Path) -> None:
    said = certificate.load(exported)["size_mb"]
    assert said == pytest.approx(exported.stat().st_size / 1e6, abs=0.0015)


NAMES: list[tuple[str, dict[str, Any], str]] = [
    ("onnx", {}, "model-certified.onnx"),
    ("onnx", {"opset": 13, "precision": "fp16"}, "model-opset13-fp16.onnx"),
    ("onnx", {"self_contained": True}, "model-self-contained.onnx"),
    ("litert", {"install": True, "environment": "litert"}, "model.tflite"),
    ("litert", {"precision": "int8", "install": True}, "model-int8.tflite"),
    ("executorch", {"delegate": False}, "model-no-delegate.pte"),
    ("int8", {"max_changed": 0.05}, "model-max-changed0.05.int8.onnx"),
    ("lens-studio", {"max_mb": 5.0, "allow_operators": "Clip"}, "model.lens.onnx"),
    ("tensorrt", {"workspace_mb": 512, "precision": "fp32"}, "model-fp32.tensorrt.onnx"),
]


@pytest.mark.parametrize(("target", "options", "name"), NAMES)
def test_a_file_is_named_by_what_is_in_it(target: str, options: dict[str, Any], name: str, tmp_path: Path) -> None:
    from maskwright.verbs.export import _named

    bundle = tmp_path / "bundle"
    bundle.mkdir()
    assert _named(None, target, options, bundle) == bundle / name
    assert _named(str(tmp_path), target, options, bundle) == tmp_path / name
    assert _named(f"{tmp_path}/new/", target, options, bundle) == tmp_path / "new" / name
    assert _named(str(tmp_path / f"a{Path(name).suffix}"), target, options, bundle).name == f"a{Path(name).suffix}"


def test_a_package_that_is_a_folder_is_written_anew(tmp_path: Path) -> None:
    from maskwright.verbs.export import _named

    (tmp_path / "a.mlpackage").mkdir()
    assert _named(f"{tmp_path}/a.mlpackage", "coreml", {}, tmp_path) == tmp_path / "a.mlpackage"
    (tmp_path / "a.onnx").mkdir()
    assert _named(f"{tmp_path}/a.onnx", "onnx", {}, tmp_path) == tmp_path / "a.onnx" / "model-certified.onnx"
