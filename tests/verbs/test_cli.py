"""The command line: exit codes, `--json`, errors as sentences, help without anything heavy."""

import inspect
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from maskwright import cli
from maskwright.core.registry import options_of
from maskwright.verbs import VERBS
from maskwright.verbs import explain as explained

GOLDEN = Path(__file__).parents[1] / "golden" / "bundle-1"


def run(capsys: pytest.CaptureFixture[str], *tokens: str, as_json: bool = False) -> tuple[int, str, str]:
    code = cli.run(list(tokens), as_json)
    out, err = capsys.readouterr()
    return code, out, err


@pytest.mark.parametrize(
    ("tokens", "code", "message"),
    [
        (["check", "/no/such/folder"], 3, "/no/such/folder"),
        (["train", "/no/such/recipe.yaml"], 2, "/no/such/recipe.yaml: cannot be read"),
        (["train", "/no/such/run", "--resume"], 4, "/no/such/run: is not a run folder"),
        (["predict", "/no/such/bundle", "/no/such/photos"], 4, "/no/such/bundle: not found"),
        (["evaluate", "/no/such.onnx", "/no/such/data"], 4, "/no/such.onnx: not found"),
        (["explain", "modle"], 2, "did you mean `model`?"),
        (["explain", "model", "unett"], 2, "did you mean `unet`?"),
        (["report", "/no/such/run"], 3, "/no/such/run"),
        (["trian", "x"], 2, "trian"),
        (["train"], 2, "--help"),
        (["predict", "a", "b", "--ouf", "c"], 2, "--ouf"),
        (["export", "a", "--opset", "1.5"], 2, "--opset: 1.5 is not a whole number"),
        (["export", "a", "--opset=abc"], 2, '--opset: unable to convert "abc"'),
        (["preview", "a", "--count", "2.9"], 2, "--count: 2.9 is not a whole number"),
        (["inspect", "a", "--threads", "1.e999"], 2, "--threads: 1.e999 is not a whole number"),
        (["train", "a", "--limit", "-0.5"], 2, "--limit: -0.5 is not a whole number"),
    ],
)
def test_mistakes_end_in_a_sentence_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], tokens: list[str], code: int, message: str
) -> None:
    found, out, err = run(capsys, *tokens)
    assert found == code
    assert err.startswith("error: ")
    assert message in err
    assert not out
    assert "Traceback" not in err
    found, out, _ = run(capsys, *tokens, as_json=True)
    answer = json.loads(out)
    assert next(iter(answer)) == "schema"
    assert answer["error"]["exit_code"] == found == code


@pytest.mark.parametrize(
    "tokens",
    [
        ["trian", "x"],
        ["train"],
        ["predict", "a", "b", "--ouf", "c"],
        ["train", "{photos}", "train.epoch=3"],
        ["train", "{photos}", "epochs"],
        ["train", "{photos}", "train.epochs=[3"],
        ["train", "{photos}", "train.epochs=-1"],
        ["train", "{photos}", "fit=stretch"],
        ["train", "{photos}", "model.name=unett"],
        ["train", "{photos}", "model.encodr=resnet18"],
        ["train", "{photos}", "train.schedule=plateau", "val=none"],
        ["train", "{photos}", "flip_pairs=[[a, b]]", "model.name=lens", "model.weights=none"],
        ["train", "quick_cpu"],
        ["train", "quick_cpu", "data={photos}", "size=3"],
        ["new", "{photos}", "train.epoch=3"],
        ["new", "{photos}", "train.epochs=3", "--recipe", "quick_cpu"],
        ["new", "{photos}", "--recipe", "quik_cpu"],
        ["new", "{photos}", "--out", "{photos}"],
        ["preview", "{photos}", "augment=sofd"],
        ["preview", "{photos}", "--out", "p.gif"],
        ["check", "{photos}", "--format", "cocoo"],
        ["check", "{photos}", "--format", "coco", "--option", "crod=drop"],
        ["check", "{photos}", "--option", "crowd"],
        ["evaluate", "{bundle}", "{photos}", "--format", "cocoo"],
        ["evaluate", "{bundle}", "{photos}", "--option", "crod=drop"],
        ["evaluate", "{bundle}", "{photos}", "--part", "tset"],
        ["evaluate", "{bundle}", "{photos}", "--convention", "sagemaker2"],
        ["predict", "{bundle}", "{photos}", "--smooth", "0.5"],
        ["predict", "{bundle}", "{photos}", "--cutout", "dog"],
        ["explain", "modle"],
        ["explain", "model", "unett"],
        ["explain", "recipe", "train.epoch"],
    ],
    ids=" ".join,
)
def test_what_was_typed_wrongly_is_named_in_one_form(
    capsys: pytest.CaptureFixture[str], tokens: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskwright.data import synthetic

    photos = synthetic.make(tmp_path / "photos", num=4, size=(48, 48))
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *(token.format(photos=photos, bundle=GOLDEN) for token in tokens))
    last = err.rstrip("\n").split("\n")[-1]
    assert (code, last[:21]) == (2, "error: command line: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_command_has_help_and_documents_its_options(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    code, out, _ = run(capsys, verb.replace("_", "-"), "--help")
    assert code == 0
    documentation = inspect.getdoc(VERBS[verb]) or ""
    for name in options_of(VERBS[verb]):
        assert f"\n{name}\n" in documentation, f"{verb}: {name} is not documented"
    assert VERBS.summary(verb).rstrip(".").split()[0] in out


@pytest.mark.parametrize(
    "topic",
    ["model", "object_model", "loss", "optimizer", "schedule", "augment", "mix", "format", "convention", "exporter"],
)
def test_every_entry_of_every_shelf_is_explained(capsys: pytest.CaptureFixture[str], topic: str) -> None:
    code, out, _ = run(capsys, "explain", topic, as_json=True)
    assert code == 0
    for row in json.loads(out)["rows"]:
        assert row["help"], row["name"]
        code, out, _ = run(capsys, "explain", topic, row["name"], as_json=True)
        assert code == 0
        for option in json.loads(out)["rows"]:
            assert option["help"], f"{topic} {row['name']}: {option['name']}"


def test_the_heading_of_a_shelf_is_its_plural(capsys: pytest.CaptureFixture[str]) -> None:
    headings = {}
    for topic in explained._shelves():
        _, out, _ = run(capsys, "explain", topic)
        headings[topic] = out.split("\n")[0]
        assert run(capsys, "explain", headings[topic])[1] == out
    assert headings == {
        "model": "models",
        "object_model": "object_models",
        "loss": "losses",
        "optimizer": "optimizers",
        "schedule": "schedules",
        "augment": "augments",
        "operation": "operations",
        "mix": "mixes",
        "format": "formats",
        "convention": "conventions",
        "object_convention": "object_conventions",
        "exporter": "exporters",
    }


def test_json_comes_first_with_its_schema(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, out, _ = run(capsys, "runs", str(tmp_path), as_json=True)
    assert code == 0
    answer: dict[str, Any] = json.loads(out)
    assert next(iter(answer)) == "schema"
    assert answer["runs"] == []


@pytest.mark.parametrize("folder", ["runs", "my trainings", "deep/er"])
def test_a_folder_without_runs_says_how_one_gets_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    out = run(capsys, "runs", folder)[1]
    command = shlex.split(next(line for line in out.splitlines() if line.startswith("next: ")))
    assert command[1:4] == ["maskwright", "train", "PATH"]
    assert command[4:] == ([] if folder == "runs" else ["--out", folder])


def test_new_writes_a_recipe_that_loads_and_never_overwrites(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskwright.core import recipe
    from maskwright.data import synthetic

    photos = synthetic.make(tmp_path / "photos", num=4, size=(48, 48))
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "mine" / "recipe.yaml"
    code, _, _ = run(capsys, "new", str(photos), "train.epochs=3", "--out", str(target))
    assert code == 0
    written = recipe.load(target)
    assert written.train.epochs == 3
    assert Path(written.data[0].path).resolve() == photos.resolve()
    assert run(capsys, "new", str(photos), "--out", str(target))[0] == 2
    assert run(capsys, "new", str(photos), "--out", str(target), "--force")[0] == 0
