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
            ("mean IoU", True),
            ("95 % interval", True),
            ("epochs", True),
        ):
            table.add_column(title, justify="right" if right else "left", no_wrap=not right)
        for row in self.rows:
            miou, low, high = (row["miou"], row["miou_low"], row["miou_high"])
            interval = "" if low is None or high is None else f"{low:.3f} .. {high:.3f}"
            table.add_row(
                escape(row["name"]), row["status"], "" if miou is None else f"{miou:.3f}", interval, str(row["epochs"])
            )
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
    from pathlib import Path

    from maskwright.bundles import runs as run_folders

    found = list(run_folders.all_runs(Path(folder)))
    rows = [_row(run) for run in found]
    finished = [row for row in rows if row["status"] == "finished"]
    following = [f"maskwright report {finished[-1]['path']}"] if finished else [] if rows else ["maskwright train PATH"]
    return Listed(folder, rows, following)


def _row(run: Any) -> dict[str, Any]:
    status, hint = run.status()
    val = run.scores.get("val") or {}
    miou = (val.get("headlines") or {}).get("miou") or {}
    epochs = [e for e in run.events() if e.get("event") == "epoch"]
    return {
        "name": run.name,
        "path": str(run.path),
        "status": status,
        "hint": hint,
        "miou": miou.get("value"),
        "miou_low": miou.get("low"),
        "miou_high": miou.get("high"),
        "epochs": epochs[-1]["epoch"] if epochs else 0,
    }
