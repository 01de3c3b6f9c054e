"""Oxford-IIIT Pet: border and class options, official lists, head boxes, strays, hostile XML."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from truth_writers import SHAPES, data, fates, photo, save_mask, save_photo

from maskwright.core.errors import DataError
from maskwright.core.table import Packer
from maskwright.core.types import VOID
from maskwright.data.edit import map_classes
from maskwright.data.formats import pet
from maskwright.data.ledger import Ledger
from maskwright.imaging import masks

TRIMAP = np.array([[1, 2, 3, 1], [2, 2, 3, 3]], np.uint8)
NAMES = {"Bengal_1": (6, 1, 2), "Abyssinian_7": (1, 1, 1), "american_bulldog_10": (2, 2, 1)}
HEAD = "<annotation><object><name>cat</name><bndbox>{}</bndbox></object></annotation>"
BOX = "<ymin>1</ymin><xmax>3</xmax><xmin>2</xmin><ymax>2.5</ymax>"


def read(path, **options):
    ledger = Ledger()
    found = pet.read(path, ledger, **options)
    ledger.reconcile()
    return found, ledger


@pytest.fixture
def folder(tmp_path):
    base = tmp_path / "pets"
    for i, name in enumerate(NAMES):
        save_photo(base / "images" / f"{name}.jpg", photo(TRIMAP.shape, seed=i))
        save_mask(base / "annotations" / "trimaps" / f"{name}.png", TRIMAP)
    rows = [f"{name} {' '.join(map(str, numbers))}\n" for name, numbers in NAMES.items()]
    (base / "annotations" / "list.txt").write_text("#Image CLASS-ID SPECIES BREED ID\n" + "".join(rows))
    (base / "annotations" / "trainval.txt").write_text("".join(rows[:2]))
    (base / "annotations" / "test.txt").write_text(rows[2])
    (base / "annotations" / "xmls").mkdir()
    return base


CAT = [[1, 0, 0, 1], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("options", "classes", "seam"),
    [
        ({}, ("background", "pet"), VOID),
        ({"border": "ignore"}, ("background", "pet"), VOID),
        ({"border": "class"}, ("background", "pet", "border"), 2),
        ({"border": "foreground"}, ("background", "pet"), 1),
        ({"border": "background"}, ("background", "pet"), 0),
    ],
)
def test_border(options, classes, seam, folder):
    found, ledger = read(folder, **options)
    assert found.classes == classes
    expected = np.where(TRIMAP == 3, seam, TRIMAP == 1)
    assert [masks.label_map(record).tolist() for record in found] == [expected.tolist()] * 3
    assert {record.id: record.split for record in found} == {
        "Bengal_1": "train",
        "Abyssinian_7": "train",
        "american_bulldog_10": "test",
    }
    assert not ledger.lines


def test_species_and_breeds_as_classes(folder):
    found, _ = read(folder, classes="species", border="class")
    assert found.classes == ("background", "cat", "dog", "border")
    assert {record.id: masks.label_map(record)[0, 0] for record in found} == dict(zip(NAMES, (1, 1, 2), strict=True))
    found, _ = read(folder, classes="breed")
    assert found.classes == ("background", "Abyssinian", "american_bulldog", "Bengal")
    assert {record.id: masks.label_map(record)[0, 0] for record in found} == dict(zip(NAMES, (3, 1, 2), strict=True))
    assert {masks.label_map(record)[0, 2] for record in found} == {VOID}


def test_head_boxes_species_and_breed_are_attributes(folder):
    (folder / "annotations" / "xmls" / "Bengal_1.xml").write_text(HEAD.format(BOX))
    (folder / "annotations" / "xmls" / "Abyssinian_7.xml").write_text("<annotation/>")
    found, ledger = read(folder)
    assert {record.id: dict(record.attributes) for record in found} == {
        "Bengal_1": {"head_box": [1, 0, 3, 2.5], "species": "cat", "breed": "Bengal"},
        "Abyssinian_7": {"species": "cat", "breed": "Abyssinian"},
        "american_bulldog_10": {"species": "dog", "breed": "american_bulldog"},
    }
    assert not ledger.lines


BOMB = '<?xml version="1.0"{}?><!DOCTYPE a [<!ENTITY x "y">]><annotation>&x;</annotation>'


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (BOMB.format("").encode(), "DOCTYPE"),
        (BOMB.format(' encoding="utf-16"').encode("utf-16"), "DOCTYPE"),
        (b"", "empty"),
        (b"x" * 1_000_000, "too long"),
        (b"<annotation><object>", "cannot be read"),
        (HEAD.format("<xmin>nan</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>").encode(), "is not one"),
        (HEAD.format("<xmin>9</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax>").encode(), "is not one"),
        (HEAD.format("<xmin>1</xmin>").encode(), "cannot be read"),
    ],
)
def test_bad_head_boxes_are_refused(content, why, folder):
    (folder / "annotations" / "xmls" / "Bengal_1.xml").write_bytes(content)
    found, ledger = read(folder)
    assert len(found) == 3
    (line,) = ledger.of("refused")
    assert line.kind == "file"
    assert line.item.endswith("Bengal_1.xml")
    assert why in line.why


def test_strays_and_losses(folder):
    images, annotations = folder / "images", folder / "annotations"
    save_photo(images / "Abyssinian_34.jpg", photo())
    save_photo(images / "Abyssinian_100.mat", b"MATLAB")
    save_photo(annotations / "._trimaps", b"x")
    save_photo(annotations / "trimaps" / "._Bengal_1.png", b"x")
    save_photo(annotations / "README", b"x")
    (annotations / "xmls" / "Abyssinian_34.xml").write_text(HEAD.format(BOX))
    Image.new("RGBA", TRIMAP.shape[::-1]).save(images / "Abyssinian_7.jpg", "PNG")
    (images / "american_bulldog_10.jpg").unlink()
    found, ledger = read(folder)
    assert list(found.ids) == ["Bengal_1", "Abyssinian_7"]
    assert fates(ledger, "refused") == {
        ("image", "american_bulldog_10"): "listed, but its file in images/ is missing",
    }
    assert fates(ledger, "ignored") == {
        ("annotation", "american_bulldog_10.png"): "its image is refused",
        ("file", "Abyssinian_34.jpg"): "in no list",
        ("file", "Abyssinian_34.xml"): "a head box of an image that is not used",
        ("file", "Abyssinian_100.mat"): "not an image",
        ("file", "._trimaps"): "AppleDouble file of macOS",
        ("file", "._Bengal_1.png"): "AppleDouble file of macOS",
        ("file", "README"): "a description for people",
    }
    assert ledger.notes == ["Abyssinian_7.jpg (PNG): not the kind of file that the name says; read as what it is"]


def test_without_lists_every_pair_is_taken(folder):
    for name in ("list", "trainval", "test"):
        (folder / "annotations" / f"{name}.txt").unlink()
    found, ledger = read(folder.parent, classes="species")
    assert {record.id: masks.label_map(record)[0, 0] for record in found} == dict(zip(NAMES, (1, 1, 2), strict=True))
    assert {record.split for record in found} == {None}
    assert len(ledger.notes) == 1


def test_a_name_of_both_lists_is_tested_on_only(folder):
    (folder / "annotations" / "trainval.txt").write_text((folder / "annotations" / "list.txt").read_text())
    found, ledger = read(folder)
    assert {record.id for record in found if record.split == "test"} == {"american_bulldog_10"}
    assert len(ledger.notes) == 1


@pytest.mark.parametrize("row", ["Bengal_1", "Bengal_1 6 x 2", "Bengal_1 6 3 2"])
def test_a_line_that_cannot_be_read_is_named(row, folder):
    (folder / "annotations" / "test.txt").write_text(row)
    with pytest.raises(DataError, match=r"test.txt: cannot be read at `Bengal_1`"):
        pet.read(folder, Ledger())


def test_unknown_values_are_refused(folder):
    save_mask(folder / "annotations" / "trimaps" / "Bengal_1.png", np.where(TRIMAP == 3, 4, TRIMAP).astype(np.uint8))
    found, _ = read(folder)
    with pytest.raises(DataError, match="4 \\(3 pixels\\)"):
        masks.label_map(found[0])


def test_sniff(folder, tmp_path):
    assert pet.sniff(folder)[0] == pet.sniff(folder.parent)[0] == 1.0
    assert pet.sniff(folder / "images")[0] == 0.0
    assert pet.sniff(tmp_path / "nowhere")[0] == 0.0


@pytest.mark.parametrize("split", ["train", "test", None])
def test_round_trip(split, tmp_path):
    shapes = dict.fromkeys(SHAPES, "pet")
    before = map_classes(data(tmp_path / "photos"), shapes)
    before = before if split is None else _listed(before, split)
    pet.write(before, tmp_path / "written")
    after, ledger = read(tmp_path / "written")
    assert ledger.num_refused == 0
    assert after.classes == before.classes == ("background", "pet")
    assert sorted((record.id, record.split) for record in after) == sorted(
        (record.id, record.split) for record in before
    )
    again = {record.id: record for record in after}
    for record in before:
        np.testing.assert_array_equal(masks.label_map(again[record.id]), masks.label_map(record))


def _listed(found, split):
    packer = Packer()
    for i, record in enumerate(found):
        packer.record(replace(record, split=("train", split)[i % 2]))
    return packer.pack(found.classes)


def test_more_classes_than_a_trimap_holds(tmp_path):
    with pytest.raises(DataError, match="these data have 4"):
        pet.write(data(tmp_path / "photos"), tmp_path / "written")
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize(("split", "name"), [("train", "trainval"), ("test", "test")])
def test_real_counts(split, name, real_data):
    facts = json.loads((real_data / "facts.json").read_text())[f"oxford-iiit-pet {name}"]
    found, ledger = read(real_data / "oxford-iiit-pet", border="class")
    assert ledger.num_refused == 0
    records = [record for record in found if record.split == split]
    assert len(records) == facts["listed"]
    counts = sum(np.bincount(masks.label_map(record).reshape(-1), minlength=256) for record in records)
    values = facts["pixels_per_value"]
    expected = [values["background (2)"], values["foreground (1)"], values["border (3)"]]
    assert counts[:3].tolist() == expected
    assert not counts[3:].any()
    breeds = [record.attributes["breed"] for record in records]
    assert {breed: breeds.count(breed) for breed in set(breeds)} == facts["breeds"]


def test_real_strays(real_data):
    facts = json.loads((real_data / "facts.json").read_text())["oxford-iiit-pet folder"]
    found, ledger = read(real_data / "oxford-iiit-pet")
    ignored = fates(ledger, "ignored")
    assert [n for (_, n), why in ignored.items() if why == "in no list" and n.endswith("jpg")] == facts[
        "jpg in no list"
    ]
    assert [n for (_, n), why in ignored.items() if why == "not an image"] == facts["not jpg"]
    assert ledger.totals()["file"]["seen"] == 235 + 5 + 232 + 152
    assert sum("head_box" in record.attributes for record in found) == facts["xmls"]
