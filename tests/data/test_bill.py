"""The bill names each loss, counts its objects and pixels, and stops for what matters only."""

from dataclasses import replace

import numpy as np
import pytest

from maskwright.core.table import Data, Packer
from maskwright.core.types import BACKGROUND, Record, Region
from maskwright.data.bill import HARMLESS, KINDS, compare
from maskwright.imaging import objects

SIZE = (20, 30)
CLASSES = (BACKGROUND, "cat", "dog")


def mask(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    made = np.zeros(SIZE, bool)
    for left, top, right, bottom in boxes:
        made[top:bottom, left:right] ^= True
    return made


def region(*boxes: tuple[int, int, int, int], label: int = 1, **more: object) -> Region:
    return Region(label, counts=objects.encoded(mask(*boxes).view(np.uint8))[1], **more)  # type: ignore[arg-type]


def data(
    *images: tuple[Region, ...], classes: tuple[str, ...] = CLASSES, split: tuple[str | None, ...] = (None,)
) -> Data:
    packer = Packer()
    for number, regions in enumerate(images):
        packer.record(Record(str(number), f"{number}.jpg", SIZE, regions, split=split[number % len(split)]))
    return packer.pack(classes)


A, B, RING = (1, 1, 11, 11), (6, 6, 21, 16), ((1, 1, 11, 11), (4, 4, 8, 8))
POLYGON = np.array([[1, 1], [11, 1], [11, 11], [1, 11]], float)
TOLD = region(A, attributes={"truncated": True})
CASES = {
    "nothing": ((region(A), region(B)), (region(B), region(A)), {}),
    "a hole is filled": ((region(*RING),), (region(A),), {"holes": (1, 16)}),
    "a part is left out": ((region(A, (15, 5, 20, 10)),), (region(A),), {"several parts": (1, 25)}),
    "an outline moves": ((region(A),), (region((1, 1, 12, 11)),), {"outlines": (1, 10)}),
    "one lies over the other": ((region(A), region(B)), (region(A, (6, 6, 11, 11)), region(B)), {"overlaps": (1, 25)}),
    "one is hidden": ((region(A), region((2, 2, 4, 4))), (region(A),), {"overlaps": (1, 4)}),
    "one is gone": ((region(A), region((15, 15, 18, 18))), (region(A),), {"objects": (1, 9)}),
    "another class": ((region(A),), (region(A, label=2),), {"objects": (1, 100)}),
    "a crowd is gone": ((region(A, crowd=True),), (), {"crowds": (1, 100)}),
    "a crowd of another class": ((region(A, crowd=True),), (region(A, label=2, crowd=True),), {"crowds": (1, 0)}),
    "attributes": ((TOLD, region(B)), (region(A), region(B)), {"attributes": (1, 0)}),
    "corners": ((Region(1, (POLYGON,)),), (region(A),), {"sub-pixel corners": (1, 0)}),
    "corners that did not move": ((Region(1, (POLYGON,)),), (Region(1, (POLYGON + 1e-7,)),), {}),
    "joined parts": (
        (Region(1, (POLYGON, POLYGON + 8)),), (region(A, (9, 9, 19, 19)),),
        {"sub-pixel corners": (1, 0), "outlines": (1, 4)},
    ),
    "numbers": ((region(A, id=7),), (region(A, id=1),), {"ids": (1, 0)}),
    "three alike": ((region(A), region(A), region(A)), (region(A), region(A)), {"overlaps": (1, 100)}),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_each_loss_has_its_name_and_its_pixels(name: str) -> None:
    before, after, expected = CASES[name]
    bill = compare(data(before, (region(B),)), data((region(B),), after), {0: 1, 1: 0})
    assert {loss.kind: (loss.objects, loss.pixels) for loss in bill.losses} == expected
    assert all(loss.images == 1 for loss in bill.losses)
    assert bill.empty == (set(expected) <= set(HARMLESS))
    whole = [
        (np.asarray(objects.objects_of(Record("", "", SIZE, r), CLASSES).areas())).sum() for r in (before, (region(B),))
    ]
    assert (bill.images, bill.objects, bill.pixels) == (2, len(before) + 1, sum(whole))
    for loss in bill.losses:
        assert loss.sentence().startswith(f"{loss.kind}: 1 object")
        assert KINDS[loss.kind] in loss.sentence()


def test_an_image_that_is_lost_takes_its_objects_with_it() -> None:
    bill = compare(data((region(A),), (region(B), region(A))), data((region(A),)), {0: 0})
    assert [(n.kind, n.objects, n.pixels, n.images) for n in bill.losses] == [("images", 2, 250, 1)]


def test_classes_that_are_lost_are_counted_by_their_objects() -> None:
    before = data((region(A), region(B, label=2)))
    bill = compare(before, data((region(A),), classes=CLASSES[:2]), {0: 0})
    assert [(n.kind, n.objects, n.pixels) for n in bill.losses] == [("classes", 1, 150)]
    named = replace(data((region(A), region(B, label=1))), classes=(BACKGROUND, "dog", "cat"))
    assert [n.kind for n in compare(before, named, {0: 0}).losses] == ["objects"]


@pytest.mark.parametrize(
    ("old", "new", "kinds"),
    [
        (("train", "val"), ("train", "val"), []),
        (("train", "val"), ("training", None), ["names of lists"]),
        (("train", "val"), (None,), ["lists"]),
        (("train",), (None,), ["names of lists"]),
    ],
)
def test_lists_may_be_called_otherwise_but_not_become_one(
    old: tuple[str, ...], new: tuple[str | None, ...], kinds: list[str]
) -> None:
    images = ((region(A),), (region(B),))
    bill = compare(data(*images, split=old), data(*images, split=new), {0: 0, 1: 1})
    assert [loss.kind for loss in bill.losses] == kinds
    assert bill.empty == (kinds != ["lists"])


def test_what_the_reader_refused_is_on_the_bill() -> None:
    images = ((region(A),),)
    bill = compare(data(*images), data(*images), {0: 0}, unreadable=3)
    assert not bill.empty
    assert bill.to_json()["losses"] == [
        {"kind": "unreadable", "objects": 3, "pixels": 0, "images": 0, "harmless": False}
    ]
