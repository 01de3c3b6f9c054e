"""Splits: parts that cover, never overlap, keep groups whole, balance the classes, and come out alike everywhere."""

import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.core import events
from maskwright.core.errors import DataError, RecipeError
from maskwright.core.table import Data, Packer
from maskwright.data.split import Leak, Split, leaks, load, make, role_of, save
from maskwright.data.strata import deal_out, shuffled_ranks, stratified, whole_shares


def images(lists, *, sources=None, labels=None) -> Data:
    """One image per entry of `lists` (names of official lists or None); labels: classes drawn in each."""
    packer = Packer()
    for i, name in enumerate(lists):
        packer.image(f"img_{i:04d}", f"/x/{i}.jpg", (4, 4), split=name, source=sources[i] if sources else 0)
        for label in labels[i] if labels else ():
            packer.region(label, polygons=[[0, 0, 2, 0, 2, 2]])
    return packer.pack(["background", "a", "b", "c", "d"])


def in_two(split: Split, data: Data) -> None:
    """Every image stands in exactly one part."""
    listed = [id for ids in split.parts().values() for id in ids]
    assert sorted(listed) == sorted(data.ids)


LISTS = [
    # official lists of the images -> train, val, test counts and a word of `how`
    (["train"] * 6 + ["val"] * 3, (6, 3, 0), "official lists (train 6, val 3)"),
    (["train"] * 6 + ["val"] * 3 + ["test"] * 2, (6, 3, 2), "official lists (train 6, val 3, test 2)"),
    (["train"] * 10 + ["test"] * 4, (8, 2, 4), "official lists (test 4); fold 0 of 5 held out from 10 images"),
    (["trainval"] * 10 + ["test"] * 4, (8, 2, 4), "test 4"),
    (["train"] * 10, (8, 2, 0), "fold 0 of 5 held out from 10 images"),
    ([None] * 10, (8, 2, 0), "fold 0 of 5 held out from 10 images"),
    (["val"] * 10, (8, 2, 0), "fold 0 of 5 held out from 10 images"),
    (["test"] * 10, (8, 2, 0), "fold 0 of 5 held out from 10 images"),
    (["val"] * 10 + ["test"] * 3, (8, 2, 3), "test 3"),
    (["training"] * 3 + ["validation"] * 2 + [None] * 2, (5, 2, 0), "official lists (train 5, val 2)"),
    ([None] * 5 + ["valid"] * 2, (5, 2, 0), "official lists"),
    ([None] * 10 + ["test"] * 2, (8, 2, 2), "test 2"),
    (["odd"] * 5 + ["names"] * 5, (8, 2, 0), "fold 0 of 5"),
]


@pytest.mark.parametrize(("lists", "counts", "how"), LISTS)
def test_official_lists_win(lists, counts, how):
    data = images(lists)
    split = make(data)
    in_two(split, data)
    assert (len(split.train), len(split.val), len(split.test)) == counts
    assert how in split.how
    for part, listed in (("val", "val"), ("test", "test")):
        if "train" in lists and listed in lists:
            assert getattr(split, part) == tuple(r.id for r in data if r.split == listed)


def test_each_source_keeps_its_own_lists():
    data = images(["train"] * 4 + ["val"] * 2 + [None] * 10, sources=[0] * 6 + [1] * 10)
    split = make(data)
    in_two(split, data)
    assert set(split.val) > {"img_0004", "img_0005"}
    assert len(split.val) == 2 + 2
    assert len(split.train) == 4 + 8


def test_names_of_lists():
    for name in ("train", "Training", "trainset", "training_set", "trainval"):
        assert role_of(name) == "train"
    for name in ("val", "valid", "validation", "VAL", "dev"):
        assert role_of(name) == "val"
    assert role_of("testset") == "test"
    for name in (None, "", "minitrain", "retest", "all"):
        assert role_of(name) is None


@given(
    st.integers(2, 60),
    st.integers(2, 9),
    st.integers(0, 5),
    st.booleans(),
    st.integers(0, 2**32),
)
@settings(max_examples=60, deadline=None)
def test_folds_cover_all_once_and_are_even(n, folds, seed, stratify, noise):
    rng = np.random.default_rng(noise)
    data = images([None] * n, labels=[[1 + k for k in range(4) if rng.random() < 0.3] for _ in range(n)])
    held_out = [make(data, folds=folds, fold=k, seed=seed, stratify=stratify) for k in range(min(folds, n))]
    for split in held_out:
        in_two(split, data)
        assert split.train
    assert sorted(id for split in held_out for id in split.val) == sorted(data.ids)
    sizes = [len(split.val) for split in held_out]
    assert max(sizes) - min(sizes) <= 1


@given(st.integers(2, 80), st.floats(0.01, 0.99), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_a_fraction_is_what_was_asked_for(n, fraction, seed):
    data = images([None] * n)
    split = make(data, fraction=fraction, seed=seed)
    in_two(split, data)
    assert len(split.val) == min(max(round(n * fraction), 1), n - 1)


def test_classes_and_negatives_are_spread():
    """Random labels: in every fold each class has its share, to within one image, and so do empty images."""
    rng = np.random.default_rng(1)
    labels = [[1 + k for k, p in enumerate((0.5, 0.2, 0.1, 0.05)) if rng.random() < p] for _ in range(400)]
    data = images([None] * 400, labels=labels)
    total = Counter(label for row in labels for label in row) + Counter(0 for row in labels if not row)
    by_id = dict(zip(data.ids, labels, strict=True))
    chance, drawn = [], []
    for fold in range(5):
        for stratify, worst in ((True, drawn), (False, chance)):
            val = make(data, fold=fold, stratify=stratify).val
            assert len(val) == 80
            count = Counter(label for id in val for label in by_id[id]) + Counter(0 for id in val if not by_id[id])
            worst += [abs(count[label] - total[label] / 5) for label in total]
    assert max(drawn) <= 2
    assert np.mean(drawn) < np.mean(chance) / 3


def test_presence_is_used_for_label_maps():
    data = images([None] * 50)
    presence = np.zeros((50, 5), bool)
    presence[:5, 1] = presence[:, 2] = True
    for fold in range(5):
        val = make(data, fold=fold, presence=presence).val
        assert sum(int(id[-4:]) < 5 for id in val) == 1


@given(st.integers(2, 12), st.integers(2, 6), st.integers(0, 2**32), st.booleans())
@settings(max_examples=60, deadline=None)
def test_groups_stay_together(num_groups, folds, noise, stratify):
    rng = np.random.default_rng(noise)
    packer = Packer()
    for i in range(40):
        group = i if i < num_groups else int(rng.integers(num_groups))
        packer.image(f"car{group}_view{i}", "x", (4, 4))
        packer.region(1 + i % 2, polygons=[[0, 0, 2, 0, 2, 2]])
    data = packer.pack(["background", "a", "b"])
    vals = [make(data, folds=folds, fold=f, group=r"^(car\d+)_", stratify=stratify) for f in range(folds)[:num_groups]]
    for split in vals:
        in_two(split, data)
        assert split.val
        assert split.train
        assert not {id.split("_")[0] for id in split.train} & {id.split("_")[0] for id in split.val}
    assert sorted(id for split in vals for id in split.val) == sorted(data.ids)
    fraction = make(data, fraction=0.3, group=r"^(car\d+)_")
    assert not {id.split("_")[0] for id in fraction.train} & {id.split("_")[0] for id in fraction.val}
    assert fraction.val
    assert fraction.train


def test_the_same_on_every_machine():
    """Golden: hashes of seed and id decide, not the order of the files, not a library's generator."""
    lists = [None] * 12
    split = make(images(lists), seed=7)
    golden = ("img_0001", "img_0006", "img_0007")
    assert split.val == golden
    data = images(lists)
    backwards = make(data.select(np.arange(12)[::-1]), seed=7)
    assert sorted(backwards.val) == sorted(golden)
    assert make(images(lists), seed=8).val != golden


def test_files_of_the_same_content_are_held_together():
    data = images([None] * 20)
    digests = {id: f"content {int(id[-4:]) // 4}" for id in data.ids}
    for fold in range(5):
        split = make(data, fold=fold, digests=digests)
        assert leaks(split, digests) == []
        assert len(split.val) == 4
    # a group and a copy in another group pull both groups together
    packer = Packer()
    for id in ("a_1", "a_2", "b_1", "b_2", "c_1", "c_2"):
        packer.image(id, "x", (4, 4))
    chained = {"a_2": "same", "b_1": "same"}
    split = make(packer.pack(["background", "x"]), folds=2, group=r"^(.)_", digests=chained)
    assert {frozenset(split.train), frozenset(split.val)} == {
        frozenset({"a_1", "a_2", "b_1", "b_2"}),
        frozenset({"c_1", "c_2"}),
    }


REFUSED = [
    ({"n": 0}, DataError, "no image"),
    ({"n": 1}, DataError, "one image only"),
    ({"n": 3, "fold": 4}, DataError, "fold 4 of 5 is empty: there are only 3 images"),
    ({"n": 4, "group": r"(img)"}, DataError, "4 images are all in one group"),
    ({"n": 4, "group": r"img"}, RecipeError, "0 groups"),
    ({"n": 4, "group": r"(i)(m)"}, RecipeError, "2 groups"),
    ({"n": 4, "group": r"(i"}, RecipeError, "not a regular expression"),
    ({"n": 4, "group": r"(zebra)"}, RecipeError, "found in no image id; an id looks like `img_0000`"),
    ({"n": 4, "folds": 1}, RecipeError, "at least 2 folds"),
    ({"n": 4, "fold": 5}, RecipeError, "must be 0 to 4"),
    ({"n": 4, "fraction": 1.0}, RecipeError, "between 0 and 1"),
    ({"n": 4, "fraction": 0.0}, RecipeError, "between 0 and 1"),
]


@pytest.mark.parametrize(("options", "error", "words"), REFUSED)
def test_what_cannot_be_split_is_said(options, error, words):
    options = dict(options)
    data = images([None] * options.pop("n"))
    with pytest.raises(error) as caught:
        make(data, **options)
    assert words in str(caught.value)


def test_two_images_are_enough():
    split = make(images([None] * 2))
    assert (len(split.train), len(split.val)) == (1, 1)


def test_an_option_that_does_nothing_warns():
    heard = []
    with events.listening(heard.append):
        make(images(["train"] * 4 + ["val"] * 2), fraction=0.5)
    assert [e.fields["text"] for e in heard if e.name == "warn"] == [
        "the options of `split` change nothing: the data has official lists (train 4, val 2)"
    ]


def test_save_and_load(tmp_path):
    data = images([None] * 10 + ["test"] * 2)
    split = make(data)
    path = tmp_path / "split.json"
    save(split, path)
    again = load(path, data)
    assert again.parts() == split.parts()
    assert split.how in again.how
    assert json.loads(path.read_text())["schema"] == 1


BAD_FILES = [
    ("", "is not JSON"),
    ("[]", "holds no `train` and `val`"),
    ('{"train": ["img_0000"]}', "holds no `train` and `val`"),
    ('{"train": "img_0000", "val": []}', "`train` is not a list of ids"),
    ('{"train": [1], "val": [2]}', "`train` is not a list of ids"),
    ('{"train": [], "val": ["img_0000"]}', "`train` is empty"),
    ('{"schema": 2, "train": ["img_0000"], "val": ["img_0001"]}', "schema 2"),
    ('{"train": ["img_0000"], "val": ["img_0000"]}', "`img_0000` is listed twice"),
    (
        '{"train": ["img_0000", "x", "y", "z"], "val": ["w"]}',
        "4 of 5 ids are not in the data: `x`, `y`, `z`, ...; was the file made for other data? "
        "An id here looks like `img_0000`",
    ),
]


@pytest.mark.parametrize(("text", "words"), BAD_FILES)
def test_a_bad_split_file_is_one_sentence(tmp_path, text, words):
    path = tmp_path / "split.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        load(path, images([None] * 4))
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)


def test_a_missing_split_file(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        load(tmp_path / "none.json")


def test_images_that_a_file_leaves_out_are_told(tmp_path):
    path = tmp_path / "split.json"
    path.write_text('{"train": ["img_0000"], "val": ["img_0001"]}')
    heard = []
    with events.listening(heard.append):
        load(path, images([None] * 5))
    assert "3 images are in no part of split.json: left out" in heard[0].fields["text"]


def test_leaks():
    split = Split(("a", "b", "c"), ("c", "d", "e"), ("f",))
    digests = {"a": "1", "b": "1", "c": "2", "d": "3", "e": "1", "f": "3"}
    assert leaks(split, digests) == [
        Leak(("train", "val"), ("c",), "the same id"),
        Leak(("train", "train", "val"), ("a", "b", "e"), "the same file content"),
        Leak(("val", "test"), ("d", "f"), "the same file content"),
    ]
    assert leaks(Split(("a", "b"), ("d",)), digests) == []


# ---------------------------------------------------------------------------------------------------------- strata


@given(st.lists(st.floats(0.01, 1), min_size=1, max_size=9), st.integers(0, 1000))
def test_whole_shares(shares, total):
    whole = whole_shares(shares, total)
    assert whole.sum() == total
    assert (np.abs(whole - np.array(shares) / sum(shares) * total) < 1 + 1e-6).all()


@given(st.integers(1, 40), st.integers(1, 6), st.integers(0, 2**32))
@settings(max_examples=80, deadline=None)
def test_units_of_one_image_fill_every_part_exactly(n, parts, noise):
    rng = np.random.default_rng(noise)
    counts = (rng.random((n, 3)) < 0.4).astype(np.int64)
    room = whole_shares([1] * parts, n)
    part = stratified(np.ones(n, np.int64), counts, rng.permutation(n), room)
    assert np.bincount(part, minlength=parts).tolist() == room.tolist()


def test_ranks_are_a_permutation_drawn_by_the_seed():
    names = [str(i) for i in range(100)]
    ranks = shuffled_ranks(names, 0)
    assert sorted(ranks) == list(range(100))
    assert (shuffled_ranks(names[::-1], 0)[::-1] == ranks).all()
    assert (shuffled_ranks(names, 1) != ranks).any()


def test_a_hundred_thousand_images_are_dealt_out():
    """Work grows with the images, not with their square."""
    n = 20_000
    rng = np.random.default_rng(0)
    ids = [str(i) for i in range(n)]
    labels = rng.random((n, 80)) < 0.03
    part = deal_out(ids, ids, labels, whole_shares([1] * 5, n), 0)
    per_fold = np.array([labels[part == k].sum(axis=0) for k in range(5)])
    assert np.abs(per_fold - labels.sum(axis=0) / 5).max() <= 3
