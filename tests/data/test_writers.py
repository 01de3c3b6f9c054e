"""COCO -> X -> COCO for every format that is written: the same to the bit, or the bill says how many pixels are not."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from number_writers import numbered
from truth_writers import COLOURS, data, photo, save_mask, save_photo, truth, voc

from maskwright.core.table import Data, Packer
from maskwright.core.types import BACKGROUND, VOID, Region
from maskwright.data import edit, synthetic
from maskwright.data.bill import Bill
from maskwright.data.convert import convert, writable
from maskwright.data.formats import FORMATS
from maskwright.data.ledger import Ledger
from maskwright.data.open import open_data
from maskwright.imaging import masks, objects

SIZE = (40, 60)
CLASSES = (BACKGROUND, "cat", "dog", "yes")  # the last one is a word that YAML takes for true


def rectangle(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], float)


def counts(mask: np.ndarray) -> np.ndarray:
    return objects.encoded(mask.view(np.uint8))[1]


def ring() -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[5:25, 30:50] = True
    mask[10:20, 35:45] = False
    mask[14:16, 39:41] = True
    return mask


PLAIN = [[Region(1, (rectangle(2, 3, 20.5, 17.25),), id=7), Region(2, (rectangle(25, 20, 60, 40) - 0.1,), id=9)], []]
DIFFICULT = [
    [
        Region(1, (rectangle(2, 3, 20, 17), rectangle(10, 10, 30, 30)), id=1, attributes={"truncated": True}),
        Region(2, (rectangle(-5.5, 20, 15.3, 38.8),), id=2),
        Region(2, counts=counts(ring()), id=3),
        Region(3, (rectangle(3, 4, 9, 9),), id=4, attributes={"attributes": ["striped"]}),
        Region(3, (rectangle(3, 4, 9, 9),), id=5),
        Region(1, counts=counts(np.roll(ring(), 9, axis=1)), crowd=True, id=6),
    ],
    [Region(1, (rectangle(0, 0, 60, 40),), id=70), Region(2, (rectangle(0, 0, 60, 40),), id=80)],
    [],
]


def drawn(folder: Path, images: list[list[Region]], splits: tuple[str | None, ...] = (None,)) -> Data:
    packer = Packer()
    for number, regions in enumerate(images):
        path = folder / f"{number}.jpg"
        save_photo(path, photo(SIZE, seed=number))
        packer.image(f"{number}", str(path), SIZE, split=splits[number % len(splits)])
        for r in regions:
            packer.region(r.label, polygons=[p.reshape(-1) for p in r.polygons], counts=r.counts, crowd=r.crowd,
                          id=r.id, attributes=r.attributes)  # fmt: skip
    return packer.pack(CLASSES)


def shapes(folder: Path) -> Data:
    folder.mkdir()
    return synthetic.as_data(synthetic.truth(8, 1, size=(64, 80)), folder)


SOURCES = {
    "plain": lambda folder: drawn(folder, PLAIN, ("train", "val")),
    "difficult": lambda folder: drawn(folder, DIFFICULT),
    "shapes": shapes,
    "truth with crowds": lambda folder: data(folder, split="train"),
}


@pytest.fixture(params=SOURCES, ids=lambda name: name)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Data:
    """A data set as it is read from COCO."""
    FORMATS["coco"].write(SOURCES[request.param](tmp_path / "photos"), tmp_path / "source")  # type: ignore[attr-defined]
    return open_data(tmp_path / "source").data


def there_and_back(source: Data, format: str, folder: Path) -> tuple[Bill, Data, Data]:
    """The bill, what is read from the format, and what is read once that is COCO again."""
    source = for_format(source, format)
    bill = convert(source, folder / format, format, allow_loss=True).bill
    ledger = Ledger()
    between = FORMATS[format].read(folder / format, ledger)  # type: ignore[attr-defined]
    ledger.reconcile()
    assert ledger.num_refused == 0
    convert(between, folder / f"{format}-coco", "coco", allow_loss=True)
    return bill, between, open_data(folder / f"{format}-coco").data


def for_format(source: Data, format: str) -> Data:
    """With as many classes as the format can hold."""
    names = {name: "pet" for name in source.classes if name != BACKGROUND}
    return edit.map_classes(source, names) if format == "pet" else source


def by_photo(data: Data) -> dict[bytes, Any]:
    return {Path(record.image).read_bytes(): record for record in data}


def measured(before: Any, after: Any, old: tuple[str, ...], new: tuple[str, ...], single: bool) -> int:
    """Pixels in which objects differ, counted one by one on whole masks; single: objects can be told apart."""
    painted = masks.label_map(after)
    names = {name: index for index, name in enumerate(new)}
    theirs = [(new[r.label], r.crowd, masks.region_mask(r, after.size)) for r in after.regions]
    ours = [(old[r.label], r.crowd, masks.region_mask(r, before.size)) for r in before.regions]
    pairs = []
    for i, (name, crowd, mask) in enumerate(ours):
        for j, (other, other_crowd, copy) in enumerate(theirs):
            union = (mask | copy).sum()
            if single and crowd == other_crowd and (crowd or name == other) and (mask & copy).any():
                pairs.append((-(mask & copy).sum() / union, i, j))
    partner: dict[int, int] = {}
    for _, i, j in sorted(pairs):
        if i not in partner and j not in partner.values():
            partner[i] = j
    total = 0
    for i, (name, crowd, mask) in enumerate(ours):
        if i in partner:
            total += int((mask ^ theirs[partner[i]][2]).sum())
        elif crowd or not single:
            total += int((mask & (painted != (VOID if crowd else names.get(name, -1)))).sum())
        else:
            total += int(mask.sum())
    return total


@pytest.mark.parametrize("format", writable())
def test_the_bill_is_what_is_lost(source: Data, format: str, tmp_path: Path) -> None:
    source = for_format(source, format)
    bill, between, back = there_and_back(source, format, tmp_path)
    after, middle = by_photo(back), by_photo(between)
    before = by_photo(source)
    assert after.keys() == before.keys()
    assert bill.images == len(before)
    lost = attributes = ids = corners = gone = 0
    for key, record in before.items():
        single = objects.has_objects(middle[key])
        lost += measured(record, after[key], source.classes, back.classes, single)
        kept = {(r.label, r.crowd, r.id) for r in after[key].regions}
        known = {str(dict(r.attributes)) for r in after[key].regions}
        attributes += sum(str(dict(r.attributes)) not in known for r in record.regions if r.attributes)
        ids += sum((r.label, r.crowd, r.id) not in kept for r in record.regions)
        gone += len(record.regions) - len(after[key].regions)
        points = {tuple(np.round(p, 6)) for r in after[key].regions for c in r.polygons for p in c}
        corners += any(tuple(np.round(p, 6)) not in points for r in record.regions for c in r.polygons for p in c)
    found = {loss.kind: loss for loss in bill.losses}
    assert sum(loss.pixels for loss in bill.losses) == lost
    if attributes and gone <= 0:
        assert found["attributes"].objects == attributes
    assert ("sub-pixel corners" in found) == bool(corners) or gone > 0
    if not bill.losses:
        assert ids == 0
    if bill.empty:
        assert lost == attributes == corners == 0
        for key, record in before.items():
            same = zip(record.regions, after[key].regions, strict=True)
            for region, copy in same:
                assert (region.label, region.crowd) == (copy.label, copy.crowd)
                for polygon, other in zip(region.polygons, copy.polygons, strict=True):
                    np.testing.assert_allclose(polygon, other, atol=1e-6, rtol=0)
                np.testing.assert_array_equal(region.counts, copy.counts)
                assert dict(region.attributes) == dict(copy.attributes)
            assert dict(record.attributes) == dict(after[key].attributes)
            np.testing.assert_array_equal(masks.label_map(record), masks.label_map(after[key]))


EXACT = [("coco", name) for name in SOURCES] + [("yolo", "plain"), ("labelme", "plain"), ("labelme", "shapes")]


@pytest.mark.parametrize(("format", "name"), EXACT)
def test_what_a_format_can_hold_comes_back_to_the_bit(format: str, name: str, tmp_path: Path) -> None:
    FORMATS["coco"].write(SOURCES[name](tmp_path / "photos"), tmp_path / "source")  # type: ignore[attr-defined]
    source = open_data(tmp_path / "source").data
    bill, _, back = there_and_back(source, format, tmp_path)
    assert bill.empty
    assert format != "coco" or not bill.losses
    after = by_photo(back)
    for key, record in by_photo(source).items():
        assert record.split == after[key].split
        for region, copy in zip(record.regions, after[key].regions, strict=True):
            for polygon, other in zip(region.polygons, copy.polygons, strict=True):
                assert polygon.tobytes() == other.tobytes()
            assert (region.counts is None) == (copy.counts is None)
            assert region.counts is None or region.counts.tobytes() == copy.counts.tobytes()
            assert format != "coco" or (region.id, region.crowd) == (copy.id, copy.crowd)


@pytest.mark.parametrize("format", writable())
def test_numbered_objects_are_written_one_by_one(format: str, tmp_path: Path) -> None:
    """A map of object numbers loses its objects only where the format has none, and its void only where nothing holds it."""
    samples = truth()
    voc(tmp_path, samples)
    for sample in samples:
        place = tmp_path / "VOCdevkit" / "VOC2012" / "SegmentationObject" / f"{sample.name}.png"
        save_mask(place, numbered(sample)[0], palette=COLOURS)
    source = for_format(open_data(tmp_path / "VOCdevkit").data, format)
    bill = convert(source, tmp_path / "out", format, allow_loss=True).bill
    void = sum(int((sample.label_map == VOID).sum()) for sample in samples)
    no_objects = {"single objects": (bill.objects, 0)}
    only_void = {"void": (0, void)}
    losses = {
        "yolo": only_void,
        "imaterialist": only_void,
        "folder": no_objects,
        "pet": {"lists": (0, 0), **no_objects},
    }
    assert {n.kind: (n.objects, n.pixels) for n in bill.losses if not n.harmless} == losses.get(format, {})
    assert bill.objects == sum(len(numbered(sample)[1]) for sample in samples)
    found = open_data(tmp_path / "out", format=format).data
    for record, sample in zip(sorted(found, key=lambda record: Path(record.image).name), samples, strict=True):
        painted = sample.label_map if format != "pet" else np.where(sample.label_map % VOID, 1, sample.label_map)
        painted = np.where(sample.label_map == VOID, 0, painted) if losses.get(format) == only_void else painted
        np.testing.assert_array_equal(masks.label_map(record), painted)


@pytest.mark.parametrize("format", writable())
def test_label_maps_keep_every_pixel_that_the_format_has_a_place_for(format: str, tmp_path: Path) -> None:
    samples = truth()
    voc(tmp_path, samples)
    source = for_format(open_data(tmp_path / "VOCdevkit").data, format)
    bill = convert(source, tmp_path / "out", format, allow_loss=True).bill
    losses = {"yolo": {"void"}, "imaterialist": {"void"}, "pet": {"lists"}}
    assert {n.kind for n in bill.losses if not n.harmless} == losses.get(format, set())


def test_more_than_254_objects_have_numbers_of_16_bits(tmp_path: Path) -> None:
    many = [Region(1 + i % 3, (rectangle(x, y, x + 1, y + 1),), id=i) for i, (y, x) in enumerate(np.ndindex(20, 30))]
    convert(drawn(tmp_path / "photos", [many, PLAIN[0]]), tmp_path / "voc", "voc", allow_loss=True)
    record, other = open_data(tmp_path / "voc").data
    found = objects.objects_of(record, CLASSES)
    assert found.ids.tolist() == list(range(1, 601))
    assert found.labels.tolist() == [region.label for region in many]
    assert objects.objects_of(other, CLASSES).labels.tolist() == [1, 2]


def test_every_writer_says_what_it_cannot_hold() -> None:
    for name in writable():
        assert FORMATS[name].cannot_hold, name  # type: ignore[attr-defined]
