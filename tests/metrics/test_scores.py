"""Scores as JSON, CSV and text: what comes back, what a spreadsheet gets, what a terminal shows."""

import csv
import json
import re
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from maskwright.core.errors import DataError
from maskwright.core.types import VOID
from maskwright.metrics import CONVENTIONS, tables
from maskwright.metrics.confusion import Confusion
from maskwright.metrics.differences import paired_difference
from maskwright.metrics.scores import MEASURES, Scores

CLASSES = ("background", "cat", "[bold]dog[/bold]", "absent", 'a "very" long, winding class name of many words')


def make(num_images: int = 6, *, classes=CLASSES, **options) -> Scores:
    """Scores over random images that lack the class 3, hold void, and abstain here and there."""
    rng = np.random.default_rng(0)
    confusion = Confusion(classes)
    for i in range(num_images):
        truth = rng.choice(np.array([0, 0, 0, 1, 2, 4, VOID], np.uint8), (20 + i, 30))
        noise = rng.choice(np.array([0, 1, VOID], np.uint8), truth.shape)
        confusion.add(f"folder/{i}.jpg", truth, np.where(rng.random(truth.shape) < 0.7, truth, noise).astype(np.uint8))
    return confusion.scores(**options)


@pytest.mark.parametrize("num_images", [0, 1, 6])
def test_json_brings_everything_back(num_images):
    scores = make(num_images, expected=9, resolution="256 x 256 pixels", decision="threshold 0.5", seed=3)
    text = json.dumps(scores.to_json(), allow_nan=False)
    again = Scores.from_json(json.loads(text))
    assert next(iter(json.loads(text))) == "schema"
    assert again.to_json() == scores.to_json()
    assert again.counts.tolist() == scores.counts.tolist()
    assert (tables.text(again), again.convention) == (tables.text(scores), scores.convention)
    for name in CONVENTIONS:
        assert CONVENTIONS[name](again).to_json() == CONVENTIONS[name](scores).to_json()
    assert paired_difference(again, scores).value in (0.0, None)


@pytest.mark.parametrize("change", [{"schema": 2}, {"schema": None}, {"per_image": None}])
def test_json_of_another_kind_is_refused(change):
    value = {k: v for k, v in (make(2).to_json() | change).items() if v is not None}
    with pytest.raises(DataError, match="not scores of schema 1"):
        Scores.from_json(value)


@pytest.mark.parametrize("change", [{"per_image": []}, {"classes": 3}, {"confusion": "x"}, {"headlines": {"miou": 1}}])
def test_json_that_is_damaged_is_refused(change):
    value = {**make(2).to_json(), **change}
    if change == {"per_image": []}:
        del value["classes"]
    with pytest.raises(DataError, match="scores that are damaged"):
        Scores.from_json(value)


def test_the_summary_is_the_small_part():
    summary = make().summary()
    assert "per_image" not in summary
    assert summary["headlines"]["miou"].keys() == {"value", "low", "high"}
    assert summary["headlines"].keys() == MEASURES.keys()
    assert [c["name"] for c in summary["classes"]] == list(CLASSES)
    assert summary["classes"][3] | {"name": ""} == {
        "name": "",
        "iou": None,
        "dice": None,
        "precision": None,
        "recall": None,
        "truth_pixels": 0,
        "predicted_pixels": 0,
        "images": 0,
    }


def test_the_convention_says_what_was_counted():
    text = make(resolution="original pixels", decision="argmax").convention
    for words in (
        "pooled",
        "original pixels",
        "(argmax)",
        "4 of 5 classes",
        "absent ones count 0",
        "void pixels",
        "95%",
    ):
        assert words in text
    assert "intervals: none" in make(1).convention


def test_the_csv_holds_one_row_an_image(tmp_path):
    scores = make()
    scores.csv(tmp_path / "images.csv")
    with (tmp_path / "images.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == list(scores.ids)
    for row, image in zip(rows, scores.per_image, strict=True):
        assert float(row["miou"]) == image.miou
        assert float(row["pixel_accuracy"]) == image.pixel_accuracy
        assert (int(row["scored_pixels"]), int(row["void_pixels"])) == (image.scored, image.void)
        assert row["iou absent"] == ""
        assert {c: float(row[f"iou {c}"]) for c in CLASSES if row[f"iou {c}"]} == image.iou


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_fits_lines_up_and_names_every_class(width):
    lines = tables.text(make(expected=7), width).splitlines()
    assert max(map(len, lines)) <= width
    assert not any(line != line.rstrip() for line in lines)
    first = next(i for i, line in enumerate(lines) if line.startswith("class"))
    end = lines[first].index("IoU") - 4  # a number is two columns wider than its heading and two from the name
    folded = "".join("".join(line[:end].split()) for line in lines[first + 1 : lines.index("", first)])
    assert folded == "".join("".join(name.split()) for name in CLASSES)
    assert "6 of 7 images scored" in " ".join(lines)
    assert "were given no class and count as wrong" in " ".join(" ".join(lines).split())


def test_numbers_line_up_at_80_columns():
    scores = make(classes=("background", "cat", "dog", "absent", "tree"))
    lines = tables.text(scores, 80).splitlines()
    first = next(i for i, line in enumerate(lines) if line.startswith("class"))
    rows = lines[first : first + 6]
    assert len({len(row) for row in rows}) == 1
    ends = [[match.end() for match in re.finditer(r"(?<= )(-|[\d.]+)(?= |$)", row)] for row in rows[1:]]
    assert len(ends[0]) == 6  # IoU, Dice, precision, recall, truth %, images
    assert all(row == ends[0] for row in ends)
    for row, c in zip(rows[1:], scores.per_class, strict=True):
        assert row.split()[:2] == [c.name, "-" if c.iou is None else f"{c.iou:.3f}"]
    assert [line.split("0.")[0].strip() for line in lines[:6]] == [label for label, _ in MEASURES.values()]


def test_bars_are_as_long_as_their_numbers():
    truth = np.array([[0] * 4 + [1] * 4 + [2] * 4], np.uint8)
    predicted = np.array([[0] * 4 + [1] * 2 + [VOID] * 6], np.uint8)
    confusion = Confusion(("full", "half", "none"))
    confusion.add("a", truth, predicted)
    rows = {line.split()[0]: line for line in tables.text(confusion.scores(), 80).splitlines() if line.strip()}
    assert [rows[name].count("█") for name in ("full", "half", "none")] == [20, 10, 0]
    console = Console(file=_Ascii(), width=80, color_system=None)
    tables.show(confusion.scores(), console)
    text = console.file.getvalue()
    assert text.isascii()
    assert text.count("#") == 30


class _Ascii(StringIO):
    encoding = "ascii"
