"""Mask folders: pairing by name, what stored values mean, what is refused, SageMaker's channels."""

import json

import numpy as np
import pytest
from PIL import Image, ImageFilter
from truth_writers import COLOURS, data, fates, photo, save_mask, save_photo

from maskwright.core.errors import DataError
from maskwright.core.types import VOID
from maskwright.data.formats import folder, stored_values
from maskwright.data.formats.layouts import common_affix, lay_out
from maskwright.data.ledger import Ledger
from maskwright.imaging import masks


def read(path, **options):
    ledger = Ledger()
    found = folder.read(path, ledger, **options)
    ledger.reconcile()
    return found, ledger


def make(base, values, *, image="images/{}.jpg", mask="masks/{}.png", names="abc"):
    """One image and mask of the same size for each array of stored values."""
    for i, (name, stored) in enumerate(zip(names, values, strict=False)):
        save_photo(base / image.format(name), photo(stored.shape[:2], seed=i))
        save_mask(base / mask.format(name), stored)
    return base


def row(*values, dtype=np.uint8):
    return np.array([values], dtype)


# ----------------------------------------------------------------------------------------------------------- pairing

PAIRS = {
    "two folders": (["images/a.jpg", "images/b.jpg", "masks/b.png", "masks/a.png"], {"a": None, "b": None}),
    "photos and labels": (["photos/a.jpg", "labels/a.tif"], {"a": None}),
    "nested": (["d/imgs/x/a.jpg", "d/gt/x/a.png"], {"d/x/a": None}),
    "a prefix": (["input/cat.0.jpg", "input/cat.10.jpg", "mask/mask_cat.0.png", "mask/mask_cat.10.png"],
                 {"cat.0": None, "cat.10": None}),
    "a suffix": (["image/1.jpg", "image/11.jpg", "label/1_seg.png", "label/11_seg.png"], {"1": None, "11": None}),
    "lists inside": (["images/train/a.jpg", "images/val/a.jpg", "masks/train/a.png", "masks/val/a.png"],
                     {"train/a": "train", "val/a": "val"}),
    "lists outside": (["train/images/a.jpg", "valid/images/b.jpg", "train/masks/a.png", "valid/masks/b.png"],
                      {"train/a": "train", "val/b": "val"}),
    "lists of images only": (["images/train/a.jpg", "images/test/b.jpg", "masks/a.png", "masks/b.png"],
                             {"train/a": "train", "test/b": "test"}),
    "lists in the name": (["train_images/a.jpg", "train_masks/a.png"], {"train/a": "train"}),
    "sagemaker": (["train/a.jpg", "validation/b.jpg", "train_annotation/a.png", "validation_annotation/b.png"],
                  {"train/a": "train", "val/b": "val"}),
    "named after the images": (["cats/a.jpg", "cats_mask/a.png"], {"cats/a": None}),
    "other folders": (["raw/images/a.jpg", "made/masks/a.png"], {"a": None}),
    "side by side": (["a.jpg", "a_mask.png", "b.jpg", "b_mask.png"], {"a": None, "b": None}),
    "side by side, prefix": (["x/a.png", "x/gt-a.png"], {"x/a": None}),
    "twins": (["a.jpg", "a.png", "b.jpg", "b.png"], {"a": None, "b": None}),
}  # fmt: skip


@pytest.mark.parametrize("case", PAIRS)
def test_layouts(case, tmp_path):
    names, splits = PAIRS[case]
    layout = lay_out(names)
    assert (layout.unlabelled, layout.orphans, layout.unclear, layout.left) == ([], [], [], {})
    for name in names:
        is_mask = any(name == mask.name for _, mask in layout.pairs)
        save = save_mask if is_mask else save_photo
        save(tmp_path / name, row(0, 1) if is_mask else photo((1, 2)))
    assert folder.sniff(tmp_path)[0] > 0.3
    found, ledger = read(tmp_path)
    assert {record.id: record.split for record in found} == splits
    assert not ledger.lines
    for record in found:
        assert record.image.rpartition("/")[2].partition(".jpg")[0][0] in record.label_map.rpartition("/")[2]


def test_pairing_never_follows_the_order_of_names():
    names = [f"images/{n}.jpg" for n in (1, 2, 10)] + [f"masks/{n}.png" for n in (10, 2)]
    layout = lay_out(names)
    assert [(image.stem, mask.stem) for image, mask in layout.pairs] == [("2", "2"), ("10", "10")]
    assert [file.stem for file in layout.unlabelled] == ["1"]


@pytest.mark.parametrize(
    ("images", "stored", "affix"),
    [
        ({"a", "b"}, ["a", "b"], ("", "")),
        ({"1", "2", "12"}, ["m1", "m2", "m12"], ("m", "")),
        ({"a", "b"}, ["x_a_y", "x_b_y"], ("x_", "_y")),
        ({"a"}, ["a", "a_edges"], ("", "")),
        ({"a", "b", "c"}, ["q", "r", "a_s"], ("", "")),
        ({"1", "2"}, ["31", "32"], ("", "")),
        (set(), ["a"], ("", "")),
    ],
)
def test_common_affix(images, stored, affix):
    assert common_affix(images, stored) == affix


def test_options_name_the_folders(tmp_path):
    make(tmp_path, [row(0, 1), row(0, 2)], image="photo_set/{}.jpg", mask="drawn/{}_fine.png")
    make(tmp_path, [row(0, 7)], image="photo_set/{}.jpg", mask="drawn/{}_coarse.png")
    save_photo(tmp_path / "else" / "z.jpg", photo())
    found, ledger = read(tmp_path, images="photo_set", masks="drawn/", suffix="_fine")
    assert list(found.ids) == ["a", "b"]
    assert found.classes == ("background", "class_1", "class_2")
    assert fates(ledger, "ignored") == {
        ("file", "a_coarse.png"): "its name is not `<name of the image>_fine`",
        ("file", "z.jpg"): "outside the folders of images and masks",
    }
    with pytest.raises(DataError, match="not a folder of the data set"):
        read(tmp_path, images="elsewhere")


def test_one_folder_by_option(tmp_path):
    make(tmp_path, [row(0, 1)], image="all/{}.png", mask="all/{}-x.png")
    found, _ = read(tmp_path, images="all", masks="all", suffix="-x")
    assert [record.image.endswith("all/a.png") for record in found] == [True]


def test_every_file_has_a_fate(tmp_path):
    make(tmp_path, [row(0, 1)] * 3)
    save_photo(tmp_path / "images" / "bare.jpg", photo())
    save_mask(tmp_path / "masks" / "orphan.png", row(0, 1))
    save_photo(tmp_path / "images" / "b.png", photo())
    save_photo(tmp_path / "images" / ".hidden.jpg", photo())
    save_photo(tmp_path / "masks" / "Thumbs.db", b"x")
    save_photo(tmp_path / "readme.md", b"x")
    save_photo(tmp_path / "cover.jpg", photo())
    save_photo(tmp_path / "images" / "c.jpg", b"")
    found, ledger = read(tmp_path)
    assert list(found.ids) == ["a"]
    clash = "several images or masks of one name: images/b.jpg, images/b.png, masks/b.png"
    assert [(line.kind, line.item.rpartition("/")[2], line.why) for line in ledger.of("refused")] == [
        ("annotation", "orphan.png", "a mask without an image"),
        ("image", "b.jpg", clash),
        ("image", "b.png", clash),
        ("annotation", "b.png", clash),
        ("image", "c.jpg", "is empty (0 bytes)"),
    ]
    assert fates(ledger, "ignored") == {
        ("image", "bare.jpg"): "unlabelled: it has no mask",
        ("file", "bare.jpg"): "unlabelled: it has no mask",
        ("file", ".hidden.jpg"): "hidden",
        ("file", "Thumbs.db"): "left behind by the operating system",
        ("file", "readme.md"): "not an image",
        ("file", "cover.jpg"): "outside the folders of images and masks",
        ("annotation", "c.png"): "its image is refused",
    }
    assert ledger.totals()["image"] == {"seen": 5, "used": 1, "repaired": 0, "ignored": 1, "refused": 3}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["images/a.jpg"], "no masks were found"),
        (["images/a.jpg", "masks/b.png"], "no mask is called like an image: masks such as masks/b.png"),
        (["notes.txt"], "no masks were found"),
        ([], "the folder is empty"),
    ],
)
def test_folders_without_a_pair(files, words, tmp_path):
    for name in files:
        save_photo(tmp_path / name, photo())
    assert folder.sniff(tmp_path)[0] == 0.0
    with pytest.raises(DataError, match=words):
        read(tmp_path)


# -------------------------------------------------------------------------------------------------- what values mean

ORDER, NUMBERED = ["cat", "dog"], {"cat": 1, "dog": 4}
VALUES = {
    "gaps make no phantom class": (row(1, 2, 3), {}, ("class_1", "class_2", "class_3"), [0, 1, 2]),
    "zero is the background": (row(0, 3, 7), {}, ("background", "class_3", "class_7"), [0, 1, 2]),
    "black and white": (row(0, 255), {}, ("background", "foreground"), [0, 1]),
    "zero and one": (row(0, 1), {}, ("background", "foreground"), [0, 1]),
    "any two": (row(0, 128), {}, ("background", "foreground"), [0, 1]),
    "void beside two": (row(0, 1, 255), {}, ("background", "foreground"), [0, 1, VOID]),
    "void beside many": (row(0, 1, 2, 255), {}, ("background", "class_1", "class_2"), [0, 1, 2, VOID]),
    "one value": (row(5, 5), {}, ("class_5",), [0, 0]),
    "16 bits": (row(0, 1, 300, dtype=np.uint16), {}, ("background", "class_1", "class_300"), [0, 1, 2]),
    "grey in RGB": (np.repeat(row(0, 2, 3)[..., None], 3, 2), {}, ("background", "class_2", "class_3"), [0, 1, 2]),
    "colours": (COLOURS[row(0, 2, 1)], {}, ("background", "colour_24b353", "colour_fa3253"), [0, 1, 2]),
    "names in order from zero": (row(0, 1), {"classes": ["road", "sky"]}, ("road", "sky"), [0, 1]),
    "names in order from one": (row(0, 1, 2), {"classes": ORDER}, ("background", "cat", "dog"), [0, 1, 2]),
    "names without a ground": (row(1, 2, 2), {"classes": ORDER}, ("cat", "dog"), [0, 1, 1]),
    "named background": (row(0, 1), {"classes": ["background", *ORDER]}, ("background", "cat", "dog"), [0, 1]),
    "numbered": (row(0, 4, 1), {"classes": NUMBERED}, ("background", "cat", "dog"), [0, 2, 1]),
    "numbers first": (row(0, 4, 1), {"classes": {1: "cat", 4: "dog"}}, ("background", "cat", "dog"), [0, 2, 1]),
    "numbered with void": (row(4, 1, 255), {"classes": NUMBERED}, ("cat", "dog"), [1, 0, VOID]),
    "two values, one name": (row(0, 255), {"classes": ["cat"]}, ("background", "cat"), [0, 1]),
    "two values, ground and name": (row(0, 255), {"classes": ["Background", "cat"]}, ("background", "cat"), [0, 1]),
    "two values, one number": (row(0, 255), {"classes": {"cat": 1}}, ("background", "cat"), [0, 1]),
    "one name for two values": (row(0, 1, 2), {"classes": {"cat": 1, "_background_": 0, "void": 2}},
                                ("background", "cat"), [0, 1, VOID]),
    "coloured names": (COLOURS[row(0, 2, 1)], {"classes": {"cat": [250, 50, 83], "dog": "#24b353"}},
                       ("background", "cat", "dog"), [0, 2, 1]),
    "two colours, one name": (COLOURS[row(0, 2)], {"classes": ["cat"]}, ("background", "cat"), [0, 1]),
    "a threshold": (row(0, 127, 128, 255), {"threshold": 128}, ("background", "foreground"), [0, 0, 1, 1]),
    "a threshold and a name": (row(0, 200), {"threshold": 100, "classes": ["cat"]}, ("background", "cat"), [0, 1]),
}  # fmt: skip


@pytest.mark.parametrize("case", VALUES)
def test_values(case, tmp_path):
    stored, options, classes, expected = VALUES[case]
    found, ledger = read(make(tmp_path, [stored]), **options)
    assert found.classes == classes
    assert masks.label_map(found[0]).tolist() == [expected]
    assert ledger.num_refused == 0


def test_one_bit_and_eight_bits_of_one_set(tmp_path):
    make(tmp_path, [row(0, 1, dtype=bool), row(0, 1)])
    found, _ = read(tmp_path)
    assert [masks.label_map(record).tolist() for record in found] == [[[0, 1]]] * 2


def test_palette_files_are_read_as_indices_unless_colours_are_named(tmp_path):
    palette = np.zeros((256, 3), np.uint8)
    palette[[3, 9]] = COLOURS[[1, 2]]
    make(tmp_path, [row(0, 1)])
    save_mask(tmp_path / "masks" / "a.png", row(9, 3), palette=palette)
    assert read(tmp_path)[0].classes == ("class_3", "class_9")
    found, _ = read(tmp_path, classes={"cat": [250, 50, 83], "dog": [36, 179, 83]})
    assert masks.label_map(found[0]).tolist() == [[1, 0]]


@pytest.mark.parametrize(
    ("name", "text", "classes"),
    [
        ("classes.txt", "background\ncat\n\n# a comment\ndog", ("background", "cat", "dog")),
        ("labelmap.txt", "# label:color_rgb:parts:actions\ncat:1,1,1::\ndog:2,2,2::", ("background", "cat", "dog")),
        ("labels.json", '["cat", "dog"]', ("background", "cat", "dog")),
        ("label_map.txt", "0 background\n2 dog\n1 cat", ("background", "cat", "dog")),
        ("labels.json", '{"info": {"x": 1}}', ("background", "class_1", "class_2")),
    ],
)
def test_files_of_classes(name, text, classes, tmp_path):
    make(tmp_path, [row(0, 1, 2)])
    (tmp_path / name).write_text(text)
    found, ledger = read(tmp_path)
    assert found.classes == classes
    assert masks.label_map(found[0]).tolist() == [[0, 1, 2]]
    assert ledger.count("file", "used") == (2 if "class_1" in classes else 3)
    (tmp_path / name).rename(tmp_path / "mine.json" if name.endswith("json") else tmp_path / "mine")
    assert len(read(tmp_path)[0].classes) == 3


def test_a_value_beyond_the_list_is_refused_with_its_name(tmp_path):
    make(tmp_path, [row(0, 1, 2, 9)])
    found, _ = read(tmp_path, classes={"background": 0, "cat": 1, "dog": 2})
    with pytest.raises(DataError, match=r"no class: 9 \(1 pixels\)"):
        masks.label_map(found[0])


def test_colours_without_a_list_of_colours(tmp_path):
    make(tmp_path, [COLOURS[row(0, 1, 2, 3)]])
    with pytest.raises(DataError, match="the list of classes has none"):
        read(tmp_path, classes=["a", "b", "c"])


def test_only_a_sample_of_many_masks_is_looked_at(tmp_path, monkeypatch):
    names = [f"{i:02d}" for i in range(20)]
    make(tmp_path, [row(0, 1) if i != 7 else row(0, 5) for i in range(20)], names=names)
    monkeypatch.setattr(stored_values, "MOST_MASKS", 5)
    found, _ = read(tmp_path)
    assert found.classes == ("background", "foreground")
    with pytest.raises(DataError, match="no class: 5"):
        masks.label_map(found[7])


def test_a_damaged_mask_does_not_hide_the_others(tmp_path):
    make(tmp_path, [np.random.default_rng(0).integers(0, 2, (40, 40), np.uint8)] * 3)
    path = tmp_path / "masks" / "b.png"
    path.write_bytes(path.read_bytes()[:100])
    found, _ = read(tmp_path)
    assert list(found.ids) == ["a", "b", "c"]
    with pytest.raises(DataError, match=r"b.png: is truncated"):
        masks.label_map(found[1])


# ---------------------------------------------------------------------------------------------- what masks cannot be


def blurred(size=(64, 64)):
    picture = Image.new("L", size)
    picture.paste(255, (16, 16, 48, 48))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(1.5)))


def test_blurred_masks_need_a_threshold(tmp_path):
    make(tmp_path, [blurred()] * 3)
    with pytest.raises(DataError, match=r"3 of 3 masks .* grey seams .*; give `threshold: 128`"):
        read(tmp_path)
    found, _ = read(tmp_path, threshold=128)
    assert [int(masks.label_map(record).sum()) for record in found] == [int((blurred() >= 128).sum())] * 3


def test_index_masks_are_never_taken_for_blurred(tmp_path):
    rng = np.random.default_rng(0)
    ground = np.zeros((64, 64), np.uint8)
    ground[:8, :16] = rng.integers(0, 40, (8, 16))
    ground[60:] = 255
    found, _ = read(make(tmp_path, [ground]))
    assert len(found.classes) == len(np.unique(ground)) - 1


def test_jpeg_masks_need_a_threshold(tmp_path):
    make(tmp_path, [blurred()] * 2, mask="masks/{}.jpg")
    with pytest.raises(DataError, match=r"2 masks are all JPEG files.*; give `threshold: 128`"):
        read(tmp_path)
    save_photo(tmp_path / "images" / "c.jpg", photo((1, 2)))
    save_mask(tmp_path / "masks" / "c.png", row(0, 1))
    found, ledger = read(tmp_path)
    assert list(found.ids) == ["c"]
    assert {key[0] for key in fates(ledger, "refused")} == {"image", "annotation"}
    assert ledger.num_refused == 4
    assert list(read(tmp_path, threshold=128)[0].ids) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("stored", "words"),
    [
        (np.arange(300, dtype=np.uint16)[None], "300 different values"),
        (np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8), "different colours"),
    ],
)
def test_photographs_are_no_masks(stored, words, tmp_path):
    with pytest.raises(DataError, match=words):
        read(make(tmp_path, [stored]))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"threshold": 0}, "divides nothing"),
        ({"threshold": 128, "classes": ["a", "b"]}, "makes one class"),
        ({"classes": {"a": "red"}}, "not a colour"),
        ({"classes": []}, "names no class"),
        ({"labels": "nowhere.txt"}, "nowhere.txt: cannot be read"),
    ],
)
def test_options_that_cannot_be(options, words, tmp_path):
    with pytest.raises(DataError, match=words):
        read(make(tmp_path, [row(0, 1)]), **options)


def test_sizes_and_turned_photos(tmp_path):
    make(tmp_path, [row(0, 1, 1)] * 3)
    save_mask(tmp_path / "masks" / "a.png", row(0, 1))
    save_photo(tmp_path / "images" / "b.jpg", photo((1, 3), orientation=6))
    found, ledger = read(tmp_path)
    assert [(record.id, record.size, record.upright) for record in found] == [("b", (1, 3), False), ("c", (1, 3), True)]
    assert fates(ledger, "refused") == {
        ("annotation", "a.png"): "it is 2 x 1 pixels and its image 3 x 1",
        ("image", "a.jpg"): "its label map cannot be used",
    }
    assert fates(ledger, "repaired") == {
        ("image", "b.jpg"): "labels fit the image before EXIF rotation, which is left out"
    }


# --------------------------------------------------------------------------------------------- SageMaker, round trips


def sagemaker(base, train, validation):
    make(base, [train], image="train/{}.jpg", mask="train_annotation/{}.png", names="a")
    make(base, [validation], image="validation/{}.jpg", mask="validation_annotation/{}.png", names="b")
    return base


@pytest.mark.parametrize(
    ("maps", "classes", "expected"),
    [
        ({}, ("class_1", "class_2", "class_3"), ([0, 1, 2], [2, 1, 0])),
        ({"label_map.json": {"map": {"0": 2, "1": 1, "2": 3}}}, ("background", "class_1", "class_2"), ([1, 0, 2], [2, 0, 1])),
        ({"label_map.json": {"scale": "2"}}, ("background", "foreground"), ([0, 1, 1], [1, 1, 0])),
        (
            {
                "train_label_map.json": {"map": {"0": 2, "1": 1, "2": 3}},
                "validation_label_map.json": {"map": {"1": 3, "2": 2, "0": 1}},
            },
            ("background", "class_1", "class_2"),
            ([1, 0, 2], [1, 2, 0]),
        ),
    ],
)  # fmt: skip
def test_sagemakers_label_maps(maps, classes, expected, tmp_path):
    """`map` says label: stored value; the demo's labels 1, 2, 3 make no class for 0."""
    sagemaker(tmp_path, row(1, 2, 3), row(3, 2, 1))
    for name, value in maps.items():
        (tmp_path / name).write_text(json.dumps(value))
    found, ledger = read(tmp_path)
    assert [record.split for record in found] == ["train", "val"]
    assert found.classes == classes
    assert tuple(masks.label_map(record)[0].tolist() for record in found) == expected
    assert ledger.count("file", "ignored") == 0


@pytest.mark.parametrize(
    "value", [[], {}, {"map": [1]}, {"map": {"a": 1}}, {"map": {"0": 1, "1": 1}}, {"scale": "0"}, "x"]
)
def test_bad_label_maps(value, tmp_path):
    sagemaker(tmp_path, row(1, 2, 3), row(3, 2, 1))
    (tmp_path / "label_map.json").write_text(value if value == "x" else json.dumps(value))
    with pytest.raises(DataError, match=r"label_map.json"):
        read(tmp_path)


@pytest.mark.parametrize("split", ["train", None])
def test_round_trip(split, tmp_path):
    before = data(tmp_path / "photos", split=split)
    folder.write(before, tmp_path / "written")
    assert folder.sniff(tmp_path / "written")[0] > 0.3
    after, ledger = read(tmp_path / "written")
    assert not ledger.lines
    assert after.classes == before.classes
    again = {record.id.rpartition("/")[2]: record for record in after}
    assert {name: record.split for name, record in again.items()} == {record.id: record.split for record in before}
    for record in before:
        np.testing.assert_array_equal(masks.label_map(again[record.id]), masks.label_map(record))
    folder.write(after, tmp_path / "twice")
    twice, _ = read(tmp_path / "twice")
    assert [record.id for record in twice] == [record.id for record in after]


def test_real_noisy_masks(real_data):
    path = real_data / "cat_mask_folder"
    facts = json.loads((real_data / "facts.json").read_text())["cat_mask_folder"]
    with pytest.raises(DataError, match=f"{facts['masks']:,} masks are all JPEG files.*threshold"):
        read(path)
    found, ledger = read(path, threshold=128, classes=["cat"])
    assert len(found) == facts["images"]
    assert found.classes == ("background", "cat")
    assert not ledger.lines
    record = found[list(found.ids).index("cat.8")]
    grey = np.asarray(Image.open(record.label_map))
    np.testing.assert_array_equal(masks.label_map(record), grey >= 128)
