"""The small network for augmented-reality lenses: MobileNetV2 encoder, additive skips, nearest upsampling, plain ReLU.

Its layers are those that phone runtimes are known to run (Conv, Relu, Add, nearest Resize); with `width: 0.5` and one class
besides the background it has 366,313 parameters once BatchNorm is folded into the convolutions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models import MobileNetV2

from maskwright.core.errors import RecipeError
from maskwright.models.encoders import first_batch_norm, first_convolution

SKIPS = (1, 3, 6, 13)  # features at strides 2, 4, 8, 16


def lens(num_classes: int, *, width: float = 0.5) -> nn.Module:
    """MobileNetV2 (Sandler et al. 2018) with a light additive decoder, made for Lens Studio.

    width: share of MobileNetV2's channels; pretrained weights of the full width are cut to the first channels of each layer.
    """
    if not 0.1 <= width <= 1.0:
        raise RecipeError(f"the width of `lens` can be 0.1 to 1.0, not {width:g}")
    return Lens(num_classes, width)


class Lens(nn.Module):
    """forward: images float (B, 3, H, W), 0..1 -> logits (B, C, H, W), the background's (class 0) being 0.

    There is no background channel: `foreground` computes C - 1 channels z, and softmax over [0, z] of one class is
    sigmoid(z), which is what the exported lens computes. With one class in all there is one channel and nothing before it.
    """

    stride = 32
    encoder_name = "mobilenet_v2"
    head_names = ("head.",)
    normalization = "unit"  # a pure scaling, so that it can be folded into the first convolution
    sliced_weights = True
    implied_background = True

    def __init__(self, num_classes: int, width: float):
        super().__init__()
        self.encoder = Encoder(width)
        *skips, deepest = self.encoder.out_channels
        levels = [*reversed(skips), max(1, skips[0] // 2)]  # channels after each decoder step; sums need equal ones
        sizes = [1, 3, 3, 3, 3]
        self.decoder = nn.ModuleList(
            block(before, after, size) for before, after, size in zip([deepest, *levels], levels, sizes, strict=False)
        )
        self.num_classes = num_classes
        self.head = nn.Conv2d(levels[-1], max(1, num_classes - 1), 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        z = self.foreground(images)
        return z if self.num_classes == 1 else torch.cat([torch.zeros_like(z[:, :1]), z], dim=1)

    def foreground(self, images: Tensor) -> Tensor:
        """Logits (B, C - 1, H, W) of the classes besides the background."""
        *skips, x = self.encoder(images)
        x = interpolate(self.decoder[0](x), scale_factor=2.0, mode="nearest")
        for step, skip in zip(self.decoder[1:], reversed(skips), strict=True):
            x = interpolate(step(x + skip), scale_factor=2.0, mode="nearest")
        return self.head(x)

    @torch.no_grad()
    def absorb_normalization(self, mean: Sequence[float], std: Sequence[float]) -> None:
        """Makes weights that were trained on (pixels - mean) / std, pixels 0..255, fit pixels / 255.

        Exact but for the outermost pixels, where the padding now stands for black instead of the mean colour.
        """
        convolution, norm = first_convolution(self.encoder), first_batch_norm(self.encoder)
        assert convolution is not None
        assert norm is not None
        assert norm.running_mean is not None
        weight = convolution.weight
        mean_, std_ = (weight.new_tensor(values).view(1, 3, 1, 1) for values in (mean, std))
        norm.running_mean += (weight * mean_ / std_).sum((1, 2, 3))
        weight *= 255.0 / std_


class Encoder(nn.Module):
    """MobileNetV2 without its last two blocks; returns the features at strides 2, 4, 8, 16 and 32."""

    def __init__(self, width: float):
        super().__init__()
        features = MobileNetV2(width_mult=width).features[:-2]
        self.features = nn.ModuleList(with_plain_relu(module) for module in features)
        self.out_channels = [features[index].out_channels for index in (*SKIPS, -1)]

    def forward(self, x: Tensor) -> list[Tensor]:
        skips = []
        for index, module in enumerate(self.features):
            x = module(x)
            if index in SKIPS:
                skips.append(x)
        return [*skips, x]


def block(before: int, after: int, size: int) -> nn.Sequential:
    convolution = nn.Conv2d(before, after, size, padding=size // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU(inplace=True))


def with_plain_relu(module: nn.Module) -> nn.Module:
    """ReLU instead of ReLU6, which some phone runtimes lack."""
    for name, child in module.named_children():
        setattr(module, name, nn.ReLU(inplace=True) if isinstance(child, nn.ReLU6) else with_plain_relu(child))
    return module
