"""The page of a run that finds objects: its own numbers and no word of pixels, whole whatever is missing."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from fake_objects import LOSSES, NAME, fake_objects_run
from fake_run import PARTS, fake_run
from test_page import BREAKING, CHROMIUM, HOSTILE, Parsed, browsed, paths, with_null

from maskwright.metrics.precision_recall import MEASURES
from maskwright.reports import facts, measures, page

FOREIGN = ("mean IoU", "pixel accuracy", "Confusion", "share of pixels", "void", "Dice", "logit")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fake_objects_run(tmp_path_factory.mktemp("runs") / NAME, num=14, epochs=3)


@pytest.fixture(scope="module")
def scores(run: Path) -> dict[str, Any]:
    return dict(json.loads((run / "scores.json").read_text()))


def test_the_page_says_what_the_run_folder_knows(run: Path, scores: dict[str, Any]) -> None:
    text, told = Parsed(page.render(run)[0]).text, scores["test"]
    top = told["headlines"]["mask_ap"]
    known = [
        "mask AP, 7 test images",
        f"{top['value']:.3f} {top['low']:.3f} to {top['high']:.3f} 95 % interval",
        "instance segmentation",
        "to find objects of 4 classes",
        f"7 of 7 images scored; {told['objects']['counted']} objects, {told['objects']['detections']} detections",
        "their F1 at IoU 0.5",
        "test masks test boxes validation masks validation boxes",
        "objects that one of the two alone finds 0",
        "smallest overlap of an object's pixels 0.9993",
        "largest difference of a score 2.1e-05",
        *(label for label, _ in measures.OF_OBJECTS.values()),
        *(measures.told_loss(name) for name in LOSSES),
        *(row["name"] for row in told["classes"] if row["name"] != "background"),
    ]
    assert [words for words in known if words not in text] == []
    assert [words for words in FOREIGN if words in text] == []


@pytest.mark.parametrize("part", ["test", "val"])
def test_every_headline_stands_in_the_table_with_its_interval(run: Path, scores: dict[str, Any], part: str) -> None:
    text = page.render(run)[0]
    board = text[text.index('<table class="headlines">') : text.index('<p class="scope">')]
    for told in scores[part]["headlines"].values():
        if told["value"] is not None:
            cell = f'<b class="strong">{told["value"]:.3f}</b><small>{told["low"]:.3f} to {told["high"]:.3f}</small>'
            assert cell in board
    assert board.count("<tr>") == 1 + len(MEASURES)


def test_rows_of_classes_and_images_are_the_scores_own(run: Path, scores: dict[str, Any]) -> None:
    text, told = page.render(run)[0], scores["test"]
    section = text[text.index('<section id="classes"') : text.index("<details><summary>The same for")]
    for row in told["classes"][1:]:
        line = section[section.index(f"<span>{row['name']}</span>") :].split("</tr>")[0]
        keys = ("mask_ap", "mask_ap50", "mask_ap75", "mask_ar100", "box_ap", "objects", "images", "detections")
        assert [float(cell) for cell in re.findall('data-v="([^"]+)"', line)] == pytest.approx(
            [row[key] for key in keys]
        )
    assert ">background<" not in section
    ranked = sorted(row["f1"] for row in told["per_image"] if row["f1"] is not None)
    assert [image["f1"] for image in facts.scored("test", told).images][: len(ranked)] == ranked


def test_names_and_labels_are_those_of_the_scores() -> None:
    assert {name: label for name, (label, _) in measures.OF_OBJECTS.items()} == MEASURES


def test_pages_about_pixels_have_nothing_of_it(tmp_path: Path) -> None:
    text = page.render(fake_run(tmp_path / "run", images=4, epochs=1, shown=1))[0]
    assert page.asset("objects.css") not in text
    assert not re.search(r"\bF1\b|\bAP\b|detection", Parsed(text).text)


def test_a_run_without_test_images_has_room_for_gauges(tmp_path: Path) -> None:
    text = page.render(fake_objects_run(tmp_path / "run", num=5, epochs=1, test=False))[0]
    assert "mask AP, 5 validation images" in Parsed(text).text
    assert text.count('class="gauge"') > 10


@pytest.mark.parametrize("name", ["run.json", "scores.json", "ledger.json", "events.jsonl", "pictures/index.json"])
@pytest.mark.parametrize("kept", [None, 0.0, 0.5, 0.99])
def test_any_file_may_be_missing_or_cut_short(run: Path, tmp_path: Path, name: str, kept: float | None) -> None:
    shutil.copytree(run, tmp_path / "run")
    file = tmp_path / "run" / name
    if kept is None:
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: int(kept * file.stat().st_size)])
    text = Parsed(page.render(tmp_path / "run")[0]).text
    assert "Maskwright training report" in text
    assert [words for words in FOREIGN if words in text] == []


def test_scores_of_before_images_were_ranked_make_a_page(run: Path, tmp_path: Path, scores: dict[str, Any]) -> None:
    shutil.copytree(run, tmp_path / "run")
    old = json.loads(json.dumps(scores))
    for part in ("val", "test"):
        old[part]["per_image"] = [
            {key: value for key, value in row.items() if key not in ("sure", "right", "f1")}
            for row in old[part]["per_image"]
        ]
    (tmp_path / "run" / "scores.json").write_text(json.dumps(old))
    text = Parsed(page.render(tmp_path / "run")[0]).text
    assert "test images by their own" not in text
    assert "mask AP, 7 test images" in text


def test_boxes_alone_make_a_page(run: Path, tmp_path: Path, scores: dict[str, Any]) -> None:
    shutil.copytree(run, tmp_path / "run")
    bare = json.loads(json.dumps(scores))
    for part in ("val", "test"):
        kept = bare[part]["headlines"].items()
        bare[part]["headlines"] = {name: value for name, value in kept if name.startswith("box")}
    (tmp_path / "run" / "scores.json").write_text(json.dumps(bare))
    text = Parsed(page.render(tmp_path / "run")[0]).text
    assert "box AP, 7 test images" in text
    assert "test boxes" in text
    assert "masks" not in text.split("How it is counted")[0]
    assert "AR100 are those of boxes" in text


@pytest.mark.parametrize("hostile", [HOSTILE, BREAKING])
def test_names_from_outside_stay_text(run: Path, tmp_path: Path, hostile: str) -> None:
    shutil.copytree(run, tmp_path / "run")
    for name in ("run.json", "scores.json", "pictures/index.json", "events.jsonl"):
        file, planted = tmp_path / "run" / name, json.dumps(hostile)[1:-1]
        text = file.read_text()
        for known in ("triangle", "images/shapes", "mobilenet_v2", "mask_loss", "F1 at IoU 0.5"):
            text = text.replace(known, planted)
        file.write_text(text)
    parsed, plain = Parsed(page.render(tmp_path / "run")[0]), Parsed(page.render(run)[0])
    assert {tag for tag, _ in parsed.tags} == {tag for tag, _ in plain.tags}
    assert len(parsed.all("script")) == 2
    assert not [name for _, attributes in parsed.tags for name in attributes if name.startswith("on")]
    assert parsed.text.count(" ".join(hostile.split())) > 10


@pytest.mark.slow
def test_any_value_may_be_null(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("pictures"))
    for name in ("run.json", "scores.json"):
        file = tmp_path / "run" / name
        text = file.read_text()
        whole = json.loads(text)
        for path in paths(whole):
            file.write_text(json.dumps(with_null(whole, path)))
            Parsed(page.render(tmp_path / "run")[0])
        file.write_text(text)


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM.exists(), reason="no chromium at /usr/bin/chromium")
def test_a_browser_opens_the_page_without_a_complaint(run: Path, tmp_path: Path) -> None:
    written = page.write(run, tmp_path / "page.html")
    done = browsed(written.path, tmp_path / "profile")
    assert "CONSOLE" not in done.stderr
    assert '<div class="plot" tabindex="0">' in done.stdout
    assert not set(PARTS) & set(done.stdout.split())
