"""Lists of classes in the many ways people write them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskwright.core.errors import DataError
from maskwright.core.types import VOID
from maskwright.data.formats import class_lists
from maskwright.data.formats.class_lists import ClassList

RED, GREEN = 0x800000, 0x008000
TEXTS = {
    "names": ("cat\ndog\n", ("cat", "dog"), None, False),
    "names, blank lines, comments, mark": ("\ufeff# two\r\ncat \r\n\r\ntv/monitor", ("cat", "tv/monitor"), None, False),
    "names with spaces and commas": ("shirt, blouse\npotted plant", ("shirt, blouse", "potted plant"), None, False),
    "one name with a number": ("7 up\ncat", ("7 up", "cat"), None, False),
    "numbers before": ("1 cat\n3: the dog", ("cat", "the dog"), (1, 3), False),
    "numbers behind": ("cat: 1\ndog = 3", ("cat", "dog"), (1, 3), False),
    "numbers behind spaces are names": ("type 1\ntype 2", ("type 1", "type 2"), None, False),
    "table": ("name,value\ncat,1\ndog,3", ("cat", "dog"), (1, 3), False),
    "CVAT": ("# label:color_rgb:parts:actions\ncat:128,0,0::\ndog:0,128,0::x", ("cat", "dog"), (RED, GREEN), True),
    "CamVid": ("128 0 0\tcat\n0 128 0\t\tdog", ("cat", "dog"), (RED, GREEN), True),
    "CSV with colours": ("name,r,g,b\ncat,128, 0, 0\ndog,0,128,0", ("cat", "dog"), (RED, GREEN), True),
    "hex": ("cat #800000\nbig dog: #008000", ("cat", "big dog"), (RED, GREEN), True),
}
VALUES = {
    "list": (["cat", "dog"], ("cat", "dog"), None, False),
    "name: number": ({"cat": 1, "dog": 3}, ("cat", "dog"), (1, 3), False),
    "number: name": ({"1": "cat", "3": "dog"}, ("cat", "dog"), (1, 3), False),
    "name: colour": ({"cat": [128, 0, 0], "dog": "#008000"}, ("cat", "dog"), (RED, GREEN), True),
    "entries": ([{"id": 1, "name": "cat"}, {"id": 3, "name": "dog"}], ("cat", "dog"), (1, 3), False),
    "wrapped": ({"classes": [{"name": "cat", "color": "#800000"}, {"name": "dog", "color": [0, 128, 0]}]},
                ("cat", "dog"), (RED, GREEN), True),
    "Ground Truth": ({"0": {"class-name": "cat", "hex-color": "#800000"}, "1": {"class-name": "dog", "hex-color": "#008000"}},
                     ("cat", "dog"), (RED, GREEN), True),
}  # fmt: skip


@pytest.mark.parametrize("case", TEXTS)
def test_texts(case, tmp_path):
    text, names, keys, colour = TEXTS[case]
    path = tmp_path / "classes.txt"
    path.write_text(text, newline="")
    assert class_lists.read(path) == ClassList(names, keys, colour, str(path))
    assert class_lists.find(tmp_path / "nowhere", tmp_path) == path


@pytest.mark.parametrize("case", VALUES)
def test_values_and_json(case, tmp_path):
    value, names, keys, colour = VALUES[case]
    assert class_lists.given(value) == ClassList(names, keys, colour)
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(value))
    assert class_lists.read(path) == ClassList(names, keys, colour, str(path))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("classes.txt", b"", "names no class"),
        ("classes.txt", b"\xff\xfe", "UTF-8"),
        ("classes.txt", b"x" * 2_000_000, "too long"),
        ("classes.txt", b"1 cat\n1 dog", "1 stands for two classes"),
        ("classes.txt", b"cat:1,1,1\ndog:1,1,1", "#010101 stands for two classes"),
        ("classes.txt", b" " * 100_000 + b"x" + b" " * 800_000 + b"y", "a line of more than 300"),
        ("classes.json", b'{"cat": 1e400, "dog": 99999999999999999999}', "not a colour"),
        ("classes.json", b"{", "not valid JSON"),
        ("classes.json", b"3", "does not name classes"),
        ("classes.json", b'[{"id": 1}]', "an entry that names no class"),
        ("classes.json", b'{"images": [], "annotations": []}', "not a colour"),
        ("classes.json", b"[" * 100_000, "not valid JSON"),
    ],
)
def test_what_is_no_list(name, content, words, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        class_lists.read(tmp_path / name)
    assert str(caught.value).startswith(str(tmp_path / name))


def test_the_table_of_values():
    names = {0: "_background_", 7: "dog", 3: "cat", 9: "dog", 20: "__ignore__"}
    assert class_lists.table(names) == (("background", "dog", "cat"), {0: 0, 3: 2, 7: 1, 9: 1, 20: VOID})
    assert class_lists.table({1: "sky", 0: "road"}) == (("sky", "road"), {0: 1, 1: 0})
    assert class_lists.table({0: "sky", 5: "Background"}) == (("background", "sky"), {0: 1, 5: 0})
    with pytest.raises(DataError, match="256 classes are more than"):
        class_lists.table({i: f"c{i}" for i in range(256)})


def test_labelmes_list_counts_from_its_background():
    assert class_lists.by_order(["__ignore__", "_background_", "cat"]) == {
        0: "_background_",
        1: "cat",
        VOID: "__ignore__",
    }
    assert class_lists.by_order(["cat", "dog"], 1) == {1: "cat", 2: "dog"}


WORDS = st.text("abc 12:,#-", min_size=1, max_size=8).map(str.strip).filter(bool)


@given(st.lists(WORDS, min_size=1, max_size=6, unique=True), st.booleans())
def test_written_lists_are_read_back(names, numbered):
    text = class_lists.to_text(names, numbered=numbered)
    found = class_lists._from_lines(text, "")
    assert found.names == tuple(names)
    assert found.keys in (None, tuple(range(len(names))))
    assert not found.colour
