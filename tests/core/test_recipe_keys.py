"""Every key of a recipe is explained: its type in words, and an example that a recipe takes and that says something."""

import pytest

import maskwright as mw
from maskwright import cli
from maskwright.core import recipe as recipes
from maskwright.core import yaml_text
from maskwright.core.errors import RecipeError
from maskwright.core.recipe_keys import EXAMPLES, Key, every_key, explained

KEYS = list(every_key())
ONLY_ONE_WAY = {"task"}  # keys that can be said in one way alone


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_an_example_is_taken_and_changes_that_key(key: Key) -> None:
    assert key.example, "a new key gets its line in EXAMPLES"
    data = {"data": "photos"}
    plain, changed = recipes.build(data), recipes.build(data, [key.example])
    assert (changed != plain) == (key.name not in ONLY_ONE_WAY)
    text = key.yaml()
    tree, lines = yaml_text.parse(text, "example")
    assert recipes.build(data | tree) == changed
    last = key.name.rpartition(".")[2]
    assert key.name in lines or f"{last}:" in text


@pytest.mark.parametrize("key", KEYS, ids=lambda key: key.name)
def test_explain_says_type_default_help_and_example(key: Key, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["explain", "recipe", key.name]) == 0
    out = capsys.readouterr().out
    assert key.help.split()[0] in out
    assert f"\ntype: {key.type}\n" in out
    assert (f"\ndefault: {key.default}\n" in out) == (key.default is not None)
    assert all(line in out for line in key.yaml().split("\n"))
    assert "anything" not in key.type or key.name == "loss"
    found = mw.explain("recipe", key.name)
    assert found.to_json()["key"]["name"] == key.name
    assert tuple(row["name"] for row in found.rows) == key.below


def test_no_example_is_left_behind() -> None:
    assert set(EXAMPLES) == {key.name for key in KEYS}


@pytest.mark.parametrize(
    ("name", "words"),
    {
        "train.epochs": "whole number from 1",
        "train.clip": "number above 0",
        "train.ema": "number from 0 below 1",
        "train.batch": "whole number from 1 or auto",
        "train.stages": "list of {epochs, lr, layers, freeze}",
        "fit": "squash | pad | crop",
        "multilabel": "true or false",
        "data.classes": "{text: text}",
        "train.optimizer": "a name, or {name: ..., option: ...}",
        "model": "{name, weights, normalization, option: ...}",
    }.items(),
)
def test_types_are_words(name: str, words: str) -> None:
    assert explained(name).type == words


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("train.epoch", "did you mean `train.epochs`?"),
        ("train.stage", "did you mean `train.stages`?"),
        ("flip", "did you mean `tta.flip`?"),
        ("stages", "did you mean `train.stages`?"),
        ("losss", "did you mean `loss`?"),
        ("qqq", "`maskwright explain recipe` lists them"),
        ("", "`maskwright explain recipe` lists them"),
    ],
)
def test_an_unknown_key_gets_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(RecipeError) as told:
        explained(name)
    assert str(told.value) == f"command line: no key of a recipe is called `{name}`; {hint}"


def test_numbers_in_a_key_are_those_of_a_list() -> None:
    assert explained("train.stages.1.lr") == explained("train.stages.lr")
    assert mw.explain("train.stages").title == "train.stages"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.encoder", "an option of the model `unet`"),
        ("train.optimizer.lr", "an option of the optimizer `adamw`"),
        ("train.schedule.final", "an option of the schedule `cosine`"),
    ],
)
def test_an_option_of_an_entry_is_explained_too(name: str, words: str) -> None:
    found = mw.explain("recipe", name)
    assert (found.title, found.text) == (name, words)
    assert [row["name"] for row in found.rows] == [name.rpartition(".")[2]]


def test_the_default_is_that_of_the_recipe() -> None:
    assert mw.explain("recipe", "train.optimizer.lr").rows[0]["default"] == "0.002"
    with pytest.raises(RecipeError, match="`encodr` is no option of the model `unet`; did you mean `encoder`"):
        mw.explain("recipe", "model.encodr")
    with pytest.raises(RecipeError, match="no loss is called `dise`; did you mean `dice`"):
        mw.explain("recipe", "loss.dise")
