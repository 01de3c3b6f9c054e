"""Scores of either kind, of pixels or of objects, as a terminal shows them."""

from __future__ import annotations

from rich.console import Console

from maskwright.metrics import instance_tables, tables
from maskwright.metrics.instance_scores import InstanceScores
from maskwright.metrics.scores import Scores


def show(scores: Scores | InstanceScores, console: Console) -> None:
    """Prints headlines with their intervals, the class table, what was scored, and the convention."""
    if isinstance(scores, InstanceScores):
        instance_tables.show(scores, console)
    else:
        tables.show(scores, console)


def text(scores: Scores | InstanceScores, width: int = 80) -> str:
    """What `show` prints, as plain text of at most `width` columns."""
    return instance_tables.text(scores, width) if isinstance(scores, InstanceScores) else tables.text(scores, width)
