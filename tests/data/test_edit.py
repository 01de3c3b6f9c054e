"""Editing: what comes out is what a loop over Records would give, and what went in is untouched."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.core.errors import DataError, RecipeError
from maskwright.core.table import Data, Packer
from maskwright.core.types import BACKGROUND, VOID, Coding, Record, Region
from maskwright.data.edit import (
    drop,
    keep_classes,
    limit_negatives,
    map_classes,
    merge,
    sample,
    select,
    with_components,
)

DRAWN = ("background", "cat", "dog", "hat")
PETS = ("background", "cat", "hat")
STORED = ("road", "car", "sky")  # label maps of a street set: no background


def drawn(seed: int, num: int = 6, classes=DRAWN, prefix: str = "img") -> Data:
    """Images with polygons, run-lengths, crowds and attributes at random."""
    rng = np.random.default_rng(seed)
    packer = Packer()
    for i in range(num):
        split = [None, "train", "val"][int(rng.integers(3))]
        packer.image(f"{prefix}_{i}", f"/{prefix}/{i}.jpg", (6, 5), split=split, attributes={"n": i} if i % 2 else None)
        for k in range(int(rng.integers(0, 4))):
            label, crowd = int(rng.integers(1, len(classes))), bool(rng.random() < 0.3)
            shape = {"counts": [7, 3, 20]} if crowd else {"polygons": rng.random((1 + k % 2, 8)) * 5}
            packer.region(label, crowd=crowd, id=100 * i + k, attributes={"k": k} if k else None, **shape)
    return packer.pack(classes)


def stored(num: int = 3, classes=STORED, labels=(0, 1, 2, VOID)) -> Data:
    """Images with label-map files, in two codings."""
    packer = Packer()
    for i in range(num):
        coding = Coding((0, 10, 20, 255), labels, threshold=None if i % 2 else 3)
        packer.image(f"street/{i}", f"/s/{i}.png", (4, 4), label_map=f"/m/{i}.png", coding=coding, split="train")
    return packer.pack(classes)


def plain(record: Record) -> dict:
    """A record as values that compare."""
    fields = {n: getattr(record, n) for n in Record.__slots__ if n not in ("regions", "attributes")}
    return fields | {"attributes": dict(record.attributes), "regions": [plain_region(r) for r in record.regions]}


def plain_region(region: Region) -> tuple:
    polygons = tuple(p.tobytes() for p in region.polygons)
    counts = None if region.counts is None else tuple(region.counts.tolist())
    return (region.label, polygons, counts, region.crowd, region.id, tuple(region.attributes.items()))


def by_name(data: Data, record: Record) -> list[tuple]:
    """The regions of a record with class names in place of numbers."""
    return [(data.classes[r.label], *plain_region(r)[1:]) for r in record.regions]


def test_pieces_of_label_maps_become_objects_and_nothing_else_does():
    data = merge([stored(), drawn(1, 4)])
    found = with_components(data, 7)
    assert [record.components for record in found] == [7] * 3 + [0] * 4
    assert [record.components for record in data] == [0] * 7
    assert [record.components for record in merge([found.select([6, 1]), drawn(2, 1, prefix="other")])] == [0, 7, 0]
    for wrong, least in ((data, 0), (drawn(1, 2), 5)):
        with pytest.raises(RecipeError, match="components"):
            with_components(wrong, least)


def test_the_class_of_all_other_values_is_edited_too():
    packer = Packer()
    coding = Coding((0, 255), (0, VOID), others=1)
    packer.image("a", "a.jpg", (4, 4), label_map="a.png", coding=coding, objects="a.png")
    data = packer.pack((BACKGROUND, "object"))
    assert map_classes(data, {"object": "person"})[0].coding == coding
    assert merge([stored(), data])[3].coding.others == len(merge([stored(), data]).classes) - 1
    assert merge([stored(), data])[3].objects == "a.png"
    both = merge([stored(), data])
    assert keep_classes(both, [both.classes[1]])[3].coding.others == 0


# ------------------------------------------------------------------------------------------------------------- classes

MAPS = [
    ({}, DRAWN),
    ({"cat": "lion"}, ("background", "lion", "dog", "hat")),
    ({"dog": "cat"}, ("background", "cat", "hat")),
    ({"cat": "dog", "dog": "cat"}, ("background", "dog", "cat", "hat")),
    ({"cat": "pet", "dog": "pet"}, ("background", "pet", "hat")),
    ({"cat": None}, ("background", "dog", "hat")),
    ({"cat": None, "dog": "animal"}, ("background", "animal", "hat")),
    ({"hat": "background"}, ("background", "cat", "dog")),
]


@pytest.mark.parametrize(("names", "classes"), MAPS)
def test_map_classes_of_drawn_regions(names, classes):
    data = drawn(0, 20)
    before = [plain(r) for r in data]
    edited = map_classes(data, names)
    assert edited.classes == classes
    for old, new in zip(data, edited, strict=True):
        expected = [
            (names.get(name, name), *rest) for name, *rest in by_name(data, old) if names.get(name, name) is not None
        ]
        assert by_name(edited, new) == expected
        assert plain(replace(old, regions=())) == plain(replace(new, regions=()))
    assert [plain(r) for r in data] == before


CODED = [
    # classes, labels of the values 0, 10, 20, 255 -> names -> classes, what the four values mean
    (STORED, (0, 1, 2, VOID), {"car": None}, ("road", "sky"), ("road", None, "sky", None)),
    (STORED, (0, 1, 2, VOID), {"car": "road"}, ("road", "sky"), ("road", "road", "sky", None)),
    (STORED, (0, 1, 2, VOID), {"sky": BACKGROUND}, ("background", "road", "car"), ("road", "car", "background", None)),
    (PETS, (0, 1, 2, VOID), {"cat": None}, ("background", "hat"), ("background",) * 2 + ("hat", None)),
    (PETS, (0, 1, 2, VOID), {"background": None}, ("cat", "hat"), (None, "cat", "hat", None)),
    (PETS, (0, 1, 2, VOID), {"background": "wall"}, ("wall", "cat", "hat"), ("wall", "cat", "hat", None)),
    (PETS, (0, 1, 1, 2), {"hat": "cat"}, ("background", "cat"), ("background", "cat", "cat", "cat")),
]


@pytest.mark.parametrize(("classes", "labels", "names", "after", "meanings"), CODED)
def test_map_classes_of_label_maps(classes, labels, names, after, meanings):
    data = stored(classes=classes, labels=labels)
    edited = map_classes(data, names)
    assert edited.classes == after
    for old, new in zip(data, edited, strict=True):
        assert new.coding.values == old.coding.values
        assert new.coding.threshold == old.coding.threshold
        assert tuple(None if n == VOID else after[n] for n in new.coding.labels) == meanings


def test_a_dropped_class_stays_dropped():
    data = drawn(0, 20)
    once = map_classes(map_classes(data, {"cat": None}), {"dog": "cat"})
    assert once.classes == ("background", "cat", "hat")
    assert sum(len(r.regions) for r in once) == sum(region.label != 1 for r in data for region in r.regions)


REFUSED = [
    (drawn(0), {"dgo": "x"}, "classes: no class is called `dgo`; did you mean `dog`?"),
    (drawn(0), {"background": "wall"}, "`background` cannot be renamed or dropped here"),
    (drawn(0), {"background": None}, "`background` cannot be renamed or dropped here"),
    (drawn(0), dict.fromkeys(DRAWN[1:]), "no class is left"),
    (stored(), dict.fromkeys(STORED), "no class is left"),
]


@pytest.mark.parametrize(("data", "names", "words"), REFUSED)
def test_map_classes_refuses(data, names, words):
    with pytest.raises(RecipeError) as caught:
        map_classes(data, names)
    assert words in str(caught.value)


def test_keep_classes():
    assert keep_classes(drawn(0), ["hat"]).classes == ("background", "hat")
    assert keep_classes(drawn(0), ["hat", "cat", "background"]).classes == ("background", "cat", "hat")
    street = keep_classes(stored(), ["car"])
    assert street.classes == ("car",)
    assert street[0].coding.labels == (VOID, 0, VOID, VOID)
    with pytest.raises(RecipeError, match="no class is called `hot`; did you mean `hat`"):
        keep_classes(drawn(0), ["hot"])
    with pytest.raises(RecipeError, match="no class is left"):
        keep_classes(drawn(0), [])


# ------------------------------------------------------------------------------------------------------------- merging


@given(st.lists(st.sampled_from(["drawn", "other", "street", "few"]), min_size=1, max_size=4), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_merge_is_one_set_after_the_other(kinds, seed):
    make = {
        "drawn": lambda n: drawn(seed + n, prefix=f"set{n}"),
        "other": lambda n: drawn(seed + n, classes=("background", "hat", "bird"), prefix=f"set{n}"),
        "street": lambda n: stored(),
        "few": lambda n: drawn(seed, 9, prefix=f"few{n}").select([7, 2, 2 + n % 2]),
    }
    sources = [make[kind](n) for n, kind in enumerate(kinds)]
    together = merge(sources)
    assert len(together) == sum(len(data) for data in sources)
    assert set(together.classes) == {name for data in sources for name in data.classes}
    if any(data.has_background for data in sources):
        assert together.classes[0] == BACKGROUND
    position = 0
    for number, data in enumerate(sources):
        for old in data:
            new = together[position]
            assert new.source == number
            assert new.split == old.split
            assert by_name(together, new) == by_name(data, old)
            if old.coding:
                assert [together.classes[n] if n != VOID else None for n in new.coding.labels] == [
                    data.classes[n] if n != VOID else None for n in old.coding.labels
                ]
                assert new.coding.values == old.coding.values
            for name in ("image", "size", "label_map", "upright", "attributes"):
                assert getattr(new, name) == getattr(old, name)
            position += 1


def test_merge_makes_ids_unique_only_where_they_collide():
    a, b = drawn(0, 3, prefix="x"), drawn(1, 4, prefix="x")
    own = drawn(2, 2, prefix="own")
    ids = list(merge([a, b, own]).ids)
    assert ids == ["0/x_0", "0/x_1", "0/x_2", "1/x_0", "1/x_1", "1/x_2", "x_3", "own_0", "own_1"]
    packer = Packer()
    for id in ("x_0", "0/x_0"):
        packer.image(id, "p", (1, 1))
    nasty = list(merge([a, packer.pack(["background", "c"])]).ids)
    assert len(set(nasty)) == len(nasty)


def test_merge_of_one_is_itself():
    data = drawn(0)
    assert [plain(r) for r in merge([data])] == [plain(r) for r in data]


def test_merge_refuses_more_classes_than_a_label_map_can_hold():
    sets = [drawn(0, classes=("background", *(f"{letter}{n}" for n in range(150)))) for letter in "ab"]
    with pytest.raises(DataError, match="301 classes together, 255 is the limit"):
        merge(sets)


def test_merge_then_map_acts_on_all():
    together = map_classes(merge([drawn(0, 9), stored()]), {"road": None, "cat": None})
    assert together.classes == ("background", "dog", "hat", "car", "sky")
    assert together[9].coding.labels == (0, 3, 4, VOID)


# -------------------------------------------------------------------------------------------------------------- images


def test_select_and_drop():
    data = drawn(0, 6)
    assert list(select(data, ["img_4", "img_1"]).ids) == ["img_1", "img_4"]
    assert list(drop(data, ["img_4", "img_1", "never"]).ids) == ["img_0", "img_2", "img_3", "img_5"]
    assert plain(select(data, ["img_4"])[0]) == plain(data[4])
    with pytest.raises(DataError, match="1 id is not in the data: `img_9`; did you mean `img_"):
        select(data, ["img_1", "img_9"])


def sparse(num: int, positives: set[int], lists=("train", "val")) -> Data:
    """Images of which `positives` show something, half in each list."""
    packer = Packer()
    for i in range(num):
        packer.image(f"i{i:03d}", "p", (4, 4), split=lists[i % len(lists)])
        if i in positives:
            packer.region(1, polygons=[[0, 0, 3, 0, 3, 3]])
    return packer.pack(["background", "cat"])


@pytest.mark.parametrize(("share", "kept"), [(0, 0), (0.5, 10), (1, 20), (3, 60), (9, 80), (None, 80)])
def test_limit_negatives(share, kept):
    data = sparse(100, set(range(20)))
    limited = limit_negatives(data, share)
    positives = [r.id for r in limited if r.regions]
    negatives = [r for r in limited if not r.regions]
    assert positives == [f"i{i:03d}" for i in range(20)]
    assert len(negatives) == kept
    assert sum(r.split == "val" for r in negatives) == kept // 2  # in train and val alike
    assert list(limited.ids) == sorted(limited.ids)


def test_limit_negatives_draws_by_seed_and_takes_presence():
    data = sparse(100, set(range(20)))
    assert list(limit_negatives(data, 0.5).ids) == list(limit_negatives(data, 0.5).ids)
    assert list(limit_negatives(data, 0.5).ids) != list(limit_negatives(data, 0.5, seed=1).ids)
    presence = np.zeros((100, 2), bool)
    presence[:, 0] = presence[50:, 1] = True
    assert list(limit_negatives(data, 0, presence=presence).ids) == [f"i{i:03d}" for i in range(50, 100)]
    with pytest.raises(RecipeError, match="negatives"):
        limit_negatives(data, -1)
    with pytest.raises(RecipeError, match="must be inspected"):
        limit_negatives(stored(), 0.5)


def test_dropped_classes_make_negatives():
    data = map_classes(drawn(3, 30), {"cat": None, "dog": None})
    kept = limit_negatives(data, 0)
    assert list(kept.ids) == [r.id for r in data if any(region.label == 1 for region in r.regions)]


@given(st.integers(1, 70), st.integers(0, 9))
@settings(max_examples=40, deadline=None)
def test_sample_is_exact_and_spread(limit, seed):
    data = sparse(60, set(range(30)), lists=("train", "train", "train", "val", "test", "train"))
    small = sample(data, limit, seed=seed)
    assert len(small) == min(limit, 60)
    if limit >= 3:
        assert {r.split for r in small} == {"train", "val", "test"}
    if limit == 20:
        assert abs(sum(bool(r.regions) for r in small) - 10) <= 2
    assert list(small.ids) == sorted(small.ids)


def test_sample_edges():
    data = sparse(10, {1})
    assert sample(data, None) is data
    assert len(sample(stored(), 2)) == 2
    with pytest.raises(RecipeError, match="at least 1"):
        sample(data, 0)
