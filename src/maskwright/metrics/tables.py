"""How scores look in a terminal, 80 columns or more: headlines with intervals, then one line a class with a bar."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from maskwright.core import words
from maskwright.core.types import BACKGROUND
from maskwright.metrics.conventions import Restated
from maskwright.metrics.intervals import Estimate
from maskwright.metrics.scores import MEASURES, Scores

_NUMBERS = 52  # columns that the class table needs beside names and bars
_NARROW = 72  # columns below which it leaves some numbers out


def show(scores: Scores, console: Console) -> None:
    """Prints headlines with their intervals, the class table and the convention."""
    _print(console, headline_table(scores))
    _print(console, Text())
    _print(console, class_table(scores, width=console.width, plain=console.options.ascii_only))
    _print(console, Text())
    for line in counted(scores):
        _print(console, Text(line))
    _print(console, Text(scores.convention, style="dim"))


def text(scores: Scores, width: int = 80) -> str:
    """What `show` prints, as plain text of at most `width` columns."""
    return plain(lambda console: show(scores, console), width)


def show_restated(restated: Restated, console: Console) -> None:
    """Prints another convention's numbers beside their floors, and its sentence."""
    table = empty_table()
    table.add_column(no_wrap=True)
    table.add_column(justify="right", style="bold", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, estimate in restated.values.items():
        floor = Text(f"floor {_decimal(restated.floor[name])}: {restated.floor_answer}")
        table.add_row(f"{restated.name} {name}", *interval_cells(estimate), floor)
    _print(console, table)
    _print(console, Text(restated.text, style="dim"))


def restated_text(restated: Restated, width: int = 80) -> str:
    """What `show_restated` prints, as plain text of at most `width` columns."""
    return plain(lambda console: show_restated(restated, console), width)


def plain(show: Callable[[Console], None], width: int) -> str:
    """What is shown on a console, as plain text of at most `width` columns."""
    out = StringIO()
    show(Console(file=out, width=width, color_system=None, force_terminal=False, legacy_windows=False))
    return "\n".join(line.rstrip() for line in out.getvalue().split("\n"))


def headline_table(scores: Scores) -> Table:
    present = [c.truth_pixels > 0 for c in scores.per_class]
    first = scores.classes[0] == BACKGROUND
    numbers = {"present": sum(present), "classes": len(present), "foreground": sum(present[first:])}
    table = empty_table()
    table.add_column(no_wrap=True)
    table.add_column(justify="right", style="bold")
    table.add_column(no_wrap=True)
    table.add_column(style="dim")
    for name, estimate in scores.headlines.items():
        label, meaning = MEASURES[name]
        table.add_row(label, *interval_cells(estimate), meaning.format(**numbers))
    return table


def interval_cells(estimate: Estimate) -> tuple[str, str]:
    low, high = estimate.low, estimate.high
    return _decimal(estimate.value), "" if low is None or high is None else f"{low:.3f} to {high:.3f}"


def class_table(scores: Scores, *, width: int = 80, plain: bool = False) -> Table:
    """width: columns to fill; bars take what names and numbers leave. plain: bars of # for want of block characters."""
    numbers = ("Dice", "precision", "recall", "truth %", "images") if width >= _NARROW else ("Dice", "images")
    name_width = min(max(len(name) for name in scores.classes), 28)
    bar_width = min(max(width - _NUMBERS - name_width, 4), 20)
    table = empty_table(header=True)
    table.add_column("class", overflow="fold")
    table.add_column("IoU", justify="right", style="bold", no_wrap=True)
    table.add_column("", no_wrap=True, width=bar_width, style="cyan")
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    scored = max(scores.pixels["scored"], 1)
    for row in scores.per_class:
        cells = {
            "Dice": _decimal(row.dice),
            "precision": _decimal(row.precision),
            "recall": _decimal(row.recall),
            "truth %": f"{100 * row.truth_pixels / scored:.2f}",
            "images": f"{row.images:,}",
        }
        bar, style = _bar(row.iou or 0.0, bar_width, plain), None if row.truth_pixels else "dim"
        table.add_row(Text(row.name), _decimal(row.iou), bar, *(cells[name] for name in numbers), style=style)
    return table


def counted(scores: Scores) -> list[str]:
    """What was scored, of what there was."""
    pixels = scores.pixels
    if scores.overlapping:
        found = f"{len(scores.ids):,} of {words.counted(scores.expected, 'image')} scored"
        return [f"{found}; {pixels['scored']:,} pixels in the true masks of all classes, {pixels['void']:,} void"]
    lines = [
        f"{len(scores.ids):,} of {words.counted(scores.expected, 'image')} scored; "
        f"{pixels['scored']:,} of {pixels['total']:,} pixels scored, {pixels['void']:,} void"
    ]
    if pixels["unanswered"]:
        lines.append(f"{pixels['unanswered']:,} scored pixels were given no class and count as wrong")
    return lines


def _bar(value: float, width: int, plain: bool) -> str:
    eighths = round(value * width * 8)
    if plain:
        return "#" * (eighths // 8)
    return "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def empty_table(*, header: bool = False) -> Table:
    return Table(box=None, show_header=header, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))


def _print(console: Console, what: Any) -> None:
    console.print(what, highlight=False, markup=False)
