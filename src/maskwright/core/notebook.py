"""A receiver that draws events in a notebook: lines below the cell, and one bar for each piece of work, in place.

It needs nothing but IPython, which a notebook always has.
"""

from __future__ import annotations

import sys
import time
from html import escape
from typing import Any

from maskwright.core.events import Event, duration

PATIENCE = 1.0  # seconds of work that need no bar
EVERY = 0.5  # seconds between two drawings of a bar


def running() -> bool:
    """True inside a Jupyter kernel; a plain IPython prompt is a terminal."""
    shell = sys.modules.get("IPython")
    found = shell.get_ipython() if shell is not None else None
    return getattr(found, "kernel", None) is not None


class Notebook:
    """Bars appear for work that takes over a second, and stay with their time when it is done."""

    def __init__(self) -> None:
        self._bars: dict[str, Any] = {}
        self._began: dict[str, tuple[float, int]] = {}
        self._drawn: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        if event.name == "progress":
            self._progress(event)
        elif event.name in ("say", "warn"):
            mark = "warning: " if event.name == "warn" else ""
            print(f"{mark}{event.fields['text']}")

    def close(self) -> None:
        self._bars.clear()
        self._began.clear()
        self._drawn.clear()

    def _progress(self, event: Event) -> None:
        label, done, total = str(event.fields["label"]), event.fields["done"], event.fields.get("total")
        now = time.monotonic()
        began, first = self._began.setdefault(label, (now, done))
        elapsed, ended = now - began, bool(event.fields.get("ended"))
        shown = label in self._bars or (elapsed >= PATIENCE and not ended)
        if shown and (ended or now - self._drawn.get(label, 0.0) >= EVERY):
            self._drawn[label] = now
            left = (total - done) * elapsed / (done - first) if total and done > first and not ended else None
            self._draw(label, html(label, done, total, elapsed, left, event.fields.get("note")))
        if ended:
            for kept in (self._bars, self._began, self._drawn):
                kept.pop(label, None)

    def _draw(self, label: str, text: str) -> None:
        from IPython.display import HTML, display

        if label in self._bars:
            self._bars[label].update(HTML(text))
        else:
            self._bars[label] = display(HTML(text), display_id=True)


def html(label: str, done: int, total: int | None, elapsed: float, left: float | None, note: object = None) -> str:
    """A bar with its numbers; without a total a count."""
    bar = (
        f'<progress value="{done}" max="{total}" style="width:18em;vertical-align:middle"></progress>' if total else ""
    )
    count = f"{done:,} of {total:,}" if total else f"{done:,}"
    times = f"{duration(elapsed)}" + (f", about {duration(left)} left" if left is not None else "")
    words = f' <span style="opacity:.7">{escape(str(note))}</span>' if note else ""
    return f'<div style="font-variant-numeric:tabular-nums">{escape(label)} {bar} {count} · {times}{words}</div>'
