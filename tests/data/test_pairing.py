"""Walking a folder: nothing is lost, nothing is entered twice."""

import os

import pytest

from maskwright.core.errors import DataError
from maskwright.data.formats import pairing
from maskwright.data.ledger import Ledger


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")


def test_linked_folders_are_entered_once(tmp_path):
    touch(tmp_path / "set" / "b" / "2.jpg")
    touch(tmp_path / "set" / "1.jpg")
    touch(tmp_path / "elsewhere" / "3.jpg")
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "b" / "loop").symlink_to(tmp_path / "set")
    assert list(pairing.walk(tmp_path / "set")) == ["1.jpg", "b/2.jpg", "linked/3.jpg"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_a_closed_folder_is_an_error(tmp_path):
    touch(tmp_path / "closed" / "1.jpg")
    (tmp_path / "closed").chmod(0)
    with pytest.raises(DataError, match="closed: cannot be looked into"):
        list(pairing.walk(tmp_path))
    (tmp_path / "closed").chmod(0o700)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a/b.jpg", None),
        ("a/b.PNG", None),
        ("b.txt", "not an image"),
        ("noname", "not an image"),
        ("._b.jpg", "AppleDouble file of macOS"),
        (".cache/b.jpg", "hidden"),
        ("__MACOSX/b.jpg", "left behind by the operating system"),
        ("Thumbs.db", "left behind by the operating system"),
        ("b\udcff.jpg", "its name is not valid UTF-8"),
    ],
)
def test_strays(name, why):
    assert pairing.stray(name) == why


def test_names_that_are_no_text_can_be_printed(tmp_path):
    ledger = Ledger()
    pairing.account(ledger, tmp_path, ["a.jpg", "b\udcff.jpg", "c.txt"], {"a.jpg"}, lambda name: "")
    ledger.reconcile()
    assert [line.item.encode().rpartition(b"/")[2] for line in ledger.lines] == [b"b\\udcff.jpg", b"c.txt"]


def test_lists_lose_blanks_comments_and_repetitions(tmp_path):
    (tmp_path / "train.txt").write_bytes("\ufeff# ids\r\na \r\n\r\n b\na\n".encode())
    ledger = Ledger()
    assert pairing.read_list(tmp_path / "train.txt", ledger) == ["a", "b"]
    assert ledger.notes == ["train.txt repeats 1 of its lines"]
    (tmp_path / "train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"train.txt: cannot be read as a list"):
        pairing.read_list(tmp_path / "train.txt", ledger)
