"""From a recipe to the images that train, validate and test: opened, edited, inspected, split, every item accounted for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.core import events
from maskwright.core.errors import DataError, MaskwrightError, RecipeError
from maskwright.core.recipe import Recipe, Source
from maskwright.core.table import Data
from maskwright.core.words import counted
from maskwright.data import edit, split
from maskwright.data.inspect import Inspected, inspect
from maskwright.data.ledger import Ledger
from maskwright.data.open import open_data
from maskwright.data.split import Leak, Split

UNMEASURED = "val: none, all images train"


@dataclass(frozen=True)
class Prepared:
    """Everything a training needs to know of its data.

    data: all images that are left; train, val, test: parts of it (test may be empty, and val with `val: none`).
    inspected: pixel counts of `data`, row by row. formats: of each source, with why it was recognised.
    """

    data: Data
    train: Data
    val: Data
    test: Data
    split: Split
    inspected: Inspected
    ledger: Ledger
    formats: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        return self.data.classes

    def facts(self) -> dict[str, Any]:
        """Plain values for the report: images, classes with objects and pixels, the split, the ledger's totals."""
        pixels = self.inspected.pixels
        total = max(1, int(pixels.sum()))
        rows = zip(self.classes, self.inspected.objects, pixels.sum(0), (pixels > 0).sum(0), strict=True)
        void = int(self.inspected.void.sum())
        return {
            "format": ", ".join(dict.fromkeys(self.formats)),
            "images": {part: len(ids) for part, ids in self.split.parts().items()},
            "split_how": self.split.how,
            "classes": [
                {
                    "name": name,
                    "objects": int(objects),
                    "images": int(images),
                    "pixels": int(count),
                    "share": count / total,
                }
                for name, objects, count, images in rows
            ],
            "void_share": void / (total + void),
            "ledger_totals": self.ledger.totals(),
            "ledger_digest": digest(self.ledger),
        }


@dataclass(frozen=True)
class Gathered:
    """What the sources of a recipe hold, before it is split. roles: of each source, "data", "val" or "test"."""

    inspected: Inspected
    ledger: Ledger
    formats: tuple[str, ...]
    roles: tuple[str, ...]


def gather(recipe: Recipe) -> Gathered:
    """Opens, edits and inspects the sources of a recipe, and limits negatives and the number of images as it says.

    Raises DataError when items were refused (unless `allow_refused`), when no image is left, and for everything the
    readers refuse as a whole.
    """
    ledger = Ledger()
    found = list(read(recipe, ledger))
    inspected = inspect(edit.merge([part.data for part in found]), ledger)
    _stop_when_refused(ledger, recipe)
    if not len(inspected.data):
        raise DataError("no usable image is left", place=recipe.data[0].path, hint="`maskwright check` says why")
    seed = recipe.split.seed
    kept = _with_fewer_negatives(recipe, inspected, tuple(part.role for part in found))
    fewer = edit.sample(kept.data, recipe.limit, seed=seed, presence=kept.presence)
    kept = kept.select(_rows(kept.data, fewer))
    return Gathered(kept, ledger, tuple(part.format for part in found), tuple(part.role for part in found))


def prepare(recipe: Recipe) -> Prepared:
    """The images that train, validate and test. Raises what `gather` raises, and DataError when a split cannot be made."""
    gathered = gather(recipe)
    kept = gathered.inspected
    parts = _fewer(recipe, kept, _split(recipe, kept, gathered.roles))
    _warn_of_leaks(split.leaks(parts, kept.digest_of))
    train, val, test = (edit.select(kept.data, ids) for ids in (parts.train, parts.val, parts.test))
    return Prepared(kept.data, train, val, test, parts, kept, gathered.ledger, gathered.formats)


def unseen(recipe: Recipe) -> Data:
    """The images that a recipe trains with, those of official lists for other purposes left out, before any is decoded.

    With `limit`, at most so many.
    """
    data = edit.merge([part.data for part in read(recipe, Ledger(), ("data",))])
    trains = [split.role_of(_list_name(data, row)) in (None, "train") for row in range(len(data))]
    if not any(trains):
        raise DataError("no image to train with is left", place=recipe.data[0].path, hint="`maskwright check` says why")
    return edit.sample(data.select(np.flatnonzero(trains)), recipe.limit, seed=recipe.split.seed)


@dataclass(frozen=True)
class Read:
    """One source of a recipe, its classes edited. role: "data", "val" or "test"."""

    role: str
    source: Source
    data: Data
    format: str


def read(recipe: Recipe, ledger: Ledger, roles: Sequence[str] = ("data", "val", "test")) -> Iterator[Read]:
    """The sources of a recipe one after another, each said aloud. Raises what the readers refuse as a whole."""
    for role in roles:
        listed = getattr(recipe, role)
        for number, source in enumerate(listed if isinstance(listed, list) else []):
            data, format = _open(source, ledger, f"{role}.{number}")
            yield Read(role, source, data, format)


def digest(ledger: Ledger) -> str:
    """sha256 of the ledger: two trainings with the same digest met the same data."""
    return hashlib.sha256(json.dumps(ledger.to_json(), sort_keys=True).encode()).hexdigest()


def _open(source: Source, ledger: Ledger, key: str) -> tuple[Data, str]:
    """key: of the source in the recipe, for the place of a mistake."""
    chosen = source.format
    name, options = (chosen.name, chosen.options) if chosen else (None, {})
    try:
        opened = open_data(source.path, format=name, options=options, ledger=ledger)
    except RecipeError as error:  # its place is `format`, or `format coco.crowd`
        option = (error.place or "").partition(".")[2]
        place = f"{key}.format.{option}" if option else f"{key}.format"
        raise RecipeError(error.what, place=f"{place}: {source.path}", hint=error.hint) from error
    events.say(f"{source.path}: {opened.format} ({opened.reason}), {counted(len(opened.data), 'image')}")
    try:
        data = edit.map_classes(opened.data, source.classes) if source.classes else opened.data
        data = edit.keep_classes(data, source.keep) if source.keep else data
        return (edit.with_components(data, int(source.components)) if source.components else data), opened.format
    except RecipeError as error:
        raise RecipeError(error.what, place=f"{key}.{error.place}: {source.path}", hint=error.hint) from error
    except MaskwrightError as error:
        place = f"{source.path}: {error.place}" if error.place else source.path
        raise type(error)(error.what, place=place, hint=error.hint) from error


def _with_fewer_negatives(recipe: Recipe, inspected: Inspected, roles: Sequence[str]) -> Inspected:
    """As few images without objects as the recipe says; those of test images all stay: a score is not to be flattered."""
    data = inspected.data
    of_source = np.array(roles)[data.source] == "test"
    tests = of_source | np.array([split.role_of(_list_name(data, i)) == "test" for i in range(len(data))], np.bool_)
    if tests.all():  # they are what trains
        tests[:] = False
    others = inspected.select(np.flatnonzero(~tests))
    fewer = edit.limit_negatives(others.data, recipe.negatives, seed=recipe.split.seed, presence=others.presence)
    return inspected.select(np.union1d(_rows(data, fewer), np.flatnonzero(tests)))


def _warn_of_leaks(leaks: Sequence[Leak]) -> None:
    """One warning for each pair of parts and reason, however many images it is about."""
    for parts, why in dict.fromkeys((leak.parts, leak.why) for leak in leaks):
        same = [leak for leak in leaks if (leak.parts, leak.why) == (parts, why)]
        shown = f"the same image is in {' and '.join(parts)}: {', '.join(same[0].ids[:3])} ({why})"
        events.warn(shown + (f", and {counted(len(same) - 1, 'more such image')}" if len(same) > 1 else ""))


def _rows(before: Data, after: Data) -> np.ndarray:
    row = {id: i for i, id in enumerate(before.ids)}
    return np.array([row[id] for id in after.ids], np.int64)


def _split(recipe: Recipe, kept: Inspected, roles: Sequence[str]) -> Split:
    """The images of `val:` and `test:` sources go where the recipe says; the rest is split."""
    data, how = kept.data, recipe.split
    if how.file:
        return _of_file(recipe, data)
    role = np.array(roles)[data.source]
    own = np.flatnonzero(role == "data")
    val, test = (tuple(data.ids[int(i)] for i in np.flatnonzero(role == name)) for name in ("val", "test"))
    if recipe.val is not None:
        is_test = np.array([split.role_of(_list_name(data, int(i))) == "test" for i in own])
        train, own_test = (tuple(data.ids[int(i)] for i in own[rows]) for rows in (~is_test, is_test))
    if recipe.val == "none":  # a test list stays one, unless it is all there is
        return Split(train, (), own_test + test, UNMEASURED) if train else Split(own_test, (), test, UNMEASURED)
    if recipe.val is not None:
        if not val:
            raise DataError("no usable image is left of the validation data", place=recipe.val[0].path)
        return Split(train, val, test, "validation data given by the recipe")
    made = split.make(
        data.select(own),
        folds=how.folds,
        fold=how.fold,
        fraction=how.fraction,
        group=how.group,
        stratify=how.stratify,
        seed=how.seed,
        presence=kept.presence[own],
        digests=kept.digest_of,
    )
    return replace(made, test=made.test + test)


def _of_file(recipe: Recipe, data: Data) -> Split:
    """The split of `split.file`; with `val: none` its validation images train too."""
    found = split.load(str(recipe.split.file), data)
    if recipe.val == "none":
        return replace(found, train=found.train + found.val, val=())
    if not found.val:
        hint = "to train without validation say `val: none`"
        raise DataError("`val` is empty", place=recipe.split.file, hint=hint)
    return found


def _fewer(recipe: Recipe, kept: Inspected, parts: Split) -> Split:
    """The split with `train.fraction` of its training images, the classes in balance."""
    share = recipe.train.fraction
    if share == 1:
        return parts
    chosen = set(parts.train)
    train = kept.select([row for row, id in enumerate(kept.data.ids) if id in chosen])
    few = edit.sample(
        train.data, max(1, round(share * len(train.data))), seed=recipe.train.seed, presence=train.presence
    )
    events.say(f"{len(few)} of {counted(len(train.data), 'training image')} are used (train.fraction: {share:g})")
    return replace(parts, train=tuple(few.ids), how=f"{parts.how}; {share:g} of the training images")


def _list_name(data: Data, index: int) -> str | None:
    return None if data.split[index] < 0 else data.split_names[data.split[index]]


def _stop_when_refused(ledger: Ledger, recipe: Recipe) -> None:
    if not ledger.num_refused:
        return
    first = next(ledger.of("refused"))
    what = f"{counted(ledger.num_refused, 'item')} cannot be used, such as {first.item}: {first.why}"
    if recipe.allow_refused:
        events.warn(f"{what}; going on without them (allow_refused), the bundle remembers")
        return
    path = Path(recipe.data[0].path)
    hint = f"`maskwright check {path}` lists them; mend them, or go on without them by adding allow_refused=true"
    raise DataError(what, place=path, hint=hint)
