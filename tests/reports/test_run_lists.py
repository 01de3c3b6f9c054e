"""Lists of runs and of folds name the number that each run has, whatever its task is."""

from __future__ import annotations

import json
import statistics
from io import StringIO
from pathlib import Path

import pytest
from fake_objects import fake_objects_run
from fake_run import fake_run
from rich.console import Console

from maskwright.bundles import runs as run_folders
from maskwright.verbs import folds
from maskwright.verbs.folds import Folded
from maskwright.verbs.runs import runs

TASKS = {"semantic": ("miou", "mean IoU", "mIoU"), "instance": ("mask_ap", "mask AP", "mask AP")}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    fake_run(folder / "semantic", images=5, epochs=2, shown=1)
    fake_objects_run(folder / "instance", num=5, epochs=3, skill=0.7)
    fake_run(folder / "failed", epochs=0, status="out of memory", text="it ran out")
    return folder


def text_of(shown: object) -> str:
    out = StringIO()
    shown.show(Console(file=out, width=120))  # type: ignore[attr-defined]
    return out.getvalue()


@pytest.mark.parametrize("task", TASKS)
def test_a_run_is_listed_with_its_own_headline(home: Path, task: str) -> None:
    name, words, _ = TASKS[task]
    told = json.loads((home / task / "scores.json").read_text())["val"]["headlines"][name]
    listed = runs(str(home))
    row = next(row for row in listed.to_json()["runs"] if Path(row["path"]).name == task)
    assert (row["task"], row["measure"]) == (task, words)
    assert [row[f"score{end}"] for end in ("", "_low", "_high")] == [told[end] for end in ("value", "low", "high")]
    assert row["miou"] == (told["value"] if task == "semantic" else None)
    line = next(line for line in text_of(listed).split("\n") if f"{told['value']:.3f}" in line)
    assert words in line
    assert f"{told['low']:.3f} .. {told['high']:.3f}" in line


def test_a_run_without_scores_is_listed_without_a_number(home: Path) -> None:
    row = next(row for row in runs(str(home)).rows if Path(row["path"]).name == "failed")
    assert [row[key] for key in ("measure", "score", "score_low", "score_high", "miou")] == [None] * 5
    assert "it ran out" in text_of(runs(str(home)))


@pytest.mark.parametrize("task", TASKS)
def test_folds_are_compared_by_the_headlines_of_their_task(home: Path, task: str) -> None:
    name, _, words = TASKS[task]
    run = run_folders.load(home / task)
    rows = [folds._row(fold, run) for fold in range(3)]
    values = [0.25, 0.5, 0.3]
    for row, value in zip(rows, values, strict=True):
        row["val"][name] = value
    made = Folded(str(home), rows)
    together = made.to_json()["val"][name]
    assert together["mean"] == pytest.approx(statistics.fmean(values))
    assert together["sd"] == pytest.approx(statistics.stdev(values))
    assert all(set(row["val"]) in [set(measures) for measures in folds.MEASURES] for row in rows)
    text = text_of(made)
    assert f"val {words}" in text
    assert f"test {words}" in text
    assert "0.350" in text
    assert ("pixel accuracy" in text) == (task == "semantic")
