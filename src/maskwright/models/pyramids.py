"""Networks that put features of many scales together: FPN, PSPNet, DeepLabV3 and V3+, UPerNet, SegFormer, on any encoder.

To add one of segmentation_models_pytorch: a function with its options that hands a constructor to `encoded`.
"""

from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.decoders.pspnet.decoder import PSPBlock
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from maskwright.core.errors import RecipeError
from maskwright.models.encoded import checked_stride, encoded

DILATED = "choose an encoder that can be dilated: a resnet, mobilenet_v2, an efficientnet, or tu-resnet50"


def fpn(num_classes: int, *, encoder: str = "mobilenet_v2", width: int = 256) -> nn.Module:
    """Feature pyramid for semantic segmentation (Kirillov et al. 2019, "Panoptic Feature Pyramid Networks").

    encoder: name of the encoder, of segmentation_models_pytorch (resnet34, mobilenet_v2, ...) or of timm with `tu-` before it.
    width: channels of the pyramid; the layers after it have half as many.
    """
    width = _checked_width(width, 64, 128)  # halved, then normalised in 32 groups of at least two
    return encoded(
        encoder,
        num_classes,
        lambda: smp.FPN(
            encoder,
            encoder_weights=None,
            decoder_pyramid_channels=width,
            decoder_segmentation_channels=width // 2,
            classes=num_classes,
        ),
    )


def pspnet(
    num_classes: int, *, encoder: str = "mobilenet_v2", output_stride: int = 8, width: int = 512, aux: float = 0.0
) -> nn.Module:
    """Pyramid scene parsing network (Zhao et al. 2017): the deepest features, pooled over 1, 2, 3 and 6 parts of the image.

    encoder: name of the encoder, of segmentation_models_pytorch (resnet34, mobilenet_v2, ...) or of timm with `tu-` before it.
    output_stride: how far the encoder shrinks the image: 8 as in the paper, 16, or 32 for encoders that cannot be dilated.
    width: channels of the decoder.
    aux: weight of an auxiliary loss on the features before the deepest ones; 0.4 in the paper, 0: none.
    """
    checked_stride(output_stride, (8, 16, 32))
    width = _checked_width(width)

    def make() -> nn.Module:
        network = smp.PSPNet(
            encoder,
            encoder_weights=None,
            encoder_depth=5,
            output_stride=output_stride,
            psp_out_channels=width,
            upsampling=output_stride,
            classes=num_classes,
        )
        return _with_exportable_pools(network)

    hint = "set `output_stride: 32`, or choose another encoder"
    return encoded(encoder, num_classes, make, aux=aux, hint=hint)


def deeplabv3(
    num_classes: int, *, encoder: str = "mobilenet_v2", output_stride: int = 8, width: int = 256, aux: float = 0.0
) -> nn.Module:
    """DeepLabV3 (Chen et al. 2017): the deepest features seen through dilated convolutions of several rates.

    encoder: name of the encoder, one that can be dilated: a resnet, mobilenet_v2, an efficientnet, tu-resnet50 ...
    output_stride: how far the encoder shrinks the image, 8 or 16 (half as accurate in space, a quarter of the time).
    width: channels of the decoder.
    aux: weight of an auxiliary loss on the features before the deepest ones, customarily 0.4; 0: none.
    """
    checked_stride(output_stride, (8, 16))
    width = _checked_width(width)

    def make() -> nn.Module:
        return smp.DeepLabV3(
            encoder,
            encoder_weights=None,
            encoder_output_stride=output_stride,
            decoder_channels=width,
            classes=num_classes,
        )

    return encoded(encoder, num_classes, make, aux=aux, hint=DILATED)


def deeplabv3_plus(
    num_classes: int, *, encoder: str = "mobilenet_v2", output_stride: int = 16, width: int = 256, aux: float = 0.0
) -> nn.Module:
    """DeepLabV3+ (Chen et al. 2018): DeepLabV3 with separable convolutions and a decoder that adds detail of stride 4.

    encoder: name of the encoder, one that can be dilated: a resnet, mobilenet_v2, an efficientnet, tu-resnet50 ...
    output_stride: how far the encoder shrinks the image, 8 or 16.
    width: channels of the decoder.
    aux: weight of an auxiliary loss on the features before the deepest ones, customarily 0.4; 0: none.
    """
    checked_stride(output_stride, (8, 16))
    width = _checked_width(width)

    def make() -> nn.Module:
        return smp.DeepLabV3Plus(
            encoder,
            encoder_weights=None,
            encoder_output_stride=output_stride,
            decoder_channels=width,
            classes=num_classes,
        )

    return encoded(encoder, num_classes, make, aux=aux, hint=DILATED)


def upernet(num_classes: int, *, encoder: str = "mobilenet_v2", width: int = 256, aux: float = 0.0) -> nn.Module:
    """UPerNet (Xiao et al. 2018): a feature pyramid with the pooling of PSPNet at its top.

    encoder: name of the encoder, of segmentation_models_pytorch (resnet34, mobilenet_v2, ...) or of timm with `tu-` before it.
    width: channels of the decoder.
    aux: weight of an auxiliary loss on the features before the deepest ones, customarily 0.4; 0: none.
    """
    width = _checked_width(width)

    def make() -> nn.Module:
        network = smp.UPerNet(encoder, encoder_weights=None, decoder_channels=width, classes=num_classes)
        return _with_exportable_pools(network)

    return encoded(encoder, num_classes, make, aux=aux)


def segformer(num_classes: int, *, encoder: str = "mit_b0", width: int = 256) -> nn.Module:
    """SegFormer (Xie et al. 2021): features of all levels through one linear layer each; its own encoders are mit_b0 to mit_b5.

    encoder: name of the encoder; mit_b0 to mit_b5 as in the paper, or any other of segmentation_models_pytorch or timm (`tu-`).
    width: channels of the decoder; 256 in the paper for mit_b0 and mit_b1, 768 for the larger ones.
    """
    width = _checked_width(width)
    return encoded(
        encoder,
        num_classes,
        lambda: smp.Segformer(encoder, encoder_weights=None, decoder_segmentation_channels=width, classes=num_classes),
    )


def _checked_width(width: int, multiple: int = 1, least: int = 8) -> int:
    if width < least or width % multiple:
        of = f" and a multiple of {multiple}" if multiple > 1 else ""
        raise RecipeError(f"the width of this network must be at least {least}{of}, not {width}")
    return width


class ExportablePool(nn.AdaptiveAvgPool2d):
    """Average over a grid of parts; while it is traced for export as two products with fixed matrices.

    ONNX has no such pooling where the parts are not equally large. The size of the features is fixed in the exported file.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not torch.jit.is_tracing():  # type: ignore[attr-defined]
            return super().forward(input)
        rows, columns = self.output_size if isinstance(self.output_size, tuple) else (self.output_size,) * 2
        down = _shares(int(input.shape[-2]), int(rows or 1)).to(input)
        across = _shares(int(input.shape[-1]), int(columns or 1)).to(input)
        return down @ input @ across.T


class ExportableBlock(PSPBlock):
    """The same computation for training and export; the library's own takes another way in export, which cannot be traced."""

    def forward(self, x: Tensor) -> Tensor:
        return interpolate(self.pool(x), size=x.shape[-2:], mode="bilinear", align_corners=True)


def _shares(size: int, parts: int) -> Tensor:
    """Matrix (parts, size): what each of `size` values contributes to the average of each part."""
    return adaptive_avg_pool2d(torch.eye(size)[None], (parts, size))[0]


def _with_exportable_pools(module: nn.Module) -> nn.Module:
    for layer in module.modules():
        if type(layer) is nn.AdaptiveAvgPool2d and layer.output_size not in (1, (1, 1)):
            layer.__class__ = ExportablePool
        elif type(layer) is PSPBlock:
            layer.__class__ = ExportableBlock
    return module
