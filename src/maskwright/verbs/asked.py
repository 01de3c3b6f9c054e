"""What `evaluate` and `tune-thresholds` are asked to look at: labelled images, or one part of them, read as the model's own
recipe read its data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.core.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from maskwright.core.table import Data
    from maskwright.data.split import Split


@dataclass(frozen=True)
class Asked:
    """The options that say which images, as `evaluate` explains them. Raises RecipeError for a part that cannot be."""

    data: str
    part: str | None = None
    split: str | None = None
    format: str | None = None
    option: list[str] = field(default_factory=list)
    allow_refused: bool = False

    def __post_init__(self) -> None:
        from maskwright.core.errors import RecipeError

        if self.part not in (None, "train", "val", "test", "all"):
            raise RecipeError(
                f"no part is called `{self.part}`", place="--part", hint="it can be train, val, test or all"
            )

    def images(self, model: Path | None = None, classes: Sequence[str] = ()) -> tuple[Data, int]:
        """The labelled images, inspected, and how many items were refused.

        model: whose recipe and split are used: a bundle, a run folder, or a file of a model that knows these classes.
        """
        home = None if model is None else _bundle_of(model, classes)
        if self.data.endswith((".yaml", ".yml")):
            return self._of_recipe(home)
        from maskwright.core import events
        from maskwright.core import recipe as recipes
        from maskwright.data import edit
        from maskwright.data import split as splits
        from maskwright.data.prepare import gather
        from maskwright.verbs.check import options_placed

        source = self._source(home, beside=model is not None and model != home == model.parent)
        recipe = recipes.build({"data": [source], "allow_refused": self.allow_refused})
        with options_placed():
            gathered = gather(recipe)
        found, part = gathered.inspected.data, self.part
        trained = _run_split(home)
        own = trained is not None and len(trained.val) > 0 and set(trained.val) <= set(found.ids)
        lists = splits.load(self.split, found) if self.split is not None else trained if own else None
        if lists is not None and part != "all":
            part = part or "val"
            ids = getattr(lists, part)
            whose = "of the model's own run; --part all scores every image"
            whose = f"of {self.split}" if self.split is not None else whose
            events.say(f"scoring {counted(len(ids), f'{part} image')} {whose}")
        elif part in splits.PARTS:
            ids = [record.id for record in found if splits.role_of(record.split) == part]
        else:
            ids = list(found.ids)
        _warn_of_trained(trained, ids)
        return self._not_empty(edit.select(found, ids), part or "all"), gathered.ledger.num_refused

    def _of_recipe(self, home: Path | None) -> tuple[Data, int]:
        from maskwright.core import recipe as recipes
        from maskwright.data.prepare import prepare
        from maskwright.verbs.train import mistakes_placed

        recipe = recipes.load(self.data, {"allow_refused": True} if self.allow_refused else {})
        with mistakes_placed(Path(self.data), {}):
            prepared = prepare(recipe)
        parts = {"train": prepared.train, "val": prepared.val, "test": prepared.test, "all": prepared.data}
        part = self.part or "val"
        _warn_of_trained(_run_split(home), parts[part].ids)
        return self._not_empty(parts[part], part), prepared.ledger.num_refused

    def _not_empty(self, data: Data, part: str) -> Data:
        from maskwright.core.errors import DataError

        if not len(data):
            hint = "give a split file with `--split runs/NAME/split.json`, or leave out `--part`"
            raise DataError(f"no image is in the part `{part}`", place=self.data, hint=hint)
        return data

    def _source(self, home: Path | None, beside: bool) -> dict[str, Any]:
        """The data source, read as the recipe in a bundle read its data, unless format or options are given.

        beside: the model is a file that lies in that bundle; then it is said.
        """
        from maskwright.bundles import bundle as bundles
        from maskwright.core import events
        from maskwright.core import recipe as recipes
        from maskwright.data.open import recognise

        source: dict[str, Any] = {"path": self.data}
        name = self.format or recognise(Path(self.data))[0]
        options = recipes.as_pairs(self.option)
        recipe_file = None if home is None else home / bundles.RECIPE
        for known in recipes.load(recipe_file).data if recipe_file is not None and recipe_file.is_file() else []:
            if known.format is None or known.format.name == name:
                source |= {"classes": known.classes, "keep": known.keep, "components": known.components}
                options = {**(known.format.options if known.format else {}), **options}
                if beside:
                    events.say(f"labels are read as {recipe_file} says, which lies beside the model")
                break
        return {**source, "format": {"name": name, **options}}


def _run_split(home: Path | None) -> Split | None:
    """The split of the run that a bundle lies in, or None."""
    from maskwright.data import split as splits

    file = None if home is None else home.resolve().parent / "split.json"
    return splits.load(file) if file is not None and file.is_file() else None


def _bundle_of(model: Path, classes: Sequence[str]) -> Path | None:
    """The bundle that a model is, or that its file lies in: one that knows the same classes; None: it is a file by itself."""
    from maskwright.bundles import bundle as bundles

    if bundles.is_bundle(model) or bundles.is_bundle(model / "bundle"):
        return bundles.load(model).path
    inside = bundles.is_bundle(model.parent) and bundles.load(model.parent).description.classes == tuple(classes)
    return model.parent if inside else None


def _warn_of_trained(trained: Split | None, ids: Sequence[str]) -> None:
    """Says when images that are scored trained the model. trained: the split of its run."""
    from maskwright.core import events

    if trained is not None and (seen := len(set(trained.train) & set(ids))):
        events.warn(f"{seen} of {counted(len(ids), 'image')} trained the model: the scores flatter it")
