"""`maskwright train`: a recipe, or a folder that nobody prepared, becomes a measured bundle and a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from maskwright.bundles.runs import Run
    from maskwright.core.recipe import Recipe
    from maskwright.metrics.scores import Scores


@dataclass(frozen=True)
class Trained:
    """A finished run. scores: of the validation images; test: of the test images when there are any."""

    run: str
    bundle: str
    report: str
    scores: Scores
    test: Scores | None
    seconds: float
    estimated_seconds: float
    next: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        scores = {"val": self.scores.summary(), "test": self.test.summary() if self.test else None}
        times = {"seconds": round(self.seconds, 1), "estimated_seconds": round(self.estimated_seconds, 1)}
        return {"run": self.run, "bundle": self.bundle, "report": self.report, "scores": scores, **times}

    def show(self, console: Console) -> None:
        from maskwright.metrics import tables

        for part, scores in (("validation", self.scores), ("test", self.test)):
            if scores is not None:
                console.print(f"[bold]{part}[/]")
                tables.show(scores, console)
                console.print()
        for name in ("run", "bundle", "report"):
            console.print(f"{name:>7}: {getattr(self, name)}", markup=False, soft_wrap=True)


def train(
    source: str,
    *changes: str | Mapping[str, Any],
    out: str = "runs",
    limit: int | None = None,
    resume: bool = False,
    allow_refused: bool = False,
) -> Trained:
    """Train on labelled images, score, export, and write a report.

    Parameters
    ----------
    source
        labelled images, a recipe.yaml, or (with `--resume`) the folder of a run that stopped.
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
    """
    from pathlib import Path

    from maskwright.bundles import runs
    from maskwright.core import terminal

    extra: dict[str, Any] = {
        **({"limit": limit} if limit else {}),
        **({"allow_refused": True} if allow_refused else {}),
    }
    with terminal.shown():
        merged = _merged(changes) | extra
        recipe = _recipe(source, merged, resume)
        run = runs.load(source) if resume else _new_run(source, recipe, merged, Path(out))
        with _recorded(run):
            return _train(recipe, run, resume)


def _merged(changes: tuple[str | Mapping[str, Any], ...]) -> dict[str, Any]:
    from maskwright.core import recipe as recipes

    merged: dict[str, Any] = {}
    for change in changes:
        merged |= change if isinstance(change, Mapping) else recipes.as_pairs([change])
    return merged


def _recipe(source: str, changes: dict[str, Any], resume: bool) -> Recipe:
    from pathlib import Path

    from maskwright.core import recipe as recipes
    from maskwright.core.errors import RecipeError
    from maskwright.verbs.new import starting_tree

    if resume:
        if changes:
            raise RecipeError("a run is resumed with its own recipe", place="--resume", hint="leave out the changes")
        own = recipes.load(Path(source) / "recipe.yaml")
        kept = Path(source) / "split.json"  # the same images, whatever was added to the data since
        return (
            own.model_copy(update={"split": own.split.model_copy(update={"file": str(kept)})})
            if kept.is_file()
            else own
        )
    if source.endswith((".yaml", ".yml")):
        return recipes.load(source, changes)
    return recipes.build(starting_tree(str(Path(source).absolute())), changes)


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

    def moved(sources: Any) -> Any:
        return sources and [s.model_copy(update={"path": str(Path(s.path).absolute())}) for s in sources]

    return recipe.model_copy(update={key: moved(getattr(recipe, key)) for key in ("data", "val", "test")})


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
def _recorded(run: Run) -> Iterator[None]:
    """Everything that is said goes into events.jsonl; the status says how the run ended."""
    import os

    from maskwright.core import events
    from maskwright.core.errors import Interrupted, MaskwrightError

    again = f"maskwright train {run.path} --resume"
    with events.listening(events.JsonLines(run.events_file)):
        events.emit("status", status="running", hint="", pid=os.getpid())
        try:
            yield
            events.emit("status", status="finished", hint="")
        except (Interrupted, KeyboardInterrupt):
            saved = (run.checkpoints / "last.pt").is_file()
            hint = f"go on with: {again}" if saved else "nothing was saved yet; start anew"
            events.emit("status", status="stopped", hint=hint)
            raise Interrupted("stopped", place=run.path, hint=hint) from None
        except MaskwrightError as error:
            what = error.what if error.place is None else f"{error.place}: {error.what}"
            events.emit("status", status=error.status, text=what, hint=error.hint or "")
            raise
        except BaseException as error:
            events.emit(
                "status", status="failed", text=f"{type(error).__name__}: {error}", hint="this is a bug of ours"
            )
            raise
        finally:
            _report(run)


def _train(recipe: Recipe, run: Run, resume: bool) -> Trained:
    """Recipe to bundle: data, network, loop, bundle, scores, pictures."""
    from dataclasses import asdict

    from maskwright.core import events, files, terminal
    from maskwright.data import split
    from maskwright.data.prepare import prepare
    from maskwright.imaging.palette import class_colours
    from maskwright.prediction import evaluation, predictor
    from maskwright.report import snapshots
    from maskwright.training import assemble, finish, loop

    assemble.check(recipe)
    prepared = prepare(recipe)
    if not resume:
        split.save(prepared.split, run.path / "split.json")
    files.write_json(run.path / "ledger.json", prepared.ledger.to_json())
    parts = assemble.assemble(recipe, prepared, run, resume=resume)
    run.write_record(data={"paths": [s.path for s in recipe.data], **prepared.facts()}, **parts.record())
    events.say(parts.promise())
    with closing(parts.loader):
        position = loop.train(
            parts.segmenter, parts.loader, parts.optimizer, parts.device, parts.plan, recipe.train, parts.validate
        )
        seen = [snapshots.Sample(*sample) for sample in finish.augmented(parts, snapshots.NUM_TRAIN)]
    parity = finish.bundle(parts, recipe, prepared, run)
    final = predictor.load(run.bundle)
    val = evaluation.evaluate(final, prepared.val, label="score validation images")
    test = evaluation.evaluate(final, prepared.test, label="score test images") if len(prepared.test) else None
    finish.scores(run, val, test)
    colours, loss = class_colours(prepared.classes), finish.loss_of(parts.segmenter)
    snapshots.write(run.path / "pictures", seen, final, prepared.val, val, colours, loss)
    actual = {"seconds": round(position.seconds, 1), "memory_gb": round(parts.device.peak_memory_gb(), 2)}
    run.write_record(actual=actual, export={"onnx": asdict(parity)})
    promised = parts.estimate.seconds
    events.say(
        f"trained {position.epoch} epochs in {terminal.duration(position.seconds)} (estimate: {terminal.duration(promised)}), "
        f"{actual['memory_gb']:.1f} GB at most (estimate: {parts.estimate.memory_gb:.1f} GB); best epoch {position.best_epoch}"
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
