"""Label maps in MATLAB files: real ones counted, and everything that is none in one clear line."""

import json
import sys
from contextlib import suppress

import numpy as np
import pytest
from truth_writers import fates, photo, save_photo

from maskwright.core.errors import DataError, SetupError
from maskwright.data.formats import mat
from maskwright.data.ledger import Ledger
from maskwright.data.open import open_data
from maskwright.imaging import masks, mat_files

io = pytest.importorskip("scipy.io")
VALUES = np.array([[0, 1, 2, 2], [0, 0, 1, 2], [2, 2, 0, 1]], np.uint8)
NAMES = ["null", "coat", "shoe"]


def save(path, values, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    io.savemat(path, {"groundtruth": values, **more})


def make(folder, maps):
    for stem, values in maps.items():
        save_photo(folder / "photos" / f"{stem}.jpg", photo(VALUES.shape))
        save(folder / "annotations" / "pixel-level" / f"{stem}.mat", values)
    cells = np.empty((1, len(NAMES)), object)
    cells[0] = NAMES
    io.savemat(folder / "label_list.mat", {"label_list": cells})
    return folder


def read(path, **options):
    ledger = Ledger()
    found = mat.read(path, ledger, **options)
    ledger.reconcile()
    return found, ledger


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float64, np.float32, np.uint32])
def test_matrices_of_any_number_type(tmp_path, kind):
    found, ledger = read(make(tmp_path, {"a": VALUES.astype(kind)}))
    assert found.classes == ("background", "coat", "shoe")
    assert masks.label_map(found[0]).tolist() == VALUES.tolist()
    assert not ledger.lines


def test_classes_may_come_from_text(tmp_path):
    make(tmp_path, {"a": VALUES})
    (tmp_path / "names.txt").write_text("0 background\n2 shoe\n1 ignore\n")
    found, _ = read(tmp_path, labels="names.txt", masks="annotations/pixel-level")
    assert found.classes == ("background", "shoe")
    assert masks.label_map(found[0]).tolist() == np.choose(VALUES, [0, 255, 1]).tolist()
    with pytest.raises(DataError, match="not found"):
        read(tmp_path, labels="nowhere.mat")


def test_every_file_has_a_fate(tmp_path):
    make(tmp_path, {"a": VALUES, "lost": VALUES, "turned": VALUES.T.copy(), "strange": VALUES})
    (tmp_path / "photos" / "lost.jpg").unlink()
    save_photo(tmp_path / "photos" / "bare.jpg", photo())
    save(tmp_path / "annotations" / "image-level" / "a.mat", VALUES)
    (tmp_path / "annotations" / "pixel-level" / "strange.mat").write_bytes(b"MATLAB 5.0 " + bytes(200))
    (tmp_path / "readme.txt").write_text("x")
    found, ledger = read(tmp_path)
    assert list(found.ids) == ["a"]
    refused = fates(ledger, "refused")
    assert refused["image", "lost"] == "it has no photo"
    assert refused["annotation", "turned.mat"] == "it is 3 x 4 pixels and its image 4 x 3"
    assert "damaged, or no MATLAB file" in refused["annotation", "strange.mat"]
    assert fates(ledger, "ignored") == {
        ("annotation", "lost.mat"): "its image is refused",
        ("image", "bare.jpg"): "unlabelled: it has no label map",
        ("file", "bare.jpg"): "unlabelled: it has no label map",
        ("file", "a.mat"): "outside the folder of label maps",
        ("file", "readme.txt"): "not an image",
    }


def test_a_number_without_a_name_is_refused(tmp_path):
    found, _ = read(make(tmp_path, {"a": VALUES + 1}))
    with pytest.raises(DataError, match="stand for no class: 3"):
        masks.label_map(found[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": VALUES, "b": VALUES}, r"holds several matrices \(a, b\)"),
        ({"text": "hello"}, "holds no matrix of labels"),
        ({"a": VALUES - 1.5}, "outside 0..65535"),
        ({"a": VALUES + 0.5}, "not whole"),
        ({"a": VALUES + 1j}, "no matrix of numbers"),
        ({"a": VALUES * np.nan}, "outside 0..65535"),
        ({"a": np.zeros((2, 2, 2))}, "holds no matrix of labels"),
    ],
)
def test_what_is_no_label_map(tmp_path, content, message):
    io.savemat(tmp_path / "a.mat", content)
    with pytest.raises(DataError, match=message):
        mat_files.label_values(tmp_path / "a.mat")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"MATLAB 7.3 MAT-file" + bytes(200), "version 7.3"),
        (b"version https://git-lfs.github.com/spec/v1\noid x", "Git LFS pointer"),
        (b"MATLAB 5.0", "cut off"),
        (bytes(range(256)) * 4, "damaged, or no MATLAB file"),
    ],
)
def test_what_is_no_matlab_file(tmp_path, content, message):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(DataError, match=message):
        mat_files.size_of(tmp_path / "a.mat")


def test_damage_of_any_kind_is_one_error(tmp_path):
    """A real file with bytes changed or cut off: read, or refused by a sentence."""
    io.savemat(tmp_path / "whole.mat", {"groundtruth": VALUES}, do_compression=True)
    whole, rng = (tmp_path / "whole.mat").read_bytes(), np.random.default_rng(0)
    for _ in range(300):
        broken = bytearray(whole[: rng.integers(130, len(whole) + 1)])
        for place in rng.integers(0, len(broken), rng.integers(1, 4)):
            broken[place] = rng.integers(256)
        (tmp_path / "broken.mat").write_bytes(broken)
        with suppress(DataError):
            assert mat_files.label_values(tmp_path / "broken.mat").ndim == 2


def test_without_scipy_it_says_what_to_install(tmp_path, monkeypatch):
    make(tmp_path, {"a": VALUES})
    monkeypatch.setitem(sys.modules, "scipy", None)
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    mat_files._scipy.cache_clear()
    assert mat.sniff(tmp_path)[0] == 0.9
    with pytest.raises(SetupError, match=r"needs `scipy`.*pip install 'maskwright\[mat\]'"):
        open_data(tmp_path)


def test_real_clothing_has_the_counted_pixels(real_data):
    opened = open_data(real_data / "clothing-co-parsing")
    facts = json.loads((real_data / "facts.json").read_text())["clothing-co-parsing"]
    assert opened.format == "mat"
    assert len(opened.data) == facts["label_maps"]
    assert not opened.ledger.lines
    assert len(opened.data.classes) == 59
    assert opened.data.classes[41] == "skin"
    totals = sum(np.bincount(masks.label_map(record).reshape(-1), minlength=256) for record in opened.data)
    assert {str(value): int(totals[value]) for value in np.flatnonzero(totals)} == facts["pixels_per_value"]
