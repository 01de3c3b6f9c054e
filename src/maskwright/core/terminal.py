"""A receiver that draws events on a terminal: lines, warnings, and progress bars with ETA. Everything goes to stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from maskwright.core import events, notebook
from maskwright.core.events import Event
from maskwright.core.events import duration as duration

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

PATIENCE = 2.0  # seconds of work that need no bar
PLAIN_EVERY = 20.0  # seconds between progress lines where no terminal is


class Terminal:
    """Bars appear for work that takes over two seconds; without a terminal a plain line is written now and then."""

    def __init__(self, console: Console | None = None):
        self._given = console
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, tuple[float, int]] = {}
        self._told: dict[str, float] = {}

    @cached_property
    def console(self) -> Console:
        """Made when there is something to say: most commands that end well are silent until then."""
        from rich.console import Console

        return self._given or Console(stderr=True, highlight=False)

    def __call__(self, event: Event) -> None:
        from rich.markup import escape

        if event.name == "progress":
            self._progress(event)
        elif event.name == "say":
            self.console.print(escape(str(event.fields["text"])), soft_wrap=True)
        elif event.name == "warn":
            self.console.print(f"[yellow]warning:[/] {escape(str(event.fields['text']))}", soft_wrap=True)

    def close(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None
        self._tasks.clear()
        self._began.clear()

    def _progress(self, event: Event) -> None:
        label, done, total = str(event.fields["label"]), event.fields["done"], event.fields.get("total")
        now = time.monotonic()
        began, first = self._began.setdefault(label, (now, done))  # a resumed training does not begin at 0
        if event.fields.get("ended"):
            self._end(label)
        elif now - began >= PATIENCE:
            note = str(event.fields.get("note") or "")
            if self.console.is_terminal:
                self._draw(label, done, total, note, now - began)
            elif now - self._told.get(label, began) >= PLAIN_EVERY and total:
                self._told[label] = now
                left = (total - done) * (now - began) / max(done - first, 1)
                self.console.print(f"{label}: {done} of {total}, about {duration(left)} left  {note}", markup=False)

    def _draw(self, label: str, done: int, total: int | None, note: str, elapsed: float) -> None:
        from rich import progress as bars

        if self._bars is None:
            columns = (
                bars.TextColumn("{task.description}"),
                bars.BarColumn(bar_width=28),
                bars.MofNCompleteColumn(),
                bars.TimeRemainingColumn(compact=True),
                bars.TextColumn("[dim]{task.fields[note]}"),
            )
            self._bars = bars.Progress(*columns, console=self.console, transient=True)
            self._bars.start()
        if label not in self._tasks:
            self._tasks[label] = self._bars.add_task(label, total=total, completed=done, note=note)
        self._bars.update(self._tasks[label], completed=done, total=total, note=note)

    def _end(self, label: str) -> None:
        self._began.pop(label, None)
        self._told.pop(label, None)
        task = self._tasks.pop(label, None)
        if self._bars is not None and task is not None:
            self._bars.remove_task(task)
            if not self._tasks:
                self._bars.stop()
                self._bars = None


@contextmanager
def shown() -> Iterator[None]:
    """Events are drawn on stderr, or in a notebook, inside the block, unless somebody listens or stderr is closed."""
    if events.anyone_listening() or sys.stderr is None:
        yield
        return
    drawn = notebook.Notebook() if notebook.running() else Terminal()
    with events.listening(drawn):
        try:
            yield
        finally:
            drawn.close()
