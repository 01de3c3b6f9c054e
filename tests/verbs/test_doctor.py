"""The doctor: says what is there, what is missing, what is broken; never changes anything; works without torch."""

import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import maskwright as mw
from maskwright.core import machine
from maskwright.core.machine import Package
from maskwright.core.registry import EXTRAS
from maskwright.verbs import doctor as verb

WANTED = ["numpy>=1.26", "pillow>=11", 'torch>=2.11; extra == "train"', 'maskwright[train]; extra == "more"']


PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.mark.parametrize("extra", ["", *(extra for extra in PROJECT["optional-dependencies"] if extra != "dev")])
def test_every_extra_has_the_rows_that_the_project_asks_for(quick: None, extra: str) -> None:
    asked = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    wanted = {re.split(r"[<>=~\[]", line)[0].lower(): line for line in asked if not line.startswith("maskwright[")}
    found = {package.name: package for package in mw.doctor().packages if package.extra == extra}
    assert set(found) == set(wanted)
    for name, line in wanted.items():
        assert set(found[name].wanted.split(",")) == set(line[len(name) :].split(",")), name
        assert (found[name].state == "missing") == (found[name].installed is None)


def test_what_an_error_calls_the_extra_of_a_package_brings_it() -> None:
    brought = {
        extra: {re.split(r"[<>=~\[]", line)[0].lower() for line in lines}
        for extra, lines in PROJECT["optional-dependencies"].items()
    }
    names = {module: name for name, module in machine.MODULES.items()}
    for module, extra in EXTRAS.items():
        assert names.get(module, module.replace("_", "-")) in brought[extra], module


def test_metadata_tell_where_the_installation_is_not_editable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.metadata.PathDistribution, "read_text", lambda self, name: None)
    monkeypatch.setattr(machine.metadata, "requires", lambda name: WANTED)
    assert machine.requirements() == WANTED


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No package is really imported."""
    monkeypatch.setattr(machine, "attempt", lambda code: ("{}" if "torch" in code else "", ""))


def shown(result: Any, width: int = 80) -> list[str]:
    out = StringIO()
    result.show(Console(file=out, width=width, color_system=None))
    return out.getvalue().split("\n")


@pytest.mark.parametrize(
    ("version", "wanted", "state"),
    [
        ("2.11.0", ">=2.11", "fine"),
        ("2.11", ">=2.11.0", "fine"),
        ("2.9.1", ">=2.11", "too old"),
        ("2.15.0+cu128", ">=2.11,<3", "fine"),
        ("3.0", "<3,>=2.10", "too new"),
        ("3.0", "<=3", "fine"),
        ("10.0", ">=9", "fine"),
        ("0.7.0rc1", ">=0.5,<0.7", "too new"),
        ("5", "", "fine"),
    ],
)
def test_versions_are_compared_as_numbers(version: str, wanted: str, state: str) -> None:
    assert machine.within(version, wanted) == state


@pytest.mark.slow
def test_what_is_installed_here_is_fine() -> None:
    """Through the command line, as JSON: this environment passes its own tests, so nothing in it may be called broken."""
    done = subprocess.run([sys.executable, "-m", "maskwright", "doctor", "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    answer = json.loads(done.stdout)
    assert next(iter(answer)) == "schema"
    assert answer["problems"] == []
    states = {package["name"]: package for package in answer["packages"]}
    assert states["numpy"]["installed"] == metadata.version("numpy")
    assert states["numpy"]["state"] == "fine"
    assert answer["torch"]["threads"] >= 1
    assert answer["memory"]["total_gb"] > 0
    assert answer["cpu"]["usable"] <= answer["cpu"]["cores"]


def test_without_torch_it_names_the_extra(monkeypatch: pytest.MonkeyPatch, quick: None) -> None:
    monkeypatch.setattr(machine, "requirements", lambda: WANTED)
    known = machine._version
    monkeypatch.setattr(machine, "_version", lambda name: None if name == "torch" else known(name))
    found = mw.doctor()
    assert found.exit_code == 0
    assert found.missing == {"train": ["torch"]}
    assert [p.name for p in found.packages] == ["numpy", "pillow", "torch"]
    lines = shown(found)
    assert "pip install 'maskwright[train]' brings torch" in lines
    assert any("onnxruntime on the CPU alone" in line for line in lines)
    assert found.next == ["pip install 'maskwright[train]'"]


@pytest.mark.parametrize(
    ("version", "code", "state", "words"),
    [
        ("2.4.0", "", "too old", "torch 2.4.0 is too old, wanted is >=2.11"),
        ("2.15.0", "raise ImportError('libcudart.so is missing')", "broken", "libcudart.so is missing"),
        ("2.15.0", "import os; os.abort()", "broken", "crashes on import"),
    ],
)
def test_what_is_broken_or_too_old_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, version: str, code: str, state: str, words: str
) -> None:
    monkeypatch.setattr(machine, "requirements", lambda: [WANTED[2]])
    monkeypatch.setattr(machine, "_version", lambda name: version if name == "torch" else None)
    monkeypatch.setattr(machine, "TORCH", code)
    found = mw.doctor()
    assert found.exit_code == 5
    assert [p.state for p in found.packages] == [state]
    assert words in found.problems[0]
    assert any(words in line for line in shown(found, 200))


def test_weights_cache_and_threads_are_told(monkeypatch: pytest.MonkeyPatch, quick: None, tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "resnet18.pth").write_bytes(b"")
    (tmp_path / "weights" / "notes.txt").write_bytes(b"")
    (tmp_path / "cache" / "deep").mkdir(parents=True)
    (tmp_path / "cache" / "deep" / "x").write_bytes(bytes(2_000_000))
    monkeypatch.setenv("MASKWRIGHT_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    found = mw.doctor()
    assert found.facts["weights"]["files"] == ["resnet18.pth"]
    assert (found.facts["places"]["cache"]["files"], found.facts["places"]["cache"]["mb"]) == (1, 2.0)
    assert found.facts["threads"]["OMP_NUM_THREADS"] == "3"
    monkeypatch.setenv("MASKWRIGHT_WEIGHTS", str(tmp_path / "none"))
    assert any("is no folder" in problem for problem in mw.doctor().problems)
    json.dumps(found.to_json())


def test_it_fits_80_columns(quick: None) -> None:
    long = Package("segmentation-models-pytorch", "train", ">=0.5,<0.7", "0.6.0", "too old")
    found = mw.doctor()
    result = verb.Examined(found.facts, [*found.packages, long], [])
    assert all(len(line) <= 80 for line in shown(result))


def test_nothing_is_written(quick: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "cache"))
    mw.doctor()
    assert list(tmp_path.iterdir()) == []
