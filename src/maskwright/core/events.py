"""What the tool says while it works: named events with fields, handed to whoever listens.

Receivers are functions `(Event) -> None`: the terminal (progress bars), a run's `events.jsonl`, a notebook. Code that works
calls `emit` or walks through `progress(...)`; it never prints. With no receiver nothing happens.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Event:
    """name: what happened (`say`, `warn`, `progress`, `epoch`, `status`, ...); fields: plain JSON values."""

    name: str
    fields: dict[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)


Receiver = Callable[[Event], None]
_receivers: list[Receiver] = []


def emit(name: str, **fields: Any) -> None:
    """Hands an event to every receiver."""
    if _receivers:
        event = Event(name, fields)
        for receiver in list(_receivers):
            receiver(event)


def say(text: str, **fields: Any) -> None:
    """A line for the person: what was chosen and why."""
    emit("say", text=text, **fields)


def warn(text: str, **fields: Any) -> None:
    """A line the person should not miss."""
    emit("warn", text=text, **fields)


def progress(items: Iterable[T], label: str, total: int | None = None, unit: str = "images") -> Iterator[T]:
    """Walks through `items` and tells how far it is; a terminal shows a bar with ETA when it takes over two seconds."""
    if total is None:
        total = len(items) if isinstance(items, Sized) else None
    emit("progress", label=label, done=0, total=total, unit=unit)
    told = time.monotonic()
    done = 0
    try:
        for item in items:
            yield item
            done += 1
            if time.monotonic() - told >= 0.1:
                told = time.monotonic()
                emit("progress", label=label, done=done, total=total, unit=unit)
    finally:
        emit("progress", label=label, done=done, total=total, unit=unit, ended=True)


@contextmanager
def listening(*receivers: Receiver) -> Iterator[None]:
    """The receivers hear every event inside the block."""
    _receivers.extend(receivers)
    try:
        yield
    finally:
        for receiver in receivers:
            _receivers.remove(receiver)


def anyone_listening() -> bool:
    return bool(_receivers)


def duration(seconds: float) -> str:
    """`42 s`, `3 min 20 s`, `2 h 05 min`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class JsonLines:
    """A receiver that appends every event but progress to a file, one JSON object a line, flushed at once."""

    def __init__(self, path: Path):
        self.path = path
        if path.is_file() and (content := path.read_bytes()) and not content.endswith(b"\n"):
            with path.open("ab") as file:  # a crash cut the last line; the next one must not be glued to it
                file.write(b"\n")

    def __call__(self, event: Event) -> None:
        if event.name == "progress":
            return
        line = json.dumps({"time": round(event.time, 3), "event": event.name, **event.fields}, default=str)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The events of a file; a last line that was cut by a crash is left out."""
    events = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return events
