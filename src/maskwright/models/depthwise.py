"""Depthwise convolutions that a CPU trains faster in float32 than in bf16.

oneDNN has fast bf16 gradients only for 3 x 3 depthwise kernels of stride and dilation 1; those of all others take 5 to 20
times as long as in float32 (measured with torch 2.15 on AMX and AVX-512). They are few, so the casts cost little.

Where a kernel is dilated so far that most of its taps lie beyond the picture, as in the pyramids of DeepLab, adding up the
taps one by one is faster still: most of them see a strip or nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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
            if bias is None and self._sees_little_of(input):
                output = _TapByTap.apply(input.float(), weight, self.dilation[0])
            else:
                output = super()._conv_forward(input.float(), weight, bias)
        return output.to(torch.get_autocast_dtype("cpu"))

    def _sees_little_of(self, input: Tensor) -> bool:
        """Whether the outer taps of a 3 x 3 kernel reach over half of the picture or more."""
        far = self.dilation[0]
        centred = self.dilation == (far, far) == self.padding and self.stride == (1, 1) and self.padding_mode == "zeros"
        return (
            self.kernel_size == (3, 3)
            and centred
            and self.groups == self.out_channels
            and 2 * far >= max(input.shape[2:])
        )


class _TapByTap(torch.autograd.Function):
    """A 3 x 3 depthwise convolution, dilated and padded by `far`: (input (B, C, H, W), weight (C, 1, 3, 3), far)."""

    @staticmethod
    def forward(ctx: Any, input: Tensor, weight: Tensor, far: int) -> Tensor:
        ctx.save_for_backward(input, weight)
        ctx.far = far
        output = torch.zeros_like(input)
        for row, column, here, there in _taps(far, *input.shape[2:]):
            output[here].addcmul_(input[there], weight[:, :, row, column, None])
        return output

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> Any:
        (input, weight), (slope,) = ctx.saved_tensors, slopes
        by_input, by_weight = torch.zeros_like(input), torch.zeros_like(weight)
        for row, column, here, there in _taps(ctx.far, *input.shape[2:]):
            by_input[there].addcmul_(slope[here], weight[:, :, row, column, None])
            by_weight[:, 0, row, column] = (slope[here] * input[there]).sum((0, 2, 3))
        return by_input, by_weight, None


def _taps(far: int, height: int, width: int) -> Iterator[tuple[int, int, Any, Any]]:
    """Row and column in the kernel, and the pixels that get something from it and those that it sees there."""
    for row in range(3):
        for column in range(3):
            down, right = (row - 1) * far, (column - 1) * far
            if abs(down) < height and abs(right) < width:
                here = (..., slice(max(0, -down), height - max(0, down)), slice(max(0, -right), width - max(0, right)))
                there = (..., slice(max(0, down), height - max(0, -down)), slice(max(0, right), width - max(0, -right)))
                yield row, column, here, there


def _is_fast_in_bf16(layer: nn.Conv2d) -> bool:
    return layer.kernel_size == (3, 3) and layer.stride == (1, 1) and layer.dilation == (1, 1)
