"""However many objects there are: none, and three hundred, through torch, model.onnx, the self-contained file and `predict`."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from maskwright import cli
from maskwright.bundles.bundle import Description
from maskwright.core.types import Instances
from maskwright.exports import agreement
from maskwright.exports.onnx import onnx
from maskwright.exports.self_contained import self_contained
from maskwright.exports.source import Source
from maskwright.imaging import images
from maskwright.models.build import build
from maskwright.prediction import predictor
from maskwright.prediction.predictor import as_input

pytestmark = pytest.mark.slow
MOST = 300
SIZE = (64, 64)  # which has 1023 anchors; all become proposals, so that no rounding chooses among them
ODD = (97, 203)  # of the photos
EMPTY = {"boxes": (0, 4), "labels": (0,), "scores": (0,)}
KNOWN = Description(
    ("a", "b"),
    ((200, 30, 30), (30, 200, 30)),
    SIZE,
    "squash",
    {
        "name": "mask_rcnn",
        "encoder": "mobilenet_v2",
        "channels": 16,
        "anchors": (8, 12, 16, 24, 32),
        "rpn_nms": 1.0,
        "post_nms_test": 2000,
        "nms": 1.0,
        "score": 0.5,
        "max_detections": MOST,
    },
    "unit",
    task="instance",
    thresholds={"mask": 0.5},
)


@pytest.fixture(scope="module")
def source() -> Source:
    """Random weights but for the last layers, which know a black photo from a crowded one, and draw masks that fill boxes."""
    torch.manual_seed(0)
    segmenter: Any = build(KNOWN).eval()
    heads = segmenter.network.roi_heads
    seen: list[torch.Tensor] = []
    watch = heads.box_head.register_forward_hook(lambda layer, given, answer: seen.append(answer))
    for image in (black(), crowded()):
        Source(segmenter, KNOWN).network(as_input(images.fit(image, images.plan(ODD, SIZE, KNOWN.fit))))
    watch.remove()
    nothing, something = (features.mean(0) for features in seen)
    between = 20 * (something - nothing) / (something - nothing).square().sum()
    apart = seen[1] - something
    first = torch.linalg.svd(apart, full_matrices=False).Vh[0]
    first = 2 * first / (apart @ first).std()  # what the boxes differ in most tells the classes
    chosen, drawn = heads.box_predictor.cls_score, heads.mask_predictor.mask_fcn_logits
    with torch.no_grad():
        chosen.weight.copy_(torch.stack([0 * between, between + first, between - first]))
        bias = torch.stack([between, between + first, between - first]) @ something
        chosen.bias.copy_(torch.tensor([0.0, 10.0, 10.0]) - bias * torch.tensor([0.0, 1.0, 1.0]))
        drawn.bias.fill_(1.0)
    return Source(segmenter, KNOWN)


@pytest.fixture(scope="module")
def doors(source: Source, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("doors")
    onnx(source, folder / "model.onnx")
    self_contained(source, folder / "whole.onnx")
    return {"model.onnx": folder / "model.onnx", "self-contained": folder / "whole.onnx"}


def black() -> np.ndarray:
    return np.zeros((*ODD, 3), np.uint8)


def crowded() -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (25, 51, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(ODD[::-1], Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def expected(source: Source) -> Instances:
    """What torch finds in the crowded photo."""
    found = source.predictor(crowded())
    assert isinstance(found, Instances)
    return found


@pytest.mark.parametrize("door", ["model.onnx", "self-contained"])
def test_three_hundred_objects_and_none(expected: Instances, doors: dict[str, Path], door: str) -> None:
    exported = predictor.load(doors[door])
    actual, none, again = (exported(image) for image in (crowded(), black(), crowded()))  # one session for all
    assert isinstance(actual, Instances)
    assert isinstance(none, Instances)
    assert isinstance(again, Instances)
    assert (len(actual), len(none), len(again)) == (MOST, 0, MOST)
    assert none.size == ODD
    objects, unmatched, least, most = agreement.matched(expected, actual)
    assert (objects, unmatched) == (MOST, 0)
    assert least >= 0.99
    assert most <= 1e-3
    np.testing.assert_array_equal(again.scores, actual.scores)


def test_torch_finds_as_many(source: Source, expected: Instances) -> None:
    found = source.predictor(black())
    assert isinstance(found, Instances)
    assert (len(expected), len(found)) == (MOST, 0)
    assert len(set(expected.labels.tolist())) == 2
    assert len(set(expected.scores.tolist())) > MOST // 2


def test_outputs_without_objects_are_arrays_of_none(doors: dict[str, Path]) -> None:
    """What a program without our code gets: the same types and sides as with objects, and N is 0."""
    inputs: dict[str, tuple[np.ndarray, tuple[int, ...]]] = {
        "model.onnx": (np.zeros((1, 3, *SIZE), np.float32), (0, 1, 28, 28)),
        "self-contained": (black(), (0, *ODD)),
    }
    for door, (image, masks) in inputs.items():
        session = onnxruntime.InferenceSession(str(doors[door]), providers=["CPUExecutionProvider"])
        names = [output.name for output in session.get_outputs()]
        found = dict(zip(names, session.run(names, {"image": image}), strict=True))
        assert {name: array.shape for name, array in found.items()} == EMPTY | {"masks": masks}
        kinds = {name: array.dtype for name, array in found.items()}
        drawn = np.uint8 if door == "self-contained" else np.float32
        assert kinds == {"boxes": np.float32, "labels": np.int64, "scores": np.float32, "masks": drawn}


@pytest.mark.parametrize("door", ["model.onnx", "self-contained"])
def test_predict_writes_every_file_of_a_photo_without_objects(
    doors: dict[str, Path], door: str, tmp_path: Path
) -> None:
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for name, image in (("empty", black()), ("full", crowded())):
        Image.fromarray(image).save(photos / f"{name}.png")
    assert cli.run(["predict", str(doors[door]), str(photos), "--out", str(out)]) == 0
    results, data = (json.loads((out / name).read_text()) for name in ("objects.json", "coco.json"))
    assert [image["file_name"] for image in data["images"]] == ["empty.png", "full.png"]
    full = data["images"][1]["id"]
    assert [entry["image_id"] for entry in data["annotations"]] == [full] * MOST
    assert len(results) == MOST
    numbers = {name: np.asarray(Image.open(out / "objects" / f"{name}.png")) for name in ("empty", "full")}
    assert [array.shape for array in numbers.values()] == [ODD, ODD]
    assert not numbers["empty"].any()
    assert numbers["full"].max() > 254  # which needs 16 bits
    with Image.open(out / "overlays" / "empty.jpg") as overlay:
        assert overlay.size == ODD[::-1]
    with (out / "predictions.csv").open(newline="") as file:
        assert Counter(row["image"] for row in csv.DictReader(file)) == {"full": MOST}
