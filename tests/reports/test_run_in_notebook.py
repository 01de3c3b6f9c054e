"""In a notebook a training shows its scores and pictures, whatever part of them there is."""

import json
from pathlib import Path

import pytest
from fake_objects import fake_objects_run
from fake_run import fake_run, scene, score

from maskwright.bundles import runs
from maskwright.metrics.instance_scores import InstanceScores
from maskwright.metrics.scores import Scores
from maskwright.prediction.scoring import AnyScores
from maskwright.reports import notebook


@pytest.fixture(scope="module", params=["semantic", "instance"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notebook") / "a & b"
    if request.param == "instance":
        return fake_objects_run(folder, num=6, epochs=2)
    return fake_run(folder, images=6, epochs=2, shown=2)


@pytest.fixture(scope="module")
def scores(run: Path) -> AnyScores:
    told = json.loads((run / "scores.json").read_text())["val"]
    return InstanceScores.from_json(told) if "matches" in told else Scores.from_json(told)


def headline(scores: AnyScores) -> tuple[str, float]:
    name, words = ("miou", "mean IoU") if isinstance(scores, Scores) else ("mask_ap", "mask AP")
    return words, scores[name] or 0.0


def test_a_training_shows_scores_pictures_and_places(run: Path, scores: AnyScores) -> None:
    html = notebook.trained(run, {"validation": scores, "test": None})
    assert html.count("<img") == 1
    assert "validation" in html
    assert "test" not in html.split("report.html")[0].split("<table>")[0]
    assert f"{headline(scores)[1]:.3f}" in html
    assert all(name in html for name in scores.classes if name != "background")
    assert "a &amp; b/report.html" in html


def test_without_validation_it_shows_where_things_lie(tmp_path: Path) -> None:
    html = notebook.trained(tmp_path, {"validation": None, "test": None})
    assert "<img" not in html
    assert "bundle" in html


def test_a_run_shows_its_name_status_and_score(run: Path, scores: AnyScores) -> None:
    html = runs.Run(run)._repr_html_()
    assert "a &amp; b" in html
    assert "finished" in html
    words, value = headline(scores)
    assert f"{words} {value:.3f}" in html


def test_the_page_of_scores_escapes_names() -> None:
    import numpy as np

    one = scene("x", 2, 32, np.random.default_rng(0))
    html = score(("<b>ad", "car"), [one])._repr_html_()
    assert "<b>ad" not in html
    assert "&lt;b&gt;ad" in html
