"""`maskwright report`: the page of a run, made again from its folder alone: no data set, no torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console


@dataclass(frozen=True)
class Reported:
    """A written page. size: bytes. notes: what was left out or made smaller, as sentences."""

    run: str
    report: str
    size: int
    notes: tuple[str, ...] = ()
    next: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {"run": self.run, "report": self.report, "bytes": self.size, "notes": list(self.notes)}

    def show(self, console: Console) -> None:
        console.print(f"report: {self.report} ({self.size / 1e6:.1f} MB)", markup=False, soft_wrap=True)
        for note in self.notes:
            console.print(note, markup=False, style="dim", soft_wrap=True)


def report(run: str, *, out: str | None = None) -> Reported:
    """Write one HTML page about a run: scores, pictures, curves, data, and how to repeat it. It opens offline.

    Parameters
    ----------
    run
        folder of a run, finished or not; its bundle will do too.
    out
        file to write; left out: report.html in the run's folder.
    """
    from pathlib import Path

    from maskwright.bundles.bundle import is_bundle
    from maskwright.reports import page

    folder = Path(run)
    if is_bundle(folder) and not (folder / "run.json").is_file():
        folder = folder.resolve().parent
    written = page.write(folder, out)
    return Reported(str(folder), str(written.path), written.size, written.notes, [f"open {written.path}"])
