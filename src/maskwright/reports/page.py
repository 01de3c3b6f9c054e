"""The page: a run folder becomes one HTML file that opens offline, loads nothing, and stays below 5 MB.

Whatever is missing from the folder, or was cut short by a crash, is left out of the page; it says what is known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from maskwright.bundles.runs import Run
from maskwright.core.errors import DataError
from maskwright.core.files import write_text
from maskwright.imaging.palette import VOID_COLOUR
from maskwright.reports import facts, measures, pictures
from maskwright.reports.figures import is_number
from maskwright.reports.pictures import Pictures
from maskwright.reports.words import css, environment

LIMIT = 5_000_000  # bytes of the whole page
SPARE = 100_000  # for the words around the pictures
LONGEST_RECIPE = 100_000
MARKS = {"finished": ("good", "✓"), "running": ("busy", "●"), "stopped": ("pause", "❙❙")}
CONTENTS = ("run.json", "recipe.yaml", "split.json", "ledger.json", "events.jsonl", "scores.json", "pictures")


@dataclass(frozen=True)
class Written:
    """A page on disk. size: bytes. notes: what was left out or made smaller, as sentences."""

    path: Path
    size: int
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Contents:
    """What a run folder holds, as parsed values; empty where a file is missing. damaged: files that could not be read."""

    run: dict[str, Any]
    recipe: str
    ledger: dict[str, Any]
    scores: dict[str, Any]
    pictures: dict[str, Any]
    events: list[dict[str, Any]]
    status: str
    hint: str
    damaged: tuple[str, ...]


def write(folder: str | Path, out: str | Path | None = None) -> Written:
    """Writes the page of a run folder to `out` (default: report.html in the folder), whole or not at all.

    Raises DataError when the folder holds nothing of a run, SetupError when `out` cannot be written or jinja2 is missing.
    """
    folder = Path(folder)
    path = Path(out) if out is not None else folder / "report.html"
    text, notes = render(folder)
    write_text(path, text)
    return Written(path, path.stat().st_size, notes)


def render(folder: Path) -> tuple[str, tuple[str, ...]]:
    """The page as text, and what was left out of it."""
    if not any((folder / name).exists() for name in CONTENTS):
        what = "is not a run folder (nothing of a run in it)" if folder.is_dir() else "not found"
        raise DataError(what, place=folder, hint="`maskwright runs` lists your runs")
    contents = read(folder)
    values = context(folder, contents)
    words = template().render(**values, pictures=Pictures())
    room = LIMIT - SPARE - len(words.encode())
    chosen = pictures.choose(folder / "pictures", contents.pictures, room)
    return template().render(**values, pictures=chosen), (*contents.damaged, *chosen.notes)


def read(folder: Path) -> Contents:
    damaged: list[str] = []

    def parsed(name: str) -> dict[str, Any]:
        try:
            value = json.loads((folder / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError):
            value = None
        if not isinstance(value, dict):
            damaged.append(f"{name} is cut short or damaged and could not be read.")
            return {}
        return value

    run = Run(folder)
    try:
        recipe = (folder / "recipe.yaml").read_text(encoding="utf-8", errors="replace")[:LONGEST_RECIPE]
    except OSError:
        recipe = ""
    status, hint = run.status()
    events = [event for event in run.events() if isinstance(event, dict)]
    parts = {"run": "run.json", "ledger": "ledger.json", "scores": "scores.json", "pictures": "pictures/index.json"}
    values = {name: parsed(file) for name, file in parts.items()}
    return Contents(**values, recipe=recipe, events=events, status=status, hint=hint, damaged=tuple(damaged))


def context(folder: Path, contents: Contents) -> dict[str, Any]:
    """Everything the template may name but the pictures."""
    run, sets = contents.run, facts.scored_sets(contents.scores)
    objects = facts.finds_objects(run, sets)
    epochs = facts.epochs(contents.events, objects)
    kind, mark = MARKS.get(contents.status, ("bad", "✕"))
    told = [e for e in facts.of(contents.events, "status") if e.get("status") == contents.status]
    groups = facts.ledger_groups(contents.ledger)
    return {
        "run": run,
        "name": str(run.get("name") or folder.resolve().name),
        "status": {"text": contents.status, "hint": contents.hint, "kind": kind, "mark": mark},
        "error": (told[-1].get("text") or told[-1].get("what")) if told else None,
        "summary": facts.summary(run, contents.status),
        "objects": objects,
        "sets": sets,
        "board": facts.board(sets),
        "charts": facts.curves(contents.events, objects),
        "epochs": epochs,
        "epoch_columns": measures.epoch_columns(epochs),
        "data_classes": facts.labelled(run, objects),
        "totals": totals(contents),
        "groups": groups[: facts.MOST_GROUPS],
        "num_groups": len(groups),
        "ledger_notes": contents.ledger.get("notes") or [],
        "effort": facts.effort(run),
        "machine": facts.machine(run),
        "weights": facts.weights(run),
        "exported": facts.exported(run),
        "recipe": contents.recipe,
        "warnings": [e.get("text") for e in facts.of(contents.events, "warn")][: facts.MOST_LINES],
        "said": [e.get("text") for e in facts.of(contents.events, "say")][: facts.MOST_LINES],
        "damaged": contents.damaged,
        "colours": colours(run),
        "void": css(VOID_COLOUR),
        "style": asset("style.css") + (asset("objects.css") if objects else ""),
        "script": asset("script.js"),
    }


def totals(contents: Contents) -> dict[str, dict[str, Any]]:
    found = contents.ledger.get("totals") or facts.mapping(contents.run.get("data")).get("ledger_totals")
    rows = facts.mapping(found)
    return {kind: facts.mapping(row) for kind, row in rows.items() if facts.mapping(row).get("seen")}


def colours(run: Mapping[str, Any]) -> dict[str, str]:
    """Class name -> CSS colour."""
    names, values = run.get("classes"), run.get("colours")
    if not isinstance(names, list) or not isinstance(values, list):
        return {}
    pairs = ((str(n), v) for n, v in zip(names, values) if isinstance(v, list) and all(is_number(c) for c in v))
    return {name: css(value) for name, value in pairs}


@cache
def template() -> Any:
    return environment().from_string(asset("template.html"))


def asset(name: str) -> str:
    return resources.files("maskwright.reports").joinpath(name).read_text(encoding="utf-8")
