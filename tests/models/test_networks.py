"""The exam that every network sits, alone and with every loss. A new entry of MODELS or LOSSES is examined by itself."""

import copy
import io
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from maskwright.bundles.bundle import Description
from maskwright.core.errors import RecipeError
from maskwright.core.types import VOID
from maskwright.exports.onnx import checked
from maskwright.models import MODELS, weights
from maskwright.models.build import build
from maskwright.models.segmenter import Segmenter, wrap
from maskwright.training import LOSSES
from maskwright.training.losses import criterion

ODD = (33, 47)
TINY = "tu-mobilenetv3_small_050"
SEGFORMER = {
    "model_type": "segformer",
    "hidden_sizes": [8, 8, 16, 16],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 1, 2, 2],
    "decoder_hidden_size": 16,
    "drop_path_rate": 0.0,
}
SMALL: dict[str, dict[str, Any]] = {  # options that make a network small, besides the encoder
    "unet++": {"width": 4},
    "fpn": {"width": 128},
    "pspnet": {"width": 16},
    "deeplabv3": {"width": 16},
    "deeplabv3+": {"width": 16},
    "upernet": {"width": 16},
    "segformer": {"width": 16},
    "residual_unet": {"width": 4},
    "transformers": {"config": SEGFORMER},
}
SLOW = ("fcn_resnet50", "fcn_resnet101", "deeplabv3_resnet50", "deeplabv3_resnet101")
MULTIPLE = 64  # no network's stride is more
WITH_ENCODER = [name for name in MODELS if "encoder" in MODELS.options(name)]
EVERY = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in MODELS]


@pytest.fixture(autouse=True)
def _libraries(request: pytest.FixtureRequest) -> None:
    callspec = getattr(request.node, "callspec", None)
    if callspec is not None and callspec.params.get("model") == "transformers":
        pytest.importorskip("transformers")


def options_of(model: str) -> dict[str, Any]:
    encoder = {"encoder": TINY} if "encoder" in MODELS.options(model) else {}
    return {**encoder, **SMALL.get(model, {})}


def has_aux(model: str) -> bool:
    return "aux" in MODELS.options(model)


@cache
def _network(model: str, num_classes: int, aux: float) -> nn.Module:
    torch.manual_seed(0)
    return MODELS[model](num_classes, **options_of(model), **({"aux": aux} if aux else {}))


def network_of(model: str, num_classes: int = 3, aux: float = 0.0) -> nn.Module:
    return copy.deepcopy(_network(model, num_classes, aux))


def segmenter_of(
    model: str, num_classes: int = 3, losses: tuple[str, ...] = ("cross_entropy",), aux: float = 0.0
) -> Segmenter:
    return wrap(network_of(model, num_classes, aux), criterion=criterion(dict.fromkeys(losses, 1.0)))


def images_of(batch: int, size: tuple[int, int]) -> Tensor:
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(1)) * 255


def targets_of(batch: int, size: tuple[int, int], num_classes: int) -> Tensor:
    targets = torch.randint(0, num_classes, (batch, *size), generator=torch.Generator().manual_seed(2))
    targets[:, : size[0] // 4] = VOID
    return targets


# ------------------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("model", EVERY)
def test_every_parameter_is_reached_by_a_gradient(model: str) -> None:
    segmenter = segmenter_of(model, aux=0.4 * has_aux(model)).train()
    value = sum(segmenter(images_of(1, ODD), targets_of(1, ODD, 3)).values())
    value.backward()
    gradients = {name: p.grad for name, p in segmenter.network.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    assert all(torch.isfinite(g).all() for g in gradients.values())
    assert next(segmenter.network.encoder.parameters()).grad.abs().sum() > 0
    segmenter.eval()
    assert torch.isfinite(segmenter(images_of(2, ODD), targets_of(2, ODD, 3))["cross_entropy"])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("num_classes", [1, 3])
@pytest.mark.parametrize("model", ["lens", "residual_unet", "transformers"])
def test_a_network_learns_from_every_loss(model: str, num_classes: int, loss: str) -> None:
    segmenter = segmenter_of(model, num_classes, (loss,)).train()
    value = segmenter(images_of(1, ODD), targets_of(1, ODD, num_classes))[loss]
    value.backward()
    assert torch.isfinite(value)
    assert all(torch.isfinite(p.grad).all() for p in segmenter.parameters() if p.grad is not None)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_without_a_label_teaches_nothing(loss: str) -> None:
    segmenter = segmenter_of("fcn8s", losses=(loss,), aux=0.4).train()
    value = sum(segmenter(images_of(2, ODD), torch.full((2, *ODD), VOID)).values())
    value.backward()
    assert value == 0
    assert all((p.grad == 0).all() for p in segmenter.parameters() if p.grad is not None)


@pytest.mark.parametrize("model", [name for name in EVERY if has_aux(getattr(name, "values", [name])[0])])
def test_the_auxiliary_loss_is_there_when_it_is_asked_for(model: str) -> None:
    images, targets = images_of(2, (64, 64)), targets_of(2, (64, 64), 3)
    plain, asked = segmenter_of(model).train(), segmenter_of(model, aux=0.4).train()
    assert set(plain(images, targets)) == {"cross_entropy"}
    assert set(asked(images, targets)) == {"cross_entropy", "aux"}
    assert asked.network.aux_weight == 0.4
    assert isinstance(asked.eval().network(images), Tensor)
    own, wider = plain.network.state_dict(), asked.network.state_dict()
    assert {key.split(".")[0] for key in wider.keys() - own.keys()} == {"auxiliary"}
    with pytest.raises(RecipeError, match="weight of the auxiliary loss"):
        MODELS[model](3, aux=-1.0)


# ------------------------------------------------------------------------------------------------------------- answers


@pytest.mark.parametrize("size", [(1, 1), (1, 40), ODD])
@pytest.mark.parametrize("model", EVERY)
def test_any_size_and_a_batch_of_one_train_and_predict(model: str, size: tuple[int, int]) -> None:
    segmenter = segmenter_of(model, aux=0.4 * has_aux(model)).train()
    sum(segmenter(images_of(1, size), targets_of(1, size, 3) % VOID).values()).backward()
    assert all(module.training for module in segmenter.modules())
    segmenter.eval()
    logits = segmenter(images_of(1, size))
    assert logits.shape == (1, 3, *size)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("model", EVERY)
def test_a_network_takes_every_multiple_of_its_stride(model: str) -> None:
    network = network_of(model).eval()
    assert MULTIPLE % network.stride == 0
    rows, columns = 2 * network.stride, 3 * network.stride
    with torch.inference_mode():
        assert network(torch.zeros(2, 3, rows, columns)).shape == (2, 3, rows, columns)


@pytest.mark.parametrize("model", EVERY)
def test_eval_mode_is_deterministic_and_image_by_image(model: str) -> None:
    segmenter = segmenter_of(model).eval()
    images = images_of(2, ODD)
    with torch.inference_mode():
        together = segmenter(images)
        assert torch.equal(together, segmenter(images))
        alone = torch.cat([segmenter(image[None]) for image in images])
        segmenter.to(memory_format=torch.channels_last)
        last = segmenter(images.contiguous(memory_format=torch.channels_last))
    tolerance = 1e-5 * max(1.0, float(together.abs().max()))
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=tolerance)
    torch.testing.assert_close(last, together, rtol=1e-4, atol=tolerance)


@pytest.mark.parametrize("model", EVERY)
def test_save_and_load_gives_the_same_output(model: str) -> None:
    aux = 0.4 * has_aux(model)
    trained = segmenter_of(model, aux=aux)
    trained.train()(images_of(2, ODD))  # moves the BatchNorm statistics
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    torch.manual_seed(5)
    options = {"name": model, **options_of(model), **({"aux": aux} if aux else {})}
    loaded = build(Description(("a", "b", "c"), ((0, 0, 0),) * 3, ODD, "squash", options))
    with torch.inference_mode():
        before = loaded.eval()(images_of(1, ODD))
        loaded.load_state_dict(torch.load(file, weights_only=True))
        expected, actual = trained.eval()(images_of(1, ODD)), loaded.eval()(images_of(1, ODD))
    assert not torch.equal(before, actual)
    assert torch.equal(expected, actual)


@pytest.mark.parametrize("model", EVERY)
def test_the_exported_network_answers_the_same(model: str, tmp_path: Path) -> None:
    segmenter = segmenter_of(model, aux=0.4 * has_aux(model))
    segmenter.train()(images_of(2, (64, 64)))
    description = Description(("a", "b", "c"), ((0, 0, 0),) * 3, ODD, "squash", {"name": model})
    images = [image[None].numpy() for image in images_of(2, ODD)]
    parity = checked(segmenter.eval(), description, tmp_path / "model.onnx", images)
    assert parity.max_logit_difference < 1e-3
    assert (tmp_path / "model.onnx").is_file()


# ------------------------------------------------------------------------------------------------------------ contract


@pytest.mark.parametrize("model", EVERY)
def test_what_the_house_relies_on_is_there(model: str) -> None:
    aux = 0.4 * has_aux(model)
    network, other = network_of(model, 3, aux), network_of(model, 5, aux)
    assert network.stride > 0
    assert isinstance(network.encoder_name, str)
    own, wider = network.state_dict(), other.state_dict()
    depends_on_classes = {key for key in own if own[key].shape != wider[key].shape}
    assert depends_on_classes == {key for key in own if key.startswith(network.head_names)}
    assert all(f"encoder.{key}" in own for key in network.encoder.state_dict())


@pytest.mark.parametrize("model", MODELS)
def test_every_option_says_what_it_does(model: str) -> None:
    assert MODELS.summary(model).rstrip().endswith((".", ";"))
    assert all(option.help and option.default is not option.required for option in MODELS.options(model).values())


@pytest.mark.parametrize(
    ("model", "encoder"),
    [
        *product(WITH_ENCODER, ["mit_b0"]),
        *product(["unet", "unet++", "fcn8s"], ["resnet18"]),
        *(pytest.param(m, "tu-convnext_atto", marks=pytest.mark.slow) for m in WITH_ENCODER),
        *product(["unet", "pspnet", "deeplabv3", "fcn8s"], ["vgg11_bn"]),
    ],
)
def test_encoders_of_every_kind_train_or_are_refused(model: str, encoder: str) -> None:
    undilated = {"output_stride": 32} if model in ("lraspp", "pspnet") else {}  # the largest that each takes
    options = {**SMALL.get(model, {}), **undilated, "encoder": encoder}
    if (model, encoder) in REFUSED:
        with pytest.raises(RecipeError, match=f"encoder `{encoder}` cannot be used here"):
            MODELS[model](2, **options)
        return
    segmenter = wrap(MODELS[model](2, **options), criterion=criterion({"cross_entropy": 1.0})).train()
    segmenter(images_of(2, ODD), targets_of(2, ODD, 2))["cross_entropy"].backward()
    assert next(segmenter.network.encoder.parameters()).grad is not None


REFUSED = {("unet++", "mit_b0"), ("deeplabv3", "vgg11_bn")}


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("unet", {"encoder": "resnet35"}, "no encoder is called `resnet35`; did you mean `resnet"),
        ("unet", {"encoder": "tu-nonsense"}, "no encoder is called `tu-nonsense`"),
        ("unet", {"encoder": "mobilenet_v3_large"}, "no encoder is called `mobilenet_v3_large`"),
        ("unet", {"attention": "self"}, "attention can be `none` or `scse`"),
        ("unet++", {"depth": 9}, "depth of 3 to 5"),
        ("lens", {"width": 2.0}, "0.1 to 1.0"),
        ("lraspp", {"output_stride": 8}, "16 or 32"),
        ("lraspp", {"encoder": "vgg11_bn"}, "encoder `vgg11_bn` cannot be used here .*; set `output_stride: 32`"),
        ("deeplabv3+", {"encoder": "mobilenetv2_035"}, "no encoder is called"),
        ("unet++", {"encoder": "mit_b0"}, "encoder `mit_b0` cannot be used here"),
        ("fcn8s", {"encoder": "tu-vit_tiny_patch16_224"}, "cannot be used here"),
        ("deeplabv3", {"output_stride": 4}, "8 or 16"),
        ("fpn", {"width": 100}, "multiple of 64"),
        ("fcn8s", {"hidden": -1}, "number of channels"),
        ("residual_unet", {"width": 0}, "number of channels"),
        ("unet", {"attention": "scse", "width": 8}, "needs a width of at least 16"),
    ],
)
def test_options_that_cannot_be(model: str, options: dict, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        MODELS[model](2, **options)


@pytest.mark.parametrize(("depth", "stride"), [(3, 8), (4, 16), (5, 32)])
def test_a_flatter_unet_has_a_smaller_stride(depth: int, stride: int) -> None:
    network = MODELS["unet"](2, encoder="resnet18", depth=depth, attention="scse")
    assert network.stride == stride
    assert wrap(network).eval()(images_of(1, (stride, stride + 1))).shape == (1, 2, stride, stride + 1)


# ------------------------------------------------------------------------------------------- what single networks promise


def test_the_residual_unet_is_the_one_of_the_books() -> None:
    network = MODELS["residual_unet"](21)
    assert [block.body[0].out_channels for block in network.encoder.blocks] == [64, 128, 256, 512, 1024]
    assert all(norm.weight.eq(1).all() for norm in network.modules() if isinstance(norm, nn.BatchNorm2d))
    kinds = [type(layer) for layer in network.encoder.blocks[0].body]
    assert kinds == [nn.Conv2d, nn.ReLU, nn.BatchNorm2d] * 2
    for layer in network.encoder.modules():
        if (
            isinstance(layer, nn.Conv2d) and layer.in_channels > 3
        ):  # He: the square root of 2 (before a ReLU) over the inputs
            expected = 2**0.5 if layer.kernel_size == (3, 3) else 1.0
            assert float(layer.weight.detach().std()) * layer.weight[0].numel() ** 0.5 == pytest.approx(
                expected, rel=0.05
            )
    for seed in range(3):
        torch.manual_seed(seed)
        with torch.inference_mode():
            logits = MODELS["residual_unet"](21)(images_of(1, (32, 32)) / 255)
        entropy = torch.distributions.Categorical(logits=logits.movedim(1, -1)).entropy()
        assert float(entropy.mean()) > 0.97 * np.log(21)


def test_finer_scores_of_an_fcn_begin_by_changing_nothing() -> None:
    images = images_of(1, (64, 64)) / 255
    answers = []
    for model in ("fcn32s", "fcn16s", "fcn8s"):
        torch.manual_seed(3)
        network = MODELS[model](3, encoder=TINY).eval()
        network.scores[0].bias.data.fill_(0.5)
        network.scores[0].weight.data.fill_(0.0)
        with torch.inference_mode():
            answers.append(network(images))
    for answer in answers:
        torch.testing.assert_close(answer, torch.full((1, 3, 64, 64), 0.5))


def test_hidden_layers_of_an_fcn_are_those_of_the_paper() -> None:
    network = MODELS["fcn8s"](3, encoder=TINY, hidden=16).train()
    assert network.scores[0].in_channels == 16
    assert network(images_of(2, (64, 64))).shape == (2, 3, 64, 64)


@pytest.mark.parametrize(("model", "file"), [("fcn_resnet50", "resnet50"), ("lraspp_mobilenet_v3_large",) * 2])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_torchvision_files_start_torchvision_networks(
    model: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision

    name = file.removeprefix("lraspp_")
    state = torchvision.models.get_model(name, weights=None).state_dict()
    state = {key: torch.rand_like(v) if v.is_floating_point() else v for key, v in state.items()}
    torch.save(state, tmp_path / f"{name}-8738ca79.pth")
    monkeypatch.setenv(weights.FOLDER, str(tmp_path))
    network = network_of(model)
    loaded = weights.load(network, "auto")
    assert loaded.missing == ()
    assert len(loaded.loaded) == len(network.encoder.state_dict())
    first = next(iter(network.encoder.parameters()))
    assert torch.equal(first, next(value for value in state.values() if value.shape == first.shape))


def test_a_network_that_no_library_knows_starts_from_nothing_in_silence(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("maskwright.models.encoders.reachable", lambda: pytest.fail("nothing is to be downloaded"))
    loaded = weights.load(network_of("residual_unet"), "auto")
    assert loaded.summary() == "none exist for this network, it starts from random values"
    assert capsys.readouterr() == ("", "")
    with pytest.raises(RecipeError, match="no weights called `imagenet`; use `weights: none`"):
        weights.load(network_of("residual_unet"), "imagenet")
