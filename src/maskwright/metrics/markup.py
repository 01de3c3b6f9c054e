"""How scores look in a notebook: headlines with intervals, then one line a class with a bar, as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from maskwright.imaging.palette import class_colours
from maskwright.metrics.intervals import Estimate

SWATCH = "display:inline-block;width:.8em;height:.8em;margin-right:.5em;border-radius:2px;outline:1px solid #8888"
BAR = "display:inline-block;height:.6em;background:#0072b2"
NUMBERS = ("iou", "dice", "precision", "recall")


def scores(
    headlines: Mapping[str, Estimate], labels: Mapping[str, tuple[str, str]], classes: Iterable[Any], convention: str
) -> str:
    """headlines: name -> value with interval. labels: name -> words. classes: rows with the fields of ClassScore."""
    rows = list(classes)
    colours = class_colours(tuple(row.name for row in rows)).tolist()
    first = "".join(_headline(labels[name][0], estimate) for name, estimate in headlines.items())
    head = "".join(f"<th>{name}</th>" for name in ("class", "IoU", "", "Dice", "precision", "recall", "images"))
    body = "".join(_row(row, colour) for row, colour in zip(rows, colours, strict=False))
    note = f'<p style="max-width:70ch;opacity:.7;font-size:.85em">{escape(convention)}</p>'
    return f"<table>{first}</table><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


def _headline(label: str, estimate: Estimate) -> str:
    low, high = estimate.low, estimate.high
    interval = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
    return f"<tr><td>{escape(label)}</td><td><b>{_decimal(estimate.value)}</b></td><td>{interval}</td></tr>"


def _row(row: Any, colour: list[int]) -> str:
    iou, *others = (_decimal(getattr(row, name)) for name in NUMBERS)
    bar = f'<i style="{BAR};width:{100 * (row.iou or 0):.0f}px"></i>'
    name = f'<i style="{SWATCH};background:rgb({",".join(map(str, colour))})"></i>{escape(row.name)}'
    left = 'style="text-align:left"'
    cells = "".join(f"<td>{value}</td>" for value in (*others, f"{row.images:,}"))
    return f"<tr><td {left}>{name}</td><td><b>{iou}</b></td><td {left}>{bar}</td>{cells}</tr>"


def _decimal(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
