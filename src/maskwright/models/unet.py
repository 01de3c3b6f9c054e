"""U-Net around any encoder of segmentation_models_pytorch or timm: the default network."""

from __future__ import annotations

import segmentation_models_pytorch as smp
from torch import nn

from maskwright.core.errors import RecipeError
from maskwright.models import encoders

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
    if attention not in ATTENTION:
        raise RecipeError(f"attention can be `none` or `scse`, not `{attention}`")
    if not 3 <= depth <= 5 or width < 1:
        raise RecipeError(f"a U-Net needs a depth of 3 to 5 and a width of at least 1, not {depth} and {width}")
    if attention == "scse" and width < SCSE_WIDTH:
        raise RecipeError(f"attention `scse` needs a width of at least {SCSE_WIDTH}, not {width}")
    network = encoders.build(
        encoder,
        lambda: smp.Unet(
            encoder,
            encoder_depth=depth,
            encoder_weights=None,
            decoder_channels=[width * 2**level for level in reversed(range(depth))],
            decoder_attention_type=ATTENTION[attention],
            classes=num_classes,
        ),
    )
    network.stride = int(network.encoder.output_stride)  # type: ignore[union-attr,arg-type,assignment]
    network.encoder_name = encoder  # type: ignore[assignment]
    network.head_names = ("segmentation_head.",)  # type: ignore[assignment]
    return network
