"""What cannot be exported, or not here, ends in one sentence: networks that cannot be traced, a full disk, another engine."""

import gc
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from small_networks import SIZE, Small, source_of  # noqa: E402

import maskwright as mw  # noqa: E402
from maskwright.core import events  # noqa: E402
from maskwright.core.errors import ModelError  # noqa: E402
from maskwright.exports import ENDINGS, EXPORTERS, agreement, certificate, onnx, tensorrt  # noqa: E402

NEEDS = {"openvino": "openvino", "executorch": "executorch", "coreml": "coremltools"}
FAST = ("onnx", "int8", "lens-studio", "openvino", "tensorrt", "torchscript")


class Odd(Small):
    """A network that does something else as soon as it is traced."""

    def __init__(self, oddity: Any) -> None:
        super().__init__()
        self.oddity = oddity

    def forward(self, images: Any) -> Any:
        answer = super().forward(images)
        return self.oddity(answer) if torch.jit.is_tracing() or torch.compiler.is_compiling() else answer


def raising(error: Exception) -> Any:
    def oddity(answer: Any) -> Any:
        raise error

    return oddity


ODDITIES = {
    "an operator that only torch knows": torch.special.bessel_j0,
    "a ValueError": raising(ValueError("not while tracing")),
    "a TypeError": lambda answer: len(None),  # type: ignore[arg-type]
    "an IndexError": lambda answer: [][3],
    "an AttributeError": lambda answer: answer.nothing,
    "a ZeroDivisionError": lambda answer: 1 / 0,
    "nothing implemented": raising(NotImplementedError()),
    "an answer of another kind": lambda answer: {"a": answer},
}
UNTIDY = pytest.mark.filterwarnings("ignore:Implicitly cleaning up:ResourceWarning")  # coremltools, where it fails
TARGETS = [
    *FAST,
    pytest.param("executorch", marks=pytest.mark.slow),
    pytest.param("coreml", marks=[pytest.mark.slow, UNTIDY]),
]


@pytest.mark.parametrize("target", TARGETS)
def test_a_network_that_cannot_be_traced(target: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if target in NEEDS:
        pytest.importorskip(NEEDS[target])
    (tmp_path / "photos").mkdir()
    source = source_of(tmp_path / "photos", photos=2, network=Odd(None))
    for name, oddity in ODDITIES.items():
        if target == "torchscript" and name == "an operator that only torch knows":
            continue
        source.segmenter.network.oddity = oddity  # type: ignore[union-attr]
        with pytest.raises(ModelError, match=r"^[^\n]*cannot be [^\n]*$"):
            EXPORTERS[target](source, tmp_path / f"model{ENDINGS[target]}")
    gc.collect()  # what is left untidy is so while this test runs
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("target", ["lens-studio", "tensorrt"])
def test_a_network_that_does_not_look_at_its_image(target: str, tmp_path: Path) -> None:
    source = source_of(tmp_path, photos=2, network=Odd(lambda answer: torch.zeros(1, 3, *SIZE)))
    with pytest.raises(ModelError, match="what was traced does not look at it"):
        EXPORTERS[target](source, tmp_path / f"model{ENDINGS[target]}")


FULL = """
import resource, sys, tempfile
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from small_networks import source_of
from maskwright.core import files
from maskwright.core.errors import SetupError
from maskwright.exports import ENDINGS, EXPORTERS
photos, out = Path(sys.argv[2]), Path(sys.argv[3])
source = source_of(photos, photos=2)
source.network, list(source.inputs())
for target in sys.argv[4:]:
    exporter = EXPORTERS[target]
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, -1))
    try:
        with files.staged(out) as folder:
            exporter(source, folder / f"model{ENDINGS[target]}")
    except SetupError as error:
        print(target, error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="the size of files cannot be limited")
def test_a_file_that_cannot_be_written_to_its_end(tmp_path: Path) -> None:
    """A limit of 1000 bytes a file stands for a full disk: torch's own writers end the process there."""
    for name in ("photos", "out"):
        (tmp_path / name).mkdir()
    targets = ["onnx", "torchscript", "tensorrt", *(["openvino"] if find_spec("openvino") else [])]
    command = [sys.executable, "-c", FULL, str(Path(__file__).parent), str(tmp_path / "photos"), str(tmp_path / "out")]
    done = subprocess.run([*command, *targets], capture_output=True, text=True, check=False)
    said = done.stdout.splitlines()
    assert [line.split()[0] for line in said] == targets, done.stderr[-800:]
    assert all("cannot be written" in line for line in said)
    assert list((tmp_path / "out").iterdir()) == []


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file whose engine was built and certified by a TensorRT that there is none of: it answers as the ONNX file."""

    def build(path: Path, engine: Path, *_: Any) -> None:
        engine.write_bytes(b"an engine of " + path.name.encode())

    def opened(engine: Path, known: Any) -> Any:
        found = onnx.open_file(engine.with_suffix(".onnx"), None)
        object.__setattr__(found, "runtime", "tensorrt 0")
        return found

    folder = tmp_path / "photos"
    folder.mkdir()
    source = source_of(folder, photos=2)
    for name, value in {"_missing": lambda: "", "_build": build, "_gpu": lambda: "none", "open_engine": opened}.items():
        monkeypatch.setattr(tensorrt, name, value)
    monkeypatch.setattr(agreement, "latency", lambda *_: {})
    path = tmp_path / "out" / "model.tensorrt.onnx"
    path.parent.mkdir()
    written = EXPORTERS["tensorrt"](source, path)
    judge = certificate.Judge(source.predictor, source.photos, None)
    certificate.certify(source, written, path, target="tensorrt", options={}, judge=judge, photos_of="photos")
    return path


def test_an_engine_is_part_of_what_was_certified(engine: Path) -> None:
    known = certificate.load(engine)
    assert known["certified"]
    assert known["facts"]["engine"]["file"] == "model.tensorrt.engine"
    assert mw.verify(str(engine)).ran == "tensorrt 0"
    built = engine.with_suffix(".engine")
    built.write_bytes(b"another engine")
    with pytest.raises(ModelError, match=r"the engine `model\.tensorrt\.engine` was changed"):
        mw.verify(str(engine))


def test_without_its_engine_the_onnx_file_is_run_and_that_is_said(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[str] = []
    monkeypatch.undo()  # this machine has no TensorRT
    if tensorrt._missing():
        engine.with_suffix(".engine").unlink()
        with events.listening(lambda event: heard.append(event.fields.get("text", ""))):
            assert str(mw.verify(str(engine)).ran).startswith("onnxruntime")
        assert any("is not beside the file" in text for text in heard)
        assert any("the ONNX file is run, not an engine built from it" in text for text in heard)
