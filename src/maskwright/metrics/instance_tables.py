"""How scores of objects look in a terminal, 80 columns or more: headlines of masks and boxes, then one line a class."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from maskwright.core.words import counted
from maskwright.metrics.precision_recall import MEASURES
from maskwright.metrics.tables import empty_table, interval_cells, plain

if TYPE_CHECKING:
    from maskwright.metrics.instance_scores import InstanceClass, InstanceScores

_WIDE = 100  # columns from which a class also shows its AP75 and its recall
_CLASS = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ar100": "AR100"}


def show(scores: InstanceScores, console: Console) -> None:
    """Prints headlines with their intervals, the class table, what was scored, notes and the convention."""
    for what in (headline_table(scores), Text(), class_table(scores, width=console.width), Text()):
        console.print(what, highlight=False, markup=False)
    for line in scored(scores):
        console.print(Text(line), highlight=False)
    console.print(Text(scores.convention, style="dim"), highlight=False)


def text(scores: InstanceScores, width: int = 80) -> str:
    """What `show` prints, as plain text of at most `width` columns."""
    return plain(lambda console: show(scores, console), width)


def headline_table(scores: InstanceScores) -> Table:
    """A line a measure, masks beside boxes, each with its interval."""
    table = empty_table(header=True)
    table.add_column("", no_wrap=True)
    for kind in scores.matches:
        table.add_column("masks" if kind == "mask" else "boxes", justify="right", style="bold", no_wrap=True)
        table.add_column("", no_wrap=True)
    for name, label in MEASURES.items():
        cells = [cell for kind in scores.matches for cell in interval_cells(scores.headlines[f"{kind}_{name}"])]
        table.add_row(label, *cells)
    return table


def class_table(scores: InstanceScores, *, width: int = 80) -> Table:
    """A line for each class that has objects or detections. width: columns to fill."""
    measures = _CLASS if width >= _WIDE else {name: _CLASS[name] for name in ("ap", "ap50")}
    columns = {f"{kind}_{name}": f"{kind} {label}" for kind in scores.matches for name, label in measures.items()}
    table = empty_table(header=True)
    table.add_column("class", overflow="fold")
    for label in columns.values():
        table.add_column(label, justify="right", no_wrap=True)
    for label in ("objects", "images", "found"):
        table.add_column(label, justify="right", no_wrap=True)
    for row in _shown(scores):
        values = [_decimal(row.measures[name]) for name in columns]
        counts = [f"{number:,}" for number in (row.objects, row.images, row.detections)]
        table.add_row(Text(row.name), *values, *counts, style=None if row.objects else "dim")
    return table


def scored(scores: InstanceScores) -> list[str]:
    """What was scored, of what there was, and the notes."""
    objects = scores.objects
    crowds = f", {counted(objects['crowds'], 'crowd')}" if objects["crowds"] else ""
    first = (
        f"{len(scores.ids):,} of {counted(scores.expected, 'image')} scored; {counted(objects['counted'], 'object')}"
        f"{crowds}, {counted(objects['detections'], 'detection')}"
    )
    return [first, *scores.notes]


def html(scores: InstanceScores) -> str:
    """Headlines, classes and convention for a notebook."""
    kinds = list(scores.matches)
    head = "".join(f"<th>{'masks' if kind == 'mask' else 'boxes'}</th><th></th>" for kind in kinds)
    rows = ""
    for name, label in MEASURES.items():
        cells = [interval_cells(scores.headlines[f"{kind}_{name}"]) for kind in kinds]
        rows += f"<tr><td>{label}</td>{''.join(f'<td><b>{v}</b></td><td>{i}</td>' for v, i in cells)}</tr>"
    columns = {f"{kind}_{name}": f"{kind} {label}" for kind in kinds for name, label in _CLASS.items()}
    titles = "".join(f"<th>{label}</th>" for label in ("class", *columns.values(), "objects"))
    classes = ""
    for row in _shown(scores):
        values = [escape(row.name), *(_decimal(row.measures[name]) for name in columns), f"{row.objects:,}"]
        classes += f"<tr>{''.join(f'<td>{value}</td>' for value in values)}</tr>"
    lines = "<br>".join(escape(line) for line in (*scored(scores), scores.convention))
    note = f'<p style="max-width:70ch;opacity:.7;font-size:.85em">{lines}</p>'
    return f"<table><tr><th></th>{head}</tr>{rows}</table><table><tr>{titles}</tr>{classes}</table>{note}"


def _shown(scores: InstanceScores) -> list[InstanceClass]:
    return [row for row in scores.per_class if row.objects or row.detections]


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
