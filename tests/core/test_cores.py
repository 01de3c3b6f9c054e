"""Cores and threads: never more than the machine, the container or the user allows, never none."""

import os
from pathlib import Path

import pytest

from maskwright.core import cores

HERE = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
LIMITS = [
    (None, HERE),
    ("max 100000", HERE),
    ("100000 100000", 1),
    ("1 100000", 1),
    ("150000 100000", min(2, HERE)),
    ("99900000 100000", HERE),
    ("what is this", HERE),
]


@pytest.mark.parametrize(("text", "expected"), LIMITS)
def test_a_container_has_its_share(
    text: str | None, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "cpu.max")
    if text is not None:
        (tmp_path / "cpu.max").write_text(f"{text}\n")
    assert cores.usable_cores() == expected


@pytest.mark.parametrize(("said", "expected"), [("1", 1), ("0", HERE), ("", HERE), ("two", HERE), ("9999", HERE)])
def test_the_user_has_the_last_word(said: str, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cores, "QUOTA", tmp_path / "none")
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert cores.threads() == expected
