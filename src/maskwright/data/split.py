"""Splits: which images train, which validate, which test. Drawn once, by seed, and kept in a small file of ids.

Official lists win. Where they leave validation open, one fold (or a share) of what may train is held out, with the same
share of every class and of images without objects; images that belong together stay together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maskwright.core import events, files
from maskwright.core.errors import DataError, RecipeError
from maskwright.core.table import Data
from maskwright.core.words import counted
from maskwright.data.strata import deal_out, strata, whole_shares

SCHEMA = 1
PARTS = ("train", "val", "test")
_TRAIN, _VAL, _TEST, _FREE = 0, 1, 2, -1
_NAMES = {
    _TRAIN: r"train(ing|_?set|ing_?set|val)?",
    _VAL: r"val(id|id_?set|idation|_?set|idation_?set)?|dev",
    _TEST: r"test(ing|_?set|ing_?set)?",
}


@dataclass(frozen=True)
class Split:
    """Ids of the images of each part, in the order of the Data. how: one clause that says where the split is from."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...] = ()
    how: str = ""

    def parts(self) -> dict[str, tuple[str, ...]]:
        return {part: getattr(self, part) for part in PARTS}


@dataclass(frozen=True)
class Leak:
    """Images that are one and the same and stand in more than one part."""

    parts: tuple[str, ...]
    ids: tuple[str, ...]
    why: str


def make(
    data: Data,
    *,
    folds: int = 5,
    fold: int = 0,
    fraction: float | None = None,
    group: str | None = None,
    stratify: bool = True,
    seed: int = 0,
    presence: np.ndarray | None = None,
    digests: Mapping[str, str] | None = None,
) -> Split:
    """Train, validation and test ids. Deterministic: the same images and options give the same split everywhere.

    Each data set's own lists are kept: train and val as they are; train without val: val is held out from it; no list:
    val is held out from everything. A test list always stays a test list, unless it is all there is. Images in no list
    train when there is a val list.

    folds, fold: the images are cut into `folds` parts; number `fold` validates.
    fraction: hold out this share instead of a fold.
    group: regular expression with one group, searched in the id; images with the same text there stay together.
    stratify: equal shares of images of each class (and of images without objects) in all parts.
    seed: another seed draws another split.
    presence: bool (N, C), which image shows which class; without it the drawn regions tell.
    digests: id -> content hash; images of the same content stay together.

    Raises RecipeError for options that cannot be, DataError when there are too few images.
    """
    _check(folds, fold, fraction)
    if not len(data):
        raise DataError("there is no image to split")
    role = _roles(data)
    pool = np.flatnonzero(role == _FREE)
    keys = _keys([data.ids[int(i)] for i in pool], group, digests or {})
    how = _official_words(role)
    if len(pool) and len(set(keys)) < 2 and (role == _VAL).any():
        role[pool] = _TRAIN  # validation is there already
    elif len(pool):
        labels = strata(data, presence) if stratify else None
        held_out, words = _held_out(data, pool, keys, labels, folds=folds, fold=fold, fraction=fraction, seed=seed)
        role[pool] = np.where(held_out, _VAL, _TRAIN)
        how = f"{how}; {words}" if how else words
        how += f", grouped by `{group}`" if group else ""
    elif fraction is not None or group is not None or fold:
        events.warn(f"the options of `split` change nothing: the data has {how}")
    train, val, test = (tuple(data.ids[int(i)] for i in np.flatnonzero(role == r)) for r in (_TRAIN, _VAL, _TEST))
    return Split(train, val, test, how)


def save(split: Split, path: Path) -> None:
    """Writes {"schema": 1, "how": ..., "train": [...], "val": [...], "test": [...]}."""
    files.write_json(Path(path), {"schema": SCHEMA, "how": split.how, **{k: list(v) for k, v in split.parts().items()}})


def load(path: Path | str, data: Data | None = None) -> Split:
    """The split in a file that `save`, or a person, wrote. Raises DataError for ids that `data` does not have."""
    path = Path(path)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})", place=path) from error
    except ValueError as error:
        raise DataError(f"is not JSON ({error})", place=path, hint="every run keeps its `split.json`") from error
    form = 'a split file is {"schema": 1, "train": [ids], "val": [ids], "test": [ids]}'
    if not isinstance(stored, dict) or not {"train", "val"} <= stored.keys():
        raise DataError("holds no `train` and `val`", place=path, hint=form)
    if stored.get("schema", SCHEMA) != SCHEMA:
        raise DataError(f"has schema {stored['schema']}, this version reads {SCHEMA}", place=path)
    lists = {part: stored.get(part, []) for part in PARTS}
    for part, ids in lists.items():
        if not isinstance(ids, list) or not all(isinstance(id, str) for id in ids):
            raise DataError(f"`{part}` is not a list of ids", place=path, hint=form)
        if part == "train" and not ids:
            raise DataError(f"`{part}` is empty", place=path)
    train, val, test = (tuple(lists[part]) for part in PARTS)
    split = Split(train, val, test, f"from {path.name}: {stored.get('how', 'ids')}")
    _check_ids(split, data, path)
    return split


def leaks(split: Split, digests: Mapping[str, str]) -> list[Leak]:
    """Ids that stand in two parts, and files of the same content (id -> content hash) that do."""
    found = []
    same: dict[str, list[tuple[str, str]]] = {}
    parts_of: dict[str, list[str]] = {}
    for part, listed in split.parts().items():
        for id in listed:
            parts_of.setdefault(id, []).append(part)
            if id in digests:
                same.setdefault(digests[id], []).append((part, id))
    for id, parts in parts_of.items():
        if len(set(parts)) > 1:
            found.append(Leak(tuple(parts), (id,), "the same id"))
    for members in same.values():
        if len({part for part, _ in members}) > 1 and len({id for _, id in members}) > 1:
            where, ids = tuple(part for part, _ in members), tuple(id for _, id in members)
            found.append(Leak(where, ids, "the same file content"))
    return found


# ---------------------------------------------------------------------------------------------------------- holding out


def _held_out(
    data: Data,
    pool: np.ndarray,
    keys: Sequence[str],
    labels: np.ndarray | None,
    *,
    folds: int,
    fold: int,
    fraction: float | None,
    seed: int,
) -> tuple[np.ndarray, str]:
    """Which images of the pool validate, bool (P,), and how that was found, in words."""
    units = len(set(keys))
    if units < 2:
        what = (
            "there is one image only"
            if len(pool) == 1
            else f"{counted(len(pool), 'image is', 'images are all')} in one group"
        )
        raise DataError(f"{what}: none can be held out for validation", hint="give other images as `val`")
    ids = [data.ids[int(i)] for i in pool]
    labels = None if labels is None else labels[pool]
    drawn = f"stratified by class, seed {seed}" if labels is not None else f"seed {seed}"
    if fraction is not None:
        num = min(max(round(len(pool) * fraction), 1), len(pool) - 1)
        part = deal_out(ids, keys, labels, np.array([len(pool) - num, num]), seed)
        return part == 1, f"{fraction:g} held out from {counted(len(pool), 'image')}, {drawn}"
    if fold >= min(folds, units):
        kind = "group" if units < len(pool) else "image"
        raise DataError(
            f"fold {fold} of {folds} is empty: there are only {counted(units, kind)}", hint="choose a lower `fold`"
        )
    folds = min(folds, units)
    part = deal_out(ids, keys, labels, whole_shares([1] * folds, len(pool)), seed)
    return part == fold, f"fold {fold} of {folds} held out from {counted(len(pool), 'image')}, {drawn}"


def _keys(ids: Sequence[str], group: str | None, digests: Mapping[str, str]) -> list[str]:
    """For each id the name of what must stay together with it: its group, joined with those of equal content."""
    keys = list(ids) if group is None else _groups(ids, group)
    leader: dict[str, str] = {}  # key -> key it was joined to

    def root(key: str) -> str:
        while key in leader:
            key = leader[key]
        return key

    first: dict[str, str] = {}
    for id, key in zip(ids, keys, strict=True):
        if id in digests:
            other = root(first.setdefault(digests[id], key))
            if (own := root(key)) != other:
                leader[own] = other
    return [root(key) for key in keys]


def _groups(ids: Sequence[str], pattern: str) -> list[str]:
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise RecipeError(f"`{pattern}` is not a regular expression ({error})", place="split.group") from error
    if compiled.groups != 1:
        hint = r"mark what names the group with one pair of parentheses, as in `^(.+)_\d+`"
        raise RecipeError(
            f"`{pattern}` has {counted(compiled.groups, 'group')}, not one", place="split.group", hint=hint
        )
    matches = [compiled.search(id) for id in ids]
    missed = [id for id, match in zip(ids, matches, strict=True) if match is None or match[1] is None]
    if ids and len(missed) == len(ids):
        hint = f"an id looks like `{ids[0]}`"
        raise RecipeError(f"`{pattern}` is found in no image id", place="split.group", hint=hint)
    if missed:
        told = counted(len(missed), "id does", "ids do")
        events.warn(f"split.group: {told} not match, each a group of its own: {', '.join(missed[:3])}")
    # "=" and "~" keep a group's text and a lone id apart, should they be equal
    return ["~" + id if m is None or m[1] is None else "=" + m[1] for id, m in zip(ids, matches, strict=True)]


# ------------------------------------------------------------------------------------------------------- official lists


def role_of(list_name: str | None) -> str | None:
    """The part a list's name stands for: `validation` -> "val", `trainval` -> "train"; None for other names."""
    for role, pattern in _NAMES.items():
        if list_name and re.fullmatch(pattern, list_name, re.IGNORECASE):
            return PARTS[role]
    return None


def _roles(data: Data) -> np.ndarray:
    """int (N,): train, val or test by the official lists of each image's data set; free where they leave it open."""
    by_name = np.array([PARTS.index(p) if (p := role_of(n)) else _FREE for n in data.split_names] + [_FREE], np.int64)
    role = by_name[data.split]  # no list is -1, the last entry
    for source in np.unique(data.source):
        here = data.source == source
        has = {r: bool((here & (role == r)).any()) for r in (_TRAIN, _VAL, _TEST, _FREE)}
        if has[_VAL] and (has[_TRAIN] or has[_FREE]):
            role[here & (role == _FREE)] = _TRAIN
        elif has[_TRAIN] or has[_FREE] or has[_VAL]:
            role[here & (role != _TEST)] = _FREE
        else:
            role[here] = _FREE
    return role


def _official_words(role: np.ndarray) -> str:
    counts = {part: int((role == r).sum()) for r, part in enumerate(PARTS)}
    kept = [f"{part} {count}" for part, count in counts.items() if count]
    return f"official lists ({', '.join(kept)})" if kept else ""


# ------------------------------------------------------------------------------------------------------------- checking


def _check(folds: int, fold: int, fraction: float | None) -> None:
    if folds < 2:
        raise RecipeError(f"there must be at least 2 folds (got {folds})", place="split.folds")
    if not 0 <= fold < folds:
        raise RecipeError(f"must be 0 to {folds - 1} (got {fold})", place="split.fold")
    if fraction is not None and not 0 < fraction < 1:
        raise RecipeError(f"must lie between 0 and 1 (got {fraction})", place="split.fraction")


def _check_ids(split: Split, data: Data | None, path: Path) -> None:
    twice = list(_first_double(split))
    if twice:
        raise DataError(f"`{twice[0]}` is listed twice", place=path)
    if data is None:
        return
    known = set(data.ids)
    listed = [id for ids in split.parts().values() for id in ids]
    unknown = [id for id in listed if id not in known]
    if unknown:
        few = ", ".join(f"`{id}`" for id in unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        hint = f"was the file made for other data? An id here looks like `{data.ids[0]}`" if len(data) else None
        raise DataError(f"{len(unknown)} of {len(listed)} ids are not in the data: {few}", place=path, hint=hint)
    if left := len(data) - len(listed):
        events.say(f"{counted(left, 'image is', 'images are')} in no part of {path.name}: left out")


def _first_double(split: Split) -> Iterator[str]:
    seen: set[str] = set()
    for ids in split.parts().values():
        for id in ids:
            if id in seen:
                yield id
            seen.add(id)
