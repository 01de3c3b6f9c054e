"""Lite R-ASPP: the light head of MobileNetV3 on any encoder, for phones and for speed."""

from __future__ import annotations

from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models.segmentation.lraspp import LRASPPHead

from maskwright.core.errors import RecipeError
from maskwright.models import encoders
from maskwright.models.encoded import checked_stride


def lraspp(
    num_classes: int, *, encoder: str = "tu-mobilenetv3_large_100", inter_channels: int = 128, output_stride: int = 16
) -> nn.Module:
    """Lite R-ASPP (Howard et al. 2019, "Searching for MobileNetV3"): global context from stride 16, detail from stride 8.

    encoder: name of the encoder, of segmentation_models_pytorch (resnet34, mobilenet_v2, ...) or of timm with `tu-` before it.
    inter_channels: channels of the head.
    output_stride: how far the encoder shrinks the image; 16 as in the paper, 32 for encoders that cannot be dilated.
    """
    checked_stride(output_stride, (16, 32))
    if inter_channels < 1:
        raise RecipeError(f"inter_channels must be at least 1, not {inter_channels}")
    hint = "set `output_stride: 32`, or choose another encoder"
    built = encoders.build(encoder, lambda: get_encoder(encoder, weights=None, output_stride=output_stride), hint)
    return LiteRaspp(built, num_classes, inter_channels, encoder)


class LiteRaspp(nn.Module):
    """forward: normalised images float (B, 3, H, W) -> logits (B, C, H, W), upsampled bilinearly from stride 8."""

    stride = 32  # dilated encoders could do with 16; 32 suits every one
    head_names = ("head.low_classifier.", "head.high_classifier.")

    def __init__(self, encoder: nn.Module, num_classes: int, inter_channels: int, encoder_name: str):
        super().__init__()
        self.encoder = encoder
        self.encoder_name = encoder_name
        channels: list[int] = list(encoder.out_channels)  # type: ignore[arg-type]
        self.head = LRASPPHead(channels[3], channels[-1], num_classes, inter_channels)

    def forward(self, images: Tensor) -> Tensor:
        features = self.encoder(images)
        logits = self.head({"low": features[3], "high": features[-1]})
        return interpolate(logits, size=images.shape[-2:], mode="bilinear", align_corners=False)
