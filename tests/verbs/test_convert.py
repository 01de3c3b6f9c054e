"""`maskwright convert`: the bill first, nothing lost unasked, nothing half-written."""

import json
import os
import shutil
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import maskwright as mw
from maskwright import cli
from maskwright.core.errors import SetupError
from maskwright.core.table import Packer
from maskwright.core.types import BACKGROUND
from maskwright.data import synthetic
from maskwright.data.formats import FORMATS, writing
from maskwright.imaging import images


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A COCO data set of polygons."""
    return synthetic.make(tmp_path / "shapes", num=6, size=(48, 64))


@pytest.fixture
def told(tmp_path: Path, shapes: Path) -> Path:
    """One whose objects have attributes, which YOLO has no place for."""
    packer = Packer()
    packer.image("a", str(next(shapes.rglob("*.jpg"))), (48, 64))
    packer.region(1, polygons=[[1, 1, 20, 1, 20, 20]], attributes={"truncated": True})
    FORMATS["coco"].write(packer.pack((BACKGROUND, "cat")), tmp_path / "told")  # type: ignore[attr-defined]
    return tmp_path / "told"


def run(capsys: pytest.CaptureFixture[str], *tokens: object, as_json: bool = False) -> tuple[int, str, str]:
    code = cli.run(["convert", *map(str, tokens)], as_json)
    out, err = capsys.readouterr()
    return code, out, err


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_writes_what_loses_nothing(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, shapes, tmp_path / "new" / "copy", "--to", "coco")
    assert code == 0
    assert "coco loses nothing that counts" in out
    assert f"next: maskwright check {tmp_path / 'new' / 'copy'}" in out
    found = mw.check(str(tmp_path / "new" / "copy"))
    assert (found.facts["format"], found.facts["images"], found.refused) == ("coco", 6, 0)
    assert names(tmp_path / "new") == ["copy", *(f"copy/{name}" for name in names(tmp_path / "new" / "copy"))]


def test_a_loss_stops_it_with_nothing_on_disk(told: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = names(tmp_path)
    code, out, _ = run(capsys, told, tmp_path / "deep" / "out", "--to", "yolo")
    assert code == 3
    assert "attributes: 1 object (" in out
    assert "--allow-loss" in out
    assert names(tmp_path) == before
    code, out, _ = run(capsys, told, tmp_path / "deep" / "out", "--to", "yolo", "--allow-loss")
    assert code == 0
    assert "attributes: 1 object (" in out
    assert (tmp_path / "deep" / "out" / "data.yaml").is_file()


def test_a_dry_run_only_measures(told: Path, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = names(tmp_path)
    assert run(capsys, shapes, tmp_path / "out", "--to", "coco", "--dry-run")[0] == 0
    assert run(capsys, told, tmp_path / "out", "--to", "voc", "--dry-run")[0] == 3
    assert run(capsys, told, tmp_path / "out", "--to", "voc", "--dry-run", "--allow-loss")[0] == 0
    assert names(tmp_path) == before


def test_json_holds_the_bill(told: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, told, tmp_path / "out", "--to", "yolo", as_json=True)
    answer = json.loads(out)
    assert code == 3
    assert (answer["schema"], answer["from"], answer["to"], answer["lossless"], answer["written"]) == (
        1, "coco", "yolo", False, False,
    )  # fmt: skip
    kinds = {row["kind"]: (row["objects"], row["pixels"], row["harmless"]) for row in answer["bill"]["losses"]}
    assert kinds == {"attributes": (1, 0, False), "ids": (1, 0, True)}
    assert answer["bill"]["objects"] == 1


@pytest.mark.parametrize("linked", [False, True])
def test_photos_are_copies_or_links(linked: bool, shapes: Path, tmp_path: Path) -> None:
    mw.convert(str(shapes), str(tmp_path / "out"), to="folder", allow_loss=True, link=linked)
    photos = {path.name: path for path in (tmp_path / "out").rglob("*.jpg")}
    originals = {path.name: path for path in shapes.rglob("*.jpg")}
    assert photos.keys() == originals.keys()
    for name, path in photos.items():
        assert path.is_symlink() == linked
        assert path.read_bytes() == originals[name].read_bytes()
        assert path.resolve() == (originals[name] if linked else path).resolve()


def test_a_photo_without_its_orientation_is_written_anew(tmp_path: Path) -> None:
    from truth_writers import photo, save_mask, save_photo

    save_photo(tmp_path / "in" / "images" / "a.jpg", photo((8, 12), orientation=6))
    save_mask(tmp_path / "in" / "masks" / "a.png", np.eye(8, 12, dtype=np.uint8))
    for format in ("coco", "voc", "yolo", "labelme"):
        done = mw.convert(str(tmp_path / "in"), str(tmp_path / format), to=format)
        assert done.written
        (path,) = (path for path in (tmp_path / format).rglob("a.png") if "Segmentation" not in str(path))
        assert images.read(path).shape == (8, 12, 3)


def test_pieces_are_objects_when_asked(tmp_path: Path) -> None:
    from truth_writers import photo, save_mask, save_photo

    values = np.zeros((8, 12), np.uint8)
    values[1:3, 1:3] = values[5:8, 5:8] = 1
    save_photo(tmp_path / "in" / "images" / "a.jpg", photo((8, 12)))
    save_mask(tmp_path / "in" / "masks" / "a.png", values)
    for components, objects, lost in ((None, 1, 0), (1, 2, 0), (5, 1, 4)):
        out = tmp_path / f"coco{components}"
        done = mw.convert(str(tmp_path / "in"), str(out), to="coco", components=components, allow_loss=True)
        assert sum(row["objects"] or 0 for row in mw.check(str(out)).facts["classes"]) == objects
        assert sum(loss.pixels for loss in done.bill.losses) == lost


def test_what_the_reader_refuses_must_be_allowed(shapes: Path, tmp_path: Path) -> None:
    next(shapes.rglob("*.jpg")).unlink()
    done = mw.convert(str(shapes), str(tmp_path / "out"), to="coco")
    assert [loss.kind for loss in done.bill.losses][:1] == ["unreadable"]
    assert not done.written


# -------------------------------------------------------------------------------------------------------- what goes wrong


@pytest.mark.parametrize(
    ("tokens", "code", "message"),
    [
        (["out", "--to", "yollo"], 2, "did you mean `yolo`?"),
        (["out", "--to", "mat"], 2, "`mat` is only read, not written"),
        (["out", "--to", "coco", "--from", "voc"], 3, "JPEGImages"),
        (["out", "--to", "coco", "--option", "crowds=drop"], 2, "--option crowds"),
        (["out", "--to", "coco", "--no-copy-images"], 2, "--link"),
        (["out", "--to", "coco", "--components", "5"], 2, "no label map without objects"),
        (["shapes/inside", "--to", "coco"], 5, "never written to"),
        (["shapes", "--to", "coco"], 5, "never written to"),
        (["full", "--to", "coco"], 5, "only written into an empty folder"),
        (["full/file", "--to", "coco"], 5, "only written into an empty folder"),
    ],
)
def test_mistakes(
    tokens: list[str], code: int, message: str, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    before = names(tmp_path)
    found, out, err = run(capsys, shapes, tmp_path / tokens[0], *tokens[1:])
    assert (found, out) == (code, "")
    assert message in err
    assert names(tmp_path) == before


def test_an_empty_folder_is_filled_and_its_neighbours_stay(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / ".out-old").mkdir()
    assert mw.convert(str(shapes), str(tmp_path / "out"), to="coco").written
    assert (tmp_path / ".out-old").is_dir()
    assert (tmp_path / "out" / "annotations.json").is_file()
    (tmp_path / "made").mkdir()
    mode = stat.S_IMODE(os.stat(tmp_path / "made").st_mode)
    assert stat.S_IMODE(os.stat(tmp_path / "out").st_mode) == mode


WRITING = ("labels", "images", "copies", "the last step")
FAILURES = [(when, KeyboardInterrupt()) for when in (*WRITING, "reading back")]
FAILURES += [(when, OSError(28, "No space left on device")) for when in WRITING]  # reading fills no disk


@pytest.mark.parametrize(
    ("when", "what"), FAILURES, ids=lambda value: value if isinstance(value, str) else repr(value)[:8]
)
def test_nothing_half_written_is_left(
    when: str, what: BaseException, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fails(*_: Any, **__: Any) -> None:
        raise what

    if when == "labels":
        monkeypatch.setattr("maskwright.core.files.os.replace", fails)
    if when == "images":
        monkeypatch.setattr(Path, "symlink_to", fails)
    if when == "reading back":
        monkeypatch.setattr("maskwright.data.convert.compare", fails)
    if when == "copies":
        monkeypatch.setattr(writing.shutil, "copyfile", fails)
    if when == "the last step":
        monkeypatch.setattr(Path, "rename", fails)
    before = names(tmp_path)
    full = isinstance(what, OSError)
    with pytest.raises(SetupError if full else KeyboardInterrupt, match="no space left on the disk" if full else None):
        mw.convert(str(shapes), str(tmp_path / "new" / "out"), to="yolo", allow_loss=True)
    assert names(tmp_path) == before


def test_an_empty_data_set_is_written_too(shapes: Path, tmp_path: Path) -> None:
    from maskwright.data.convert import convert, writable

    for format in writable():
        done = convert(Packer().pack((BACKGROUND, "cat")), tmp_path / format, format)
        assert (done.bill.images, done.bill.objects, done.written) == (0, 0, False)


def test_real_sets_convert_without_a_loss_where_the_format_holds_them(real_data: Path, tmp_path: Path) -> None:
    for source, to in (("labelme_voc3/data_dataset_voc", "coco"), ("labelme_voc3/data_dataset_coco", "labelme")):
        done = mw.convert(str(real_data / source), str(tmp_path / to), to=to)
        assert (done.bill.empty, done.bill.objects, done.written) == (True, 12, True)
        shutil.rmtree(tmp_path / to)
