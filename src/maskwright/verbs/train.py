"""`maskwright train`: a recipe, or a folder that nobody prepared, becomes a measured bundle and a report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from maskwright.core.words import counted
from maskwright.verbs.folds import Folded

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from maskwright.bundles.runs import Run
    from maskwright.core.recipe import Recipe
    from maskwright.prediction.scoring import AnyScores


@dataclass(frozen=True)
class Trained:
    """A finished run. scores: of the validation images, None with `val: none`; test: of the test images, if any."""

    run: str
    bundle: str
    report: str
    scores: AnyScores | None
    test: AnyScores | None
    seconds: float
    estimated_seconds: float
    next: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        parts = {"val": self.scores, "test": self.test}
        scores = {part: found.summary() if found else None for part, found in parts.items()}
        times = {"seconds": round(self.seconds, 1), "estimated_seconds": round(self.estimated_seconds, 1)}
        return {"run": self.run, "bundle": self.bundle, "report": self.report, "scores": scores, **times}

    def _repr_html_(self) -> str:
        from maskwright.reports import notebook

        return notebook.trained(self.run, {"validation": self.scores, "test": self.test})

    def show(self, console: Console) -> None:
        from maskwright.metrics import tabulated

        for part, scores in (("validation", self.scores), ("test", self.test)):
            if scores is not None:
                console.print(f"[bold]{part}[/]")
                tabulated.show(scores, console)
                console.print()
        if self.scores is None:
            told = "on validation images, as all of them trained" if self.test else "on images that did not train"
            console.print(f"[bold]not measured[/] {told} (val: none)")
        for name in ("run", "bundle", "report"):
            console.print(f"{name:>7}: {getattr(self, name)}", markup=False, soft_wrap=True)


def train(
    source: str,
    *changes: str | Mapping[str, Any],
    out: str = "runs",
    limit: int | None = None,
    resume: bool = False,
    allow_refused: bool = False,
    folds: bool = False,
) -> Trained | Folded:
    """Train on labelled images, score, export, and write a report.

    Parameters
    ----------
    source
        labelled images, a recipe.yaml, a shipped recipe (and `data=PATH`), or (with `--resume`) a run that stopped.
    changes
        key=value, as in `train.epochs=20 model.encoder=resnet34`; keys: `maskwright explain recipe`.
    out
        folder that gets the run's own folder.
    limit
        use only so many images: a dry run.
    resume
        go on with the run in `source` where it stopped.
    allow_refused
        train although items of the data were refused.
    folds
        train once for each fold of `split.folds`, into one folder, and compare; `--resume` skips what is finished.
    """
    from pathlib import Path

    from maskwright.bundles import runs
    from maskwright.core import files, terminal

    extra: dict[str, Any] = {
        **({"limit": limit} if limit else {}),
        **({"allow_refused": True} if allow_refused else {}),
    }
    with terminal.shown():
        merged = with_task(merged_changes(changes)) | extra
        if folds:
            return _folds(source, merged, Path(out), resume)
        recipe = recipe_of(source, merged, resume)
        file = Path(source) / "recipe.yaml" if resume else recipe_file(source)
        with files.left_clean(Path(out)):
            run = runs.load(source) if resume else _new_run(source, recipe, merged, Path(out))
            with _recorded(run, resume), mistakes_placed(file, merged):
                return _train(recipe, run, resume)


def _folds(source: str, changes: dict[str, Any], out: Path, resume: bool) -> Folded:
    import shutil
    from pathlib import Path

    from maskwright.bundles import runs
    from maskwright.core import files
    from maskwright.core.errors import MaskwrightError, RecipeError
    from maskwright.verbs import folds

    if resume:
        if changes:
            raise RecipeError("folds are resumed with their own recipe", place="--resume", hint="leave out the changes")
        return folds.train_all(Path(source), train)
    recipe = _absolute(recipe_of(source, changes))
    with mistakes_placed(recipe_file(source), changes), files.left_clean(out):
        home = folds.begin(out, recipe, _data_name(recipe))
        try:
            return folds.train_all(home, train)
        except MaskwrightError as error:
            if any(runs.all_runs(home)):
                raise
            shutil.rmtree(home)  # refused before the first step: the place of the mistake is the recipe that was given
            key = re.sub(rf"^(command line|{re.escape(str(home / 'recipe.yaml'))}(:\d+)?): ", "", error.place or "")
            raise type(error)(error.what, place=key or None, hint=error.hint) from error


def merged_changes(changes: tuple[str | Mapping[str, Any], ...]) -> dict[str, Any]:
    from maskwright.core import recipe as recipes

    merged: dict[str, Any] = {}
    for change in changes:
        merged |= change if isinstance(change, Mapping) else recipes.as_pairs([change])
    return merged


def with_task(changes: dict[str, Any]) -> dict[str, Any]:
    """Changes that name a network for objects, and no task, ask for that task."""
    from maskwright.core import events
    from maskwright.models import INSTANCE_MODELS

    model = changes.get("model.name", changes.get("model"))
    name = model.get("name") if isinstance(model, dict) else model
    if name not in INSTANCE_MODELS or "task" in changes:
        return changes
    events.say(f"task: instance, as `{name}` finds objects")
    return {"task": "instance", **changes}


def recipe_of(source: str, changes: dict[str, Any], resume: bool = False) -> Recipe:
    """The recipe of labelled images, a recipe.yaml, a shipped recipe or, with `resume`, a run, with changes on top."""
    from pathlib import Path

    from maskwright.bundles import runs
    from maskwright.core import recipe as recipes
    from maskwright.core.errors import COMMAND_LINE, RecipeError
    from maskwright.verbs.new import shipped_parts, starting_tree

    if resume:
        if changes:
            raise RecipeError("a run is resumed with its own recipe", place="--resume", hint="leave out the changes")
        runs.load(source)
        own = recipes.load(Path(source) / "recipe.yaml")
        kept = Path(source) / "split.json"  # the same images, whatever was added to the data since
        if not kept.is_file():
            return own
        same = {"split": own.split.model_copy(update={"file": str(kept)})}
        return own.model_copy(update=same | {"train": own.train.model_copy(update={"fraction": 1.0})})
    file = recipe_file(source)
    if file is None:
        return recipes.build(starting_tree(str(Path(source).absolute())), changes, name=COMMAND_LINE)
    if str(file) == source:
        return recipes.load(source, changes)
    if not isinstance(data := changes.get("data"), str):
        hint = f"a shipped recipe needs it: train {source} data=PATH"
        raise RecipeError("is missing", place=f"{COMMAND_LINE}: data", hint=hint)
    rest = {key: value for key, value in changes.items() if key != "data"}
    tree, lines = shipped_parts(source, str(Path(data).absolute()))
    return recipes.build(tree, rest, lines, str(file))


def recipe_file(source: str) -> Path | None:
    """The file of the recipe that `source` names, by its path or as a shipped one; None where it is labelled images."""
    from pathlib import Path

    from maskwright.verbs.new import shipped, shipped_file

    if source.endswith((".yaml", ".yml")):
        return Path(source)
    return shipped_file(source) if source in shipped() and not Path(source).exists() else None


@contextmanager
def mistakes_placed(file: Path | None, changes: Mapping[str, Any]) -> Iterator[None]:
    """Errors about a key of the recipe get the file and line of that key, or the command line where it was changed."""
    from maskwright.core.errors import MaskwrightError
    from maskwright.core.recipe import Recipe
    from maskwright.core.recipe_mistakes import placed

    try:
        yield
    except MaskwrightError as error:
        found = placed(error, file, changes, Recipe.model_fields)
        if found is error:
            raise
        raise found from error


def _new_run(source: str, recipe: Recipe, changes: dict[str, Any], out: Path) -> Run:
    import shlex

    from maskwright.bundles import runs
    from maskwright.core import files
    from maskwright.core.recipe_text import dump
    from maskwright.core.yaml_text import flow

    run = runs.create(out, recipe.model.name, _data_name(recipe))
    command = shlex.join(["maskwright", "train", source, *(f"{key}={flow(value)}" for key, value in changes.items())])
    files.write_text(run.path / "recipe.yaml", dump(_absolute(recipe)))
    run.write_record(**_about(recipe), command=command)
    return run


def _data_name(recipe: Recipe) -> str:
    from pathlib import Path

    path = Path(recipe.data[0].path).absolute()
    generic = {"data", "dataset", "train", "images", "photos", "trainingset", "annotations.json"}
    return path.parent.name if path.name.lower() in generic and path.parent.name else path.name


def _absolute(recipe: Recipe) -> Recipe:
    """The recipe as a run keeps it: it must mean the same from any folder."""
    from pathlib import Path

    from maskwright.core.recipe import with_paths

    return with_paths(recipe, lambda path: str(Path(path).absolute()))


def _about(recipe: Recipe) -> dict[str, Any]:
    from datetime import datetime

    from maskwright.training import surroundings

    return {
        "created": datetime.now().astimezone().isoformat(timespec="seconds"),
        "task": recipe.task,
        "versions": surroundings.versions(),
        "hardware": surroundings.hardware(),
    }


@contextmanager
def _recorded(run: Run, resume: bool) -> Iterator[None]:
    """Everything that is said goes into events.jsonl; the status says how the run ended.

    A run that is refused before its first step leaves no folder.
    """
    import os
    import shutil

    from maskwright.core import events
    from maskwright.core.errors import Interrupted, MaskwrightError

    again = f"maskwright train {run.path} --resume"
    with events.listening(events.JsonLines(run.events_file)):
        events.emit("status", status="running", hint="", pid=os.getpid())
        try:
            yield
            events.emit("status", status="finished", hint=run.record.get("ended", ""))
        except (Interrupted, KeyboardInterrupt):
            saved = (run.checkpoints / "last.pt").is_file()
            hint = f"go on with: {again}" if saved else "nothing was saved yet; start anew"
            events.emit("status", status="stopped", hint=hint)
            raise Interrupted("stopped", place=run.path, hint=hint) from None
        except MaskwrightError as error:
            if not resume and not (run.checkpoints / "last.pt").is_file():
                shutil.rmtree(run.path)
                raise
            what = error.what if error.place is None else f"{error.place}: {error.what}"
            events.emit("status", status=error.status, text=what, hint=error.hint or "")
            raise
        except BaseException as error:
            events.emit(
                "status", status="failed", text=f"{type(error).__name__}: {error}", hint="this is a bug of ours"
            )
            raise
        finally:
            if run.path.is_dir():
                _report(run)


def _train(recipe: Recipe, run: Run, resume: bool) -> Trained:
    """Recipe to bundle: data, network, loop, bundle, scores, pictures."""
    from dataclasses import asdict

    from maskwright.core import events, files, terminal
    from maskwright.data import split
    from maskwright.data.prepare import prepare
    from maskwright.imaging.palette import class_colours
    from maskwright.prediction import predictor, scoring
    from maskwright.reports import snapshots, watch
    from maskwright.training import assemble, finish, loop, tasks

    assemble.check(recipe)
    watched = watch.photos(recipe.watch)
    prepared = prepare(recipe)
    if not resume:
        split.save(prepared.split, run.path / "split.json")
    files.write_json(run.path / "ledger.json", prepared.ledger.to_json())
    parts = assemble.assemble(recipe, prepared, run, resume=resume)
    run.write_record(data={"paths": [s.path for s in recipe.data], **prepared.facts()}, **parts.record())
    events.say(parts.promise())
    if parts.validate is None:
        events.warn("not measured: all images train (val: none), so nothing says how good this model is on others")
    with closing(parts.loader):
        position = loop.train(
            parts.segmenter, parts.loader, parts.optimizer, parts.device, parts.plan, parts.recipe.train, parts.validate
        )
        memory = parts.device.peak_memory_gb()  # of the training, as estimated: scoring comes later
        seen = [snapshots.Sample(*sample) for sample in finish.augmented(parts, snapshots.NUM_TRAIN)]
    parity = finish.bundle(parts, parts.recipe, prepared, run)
    final = predictor.load(run.bundle)
    val, test = (
        scoring.evaluate(final, data, label=f"score {name} images") if len(data) else None
        for name, data in (("validation", prepared.val), ("test", prepared.test))
    )
    finish.scores(run, val, test)
    known, loss = parts.description, tasks.of(parts.recipe).loss_of(parts.segmenter)
    colours = class_colours(known.classes, known.multilabel)
    shown = ("val", prepared.val, val) if val else ("test", prepared.test, test) if test else None
    snapshots.write(run.path / "pictures", seen, final, shown, colours, loss)
    if recipe.watch:
        watch.write(run, final, watched, recipe.watch)
    actual = {"seconds": round(position.seconds, 1), "memory_gb": round(memory, 2)}
    promised = parts.estimate.seconds * position.epoch / parts.estimate.epochs  # of the epochs that were needed
    estimate = {**asdict(parts.estimate), "seconds": promised}
    run.write_record(actual=actual, export={"onnx": asdict(parity)}, estimate=estimate, ended=position.ended)
    events.say(
        f"trained {counted(position.epoch, 'epoch')} in {terminal.duration(position.seconds)} "
        f"(estimate: {terminal.duration(promised)}), "
        f"{actual['memory_gb']:.1f} GB at most (estimate: {parts.estimate.memory_gb:.1f} GB); "
        + (f"best epoch {position.best_epoch}" if val else "the last weights are kept, not measured (val: none)")
    )
    following = [
        f"maskwright predict {run.bundle} PHOTOS --out masks",
        f"maskwright evaluate {run.bundle} {recipe.data[0].path}",
    ]
    return Trained(str(run.path), str(run.bundle), str(run.report), val, test, position.seconds, promised, following)


def _report(run: Run) -> None:
    """The page, whatever became of the run; a page that cannot be written must not hide why a run failed."""
    from maskwright.core import events
    from maskwright.core.errors import MaskwrightError
    from maskwright.verbs.report import report

    try:
        report(str(run.path))
    except MaskwrightError as error:
        events.warn(f"no report: {error}")
