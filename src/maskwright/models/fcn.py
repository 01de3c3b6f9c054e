"""Fully convolutional networks: one linear score a class on the features of a classification network, upsampled bilinearly."""

from __future__ import annotations

import torch
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn
from torch.nn.functional import interpolate

from maskwright.core.errors import RecipeError
from maskwright.models import encoders
from maskwright.models.encoded import AUXILIARY_ROWS, Output, auxiliary_head, checked_weight, with_auxiliary

ENCODER = "mobilenet_v2"


def fcn32s(num_classes: int, *, encoder: str = ENCODER, hidden: int = 0, aux: float = 0.0) -> nn.Module:
    """FCN-32s (Long et al. 2015): scores at stride 32.

    encoder: name of the encoder, of segmentation_models_pytorch (resnet34, vgg16, ...) or of timm with `tu-` before it.
    hidden: channels of the two layers with dropout before the deepest score; 4096 in the paper, 0: none, as on a resnet.
    aux: weight of an auxiliary loss on the features of stride 16, customarily 0.4; 0: none.
    """
    return _fcn(num_classes, encoder, 1, hidden, aux)


def fcn16s(num_classes: int, *, encoder: str = ENCODER, hidden: int = 0, aux: float = 0.0) -> nn.Module:
    """FCN-16s (Long et al. 2015): scores at stride 32 upsampled and added to those at stride 16.

    encoder: name of the encoder, of segmentation_models_pytorch (resnet34, vgg16, ...) or of timm with `tu-` before it.
    hidden: channels of the two layers with dropout before the deepest score; 4096 in the paper, 0: none, as on a resnet.
    aux: weight of an auxiliary loss on the features of stride 16, customarily 0.4; 0: none.
    """
    return _fcn(num_classes, encoder, 2, hidden, aux)


def fcn8s(num_classes: int, *, encoder: str = ENCODER, hidden: int = 0, aux: float = 0.0) -> nn.Module:
    """FCN-8s (Long et al. 2015): scores at strides 32, 16 and 8, each upsampled and added to the next.

    encoder: name of the encoder, of segmentation_models_pytorch (resnet34, vgg16, ...) or of timm with `tu-` before it.
    hidden: channels of the two layers with dropout before the deepest score; 4096 in the paper, 0: none, as on a resnet.
    aux: weight of an auxiliary loss on the features of stride 16, customarily 0.4; 0: none.
    """
    return _fcn(num_classes, encoder, 3, hidden, aux)


def _fcn(num_classes: int, encoder: str, levels: int, hidden: int, aux: float) -> nn.Module:
    checked_weight(aux)
    if hidden < 0:
        raise RecipeError(f"hidden is a number of channels, not {hidden}")

    def make() -> nn.Module:
        network = Fcn(get_encoder(encoder, weights=None), num_classes, encoder, levels, hidden, aux).eval()
        with torch.no_grad():
            size = encoders.only_size(encoder) or 64
            network(torch.zeros(1, 3, size, size))  # encoders without all levels fail here
        return network.train()

    return encoders.build(encoder, make)


class Fcn(nn.Module):
    """forward: normalised images float (B, 3, H, W) -> logits (B, C, H, W); in train mode with an auxiliary head a tuple of
    them and its logits (B, C, H/16, W/16)."""

    stride = 32
    head_names = ("scores.", AUXILIARY_ROWS)

    def __init__(self, encoder: nn.Module, num_classes: int, encoder_name: str, levels: int, hidden: int, aux: float):
        super().__init__()
        self.encoder = encoder
        self.encoder_name = encoder_name
        self.aux_weight = aux
        channels = list(reversed(encoder.out_channels))  # type: ignore[arg-type]
        self.auxiliary = auxiliary_head(channels[1], num_classes) if aux else None
        self.hidden = _hidden(channels[0], hidden) if hidden else nn.Identity()
        channels[0] = hidden or channels[0]
        self.scores = nn.ModuleList(nn.Conv2d(number, num_classes, 1) for number in channels[:levels])  # deepest first
        for score in self.scores[1:]:
            for parameter in score.parameters():
                nn.init.zeros_(parameter)  # as in the paper: the finer scores begin by changing nothing

    def forward(self, images: Tensor) -> Output:
        features = self.encoder(images)
        scores = self.scores[0](self.hidden(features[-1]))
        for score, feature in zip(self.scores[1:], reversed(features[:-1]), strict=False):
            scores = score(feature) + _upsampled(scores, feature)
        return with_auxiliary(self, _upsampled(scores, images), features[-2])


def _upsampled(scores: Tensor, like: Tensor) -> Tensor:
    return interpolate(scores, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _hidden(channels: int, hidden: int) -> nn.Sequential:
    """The fully connected layers of VGG as convolutions."""
    layers = [nn.Conv2d(channels, hidden, 7, padding=3), nn.Conv2d(hidden, hidden, 1)]
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    return nn.Sequential(*(part for layer in layers for part in (layer, nn.ReLU(inplace=True), nn.Dropout2d(0.5))))
