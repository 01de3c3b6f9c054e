"""Depthwise convolutions in float32 inside autocast: the same answers and gradients, the same dtype handed on."""

import copy

import pytest
import torch
from torch import nn

from maskwright.models import MODELS
from maskwright.models.depthwise import Float32Conv2d, in_float32
from maskwright.models.device import choose
from maskwright.models.segmenter import wrap

SLOW = {"kernel_size": 5, "padding": 2}, {"kernel_size": 3, "stride": 2}, {"kernel_size": 3, "dilation": 2}


@pytest.mark.parametrize("shape", SLOW, ids=str)
def test_it_computes_in_float32_and_hands_on_bf16(shape: dict) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(6, 6, groups=6, **shape)
    changed = copy.deepcopy(plain)
    in_float32(changed)
    assert type(changed) is Float32Conv2d
    images = torch.rand(2, 6, 9, 9).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        actual = changed(images)
    expected = plain(images.float())
    assert actual.dtype == torch.bfloat16
    assert torch.equal(actual, expected.bfloat16())
    actual.float().sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(changed.weight.grad, plain.weight.grad)
    assert changed.weight.grad.dtype == torch.float32


@pytest.mark.parametrize("far", [1, 3, 4, 7, 12, 40])
@pytest.mark.parametrize("size", [(8, 8), (5, 9), (1, 13)], ids=str)
def test_far_dilated_kernels_tap_by_tap_are_the_same_convolution(far: int, size: tuple[int, int]) -> None:
    plain = nn.Conv2d(6, 6, 3, groups=6, dilation=far, padding=far, bias=False)
    changed = copy.deepcopy(plain)
    in_float32(changed)
    images = torch.randn(2, 6, *size).to(memory_format=torch.channels_last)
    ours, theirs = (images.clone().requires_grad_() for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        actual = changed(ours)
    expected = plain(theirs)
    torch.testing.assert_close(actual.float(), expected, rtol=1e-2, atol=1e-2)
    slope = torch.randn_like(expected).bfloat16()
    actual.backward(slope)
    expected.backward(slope.float())
    if far > 1:
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(changed.weight.grad, plain.weight.grad, rtol=1e-5, atol=1e-4)
    assert isinstance(changed, Float32Conv2d) == (far > 1)


@pytest.mark.parametrize("shape", SLOW, ids=str)
def test_without_autocast_nothing_changes(shape: dict) -> None:
    plain = nn.Conv2d(6, 6, groups=6, **shape)
    images = torch.rand(2, 6, 9, 9)
    expected = plain(images)
    in_float32(plain)
    assert torch.equal(plain(images), expected)
    assert plain.double()(images.double()).dtype == torch.float64


@pytest.mark.parametrize(
    "layer",
    [nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 6, 5), nn.Conv2d(6, 6, 3, stride=2), nn.Conv2d(1, 4, 5)],
    ids=str,
)
def test_layers_that_are_fast_in_bf16_stay(layer: nn.Conv2d) -> None:
    in_float32(layer)
    assert type(layer) is nn.Conv2d


@pytest.mark.parametrize("model", ["unet", "lens", "lraspp", "deeplabv3+", "segformer", "lraspp_mobilenet_v3_large"])
def test_a_placed_network_is_the_same_network(model: str) -> None:
    torch.manual_seed(0)
    segmenter = wrap(MODELS[model](2)).eval()
    images = torch.rand(1, 3, 33, 47) * 255
    with torch.inference_mode():
        expected = segmenter(images)
        keys = list(segmenter.state_dict())
        placed = choose("cpu", "bf16").place(segmenter)
        torch.testing.assert_close(placed(images), expected, rtol=1e-4, atol=1e-5)
    assert list(placed.state_dict()) == keys
    depthwise = [
        m for m in copy.deepcopy(placed).modules() if isinstance(m, nn.Conv2d) and m.groups == m.in_channels > 1
    ]
    assert all(type(layer) is Float32Conv2d or is_plain(layer) for layer in depthwise)


def is_plain(layer: nn.Conv2d) -> bool:
    return layer.kernel_size == (3, 3) and layer.stride == (1, 1)
