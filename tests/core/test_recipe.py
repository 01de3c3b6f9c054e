"""The recipe: what is written is read back, mistakes are named with their line and the nearest right word."""

from pathlib import Path

import pytest
import yaml

from maskwright.core import recipe as recipes
from maskwright.core.errors import RecipeError
from maskwright.core.recipe_defaults import FOR_PIXELS
from maskwright.core.recipe_keys import every_key
from maskwright.core.recipe_text import dump

RICH = """
data:
  - path: a
    format: {name: coco, crowd: drop}
    classes: {door: null, wheel: tyre}
    weight: 2.0
  - b
split: {folds: 4, fold: 3, group: "^(.*)_", seed: 7}
size: [128, 96]
fit: pad
model: {name: unet, encoder: resnet34, weights: none}
loss: {bce: 1, dice: {weight: 0.5, smooth: 2}}
train:
  epochs: 3
  optimizer: {name: sgd, lr: 1e-2, momentum: 0.9}
  schedule: {name: poly, power: 0.9}
"""


OBJECTS = """
task: instance
data: somewhere
model: {name: mask_rcnn, encoder: resnet18, mask_loss: 2.0}
size: 512
flip_pairs: [[left, right]]
mix: [copy_paste]
train: {batch: 2, stages: [{epochs: 1, layers: heads}, {epochs: 2}]}
"""
OLDER = "loss: {cross_entropy: 1.0, dice: 1.0}\nmultilabel: false\nbase_size: null\ntta: {flip: false, scales: [1.0]}\n"


@pytest.mark.parametrize("text", ["data: somewhere", RICH, OBJECTS], ids=["smallest", "rich", "objects"])
@pytest.mark.parametrize("comments", [True, False])
def test_a_recipe_that_is_written_reads_back_equal(tmp_path: Path, text: str, comments: bool) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text(text)
    recipe = recipes.load(first)
    absolute = recipe.model_copy(
        update={"data": [s.model_copy(update={"path": str(Path(s.path))}) for s in recipe.data]}
    )
    second.write_text(dump(absolute, comments))
    assert recipes.load(second) == absolute


@pytest.mark.parametrize("comments", [True, False])
def test_a_recipe_of_objects_is_written_without_what_is_for_pixels(comments: bool) -> None:
    recipe = recipes.build(yaml.safe_load(OBJECTS))
    keys = list(yaml.safe_load(dump(recipe, comments)))
    assert not set(keys) & set(FOR_PIXELS)
    assert set(FOR_PIXELS) <= set(yaml.safe_load(dump(recipes.build({"data": "a"}))))
    assert recipes.build(yaml.safe_load(OBJECTS + OLDER)) == recipe  # as runs were written that did not leave them out
    assert recipes.build(yaml.safe_load(OBJECTS) | dict.fromkeys(FOR_PIXELS)) == recipe


@pytest.mark.parametrize("key", FOR_PIXELS)
@pytest.mark.parametrize(
    "value", [True, 1, 512, "dice", {"dice": 1}, ["dice"], {"flip": True}, {"dice": {"weight": 2}}]
)
def test_keys_for_pixels_are_refused_for_objects_in_one_sentence(key: str, value: object) -> None:
    tree = {"task": "instance", "data": "a", "model": "mask2former", key: value}
    with pytest.raises(RecipeError) as refused:
        recipes.build(tree, lines={key: 7}, name="r.yaml")
    assert str(refused.value) == f"r.yaml:7: {key}: {FOR_PIXELS[key].format(model='mask2former')}"


def test_numbers_and_words_are_what_people_mean(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("data: x\ntrain: {optimizer: {name: adamw, lr: 1e-3}}\nmodel: {name: unet, encoder: no}\n")
    recipe = recipes.load(file)
    assert recipe.train.optimizer.options == {"lr": 0.001}
    assert recipe.model.options == {"encoder": "no"}


def test_relative_paths_start_at_the_recipe(tmp_path: Path) -> None:
    file = tmp_path / "r.yaml"
    file.write_text("data: photos\nval: /elsewhere\n")
    recipe = recipes.load(file)
    assert recipe.data[0].path == str(tmp_path / "photos")
    assert recipe.val is not None
    assert recipe.val[0].path == "/elsewhere"


def test_changes_win_and_can_open_what_was_a_bare_name() -> None:
    recipe = recipes.build(
        {"data": "x", "model": "unet"}, ["model.encoder=resnet18", "train.epochs=2", "size=[64, 32]"]
    )
    assert recipe.model.name == "unet"
    assert recipe.model.options == {"encoder": "resnet18"}
    assert (recipe.train.epochs, recipe.size) == (2, [64, 32])


def test_the_last_word_on_the_length_wins() -> None:
    assert recipes.build({"data": "x", "train": {"epochs": 3}}, {"train.minutes": 2}).train.epochs is None


MISTAKES = {
    "data: x\ntrain:\n  epoch: 3\n": "r.yaml:3: train.epoch: unknown key; did you mean `epochs`?",
    "data: [{path: x, wieght: 2}]": "r.yaml:1: data.0.wieght: unknown key; did you mean `weight`?",
    "data: x\ndata: y": "r.yaml:2: the key `data` stands here twice",
    "data: x\nfit: squish": "r.yaml:2: fit: input should be 'squash', 'pad' or 'crop' (got `squish`)",
    "data: x\ntrain: {epochs: 3, minutes: 2}": "r.yaml:2: train: give `epochs` or `minutes`, not both",
    "data: x\nsize: 3": "r.yaml:2: size.0: input should be greater than or equal to 16 (got `3`)",
    "data: x\nsplit: {fold: 7}": "split.fold: 7 is not below split.folds (5)",
    "trains: 3": "r.yaml:1: trains: unknown key; did you mean `train`?",
    "size: 64": "data: is missing; a recipe needs `data: path/to/images`",
    "- a": "r.yaml: holds no keys",
    "": "r.yaml: holds no keys",
    "data: [x": "r.yaml:1: is not valid YAML",
    "data: x\ntrain: {batch: 2.5}": "r.yaml:2: train.batch: input should be a valid integer (got `2.5`)",
    "data: x\nmodel: {weights: 3}": "r.yaml:2: model.weights: input should be a valid string (got `3`)",
    "data: !!python/object:os.system x": "is not valid YAML",
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.items())
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "r.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError) as error:
        recipes.load(file)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.epoch=2", "command line: train.epoch: unknown key; did you mean `epochs`?"),
        ("epochs", "command line: `epochs` is not a change; write key=value"),
        ("fit.x=2", "command line: fit: input should be"),
        ("size=[1", "is not a value"),
    ],
)
def test_mistakes_on_the_command_line_are_named(change: str, message: str) -> None:
    with pytest.raises(RecipeError) as error:
        recipes.build({"data": "x"}, [change])
    assert message in str(error.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00data", None])
def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "r.yaml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RecipeError, match=r"r\.yaml"):
        recipes.load(file)


def test_every_key_is_described() -> None:
    for key in every_key():
        assert key.help, key
