"""Bundles: the golden one of format 1 loads for ever and answers as it did; runs are named and listed."""

import json
from datetime import datetime
from pathlib import Path

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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "is not the description"),
        ("{", "cannot be read"),
        ('{"format": "1"}', "is not the description"),
        ('{"format": 99}', "bundle format 99; this version reads up to 1; update"),
        ('{"format": 1}', "is damaged"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "bundle.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        bundles.load(tmp_path)


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
