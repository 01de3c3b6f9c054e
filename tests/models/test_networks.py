"""The exam that every network sits, alone and with every loss. A new entry of MODELS or LOSSES is examined by itself."""

import io
import warnings

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor

from maskwright.bundles.bundle import Description
from maskwright.core.errors import ModelError, RecipeError
from maskwright.core.types import VOID
from maskwright.models import MODELS
from maskwright.models.build import build
from maskwright.models.segmenter import NORMALIZATIONS, Segmenter, normalization_named, wrap
from maskwright.training import LOSSES
from maskwright.training.losses import criterion

ODD = (33, 47)


def segmenter_of(model: str, num_classes: int = 3, losses: tuple[str, ...] = ("cross_entropy",)) -> Segmenter:
    torch.manual_seed(0)
    return wrap(MODELS[model](num_classes), criterion=criterion(dict.fromkeys(losses, 1.0)))


def images_of(batch: int, size: tuple[int, int]) -> Tensor:
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(1)) * 255


def targets_of(batch: int, size: tuple[int, int], num_classes: int) -> Tensor:
    targets = torch.randint(0, num_classes, (batch, *size), generator=torch.Generator().manual_seed(2))
    targets[:, : size[0] // 4] = VOID
    return targets


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_every_model_learns_from_every_loss(model: str, loss: str) -> None:
    segmenter = segmenter_of(model, losses=(loss,)).train()
    value = segmenter(images_of(1, ODD), targets_of(1, ODD, 3))[loss]
    assert torch.isfinite(value)
    value.backward()
    gradients = [p.grad for p in segmenter.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in gradients)
    first = next(segmenter.network.encoder.parameters())
    assert first.grad is not None
    assert first.grad.abs().sum() > 0
    segmenter.eval()
    assert torch.isfinite(segmenter(images_of(2, ODD), targets_of(2, ODD, 3))[loss])


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_one_class_in_all_is_no_special_case(model: str, loss: str) -> None:
    segmenter = segmenter_of(model, 1, (loss,)).train()
    assert segmenter(images_of(2, ODD)).shape == (2, 1, *ODD)
    value = segmenter(images_of(2, ODD), targets_of(2, ODD, 1))[loss]
    value.backward()
    assert torch.isfinite(value)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("model", MODELS)
def test_a_batch_without_a_label_teaches_nothing(model: str, loss: str) -> None:
    segmenter = segmenter_of(model, losses=(loss,)).train()
    value = segmenter(images_of(2, ODD), torch.full((2, *ODD), VOID))[loss]
    value.backward()
    assert value == 0
    assert all((p.grad == 0).all() for p in segmenter.parameters() if p.grad is not None)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (32, 32), ODD, (64, 96)])
@pytest.mark.parametrize("model", MODELS)
def test_any_size_and_a_batch_of_one_train_and_predict(model: str, size: tuple[int, int]) -> None:
    segmenter = segmenter_of(model).train()
    segmenter(images_of(1, size), targets_of(1, size, 3) % VOID)["cross_entropy"].backward()
    assert all(module.training for module in segmenter.modules())
    segmenter.eval()
    logits = segmenter(images_of(1, size))
    assert logits.shape == (1, 3, *size)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("model", MODELS)
def test_eval_mode_is_deterministic_and_image_by_image(model: str) -> None:
    segmenter = segmenter_of(model).eval()
    images = images_of(3, ODD)
    with torch.inference_mode():
        together = segmenter(images)
        assert torch.equal(together, segmenter(images))
        alone = torch.cat([segmenter(image[None]) for image in images])
    torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_channels_last_answers_the_same(model: str) -> None:
    segmenter = segmenter_of(model).eval()
    with torch.inference_mode():
        expected = segmenter(images_of(2, ODD))
        images = images_of(2, ODD).contiguous(memory_format=torch.channels_last)
        actual = segmenter.to(memory_format=torch.channels_last)(images)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_save_and_load_gives_the_same_output(model: str) -> None:
    trained = segmenter_of(model)
    trained.train()(images_of(2, ODD))  # moves the BatchNorm statistics
    file = io.BytesIO()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    torch.manual_seed(5)
    loaded = build(Description(("a", "b", "c"), ((0, 0, 0),) * 3, ODD, "squash", {"name": model}))
    with torch.inference_mode():
        before = loaded.eval()(images_of(1, ODD))
        loaded.load_state_dict(torch.load(file, weights_only=True))
        expected, actual = trained.eval()(images_of(1, ODD)), loaded.eval()(images_of(1, ODD))
    assert not torch.equal(before, actual)
    assert torch.equal(expected, actual)


@pytest.mark.parametrize("size", [(64, 64), ODD])
@pytest.mark.parametrize("model", MODELS)
def test_onnx_answers_the_same(model: str, size: tuple[int, int]) -> None:
    segmenter = segmenter_of(model).eval()
    file, images = io.BytesIO(), images_of(2, size)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)  # the older exporter says that it is older
        torch.onnx.export(
            segmenter, (images[:1],), file, dynamo=False, opset_version=17,
            input_names=["image"], output_names=["logits"], dynamic_axes={"image": {0: "n"}},
        )  # fmt: skip
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    (actual,) = session.run(None, {"image": images.numpy()})
    with torch.inference_mode():
        np.testing.assert_allclose(actual, segmenter(images).numpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("model", MODELS)
def test_what_the_house_relies_on_is_there(model: str) -> None:
    network, other = MODELS[model](3), MODELS[model](5)
    assert network.stride > 0
    assert isinstance(network.encoder_name, str)
    own, wider = network.state_dict(), other.state_dict()
    depends_on_classes = {key for key in own if own[key].shape != wider[key].shape}
    assert depends_on_classes == {key for key in own if key.startswith(network.head_names)}
    assert all(f"encoder.{key}" in own for key in network.encoder.state_dict())


@pytest.mark.parametrize("model", MODELS)
def test_every_option_says_what_it_does(model: str) -> None:
    assert MODELS.summary(model).endswith(".")
    assert all(option.help and option.default is not option.required for option in MODELS.options(model).values())


@pytest.mark.parametrize("encoder", ["resnet18", "tu-resnet18", "tu-convnext_atto", "mit_b0", "vgg11_bn"])
@pytest.mark.parametrize("model", ["unet", "lraspp"])
def test_encoders_of_every_kind(model: str, encoder: str) -> None:
    options = {"output_stride": 32} if model == "lraspp" else {}
    segmenter = wrap(MODELS[model](2, encoder=encoder, **options), criterion=criterion({"cross_entropy": 1.0})).train()
    segmenter(images_of(2, ODD), targets_of(2, ODD, 2))["cross_entropy"].backward()
    assert next(segmenter.network.encoder.parameters()).grad is not None


@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        ("unet", {"encoder": "resnet35"}, "no encoder is called `resnet35`; did you mean `resnet"),
        ("unet", {"encoder": "tu-nonsense"}, "no encoder is called `tu-nonsense`"),
        ("unet", {"attention": "self"}, "attention can be `none` or `scse`"),
        ("unet", {"depth": 9}, "depth of 3 to 5"),
        ("lens", {"width": 2.0}, "0.1 to 1.0"),
        ("lraspp", {"output_stride": 8}, "16 or 32"),
        ("lraspp", {"encoder": "vgg11_bn"}, "encoder `vgg11_bn` cannot be used here .*; set `output_stride: 32`"),
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


def test_padding_repeats_the_border_and_is_cropped_away() -> None:
    class Stripes(torch.nn.Module):
        stride = 4

        def forward(self, x: Tensor) -> Tensor:
            self.seen = x
            return x

    network = Stripes()
    segmenter = wrap(network, "unit")
    images = images_of(1, (5, 3))
    assert torch.equal(segmenter(images), images / 255)
    assert network.seen.shape == (1, 3, 8, 4)
    assert torch.equal(network.seen[..., 5:, :3], (images / 255)[..., 4:5, :].expand(1, 3, 3, 3))
    assert torch.equal(network.seen[..., 3], network.seen[..., 2])


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_normalizations_center_their_own_mean(name: str) -> None:
    mean, std = NORMALIZATIONS[name]
    segmenter = Segmenter(torch.nn.Identity(), mean=mean, std=std, stride=1)
    pixels = torch.tensor(mean).view(1, 3, 1, 1) + torch.tensor(std).view(1, 3, 1, 1)
    torch.testing.assert_close(segmenter(pixels), torch.ones(1, 3, 1, 1))
    assert normalization_named(mean, std) == name


def test_an_unknown_normalization_is_refused() -> None:
    assert normalization_named((1, 2, 3), (1, 1, 1)) is None
    with pytest.raises(ModelError, match="did you mean `imagenet`"):
        wrap(MODELS["lens"](2), "imagenett")


def test_a_single_value_leaves_the_statistics_alone() -> None:
    norm = torch.nn.BatchNorm2d(2)
    norm.running_mean.fill_(1.0)
    network = torch.nn.Sequential(norm)
    segmenter = Segmenter(network, mean=(0,) * 3, std=(1,) * 3, stride=1).train()
    assert norm.training
    single = torch.tensor([3.0, 5.0]).view(1, 2, 1, 1)
    torch.testing.assert_close(network(single), (single - 1) / (1 + norm.eps) ** 0.5)
    assert norm.training
    assert torch.equal(norm.running_mean, torch.ones(2))
    network(torch.rand(2, 2, 1, 1))
    assert not torch.equal(norm.running_mean, torch.ones(2))
    assert segmenter.training


def test_losses_without_a_criterion_are_our_mistake() -> None:
    with pytest.raises(AssertionError, match="criterion"):
        wrap(MODELS["lens"](2))(images_of(1, ODD), targets_of(1, ODD, 2))
