"""The spine, end to end on a small generated set: one training, and everything that must agree about it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import maskwright as mw
from maskwright.bundles import bundle as bundles
from maskwright.bundles import runs as run_folders
from maskwright.core.errors import DataError, ModelError, RecipeError, SetupError
from maskwright.core.types import VOID
from maskwright.data import split as splits
from maskwright.data import synthetic
from maskwright.data.open import open_data
from maskwright.imaging import masks

SMALL = {
    "size": 64,
    "train.batch": 8,
    "train.epochs": 2,
    "train.workers": 0,
    "model.weights": "none",
    "model.encoder": "mobilenet_v2",
}
CODE = "import sys; sys.modules['torch'] = None; from maskwright.cli import main; main(sys.argv[1:])"


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.make(tmp_path_factory.mktemp("spine") / "photos", num=24, size=(96, 96))


@pytest.fixture(scope="session")
def trained(photos: Path) -> Any:
    return mw.train(str(photos), SMALL, out=str(photos.parent / "runs"))


def command(*arguments: str, python: str = sys.executable, code: str = CODE) -> dict[str, Any]:
    result = subprocess.run([python, "-c", code, *arguments, "--json"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert isinstance(answer, dict)
    assert next(iter(answer)) == "schema"
    return answer


def test_a_run_leaves_everything_behind(trained: Any) -> None:
    run = run_folders.load(trained.run)
    assert run.status() == ("finished", "")
    names = {p.name for p in run.path.iterdir()}
    wanted = {"recipe.yaml", "split.json", "ledger.json", "run.json", "events.jsonl", "scores.json", "report.html"}
    assert wanted | {"weights.txt", "bundle", "checkpoints", "pictures"} <= names
    assert {"weights.safetensors", "bundle.json", "recipe.yaml", "model.onnx"} == {p.name for p in run.bundle.iterdir()}
    for file in run.bundle.glob("*.[jy]*"):
        assert str(run.path.parent) not in file.read_text(), "a bundle holds no absolute path"
    assert [r["name"] for r in mw.runs(str(run.path.parent)).rows] == [run.name]


def brute_force(predictor: Any, photos: Path, ids: set[str]) -> tuple[float, float]:
    """Mean IoU over present classes and pixel accuracy, counted class by class with plain comparisons."""
    hits: dict[int, int] = {}
    union: dict[int, int] = {}
    truth_pixels: dict[int, int] = {}
    right = total = 0
    for record in open_data(photos).data:
        if record.id not in ids:
            continue
        truth, predicted = masks.label_map(record), predictor(record.image).label_map
        counted = truth != VOID
        right += int((truth[counted] == predicted[counted]).sum())
        total += int(counted.sum())
        for c in range(len(predictor.classes)):
            t, p = (truth == c) & counted, (predicted == c) & counted
            hits[c] = hits.get(c, 0) + int((t & p).sum())
            union[c] = union.get(c, 0) + int((t | p).sum())
            truth_pixels[c] = truth_pixels.get(c, 0) + int(t.sum())
    present = [c for c in hits if truth_pixels[c]]
    return sum(hits[c] / union[c] for c in present) / len(present), right / total


def test_all_doors_give_the_same_score(trained: Any, photos: Path, tmp_path: Path) -> None:
    run = run_folders.load(trained.run)
    split_file = str(run.path / "split.json")
    ours = trained.scores["miou"]
    last = [e for e in run.events() if e["event"] == "epoch" and e["best"]][-1]
    onnx = mw.evaluate(str(run.bundle), str(photos))
    torch = mw.evaluate(str(run.bundle), str(photos), runtime="torch")
    alone = command("evaluate", str(run.bundle / "model.onnx"), str(photos), "--split", split_file, "--part", "val")
    shutil.copy(split_file, tmp_path)
    shutil.copytree(run.bundle, tmp_path / "bundle")
    exported = (tmp_path / "bundle" / "model.onnx").rename(tmp_path / "bundle" / "model-certified.onnx")
    counted, accuracy = brute_force(mw.load(run.bundle), photos, set(splits.load(split_file).val))
    assert onnx.scores["miou"] == pytest.approx(ours, abs=1e-9)
    assert last["val_miou"] == pytest.approx(ours, abs=1e-9)
    assert torch.scores["miou"] == pytest.approx(ours, abs=1e-9)
    assert alone["headlines"]["miou"]["value"] == pytest.approx(ours, abs=1e-9)
    assert mw.evaluate(str(exported), str(photos)).scores["miou"] == pytest.approx(ours, abs=1e-9)
    assert counted == pytest.approx(ours, abs=1e-9)
    assert accuracy == pytest.approx(trained.scores["pixel_accuracy"], abs=1e-9)


@pytest.mark.slow
def test_where_torch_is_not_installed(trained: Any, photos: Path, tmp_path: Path) -> None:
    """The same file in a real environment of numpy, Pillow, hotcoco and onnxruntime."""
    python = os.environ.get("MASKWRIGHT_BARE_PYTHON")
    if not python:
        pytest.skip("set MASKWRIGHT_BARE_PYTHON to a Python with `maskwright[onnx]` and no torch; `make test` does")
    run = run_folders.load(trained.run)
    code = CODE.replace(
        "sys.modules['torch'] = None", "import importlib.util as u; assert u.find_spec('torch') is None"
    )
    arguments = [str(run.bundle), str(photos), "--split", str(run.path / "split.json"), "--part", "val"]
    alone = command("evaluate", *arguments, python=python, code=code)
    assert alone["headlines"]["miou"]["value"] == pytest.approx(trained.scores["miou"], abs=1e-9)
    command("predict", str(run.bundle), str(photos), "--out", str(tmp_path / "bare"), python=python, code=code)
    mw.predict(str(run.bundle), str(photos), out=str(tmp_path / "ours"))
    for ours in (tmp_path / "ours" / "masks").rglob("*.png"):
        other = tmp_path / "bare" / "masks" / ours.relative_to(tmp_path / "ours" / "masks")
        assert ours.read_bytes() == other.read_bytes()


def test_label_maps_of_another_tool_are_scored_alike(trained: Any, photos: Path, tmp_path: Path) -> None:
    mw.predict(trained.bundle, str(photos), out=str(tmp_path), overlays=False)
    arguments = {"split": str(Path(trained.run) / "split.json"), "part": "val"}
    folder = mw.evaluate(str(tmp_path / "masks"), str(photos), **arguments)
    assert folder.scores["miou"] == pytest.approx(trained.scores["miou"], abs=1e-12)


@pytest.mark.parametrize("convention", ["hydrogen-torch", "sagemaker"])
def test_conventions_are_restated(trained: Any, photos: Path, convention: str) -> None:
    result = mw.evaluate(trained.bundle, str(photos), convention=convention).to_json()
    assert result["restated"]["convention"] == convention
    assert result["restated"]["values"]


def test_predictions_have_every_form(trained: Any, photos: Path, tmp_path: Path) -> None:
    result = mw.predict(trained.bundle, str(photos), out=str(tmp_path), cutout="disc")
    assert result.written.images == 24
    for folder, suffix in (("masks", "png"), ("overlays", "jpg"), ("cutouts", "png")):
        assert len(list((tmp_path / folder).rglob(f"*.{suffix}"))) == 24
    rows = (tmp_path / "predictions.csv").read_text().splitlines()
    assert rows[0] == "image,height,width,class,pixels,share,confidence,error"
    assert len(rows) > 24


def test_tiles_cover_an_image_larger_than_the_network(trained: Any, tmp_path: Path) -> None:
    big = np.random.default_rng(0).integers(0, 256, (200, 333, 3), np.uint8)
    prediction = mw.load(trained.bundle, tiled=True)(big)
    assert prediction.label_map.shape == (200, 333)
    assert prediction.label_map.max() < len(prediction.classes)


def test_a_broken_photo_among_good_ones_is_named(trained: Any, photos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    good = next(photos.rglob("*.jpg"))
    (folder / "good.jpg").write_bytes(good.read_bytes())
    (folder / "cut.jpg").write_bytes(good.read_bytes()[:900])
    (folder / "empty.jpg").write_bytes(b"")
    result = mw.predict(trained.bundle, str(folder), out=str(tmp_path / "out"))
    assert result.written.images == 1
    assert {Path(p).name for p in result.written.failed} == {"cut.jpg", "empty.jpg"}


def test_a_run_that_was_killed_goes_on_as_if_nothing_had_happened(photos: Path, tmp_path: Path) -> None:
    """kill -9 in the third epoch, then --resume: the same weights as the uninterrupted training."""
    changes = {**SMALL, "train.epochs": 4}
    whole = mw.train(str(photos), changes, out=str(tmp_path / "whole"))
    pairs = [f"{k}={v}" for k, v in changes.items()]
    script = [sys.executable, "-m", "maskwright", "train", str(photos), *pairs, "--out", str(tmp_path / "cut")]
    process = subprocess.Popen(script, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        logs = list((tmp_path / "cut").glob("*/events.jsonl"))
        if logs and sum('"event": "epoch"' in line for line in logs[0].read_text().splitlines()) >= 2:
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run = next((tmp_path / "cut").iterdir())
    assert run_folders.load(run).status()[0] == "stopped"
    resumed = mw.train(str(run), resume=True)
    expected, actual = (state_of(Path(r.bundle)) for r in (whole, resumed))
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    assert resumed.scores["miou"] == pytest.approx(whole.scores["miou"], abs=1e-3)


def state_of(bundle: Path) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    return load_file(bundle / "weights.safetensors")


def test_ctrl_c_saves_and_says_how_to_go_on(photos: Path, tmp_path: Path) -> None:
    pairs = [f"{k}={v}" for k, v in {**SMALL, "train.epochs": 200}.items()]
    script = [sys.executable, "-m", "maskwright", "train", str(photos), *pairs, "--out", str(tmp_path)]
    process = subprocess.Popen(script, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list(tmp_path.glob("*/checkpoints/last.pt")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, talk = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "go on with: maskwright train" in talk
    assert "--resume" in talk
    assert run_folders.load(next(tmp_path.iterdir())).status()[0] == "stopped"


def test_weights_of_a_bundle_start_a_training_with_other_classes(trained: Any, photos: Path, tmp_path: Path) -> None:
    changes = {**SMALL, "model.weights": trained.bundle, "train.epochs": 1}
    changes["data"] = [
        {"path": str(photos), "classes": {"disc": "round", "square": "cornered", "triangle": "cornered"}}
    ]
    again = mw.train(str(photos), changes, out=str(tmp_path))
    assert again.scores.classes == ("background", "round", "cornered", "star")
    text = (Path(again.run) / "weights.txt").read_text()
    assert "loaded" in text
    assert "left out" in text


def test_a_folder_of_label_maps_and_fit_crop_train_too(tmp_path: Path) -> None:
    photos = synthetic.make(tmp_path / "photos", num=12, size=(96, 96), format="folder")
    result = mw.train(
        str(photos), {**SMALL, "fit": "crop", "model": {"name": "lens", "weights": "none"}}, out=str(tmp_path)
    )
    assert result.scores.classes[0] == "background"
    assert mw.load(result.bundle).tiled


# ---------------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("change", "kind", "message"),
    [
        ({"format": 4}, ModelError, "bundle format 4; this version reads up to 3"),
        ({"classes": []}, ModelError, "is damaged"),
        ({"size": "big"}, ModelError, "is damaged"),
        ({"model": {"name": "no_such_network"}}, RecipeError, "no model is called `no_such_network`"),
    ],
)
def test_bundles_that_cannot_be_used_are_refused(
    trained: Any, tmp_path: Path, change: dict[str, Any], kind: type[Exception], message: str
) -> None:
    copy = copied(Path(trained.bundle), tmp_path)
    fields = json.loads((copy / "bundle.json").read_text()) | change
    (copy / "bundle.json").write_text(json.dumps(fields))
    with pytest.raises(kind, match=message):
        mw.load(copy, runtime="torch")


@pytest.mark.parametrize("name", ["weights.safetensors", "model.onnx", "bundle.json"])
@pytest.mark.parametrize("keep", [0, 10, 1000])
def test_torn_files_are_refused(trained: Any, tmp_path: Path, name: str, keep: int) -> None:
    copy = copied(Path(trained.bundle), tmp_path)
    (copy / name).write_bytes((copy / name).read_bytes()[:keep])
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        mw.load(copy, runtime="torch" if name != "model.onnx" else "onnx")


def copied(bundle: Path, folder: Path) -> Path:
    target = folder / "bundle"
    target.mkdir()
    for file in bundle.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target


def test_an_onnx_file_that_is_not_ours_is_refused(trained: Any, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(str(Path(trained.bundle) / "model.onnx"))
    del model.metadata_props[:]
    onnx.save(model, str(tmp_path / "foreign.onnx"))
    with pytest.raises(ModelError, match="is not a Maskwright export"):
        mw.load(tmp_path / "foreign.onnx")


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"model.encodr": "x"}, RecipeError, "did you mean `encoder`"),
        ({"model.encoder": "resnett34"}, RecipeError, "did you mean `resnet34`"),
        ({"loss": {"dise": 1.0}}, RecipeError, "did you mean `dice`"),
        ({"augment": "sofd"}, RecipeError, "did you mean `soft`"),
        ({"train.optimizer": {"name": "adamw", "beta": 1}}, RecipeError, "did you mean `betas`"),
        ({"train.device": "cuda:9"}, SetupError, "cuda:9"),
        ({"model.weights": "/no/such/file.pth"}, ModelError, "/no/such/file.pth"),
        ({"split.file": "/no/such/split.json"}, DataError, "/no/such/split.json"),
        ({"flip_pairs": [["disc", "nothing"]]}, RecipeError, "nothing"),
    ],
)
def test_mistakes_end_in_one_sentence_and_leave_nothing(
    photos: Path, tmp_path: Path, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as error:
        mw.train(str(photos), {**SMALL, **changes}, out=str(tmp_path))
    assert message in str(error.value)
    assert not list(tmp_path.iterdir()), "what is refused before its first step leaves nothing"


def test_a_diverging_loss_is_a_sentence(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no longer a number .*; lower `train\.optimizer\.lr`"):
        mw.train(str(photos), {**SMALL, "train.optimizer": {"name": "sgd", "lr": 1e30}}, out=str(tmp_path))


def test_refused_items_stop_a_training_unless_allowed(photos: Path, tmp_path: Path) -> None:
    copy = tmp_path / "photos"
    for file in photos.rglob("*"):
        if file.is_file():
            target = copy / file.relative_to(photos)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.read_bytes())
    broken = sorted(copy.rglob("*.jpg"))[0]
    broken.write_bytes(broken.read_bytes()[:800])
    with pytest.raises(DataError, match="allow_refused"):
        mw.train(str(copy), SMALL, out=str(tmp_path / "runs"))
    assert not (tmp_path / "runs").exists()
    result = mw.train(str(copy), {**SMALL, "train.epochs": 1}, out=str(tmp_path / "runs"), allow_refused=True)
    assert bundles.load(result.bundle).description.ledger["refused"] >= 1


@pytest.mark.slow
def test_memory_that_runs_out_is_a_sentence(photos: Path, tmp_path: Path) -> None:
    limit = "import resource; resource.setrlimit(resource.RLIMIT_AS, (9 * 10**9,) * 2)\n"
    code = limit + "from maskwright.cli import main; import sys; main(sys.argv[1:])"
    pairs = [f"{k}={v}" for k, v in {**SMALL, "size": 8192, "train.batch": 19, "train.cache": "none"}.items()]
    script = [sys.executable, "-c", code, "train", str(photos), *pairs, "--out", str(tmp_path)]
    result = subprocess.run(script, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert result.returncode == 5, result.stderr
    assert "memory ran out" in result.stderr
    assert "lower `train.batch` (now 19)" in result.stderr
    assert not list(tmp_path.iterdir())  # nothing was trained, so there is no run


def test_the_contact_sheet_shows_the_worst(trained: Any) -> None:
    from maskwright.reports import snapshots

    pictures = Path(trained.run) / "pictures"
    answers = json.loads((pictures / "index.json").read_text())["val"]
    worst = min(trained.scores.per_image, key=lambda image: (image.miou, image.id))
    assert next(a["id"] for a in answers if a["rank"] == "worst") == worst.id
    sheet = snapshots.contact_sheet(pictures)
    assert sheet.dtype == np.uint8
    assert sheet.shape[0] > 3 * 200


def test_the_keys_of_json_are_those_of_the_documentation(trained: Any, photos: Path, tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "docs" / "json.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.MULTILINE))
    answers = {
        "check": mw.check(str(photos)),
        "new": mw.new(str(photos), out=str(tmp_path / "recipe.yaml")),
        "train": trained,
        "evaluate": mw.evaluate(trained.bundle, str(photos), convention="hydrogen-torch"),
        "predict": mw.predict(trained.bundle, str(photos), out=str(tmp_path / "masks")),
        "export": mw.export(trained.bundle, out=str(tmp_path / "out.onnx"), images=str(photos)),
        "report": mw.report(trained.run),
        "preview": mw.preview(str(photos), SMALL, out=str(tmp_path / "preview.png")),
        "runs": mw.runs(str(Path(trained.run).parent)),
        "doctor": mw.doctor(),
        "explain": mw.explain("recipe", "train.stages"),
    }
    for name, answer in answers.items():
        said = set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", rows[name])))
        assert set(answer.to_json()) - {"schema", "next"} == said - {"val", "test"}, name
