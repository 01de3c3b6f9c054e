"""The shelf of networks. To add one: write `name(num_classes, *, options) -> nn.Module` in a file here, add its line to MODELS.

A network takes normalised images float (B, 3, H, W), H and W multiples of its `stride`, and returns logits float
(B, C, H, W). Besides `forward` it has these attributes, which the rest of the house relies on:

    stride: int                   H and W must be multiples of it
    encoder: nn.Module            what pretrained weights go into
    encoder_name: str             under which name a library knows that encoder; weight files are looked up by it
    head_names: tuple[str, ...]   beginnings of the state-dict keys whose rows are classes

and, only where it needs them, `normalization: str` (the one input scale it works with, see `segmenter.NORMALIZATIONS`),
`absorb_normalization(mean, std)` (make weights for another scale fit that one) and `sliced_weights = True` (wider
pretrained layers are cut to their first channels).
"""

from maskwright.core.registry import Registry

MODELS: Registry = Registry(
    "model",
    {
        "unet": "maskwright.models.unet:unet",
        "lens": "maskwright.models.lens:lens",
        "lraspp": "maskwright.models.lraspp:lraspp",
    },
)
