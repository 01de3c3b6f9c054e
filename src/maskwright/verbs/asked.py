"""What `evaluate` and `tune-thresholds` are asked to look at: labelled images, or one part of them, read as the model's own
recipe read its data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maskwright.core.words import counted

if TYPE_CHECKING:
    from maskwright.core.table import Data


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

    def images(self, model: Path | None = None) -> tuple[Data, int]:
        """The labelled images, inspected, and how many items were refused. model: whose recipe and split are used."""
        if self.data.endswith((".yaml", ".yml")):
            return self._of_recipe()
        from maskwright.core import events
        from maskwright.core import recipe as recipes
        from maskwright.data import edit
        from maskwright.data import split as splits
        from maskwright.data.prepare import gather
        from maskwright.verbs.check import options_placed

        recipe = recipes.build({"data": [self._source(model)], "allow_refused": self.allow_refused})
        with options_placed():
            gathered = gather(recipe)
        found, part = gathered.inspected.data, self.part
        trained = _run_split(model)
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
        if trained is not None and (seen := len(set(trained.train) & set(ids))):
            events.warn(f"{seen} of {counted(len(ids), 'image')} trained the model: the scores flatter it")
        return self._not_empty(edit.select(found, ids), part or "all"), gathered.ledger.num_refused

    def _of_recipe(self) -> tuple[Data, int]:
        from maskwright.core import recipe as recipes
        from maskwright.data.prepare import prepare
        from maskwright.verbs.train import mistakes_placed

        recipe = recipes.load(self.data, {"allow_refused": True} if self.allow_refused else {})
        with mistakes_placed(Path(self.data), {}):
            prepared = prepare(recipe)
        parts = {"train": prepared.train, "val": prepared.val, "test": prepared.test, "all": prepared.data}
        part = self.part or "val"
        return self._not_empty(parts[part], part), prepared.ledger.num_refused

    def _not_empty(self, data: Data, part: str) -> Data:
        from maskwright.core.errors import DataError

        if not len(data):
            hint = "give a split file with `--split runs/NAME/split.json`, or leave out `--part`"
            raise DataError(f"no image is in the part `{part}`", place=self.data, hint=hint)
        return data

    def _source(self, model: Path | None) -> dict[str, Any]:
        """The data source, read as the model's own recipe read its data, unless format or options are given."""
        from maskwright.bundles import bundle as bundles
        from maskwright.core import recipe as recipes
        from maskwright.data.open import recognise

        source: dict[str, Any] = {"path": self.data}
        name = self.format or recognise(Path(self.data))[0]
        options = recipes.as_pairs(self.option)
        if model is not None and model.is_dir():
            recipe_file = bundles.load(model).path / bundles.RECIPE
            for known in recipes.load(recipe_file).data if recipe_file.is_file() else []:
                if known.format is None or known.format.name == name:
                    source |= {"classes": known.classes, "keep": known.keep, "components": known.components}
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
