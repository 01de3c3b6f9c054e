"""`maskwright evaluate`: scores on original pixels, of a bundle, a model.onnx, or of what another tool found: a folder of
label maps, or objects one by one (`evaluate_objects`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from maskwright.core.types import VOID
from maskwright.verbs import evaluate_objects
from maskwright.verbs.asked import Asked
from maskwright.verbs.evaluate_objects import EvaluatedObjects
from maskwright.verbs.predict import asked_tta

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from maskwright.core.table import Data
    from maskwright.metrics.conventions import Restated
    from maskwright.metrics.scores import Scores
    from maskwright.prediction.predictor import Predictor


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

    def write(self, folder: Path) -> None:
        """scores.json and per_image.csv."""
        from maskwright.core import files

        files.write_json(folder / "scores.json", {"schema": 1, **self.to_json()})
        self.scores.csv(folder / "per_image.csv")


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
    objects: bool = False,
) -> Evaluated | EvaluatedObjects:
    """Score a model, or what another tool found, on labelled images at original size.

    Parameters
    ----------
    model
        a bundle, a run folder, a model.onnx; or of another tool: a folder of index PNGs, a COCO results file, a panoptic JSON,
        the CSV that is handed in to iMaterialist-Fashion.
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
        also print the score as hydrogen-torch or sagemaker would; of objects as imaterialist would.
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
    objects
        the folder holds maps of object numbers: score them one by one.
    """
    from pathlib import Path

    from maskwright.core import terminal

    _check_convention(convention)
    asked = Asked(data, part, split, format, option or [], allow_refused)
    for_pixels = {"--tiles": tiles, "--overlap": overlap, "--flip": flip, "--scales": scales}
    result: Evaluated | EvaluatedObjects
    with terminal.shown():
        if objects or model.lower().endswith((".json", ".csv")):
            _refuse(for_pixels)
            result = evaluate_objects.of_another_tool(model, asked, convention)
        elif _is_folder_of_maps(Path(model)):
            result = _of_maps(model, asked, convention)
        else:
            given = {"tiled": tiles, "overlap": overlap, "tta": asked_tta(flip, scales)}
            result = _of_model(model, asked, convention, runtime=runtime, device=device, **given)
    if out is not None:
        result.write(Path(out))
    return result


def _of_model(model: str, asked: Asked, convention: str | None, **options: Any) -> Evaluated | EvaluatedObjects:
    """Scores of a bundle, a run folder, or a model.onnx. options: of `predictor.load`."""
    from maskwright.prediction import predictor
    from maskwright.prediction.instances import InstancePredictor

    loaded = predictor.load(model, **options)
    if isinstance(loaded, InstancePredictor):
        return evaluate_objects.of_model(loaded, model, asked, convention)
    return _of_pixels(loaded, model, asked, convention)


def _of_pixels(loaded: Predictor, model: str, asked: Asked, convention: str | None) -> Evaluated:
    """Scores of a model that labels pixels."""
    from pathlib import Path

    from maskwright.prediction import evaluation

    _only_pixels(convention)
    labelled, refused = asked.images(Path(model), loaded.classes)
    return _result(evaluation.evaluate(loaded, labelled), model, asked, convention, labelled, refused)


def _of_maps(model: str, asked: Asked, convention: str | None) -> Evaluated:
    """Scores of a folder of label maps."""
    from maskwright.prediction import evaluation

    _only_pixels(convention)
    labelled, refused = asked.images()
    return _result(evaluation.evaluate_folder(model, labelled), model, asked, convention, labelled, refused)


def _result(
    scores: Scores, model: str, asked: Asked, convention: str | None, labelled: Data, refused: int
) -> Evaluated:
    restated = _restated(convention, scores, labelled) if convention else None
    following = [] if convention else [f"maskwright predict {model} PHOTOS --out masks"]
    return Evaluated(scores, model, asked.data, asked.part or "", restated, refused, following)


def _check_convention(convention: str | None) -> None:
    """Raises RecipeError for one that is on no shelf."""
    from maskwright.core.errors import RecipeError
    from maskwright.core.registry import suggestion
    from maskwright.metrics import CONVENTIONS, OBJECT_CONVENTIONS

    if convention is not None and convention not in CONVENTIONS and convention not in OBJECT_CONVENTIONS:
        hint = suggestion(convention, (*CONVENTIONS, *OBJECT_CONVENTIONS))
        raise RecipeError(f"no convention is called `{convention}`", place="--convention", hint=hint)


def _only_pixels(convention: str | None) -> None:
    """Raises RecipeError for a convention that label maps have no score in."""
    from maskwright.core.errors import RecipeError
    from maskwright.metrics import OBJECT_CONVENTIONS

    if convention in OBJECT_CONVENTIONS:
        raise RecipeError("is for objects, one by one", place="--convention", hint="leave it out")


def _refuse(given: dict[str, Any]) -> None:
    """Options of networks and label maps that objects of another tool do not know."""
    from maskwright.core.errors import RecipeError

    for name, value in given.items():
        if value not in (None, False):
            raise RecipeError("does nothing for objects that another tool found", place=name)


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
        hint = f"`maskwright runs {path.parent}` says why; go on with: maskwright train {path} --resume"
        raise ModelError("is a run without a bundle: it has not finished", place=path, hint=hint)
    return True
