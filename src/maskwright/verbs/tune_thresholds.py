"""`maskwright tune-thresholds`: which score, NMS, mask threshold and least area suit a model that finds objects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from maskwright.core.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from maskwright.bundles.bundle import Description
    from maskwright.prediction.tuning import Tuned


@dataclass(frozen=True)
class TunedThresholds:
    """What was found. stored: the files that hold the new thresholds; none with `--dry-run`, and without a sure gain."""

    tuned: Tuned
    model: str
    data: str
    part: str
    seconds: float
    stored: list[str]
    dry_run: bool = False
    next: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        about = {"model": self.model, "data": self.data, "part": self.part}
        return {**about, **self.tuned.to_json(), "seconds": round(self.seconds, 1), "stored": self.stored}

    def show(self, console: Console) -> None:
        from rich.markup import escape

        known = self.tuned
        console.print(f"[bold]{escape(self.model)}[/] on {escape(self.data)} {self.part}".rstrip(), soft_wrap=True)
        old, new = known.before.to_json(), known.after.to_json()
        for name in old:
            changed = (
                f"{_text(old[name])} -> [bold]{_text(new[name])}[/]" if old[name] != new[name] else _text(new[name])
            )
            console.print(f"  {name:10} {changed}")
        console.print(
            f"{known.metric}: {known.value_before:.3f} -> {known.value_after:.3f} on the "
            f"{counted(known.images, 'image')} that they were chosen on",
            soft_wrap=True,
        )
        console.print(
            f"gain on images they were not chosen on: {known.honest} (chosen on half of the images, measured on the other "
            f"half, both ways; 95 % interval); {counted(known.settings, 'setting')} tried in {self.seconds:.0f} s",
            soft_wrap=True,
        )
        if self.stored:
            for path in self.stored:
                console.print(f"stored in {path}", markup=False, soft_wrap=True)
        elif known.after == known.before:
            console.print("the model has the best of all settings already: nothing to store")
        elif not known.sure:
            console.print(
                "[yellow]not stored: this gain cannot be told from none.[/] More images may tell; `--force` stores it anyway",
                soft_wrap=True,
            )
        elif self.dry_run:
            console.print("not stored: a dry run")


def tune_thresholds(
    bundle: str,
    data: str,
    *,
    part: str | None = None,
    split: str | None = None,
    format: str | None = None,
    option: list[str] | None = None,
    metric: str = "f1",
    exclusive: bool | None = None,
    dry_run: bool = False,
    force: bool = False,
    allow_refused: bool = False,
    runtime: str = "auto",
    device: str = "auto",
) -> TunedThresholds:
    """Find what counts as an object on labelled images: score, NMS, mask threshold, least area; keep it in the bundle.

    Parameters
    ----------
    bundle
        a bundle or a run folder of a model that finds objects, or its model.onnx.
    data
        labelled images, or a recipe (its classes and split are used). Take validation images, not those of the test.
    part
        train, val, test or all: by the split, the model's own run, or the data's lists; left out: val of a split, else all.
    split
        a split file, as every run has one.
    format
        label format; left out: recognised.
    option
        key=value for the reader, as in `--option border=class`.
    metric
        f1, f1_50 (at an overlap of a half), imaterialist, or mask_ap (which no score threshold raises).
    exclusive
        one pixel, one object: the surer one keeps it; left out: as the model has it.
    dry_run
        store nothing.
    force
        store thresholds although their gain cannot be told from none.
    allow_refused
        tune although items of the data were refused.
    runtime
        auto, onnx or torch.
    device
        for torch: auto, cpu, cuda, mps.
    """
    import time
    from pathlib import Path

    from maskwright.core import events, terminal
    from maskwright.core.errors import RecipeError
    from maskwright.core.registry import suggestion
    from maskwright.metrics import decided
    from maskwright.prediction import predictor, tuning
    from maskwright.prediction.instances import InstancePredictor
    from maskwright.verbs.asked import Asked

    if metric not in decided.MEASURES:
        hint = suggestion(metric, decided.MEASURES)
        raise RecipeError(f"no measure to tune by is called `{metric}`", place="--metric", hint=hint)
    with terminal.shown():
        loaded = predictor.load(bundle, runtime=runtime, device=device)
        if not isinstance(loaded, InstancePredictor):
            raise RecipeError("is for models that find objects", place="tune-thresholds", hint="this one labels pixels")
        asked = Asked(data, part, split, format, option or [], allow_refused)
        labelled, _ = asked.images(Path(bundle), loaded.classes)
        if part == "test":
            events.warn("tuned on test images: scores on them flatter the model from now on")
        began = time.perf_counter()
        tuned = tuning.search(tuning.look(loaded, labelled, exclusive=exclusive), loaded.thresholds, metric)
        seconds = time.perf_counter() - began
        stored: list[str] = []
        if not dry_run and tuned.after != tuned.before and (tuned.sure or force):
            if not tuned.sure:
                events.warn("stored by --force: the gain cannot be told from none")
            record = {**tuned.to_json(), "seconds": round(seconds, 1)}
            stored = _store(Path(bundle), loaded.description, tuned, record)
    following = [f"maskwright predict {bundle} PHOTOS --out masks"] if stored else []
    if dry_run and tuned.sure:
        following = [f"maskwright tune-thresholds {bundle} {data}{_again(part, split, metric, exclusive)}"]
    return TunedThresholds(tuned, bundle, data, part or "", seconds, stored, dry_run, following)


def _store(path: Path, known: Description, tuned: Tuned, record: dict[str, Any]) -> list[str]:
    """Writes the thresholds, and how they were found as `scores["thresholds"]`, into bundle.json and model.onnx."""
    from dataclasses import replace

    from maskwright.bundles import bundle as bundles

    scores = {**known.scores, "thresholds": record}
    description = replace(known, thresholds=tuned.after.to_json(), scores=scores)
    if path.suffix == ".onnx" and not (path.name == bundles.ONNX and bundles.is_bundle(path.parent)):
        return [_describe(path, description)]
    path = path.parent if path.suffix == ".onnx" else path
    found = bundles.load(path)
    described = [] if found.onnx is None else [_describe(found.onnx, description)]
    bundles.save_description(found.path, description)
    return [str(found.path / bundles.DESCRIPTION), *described]


def _describe(onnx: Path, description: Description) -> str:
    """Writes the description into a model.onnx, which is whole at every moment. Raises SetupError without `onnx`."""
    import json
    import shutil

    from maskwright.core import files
    from maskwright.core.registry import missing_package
    from maskwright.exports import onnx_files

    try:
        with files.written_whole(onnx) as temporary:
            shutil.copyfile(onnx, temporary)
            onnx_files.describe(temporary, {"maskwright": json.dumps(description.to_json())})
    except ModuleNotFoundError as error:
        raise missing_package(error.name or "onnx", "a model.onnx with other thresholds") from error
    return str(onnx)


def _again(part: str | None, split: str | None, metric: str, exclusive: bool | None) -> str:
    """The options of the command that stores what `--dry-run` found."""
    given = {"--part": part, "--split": split, "--metric": None if metric == "f1" else metric}
    text = "".join(f" {name} {value}" for name, value in given.items() if value is not None)
    return text if exclusive is None else f"{text} --{'' if exclusive else 'no-'}exclusive"


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}"
