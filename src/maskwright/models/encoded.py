"""Encoder, decoder, head and now and then a second head: what the networks of segmentation_models_pytorch have in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.segmentation.fcn import FCNHead

from maskwright.core.errors import RecipeError
from maskwright.models import encoders

Output = Tensor | tuple[Tensor, Tensor]


def encoded(
    encoder: str,
    num_classes: int,
    make: Callable[[], nn.Module],
    *,
    aux: float = 0.0,
    hint: str = "choose another encoder",
) -> Encoded:
    """The parts of what `make` builds around the encoder of this name, tried on a small black image.

    aux: weight of the auxiliary loss; 0 leaves its head out. hint: what to do where the library or the network refuses.
    Raises RecipeError for an encoder that is unknown or that this network cannot use.
    """
    checked_weight(aux)

    def tried() -> Encoded:
        network = Encoded(make(), encoder, num_classes, aux)
        _try(network)
        return network

    return encoders.build(encoder, tried, hint)  # type: ignore[return-value]


class Encoded(nn.Module):
    """forward: normalised images float (B, 3, H, W) -> logits (B, C, H, W); in train mode with an auxiliary head a tuple of
    them and its logits (B, C, h, w).

    parts: has `encoder`, `decoder` and `segmentation_head`.
    The auxiliary head (Zhao et al. 2017, "Pyramid Scene Parsing Network") looks at the features before the deepest ones.
    """

    def __init__(self, parts: Any, encoder_name: str, num_classes: int, aux: float):
        super().__init__()
        self.encoder: nn.Module = parts.encoder
        self.decoder: nn.Module = parts.decoder
        self.segmentation_head: nn.Module = parts.segmentation_head
        self.auxiliary = auxiliary_head(self.encoder.out_channels[-2], num_classes) if aux else None  # type: ignore[index]
        self.aux_weight = aux
        self.stride = int(self.encoder.output_stride)  # type: ignore[arg-type]
        self.encoder_name = encoder_name
        self.head_names = ("segmentation_head.", AUXILIARY_ROWS)

    def forward(self, images: Tensor) -> Output:
        features = self.encoder(images)
        logits = self.segmentation_head(self.decoder(features))
        return with_auxiliary(self, logits, features[-2])


AUXILIARY_ROWS = "auxiliary.4."  # the layer of an auxiliary head whose rows are classes


def auxiliary_head(channels: int, num_classes: int) -> nn.Module:
    """A small FCN head: 3 x 3 convolution to a quarter of the channels, BatchNorm, ReLU, dropout, 1 x 1 convolution."""
    if channels < 4:
        raise ValueError("it has no features before the deepest ones that an auxiliary head could look at")
    return FCNHead(channels, num_classes)


def with_auxiliary(network: nn.Module, logits: Tensor, features: Tensor | None) -> Output:
    """The logits, and in train mode beside them those of the network's auxiliary head on `features`, where it has one."""
    auxiliary = network.auxiliary
    return (logits, auxiliary(features)) if network.training and auxiliary is not None else logits  # type: ignore[operator]


def checked_weight(aux: float) -> None:
    """Raises RecipeError for an auxiliary loss that is no part of a loss."""
    if not 0 <= aux <= 10:
        raise RecipeError(f"aux is the weight of the auxiliary loss, 0 (off) to 10, not {aux:g}; 0.4 is customary")


def checked_stride(output_stride: int, known: tuple[int, ...]) -> None:
    """Raises RecipeError for an output_stride that a network does not know."""
    if output_stride not in known:
        can_be = " or ".join(str(number) for number in known)
        raise RecipeError(f"output_stride can be {can_be}, not {output_stride}")


@torch.no_grad()
def _try(network: Encoded) -> None:
    """Some encoders are built and only fail when an image comes: those for one fixed size, those without all levels."""
    size = encoders.only_size(network.encoder_name) or 64
    logits = network.eval()(torch.zeros(1, 3, size, size))
    if logits.shape[-2:] != (size, size):
        raise ValueError(f"an image of {size} x {size} comes out as {logits.shape[-2]} x {logits.shape[-1]}")
    network.train()
