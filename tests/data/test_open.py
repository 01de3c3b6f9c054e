"""Opening: the surest format reads, its options are checked, and what is no data set is said in one sentence."""

import gzip
import io
import json
import sys
import tarfile
import types
import zipfile

import pytest
from PIL import Image

from maskwright.core.errors import DataError, RecipeError
from maskwright.core.registry import Registry
from maskwright.core.table import Packer
from maskwright.data import open as opening
from maskwright.data.formats import FORMATS, Format
from maskwright.data.ledger import Ledger
from maskwright.data.open import open_data, recognise


def shelf(monkeypatch, **sure) -> list:
    """A shelf of made-up formats, each as sure as given; returns the list of what was read with which options."""
    read_with = []
    module = types.ModuleType("made_up_formats")

    def entry(name, confidence):
        def read(path, ledger, *, level: int = 1, names: tuple[str, ...] = (), strict: bool = False):
            """level: how much."""
            read_with.append((name, path, level, names, strict))
            ledger.seen("image")
            ledger.used("image")
            packer = Packer()
            packer.image("a", "a.png", (1, 1))
            return packer.pack(["background", "thing"])

        def sniff(path):
            return float(confidence(path) if callable(confidence) else confidence), f"{name} looked for {name}.txt"

        return Format(name, f"{name} files.", sniff, read)

    for name, confidence in sure.items():
        setattr(module, name, entry(name, confidence))
    monkeypatch.setitem(sys.modules, "made_up_formats", module)
    monkeypatch.setattr(opening, "FORMATS", Registry("format", {n: f"made_up_formats:{n}" for n in sure}))
    return read_with


@pytest.fixture
def folder(tmp_path):
    """A folder with one file that says nothing."""
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "readme.txt").write_text("hello")
    return tmp_path / "set"


def test_the_surest_format_reads(monkeypatch, folder):
    read_with = shelf(monkeypatch, low=0.4, high=0.8, none=0.0)
    opened = open_data(folder)
    assert (opened.format, opened.reason, len(opened.data)) == ("high", "high looked for high.txt", 1)
    assert read_with == [("high", folder, 1, (), False)]
    assert opened.ledger.count("image", "used") == 1


def test_a_named_format_is_not_questioned(monkeypatch, folder):
    read_with = shelf(monkeypatch, low=0.0, high=0.8)
    assert open_data(str(folder), format="low").reason == "asked for"
    assert read_with[0][0] == "low"
    with pytest.raises(RecipeError, match="no format is called `lwo`; did you mean `low`"):
        open_data(folder, format="lwo")


def test_a_tie_and_doubt_are_refused_with_what_was_looked_for(monkeypatch, folder):
    shelf(monkeypatch, one=0.7, two=0.7, three=0.1)
    with pytest.raises(DataError) as caught:
        open_data(folder)
    assert "could be more than one format (one: one looked for one.txt; two: two looked for two.txt)" in str(
        caught.value
    )
    shelf(monkeypatch, one=0.2, two=0.0)
    with pytest.raises(DataError) as caught:
        open_data(folder)
    assert str(caught.value) == (
        f"{folder}: no label format is recognised (one: one looked for one.txt; two: two looked for two.txt); "
        "say which with `--format` if you know it"
    )


def test_options_are_checked_and_turned_into_their_types(monkeypatch, folder):
    read_with = shelf(monkeypatch, one=0.9)
    open_data(folder, options={"level": "3", "names": ["a", "b"], "strict": "true"})
    assert read_with == [("one", folder, 3, ("a", "b"), True)]
    for options, words in (
        ({"levle": 3}, "format one.levle: unknown option; did you mean `level`?"),
        ({"level": "many"}, "format one.level: input should be a valid integer"),
    ):
        with pytest.raises(RecipeError) as caught:
            open_data(folder, options=options)
        assert words in str(caught.value)
    assert len(read_with) == 1


def test_several_sets_share_a_ledger(monkeypatch, folder):
    shelf(monkeypatch, one=0.9)
    ledger = Ledger()
    assert open_data(folder, ledger=ledger).ledger is ledger
    open_data(folder, ledger=ledger)
    assert ledger.count("image", "used") == 2


def test_a_reader_that_loses_an_item_is_our_bug(monkeypatch, folder):
    shelf(monkeypatch, one=0.9)
    ledger = Ledger()
    ledger.seen("file")
    with pytest.raises(AssertionError, match="1 seen, 0 accounted for"):
        open_data(folder, ledger=ledger)


# ------------------------------------------------------------------------------------------------------ the real shelf


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_names_its_options(name):
    options = FORMATS.options(name)
    assert "path" not in options
    assert all(option.help for option in options.values())
    assert FORMATS.summary(name) == FORMATS[name].summary != ""


def coco(path):
    document = {
        "images": [{"id": 1, "file_name": "a.png", "height": 4, "width": 4}],
        "annotations": [],
        "categories": [],
    }
    document["categories"].append({"id": 1, "name": "cat"})
    document["annotations"].append({"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[0, 0, 3, 0, 3, 3]]})
    path.mkdir(parents=True)
    (path / "labels.json").write_text(json.dumps(document))
    Image.new("RGB", (4, 4)).save(path / "a.png")


def voc(path):
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (path / name).mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(path / "JPEGImages/a.jpg")
    label_map = Image.new("P", (4, 4), 3)
    label_map.putpalette(bytes(range(256)) * 3)
    label_map.save(path / "SegmentationClass/a.png")
    (path / "ImageSets/Segmentation/train.txt").write_text("a\n")


def pet(path):
    (path / "images").mkdir(parents=True)
    (path / "annotations/trimaps").mkdir(parents=True)
    Image.new("RGB", (4, 4)).save(path / "images/Abyssinian_1.jpg")
    Image.new("L", (4, 4), 1).save(path / "annotations/trimaps/Abyssinian_1.png")
    (path / "annotations/list.txt").write_text("Abyssinian_1 1 1 1\n")
    (path / "annotations/trainval.txt").write_text("Abyssinian_1 1 1 1\n")
    (path / "annotations/test.txt").write_text("")


def masks(path):
    for name, value in (("images", 9), ("masks", 1)):
        (path / name).mkdir(parents=True)
        Image.new("L", (4, 4), value).save(path / name / "a.png")


@pytest.mark.parametrize(("make", "name"), [(coco, "coco"), (voc, "voc"), (pet, "pet"), (masks, "folder")])
def test_sets_are_recognised(tmp_path, make, name):
    make(tmp_path / "set")
    opened = open_data(tmp_path / "set")
    assert (opened.format, len(opened.data)) == (name, 1)
    assert opened.reason
    assert recognise(str(tmp_path / "set")) == (name, opened.reason)


def test_the_folder_above_or_below_is_proposed(tmp_path):
    masks(tmp_path / "all" / "first")
    (tmp_path / "all" / "notes.txt").write_text("hello")
    (tmp_path / "all" / "empty").mkdir()
    with pytest.raises(DataError) as caught:
        open_data(tmp_path / "all" / "first" / "images")
    assert caught.value.hint == f"`{tmp_path / 'all' / 'first'}` looks like folder"


def test_two_sets_in_one_folder(monkeypatch, tmp_path):
    """Each format is certain of the whole because of one folder in it: one of these is proposed."""
    shelf(monkeypatch, a=lambda path: any(path.rglob("a.txt")), b=lambda path: any(path.rglob("b.txt")))
    for name in ("a", "b"):
        (tmp_path / "all" / name).mkdir(parents=True)
        (tmp_path / "all" / name / f"{name}.txt").touch()
    with pytest.raises(DataError) as caught:
        open_data(tmp_path / "all")
    assert "could be more than one format" in caught.value.what
    assert caught.value.hint == f"give one data set, such as `{tmp_path / 'all' / 'a'}`"
    assert open_data(tmp_path / "all" / "a").format == "a"


# --------------------------------------------------------------------------------------------------------- no data set


def archive(kind):
    def make(path):
        if kind == "zip":
            with zipfile.ZipFile(path, "w") as file:
                file.writestr("a.txt", "x")
        elif kind == "tar":
            with tarfile.open(path, "w") as file:
                file.addfile(tarfile.TarInfo("a.txt"), io.BytesIO(b""))
        else:
            path.write_bytes(gzip.compress(b"x" * 2000))

    return make


def text(content):
    return lambda path: path.write_text(content)


FILES = [
    ("empty.json", lambda path: path.touch(), "is empty (0 bytes)"),
    ("page.json", text("\n<!DOCTYPE html><html>"), "is a web page (HTML), not a data set; the download gave a page"),
    ("big.json", text("version https://git-lfs.github.com/spec/v1\noid"), "is a Git LFS pointer"),
    ("set.zip", archive("zip"), "is an archive; unpack it first: unzip set.zip"),
    ("set.tar", archive("tar"), "is an archive; unpack it first: tar -xf set.tar"),
    ("set.tar.gz", archive("gz"), "is an archive; unpack it first: tar -xzf set.tar.gz"),
    ("photo.png", lambda path: Image.new("L", (2, 2)).save(path), "is one image, not a data set; give the folder"),
    ("words.txt", text("hello"), "no label format is recognised (coco: "),
]


@pytest.mark.parametrize(("name", "make", "words"), FILES)
def test_files_that_are_no_data_set(tmp_path, name, make, words):
    path = tmp_path / "folder" / name
    path.parent.mkdir()
    make(path)
    with pytest.raises(DataError) as caught:
        open_data(path)
    assert str(caught.value).startswith(f"{path}: {words}")


FOLDERS = [
    ({}, "the folder is empty"),
    ({"a/b/": ""}, "holds folders, but no file"),
    ({"a/x.txt": "hello"}, "no label format is recognised (coco: "),
    (
        {"a/x.jpg": "version https://git-lfs.github.com/spec/v1"},
        "holds Git LFS pointers instead of files, such as a/x.jpg",
    ),
    (
        {"VOC.tar.gz": gzip.compress(b"x")},
        "holds an archive, VOC.tar.gz, and no labelled images; unpack it first: tar -xzf",
    ),
]


@pytest.mark.parametrize(("files", "words"), FOLDERS)
def test_folders_that_are_no_data_set(tmp_path, files, words):
    root = tmp_path / "set"
    root.mkdir()
    for name, content in files.items():
        path = root / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError) as caught:
        open_data(root)
    assert str(caught.value).startswith(f"{root}: {words}")


def test_missing_paths(tmp_path):
    (tmp_path / "carparts").mkdir()
    for path, hint in (
        (tmp_path / "car-parts", f"did you mean `{tmp_path / 'carparts'}`?"),
        (tmp_path / "zebra", None),
        (tmp_path / "no" / "such" / "folder", f"`{tmp_path}` exists, `no` in it does not"),
    ):
        with pytest.raises(DataError) as caught:
            open_data(path)
        assert (caught.value.what, caught.value.hint) == ("not found", hint)


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_no_permission(monkeypatch, folder, kind):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    if kind == "folder":
        monkeypatch.setattr(opening.os, "scandir", denied)
    else:
        monkeypatch.setattr("pathlib.Path.open", denied)
    path = folder if kind == "folder" else folder / "readme.txt"
    with pytest.raises(DataError) as caught:
        open_data(path)
    assert str(caught.value) == f"{path}: cannot be read (permission denied)"
