"""Test-time augmentation: averages of views, mirrored classes that change places, one score whatever the runtime."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import maskwright as mw
from maskwright.bundles import bundle as bundles
from maskwright.bundles.bundle import PLAIN, Description
from maskwright.core import events
from maskwright.core.errors import ModelError, RecipeError
from maskwright.core.types import Network
from maskwright.data import synthetic
from maskwright.exports.onnx import checked
from maskwright.imaging import images
from maskwright.imaging.images import Fitting
from maskwright.models.segmenter import wrap
from maskwright.prediction import views, with_torch
from maskwright.prediction.predictor import Predictor, as_input

GOLDEN = Path(__file__).parents[1] / "golden" / "bundle-1"
IMAGE = synthetic.truth(1, 99, size=(80, 100))[0].image
FULL = {"flip": True, "scales": [0.5, 1.0, 1.5]}


def described(fit: str = "squash", size: tuple[int, int] = (64, 64), classes: int = 3, **known: Any) -> Description:
    return Description(tuple("abcdef"[:classes]), ((0, 0, 0),) * classes, size, fit, {"name": "unet"}, **known)


def pointwise(pixels: np.ndarray) -> np.ndarray:
    """Looks at single pixels, so it answers a mirrored image with the mirrored answer."""
    red, green, blue = pixels[0] / 64
    return np.stack([red, green, blue])[None]


def sided(pixels: np.ndarray) -> np.ndarray:
    """Classes are left (1) and right (2) of a bright object (beside the ground, 0): it looks where its column lies."""
    width = pixels.shape[3]
    bright = pixels[0, 0] > 100
    left = np.arange(width) < width / 2
    return np.stack([~bright, bright & left, bright & ~left])[None].astype(np.float32) * 8


def softmax(logits: np.ndarray) -> np.ndarray:
    found = np.exp(logits.astype(np.float64))
    return found / found.sum(0)


def test_without_it_the_networks_own_logits_are_kept() -> None:
    predictor = Predictor(pointwise, described(), runtime="torch")
    expected = pointwise(as_input(images.fit(IMAGE, images.plan(IMAGE.shape[:2], (64, 64), "squash"))))[0]
    np.testing.assert_array_equal(predictor.answer(IMAGE)[0], expected)
    assert predictor.decision == "argmax"


@pytest.mark.parametrize("fit", ["squash", "pad"])
def test_an_average_is_what_brute_force_says(fit: str) -> None:
    """Flip at the network's own size: the mean of two softmaxes, over the image's part of the input."""
    rng = np.random.default_rng(3)
    weights = rng.normal(size=(3, 3)).astype(np.float32) / 50
    ramp = np.linspace(0, 2, 64, dtype=np.float32)  # not the same left and right

    def network(pixels: np.ndarray) -> np.ndarray:
        return (np.einsum("oc,chw->ohw", weights, pixels[0]) + ramp)[None].astype(np.float32) * [[[[1]], [[2]], [[3]]]]

    predictor = Predictor(network, described(fit), runtime="torch", tta={"flip": True})
    fitting = images.plan(IMAGE.shape[:2], (64, 64), fit)
    pixels = as_input(images.fit(IMAGE, fitting))
    mean = (softmax(network(pixels)[0]) + softmax(network(pixels[:, :, :, ::-1])[0][:, :, ::-1])) / 2
    top, left, height, width = fitting.box
    logits, where = predictor.answer(IMAGE)
    assert where == Fitting(IMAGE.shape[:2], (height, width), (0, 0, height, width))
    np.testing.assert_allclose(softmax(logits), mean[:, top : top + height, left : left + width], atol=1e-4)


@pytest.mark.parametrize("fit", ["squash", "pad"])
@pytest.mark.parametrize("tta", [{"flip": True}, {"scales": [0.5, 1, 2]}, {"flip": True, "scales": [2.0]}])
def test_a_network_that_ignores_side_and_size_answers_nearly_the_same(fit: str, tta: dict[str, Any]) -> None:
    plain = Predictor(pointwise, described(fit), runtime="torch")(IMAGE).label_map
    augmented = Predictor(pointwise, described(fit), runtime="torch", tta=tta)(IMAGE).label_map
    assert (plain != augmented).mean() < (0.001 if "scales" not in tta else 0.06)


def test_left_and_right_change_back() -> None:
    image = np.zeros((64, 64, 3), np.uint8)
    image[20:40, 5:15] = image[20:40, 45:60] = 255
    expected = sided(as_input(image))[0].argmax(0)
    swapped = Predictor(sided, described(flip_pairs=((1, 2),)), runtime="torch", tta={"flip": True})
    np.testing.assert_array_equal(swapped(image).label_map, expected)
    kept = Predictor(sided, described(), runtime="torch", tta={"flip": True})
    assert softmax(kept.answer(image)[0])[1:].max() < 0.51, "without pairs each object is half left and half right"


def test_views_are_multiples_of_the_grain_and_scale_one_is_the_size_itself() -> None:
    for size in ((256, 256), (65, 33), (16, 500)):
        assert views.scaled(size, 1.0) == size
        for factor in (0.1, 0.5, 0.75, 1.25, 4.0):
            assert all(side % views.GRAIN == 0 and side > 0 for side in views.scaled(size, factor))


@pytest.mark.parametrize("multilabel", [False, True])
def test_logits_of_probabilities_lead_back_to_them(multilabel: bool) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (4, 5, 6)).astype(np.float32)
    found = views.probabilities(logits, multilabel)
    np.testing.assert_allclose(views.probabilities(views.as_logits(found, multilabel), multilabel), found, atol=1e-5)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits)) if multilabel else softmax(logits), atol=1e-6)
    assert np.isfinite(views.as_logits(np.array([[[0.0]], [[1.0]]]), multilabel)).all()


@pytest.mark.parametrize(
    ("tta", "words"),
    [
        (PLAIN, ""),
        ({"flip": True, "scales": [1.0]}, "tta: flip"),
        ({"flip": False, "scales": [2.0]}, "tta: scale 2"),
        ({"flip": True, "scales": [0.75, 1.0, 1.25]}, "tta: flip, scales 0.75-1.25"),
    ],
)
def test_the_convention_says_so(tta: dict[str, Any], words: str) -> None:
    assert views.described(tta) == words
    predictor = Predictor(pointwise, described(tta=tta), runtime="torch")
    assert predictor.decision == ", ".join(filter(None, ("argmax", words)))
    assert Predictor(pointwise, described(tta=tta), runtime="torch", tta=PLAIN).decision == "argmax"


@pytest.mark.parametrize("tta", [{"flips": True}, {"scales": []}, {"scales": [0]}, {"scales": [5]}, {"flip": 1}])
def test_what_cannot_be_is_refused(tta: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="tta"):
        mw.load(GOLDEN, tta=tta)


# ------------------------------------------------------------------------------------------------- bundles and runtimes


@pytest.fixture(scope="module")
def at_scales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden bundle, exported anew for prediction at several scales."""
    path = tmp_path_factory.mktemp("scales") / "bundle"
    shutil.copytree(GOLDEN, path)
    loaded = bundles.load(path)
    description = replace(loaded.description, tta=FULL)
    bundles.save_description(path, description)
    pixels = as_input(images.fit(IMAGE, images.plan(IMAGE.shape[:2], description.size, "squash")))
    checked(with_torch.load_segmenter(loaded), description, path / "model.onnx", [pixels])
    return path


@pytest.mark.slow
def test_both_runtimes_answer_the_same_at_all_scales(at_scales: Path) -> None:
    answers = [mw.load(at_scales, runtime=runtime).answer(IMAGE)[0] for runtime in ("onnx", "torch")]
    np.testing.assert_allclose(*answers, atol=1e-3)
    alone = mw.load(at_scales / "model.onnx")
    assert alone.runtime == "onnx"
    assert alone.tta == FULL
    np.testing.assert_allclose(alone.answer(IMAGE)[0], answers[1], atol=1e-3)
    assert (answers[0] != mw.load(at_scales, tta=PLAIN).answer(IMAGE)[0]).any()


@pytest.mark.slow
def test_a_bundle_that_needs_it_is_of_a_newer_format(at_scales: Path) -> None:
    assert bundles.load(at_scales).description.format == 2
    assert bundles.load(GOLDEN).description.format == 1


def test_a_file_of_one_size_says_so(tmp_path: Path) -> None:
    for path, hint in ((GOLDEN, "add `--runtime torch`"), (GOLDEN / "model.onnx", "give the bundle folder")):
        with pytest.raises(ModelError, match=f"fixed input 64 x 48.*{hint}.*`--scales 1`"):
            mw.load(path, runtime="onnx", tta=FULL)
    said: list[str] = []
    with events.listening(lambda event: said.append(str(event.fields.get("text")))):
        assert mw.load(GOLDEN, tta=FULL).runtime == "torch"
    assert "predicting with torch" in said[0]


class Rigid(torch.nn.Module):
    """Takes any size in torch, but an exporter that follows it once writes that one size down."""

    stride = 1

    def __init__(self) -> None:
        super().__init__()
        self.mix = torch.nn.Conv2d(3, 5, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.mix(images) + torch.ones(int(images.shape[2]), int(images.shape[3]))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Converting a tensor")
def test_a_network_that_only_exports_at_one_size_says_so(tmp_path: Path) -> None:
    description = replace(bundles.load(GOLDEN).description, tta=FULL)
    pixels = as_input(images.fit(IMAGE, images.plan(IMAGE.shape[:2], description.size, "squash")))
    told: list[str] = []
    with events.listening(lambda event: told.append(str(event.fields.get("text")))):
        checked(wrap(Rigid(), "unit").eval(), description, tmp_path / "model.onnx", [pixels])
    assert any("takes 64 x 48 alone" in line and "needs torch" in line for line in told)
    with pytest.raises(ModelError, match="fixed input 64 x 48"):
        mw.load(tmp_path / "model.onnx")
    assert mw.load(tmp_path / "model.onnx", tta={"scales": [1.0]}).tta == {"flip": True, "scales": [1.0]}


@pytest.mark.parametrize("network", [pointwise, sided])
def test_windows_are_augmented_too(network: Callable[..., np.ndarray]) -> None:
    calls: list[tuple[int, ...]] = []

    def noting(pixels: np.ndarray) -> np.ndarray:
        calls.append(pixels.shape)
        return network(pixels)

    known: Network = noting
    Predictor(known, described("crop"), runtime="torch", tta=FULL)(np.zeros((64, 100, 3), np.uint8))
    assert calls.count((1, 3, 64, 64)) == 4
    assert len(set(calls)) == 3
    assert len(calls) == 2 * 6
