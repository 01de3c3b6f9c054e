"""Cutting images into parts that have the same share of every class: for splits, folds and samples.

Chance comes from hashes of seed and id, so that the same images are cut alike on every machine and in every version of
Python and numpy, whatever order the files were found in.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from hashlib import blake2b

import numpy as np

from maskwright.core.table import DROPPED, Data


def stratified(sizes: np.ndarray, counts: np.ndarray, ranks: np.ndarray, room: np.ndarray) -> np.ndarray:
    """The part, int64 (U,), of each unit: one image, or a group of images that must stay together.

    sizes: int (U,), images of the unit. counts: int (U, L), how many of them have each label. ranks: int (U,), a random
    permutation: the order among equals. room: int (K,), images each part should get, summing to sizes.sum(). With units
    of one image every part gets exactly that; no part stays empty while there are units enough.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas, ECML 2011): the rarest label is dealt out first. Unlike
    there, a unit goes to the part that misses most of all its labels together, each counted as a share of its total:
    with parts of fixed size that leaves a third of the imbalance.
    """
    num_parts, total = len(room), int(room.sum())
    room = room.astype(np.float64)
    share = np.maximum(room, 1) / max(
        1, total
    )  # parts of unequal size are compared by how much of their share is missing
    left = counts.sum(axis=0)
    wanted = np.outer(room / max(1, total), left)  # (K, L), images with the label that are still missing
    weights = 1 / np.maximum(1, left)
    part = np.full(len(sizes), -1, np.int64)
    open_units = len(sizes)
    empty = np.ones(num_parts, bool)
    order = np.lexsort((ranks, -sizes))  # large groups first, while there is room to even them out

    def deal(unit: int) -> None:
        nonlocal open_units
        fits = empty if open_units <= empty.sum() else room >= sizes[unit]
        if not fits.any():
            fits = room >= room.max()
        missing = (wanted * (counts[unit] * weights)).sum(axis=1) + room / total
        need = np.round(missing / share, 9)  # rounded: alike everywhere
        turn = (np.arange(num_parts) + ranks[unit]) % num_parts  # among equals, another part each time
        chosen = min(np.flatnonzero(fits), key=lambda k: (-need[k], turn[k]))
        part[unit] = chosen
        room[chosen] -= sizes[unit]
        wanted[chosen] -= counts[unit]
        left[:] -= counts[unit]
        empty[chosen] = False
        open_units -= 1

    while left.any():
        label = int(np.argmin(np.where(left > 0, left, np.iinfo(left.dtype).max)))
        for unit in order[(part[order] < 0) & (counts[order, label] > 0)]:
            deal(int(unit))
    for unit in order[part[order] < 0]:
        deal(int(unit))
    return part


def deal_out(
    ids: Sequence[str], keys: Sequence[Hashable], labels: np.ndarray | None, room: np.ndarray, seed: int
) -> np.ndarray:
    """The part, int64 (N,), of each image. Images with the same key stay together.

    labels: bool (N, L), or None: only the sizes of the parts count. room: int (K,), images each part should get.
    """
    numbers: dict[Hashable, int] = {}
    unit = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
    names = [""] * len(numbers)
    for id, number in zip(ids, unit.tolist(), strict=True):
        names[number] = min(names[number] or id, id)  # the unit's name does not depend on the order of its images
    sizes = np.bincount(unit, minlength=len(names))
    counts = np.zeros((len(names), 0 if labels is None else labels.shape[1]), np.int64)
    if labels is not None:
        np.add.at(counts, unit, labels.astype(np.int64))
    return stratified(sizes, counts, shuffled_ranks(names, seed), room)[unit]


def shuffled_ranks(names: Iterable[str], seed: int) -> np.ndarray:
    """A random permutation, int64 (N,): the place of each name in an order drawn by `seed`."""
    drawn = [blake2b(f"{seed}/{name}".encode(errors="surrogatepass"), digest_size=16).digest() for name in names]
    ranks = np.empty(len(drawn), np.int64)
    ranks[sorted(range(len(drawn)), key=drawn.__getitem__)] = np.arange(len(drawn))
    return ranks


def whole_shares(shares: Sequence[float], total: int) -> np.ndarray:
    """int64 (K,) summing to `total`, as near to shares * total as whole numbers can be (largest remainders first)."""
    exact = np.asarray(shares, np.float64) / sum(shares) * total
    whole = np.floor(exact + 1e-9).astype(np.int64)
    rest = np.argsort(whole - exact, kind="stable")[: total - whole.sum()]
    whole[rest] += 1
    return whole


def strata(data: Data, presence: np.ndarray | None) -> np.ndarray | None:
    """What parts should have equal shares of, bool (N, L): each class, and images with no object at all.

    presence: bool (N, C), from `inspect`; without it the drawn regions say it, and label-map files (whose pixels nobody
    has read) leave nothing to go by: None.
    """
    if presence is None:
        presence = drawn(data)
    if presence is None:
        return None
    objects = presence[:, 1:] if data.has_background else presence
    return np.column_stack([objects, ~objects.any(axis=1)])


def drawn(data: Data) -> np.ndarray | None:
    """The classes with a region in each image, bool (N, C); None when some image has a label-map file instead."""
    if (data.coding >= 0).any():
        return None
    presence = np.zeros((len(data), len(data.classes)), bool)
    images, numbers = data.region_numbers()
    labels = data.regions.label[numbers]
    shown = labels != DROPPED
    presence[images[shown], labels[shown]] = True
    return presence
