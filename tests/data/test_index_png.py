"""Maps of object numbers: Penn-Fudan's layout, tables of classes, and that maps of classes are not taken for them."""

import json

import numpy as np
import pytest
from truth_writers import LAYOUTS, fates, photo, save_mask, save_photo, truth

from maskwright.core.errors import DataError
from maskwright.data.formats import index_png
from maskwright.data.ledger import Ledger
from maskwright.data.open import open_data
from maskwright.imaging import masks, objects

SIZE = (6, 8)
NUMBERS = np.array([[0, 1, 1, 2, 2, 3, 0, 0]] * 6, np.uint8)


def read(path, **options):
    ledger = Ledger()
    found = index_png.read(path, ledger, **options)
    ledger.reconcile()
    return found, ledger


def penn(folder, maps, masks_folder="PedMasks", suffix="_mask"):
    for number, values in enumerate(maps):
        save_photo(folder / "PNGImages" / f"{number}.jpg", photo(values.shape[:2], seed=number))
        save_mask(folder / masks_folder / f"{number}{suffix}.png", values)
    return folder


def test_values_are_objects_of_one_class(tmp_path):
    found, ledger = read(penn(tmp_path, [NUMBERS, NUMBERS * 0]), name="pedestrian")
    assert found.classes == ("background", "pedestrian")
    assert [len(objects.objects_of(record, found.classes)) for record in found] == [3, 0]
    assert objects.objects_of(found[0], found.classes).boxes.tolist() == [[1, 0, 3, 6], [3, 0, 5, 6], [5, 0, 6, 6]]
    assert masks.label_map(found[0]).tolist() == (NUMBERS > 0).tolist()
    assert ledger.totals()["annotation"]["used"] == 2
    assert not ledger.lines


def test_the_highest_value_counts_nowhere(tmp_path):
    wide = NUMBERS.astype(np.uint16)
    wide[0, 0], wide[1, 1], wide[2, 1] = 65535, 255, 30000
    narrow = NUMBERS.copy()
    narrow[0, 0] = 255
    found, _ = read(penn(tmp_path, [narrow, wide]), masks="PedMasks")
    for record, numbers in zip(found, ([1, 2, 3], [1, 2, 3, 255, 30000]), strict=True):
        assert objects.objects_of(record, found.classes).ids.tolist() == numbers
        assert masks.label_map(record)[0].tolist() == [255, 1, 1, 1, 1, 1, 0, 0]


@pytest.mark.parametrize("kind", ["csv", "json"])
def test_a_table_names_the_class_of_each_object(tmp_path, kind):
    penn(tmp_path, [NUMBERS * 7, NUMBERS])
    table = {"0": {"7": "cat", "14": "dog", "21": "cat"}, "1.jpg": {"1": "dog", "2": "dog", "3": "void"}}
    rows = "".join(f"{n},{image}, {name}\n" for image, numbers in table.items() for n, name in numbers.items())
    text = json.dumps(table) if kind == "json" else f"object,image,class\n{rows}"
    (tmp_path / f"table.{kind}").write_text(text)
    found, ledger = read(tmp_path, table=f"table.{kind}")
    assert found.classes == ("background", "cat", "dog")
    assert objects.objects_of(found[0], found.classes).labels.tolist() == [1, 2, 1]
    assert objects.objects_of(found[1], found.classes).labels.tolist() == [2, 2]
    assert masks.label_map(found[1])[0].tolist() == [0, 2, 2, 2, 2, 255, 0, 0]
    assert ledger.notes == ["masks are called `<name of the image>_mask`"]
    assert fates(ledger, "ignored") == {}


def test_an_object_without_a_class_is_refused_where_it_shows(tmp_path):
    penn(tmp_path, [NUMBERS, NUMBERS, NUMBERS * 0])
    (tmp_path / "table.json").write_text(json.dumps({"0": {"1": "cat", "2": "cat", "3": "cat"}}))
    found, ledger = read(tmp_path, table="table.json")
    assert ledger.notes == ["masks are called `<name of the image>_mask`",
                            "table.json has no row for 2 images: it can be used only where it shows no object"]  # fmt: skip
    assert masks.label_map(found[0]).max() == 1
    assert masks.label_map(found[2]).max() == 0
    with pytest.raises(DataError, match="stand for no class: 1"):
        objects.objects_of(found[1], found.classes)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.json", "{", "not valid JSON"),
        ("t.json", "[1]", "is no table of objects"),
        ("t.json", "{}", "names no object"),
        ("t.json", '{"a": {"0": "cat"}}', "not an object number: 0"),
        ("t.json", '{"a": {"65535": "cat"}}', "not an object number: 65535"),
        ("t.json", '{"a": {"1": 5}}', "an object without a class"),
        ("t.csv", "a,b\n", "has no columns image, object, class"),
        ("t.csv", "image,object,class\na,1\n", "t.csv:2: a row that is too short"),
        ("t.csv", "image,object,class\na,x,cat\n", "not an object number: x"),
        ("t.csv", "image,object,class\na,1,cat\na,1,dog\n", "t.csv:3: object 1 has two classes"),
        ("t.csv", "image,object,class\n" + "".join(f"a,{i},c{i}\n" for i in range(1, 300)), "too many"),
    ],
)
def test_tables_that_are_none(tmp_path, name, text, message):
    (penn(tmp_path, [NUMBERS]) / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read(tmp_path, table=name)
    with pytest.raises(DataError, match="not found"):
        read(tmp_path, table="nowhere.csv")


def test_files_that_hold_no_numbers_are_refused(tmp_path):
    penn(tmp_path, [NUMBERS, np.zeros((*SIZE, 3), np.uint8), np.zeros((5, 5), np.uint8)])
    save_photo(tmp_path / "PNGImages" / "3.jpg", photo(SIZE))
    save_photo(tmp_path / "PedMasks" / "3_mask.jpg", photo(SIZE))
    (tmp_path / "PNGImages" / "2.jpg").write_bytes(photo(SIZE))
    found, ledger = read(tmp_path)
    assert list(found.ids) == ["0"]
    whys = {name: why for (kind, name), why in fates(ledger, "refused").items() if kind == "annotation"}
    assert whys == {
        "1_mask.png": "holds colours (mode RGB), not object numbers",
        "2_mask.png": "it is 5 x 5 pixels and its image 8 x 6",
        "3_mask.jpg": "a JPEG cannot hold object numbers: compression changes them",
    }


# ----------------------------------------------------------------------------------------------------------- recognised


def test_penn_fudan_is_recognised(tmp_path):
    penn(tmp_path, [NUMBERS, np.minimum(NUMBERS, 2), NUMBERS * 0])
    assert open_data(tmp_path).format == "index_png"


@pytest.mark.parametrize(
    ("folder", "maps", "reason"),
    [
        ("masks", [NUMBERS, np.minimum(NUMBERS, 2)], "no folder called"),
        ("instances", [NUMBERS * 2, NUMBERS], "they have gaps"),
        ("instances", [NUMBERS, NUMBERS], "each map has the same"),
        ("objects", [np.where(NUMBERS == 2, 1, NUMBERS), NUMBERS], "they have gaps"),
    ],
)
def test_when_unsure_it_must_be_asked_for(tmp_path, folder, maps, reason):
    penn(tmp_path, maps, folder)
    sure, why = index_png.sniff(tmp_path)
    assert sure < 0.3
    assert reason in why
    assert len(open_data(tmp_path, format="index_png", options={"masks": folder}).data) == 2


def test_a_list_of_classes_beside_it_makes_it_unsure(tmp_path):
    penn(tmp_path, [NUMBERS, NUMBERS * 0], "instances")
    assert index_png.sniff(tmp_path)[0] > 0.7
    (tmp_path / "classes.txt").write_text("background\ncat\ndog\nbird\n")
    assert index_png.sniff(tmp_path)[0] < 0.3


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_no_other_layout_is_taken_for_it(layout, tmp_path):
    layout.write(tmp_path, truth())
    assert index_png.sniff(tmp_path)[0] < 0.3


def test_real_sets_are_not_taken_for_it(real_data):
    for folder in real_data.iterdir():
        assert index_png.sniff(folder)[0] < 0.3, folder
