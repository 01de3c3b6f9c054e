"""Networks of the `transformers` library, made from tiny random configurations in a folder."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from maskwright.bundles.bundle import Description
from maskwright.core.errors import ModelError, RecipeError, SetupError
from maskwright.exports.onnx import checked
from maskwright.models import MODELS, weights
from maskwright.models.build import build
from maskwright.models.segmenter import wrap
from maskwright.models.transformers_networks import KINDS, _semantic

library = pytest.importorskip("transformers")

SWIN = {"embed_dim": 8, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 2, 2], "window_size": 4}
EOMT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
EOMT |= {"num_blocks": 1, "num_queries": 5, "num_upscale_blocks": 1}
TINY: dict[str, dict[str, Any]] = {
    "segformer": {
        "hidden_sizes": [8, 8, 16, 16],
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 1, 2, 2],
        "decoder_hidden_size": 16,
        "drop_path_rate": 0.0,
    },
    "mask2former": {
        "backbone_config": {"model_type": "swin", **SWIN, "out_features": [f"stage{n}" for n in (1, 2, 3, 4)]},
        "feature_size": 32,
        "mask_feature_size": 32,
        "hidden_dim": 32,
        "encoder_feedforward_dim": 16,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "num_attention_heads": 2,
        "dim_feedforward": 16,
        "num_queries": 5,
    },
    "eomt": EOMT,
    "eomt_dinov3": {**EOMT, "intermediate_size": 32},
}
UNUSED = ("swin.layernorm.", "level_embed")  # leftovers of the library; the second learns once offsets are not all 0
ODD = (33, 47)


def network_of(kind: str, num_classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return MODELS["transformers"](num_classes, config={"model_type": kind, **TINY[kind]})


@pytest.fixture
def folder_of(tmp_path: Path):
    def folder(kind: str, num_classes: int = 7) -> Path:
        torch.manual_seed(4)
        config = library.AutoConfig.for_model(kind, **TINY[kind])
        config.num_labels = num_classes
        library.logging.disable_progress_bar()
        getattr(library, KINDS[kind].model)(config).save_pretrained(tmp_path / kind)
        return tmp_path / kind

    return folder


def images_of(batch: int, size: tuple[int, int]) -> torch.Tensor:
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(1)) * 255


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_keeps_the_contract(kind: str) -> None:
    network, wider = network_of(kind), network_of(kind, 5)
    own, other = network.state_dict(), wider.state_dict()
    assert {k for k in own if own[k].shape != other[k].shape} == {k for k in own if k.startswith(network.head_names)}
    assert all(f"encoder.{key}" in own for key in network.encoder.state_dict())
    segmenter = wrap(network).train()
    logits = segmenter(images_of(1, ODD))
    assert logits.shape == (1, 3, *ODD)
    logits.square().mean().backward()
    unreached = [name for name, p in network.named_parameters() if p.grad is None]
    assert all(any(part in name for part in UNUSED) for name in unreached)
    segmenter.eval()
    assert torch.equal(segmenter(images_of(1, ODD)), segmenter(images_of(1, ODD)))


@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_needs_no_folder(kind: str, folder_of) -> None:
    network = MODELS["transformers"](3, path=str(folder_of(kind)))
    options = json.loads(json.dumps(network.options))
    assert set(options) == {"config"}
    assert str(folder_of(kind)) not in json.dumps(options)
    description = Description(("a", "b", "c"), ((0, 0, 0),) * 3, ODD, "squash", {"name": "transformers", **options})
    again = build(description).eval()
    again.network.load_state_dict(network.state_dict())
    assert again.network.options == network.options
    with torch.inference_mode():
        assert torch.equal(again(images_of(1, ODD)), wrap(network).eval()(images_of(1, ODD)))


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_of_the_folder_are_taken(kind: str, folder_of) -> None:
    folder = folder_of(kind, 7)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 255})
    )
    saved = getattr(library, KINDS[kind].model).from_pretrained(folder).eval()
    same, other = (MODELS["transformers"](number, path=str(folder)) for number in (7, 3))
    loaded = weights.load(same, "auto")
    assert loaded.missing == ()
    assert loaded.normalization == "inception"
    images = (torch.rand(2, 3, 32, 32) - 0.5) * 2
    with torch.inference_mode():
        expected = saved(pixel_values=images)
        actual = same.eval().encoder(pixel_values=images)
        for name in ("logits", "class_queries_logits"):
            if name in expected:
                torch.testing.assert_close(same.head(actual[name]), expected[name])
    loaded = weights.load(other, "auto")  # other classes: all but the last layer
    assert not any(key.startswith("head.") for key in loaded.loaded)
    assert loaded.missing == ()
    assert weights.load(other, "none").loaded == ()


def test_a_backbone_alone_is_taken_and_the_rest_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = library.AutoConfig.for_model("segformer", **TINY["segformer"])
    library.logging.disable_progress_bar()
    library.SegformerForImageClassification(config).save_pretrained(tmp_path)
    network = MODELS["transformers"](3, path=str(tmp_path))
    capsys.readouterr()
    loaded = weights.load(network, "auto")
    assert len(loaded.loaded) == sum(key.startswith("encoder.segformer.") for key in network.state_dict())
    assert loaded.missing
    assert all(key.startswith("encoder.decode_head.") for key in loaded.missing)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", ["segformer", "mask2former"])
def test_rows_of_classes_move_by_name(kind: str) -> None:
    old, new = network_of(kind, 3), network_of(kind, 2)
    cut = weights._rows(("background", "cat", "dog"), ("background", "dog"))
    moved = cut(old.head.weight.data, new.head.weight.data)
    rows = [0, 2, 3] if KINDS[kind].masks else [0, 2]  # with queries, the last row stands for nothing
    assert torch.equal(moved, old.head.weight.data[rows])


def test_a_folder_without_weights_starts_from_nothing(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    library.AutoConfig.for_model("segformer", **TINY["segformer"]).save_pretrained(tmp_path)
    network = MODELS["transformers"](3, path=str(tmp_path))
    capsys.readouterr()  # what packages say when they are imported for the first time
    assert "none exist" in weights.load(network, "auto").summary()
    assert capsys.readouterr() == ("", "")


def test_masks_of_queries_become_scores_of_pixels() -> None:
    generator = torch.Generator().manual_seed(0)
    classes, masks = torch.randn(2, 5, 4, generator=generator), torch.randn(2, 5, 3, 6, generator=generator)
    p, m = classes.softmax(-1).numpy(), masks.sigmoid().numpy()
    expected = np.zeros((2, 3, 3, 6))
    for image, query, name in np.ndindex(2, 5, 3):
        expected[image, name] += p[image, query, name] * m[image, query]
    np.testing.assert_allclose(_semantic(classes, masks).exp().numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("kind", ["segformer", *(pytest.param(k, marks=pytest.mark.slow) for k in list(KINDS)[1:])])
def test_every_kind_can_be_exported(kind: str, tmp_path: Path) -> None:
    segmenter = wrap(network_of(kind)).eval()
    description = Description(("a", "b", "c"), ((0, 0, 0),) * 3, (64, 64), "squash", {"name": "transformers"})
    images = [image[None].numpy() for image in images_of(2, (64, 64))]
    assert checked(segmenter, description, tmp_path / "model.onnx", images).pixels_changed == 0


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({}, RecipeError, "needs `path` or `config`"),
        ({"path": "a", "config": {}}, RecipeError, "needs `path` or `config`"),
        ({"config": {}}, RecipeError, "`config` has no `model_type`"),
        ({"config": {"model_type": "segforme"}}, RecipeError, "did you mean `segformer`"),
        ({"config": {"model_type": "segformer", "depths": "many"}}, RecipeError, "cannot be"),
        ({"path": "./nowhere/at/all"}, RecipeError, "no such folder"),
        (
            {"path": "someone/some-model"},
            SetupError,
            "is no folder here and cannot be fetched from the hub .no network.",
        ),
    ],
)
def test_what_cannot_be_is_one_sentence(
    options: dict, error: type[Exception], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskwright.models.encoders.reachable", lambda: False)
    with pytest.raises(error, match=words):
        MODELS["transformers"](3, **options)


def test_folders_that_cannot_be_used_say_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"has no `config.json`"):
        MODELS["transformers"](3, path=str(tmp_path))
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config.json: cannot be read"):
        MODELS["transformers"](3, path=str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(RecipeError, match="model type `vit` cannot be used here"):
        MODELS["transformers"](3, path=str(tmp_path))


def test_damaged_weights_of_a_folder_are_refused(folder_of) -> None:
    folder = folder_of("segformer")
    (folder / "model.safetensors").write_bytes(b"not weights at all")
    network = MODELS["transformers"](3, path=str(folder))
    with pytest.raises(ModelError, match="weights cannot be used"):
        weights.load(network, "auto")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(SetupError, match=r"pip install 'maskwright\[transformers\]'"):
        MODELS["transformers"](3, path="someone/some-model")
