"""The self-contained file: every part of its graph against the code that it replaces, and the whole against the Predictor."""

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import PIL
import pytest
import torch
from onnx import TensorProto
from PIL import Image

from maskwright.bundles.bundle import Description
from maskwright.core.errors import MaskwrightError, ModelError, RecipeError
from maskwright.core.types import Instances
from maskwright.exports import self_contained as whole_files
from maskwright.exports import self_contained_objects
from maskwright.exports.onnx_nodes import Nodes, value
from maskwright.exports.self_contained import self_contained
from maskwright.exports.source import Source
from maskwright.imaging import images
from maskwright.imaging.images import Fitting
from maskwright.models.build import build
from maskwright.prediction import folders, predictor
from maskwright.prediction.instances import InstancePredictor
from maskwright.prediction.predictor import Predictor
from maskwright.tasks import instance, multilabel, semantic
from maskwright.tasks.thresholds import Thresholds

REPOSITORY = Path(__file__).parents[2]
CLASSES = ("background", "left ear", "right ear", "tail")
COLOURS = ((0, 0, 0), (200, 30, 30), (30, 200, 30), (30, 30, 200))
ODD = ((1, 1), (61, 83), (1, 300), (211, 2), (48, 40), (97, 31))  # sizes of images
WITHOUT = "import sys; sys.modules['torch'] = None; from maskwright.cli import main; main(sys.argv[1:])"


def described(**known: Any) -> Description:
    given = {
        "classes": CLASSES,
        "colours": COLOURS,
        "size": (48, 40),
        "fit": "squash",
        "model": {"name": "unet", "width": 4, "depth": 3},
    }
    return Description(**{**given, **known})


def photo(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Smooth blobs and noise, uint8 (H, W, 3)."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (7, 5, 3), np.uint8)).resize(size[::-1], Image.Resampling.BICUBIC)
    return (np.asarray(small, np.int64) + rng.integers(-20, 21, (*size, 3))).clip(0, 255).astype(np.uint8)


def run(g: Nodes, answers: Sequence[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What a graph answers. given: its inputs, of any length along every side."""
    kinds = {name: onnx.helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in given.items()}
    shapes: dict[str, list[int | str]] = {
        name: [f"{name}{side}" for side in range(array.ndim)] for name, array in given.items()
    }
    shapes |= {name: [2] for name in ("original", "corner", "box") if name in given}
    inputs = [value(name, kind, shapes[name]) for name, kind in kinds.items()]
    graph = g.graph(inputs, [onnx.ValueInfoProto(name=name) for name in answers])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    inferred = onnx.shape_inference.infer_shapes(model)
    session = onnxruntime.InferenceSession(inferred.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(list(answers), given))


# --------------------------------------------------------------------------------------------------------- parts of the graph


@pytest.mark.parametrize("fit", ["squash", "pad"])
@pytest.mark.parametrize("size", [*ODD, (333, 77), (77, 333), (400, 500)])
def test_an_image_is_fitted_as_everywhere(size: tuple[int, int], fit: str) -> None:
    known, image = described(fit=fit), photo(size)
    g = Nodes()
    pixels, corner, box, _ = run(g, whole_files._fitted(g, known), {"image": image})
    fitting = images.plan(size, known.size, fit)
    assert (*corner, *box) == fitting.box
    difference = np.abs(pixels[0].transpose(1, 2, 0) - images.fit(image, fitting))
    assert difference.max() <= (0 if _orders_its_passes() else 1)


def _orders_its_passes() -> bool:
    return int(PIL.__version__.split(".")[0]) >= 13  # older versions resize the columns first, whatever the image


@pytest.mark.parametrize("size", ODD)
def test_logits_become_the_classes_that_decode_gives(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(4, 24, 20)).astype(np.float32)
    logits[3] -= 9  # never the highest
    fitting = Fitting(size, (24, 20), (0, 0, 24, 20))
    for decode, decided in ((semantic.decode, whole_files._winners), (multilabel.decode, whole_files._covers)):
        g = Nodes()
        drawn = decided(g, "logits", 4, "original")
        answers = (drawn,) if isinstance(drawn, str) else drawn
        given = {"logits": logits[None], "original": np.array(size)}
        found, expected = run(g, answers, given), decode(logits, fitting)
        assert (found[0] != expected).mean() <= 1e-3
        if len(found) == 2:
            np.testing.assert_array_equal(found[1], multilabel.flat(found[0]))


def test_ties_go_to_the_lower_class_and_small_masks_lie_over_large_ones() -> None:
    logits = np.zeros((3, 8, 8), np.float32)
    logits[2, :, 4:] = 1
    fitting, given = Fitting((8, 8), (8, 8), (0, 0, 8, 8)), {"logits": logits[None], "original": np.array((8, 8))}
    g = Nodes()
    np.testing.assert_array_equal(
        run(g, [whole_files._winners(g, "logits", 3, "original")], given)[0], semantic.decode(logits, fitting)
    )
    logits[:] = -1
    logits[0, 1:], logits[1, 4:], logits[2, 2:5] = 1, 1, 1
    g = Nodes()
    masks, class_map = run(g, whole_files._covers(g, "logits", 3, "original"), given)
    np.testing.assert_array_equal(masks, multilabel.decode(logits, fitting))
    np.testing.assert_array_equal(class_map, multilabel.flat(masks))
    assert set(np.unique(class_map)) == {0, 1, 2, 255}


def findings(count: int, size: tuple[int, int], seed: int = 0) -> tuple[np.ndarray, ...]:
    """What a network could find in an input of that size: some boxes thin, some beyond the border, some equal in score."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(-8, 40, (count, 2))
    boxes = np.concatenate(
        [corners, corners + rng.choice([0.01, 3, 15, 40], (count, 2)) * rng.uniform(0.5, 1, (count, 2))], 1
    )
    scores = rng.uniform(0, 1, count).round(1)
    masks = rng.uniform(0, 1, (count, 1, 14, 14))
    masks[:, :, 3:11, 3:11] += 0.5
    return (
        boxes.astype(np.float32),
        rng.integers(1, 4, count),
        scores.astype(np.float32),
        masks.clip(0, 1).astype(np.float32),
    )


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"score": 0.5},
        {"nms": 0.3},
        {"mask": 0.7, "min_area": 20},
        {"exclusive": True},
        {"score": 0.2, "nms": 0.5, "mask": 0.4, "min_area": 9, "exclusive": True},
    ],
)
@pytest.mark.parametrize(
    ("size", "fit", "count"),
    [((61, 83), "pad", 60), ((200, 9), "squash", 60), ((1, 300), "pad", 20), ((61, 83), "squash", 0)],
)
def test_objects_become_those_that_decode_gives(
    size: tuple[int, int], fit: str, count: int, rules: dict[str, Any]
) -> None:
    known = described(task="instance", classes=CLASSES[1:], colours=COLOURS[1:], fit=fit, thresholds=rules)
    fitting, found = images.plan(size, known.size, fit), findings(count, known.size)
    expected = instance.decode(found, fitting, known.classes, Thresholds().changed(rules))
    g = Nodes()
    answers = self_contained_objects.decided(
        g, ("boxes", "labels", "scores", "small"), known, "corner", "box", "original"
    )
    places = {"corner": fitting.box[:2], "box": fitting.box[2:], "original": size}
    given = dict(zip(("boxes", "labels", "scores", "small"), found, strict=True)) | {
        k: np.array(v) for k, v in places.items()
    }
    masks, boxes, labels, scores = run(g, [name for name, *_ in answers.values()], given)
    assert masks.shape == (len(expected), *size)
    assert [array.dtype for array in (masks, boxes, labels, scores)] == [np.uint8, np.float32, np.int64, np.float32]
    np.testing.assert_array_equal(labels, expected.labels)
    np.testing.assert_array_equal(scores, expected.scores)
    np.testing.assert_allclose(boxes, expected.boxes, atol=1e-3)
    assert (masks != expected.masks()).sum() <= 2 + masks.size // 10_000


# ---------------------------------------------------------------------------------------------------------------- whole files


def written(folder: Path, known: Description, **options: Any) -> tuple[Source, Any]:
    segmenter = build(known).eval()
    for name, weights in segmenter.named_parameters():
        if name.endswith("cls_score.weight"):
            weights.data.mul_(50)  # scores differ, as those of a trained network do
    source = Source(segmenter, known)
    answer = self_contained(source, folder / "whole.onnx", **options)
    assert [path.name for path in folder.iterdir()] == ["whole.onnx"]
    return source, answer


def answered(path: Path, image: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return {
        out.name: array for out, array in zip(session.get_outputs(), session.run(None, {"image": image}), strict=True)
    }


@pytest.mark.parametrize(
    ("known", "flip"),
    [({}, False), ({"fit": "pad"}, True), ({"multilabel": True, "fit": "pad"}, False), ({"multilabel": True}, True)],
)
def test_the_file_answers_as_the_predictor(tmp_path: Path, known: dict[str, Any], flip: bool) -> None:
    description = described(**known, tta={"flip": flip, "scales": [1.0]}, flip_pairs=((1, 2),))
    source, answer = written(tmp_path, description, flip=flip)
    trained = predictor.made(source.network, description, "torch")
    assert isinstance(trained, Predictor)
    loaded = predictor.load(tmp_path / "whole.onnx")
    assert isinstance(loaded, Predictor)
    assert loaded.description == description == answer.predictor.description
    assert loaded.decision == trained.decision
    for size in ODD[1 if flip else 0 :]:  # one pixel is its own mirror image: left and right tie
        image = photo(size)
        expected, actual = trained(image), loaded(image)
        assert (expected.label_map != actual.label_map).mean() <= 0.01
        assert np.isnan(actual.confidence).all()  # it is not in the file
        if description.multilabel:
            assert actual.masks is not None
            assert actual.masks.dtype == np.bool_
            assert actual.masks.shape == (4, *size)
            assert np.mean(expected.masks != actual.masks) <= 0.01
        else:
            assert actual.masks is None
        outside = answered(tmp_path / "whole.onnx", image)
        np.testing.assert_array_equal(outside["class_map"], actual.label_map)
        assert set(outside) == ({"masks", "class_map"} if description.multilabel else {"class_map"})


def finder() -> Description:
    """Of a small Mask R-CNN that finds many objects with random weights."""
    options: dict[str, Any] = {
        "name": "mask_rcnn",
        "encoder": "mobilenet_v2",
        "channels": 16,
        "anchors": (8, 16, 24, 32, 48),
        "score": 0.0,
    }
    options |= {"pre_nms_test": 100, "post_nms_test": 100, "max_detections": 50}
    return described(
        task="instance",
        classes=CLASSES[1:],
        colours=COLOURS[1:],
        size=(64, 64),
        model=options,
        thresholds={"score": 0.2, "mask": 0.435},  # where the masks of random weights lie
    )


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> tuple[Source, Path]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("objects")
    return written(folder, finder())[0], folder / "whole.onnx"


@pytest.mark.slow
def test_the_file_finds_the_objects_that_the_predictor_finds(objects: tuple[Source, Path]) -> None:
    source, path = objects
    trained, loaded = source.predictor, predictor.load(path, runtime="onnx")
    assert isinstance(trained, InstancePredictor)
    assert isinstance(loaded, InstancePredictor)
    total = 0
    for size in ODD:
        expected, actual = trained(photo(size)), loaded(photo(size))
        assert isinstance(actual, Instances)
        assert actual.classes == CLASSES[1:]
        total += len(expected)
        assert abs(len(expected) - len(actual)) <= 1 + len(expected) // 50
        if len(expected) == len(actual):
            np.testing.assert_allclose(actual.scores, expected.scores, atol=1e-3)
            assert abs(actual.areas().sum() - expected.areas().sum()) <= 0.02 * expected.areas().sum() + 2
    assert total >= 100
    fewer = predictor.load(path, thresholds={"score": 0.4})(photo(ODD[1]))
    assert isinstance(fewer, Instances)
    assert (fewer.scores >= 0.4).all()
    for rules, name in (({"score": 0.1}, "score"), ({"mask": 0.4}, "mask")):  # what was left out cannot be brought back
        with pytest.raises(RecipeError, match=rf"thresholds.{name}: cannot be .* built into"):
            predictor.load(path, thresholds=rules)(photo(ODD[1]))


def test_what_stands_in_the_file(tmp_path: Path) -> None:
    known = described(tta={"flip": True, "scales": [1.0, 1.5]})
    _, answer = written(tmp_path, known)
    model = onnx.load(str(tmp_path / "whole.onnx"))
    onnx.checker.check_model(model, full_check=True)
    facts = {entry.key: entry.value for entry in model.metadata_props}
    assert facts["contract"] == "image/1"
    assert tuple(json.loads(facts["classes"])) == CLASSES
    assert tuple(map(tuple, json.loads(facts["palette"]))) == COLOURS
    assert json.loads(facts["maskwright"])["tta"] == {"flip": False, "scales": [1.0]}
    assert [(i.name, i.type.tensor_type.elem_type) for i in model.graph.input] == [("image", TensorProto.UINT8)]
    assert [re.search("mirrored|scales", note) is not None for note in answer.notes] == [True, True]
    assert answer.predictor.runtime.startswith("onnxruntime ")


@pytest.mark.parametrize(
    ("known", "options", "error", "says"),
    [
        ({"fit": "crop"}, {}, ModelError, "looks through windows; export it without `self_contained`"),
        ({}, {"opset": 17}, RecipeError, "needs opset 18 or newer"),
        ({}, {"opset": 99}, ModelError, "cannot be written in opset 99"),
        ({"task": "instance"}, {"flip": True}, RecipeError, "flip: is for models that label pixels"),
    ],
)
def test_what_cannot_be_is_refused(
    tmp_path: Path, known: dict[str, Any], options: dict[str, Any], error: type[MaskwrightError], says: str
) -> None:
    description = described(**known)
    with pytest.raises(error, match=says):
        self_contained(Source(build(described()).eval(), description), tmp_path / "whole.onnx", **options)
    assert not list(tmp_path.iterdir())


def test_what_is_not_in_the_file_is_said(tmp_path: Path) -> None:
    written(tmp_path, described())
    path = tmp_path / "whole.onnx"
    Image.fromarray(photo((50, 60))).save(tmp_path / "photo.png")
    for ways in ({"tiled": True}, {"overlap": 0.5}, {"tta": {"flip": True}}, {"tta": {"scales": [0.5]}}):
        with pytest.raises(RecipeError, match="self-contained file"):
            predictor.load(path, **ways)  # type: ignore[arg-type]
    loaded = predictor.load(path, tta={"flip": False})
    assert isinstance(loaded, Predictor)
    asked: list[Callable[[], object]] = [
        lambda: loaded.probabilities(photo((9, 9))),
        lambda: loaded.logits(photo((9, 9))),
        lambda: loaded.answer(photo((9, 9))),
    ]
    for ask in asked:
        with pytest.raises(ModelError, match="logits and probabilities are not in it; give the bundle"):
            ask()
    done = folders.predict_all(loaded, tmp_path / "photo.png", tmp_path / "out")
    assert done.images == 1
    rows = (tmp_path / "out" / "predictions.csv").read_text().splitlines()[1:]
    assert {row.split(",")[6] for row in rows} == {""}  # no confidence


@pytest.mark.slow
def test_it_predicts_where_torch_is_not(tmp_path: Path) -> None:
    source, _ = written(tmp_path, described())
    image = photo((90, 61))
    Image.fromarray(image).save(tmp_path / "photo.png")
    model, out = str(tmp_path / "whole.onnx"), tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, "predict", model, str(tmp_path / "photo.png"), "--out", str(out)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    mask = np.asarray(Image.open(out / "masks" / "photo.png"))
    expected = source.predictor(image)
    assert not isinstance(expected, Instances)
    assert (mask != expected.label_map).mean() <= 0.01


@pytest.mark.slow
@pytest.mark.parametrize("task", ["semantic", "instance"])
def test_the_example_of_the_documentation_runs(tmp_path: Path, objects: tuple[Source, Path], task: str) -> None:
    text = (REPOSITORY / "docs" / "self-contained.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(code) == 1
    if task == "semantic":
        path, kind = tmp_path / "whole.onnx", "class_map"
        written(tmp_path, described())
    else:
        path, kind = objects[1], "masks"
    work = tmp_path / "work"
    work.mkdir()
    (work / "model.onnx").write_bytes(path.read_bytes())
    Image.fromarray(photo((70, 90))).save(work / "photo.jpg")
    alone = "import sys; sys.modules.update(torch=None, maskwright=None)\n" + code[0]
    done = subprocess.run([sys.executable, "-W", "error", "-c", alone], cwd=work, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pixels = np.asarray(Image.open(work / "photo.jpg").convert("RGB"))
    found = answered(path, pixels)
    painted = np.asarray(Image.open(work / "mask.png"))
    if kind == "class_map":
        np.testing.assert_array_equal(painted, found["class_map"])
        counts = np.bincount(found["class_map"].ravel(), minlength=4)
        assert done.stdout.splitlines() == [
            f"{name}: {count} pixels" for name, count in zip(CLASSES, counts, strict=True) if count
        ]
    else:
        np.testing.assert_array_equal(painted > 0, found["masks"].any(axis=0))
        assert len(done.stdout.splitlines()) == len(found["scores"])
