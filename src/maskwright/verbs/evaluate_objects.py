"""The part of `maskwright evaluate` that scores objects, one by one: of a model, or which another tool found, as a COCO results
file, a folder of object-number maps, a panoptic JSON, or the CSV that is handed in to iMaterialist-Fashion."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from maskwright.core.table import Data
    from maskwright.metrics.conventions import Restated
    from maskwright.metrics.instance_scores import InstanceScores
    from maskwright.metrics.panoptic import PanopticScores
    from maskwright.prediction.fashion import Jury
    from maskwright.prediction.instances import InstancePredictor
    from maskwright.verbs.asked import Asked


@dataclass(frozen=True)
class EvaluatedObjects:
    """scores: average precision; panoptic: panoptic quality, where every pixel belongs to one object; restated: the score of a
    convention that was asked for. One of the three is there, others may be None."""

    scores: InstanceScores | None
    panoptic: PanopticScores | None
    model: str
    data: str
    part: str
    refused: int = 0
    next: list[str] = field(default_factory=list)
    restated: Restated | None = None

    def table(self) -> str:
        from maskwright.metrics import instance_tables, panoptic_tables, tables

        parts = [] if self.scores is None else [instance_tables.text(self.scores)]
        parts += [] if self.panoptic is None else [panoptic_tables.text(self.panoptic)]
        return "\n".join(parts if self.restated is None else [*parts, tables.restated_text(self.restated)])

    def to_json(self) -> dict[str, Any]:
        """Where there is only panoptic quality, it stands where average precision would."""
        about = {"model": self.model, "data": self.data, "part": self.part, "refused": self.refused}
        first, second = self.scores or self.panoptic, self.panoptic if self.scores else None
        more = {} if self.restated is None else {"restated": self.restated.to_json()}
        more |= {} if second is None else {"panoptic": second.to_json()}
        return {**about, **({} if first is None else first.to_json()), **more}

    def show(self, console: Console) -> None:
        from rich.markup import escape

        from maskwright.metrics import instance_tables, panoptic_tables, tables

        console.print(f"[bold]{escape(self.model)}[/] on {escape(self.data)} {self.part}".rstrip(), soft_wrap=True)
        if self.scores is not None:
            instance_tables.show(self.scores, console)
        if self.panoptic is not None:
            panoptic_tables.show(self.panoptic, console)
        if self.restated is not None:
            tables.show_restated(self.restated, console)

    def _repr_html_(self) -> str:
        from html import escape

        from maskwright.metrics import panoptic_tables, tables

        more = [] if self.panoptic is None else [panoptic_tables.text(self.panoptic)]
        more += [] if self.restated is None else [tables.restated_text(self.restated)]
        first = "" if self.scores is None else self.scores._repr_html_()
        return first + "".join(f"<pre>{escape(text)}</pre>" for text in more)

    def write(self, folder: Path) -> None:
        """scores.json, and per_image.csv of average precision."""
        from maskwright.core import files

        files.write_json(folder / "scores.json", {"schema": 1, **self.to_json()})
        if self.scores is not None:
            self.scores.csv(folder / "per_image.csv")


def of_model(predictor: InstancePredictor, model: str, asked: Asked, convention: str | None) -> EvaluatedObjects:
    """Scores of a model that finds objects. convention: of objects, or None. Raises RecipeError for one of pixels."""
    from maskwright.core.errors import RecipeError
    from maskwright.metrics import CONVENTIONS
    from maskwright.prediction import instance_evaluation

    if convention in CONVENTIONS:
        raise RecipeError("is for models that label pixels", place="--convention", hint="leave it out")
    labelled, refused = asked.images(Path(model), predictor.classes)
    jury = _jury(convention, labelled.classes, attributes=True)
    scores = instance_evaluation.evaluate(predictor, labelled, jury=jury)
    restated = None if jury is None else jury.restated()
    following = [] if convention else [f"maskwright predict {model} PHOTOS --out masks"]
    return EvaluatedObjects(scores, None, model, asked.data, asked.part or "", refused, following, restated)


def of_another_tool(model: str, asked: Asked, convention: str | None) -> EvaluatedObjects:
    """Scores of a COCO results file, a panoptic JSON, a submission in CSV, or a folder of object-number maps."""
    from maskwright.bundles import bundle as bundles
    from maskwright.core.errors import RecipeError
    from maskwright.metrics import CONVENTIONS

    kind = Path(model).suffix.lower()
    if bundles.is_bundle(model) or bundles.is_bundle(Path(model) / "bundle") or kind == ".onnx":
        hint = "leave it out: what a model finds is scored as its kind is"
        raise RecipeError("is for a folder of object-number maps", place="--objects", hint=hint)
    if convention is not None and (convention in CONVENTIONS or kind != ".json"):
        raise RecipeError("does nothing for objects that another tool found", place="--convention")
    if kind == ".json":
        return _results(model, asked, convention)
    labelled, refused = asked.images()
    return (_submission if kind == ".csv" else _numbers)(model, asked, labelled, refused)


def _submission(model: str, asked: Asked, labelled: Data, refused: int) -> EvaluatedObjects:
    """The competition's score of the CSV that is handed in to iMaterialist-Fashion: it holds no scores of its detections."""
    from maskwright.prediction import fashion

    restated = fashion.score_submission(Path(model), labelled)
    return EvaluatedObjects(None, None, model, asked.data, asked.part or "", refused, restated=restated)


def _numbers(model: str, asked: Asked, labelled: Data, refused: int) -> EvaluatedObjects:
    """Scores of a folder of object-number maps."""
    from maskwright.prediction import instance_evaluation

    scores, quality = instance_evaluation.score_numbers(Path(model), labelled)
    return EvaluatedObjects(scores, quality, model, asked.data, asked.part or "", refused)


def _jury(convention: str | None, classes: tuple[str, ...], *, attributes: bool) -> Jury | None:
    """Who else judges, if a convention of objects was asked for."""
    from maskwright.prediction import fashion

    return None if convention is None else fashion.Jury(classes, attributes=attributes)


def _results(model: str, asked: Asked, convention: str | None) -> EvaluatedObjects:
    """Scores of a JSON: of panoptic segments, or of detections."""
    from maskwright.core import events
    from maskwright.core.errors import RecipeError
    from maskwright.data import split as splits
    from maskwright.prediction import coco_truth, instance_evaluation, panoptic_files

    path, place, before, part = Path(model), Path(asked.data).expanduser(), 0, asked.part
    if panoptic_files.is_panoptic(path):
        if part is not None or asked.split is not None:
            raise RecipeError("a panoptic JSON is scored whole", place="--split" if part is None else "--part")
        if convention is not None:
            raise RecipeError("a panoptic JSON has no score there", place="--convention", hint="leave it out")
        quality = panoptic_files.evaluate(path, place, allow_refused=asked.allow_refused)
        return EvaluatedObjects(None, quality, model, asked.data, "", quality.expected - len(quality.ids))
    json = coco_truth.json_of(place, None if asked.split else part) if asked.format in (None, "coco") else None
    if json is None:
        found, before = asked.images()
        truth = instance_evaluation.truth_of(found, asked.data)
    else:
        truth = coco_truth.read(json)
        if part not in (None, "all") and asked.split is None and place == json:
            events.warn(f"--part {part} says nothing of a single JSON: all its images are scored")
        if asked.split is not None:
            part = part or "val"
            truth = truth if part == "all" else coco_truth.only(truth, getattr(splits.load(asked.split), part))
    jury = _jury(convention, truth.classes, attributes=False)
    scores, refused = instance_evaluation.score_results(path, truth, allow_refused=asked.allow_refused, jury=jury)
    restated = None if jury is None else jury.restated()
    return EvaluatedObjects(scores, None, model, asked.data, part or "", before + refused, restated=restated)
