"""Mask2Former for objects, from tiny random configurations: its objects are the paper's, it learns, it can be moved about."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from maskwright.bundles.bundle import Description
from maskwright.core.errors import ModelError, RecipeError, SetupError
from maskwright.exports.onnx import checked
from maskwright.imaging.paste import pasted
from maskwright.models import INSTANCE_MODELS, MODELS, weights
from maskwright.models.build import build
from maskwright.models.instance_segmenter import InstanceSegmenter, Layers, objects, wrap

library = pytest.importorskip("transformers")

SWIN = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}
TINY: dict[str, Any] = {
    "model_type": "mask2former",
    "backbone_config": {"model_type": "swin", **SWIN, "out_features": [f"stage{n}" for n in (1, 2, 3, 4)]},
    "feature_size": 32,
    "mask_feature_size": 32,
    "hidden_dim": 32,
    "encoder_feedforward_dim": 16,
    "encoder_layers": 1,
    "decoder_layers": 3,
    "num_attention_heads": 2,
    "dim_feedforward": 16,
    "num_queries": 6,
}
CLASSES = ("cat", "dog", "cow")


def network_of(num_classes: int = 3, **options: Any) -> Any:
    torch.manual_seed(0)
    config = {**TINY, **options.pop("config", {})}
    return INSTANCE_MODELS["mask2former"](num_classes, config=config, **{"points": 400, **options})


def wrapped(network: Any) -> InstanceSegmenter:
    return wrap(network).eval()


def a_batch(size: tuple[int, int] = (64, 96)) -> tuple[Tensor, Layers]:
    """Two photos: a square and a bar over it; a disc."""
    height, width = size
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 60, (2, 3, *size)).astype(np.float32))
    layers, table = torch.zeros(2, 2, *size, dtype=torch.uint8), torch.zeros(2, 2, 256, dtype=torch.uint8)
    layers[0, 0, 10:40, 12:50], layers[0, 1, 20:26, 5:60] = 1, 1
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    layers[1, 0][(y - 30) ** 2 + (x - 30) ** 2 < 18**2] = 1
    table[0, 0, 1], table[0, 1, 1], table[1, 0, 1] = 1, 3, 2
    for row, plane, colour in ((0, 0, (220, 30, 30)), (0, 1, (30, 30, 220)), (1, 0, (30, 220, 30))):
        images[row].permute(1, 2, 0)[layers[row, plane] > 0] = torch.tensor(colour, dtype=torch.float32)
    return images, Layers(layers, table)


# --------------------------------------------------------------------------------------------------------------- losses


@pytest.mark.parametrize("training", [True, False])
def test_losses_are_had_in_both_modes(training: bool) -> None:
    segmenter = wrapped(network_of()).train(training)
    images, targets = a_batch((50, 70))
    losses = segmenter(images, targets)
    assert set(losses) == {"class_loss", "mask_loss", "dice_loss"}
    torch.stack(list(losses.values())).sum().backward()
    unreached = [name for name, p in segmenter.network.named_parameters() if p.grad is None]
    assert all("swin.layernorm." in name or "level_embed" in name for name in unreached), unreached


def test_images_without_objects_teach_that_there_is_nothing() -> None:
    segmenter = wrapped(network_of()).train()
    images, targets = a_batch()
    for row in ([0, 1], [1]):
        empty = Layers(torch.zeros_like(targets.layers)[row], torch.zeros_like(targets.table)[row])
        losses = segmenter(images[row], empty)
        assert float(losses["class_loss"].detach()) > 0
        assert float(losses["mask_loss"].detach()) == float(losses["dice_loss"].detach()) == 0
        sum(losses.values()).backward()


# -------------------------------------------------------------------------------------------------------------- objects


def answering(classes: Tensor, masks: Tensor, **options: Any) -> Any:
    """A network whose queries answer so."""
    network = network_of(classes.shape[-1] - 1, config={"num_queries": classes.shape[-2]}, **options).eval()
    network.encoder = lambda images: SimpleNamespace(feature_maps=())
    network.pixel_decoder = lambda maps: SimpleNamespace(multi_scale_features=None, mask_features=None)
    queries = SimpleNamespace(intermediate_hidden_states=[classes.transpose(0, 1)], masks_queries_logits=[masks])
    network.transformer = lambda **kwargs: queries
    network.head = torch.nn.Identity()
    return network


@pytest.fixture
def loose(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a test put plain functions in the places of layers."""
    plain = torch.nn.Module.__setattr__

    def put(self: torch.nn.Module, name: str, value: Any) -> None:
        if callable(value) and not isinstance(value, torch.nn.Module) and name in self._modules:
            del self._modules[name]
            object.__setattr__(self, name, value)
            return
        plain(self, name, value)

    monkeypatch.setattr(torch.nn.Module, "__setattr__", put)


@pytest.mark.usefixtures("loose")
def test_objects_are_the_best_pairs_of_query_and_class() -> None:
    random = torch.Generator().manual_seed(2)
    classes, masks = torch.randn(2, 5, 4, generator=random), 3 * torch.randn(2, 5, 8, 12, generator=random)
    masks[1, 3] = -5.0  # a query without a pixel
    found = answering(classes, masks, score=0.1, max_detections=7)(torch.zeros(2, 3, 32, 48))
    for image in range(2):
        planes = (
            torch.nn.functional.interpolate(masks[image][None], size=(32, 48), mode="bilinear")[0].sigmoid().numpy()
        )
        expected = []
        probabilities = classes[image].softmax(-1).numpy()
        pairs = sorted(((probabilities[q, c], q, c) for q, c in np.ndindex(5, 3)), reverse=True)[:7]
        for probability, query, name in pairs:
            y, x = np.nonzero(planes[query] > 0.5)
            if len(y) and (score := probability * planes[query][y, x].mean()) >= 0.1:
                expected.append((score, name + 1, (x.min(), y.min(), x.max() + 1, y.max() + 1)))
        expected.sort(key=lambda one: -one[0])
        one = found[image]
        assert len(expected) >= 3
        np.testing.assert_allclose(one["scores"], [e[0] for e in expected], rtol=1e-4)
        assert one["labels"].tolist() == [e[1] for e in expected]
        assert one["labels"].dtype == torch.int64
        assert one["boxes"].tolist() == [list(e[2]) for e in expected]
        assert one["masks"].shape == (len(expected), 1, 112, 112)


@pytest.mark.usefixtures("loose")
@pytest.mark.parametrize(("mask_size", "least"), [(112, 0.97), (28, 0.93)])
def test_small_masks_are_the_large_ones_inside_their_boxes(mask_size: int, least: float) -> None:
    """Laid onto the image again they are the plane they were cut from, but for detail finer than their cells."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(96), indexing="ij")
    discs = [14 - ((y - 20).float() ** 2 + (x - 30).float() ** 2).sqrt()]
    discs.append(23 - (((y - 40).float() * 1.5) ** 2 + (x - 60).float() ** 2).sqrt())
    masks, classes = torch.stack(discs)[None], torch.tensor([[[9.0, 0, 0], [0, 9.0, 0]]])
    found = answering(classes, masks, mask_size=mask_size)(torch.zeros(1, 3, 256, 384))[0]
    planes = torch.nn.functional.interpolate(masks, size=(256, 384), mode="bilinear")[0] > 0
    assert len(found["labels"]) == 2
    for label, mask, box in zip(found["labels"], found["masks"], found["boxes"], strict=True):
        runs = pasted(mask[0].numpy(), box.numpy(), (256, 384))
        drawn = np.repeat(np.arange(len(runs)) & 1, runs).reshape(384, 256).T.astype(bool)
        plane = planes[int(label) - 1].numpy()
        assert (drawn & plane).sum() / (drawn | plane).sum() > least


def test_nothing_sure_enough_is_no_object() -> None:
    found = wrapped(network_of(score=1.0))(a_batch()[0])
    assert [tuple(one["masks"].shape) for one in found] == [(0, 1, 112, 112)] * 2
    assert [tuple(one["boxes"].shape) for one in found] == [(0, 4)] * 2


def test_the_order_of_a_batch_does_not_matter() -> None:
    segmenter = wrapped(network_of(score=0.0, mask_size=14))
    images, _ = a_batch((50, 70))
    with torch.inference_mode():
        both, turned, alone = segmenter(images), segmenter(images.flip(0)), segmenter(images[1:])
    for one, other in ((both[0], turned[1]), (both[1], turned[0]), (both[1], alone[0])):
        assert one.keys() == other.keys() == {"boxes", "labels", "scores", "masks"}
        for name, value in one.items():
            torch.testing.assert_close(value, other[name], rtol=1e-4, atol=1e-4)


def learnt(steps: int, **options: Any) -> tuple[InstanceSegmenter, list[float]]:
    segmenter = wrapped(network_of(**options)).train()
    images, targets = a_batch()
    optimizer = torch.optim.AdamW(segmenter.parameters(), lr=2e-3)
    totals = []
    for _ in range(steps):
        optimizer.zero_grad()
        total = sum(segmenter(images, targets).values())
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    return segmenter.eval(), totals


def test_the_loss_falls() -> None:
    _, totals = learnt(25)
    assert np.mean(totals[-3:]) < 0.7 * np.mean(totals[:3])


@pytest.mark.slow
def test_two_pictures_are_learnt_and_exported(tmp_path: Path) -> None:
    segmenter, _ = learnt(150, score=0.3, mask_size=28)
    images, _ = a_batch()
    with torch.inference_mode():
        first, second = segmenter(images)
    found = dict(zip(first["labels"].tolist(), first["boxes"].tolist(), strict=True))
    assert found == {1: pytest.approx([12, 10, 50, 40], abs=2), 3: pytest.approx([5, 20, 60, 26], abs=2)}
    assert second["labels"].tolist() == [2]
    assert second["boxes"][0].tolist() == pytest.approx([13, 13, 48, 48], abs=2)
    description = Description(CLASSES, ((0, 0, 0),) * 3, (64, 96), "squash", {"name": "mask2former"}, task="instance")
    dark = np.zeros((1, 3, 64, 96), np.float32)
    parity = checked(
        segmenter, description, tmp_path / "model.onnx", [*(image[None].numpy() for image in images), dark]
    )
    assert parity.unmatched == 0
    assert parity.objects >= 3
    segmenter.network.score = 1.0  # nothing is found
    parity = checked(segmenter, description, tmp_path / "none.onnx", [images[:1].numpy()])
    assert (parity.objects, parity.unmatched) == (0, 0)


def test_a_step_in_half_precision_is_finite() -> None:
    segmenter = wrapped(network_of()).train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = segmenter(*a_batch())
    assert all(value.dtype == torch.float32 and bool(value.isfinite()) for value in losses.values())
    sum(losses.values()).backward()


# ------------------------------------------------------------------------------------------------- folders and bundles


def folder_of(folder: Path, num_classes: int) -> Path:
    torch.manual_seed(4)
    config = library.Mask2FormerConfig(**TINY, num_labels=num_classes)
    library.logging.disable_progress_bar()
    library.Mask2FormerForUniversalSegmentation(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("num_classes", [3, 5])
def test_the_weights_of_a_folder_are_taken(tmp_path: Path, num_classes: int) -> None:
    folder = folder_of(tmp_path / "saved", num_classes)
    theirs = library.Mask2FormerForUniversalSegmentation.from_pretrained(folder).eval()
    network = INSTANCE_MODELS["mask2former"](3, path=str(folder)).eval()
    loaded = weights.load(network, "auto", classes=CLASSES)
    assert loaded.missing == ()
    assert {key for key in network.state_dict() if key not in loaded.loaded} == (
        set() if num_classes == 3 else {"head.weight", "head.bias"}
    )
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = theirs(pixel_values=images)
        pixels = network.pixel_decoder(list(network.encoder(images).feature_maps))
        actual = network.transformer(pixels.multi_scale_features, pixels.mask_features, output_hidden_states=True)
        torch.testing.assert_close(actual.masks_queries_logits[-1], expected.masks_queries_logits)
        if num_classes == 3:
            classes = network.head(actual.intermediate_hidden_states[-1].transpose(0, 1))
            torch.testing.assert_close(classes, expected.class_queries_logits)


def test_a_bundle_needs_no_folder(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "saved", 3)
    network = INSTANCE_MODELS["mask2former"](3, path=str(folder), mask_size=28, score=0.0)
    options = json.loads(json.dumps(network.options))
    assert str(folder) not in json.dumps(options)
    assert options["mask_size"] == 28
    model = {"name": "mask2former", **options}
    again = build(Description(CLASSES, ((0, 0, 0),) * 3, (64, 96), "squash", model, task="instance")).eval()
    again.network.load_state_dict(network.state_dict())
    assert again.network.options == network.options
    images, _ = a_batch()
    with torch.inference_mode():
        for one, other in zip(again(images), wrapped(network)(images), strict=True):
            assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_pixel_and_object_networks_give_each_other_all_they_have(tmp_path: Path) -> None:
    """They are the same network under other names."""
    pixels, found = MODELS["transformers"](3, config=TINY), network_of(3)
    for source, target in ((pixels, found), (found, pixels)):
        for parameter in source.parameters():
            torch.nn.init.normal_(parameter)
        torch.save(source.state_dict(), tmp_path / "w.pth")
        loaded = weights.load(target, str(tmp_path / "w.pth"))
        assert loaded.missing == loaded.skipped == ()
        assert len(loaded.loaded) == len(target.state_dict())
        totals = [sum(float(v.double().sum()) for v in n.state_dict().values()) for n in (source, target)]
        assert totals[0] == pytest.approx(totals[1])
        assert torch.equal(source.head.weight, target.head.weight)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, RecipeError, "model `mask2former` needs `path` or `config`"),
        ({"path": "a", "config": {}}, RecipeError, "needs `path` or `config`"),
        (
            {"config": {"model_type": "segformer"}},
            RecipeError,
            "model type `segformer` cannot be used here.*`mask2former`",
        ),
        ({"path": "./nowhere/at/all"}, RecipeError, "no such folder"),
        ({"config": TINY, "mask_size": 1}, RecipeError, "mask_size can be 2 or more, not 1"),
        ({"config": TINY, "max_detections": 0}, RecipeError, "max_detections can be 1 or more, not 0"),
        ({"config": TINY, "score": 1.5}, RecipeError, "score can be 0 to 1, not 1.5"),
        ({"config": TINY, "mask_loss": -1.0}, RecipeError, "mask_loss can be 0 or more, not -1"),
        ({"config": TINY, "nothing": 0.0}, RecipeError, "nothing can be more than 0, not 0"),
    ],
)
def test_what_cannot_be_is_one_sentence(options: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        INSTANCE_MODELS["mask2former"](3, **options)


def test_folders_that_cannot_be_used_say_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"has no `config.json`"):
        INSTANCE_MODELS["mask2former"](3, path=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "segformer"}))
    with pytest.raises(RecipeError, match=re.escape(f"{tmp_path}: model type `segformer` cannot be used here")):
        INSTANCE_MODELS["mask2former"](3, path=str(tmp_path))
    folder = folder_of(tmp_path / "torn", 3)
    (folder / "model.safetensors").write_bytes(b"not weights at all")
    with pytest.raises(ModelError, match="weights cannot be used"):
        weights.load(INSTANCE_MODELS["mask2former"](3, path=str(folder)), "auto")


@pytest.mark.parametrize("package", ["transformers", "scipy.optimize"])
def test_without_its_packages_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SetupError, match=r"pip install 'maskwright\[transformers\]'"):
        INSTANCE_MODELS["mask2former"](3, config=TINY)


def test_objects_of_a_batch_are_the_targets() -> None:
    """The batch the tests above learn from has what its words say."""
    first, second = objects(a_batch()[1])
    assert first["labels"].tolist() == [1, 3]
    assert second["labels"].tolist() == [2]
