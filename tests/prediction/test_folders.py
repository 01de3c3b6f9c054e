"""Folders of photos: which are predicted, under which names, and that nothing of the user's is ever written over."""

import csv
import itertools
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import maskwright as mw
from maskwright import cli
from maskwright.core import events
from maskwright.core.errors import DataError, RecipeError, SetupError
from maskwright.imaging import draw
from maskwright.prediction import folders
from maskwright.prediction.predictor import Predictor

GOLDEN = Path(__file__).parents[1] / "golden" / "bundle-1"
PICTURE = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return mw.load(GOLDEN)


def photo(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(draw.encode(PICTURE, "png"))
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def table(out: Path) -> list[dict[str, str]]:
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_names_are_unique_for_any_set_of_images() -> None:
    parts = ["a", "b/a", "a.jpg", "a.png", "A", "b/a.jpg"]
    every = [Path(part + suffix) for part in parts for suffix in (".jpg", ".png", ".jpg.png")]
    for count in (1, 2, 3, 4):
        for chosen in itertools.combinations(dict.fromkeys(every), count):
            names = folders.unique_names(Path(), list(chosen))
            assert list(names) == list(chosen)
            assert len({name.casefold() for name in names.values()}) == len({str(p).casefold() for p in chosen})
    assert list(folders.unique_names(Path(), [Path("a.jpg"), Path("b/a.jpg")]).values()) == ["a", "b/a"]


def test_many_names_take_seconds() -> None:
    began = time.process_time()
    assert len(folders.unique_names(Path(), [Path(f"{i}.jpg") for i in range(40_000)])) == 40_000
    assert time.process_time() - began < 5


def test_each_image_has_files_of_its_own(predictor: Predictor, tmp_path: Path) -> None:
    for name in ("a.jpg", "a.png", "a.jpg.png"):
        photo(tmp_path / "photos" / name)
    written = folders.predict_all(predictor, tmp_path / "photos", tmp_path / "out")
    assert written.images == 3
    for kind in ("masks", "overlays"):
        assert len(list((tmp_path / "out" / kind).iterdir())) == 3


def test_a_name_that_is_no_utf8_is_predicted_like_any_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = os.fsdecode(b"caf\xe9")
    try:
        photo(tmp_path / "photos" / f"{odd}.png")
        (tmp_path / "photos" / f"{odd}_broken.png").write_bytes(b"no")
    except OSError:
        pytest.skip("this disk holds no such names")
    photo(tmp_path / "photos" / "b.png")
    tokens = ["predict", str(GOLDEN), str(tmp_path / "photos"), "--out", str(tmp_path / "out")]
    assert cli.run(tokens, as_json=True) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["images"] == 2
    (failed,) = answer["failed"]
    failed.encode()
    assert failed.endswith("caf\\udce9_broken.png")
    assert (tmp_path / "out" / "masks" / f"{odd}.png").is_file()
    assert {row["image"] for row in table(tmp_path / "out")} == {"b", "caf\\udce9", "caf\\udce9_broken"}
    assert cli.run(tokens) == 0
    capsys.readouterr().out.encode()


def test_hidden_folders_are_left_out_and_linked_ones_entered_once(tmp_path: Path) -> None:
    home = tmp_path / "photos"
    names = {"a.png", "b/c.png", "d/e.png"}
    photo(home / "a.png")
    photo(home / "b" / "c.png")
    photo(tmp_path / "elsewhere" / "e.png")
    for name in (".hidden/x.png", "__MACOSX/y.png", "._a.png"):
        photo(home / name)
    (home / "d").symlink_to(tmp_path / "elsewhere")
    (home / "b" / "up").symlink_to(home)
    assert {str(path.relative_to(home)) for path in folders.find(home)[1]} == names


def test_the_next_run_does_not_predict_the_masks_of_the_first(predictor: Predictor, tmp_path: Path) -> None:
    photo(tmp_path / "photos" / "a.png")
    for out in (tmp_path / "photos" / "out", tmp_path / "photos", tmp_path):
        for _ in range(2):
            heard: list[events.Event] = []
            with events.listening(heard.append):
                written = folders.predict_all(predictor, tmp_path / "photos", out)
            assert written.images == 1
            assert {row["image"] for row in table(out)} == {"a"}
        told = [event.fields["text"] for event in heard if event.name == "say"]
        assert bool(told) == (out != tmp_path), "what is left out is said"
        for name in folders.FOLDERS:
            for path in sorted((out / name).rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
        (out / "predictions.csv").unlink()


def test_a_link_to_the_folder_of_results_is_the_folder(predictor: Predictor, tmp_path: Path) -> None:
    photo(tmp_path / "photos" / "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "photos" / "out")
    (tmp_path / "photos" / "out").mkdir()
    for _ in range(2):
        assert folders.predict_all(predictor, tmp_path / "photos", tmp_path / "link").images == 1


def beside_masks(home: Path) -> tuple[Path, Path]:
    photo(home / "a.png")
    photo(home / "masks" / "a.png")
    return home, home


def in_masks(home: Path) -> tuple[Path, Path]:
    photo(home / "masks" / "a.png")
    return home / "masks", home


def labels_beside_images(home: Path) -> tuple[Path, Path]:
    photo(home / "images" / "a.png")
    photo(home / "masks" / "a.png")
    return home / "images", home


def one_photo(home: Path) -> tuple[Path, Path]:
    photo(home / "a.png")
    photo(home / "overlays" / "a.jpg")
    return home / "a.png", home


@pytest.mark.parametrize("layout", [beside_masks, in_masks, labels_beside_images, one_photo])
def test_nothing_of_the_user_is_written_over(
    layout: Callable[[Path], tuple[Path, Path]], predictor: Predictor, tmp_path: Path
) -> None:
    where, out = layout(tmp_path / "home")
    before = content(tmp_path)
    with pytest.raises(RecipeError, match=r"--out: .*; choose another folder"):
        folders.predict_all(predictor, where, out, cutout="disc")
    assert content(tmp_path) == before


def test_a_folder_that_holds_only_results_has_no_photos(predictor: Predictor, tmp_path: Path) -> None:
    folders.predict_all(predictor, photo(tmp_path / "a.png"), tmp_path / "out")
    (tmp_path / "nothing").mkdir()
    before = content(tmp_path)
    with pytest.raises(RecipeError, match="--out"):
        folders.predict_all(predictor, tmp_path / "out" / "masks", tmp_path / "out")
    with pytest.raises(DataError, match="holds no images"):
        folders.predict_all(predictor, tmp_path / "nothing", tmp_path / "out")
    assert content(tmp_path) == before


def test_a_stopped_run_can_be_started_again(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcdefghijklmnop":
        photo(tmp_path / "photos" / f"{name}.png")
    rows = folders._rows
    monkeypatch.setattr(folders, "_rows", lambda name, found: 1 / 0 if name == "p" else rows(name, found))
    with pytest.raises(ZeroDivisionError):
        folders.predict_all(predictor, tmp_path / "photos", tmp_path / "photos" / "out")
    assert (tmp_path / "photos" / "out" / "masks" / "a.png").is_file()
    monkeypatch.undo()
    assert folders.predict_all(predictor, tmp_path / "photos", tmp_path / "photos" / "out").images == 16


def test_a_picture_is_there_whole_or_not_at_all(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo(tmp_path / "photos" / "a.png")
    folders.predict_all(predictor, tmp_path / "photos", tmp_path / "out", cutout="background")
    before = content(tmp_path / "out")
    whole = Path.write_bytes

    def torn(path: Path, data: bytes) -> int:
        whole(path, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", torn)
    with pytest.raises(SetupError, match="no space left"):
        folders.predict_all(predictor, tmp_path / "photos", tmp_path / "out", cutout="background")
    assert content(tmp_path / "out") == before
