"""Whatever runtime a network is written for, its file answers as torch does, opens by itself, and fails in one sentence."""

import subprocess
import sys
import venv
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from maskwright.bundles.bundle import Description  # noqa: E402
from maskwright.core.errors import ModelError, RecipeError, SetupError  # noqa: E402
from maskwright.core.registry import EXTRAS  # noqa: E402
from maskwright.data import synthetic  # noqa: E402
from maskwright.exports import ENDINGS, EXPORTERS, RUNTIMES, coreml, graphs, litert, other_environment  # noqa: E402
from maskwright.exports.source import Source, Written  # noqa: E402
from maskwright.models.build import build  # noqa: E402

NEEDS = {  # of each target: the packages beside those of training
    "torchscript": (),
    "openvino": ("openvino",),
    "executorch": ("executorch",),
    "coreml": ("coremltools",),
    "litert": ("ai_edge_litert",),
    "tensorrt": (),
}
TINY = "tu-mobilenetv3_small_050"
NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, int]]] = {  # model, size: also of no multiple of the stride
    "unet": ({"name": "unet", "encoder": TINY}, (64, 96)),
    "lens": ({"name": "lens"}, (50, 61)),
    "lraspp": ({"name": "lraspp", "encoder": TINY}, (64, 64)),
    "fcn8s": ({"name": "fcn8s", "encoder": TINY}, (40, 72)),
    "deeplabv3+": ({"name": "deeplabv3+", "encoder": TINY, "width": 16}, (64, 64)),
    "residual_unet": ({"name": "residual_unet", "width": 4}, (33, 47)),
    "mask_rcnn": ({"name": "mask_rcnn", "encoder": TINY, "channels": 32, "max_detections": 20}, (64, 96)),
}
MOST = 1e-5  # difference of a logit, of the largest


@cache
def segmenter_of(name: str) -> tuple[Any, Description]:
    torch.manual_seed(0)
    model, size = NETWORKS[name]
    task = "instance" if name == "mask_rcnn" else "semantic"
    known = Description(("a", "b", "c"), ((0, 0, 0),) * 3, size, "squash", model, task=task)
    return build(known).eval(), known


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    folder = synthetic.make(tmp_path_factory.mktemp("photos") / "shapes", num=4, size=(64, 80))
    return tuple(sorted((folder / "images").iterdir()))


def source_of(name: str, photos: tuple[Path, ...] = ()) -> Source:
    return Source(*segmenter_of(name), photos)


def written_by(target: str, source: Source, folder: Path, **options: Any) -> tuple[Written, Path]:
    for package in NEEDS[target]:
        pytest.importorskip(package)
    path = folder / f"model{ENDINGS[target]}"
    return EXPORTERS[target](source, path, **options), path


def opener(path: Path) -> Callable[..., Any]:
    return RUNTIMES[path.suffix]


def check_answers(source: Source, network: Any, most: float = MOST) -> None:
    for seed in range(2):
        shape = (1, 3, *source.description.size)
        pixels = (np.random.default_rng(seed).random(shape) * 255).astype(np.float32)
        expected: Any = source.network(pixels)
        actual = network(pixels)
        assert (expected.shape, np.float32) == (actual.shape, actual.dtype)
        assert np.abs(expected - actual).max() <= most * np.abs(expected).max()


# ------------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "mask_rcnn"])
@pytest.mark.parametrize("target", ["torchscript", "openvino", "tensorrt"])
def test_a_file_answers_as_torch_does(target: str, name: str, tmp_path: Path) -> None:
    source = source_of(name)
    written, path = written_by(target, source, tmp_path)
    predictor: Any = written.predictor or written.twin
    check_answers(source, predictor.network)
    assert (written.predictor is None) == bool(written.twin_of)
    assert path.is_file()
    assert source.description.classes == predictor.classes


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"delegate": False}])
def test_an_executorch_program_answers_as_torch_does(options: dict[str, Any], tmp_path: Path) -> None:
    source = source_of("lens")
    written, path = written_by("executorch", source, tmp_path, **options)
    check_answers(source, written.predictor.network)  # type: ignore[union-attr]
    opened = opener(path)(path, None)
    assert source.description == opened.description
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="is not a usable ExecuTorch program"):
        opener(path)(path, None)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_core_ml_package_is_written_and_its_program_answers_as_torch_does(precision: str, tmp_path: Path) -> None:
    source = source_of("lens")
    written, path = written_by("coreml", source, tmp_path, precision=precision)
    predictor: Any = written.predictor or written.twin
    check_answers(source, predictor.network, MOST if precision == "fp32" or not coreml.ON_MAC else 1e-2)
    from coremltools.models.utils import load_spec

    ends = load_spec(str(path)).description
    assert [end.name for end in ends.input] == ["image"]
    assert [end.name for end in ends.output] == ["logits"]
    weights = max(file.stat().st_size for file in path.rglob("*") if file.is_file())
    parameters = sum(parameter.numel() for parameter in source.segmenter.parameters())
    assert weights == pytest.approx(parameters * (4 if precision == "fp32" else 2), rel=0.1)
    if not coreml.ON_MAC:
        assert written.predictor is None
        assert "torch" in written.twin_of
        with pytest.raises(SetupError, match="runs on macOS alone"):
            opener(path)(path, None)


@pytest.mark.parametrize("target", ["torchscript", "openvino", "tensorrt"])
def test_objects_come_out_as_torch_finds_them(target: str, photos: tuple[Path, ...], tmp_path: Path) -> None:
    source = source_of("mask_rcnn", photos)
    written, _ = written_by(target, source, tmp_path)
    predictor: Any = written.predictor or written.twin
    for pixels in (*source.inputs(), np.zeros((1, 3, 64, 96), np.float32)):
        expected, actual = source.network(pixels), predictor.network(pixels)
        assert [part.shape for part in expected] == [part.shape for part in actual]
        for ours, theirs in zip(expected[:3], actual[:3], strict=True):
            assert np.allclose(np.sort(ours, axis=0), np.sort(theirs, axis=0), atol=1e-3)


@pytest.mark.parametrize("target", ["executorch", "coreml", "litert"])
def test_what_finds_objects_is_refused_where_sizes_are_fixed(target: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="as many objects as it finds; export to `onnx`"):
        written_by(target, source_of("mask_rcnn"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_network_of_another_size_is_refused_when_it_runs(tmp_path: Path) -> None:
    _, path = written_by("openvino", source_of("lens"), tmp_path)
    network: Any = opener(path)(path, None).network
    with pytest.raises(ModelError, match=r"model\.xml: cannot run"):
        network(np.zeros((1, 3, 40, 40), np.float32))


# --------------------------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("target", ["torchscript", "openvino"])
def test_a_file_carries_its_description(target: str, tmp_path: Path) -> None:
    source = source_of("lens")
    written, path = written_by(target, source, tmp_path)
    assert source.description == opener(path)(path, None).description
    runtime = "torch.jit" if target == "torchscript" else target
    assert written.predictor is not None
    assert written.predictor.runtime.startswith(f"{runtime} ")


def test_openvino_in_half_the_size(tmp_path: Path) -> None:
    source = source_of("lens")
    sizes = {}
    for precision in ("fp32", "fp16"):
        (tmp_path / precision).mkdir()
        written, path = written_by("openvino", source, tmp_path / precision, precision=precision)
        assert written.predictor is not None
        check_answers(source, written.predictor.network, MOST if precision == "fp32" else 1e-2)
        sizes[precision] = path.with_suffix(".bin").stat().st_size
    assert sizes["fp16"] < 0.6 * sizes["fp32"]


def test_openvino_reports_to_nobody() -> None:
    pytest.importorskip("openvino")
    code = "from maskwright.exports import openvino; openvino._package('a test'); import sys\n"
    code += "sys.exit(sys.modules.get('openvino_telemetry') is not None)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_openvino_says_what_became_of_the_weights(tmp_path: Path) -> None:
    _, path = written_by("openvino", source_of("lens"), tmp_path)
    path.with_suffix(".bin").unlink()
    with pytest.raises(ModelError, match=r"model\.xml: has no model\.bin beside it"):
        opener(path)(path, None)


@pytest.mark.parametrize("content", [b"", b"PK\3\4 not a file of anybody", b"<?xml version='1.0'?><net/>"])
@pytest.mark.parametrize("target", list(NEEDS))
def test_foreign_files_are_one_sentence(target: str, content: bytes, tmp_path: Path) -> None:
    for package in NEEDS[target]:
        pytest.importorskip(package)
    path = tmp_path / f"model{ENDINGS[target]}"
    path.write_bytes(content)
    if target == "openvino":
        path.with_suffix(".bin").write_bytes(b"")
    open_file, known = opener(path), segmenter_of("lens")[1]
    with pytest.raises(ModelError, match=r"^[^\n]*model[.\w]*: [^\n]*$"):
        open_file(path, known)
    with pytest.raises(ModelError, match="not found"):
        open_file(tmp_path / f"none{path.suffix}", known)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("target", ["torchscript", "openvino"])
def test_truncated_files_are_one_sentence(target: str, share: float, tmp_path: Path) -> None:
    _, path = written_by(target, source_of("lens"), tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelError, match=r"^[^\n]*is not a usable [^\n]*$"):
        opener(path)(path, None)


def test_a_file_without_description_asks_for_its_certificate(tmp_path: Path) -> None:
    path = tmp_path / "other.torchscript"
    with graphs.quiet():
        torch.jit.save(torch.jit.trace(torch.nn.Conv2d(3, 2, 1), torch.zeros(1, 3, 8, 8)), str(path))
    with pytest.raises(ModelError, match=r"keep other\.torchscript\.certificate\.json beside it"):
        opener(path)(path, None)
    network: Any = opener(path)(path, segmenter_of("lens")[1]).network
    with pytest.raises(ModelError, match="is not of the model that it is said to hold"):
        network(np.zeros((1, 3, 50, 61), np.float32))


# ------------------------------------------------------------------------------------------------------ packages, extras


@pytest.mark.parametrize("target", [target for target, packages in NEEDS.items() if packages])
def test_a_missing_package_names_its_extra(target: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    package = NEEDS[target][0]
    assert target == EXTRAS[package]
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)  # type: ignore[arg-type]
    file = tmp_path / f"model{ENDINGS[target]}"
    file.write_bytes(b"anything")
    file.with_suffix(".bin").write_bytes(b"")
    hint = rf"needs `{package}`.*pip install 'maskwright\[{target}\]'"
    with pytest.raises(SetupError, match=hint):
        EXPORTERS[target](source_of("lens"), tmp_path / f"other{ENDINGS[target]}")
    with pytest.raises(SetupError, match=hint):
        opener(file)(file, segmenter_of("lens")[1])


def test_tensorrt_says_how_to_build_the_engine(tmp_path: Path) -> None:
    for precision, flags in {"fp32": [], "fp16": ["--fp16"], "int8": ["--fp16", "--int8"]}.items():
        (tmp_path / precision).mkdir()
        options = {"precision": precision, "workspace_mb": 512}
        written, path = written_by("tensorrt", source_of("lens"), tmp_path / precision, **options)
        if written.predictor is None:
            assert any("checked in fp32" in note for note in written.notes) == (precision != "fp32")
        text = (path.parent / "model.tensorrt.build.txt").read_text()
        command = next(line for line in text.splitlines() if "trtexec" in line and line.startswith("    ")).split()
        ends = ["--onnx=model.tensorrt.onnx", "--saveEngine=model.tensorrt.engine"]
        assert ["trtexec", *ends, *flags, "--memPoolSize=workspace:512"] == command
        assert "1x3x50x61" in text
    with pytest.raises(RecipeError, match="cannot work in 0 MB"):
        written_by("tensorrt", source_of("lens"), tmp_path, workspace_mb=0)


# --------------------------------------------------------------------------------------------- LiteRT's own environment


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_litert_installs_nothing_unasked(cache_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        SetupError, match=r"environment of its own.*`install=true`.*6\.4 GB.*`environment=PYTHON`"
    ) as told:
        written_by("litert", source_of("lens"), tmp_path)
    assert str(cache_folder / "litert") in str(told.value)
    assert not cache_folder.exists()
    with pytest.raises(SetupError, match="nowhere: is no Python"):
        written_by("litert", source_of("lens"), tmp_path, environment=str(tmp_path / "nowhere"))
    with pytest.raises(SetupError, match=f"{sys.executable}: has no `litert-torch`"):
        written_by("litert", source_of("lens"), tmp_path, environment=sys.executable, install=True)
    with pytest.raises(RecipeError, match=r"int8 needs photos.*--calibrate"):
        written_by("litert", source_of("lens"), tmp_path, precision="int8")


WANTED = other_environment.Environment("other", "json-of-another-world", "json", because="it must", gigabytes=0.1)


def test_an_environment_is_made_when_it_is_asked_for(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []
    really = subprocess.run

    def run(command: list[str], **how: Any) -> Any:
        ran.append(command)
        if command[1:3] == ["-m", "venv"]:
            venv.create(command[3], with_pip=False)
        elif command[1:3] == ["-m", "pip"]:
            return subprocess.CompletedProcess(command, 0, "", "")
        else:
            return really(command, **how)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(other_environment.subprocess, "run", run)
    python = other_environment.python_of(WANTED, "", True)
    assert python.is_relative_to(cache_folder / "other")
    assert ran[1][-1] == "json-of-another-world"
    assert not any("://" in word for command in ran for word in command)
    before = len(ran)
    assert python == other_environment.python_of(WANTED, "", False)
    assert before + 1 == len(ran), "what is there is only asked whether it has the package"


def test_what_pip_says_is_told(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "WARNING: x\nERROR: No matching distribution found\n")
    monkeypatch.setattr(other_environment.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(SetupError, match=r"could not be installed \(ERROR: No matching distribution found\)"):
        other_environment.python_of(WANTED, "", True)


def test_a_program_of_another_python_fails_in_one_sentence(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys\nprint(*sys.argv[1:], 'maskwright' in sys.path[0])\nif sys.argv[1] == 'no': raise KeyError(5)"
    )
    assert other_environment.run(Path(sys.executable), program, ["yes"], "a test").strip() == "yes False"
    with pytest.raises(ModelError, match=r"^a test failed \(KeyError: 5\)$"):
        other_environment.run(Path(sys.executable), program, ["no"], "a test")


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"precision": "int8"}, {"layout": "nchw"}])
def test_litert_answers_as_torch_does(options: dict[str, Any], photos: tuple[Path, ...], tmp_path: Path) -> None:
    """Where its environment was made (`maskwright export --for litert install=true`)."""
    if not litert.CONVERTER.folder.is_dir():
        pytest.skip(f"LiteRT's own environment is not made: {litert.CONVERTER.folder}")
    written, path = written_by("litert", source_of("lens", photos), tmp_path, **options)
    predictor: Any = written.predictor
    check_answers(source_of("lens"), predictor.network, 0.1 if "precision" in options else MOST)
    assert [path] == list(tmp_path.iterdir())
    check_answers(source_of("lens"), opener(path)(path, segmenter_of("lens")[1]).network, 0.1)
