"""The figures of the report as plain geometry: curves, the confusion picture, histograms. The template draws them.

Curves live in percent of their plot (x to the right, y downwards), so that one drawing stretches to any screen and the
words beside it keep their size; the confusion picture is in CSS pixels. Numbers that are not finite are left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeGuard

Points = list[tuple[float, float]]  # x, y in data units
MAX_POINTS = 400  # a faint line of batch losses needs no more on any screen
FAINTEST = 0.005  # shares of a confusion row below this are not drawn


@dataclass(frozen=True)
class Tick:
    at: float  # percent of the plot
    text: str


@dataclass(frozen=True)
class Series:
    """One line of a chart. kind: "first", "second" (dashed) or "faint"; path, dots: SVG path data in percent."""

    name: str
    kind: str
    path: str
    dots: str


@dataclass(frozen=True)
class Chart:
    """One plot.

    readout: for each x position [x percent, words, one text for each series that is read out]. alt: the plot in words.
    """

    title: str
    series: tuple[Series, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    readout: list[list]
    alt: str
    best: float | None = None  # x in percent of the epoch whose weights were kept


@dataclass(frozen=True)
class Cell:
    row: int
    column: int
    share: float  # of the row
    count: int


@dataclass(frozen=True)
class Matrix:
    """A row-normalised confusion picture.

    names, columns: of the rows and of the columns. cell, left, top: CSS pixels. worst: the largest errors first.
    """

    names: tuple[str, ...]
    columns: tuple[str, ...]
    cells: tuple[Cell, ...]
    cell: int
    left: int
    top: int
    worst: tuple[Cell, ...]

    @property
    def width(self) -> int:
        return self.left + self.cell * len(self.columns) + 8

    @property
    def height(self) -> int:
        return self.top + self.cell * len(self.names) + 8

    @property
    def numbered(self) -> bool:
        return self.cell >= 26


@dataclass(frozen=True)
class Line:
    """What a chart is asked to draw.

    points: data units. show: the text of a value, or None for a line that is not read out. dotted: mark every point.
    """

    name: str
    kind: str
    points: Points
    show: Callable[[float], str] | None = None
    dotted: bool = True


def chart(title: str, lines: Iterable[Line], *, top: float | None = None, best: float | None = None) -> Chart | None:
    """A chart of one or more lines over samples seen, or None when no line has a finite point.

    top: the upper end of the y axis; None: just above what the lines that are read out reach.
    best: x of the epoch to mark.
    """
    lines = [replace(line, points=finite(line.points)) for line in lines]
    lines = [line for line in lines if line.points]
    if not lines:
        return None
    right = max(x for line in lines for x, _ in line.points) or 1.0
    low, high = extent(lines)
    high = top if top is not None else high

    def place(points: Points) -> Points:
        return [(100 * x / right, 100 * (1 - (y - low) / (high - low))) for x, y in points]

    drawn = tuple(Series(n.name, n.kind, path(place(thin(n.points))), dots(n, place(n.points))) for n in lines)
    x_ticks = tuple(Tick(100 * x / right, compact(x)) for x in ticks(0, right, 5))
    y_ticks = tuple(Tick(100 * (1 - (y - low) / (high - low)), short(y)) for y in ticks(low, high, 4))
    marked = None if best is None else 100 * best / right
    return Chart(title, drawn, x_ticks, y_ticks, readout(lines, right), in_words(title, lines), marked)


def extent(lines: Sequence[Line]) -> tuple[float, float]:
    """The y axis: from 0 (or below) to just above the lines that are read out; faint ones may leave it at their peaks."""
    firm = [y for line in lines if line.show for _, y in line.points]
    faint = sorted(y for line in lines if not line.show for _, y in line.points)
    if not firm:
        firm, faint = faint, []
    high = 1.08 * max(firm)
    if faint:
        high = max(high, min(1.05 * faint[int(0.97 * (len(faint) - 1))], 2.5 * max(firm)))
    low = min(0.0, *firm)
    return low, max(high, low + 1e-9)


def confusion(counts: Sequence[Sequence[float]], names: Sequence[str], columns: Sequence[str]) -> Matrix | None:
    """The picture of a confusion matrix: rows are the truth, columns the prediction; each row sums to 1.

    counts: (rows, columns) pixels. Rows without a pixel stay empty.
    """
    if not counts or not names:
        return None
    cells = []
    for row, values in enumerate(counts):
        total = sum(values)
        for column, value in enumerate(values):
            if total and value / total >= FAINTEST:
                cells.append(Cell(row, column, value / total, int(value)))
    size = next(
        pixels for limit, pixels in ((8, 52), (13, 40), (24, 30), (40, 20), (10**9, 12)) if len(columns) <= limit
    )
    letter = 6.6 if size >= 20 else 5.8
    room = round(letter * max(len(clipped(name)) for name in [*names, *columns])) + 14
    errors = sorted((c for c in cells if names[c.row] != columns[c.column]), key=lambda c: -c.count)
    return Matrix(tuple(names), tuple(columns), tuple(cells), size, room, room, tuple(errors[:10]))


def histogram(values: Iterable[float], bins: int = 20) -> list[tuple[float, int]]:
    """Counts of values in 0..1 as (height in percent of the tallest bin, count) for equal bins; empty without a value."""
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, max(0, int(value * bins)))] += 1
    tallest = max(counts)
    return [(100 * count / tallest, count) for count in counts] if tallest else []


def finite(points: Iterable[tuple[object, object]]) -> Points:
    return [(x, y) for x, y in points if is_number(x) and is_number(y)]


def is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def ticks(low: float, high: float, count: int) -> list[float]:
    """About `count` round numbers from low to high."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def short(value: float) -> str:
    """A tick of a y axis: 0.25, 12, 2e-4."""
    if value and abs(value) < 0.001:
        digits, _, power = f"{value:.1e}".partition("e")
        return f"{float(digits):g}e{int(power)}"
    return f"{value:.4g}"


def compact(value: float) -> str:
    """A tick of an x axis: 800, 1.6k, 2M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g}{name}"
    return f"{value:.3g}"


def clipped(name: str, length: int = 22) -> str:
    return name if len(name) <= length else name[: length - 1] + "…"


def thin(points: Points) -> Points:
    """At most MAX_POINTS points: the mean of each run of neighbours."""
    run = math.ceil(len(points) / MAX_POINTS)
    if run <= 1:
        return points
    groups = [points[start : start + run] for start in range(0, len(points), run)]
    return [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]


def path(points: Points) -> str:
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in points)


def dots(line: Line, points: Points) -> str:
    """A zero-length stroke with round ends at each point: a dot that keeps its shape however the plot is stretched."""
    wanted = len(points) == 1 or (line.show is not None and line.dotted and len(points) <= 40)
    return "".join(f"M{x:.2f} {y:.2f}h0" for x, y in points) if wanted else ""


def readout(lines: Sequence[Line], right: float) -> list[list]:
    """What to say at each x where a line that is read out has a point."""
    told = [(dict(line.points), line.show) for line in lines if line.show]
    xs = sorted({x for values, _ in told for x in values})
    return [
        [round(100 * x / right, 2), f"{x:,.0f} samples", *(show(v[x]) if x in v else "" for v, show in told)]
        for x in xs
    ]


def in_words(title: str, lines: Sequence[Line]) -> str:
    """The chart for those who cannot see it: first and last value of each line."""
    parts = [
        f"{line.name} from {line.show(line.points[0][1])} to {line.show(line.points[-1][1])}"
        for line in lines
        if line.show
    ]
    return f"{title} against samples seen: {'; '.join(parts)}" if parts else f"{title} against samples seen"
