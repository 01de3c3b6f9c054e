"""The geometry of the report's figures, against direct counting."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright.reports import facts, figures
from maskwright.reports.figures import Line

NUMBERS = st.floats(-1e6, 1e6)
POSITIVE = st.floats(1e-6, 1e9)


@given(low=NUMBERS, width=POSITIVE, count=st.integers(2, 8))
def test_ticks_are_few_round_ascending_and_inside(low: float, width: float, count: int) -> None:
    ticks = figures.ticks(low, low + width, count)
    slack = 1e-6 * max(abs(low), width)
    assert all(low - slack <= tick <= low + width + slack for tick in ticks)
    assert ticks == sorted(set(ticks))
    assert len(ticks) <= 2 * count + 2


def coordinates(path: str) -> np.ndarray:
    return np.array([float(number) for number in re.findall(r"-?\d+\.\d+", path)]).reshape(-1, 2)


@given(st.lists(st.tuples(st.integers(1, 10**6), st.floats(0, 100)), min_size=1, max_size=60, unique_by=lambda p: p[0]))
def test_a_line_is_drawn_where_its_ticks_say(points: list[tuple[int, float]]) -> None:
    points = sorted(points)
    chart = figures.chart("loss", [Line("train", "first", list(points), "{:.3f}".format)])
    assert chart is not None
    drawn = coordinates(chart.series[0].path)
    assert len(drawn) == len(points)
    right = max(x for x, _ in points)
    assert np.allclose(drawn[:, 0], [100 * x / right for x, _ in points], atol=0.01)
    assert drawn.min() >= -0.01
    assert drawn.max() <= 100.01
    high = max(1e-9, 1.08 * max(y for _, y in points))
    assert np.allclose(drawn[:, 1], [100 * (1 - y / high) for _, y in points], atol=0.01)
    assert [row[2] for row in chart.readout] == [f"{y:.3f}" for _, y in points]
    assert all(0 <= tick.at <= 100 for tick in chart.x_ticks + chart.y_ticks)


def test_numbers_that_are_not_finite_are_left_out() -> None:
    rough = [(1, math.nan), (2, 0.5), (3, math.inf), (4, None), (None, 1.0), (5, 0.25)]
    chart = figures.chart("loss", [Line("train", "first", rough, "{:.2f}".format)])
    assert chart is not None
    assert [row[2] for row in chart.readout] == ["0.50", "0.25"]
    assert "from 0.50 to 0.25" in chart.alt
    assert figures.chart("loss", [Line("train", "first", [(1, math.nan)])]) is None


def test_many_points_are_thinned_to_their_means() -> None:
    points = [(float(i), float(i % 7)) for i in range(10_000)]
    thinned = figures.thin(points)
    assert len(thinned) <= figures.MAX_POINTS
    assert sum(y for _, y in thinned) / len(thinned) == pytest.approx(sum(y for _, y in points) / len(points), abs=0.01)


@pytest.mark.parametrize("num_classes", [1, 2, 13, 40, 80, 255])
def test_confusion_rows_are_shares_of_the_truth(num_classes: int) -> None:
    rng = np.random.default_rng(num_classes)
    counts = rng.integers(0, 1000, (num_classes, num_classes)) * (rng.random((num_classes, num_classes)) < 0.3)
    counts[0] = 0
    names = [f"class_{i}" for i in range(num_classes)]
    matrix = figures.confusion(counts.tolist(), names, names)
    assert matrix is not None
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    drawn = np.zeros_like(share)
    for cell in matrix.cells:
        drawn[cell.row, cell.column] = cell.share
    assert np.allclose(drawn, np.where(share >= figures.FAINTEST, share, 0))
    errors = np.where(share >= figures.FAINTEST, counts, 0) * (1 - np.eye(num_classes, dtype=int))
    assert [cell.count for cell in matrix.worst] == sorted(errors[errors > 0].tolist(), reverse=True)[:10]
    assert matrix.width <= 60 * num_classes + 200
    assert matrix.width >= matrix.left + num_classes * 12


def test_abstentions_get_a_column_of_their_own_only_when_there_are_some() -> None:
    without = facts.confusion([[5, 1, 0], [0, 3, 0]], ["a", "b"])
    assert without is not None
    assert without.columns == ("a", "b")
    some = facts.confusion([[5, 1, 0], [0, 3, 2]], ["a", "b"])
    assert some is not None
    assert some.columns == ("a", "b", facts.NO_CLASS)
    assert facts.confusion([[5, 1], [0, 3]], ["a", "b"]) is None


@given(st.lists(st.floats(0, 1), max_size=300))
def test_histogram_counts_every_value_once(values: list[float]) -> None:
    bins = figures.histogram(values)
    assert sum(count for _, count in bins) == len(values)
    assert not bins or max(height for height, _ in bins) == 100


LINES = st.fixed_dictionaries(
    {
        "kind": st.sampled_from(["file", "image", "annotation"]),
        "fate": st.sampled_from(["repaired", "ignored", "refused"]),
        "item": st.text(max_size=5),
        "why": st.builds("{} pixels of `{}`".format, st.integers(0, 999), st.text("abc", max_size=3)),
    }
)


@given(st.lists(LINES, max_size=40))
def test_grouped_reasons_account_for_every_line(lines: list[dict[str, str]]) -> None:
    groups = facts.ledger_groups({"lines": lines})
    assert sum(group.count for group in groups) == len(lines)
    assert len(groups) == len({(line["kind"], line["fate"]) for line in lines})
    fates = [group.fate for group in groups]
    assert fates == sorted(fates, key=["refused", "repaired", "ignored"].index)
    for group in groups:
        whys = {line["why"] for line in lines if (line["kind"], line["fate"]) == (group.kind, group.fate)}
        assert group.why in whys
        assert group.alike == (len(whys) > 1)


def test_estimate_beside_what_was_measured() -> None:
    rows = facts.effort({"estimate": {"seconds": 60, "memory_gb": 2.0}, "actual": {"seconds": 90}})
    assert rows == [("time", "1 min 00 s", "1 min 30 s", "1.50×"), ("peak memory", "2.0 GB", "–", "–")]
    assert facts.effort({}) == []
