"""U-Net around any encoder of segmentation_models_pytorch or timm: the default network; and its denser sibling."""

from __future__ import annotations

import segmentation_models_pytorch as smp
from torch import nn

from maskwright.core.errors import RecipeError
from maskwright.models.encoded import encoded

ATTENTION = {"none": None, "scse": "scse"}
SCSE_WIDTH = 16  # channels are squeezed to a sixteenth


def unet(
    num_classes: int, *, encoder: str = "mobilenet_v2", width: int = 16, depth: int = 5, attention: str = "none"
) -> nn.Module:
    """U-Net (Ronneberger et al. 2015) with a classification network as its encoder.

    encoder: name of the encoder, of segmentation_models_pytorch (resnet34, mobilenet_v2, ...) or of timm with `tu-` before it.
    width: channels of the decoder at full resolution; each level below has twice as many.
    depth: how many times the encoder halves the image, 3 to 5.
    attention: none, or scse (squeeze and excitation in the decoder, Roy et al. 2018).
    """
    return _unet(smp.Unet, num_classes, encoder, width, depth, attention)


def unet_plus_plus(
    num_classes: int, *, encoder: str = "mobilenet_v2", width: int = 16, depth: int = 5, attention: str = "none"
) -> nn.Module:
    """U-Net++ (Zhou et al. 2018): a U-Net whose skips are dense chains of convolutions; slower, sharper on small things.

    encoder: name of the encoder, of segmentation_models_pytorch (resnet34, mobilenet_v2, ...) or of timm with `tu-` before it;
      those without features at half resolution (mit_b0, tu-convnext_tiny) cannot be used.
    width: channels of the decoder at full resolution; each level below has twice as many.
    depth: how many times the encoder halves the image, 3 to 5.
    attention: none, or scse (squeeze and excitation in the decoder, Roy et al. 2018).
    """
    return _unet(smp.UnetPlusPlus, num_classes, encoder, width, depth, attention)


def _unet(kind: type[nn.Module], num_classes: int, encoder: str, width: int, depth: int, attention: str) -> nn.Module:
    if attention not in ATTENTION:
        raise RecipeError(f"attention can be `none` or `scse`, not `{attention}`")
    if not 3 <= depth <= 5 or width < 1:
        raise RecipeError(f"a U-Net needs a depth of 3 to 5 and a width of at least 1, not {depth} and {width}")
    if attention == "scse" and width < SCSE_WIDTH:
        raise RecipeError(f"attention `scse` needs a width of at least {SCSE_WIDTH}, not {width}")
    return encoded(
        encoder,
        num_classes,
        lambda: kind(
            encoder,
            encoder_depth=depth,
            encoder_weights=None,
            decoder_channels=[width * 2**level for level in reversed(range(depth))],
            decoder_attention_type=ATTENTION[attention],
            classes=num_classes,
        ),
    )
