"""How panoptic quality looks in a terminal, 80 columns or more: all, things and stuff, then one line a class."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from maskwright.core.words import counted
from maskwright.metrics.panoptic import GROUPS, MEASURES, PanopticScores
from maskwright.metrics.tables import empty_table, interval_cells, plain


def show(scores: PanopticScores, console: Console) -> None:
    """Prints headlines with their intervals, the class table, what was scored, notes and the convention."""
    lines = [f"{len(scores.ids):,} of {counted(scores.expected, 'image')} scored", *scores.notes]
    for what in (headline_table(scores), Text(), class_table(scores), Text(), *map(Text, lines)):
        console.print(what, highlight=False, markup=False)
    console.print(Text(scores.convention, style="dim"), highlight=False)


def text(scores: PanopticScores, width: int = 80) -> str:
    """What `show` prints, as plain text of at most `width` columns."""
    return plain(lambda console: show(scores, console), width)


def headline_table(scores: PanopticScores) -> Table:
    """PQ, SQ and RQ of all classes, and of things and stuff where there are both; each with its interval."""
    table = empty_table(header=True)
    table.add_column("", no_wrap=True)
    for measure in MEASURES:
        table.add_column(measure.upper(), justify="right", style="bold", no_wrap=True)
        table.add_column("", no_wrap=True)
    both = any(scores.things) and not all(scores.things)
    for group, label in GROUPS.items() if both else [("", GROUPS[""])]:
        cells = [cell for measure in MEASURES for cell in interval_cells(scores.headlines[f"{measure}{group}"])]
        table.add_row(label, *cells)
    return table


def class_table(scores: PanopticScores) -> Table:
    """A line for each class that truth or prediction have."""
    table = empty_table(header=True)
    table.add_column("class", overflow="fold")
    for label in ("PQ", "SQ", "RQ", "matched", "missed", "wrong"):
        table.add_column(label, justify="right", no_wrap=True)
    for row in scores.per_class:
        if row["pq"] is not None:
            counts = (f"{row[name]:,}" for name in ("matched", "missed", "wrong"))
            table.add_row(Text(row["name"]), *(f"{row[name]:.3f}" for name in MEASURES), *counts)
    return table
