"""The packed table gives back what was put in, in any order, and shares what does not change."""

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright.core.table import Packer, SparseStrings, Strings
from maskwright.core.types import Coding, Record, Region

CLASSES = ("background", "a", "b")
TEXT = st.text(st.characters(min_codepoint=1), max_size=5)


@given(st.lists(TEXT), st.randoms())
def test_strings(texts: list[str], random: Any) -> None:
    packed = Strings.pack(texts)
    assert list(packed) == texts
    indices = [random.randrange(len(texts)) for _ in range(5)] if texts else []
    assert list(packed.take(np.array(indices, np.int64))) == [texts[i] for i in indices]


def test_strings_hold_any_file_name() -> None:
    names = [os.fsdecode(b"a\xff.png"), "ä", ""]
    assert list(Strings.pack(names)) == names


@given(st.dictionaries(st.integers(0, 99), TEXT))
def test_sparse_strings(texts: dict[int, str]) -> None:
    packed = SparseStrings.pack(texts)
    assert dict(packed) == texts
    for number in range(100):
        assert packed.get(number) == texts.get(number)


def plain(region: Region) -> tuple[Any, ...]:
    counts = None if region.counts is None else region.counts.tolist()
    shape = [p.tolist() for p in region.polygons], counts
    return region.label, region.id, region.crowd, dict(region.attributes), shape


@pytest.mark.parametrize("seed", range(5))
def test_regions_in_any_order_are_packed_as_if_in_order(seed: int) -> None:
    rng = np.random.default_rng(seed)
    regions = [
        {"label": int(rng.integers(3)), "id": n, "crowd": bool(n % 2)}
        | (
            {"counts": rng.integers(9, size=n).tolist()}
            if n % 3 == 0
            else {"polygons": rng.random((n % 3, 8)).tolist()}
        )
        | ({"attributes": {"n": n}} if n % 4 == 0 else {})
        for n in range(1, 40)
    ]
    owners = rng.integers(6, size=len(regions))
    in_order, shuffled = Packer(), Packer()
    for image in range(6):
        in_order.image(str(image), f"{image}.png", (3, 4))
        shuffled.image(str(image), f"{image}.png", (3, 4))
        for region, owner in zip(regions, owners, strict=True):
            if owner == image:
                in_order.region(**region)
    for region, owner in zip(regions, owners, strict=True):
        shuffled.region(**region, image=int(owner))
    first, second = in_order.pack(CLASSES), shuffled.pack(CLASSES)
    for i, one, other in zip(range(6), first, second, strict=True):
        assert [plain(r) for r in one.regions] == [plain(r) for r in other.regions]
        assert [r.id for r in one.regions] == [r["id"] for r, owner in zip(regions, owners, strict=True) if owner == i]


def test_records_come_back_and_selections_share_the_regions() -> None:
    triangle = np.array([[0, 0], [3, 0], [0, 2.5]])
    records = [
        Record("x/a", "x/a.png", (3, 4), (Region(1, (triangle,), id=5, attributes={"k": [1]}),), split="train"),
        Record("b", "b.png", (5, 6), label_map="b_map.png", coding=Coding((0, 7), (0, 2)), upright=False, source=3),
        Record("c", "c.png", (1, 1), (Region(2, counts=np.array([0, 1], np.uint32), crowd=True),), attributes={"a": 1}),
    ]
    packer = Packer()
    for record in records:
        packer.record(record)
    data = packer.pack(CLASSES)
    some = data[::-2]
    assert some.regions is data.regions
    for record, found in zip([*records, records[2], records[0]], [*data, *some], strict=True):
        names = ("id", "image", "size", "label_map", "coding", "split", "upright", "source", "attributes")
        assert [getattr(record, n) for n in names] == [getattr(found, n) for n in names]
        assert [plain(r) for r in record.regions] == [plain(r) for r in found.regions]
