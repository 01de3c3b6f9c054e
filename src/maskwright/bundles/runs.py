"""Run folders: what a training leaves behind, named so that a person finds it again.

runs/2026-11-20-unet-carparts-1/
  recipe.yaml  split.json  ledger.json  run.json  events.jsonl  scores.json
  checkpoints/last.pt, best.pt    bundle/    pictures/    report.html
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

from maskwright.core import events, files
from maskwright.core.errors import ModelError

# what says in one number how good a run is, the first that it has -> what a person reads
HEADLINES = {"miou": "mean IoU", "mask_ap": "mask AP", "box_ap": "box AP"}


@dataclass(frozen=True)
class Run:
    """One run folder."""

    path: Path
    record: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def bundle(self) -> Path:
        return self.path / "bundle"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def events_file(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def scores(self) -> dict[str, Any]:
        return _read_json(self.path / "scores.json")

    def headline(self, part: str = "val") -> tuple[str, dict[str, float | None]] | None:
        """Its name in words, and its value, low and high; None where that part was not scored."""
        known = (self.scores.get(part) or {}).get("headlines") or {}
        return next(((words, known[name] or {}) for name, words in HEADLINES.items() if name in known), None)

    def events(self) -> list[dict[str, Any]]:
        return events.read_json_lines(self.events_file) if self.events_file.is_file() else []

    def status(self) -> tuple[str, str]:
        """The status and its hint: running, finished, stopped, out of memory, data error, failed, ..."""
        told = [e for e in self.events() if e.get("event") == "status"]
        if not told:
            return "failed", "it wrote no events"
        last = told[-1]
        status, hint = str(last.get("status")), "; ".join(str(last[k]) for k in ("text", "hint") if last.get(k))
        if status == "running" and not _alive(last.get("pid")):
            return "stopped", f"its process is gone; go on with: maskwright train {self.path} --resume"
        return status, hint

    def _repr_html_(self) -> str:
        """Name, status, validation score, and the pictures it kept of its worst answers."""
        measure, told = self.headline() or ("", {})
        score = told.get("value")
        words = [self.status()[0], *([] if score is None else [f"{measure} {score:.3f}"]), str(self.path)]
        data = [
            base64.b64encode(p.read_bytes()).decode() for p in sorted(self.path.glob("pictures/val_*_predicted.webp"))
        ]
        images = "".join(f'<img height="160" src="data:image/webp;base64,{one}"> ' for one in data[:4])
        return f"<b>{escape(self.name)}</b><br>{escape(', '.join(words))}<br>{images}"

    def write_record(self, **fields: Any) -> None:
        self.record.update(fields)
        files.write_json(self.path / "run.json", {"schema": 1, **self.record})


def create(home: Path, model: str, data_name: str, now: datetime | None = None) -> Run:
    """A new folder `<date>-<model>-<data>-<number>` below `home`. Raises SetupError when it cannot be written."""
    files.check_writable(home)
    date = (now or datetime.now()).strftime("%Y-%m-%d")
    stem = f"{date}-{_slug(model)}-{_slug(data_name)}"
    number = 1
    while True:
        path = home / f"{stem}-{number}"
        try:
            path.mkdir()
            break
        except FileExistsError:
            number += 1
    (path / "checkpoints").mkdir()
    return Run(path, {"name": path.name})


def load(path: str | Path) -> Run:
    """The run in a folder. Raises ModelError when it is none."""
    path = Path(path)
    if not (path / "run.json").is_file():
        raise ModelError(
            "is not a run folder (no run.json in it)", place=path, hint="`maskwright runs` lists your runs"
        )
    return Run(path, _read_json(path / "run.json"))


def all_runs(home: Path) -> Iterator[Run]:
    """The runs below a folder, oldest first."""
    found = [load(p.parent) for p in home.glob("*/run.json")] if home.is_dir() else []
    return iter(sorted(found, key=lambda run: (str(run.record.get("created", "")), run.name)))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", text.lower())[:24] or "data"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _alive(pid: Any) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
