"""`maskwright train --folds`: one training for each fold of the split, and what they say together."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from maskwright.bundles.runs import Run
    from maskwright.core.recipe import Recipe

# of models that label pixels, and of those that find objects: the headlines that are compared -> what a person reads
MEASURES = (
    {"miou": "mIoU", "pixel_accuracy": "pixel accuracy"},
    {"mask_ap": "mask AP", "mask_ap50": "mask AP50", "box_ap": "box AP"},
)
TABLE = "folds.json"


@dataclass(frozen=True)
class Folded:
    """The runs of all folds. rows: {"fold", "run", "val": {measure: value}, "test": {...} or None}, of MEASURES."""

    folder: str
    rows: list[dict[str, Any]]
    next: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        together = {part: self.together(part) for part in ("val", "test")}
        return {"folder": self.folder, "folds": self.rows, **together}

    def together(self, part: str) -> dict[str, dict[str, float | None]] | None:
        """Mean and standard deviation (n - 1) of each measure over the folds; None when no fold scored that part."""
        told = [row[part] for row in self.rows if row[part]]
        if not told:
            return None
        return {measure: _together([t[measure] for t in told if t[measure] is not None]) for measure in told[0]}

    def show(self, console: Console) -> None:
        from rich.table import Table

        parts = {part: found for part in ("val", "test") if (found := self.together(part))}
        labels = {name: words for measures in MEASURES for name, words in measures.items()}
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        table.add_column("fold")
        for part, found in parts.items():
            for measure in found:
                table.add_column(f"{part} {labels[measure]}", justify="right")
        table.add_column("run", no_wrap=True)
        for row in self.rows:
            cells = [_shown((row[part] or {}).get(m)) for part, found in parts.items() for m in found]
            table.add_row(str(row["fold"]), *cells, str(row["run"]))
        for words, key in (("mean", "mean"), ("standard deviation", "sd")):
            cells = [_shown(value[key]) for found in parts.values() for value in found.values()]
            table.add_row(words, *cells, "", style="bold")
        console.print(table)
        console.print(f"folder: {self.folder}", markup=False, soft_wrap=True)


def begin(out: Path, recipe: Recipe, data_name: str) -> Path:
    """A new folder for the runs of all folds, with the recipe in it. Raises RecipeError when there is no fold to choose."""
    from maskwright.bundles import runs
    from maskwright.core import files
    from maskwright.core.recipe_text import dump

    _check(recipe)
    home = runs.create(out, recipe.model.name, f"{data_name[:18]}-folds").path
    (home / "checkpoints").rmdir()  # each run has its own
    files.write_text(home / "recipe.yaml", dump(recipe))
    files.write_json(home / TABLE, {"schema": 1, **Folded(str(home), []).to_json()})
    return home


def train_all(home: Path, train: Callable[..., object]) -> Folded:
    """Trains every fold that `home` has not finished; one that stopped goes on. train: the verb."""
    from maskwright.core import events, files
    from maskwright.core import recipe as recipes
    from maskwright.core.errors import ModelError

    if not (home / TABLE).is_file():
        hint = "give the folder that holds the runs of the folds"
        raise ModelError(f"is not a folder of folds (no {TABLE} in it)", place=home, hint=hint)
    recipe = recipes.load(home / "recipe.yaml")
    rows: list[dict[str, Any]] = []
    for fold in range(recipe.split.folds):
        known = list(_runs(home, fold))
        if not any(_finished(run) for run in known):
            events.say(f"fold {fold} of {recipe.split.folds}")
            stopped = next((run for run in known if (run.checkpoints / "last.pt").is_file()), None)
            if stopped is not None:
                train(str(stopped.path), resume=True)
            else:
                train(str(home / "recipe.yaml"), {"split.fold": fold}, out=str(home))
        rows.append(_row(fold, next(run for run in _runs(home, fold) if _finished(run))))
        files.write_json(home / TABLE, {"schema": 1, **Folded(str(home), rows).to_json()})
    return Folded(str(home), rows, [f"maskwright runs {home}"])


def _check(recipe: Recipe) -> None:
    """Raises RecipeError when the folds would all be the same."""
    from maskwright.core.errors import RecipeError
    from maskwright.data.prepare import prepare

    split = recipe.split
    for key, given in (("val", recipe.val), ("split.file", split.file), ("split.fraction", split.fraction)):
        if given is not None:
            raise RecipeError("leaves no fold to choose", place=key, hint="leave it out, or train without `--folds`")
    held = []
    for fold in (0, 1):
        chosen = recipe.model_copy(update={"split": split.model_copy(update={"fold": fold})})
        held.append(prepare(chosen).split)
    if held[0].val == held[1].val:
        raise RecipeError(
            f"every fold would validate on the same images: {held[0].how}",
            place="--folds",
            hint="official lists win over folds; give the images without their lists, or train without `--folds`",
        )


def _runs(home: Path, fold: int) -> Iterator[Run]:
    """The runs of a fold in a folder, the latest first."""
    from maskwright.bundles import runs
    from maskwright.core import recipe as recipes

    for run in reversed(list(runs.all_runs(home))):
        if recipes.load(run.path / "recipe.yaml").split.fold == fold:
            yield run


def _finished(run: Run) -> bool:
    return run.status()[0] == "finished" and "val" in run.scores


def _row(fold: int, run: Run) -> dict[str, Any]:
    def told(part: str) -> dict[str, float | None] | None:
        headlines = (run.scores.get(part) or {}).get("headlines")
        measures = MEASURES[1 if headlines and "box_ap" in headlines else 0]
        return headlines and {measure: (headlines.get(measure) or {}).get("value") for measure in measures}

    return {"fold": fold, "run": run.name, "val": told("val"), "test": told("test")}


def _together(values: list[float]) -> dict[str, float | None]:
    mean = statistics.fmean(values) if values else None
    return {"mean": mean, "sd": statistics.stdev(values) if len(values) > 1 else None}


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
