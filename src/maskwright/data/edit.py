"""Editing data sets: classes renamed, merged, dropped; sets united; images chosen. Data in, new Data out.

Nothing is changed in place and no file is touched. Regions are relabelled in one array operation, label-map files
through their Codings, which say what a stored value means.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from maskwright.core.errors import DataError, RecipeError
from maskwright.core.registry import suggestion
from maskwright.core.table import DROPPED, Data, Regions, SparseStrings, Strings
from maskwright.core.types import BACKGROUND, MAX_CLASSES, VOID, Coding
from maskwright.core.words import counted
from maskwright.data.strata import deal_out, shuffled_ranks, strata, whole_shares

# -------------------------------------------------------------------------------------------------------------- classes


def map_classes(data: Data, names: Mapping[str, str | None]) -> Data:
    """The data under other class names: {old: new} renames, two olds with the same new are merged, {old: None} drops.

    Classes that are not named stay. The order is background first, then as they first appear. A dropped class becomes
    background: its regions are not shown, its values in label-map files read as background; in a set of label maps
    without background they read as VOID, which counts nowhere. What no region covers is always background, so that
    class can only be renamed or dropped in sets of label-map files.

    Raises RecipeError for a class that the data does not have, and when no class is left.
    """
    for old in names:
        if old not in data.classes:
            raise RecipeError(f"no class is called `{old}`", place="classes", hint=suggestion(old, data.classes))
    renamed = [names.get(old, old) for old in data.classes]
    if data.has_background and renamed[0] != BACKGROUND and (data.coding < 0).any():
        hint = "it is what no region covers; name the classes around it instead"
        raise RecipeError("`background` cannot be renamed or dropped here", place="classes", hint=hint)
    classes = _in_order(name for name in renamed if name is not None)
    if not set(classes) - {BACKGROUND}:
        raise RecipeError("no class is left", place="classes", hint="keep at least one class besides background")
    index = {name: i for i, name in enumerate(classes)}
    return _relabelled(data, classes, [None if name is None else index[name] for name in renamed])


def keep_classes(data: Data, names: Collection[str]) -> Data:
    """Only these classes, and background where there is one; all others are dropped as in `map_classes`."""
    for name in names:
        if name not in data.classes:
            raise RecipeError(f"no class is called `{name}`", place="keep", hint=suggestion(name, data.classes))
    return map_classes(data, {old: None for old in data.classes if old != BACKGROUND and old not in names})


def _in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Each name once, background first."""
    once = dict.fromkeys(names)
    return tuple(sorted(once, key=lambda name: name != BACKGROUND))


def _relabelled(data: Data, classes: tuple[str, ...], new: Sequence[int | None]) -> Data:
    """new: for each old class its index in `classes`, or None to drop it."""
    table = np.array([DROPPED if n is None else n for n in new] + [DROPPED], np.int16)  # DROPPED = -1 finds the last
    missing = 0 if BACKGROUND in classes else VOID
    codings = tuple(
        replace(
            coding,
            labels=tuple(_coded(label, new, missing) for label in coding.labels),
            others=None if coding.others is None else _coded(coding.others, new, missing),
        )
        for coding in data.codings
    )
    regions = replace(data.regions, label=table[data.regions.label])
    return replace(data, classes=classes, codings=codings, regions=regions)


def _coded(label: int, new: Sequence[int | None], missing: int) -> int:
    if label == VOID:
        return VOID
    mapped = new[label]
    return missing if mapped is None else mapped


def with_components(data: Data, least: int) -> Data:
    """Connected pieces (8 neighbours) of one class become objects in label maps that know no objects.

    least: pixels below which a piece is none, from 1. Raises RecipeError for less, and where no label map is of that kind.
    """
    if least < 1:
        raise RecipeError(f"must be at least 1 pixel (got {least})", place="components")
    bare = (data.coding >= 0) & (np.diff(data.objects.starts) == 0)
    if not bare.any():
        hint = "its objects are drawn or numbered one by one already"
        raise RecipeError("there is no label map without objects here", place="components", hint=hint)
    return replace(data, components=np.where(bare, least, data.components).astype(np.int32))


# -------------------------------------------------------------------------------------------------------------- merging


def merge(sources: Sequence[Data]) -> Data:
    """One Data with the images of all, class lists united by name, background first if any has it.

    `record.source` is the position in `sources`. Ids stay as they are; only those that two sets share get the number of
    their set in front: `0/img_1`, `1/img_1`. Raises DataError for more than 255 classes.
    """
    if len(sources) == 1:
        return replace(sources[0], source=np.zeros(len(sources[0]), np.int16))
    classes = _in_order(name for data in sources for name in data.classes)
    if len(classes) > MAX_CLASSES:
        hint = "merge or drop some with `classes:`"
        raise DataError(
            f"the data sets have {counted(len(classes), 'class')} together, {MAX_CLASSES} is the limit", hint=hint
        )
    index = {name: i for i, name in enumerate(classes)}
    alike = [_relabelled(data, classes, [index[name] for name in data.classes]) for data in sources]
    codings: dict[Coding, int] = {}
    split_names: dict[str, int] = {}
    coding = [_renumbered(d.coding, [codings.setdefault(c, len(codings)) for c in d.codings]) for d in alike]
    split = [_renumbered(d.split, [split_names.setdefault(n, len(split_names)) for n in d.split_names]) for d in alike]
    offsets = np.cumsum([0] + [len(d.regions) for d in alike])
    return Data(
        classes=classes,
        ids=_unique_ids([d.ids for d in alike]),
        images=_joined([d.images for d in alike]),
        label_maps=_joined([d.label_maps for d in alike]),
        objects=_joined([d.objects for d in alike]),
        attributes=_joined([d.attributes for d in alike]),
        sizes=np.concatenate([d.sizes for d in alike]),
        split=np.concatenate(split).astype(np.int16),
        split_names=tuple(split_names),
        coding=np.concatenate(coding),
        codings=tuple(codings),
        components=np.concatenate([d.components for d in alike]),
        upright=np.concatenate([d.upright for d in alike]),
        source=np.repeat(np.arange(len(alike)), [len(d) for d in alike]).astype(np.int16),
        first_region=np.concatenate([d.first_region + o for d, o in zip(alike, offsets)]),
        num_regions=np.concatenate([d.num_regions for d in alike]),
        regions=_joined_regions([d.regions for d in alike]),
    )


def _renumbered(numbers: np.ndarray, new: Sequence[int]) -> np.ndarray:
    return np.array([*new, -1], np.int32)[numbers]  # -1, none, finds the last


def _joined(parts: Sequence[Strings]) -> Strings:
    starts = [np.zeros(1, np.int64)]
    for strings in parts:
        starts.append(starts[-1][-1] + strings.starts[1:] - strings.starts[0])
    buffers = [strings.buffer[strings.starts[0] : strings.starts[-1]] for strings in parts]
    return Strings(np.concatenate(buffers), np.concatenate(starts))


def _unique_ids(parts: Sequence[Strings]) -> Strings:
    count = Counter(id for ids in parts for id in ids)
    if all(n == 1 for n in count.values()):
        return _joined(parts)
    taken = {id for id, n in count.items() if n == 1}
    unique = []
    for source, ids in enumerate(parts):
        for id in ids:
            name = id
            while count[id] > 1 and (name == id or name in taken):
                name = f"{source}/{name}"
            taken.add(name)
            unique.append(name)
    return Strings.pack(unique)


def _joined_regions(parts: Sequence[Regions]) -> Regions:
    plain = {n: np.concatenate([getattr(r, n) for r in parts]) for n in ("label", "crowd", "id", "kind", "num_parts")}
    first_part, starts, stops = [], [], []
    coordinates = counts = num_parts = num_regions = 0
    attributes: dict[int, str] = {}
    for r in parts:
        base = np.where(_kind_of_parts(r) == 1, counts, coordinates)
        starts.append(r.part_start + base)
        stops.append(r.part_stop + base)
        first_part.append(r.first_part + num_parts)
        attributes |= {number + num_regions: text for number, text in r.attributes.items()}
        coordinates, counts = coordinates + len(r.coordinates), counts + len(r.counts)
        num_parts, num_regions = num_parts + len(r.part_start), num_regions + len(r)
    return Regions(
        **plain,
        first_part=np.concatenate(first_part),
        part_start=np.concatenate(starts),
        part_stop=np.concatenate(stops),
        coordinates=np.concatenate([r.coordinates for r in parts]),
        counts=np.concatenate([r.counts for r in parts]),
        attributes=SparseStrings.pack(attributes),
    )


def _kind_of_parts(regions: Regions) -> np.ndarray:
    """uint8 (P,): whether a part is a polygon or run-lengths, from the region it belongs to."""
    total = int(regions.num_parts.sum())
    within = np.arange(total) - np.repeat(np.cumsum(regions.num_parts) - regions.num_parts, regions.num_parts)
    kinds = np.zeros(len(regions.part_start), np.uint8)
    kinds[np.repeat(regions.first_part, regions.num_parts) + within] = np.repeat(regions.kind, regions.num_parts)
    return kinds


# --------------------------------------------------------------------------------------------------------------- images


def select(data: Data, ids: Collection[str]) -> Data:
    """The images with these ids, in the order of the data. Raises DataError for an id that the data does not have."""
    wanted = set(ids)
    found = [i for i, id in enumerate(data.ids) if id in wanted]
    if len(found) < len(wanted):
        missing = sorted(wanted - {data.ids[i] for i in found})
        few = ", ".join(f"`{id}`" for id in missing[:3])
        raise DataError(
            f"{counted(len(missing), 'id is', 'ids are')} not in the data: {few}",
            hint=suggestion(missing[0], data.ids[:1000]),
        )
    return data.select(found)


def drop(data: Data, ids: Collection[str]) -> Data:
    """All images but those with these ids."""
    unwanted = set(ids)
    return data.select([i for i, id in enumerate(data.ids) if id not in unwanted])


def limit_negatives(data: Data, share: float | None, *, seed: int = 0, presence: np.ndarray | None = None) -> Data:
    """At most `share` images without any object for each image with one, in every official list alike.

    share: 0 = none, 0.5 = one for two images with objects, None = all.
    presence: bool (N, C), which image shows which class; without it the drawn regions tell, and a set of label-map
        files raises RecipeError, because nobody has read its pixels.
    """
    if share is None:
        return data
    if share < 0:
        raise RecipeError(f"must not be negative (got {share})", place="negatives")
    labels = strata(data, presence)
    if labels is None:
        raise RecipeError("label maps must be inspected before negatives can be counted", place="negatives")
    negative = labels[:, -1]
    ranks = shuffled_ranks(data.ids, seed)
    keep = ~negative
    for part in _official_parts(data):
        mine = part[negative[part]]
        allowed = int(share * (len(part) - len(mine)) + 1e-9)
        keep[mine[np.argsort(ranks[mine])[:allowed]]] = True
    return data.select(np.flatnonzero(keep))


def sample(data: Data, limit: int | None, *, seed: int = 0, presence: np.ndarray | None = None) -> Data:
    """At most `limit` images with the classes in balance, spread over the official lists (each keeps one at least).

    limit: number of images; None or more than there are = all.
    presence: bool (N, C), which image shows which class; without it the drawn regions tell.
    """
    if limit is None or limit >= len(data):
        return data
    if limit < 1:
        raise RecipeError(f"must be at least 1 (got {limit})", place="limit")
    labels = strata(data, presence)
    parts = _official_parts(data)
    numbers = whole_shares([len(part) for part in parts], limit)
    for starved in np.flatnonzero(numbers == 0)[: max(0, limit - int((numbers > 0).sum()))]:
        numbers[starved] += 1
        numbers[int(np.argmax(numbers))] -= 1
    keep = []
    for part, number in zip(parts, numbers.tolist()):
        if 0 < number < len(part):
            ids = [data.ids[int(i)] for i in part]
            room = np.array([number, len(part) - number])
            part = part[deal_out(ids, ids, None if labels is None else labels[part], room, seed) == 0]
        keep.append(part if number else part[:0])
    return data.select(np.sort(np.concatenate(keep)))


def _official_parts(data: Data) -> list[np.ndarray]:
    """Positions of the images of each official list of each source."""
    keys = np.stack([data.source, data.split], axis=1)
    _, number = np.unique(keys, axis=0, return_inverse=True)
    return [np.flatnonzero(number.reshape(-1) == n) for n in range(int(number.max(initial=-1)) + 1)]
