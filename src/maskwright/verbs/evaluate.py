"""`maskwright evaluate`: scores on original pixels, of a bundle, a model.onnx, or a folder of label maps of another tool."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from maskwright.core.types import VOID
from maskwright.core.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from maskwright.core.table import Data
    from maskwright.metrics.conventions import Restated
    from maskwright.metrics.scores import Scores


@dataclass(frozen=True)
class Evaluated:
    """The scores, and the same counts restated in another convention when that was asked for."""

    scores: Scores
    model: str
    data: str
    part: str
    restated: Restated | None = None
    refused: int = 0
    next: list[str] = field(default_factory=list)

    def _repr_html_(self) -> str:
        from html import escape

        if self.restated is None:
            return self.scores._repr_html_()
        known = self.restated
        values = ", ".join(f"{name} {estimate.value:.3f}" for name, estimate in known.values.items())
        return f"{self.scores._repr_html_()}<p><b>{escape(known.name)}</b>: {values}<br>{escape(known.text)}</p>"

    def table(self) -> str:
        from maskwright.metrics import tables

        return tables.text(self.scores)

    def to_json(self) -> dict[str, Any]:
        restated = {} if self.restated is None else {"restated": self.restated.to_json()}
        about = {"model": self.model, "data": self.data, "part": self.part, "refused": self.refused}
        return {**about, **self.scores.to_json(), **restated}

    def show(self, console: Console) -> None:
        from rich.markup import escape

        from maskwright.metrics import tables

        console.print(f"[bold]{escape(self.model)}[/] on {escape(self.data)} {self.part}".rstrip(), soft_wrap=True)
        tables.show(self.scores, console)
        if self.restated is not None:
            console.print()
            tables.show_restated(self.restated, console)


def evaluate(
    model: str,
    data: str,
    *,
    part: str | None = None,
    split: str | None = None,
    format: str | None = None,
    option: list[str] | None = None,
    convention: str | None = None,
    out: str | None = None,
    allow_refused: bool = False,
    tiles: bool = False,
    overlap: float | None = None,
    flip: bool | None = None,
    scales: str | None = None,
    runtime: str = "auto",
    device: str = "auto",
) -> Evaluated:
    """Score a model, or a folder of index PNGs, on labelled images at original size.

    Parameters
    ----------
    model
        a bundle, a run folder, a model.onnx, or a folder of index PNGs that another tool made.
    data
        labelled images, or a recipe (its classes and split are used).
    part
        train, val, test or all: by the split, the model's own run, or the data's lists; left out: val of a split, else all.
    split
        a split file, as every run has one.
    format
        label format; left out: recognised.
    option
        key=value for the reader, as in `--option border=class`.
    convention
        also print the score as hydrogen-torch or sagemaker would.
    out
        folder that gets scores.json and per_image.csv.
    allow_refused
        score although items of the data were refused.
    tiles
        predict overlapping windows of the original pixels.
    overlap
        share of a window that its neighbour sees too, 0 to 0.9; left out: 0.25.
    flip
        also predict the mirrored image and average; left out: as the model's recipe says.
    scales
        sizes to predict at and average, as factors of the network's: 0.75,1,1.25.
    runtime
        auto, onnx or torch.
    device
        for torch: auto, cpu, cuda, mps.
    """
    from pathlib import Path

    from maskwright.core import files, terminal
    from maskwright.metrics import CONVENTIONS
    from maskwright.prediction import evaluation, predictor
    from maskwright.verbs.predict import asked_tta

    if convention is not None:
        CONVENTIONS.check(convention, "--convention")
    with terminal.shown():
        if _is_folder_of_maps(Path(model)):
            labelled, refused = _labelled(None, data, part, split, format, option or [], allow_refused)
            scores = evaluation.evaluate_folder(model, labelled)
        else:
            tta = asked_tta(flip, scales)
            loaded = predictor.load(model, runtime=runtime, device=device, tiled=tiles, tta=tta, overlap=overlap)
            labelled, refused = _labelled(Path(model), data, part, split, format, option or [], allow_refused)
            scores = evaluation.evaluate(loaded, labelled)
    restated = _restated(convention, scores, labelled) if convention else None
    result = Evaluated(scores, model, data, part or "", restated, refused, _next(model, convention))
    if out is not None:
        files.write_json(Path(out) / "scores.json", {"schema": 1, **result.to_json()})
        scores.csv(Path(out) / "per_image.csv")
    return result


def _restated(convention: str, scores: Scores, data: Data) -> Restated:
    from maskwright.metrics import CONVENTIONS

    if "stored_values" in CONVENTIONS.options(convention):
        return CONVENTIONS[convention](scores, stored_values=_stored_values(data))
    return CONVENTIONS[convention](scores)


def _stored_values(data: Data) -> tuple[int, ...] | None:
    """The grey values that label-map files store for classes; None where classes are colours or drawn regions."""
    if not data.codings or any(coding.colour or coding.threshold is not None for coding in data.codings):
        return None
    used = {
        v for coding in data.codings for v, label in zip(coding.values, coding.labels, strict=True) if label != VOID
    }
    return tuple(sorted(used))


def _is_folder_of_maps(path: Path) -> bool:
    from maskwright.bundles import bundle as bundles
    from maskwright.core.errors import ModelError

    if not path.is_dir() or bundles.is_bundle(path) or bundles.is_bundle(path / "bundle"):
        return False
    if (path / "run.json").is_file():
        hint = f"`maskwright runs` says why; go on with: maskwright train {path} --resume"
        raise ModelError("is a run without a bundle: it has not finished", place=path, hint=hint)
    return True


def _labelled(
    model: Path | None,
    data: str,
    part: str | None,
    split: str | None,
    format: str | None,
    option: list[str],
    allow_refused: bool,
) -> tuple[Data, int]:
    """The labelled images of one part, inspected, and how many items were refused."""
    from pathlib import Path

    from maskwright.core import events
    from maskwright.core import recipe as recipes
    from maskwright.core.errors import RecipeError
    from maskwright.data import edit
    from maskwright.data import split as splits
    from maskwright.data.prepare import gather, prepare
    from maskwright.verbs.check import options_placed
    from maskwright.verbs.train import mistakes_placed

    if part not in (None, "train", "val", "test", "all"):
        raise RecipeError(f"no part is called `{part}`", place="--part", hint="it can be train, val, test or all")
    if data.endswith((".yaml", ".yml")):
        recipe = recipes.load(data, {"allow_refused": True} if allow_refused else {})
        with mistakes_placed(Path(data), {}):
            prepared = prepare(recipe)
        parts = {"train": prepared.train, "val": prepared.val, "test": prepared.test, "all": prepared.data}
        return _not_empty(parts[part or "val"], part or "val", data), prepared.ledger.num_refused
    recipe = recipes.build({"data": [_source(model, data, format, option)], "allow_refused": allow_refused})
    with options_placed():
        gathered = gather(recipe)
    found = gathered.inspected.data
    trained = _run_split(model)
    own = trained is not None and set(trained.val) <= set(found.ids)
    lists = splits.load(split, found) if split is not None else trained if own else None
    if lists is not None and part != "all":
        part = part or "val"
        ids = getattr(lists, part)
        whose = f"of {split}" if split is not None else "of the model's own run; --part all scores every image"
        events.say(f"scoring {counted(len(ids), f'{part} image')} {whose}")
    elif part in splits.PARTS:
        ids = [record.id for record in found if splits.role_of(record.split) == part]
    else:
        ids = list(found.ids)
    if trained is not None and (seen := len(set(trained.train) & set(ids))):
        events.warn(f"{seen} of {counted(len(ids), 'image')} trained the model: the scores flatter it")
    return _not_empty(edit.select(found, ids), part or "all", data), gathered.ledger.num_refused


def _not_empty(data: Data, part: str, where: str) -> Data:
    from maskwright.core.errors import DataError

    if not len(data):
        hint = "give a split file with `--split runs/NAME/split.json`, or leave out `--part`"
        raise DataError(f"no image is in the part `{part}`", place=where, hint=hint)
    return data


def _source(model: Path | None, data: str, format: str | None, option: list[str]) -> dict[str, Any]:
    """The data source, read as the model's own recipe read its data, unless format or options are given."""
    from pathlib import Path

    from maskwright.bundles import bundle as bundles
    from maskwright.core import recipe as recipes
    from maskwright.data.open import recognise

    source: dict[str, Any] = {"path": data}
    name = format or recognise(Path(data))[0]
    options = recipes.as_pairs(option)
    if model is not None and model.is_dir():
        recipe_file = bundles.load(model).path / bundles.RECIPE
        for known in recipes.load(recipe_file).data if recipe_file.is_file() else []:
            if known.format is None or known.format.name == name:
                source |= {"classes": known.classes, "keep": known.keep}
                options = {**(known.format.options if known.format else {}), **options}
                break
    return {**source, "format": {"name": name, **options}}


def _run_split(model: Path | None) -> Any:
    """The split of the run that a bundle lies in, or None."""
    from maskwright.bundles import bundle as bundles
    from maskwright.data import split as splits

    if model is None or not model.is_dir():
        return None
    file = bundles.load(model).path.parent / "split.json"
    return splits.load(file) if file.is_file() else None


def _next(model: str, convention: str | None) -> list[str]:
    return [] if convention else [f"maskwright predict {model} PHOTOS --out masks"]
