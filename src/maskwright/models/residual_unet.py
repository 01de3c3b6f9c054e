"""A U-Net of its own, without a pretrained encoder: every block of it has a 1 x 1 convolution as a shortcut."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from maskwright.core.errors import RecipeError

LEVELS = 5


def residual_unet(num_classes: int, *, width: int = 64) -> nn.Module:
    """U-Net (Ronneberger et al. 2015) of residual blocks, trained from random weights: 64-128-256-512-1024 channels.

    width: channels at full resolution; each of the four levels below has twice as many.
    """
    if width < 1:
        raise RecipeError(f"width is a number of channels, not {width}")
    return ResidualUnet(num_classes, width)


class ResidualUnet(nn.Module):
    """forward: normalised images float (B, 3, H, W) -> logits (B, C, H, W)."""

    stride = 2 ** (LEVELS - 1)
    encoder_name = "residual_unet"
    head_names = ("head.",)

    def __init__(self, num_classes: int, width: int):
        super().__init__()
        channels = [width * 2**level for level in range(LEVELS)]
        self.encoder = Encoder(channels)
        self.decoder = nn.ModuleList(Block(2 * fine + fine, fine) for fine in reversed(channels[:-1]))
        self.head = nn.Conv2d(width, num_classes, 1)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):  # He et al. 2015: the signal keeps its size through the ReLUs
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu" if layer.kernel_size == (3, 3) else "linear")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        nn.init.normal_(self.head.weight, std=0.01)  # in the beginning all classes are about as likely

    def forward(self, images: Tensor) -> Tensor:
        *skips, x = self.encoder(images)
        for block, skip in zip(self.decoder, reversed(skips), strict=True):
            x = interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            x = block(torch.cat([skip, x], dim=1))
        return self.head(x)


class Encoder(nn.Module):
    """The contracting half; returns the features of every level, the finest first."""

    def __init__(self, channels: list[int]):
        super().__init__()
        self.out_channels = channels
        self.blocks = nn.ModuleList(Block(*pair) for pair in zip([3, *channels], channels, strict=False))

    def forward(self, x: Tensor) -> list[Tensor]:
        features: list[Tensor] = []
        for block in self.blocks:
            x = block(max_pool2d(x, 2, 2) if features else x)
            features.append(x)
        return features


class Block(nn.Module):
    """Twice 3 x 3 convolution, ReLU and BatchNorm, in this order, plus a 1 x 1 convolution of what came in."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.body = nn.Sequential(*_layer(before, after), *_layer(after, after))
        self.shortcut = nn.Conv2d(before, after, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) + self.shortcut(x)


def _layer(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True), nn.BatchNorm2d(after)]
