"""The lens network against the facts of the one it is built after, and its own promises."""

import pytest
import torch
from torch import nn

from maskwright.models import MODELS
from maskwright.models.segmenter import NORMALIZATIONS, wrap


def folded_parameters(network: nn.Module) -> int:
    """Parameters once every BatchNorm has become the bias of the convolution before it."""
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    return sum(p.numel() for p in network.parameters()) - sum(norm.num_features for norm in norms)


def test_it_has_the_parameters_of_the_network_it_is_built_after() -> None:
    assert folded_parameters(MODELS["lens"](2)) == 366_313


def test_it_has_the_layers_of_the_network_it_is_built_after() -> None:
    layers = list(MODELS["lens"](2, width=0.5).modules())
    assert sum(isinstance(m, nn.Conv2d) for m in layers) == 54
    assert sum(isinstance(m, nn.ReLU) for m in layers) == 37
    assert not any(isinstance(m, nn.ReLU6) for m in layers)


def test_the_decoder_has_the_channels_of_the_network_it_is_built_after() -> None:
    network = MODELS["lens"](2)
    steps = [(step[0].in_channels, step[0].out_channels, step[0].kernel_size[0]) for step in network.decoder]
    assert steps == [(80, 48, 1), (48, 16, 3), (16, 16, 3), (16, 8, 3), (8, 4, 3)]
    assert (network.head.in_channels, network.head.out_channels) == (4, 1)


@pytest.mark.parametrize("width", [0.1, 0.35, 0.75, 1.0])
def test_other_widths_fit_together(width: float) -> None:
    assert wrap(MODELS["lens"](4, width=width), "unit").eval()(torch.rand(1, 3, 40, 70)).shape == (1, 4, 40, 70)


def test_softmax_over_two_classes_is_the_sigmoid_of_the_one_channel() -> None:
    network = MODELS["lens"](2).eval()
    images = torch.rand(1, 3, 32, 64)
    with torch.inference_mode():
        logits, z = network(images), network.foreground(images)
    assert z.shape == (1, 1, 32, 64)
    torch.testing.assert_close(logits.softmax(1)[:, 1:], z.sigmoid())


def test_more_classes_have_no_background_channel() -> None:
    network = MODELS["lens"](4).eval()
    with torch.inference_mode():
        logits = network(torch.rand(1, 3, 32, 32))
    assert network.head.out_channels == 3
    assert (logits[:, 0] == 0).all()


@pytest.mark.parametrize("name", NORMALIZATIONS)
def test_a_normalization_that_was_absorbed_gives_the_same_first_features(name: str) -> None:
    torch.manual_seed(0)
    network = MODELS["lens"](2).eval()
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in NORMALIZATIONS[name])
    pixels = torch.rand(1, 3, 64, 64) * 255
    with torch.inference_mode():
        expected = network.encoder.features[0]((pixels - mean) / std)
        network.absorb_normalization(*NORMALIZATIONS[name])
        actual = network.encoder.features[0](pixels / 255)
    inside = (..., slice(1, -1), slice(1, -1))  # the padding at the border stands for another colour
    torch.testing.assert_close(actual[inside], expected[inside], rtol=1e-4, atol=1e-4)
