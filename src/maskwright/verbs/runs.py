"""`maskwright runs`: the trainings in a folder with their status and scores."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Listed:
    """One row a run, oldest first."""

    folder: str
    rows: list[dict[str, Any]]
    next: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {"folder": self.folder, "runs": self.rows}

    def show(self, console: Console) -> None:
        from rich.markup import escape
        from rich.table import Table

        if not self.rows:
            console.print(f"no runs in {self.folder}")
            return
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for title, right in (
            ("run", False),
            ("status", False),
            ("score", True),
            ("95 % interval", True),
            ("measure", False),
            ("epochs", True),
        ):
            table.add_column(title, justify="right" if right else "left", no_wrap=not right)
        for row in self.rows:
            score, low, high = (row["score"], row["score_low"], row["score_high"])
            value = "" if score is None else f"{score:.3f}"
            interval = "" if low is None or high is None else f"{low:.3f} .. {high:.3f}"
            measure = row["measure"] or ""
            table.add_row(escape(row["name"]), row["status"], value, interval, measure, str(row["epochs"]))
        console.print(table)
        for row in self.rows:
            if row["hint"] and row["status"] != "finished":
                console.print(f"{row['name']}: {row['hint']}", markup=False, style="dim", soft_wrap=True)


def runs(folder: str = "runs") -> Listed:
    """List the trainings in a folder with status and scores.

    Parameters
    ----------
    folder
        where the runs are.
    """
    import shlex
    from pathlib import Path

    from maskwright.bundles import runs as run_folders

    found = list(run_folders.all_runs(Path(folder)))
    rows = [_row(run) for run in found]
    finished = [row for row in rows if row["status"] == "finished"]
    train = "maskwright train PATH" if folder == "runs" else f"maskwright train PATH --out {shlex.quote(folder)}"
    following = [f"maskwright report {finished[-1]['path']}"] if finished else [] if rows else [train]
    return Listed(folder, rows, following)


def _row(run: Any) -> dict[str, Any]:
    from maskwright.bundles.runs import HEADLINES

    status, hint = run.status()
    found: tuple[str | None, dict[str, Any]] = run.headline() or (None, {})
    measure, told = found
    score = {key: told.get(end) for key, end in (("", "value"), ("_low", "low"), ("_high", "high"))}
    pixels = measure == HEADLINES["miou"]
    epochs = [e for e in run.events() if e.get("event") == "epoch"]
    return {
        "name": run.name,
        "path": str(run.path),
        "status": status,
        "hint": hint,
        "task": run.record.get("task"),
        "measure": measure,
        **{f"score{end}": value for end, value in score.items()},
        **{f"miou{end}": value if pixels else None for end, value in score.items()},  # `score` by its older name
        "epochs": epochs[-1]["epoch"] if epochs else 0,
    }
