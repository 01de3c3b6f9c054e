"""Objects end to end on a small generated set: the same commands as for pixels, and everything that must agree about it."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import maskwright as mw
from maskwright.bundles import bundle as bundles
from maskwright.bundles import runs as run_folders
from maskwright.bundles.bundle import Description
from maskwright.core import events
from maskwright.core.errors import Interrupted, MaskwrightError, ModelError, RecipeError
from maskwright.core.recipe import build
from maskwright.core.types import BACKGROUND
from maskwright.data import synthetic
from maskwright.prediction.instances import InstancePredictor
from maskwright.prediction.predictor import load as load_predictor

SMALL = {
    "task": "instance",
    "size": 96,
    "model": {
        "name": "mask_rcnn",
        "encoder": "mobilenet_v2",
        "weights": "none",
        "channels": 32,
        "anchors": [16, 32, 48, 64, 96],
    },
    "train.batch": 4,
    "train.epochs": 3,
    "train.validate_every": 1,  # left out, it follows from timings, and with it which epoch is the best
    "train.workers": 0,
}
CODE = "import sys; sys.modules['torch'] = None; from maskwright.cli import main; main(sys.argv[1:])"
WITHOUT_TORCH = [sys.executable, "-c", CODE]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.make(tmp_path_factory.mktemp("objects") / "photos", num=24, size=(96, 96), format="coco")


@pytest.fixture(scope="module")
def trained(photos: Path) -> Any:
    return mw.train(str(photos), SMALL, out=str(photos.parent / "runs"))


def without_torch(*arguments: str) -> dict[str, Any]:
    result = subprocess.run([*WITHOUT_TORCH, *arguments, "--json"], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert isinstance(answer, dict)
    return answer


@pytest.mark.slow
def test_a_run_of_objects_leaves_everything_behind(trained: Any) -> None:
    run = run_folders.load(trained.run)
    assert run.status() == ("finished", "")
    names = {p.name for p in run.path.iterdir()}
    assert {
        "recipe.yaml",
        "split.json",
        "ledger.json",
        "run.json",
        "events.jsonl",
        "scores.json",
        "report.html",
    } <= names
    known = bundles.load(trained.bundle).description
    assert known.task == "instance"
    assert known.format == 3
    assert known.classes == tuple(name for name in synthetic.CLASSES if name != BACKGROUND)
    assert run.record["export"]["onnx"]["min_iou"] >= 0.99
    told = [e for e in run.events() if e.get("event") == "epoch"]
    assert len(told) == SMALL["train.epochs"]
    assert all({"val_mask_ap", "val_box_ap", "val_loss"} <= set(e) for e in told)
    assert told[-1]["train_loss"] < told[0]["train_loss"]


@pytest.mark.slow
def test_the_same_scores_through_every_door(trained: Any, photos: Path, tmp_path: Path) -> None:
    scores = trained.scores
    again = mw.evaluate(trained.bundle, str(photos)).scores
    assert {name: e.value for name, e in again.headlines.items()} == {
        name: e.value for name, e in scores.headlines.items()
    }
    bare = without_torch("evaluate", trained.bundle, str(photos))
    assert bare["headlines"]["mask_ap"]["value"] == pytest.approx(scores["mask_ap"], abs=1e-3)
    live = mw.evaluate(trained.bundle, str(photos), runtime="torch").scores
    assert live["mask_ap"] == pytest.approx(scores["mask_ap"], abs=1e-2)


@pytest.mark.slow
def test_onnx_and_torch_find_the_same_objects(trained: Any, photos: Path) -> None:
    ours, theirs = (load_predictor(trained.bundle, runtime=runtime) for runtime in ("torch", "onnx"))
    assert isinstance(ours, InstancePredictor)
    for image in sorted(photos.rglob("*.jpg"))[:6] + sorted(photos.rglob("*.png"))[:6]:
        a, b = ours(image), theirs(image)
        assert len(a) == len(b)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-3)
        assert (a.labels == b.labels).all()
        np.testing.assert_allclose(a.boxes, b.boxes, atol=0.2)


@pytest.mark.slow
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(trained: Any, photos: Path, tmp_path: Path) -> None:
    def stop(event: events.Event) -> None:
        if event.name == "epoch" and event.fields["epoch"] == 2:
            raise KeyboardInterrupt  # before this epoch is saved

    with events.listening(stop), pytest.raises(Interrupted):
        mw.train(str(photos), SMALL, out=str(tmp_path))
    (run,) = tmp_path.iterdir()
    resumed = mw.train(str(run), resume=True)
    expected, actual = (load_file(Path(found) / bundles.WEIGHTS) for found in (trained.bundle, resumed.bundle))
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"loss": {"dice": 1.0}}, "loss: .*losses of their own"),
    ({"loss": "dice"}, "loss: .*losses of their own"),
    ({"tta": True}, "tta: objects are found at one size"),
    ({"fit": "crop"}, "fit: .*whole images"),
    ({"base_size": 128}, "base_size"),
    ({"multilabel": True}, "multilabel"),
    ({"tta.scales": [0.5, 1.0]}, "tta: objects are found at one size"),
    ({"mix": ["mixup"]}, r"mix\.0"),
    ({"mix": ["cutmix"]}, r"mix\.0"),
    ({"mix": [{"name": "copy_paste", "blnd": 1}]}, r"mix\.0\.blnd: unknown option"),
    ({"mix": ["copy_past"]}, "did you mean `copy_paste`"),
    ({"model": "unet"}, "model.name: `unet` is a network of `task: semantic`"),
    ({"task": "semantic", "model": "mask_rcnn"}, "model.name: `mask_rcnn` is a network of `task: instance`"),
    ({"model.anchors": [8, 16]}, "anchors"),
    ({"model.mask_size": 7}, "mask_size"),
    ({"model.scor": 0.5}, "unknown option"),
]


@pytest.mark.parametrize(("changes", "words"), MISTAKES, ids=lambda value: str(value)[:40])
def test_what_cannot_be_is_refused_before_training(
    changes: dict[str, Any], words: str, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=words):
        mw.train(str(photos), {**SMALL, **changes}, out=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_labels_without_single_objects_are_refused(tmp_path: Path) -> None:
    folder = synthetic.make(tmp_path / "photos", num=8, size=(96, 96), format="folder")
    with pytest.raises(MaskwrightError, match=r"no single objects|components"):
        mw.train(str(folder), SMALL, out=str(tmp_path / "runs"))


def test_a_bundle_whose_thresholds_cannot_be_is_refused(tmp_path: Path) -> None:
    known = Description(("cat",), ((1, 2, 3),), (32, 32), "squash", {"name": "mask_rcnn"}, task="instance")
    for thresholds in ([1], {"scor": 0.5}, {"score": 2}):
        with pytest.raises(ModelError, match="threshold"):
            InstancePredictor(lambda pixels: (), replace(known, thresholds=thresholds), runtime="test")


def test_queries_learn_at_the_rate_of_their_paper() -> None:
    boxes, queries = (
        build({"data": "photos", "task": "instance", "model": name}) for name in ("mask_rcnn", "mask2former")
    )
    assert boxes.train.optimizer.options["lr"] == 5e-4
    assert (queries.train.optimizer.options["lr"], queries.train.encoder_lr, queries.train.batch) == (1e-4, 0.1, 4)


@pytest.mark.slow
def test_what_a_run_proposes_next_can_be_done_without_validation(photos: Path, tmp_path: Path) -> None:
    run = mw.train(str(photos), {**SMALL, "train.epochs": 1, "val": "none", "limit": 8}, out=str(tmp_path))
    assert len(mw.evaluate(run.bundle, str(photos)).scores.ids) == 24
