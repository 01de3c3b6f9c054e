"""Shipped recipes: each is found, explained, written with the user's path, holds against the shelves, and trains."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import truth_writers as writers

import maskwright as mw
from maskwright import cli
from maskwright.core import events, yaml_text
from maskwright.core import recipe as recipes
from maskwright.core.errors import DataError, RecipeError
from maskwright.data.prepare import prepare
from maskwright.training import assemble
from maskwright.verbs.new import shipped, shipped_text, shipped_tree

NAMES = ("best_gpu", "car_parts", "car_parts_objects", "cat_lens", "fashion", "pet_fcn", "quick_cpu", "voc_fcn_jaccard")
PATHS = {
    "car_parts": "car-parts",
    "car_parts_objects": "car-parts",
    "cat_lens": "",
    "voc_fcn_jaccard": "VOCdevkit",
    "pet_fcn": "oxford-iiit-pet",
}


def test_all_are_shipped_and_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert tuple(shipped()) == NAMES
    assert cli.run(["explain", "recipes"]) == 0
    listed = capsys.readouterr().out
    for name, sentence in shipped().items():
        assert name in listed
        assert sentence.endswith(".")
        assert mw.explain("recipes", name).text == mw.explain("recipe", name).text == shipped_text(name, "DATA")


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_recipe_holds_against_the_shelves(name: str) -> None:
    recipe = recipes.build(shipped_tree(name, "/photos"))
    assemble.check(recipe)
    assert all(source.path.startswith("/photos") for source in recipe.data)
    text = shipped_text(name, "DATA")
    assert "DATA" in text.split("\ntask:")[0], "the head says what DATA is"


@pytest.mark.parametrize("name", ["car_parts", "voc_fcn_jaccard"])
def test_the_projects_own_settings_hold_too(name: str) -> None:
    """The command in the head of the recipe, as a shell would split it."""
    text = shipped_text(name, "DATA")
    command = re.search(rf"#   (maskwright train {name}(?:.*\\\n#)*.*)", text)
    assert command
    program, verb, source, data, *changes = shlex.split(command[1].replace("\\\n#", ""))
    assert (program, verb, source, data) == ("maskwright", "train", name, "data=DATA")
    recipe = recipes.build(shipped_tree(name, "/photos"), changes)
    assemble.check(recipe)
    assert recipe != recipes.build(shipped_tree(name, "/photos"))


@pytest.mark.parametrize("folder", ["photos", "my photos: #1, 'old'", "DATA"])
@pytest.mark.parametrize("name", NAMES)
def test_new_writes_it_with_the_path(name: str, folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sets" / folder).mkdir(parents=True)
    TRIALS[name][0](tmp_path / "sets" / folder)
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    told: list[str] = []
    with events.listening(lambda event: told.append(event.fields.get("text", ""))):
        written = mw.new(f"sets/{folder}", recipe=name, out="mine/recipe.yaml")
    counts = [text for text in told if re.search(r"\), (8|12) images$", text)]
    assert len(counts) == len(written.images) == len(written.recipe.data)
    assert set(written.images.values()) <= {8, 12}
    assert written.next[0] == "maskwright train mine/recipe.yaml"
    loaded = recipes.load("mine/recipe.yaml")
    for source, own in zip(loaded.data, written.recipe.data, strict=True):
        assert Path(source.path).resolve().is_relative_to(tmp_path / "sets" / folder)
        assert own.path.startswith("../sets/")
    ours, theirs = (text.split("\n") for text in (Path("mine/recipe.yaml").read_text(), shipped_text(name, "DATA")))
    assert [a for a, b in zip(ours, theirs, strict=True) if "path: " not in b] == [
        b for b in theirs if "path: " not in b
    ]


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    out = str(tmp_path / "recipe.yaml")
    for error, words, call in (
        (RecipeError, "no shipped recipe is called `cat_lense`; did you mean `cat_lens`", {"recipe": "cat_lense"}),
        (DataError, "none: not found", {"recipe": "pet_fcn", "data": str(tmp_path / "none")}),
        (DataError, "not found", {"recipe": "cat_lens", "data": str(tmp_path / "none")}),
        (DataError, "the folder is empty", {"recipe": "pet_fcn"}),
        (DataError, "the folder is empty", {"recipe": "quick_cpu"}),
    ):
        with pytest.raises(error, match=words):
            mw.new(**{"data": str(tmp_path), "out": out, **call})
    with pytest.raises(RecipeError, match="a shipped recipe is written as it is"):
        mw.new(str(tmp_path), "train.epochs=3", recipe="cat_lens", out=out)
    with pytest.raises(RecipeError, match=r"^command line: data: is missing; .*: train quick_cpu data=PATH"):
        mw.train("quick_cpu", out=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_data_of_another_format_are_refused_as_training_would(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    writers.index_png(tmp_path / "photos", writers.truth(4))
    out = tmp_path / "recipe.yaml"
    with pytest.raises(DataError) as at_once:
        mw.new(str(tmp_path / "photos"), recipe="pet_fcn", out=str(out))
    with pytest.raises(DataError) as later:
        mw.train("pet_fcn", {"data": str(tmp_path / "photos")}, out=str(tmp_path / "runs"))
    assert str(at_once.value) == str(later.value)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_a_mistake_in_a_shipped_recipe_names_its_file_or_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    writers.index_png(tmp_path / "photos", writers.truth(12))
    data = {"data": str(tmp_path / "photos")}
    with pytest.raises(RecipeError, match=r"^command line: train\.epoch: unknown key"):
        mw.train("quick_cpu", data, "train.epoch=1", out=str(tmp_path / "runs"))
    with pytest.raises(RecipeError, match=r"^command line: augment: no augmentation is called `sofd`"):
        mw.train("quick_cpu", data, "augment=sofd", out=str(tmp_path / "runs"))


# ------------------------------------------------------------------------------------------------------- each one trains


def cats(folder: Path) -> None:
    """The five sources of `cat_lens`, a disc in each called cat."""
    samples = writers.truth(8)
    layouts: dict[str, Callable[[Path, list[writers.Truth]], None]] = {
        "coco_tiny": writers.coco(writers.as_polygons),
        "VOCdevkit": lambda base, truth: writers.voc(base.parent, truth),
        "oxford-iiit-pet": writers.pet,
        "feral-cat-yolov8-seg": writers.yolo,
        "cat_mask_folder": writers.black_and_white,
    }
    for name, write in layouts.items():
        (folder / name).mkdir(exist_ok=True)
        write(folder / name, samples)
    for file in (f for f in folder.rglob("*") if f.suffix in (".json", ".txt", ".yaml")):
        file.write_text(re.sub(r"\bdisc\b", "cat", file.read_text()).replace(" 1 2 1\n", " 1 1 1\n"))


SMALL = {"limit": 16, "train.epochs": 1, "train.batch": 4, "train.workers": 0, "model.weights": "none"}
OBJECTS = {"size": 64, "model.channels": 16, "model.anchors": [8, 16, 24, 32, 64]}
STAGES = [{"epochs": 1, "layers": "heads"}, {"epochs": 1, "layers": "4+"}]
FASHION = {**OBJECTS, "model.encoder": "resnet18", "train.stages": STAGES}
TRIALS: dict[str, tuple[Callable[[Path], None], dict[str, Any]]] = {
    "best_gpu": (lambda f: writers.index_png(f, writers.truth(12)), {"size": 64, "model.encoder": "resnet18"}),
    "car_parts": (lambda f: writers.coco(writers.as_polygons)(f, writers.truth(12)), {"size": 64}),
    "cat_lens": (cats, {"size": [64, 32], "base_size": 96, "limit": 40}),
    "car_parts_objects": (lambda f: writers.coco(writers.as_polygons)(f, writers.truth(12)), OBJECTS),
    "fashion": (lambda f: writers.coco(writers.as_polygons)(f, writers.truth(12)), FASHION),
    "pet_fcn": (lambda f: writers.pet(f, writers.truth(12)), {"size": 48, "base_size": 72}),
    "quick_cpu": (lambda f: writers.index_png(f, writers.truth(12)), {"size": 64}),
    "voc_fcn_jaccard": (lambda f: writers.voc(f, writers.truth(12)), {"size": 64, "model.width": 8}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_each_trains_to_a_measured_bundle(name: str, tmp_path: Path) -> None:
    make, changes = TRIALS[name]
    (tmp_path / "photos").mkdir()
    make(tmp_path / "photos")
    run = mw.train(name, {"data": str(tmp_path / "photos"), **SMALL, **changes}, out=str(tmp_path / "runs"))
    assert 0 <= (run.scores["mask_ap" if name in ("car_parts_objects", "fashion") else "miou"] or 0) <= 1
    if name == "cat_lens":
        assert run.scores.classes == ("background", "cat")


@pytest.mark.slow
@pytest.mark.parametrize("name", PATHS)
def test_each_opens_the_real_data(name: str, real_data: Path) -> None:
    tree, lines = yaml_text.parse(shipped_text(name, str(real_data / PATHS[name])), name)
    prepared = prepare(recipes.build(tree, {"limit": 64}, lines))
    assert (
        len(prepared.classes)
        == {"car_parts": 19, "car_parts_objects": 19, "cat_lens": 2, "voc_fcn_jaccard": 21, "pet_fcn": 3}[name]
    )
    assert len(prepared.train) > len(prepared.val) > 0
    assert prepared.ledger.num_refused == 0
    if name == "cat_lens":
        assert {int(source) for source in prepared.data.source} == {0, 1, 2, 3, 4}
