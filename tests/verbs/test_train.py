"""What a recipe may say of a training, end to end on a small generated set: what is kept, said, and refused with its line."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import maskwright as mw
from maskwright.bundles import runs as run_folders
from maskwright.core import recipe as recipes
from maskwright.core.errors import DataError, ModelError, RecipeError
from maskwright.data import synthetic
from maskwright.data.prepare import prepare
from maskwright.reports import snapshots

PLAIN = "model: {name: lens, weights: none}\nsize: 32\n"
SMALL = {
    "size": 32,
    "train.epochs": 2,
    "train.batch": 4,
    "train.workers": 0,
    "model": {"name": "lens", "weights": "none"},
}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.make(tmp_path_factory.mktemp("train") / "photos", num=16, size=(48, 48))


def events_of(run: str) -> list[dict[str, Any]]:
    return run_folders.load(run).events()


def test_everything_can_train_and_then_nothing_is_measured(photos: Path, tmp_path: Path) -> None:
    trained = mw.train(str(photos), SMALL, {"val": "none", "train.ema": 0.5}, out=str(tmp_path))
    run = run_folders.load(trained.run)
    assert (trained.scores, trained.test, trained.to_json()["scores"]) == (None, None, {"val": None, "test": None})
    assert {k: v for k, v in run.scores.items() if k != "schema"} == {}
    split = json.loads((run.path / "split.json").read_text())
    assert (len(split["train"]), split["val"]) == (16, [])
    assert any("not measured" in e["text"] for e in events_of(trained.run) if e["event"] == "warn")
    page = run.report.read_text(encoding="utf-8")
    assert "not measured on validation images" in page
    assert mw.load(trained.bundle)(next(photos.rglob("*.jpg"))).label_map.shape == (48, 48)
    assert recipes.load(run.path / "recipe.yaml").val == "none"


def test_where_nothing_validates_the_report_shows_the_test_images(photos: Path, tmp_path: Path) -> None:
    ids = prepare(recipes.build({"data": str(photos)})).data.ids
    file = tmp_path / "split.json"
    file.write_text(json.dumps({"train": list(ids[:10]), "val": [], "test": list(ids[10:])}))
    trained = mw.train(str(photos), SMALL, {"val": "none", "split.file": str(file)}, out=str(tmp_path / "runs"))
    assert trained.test is not None
    shown = snapshots.answers(Path(trained.run) / "pictures")
    assert {answer["id"] for answer in shown} == set(ids[10:])
    assert shown[0]["id"] == min(trained.test.per_image, key=lambda image: (image.miou, image.id)).id
    page = Path(trained.report).read_text(encoding="utf-8")
    assert "Test images with their score" in page
    assert "choose no setting by them" in page
    assert snapshots.contact_sheet(Path(trained.run) / "pictures").shape[0] > 400


def test_val_none_keeps_a_test_list_and_takes_the_validation_images_of_a_split_file(
    photos: Path, tmp_path: Path
) -> None:
    ids = prepare(recipes.build({"data": str(photos)})).data.ids
    file = tmp_path / "split.json"
    file.write_text(json.dumps({"train": list(ids[:8]), "val": list(ids[8:12]), "test": list(ids[12:])}))
    found = prepare(recipes.build({"data": str(photos), "val": "none", "split": {"file": str(file)}}))
    assert found.split.parts() == {"train": tuple(ids[:12]), "val": (), "test": tuple(ids[12:])}
    file.write_text(json.dumps({"train": list(ids), "val": []}))
    with pytest.raises(DataError, match="`val` is empty; to train without validation say `val: none`"):
        prepare(recipes.build({"data": str(photos), "split": {"file": str(file)}}))


def test_a_fraction_of_the_training_images_is_drawn_by_seed(photos: Path) -> None:
    def prepared(**train: Any) -> Any:
        return prepare(recipes.build({"data": str(photos), "train": train})).split

    whole, few, again, other = (
        prepared(),
        prepared(fraction=0.5),
        prepared(fraction=0.5),
        prepared(fraction=0.5, seed=1),
    )
    assert few == again
    assert few.train != other.train
    assert set(few.train) < set(whole.train)
    assert len(few.train) == round(len(whole.train) / 2)
    assert few.val == whole.val
    assert few.how.endswith("; 0.5 of the training images")


def test_a_resumed_run_keeps_its_fraction_and_what_it_settled_on(photos: Path, tmp_path: Path) -> None:
    changes = {"train.fraction": 0.5, "train.batch": "auto", "train.validate_every": 2}
    trained = mw.train(str(photos), SMALL, changes, out=str(tmp_path))
    before = run_folders.load(trained.run)
    split, settled = (before.path / "split.json").read_text(), before.record["estimate"]
    assert 1 <= settled["batch"] <= len(json.loads(split)["train"])
    assert settled["validate_every"] == 2
    again = mw.train(trained.run, resume=True)
    after = run_folders.load(trained.run)
    assert json.loads((after.path / "split.json").read_text()) == json.loads(split)
    assert {k: after.record["estimate"][k] for k in ("epochs", "batch", "validate_every")} == {
        k: settled[k] for k in ("epochs", "batch", "validate_every")
    }
    assert again.scores["miou"] == trained.scores["miou"]


def test_a_run_that_stopped_early_says_so_and_adapts_its_estimate(photos: Path, tmp_path: Path) -> None:
    changes = {"train.epochs": 40, "train.early_stopping": {"patience": 1, "min_epochs": 0, "tolerance": 1.0}}
    trained = mw.train(str(photos), SMALL, changes, out=str(tmp_path))
    run = run_folders.load(trained.run)
    assert run.status() == ("finished", "stopped early after epoch 2 of 40: no better score in 1 validation")
    assert trained.estimated_seconds == pytest.approx(run.record["estimate"]["seconds"])
    assert [e["epoch"] for e in run.events() if e["event"] == "epoch"] == [1, 2]


def test_folds_become_one_table_and_finished_ones_are_not_trained_again(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {**SMALL, "train.epochs": 1, "split.folds": 3}
    made = mw.train(str(photos), changes, out=str(tmp_path), folds=True)
    home = Path(made.folder)
    stored = json.loads((home / "folds.json").read_text())
    assert [row["fold"] for row in stored["folds"]] == [0, 1, 2]
    values = [run_folders.load(home / row["run"]).scores["val"]["headlines"]["miou"]["value"] for row in made.rows]
    mean = sum(values) / 3
    assert stored["val"]["miou"]["mean"] == pytest.approx(mean)
    assert stored["val"]["miou"]["sd"] == pytest.approx((sum((v - mean) ** 2 for v in values) / 2) ** 0.5)
    held = [json.loads((home / row["run"] / "split.json").read_text())["val"] for row in made.rows]
    assert sorted(id for ids in held for id in ids) == sorted(
        json.loads((home / made.rows[0]["run"] / "split.json").read_text())["train"] + held[0]
    )
    (home / made.rows[1]["run"] / "events.jsonl").write_text("")  # as if it had been killed at once
    resumed = mw.train(str(home), resume=True, folds=True)
    assert resumed.rows[0] == made.rows[0]
    assert resumed.rows[2] == made.rows[2]
    assert resumed.rows[1]["val"] == made.rows[1]["val"]
    assert len(list(home.glob("*/run.json"))) == 3


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"val": "none"}, "val: leaves no fold to choose"),
        ({"split.fraction": 0.5}, "split.fraction: leaves no fold to choose"),
    ],
)
def test_folds_that_cannot_differ_are_refused(
    photos: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(RecipeError, match=words):
        mw.train(str(photos), SMALL, changes, out=str(tmp_path), folds=True)


# What a recipe cannot have, the line it stands in, and the words of the refusal. Line 1 is `data`, 2 `model`, 3 `size`.
MISTAKES = {
    "layer of a stage": (
        "train:\n  stages:\n    - {epochs: 1, freeze: [encoder]}\n    - {epochs: 1, freeze: [encodr]}\n",
        7,
        "train.stages.1.freeze: `encodr` is no layer of this network; did you mean `encoder",
    ),
    "frozen layer": ("train:\n  epochs: 1\n  freeze: [hed]\n", 6, "train.freeze: `hed` is no layer of this network"),
    "pattern": ("train:\n  layer_lr: {'xx.*': 0.1}\n", 5, r"train.layer_lr: `xx.\*` is no layer of this network"),
    "batch of one": ("train:\n  epochs: 1\n  batch: 1\n", 6, "train.batch: .*one image at a time; 2 images or more"),
    "optimizer": ("train:\n  optimizer: {name: sgd, lr: -1}\n", 5, "train.optimizer: sgd: invalid learning rate"),
    "schedule": ("train:\n  schedule: {name: step, every: 0}\n", 5, "train.schedule: step: `every` must be 1"),
    "plateau": ("val: none\ntrain:\n  schedule: plateau\n", 4, "val: `plateau` goes by the validation score"),
    "early stopping": ("val: none\ntrain:\n  early_stopping: {}\n", 4, "val: early stopping goes by"),
    "lengths": ("train:\n  epochs: 3\n  stages: [{epochs: 1}]\n", 4, "train: the length of a training with `stages`"),
    "fold": ("split: {folds: 5, fold: 7}\n", 4, "split.fold: 7 is not below split.folds"),
    "loss": ("loss: {dise: 1.0}\n", 4, "loss: no loss is called `dise`"),
    "lovasz": ("multilabel: true\nloss: {lovasz: 1.0}\n", 5, "loss.lovasz: "),
    "class weights": ("loss:\n  cross_entropy: {class_weights: {dog: 2}}\n", 5, "loss.cross_entropy.class_weights: "),
}


@pytest.mark.parametrize(("text", "line", "words"), MISTAKES.values(), ids=MISTAKES)
def test_what_cannot_be_is_refused_before_training_with_its_line(
    text: str, line: int | None, words: str, photos: Path, tmp_path: Path
) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"data: {photos}\nmodel: {{name: lens, weights: none}}\nsize: 32\n{text}")
    place = f"r.yaml:{line}: " if line else "r.yaml: "
    with pytest.raises(RecipeError, match=place + words):
        mw.train(str(recipe), out=str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("{name: lens, width: 5}", "the width of `lens` can be"),
        ("{name: fpn, encoder: resnet43}", "no encoder is called `resnet43`; did you mean `resnet34`"),
        ("{name: deeplabv3, encoder: vgg11}", "encoder `vgg11` cannot be used here"),
    ],
)
def test_what_a_network_refuses_is_named_with_its_line(model: str, words: str, photos: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"data: {photos}\nsize: 32\nmodel: {model}\n")
    with pytest.raises(RecipeError, match=r"r.yaml:3: model: " + words):
        mw.train(str(recipe), out=str(tmp_path / "runs"))


@pytest.mark.parametrize("changes", [{}, {"model.weights": "{file}"}], ids=["recipe", "command line"])
def test_weights_of_another_network_are_refused_with_their_line(
    changes: dict[str, str], photos: Path, tmp_path: Path
) -> None:
    import torch

    file = tmp_path / "other.pth"
    torch.save({"conv.weight": torch.zeros(2, 2)}, file)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"data: {photos}\nsize: 32\nmodel:\n  name: lens\n  weights: {file}\n")
    given = {key: value.format(file=file) for key, value in changes.items()}
    place = "command line" if changes else f"{recipe}:5"
    with pytest.raises(ModelError) as told:
        mw.train(str(recipe), given, out=str(tmp_path / "runs"))
    assert str(told.value).startswith(f"{place}: model.weights: {file}: holds only 0 of the ")
    assert told.value.exit_code == 4
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("source", ["folder", "shipped", "recipe"])
def test_a_refused_training_leaves_nothing_and_what_was_there_stays(source: str, photos: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"data: {photos}\n")
    named = {"folder": str(photos), "shipped": "quick_cpu", "recipe": str(recipe)}[source]
    data = {"data": str(photos)} if source == "shipped" else {}
    for out in (tmp_path / "deep" / "runs", tmp_path / "kept"):
        if out.name == "kept":
            out.mkdir()
            (out / "mine.txt").write_text("x")
        for folds in (False, True)[: 1 + (source == "recipe")]:
            with pytest.raises(RecipeError, match=r"^command line: train\.freeze: `hed` is no layer"):
                mw.train(named, SMALL, data, {"train.freeze": ["hed"]}, out=str(out), folds=folds)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "r.yaml"]
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["mine.txt"]


def test_a_mistake_of_a_recipe_keeps_its_line_in_folds(photos: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"data: {photos}\nmodel: {{name: lens, weights: none}}\nsize: 32\ntrain:\n  freeze: [hed]\n")
    with pytest.raises(RecipeError, match=rf"^{recipe}:5: train\.freeze: `hed` is no layer"):
        mw.train(str(recipe), out=str(tmp_path / "runs"), folds=True)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("key", "what"),
    [
        ("format: cocoo", "data.0.format: "),
        ("format: {name: coco, crod: drop}", "data.0.format.crod: "),
        ("classes: {nothing: x}", "data.0.classes: "),
        ("keep: [nothing]", "data.0.keep: "),
    ],
)
def test_what_a_source_cannot_have_is_named_with_its_line(key: str, what: str, photos: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"data:\n  - path: {photos}\n    {key}\n{PLAIN}")
    with pytest.raises(RecipeError, match=rf"r\.yaml:3: {re.escape(what + str(photos))}: "):
        mw.train(str(recipe), out=str(tmp_path / "runs"))


def test_weights_that_explode_in_the_last_step_are_noticed(photos: Path, tmp_path: Path) -> None:
    """The loss was a number in every step; what the network answers afterwards is not."""
    wild = {"train.epochs": 1, "train.batch": 16, "train.optimizer": {"name": "adamw", "lr": 1e30}}
    with pytest.raises(ModelError, match=r"the loss is no longer a number \(epoch 1, step 1, batch: .*\.jpg"):
        mw.train(str(photos), SMALL, wild, out=str(tmp_path))
    (run,) = run_folders.all_runs(tmp_path)
    assert not run.bundle.exists()
    assert any("back to the start with half the learning rate" in e.get("text", "") for e in run.events())


def test_a_run_without_a_bundle_cannot_be_scored(photos: Path, tmp_path: Path) -> None:
    run = run_folders.create(tmp_path, "lens", "photos")
    run.write_record()
    with pytest.raises(ModelError, match=r"has not finished; .* --resume"):
        mw.evaluate(str(run.path), str(photos))


def test_a_size_that_no_stride_divides_is_padded(photos: Path, tmp_path: Path) -> None:
    trained = mw.train(str(photos), SMALL, {"size": [50, 35], "train.epochs": 1}, out=str(tmp_path))
    assert trained.scores is not None


def test_what_the_command_line_changed_is_named_so(photos: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(f"data: {photos}\nmodel: {{name: lens, weights: none}}\nsize: 32\n")
    with pytest.raises(RecipeError, match=r"command line: train\.freeze: `hed` is no layer"):
        mw.train(str(recipe), {"train.freeze": ["hed"]}, out=str(tmp_path / "runs"))
