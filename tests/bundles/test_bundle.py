"""Bundles: the golden one of format 1 loads for ever and answers as it did; runs are named and listed."""

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import maskwright as mw
from maskwright.bundles import bundle as bundles
from maskwright.bundles import runs
from maskwright.core.errors import ModelError
from maskwright.core.types import Coding
from maskwright.data import synthetic
from maskwright.imaging import masks
from maskwright.training.finish import fixed_output

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_the_golden_bundle_answers_as_it_did(runtime: str) -> None:
    image = synthetic.truth(1, 99, size=(80, 100))[0].image
    prediction = mw.load(GOLDEN / "bundle-1", runtime=runtime)(image)
    coding = Coding(tuple(range(5)), tuple(range(5)))
    expected = masks.read_label_map(GOLDEN / "bundle-1.png", coding, prediction.label_map.shape)  # type: ignore[arg-type]
    assert (prediction.label_map != expected).mean() < 1e-3


@pytest.mark.parametrize("runtime", ["onnx", "torch"])
def test_the_golden_bundle_gives_its_fixed_output(runtime: str) -> None:
    predictor = mw.load(GOLDEN / "bundle-1", runtime=runtime)
    known = predictor.description.fixed_output
    found = fixed_output(predictor.network, predictor.description)
    np.testing.assert_allclose(found["logits"], known["logits"], atol=1e-3)
    np.testing.assert_allclose(found["shares"], known["shares"], atol=1e-3)


def test_a_description_reads_back_equal() -> None:
    description = bundles.load(GOLDEN / "bundle-1").description
    again = bundles.describe(json.loads(json.dumps(description.to_json())), "here")
    assert again == description


OBJECTS = {"task": "instance", "thresholds": {"score": 0.4}}
NEEDS = ({"tta": {"flip": True, "scales": [1.0]}}, {"tta": {"flip": False, "scales": [0.5, 1.0]}}, {"base_size": 512})


@pytest.mark.parametrize(
    "fields",
    [
        *NEEDS,
        {"multilabel": True},
        OBJECTS,
        {},
        {"flip_pairs": ((1, 2), (3, 4))},
    ],
    ids=str,
)
def test_only_what_an_older_version_would_get_wrong_raises_the_format(fields: dict[str, Any]) -> None:
    description = replace(bundles.load(GOLDEN / "bundle-1").description, **fields)
    written = json.loads(json.dumps(description.to_json()))
    assert written["format"] == (3 if "task" in fields else 1 if not fields or "flip_pairs" in fields else 2)
    assert bundles.describe(written, "here") == description


def test_an_old_bundle_predicts_as_it_always_did() -> None:
    description = bundles.load(GOLDEN / "bundle-1").description
    assert not {"tta", "flip_pairs", "base_size", "multilabel"} & set(
        json.loads((GOLDEN / "bundle-1" / "bundle.json").read_text())
    )
    assert (description.tta, description.flip_pairs) == (bundles.PLAIN, ())
    assert (description.base_size, description.multilabel) == (None, False)


def test_an_old_bundle_knows_left_from_right_by_its_names() -> None:
    """Bundles of the first version name no flip pairs, and a mirrored view without them answers left for right."""
    known = bundles.load(GOLDEN / "bundle-1").description
    fields = json.loads(json.dumps(known.to_json()))
    fields["classes"][1:3] = ["left_door", "right_door"]
    fields["flip_pairs"] = []
    assert bundles.describe(fields, "here").flip_pairs == ()
    del fields["flip_pairs"]
    assert bundles.describe(fields, "here").flip_pairs == ((1, 2),)


@pytest.mark.parametrize(
    "fields",
    [
        {"tta": {"flip": "yes"}},
        {"tta": {"scales": [9]}},
        {"tta": 3},
        {"flip_pairs": [[0, 7]]},
        {"flip_pairs": [[1]]},
        {"model": {}},
        {"model": None},
        {"fit": "zoom"},
        {"classes": "abc", "colours": [[0, 0, 0]] * 3},
        {"classes": ["a", "a"], "colours": [[0, 0, 0]] * 2},
    ],
)
def test_damaged_fields_are_refused(fields: dict[str, Any]) -> None:
    whole = bundles.load(GOLDEN / "bundle-1").description.to_json()
    with pytest.raises(ModelError, match="is damaged"):
        bundles.describe(whole | fields, "here")


def test_a_task_of_another_version_is_refused_not_guessed() -> None:
    whole = bundles.load(GOLDEN / "bundle-1").description.to_json()
    with pytest.raises(ModelError, match="is for the task `keypoints`, which this version does not know; update"):
        bundles.describe(whole | {"task": "keypoints"}, "here")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is not the description"),
        ("{", "cannot be read"),
        ('{"format": "1"}', "is not the description"),
        ('{"format": 99}', "bundle format 99; this version reads up to 3; update"),
        ('{"format": 1}', "is damaged"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "bundle.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        bundles.load(tmp_path)


def test_files_of_other_runtimes_are_not_taken_for_folders(tmp_path: Path) -> None:
    (tmp_path / "model.pte").write_bytes(b"")
    with pytest.raises(ModelError, match=r"model\.pte: is a file, and no ONNX one; give .* or a `\.onnx` file"):
        mw.load(tmp_path / "model.pte")
    with pytest.raises(ModelError, match=r"is not a bundle \(no bundle.json in it\)"):
        mw.load(tmp_path)


def test_run_folders_are_readable_and_never_shared(tmp_path: Path) -> None:
    day = datetime(2026, 11, 20)
    names = [runs.create(tmp_path, "unet", "Car Parts", day).name for _ in range(3)]
    assert names == [f"2026-11-20-unet-carparts-{n}" for n in (1, 2, 3)]


def test_a_run_whose_process_is_gone_has_stopped(tmp_path: Path) -> None:
    run = runs.create(tmp_path, "unet", "cats")
    run.write_record()
    assert run.status() == ("failed", "it wrote no events")
    gone = {"time": 0, "event": "status", "status": "running", "pid": 2**22 + 1}
    run.events_file.write_text(json.dumps(gone) + "\n")
    assert run.status()[0] == "stopped"
    assert "--resume" in run.status()[1]


def test_golden_files_stay_small() -> None:
    assert sum(f.stat().st_size for f in GOLDEN.rglob("*") if f.is_file()) < 500_000
    with Image.open(GOLDEN / "bundle-1.png") as picture:
        assert picture.mode == "P"
