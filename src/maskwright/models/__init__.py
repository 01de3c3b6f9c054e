"""The shelf of networks. To add one: write `name(num_classes, *, options) -> nn.Module` in a file here, add its line to MODELS.

A network takes normalised images float (B, 3, H, W), H and W multiples of its `stride`, and returns logits float
(B, C, H, W). Besides `forward` it has these attributes, which the rest of the house relies on:

    stride: int                   H and W must be multiples of it
    encoder: nn.Module            what pretrained weights go into
    encoder_name: str             under which name a library knows that encoder; weight files are looked up by it
    head_names: tuple[str, ...]   beginnings of the state-dict keys whose rows are classes

and, only where it needs them, `normalization: str` (the one input scale it works with, see `segmenter.NORMALIZATIONS`),
`absorb_normalization(mean, std)` (make weights for another scale fit that one), `sliced_weights = True` (wider
pretrained layers are cut to their first channels), `implied_background = True` (class 0 has no channel of its own),
`aux_weight: float` (in train mode it returns a tuple: logits and auxiliary logits of any size, whose loss counts this
much), `own_weights()` (what it brings itself, see `transformers_networks`) and `options` (those that build it again on any
machine, where the recipe's would not).

INSTANCE_MODELS are those of `task: instance`. Their forward takes targets as well and answers with losses or objects, see
`mask_rcnn.MaskRcnn`; they have the same attributes, and `background_row = True` where the rows of their heads are those of the
background and then those of the classes (otherwise a last one may stand for `nothing`).
"""

from maskwright.core.registry import Registry

MODELS: Registry = Registry(
    "model",
    {
        "unet": "maskwright.models.unet:unet",
        "lens": "maskwright.models.lens:lens",
        "lraspp": "maskwright.models.lraspp:lraspp",
        "unet++": "maskwright.models.unet:unet_plus_plus",
        "fpn": "maskwright.models.pyramids:fpn",
        "pspnet": "maskwright.models.pyramids:pspnet",
        "deeplabv3": "maskwright.models.pyramids:deeplabv3",
        "deeplabv3+": "maskwright.models.pyramids:deeplabv3_plus",
        "upernet": "maskwright.models.pyramids:upernet",
        "segformer": "maskwright.models.pyramids:segformer",
        "fcn8s": "maskwright.models.fcn:fcn8s",
        "fcn16s": "maskwright.models.fcn:fcn16s",
        "fcn32s": "maskwright.models.fcn:fcn32s",
        "residual_unet": "maskwright.models.residual_unet:residual_unet",
        "fcn_resnet50": "maskwright.models.torchvision_networks:fcn_resnet50",
        "fcn_resnet101": "maskwright.models.torchvision_networks:fcn_resnet101",
        "deeplabv3_resnet50": "maskwright.models.torchvision_networks:deeplabv3_resnet50",
        "deeplabv3_resnet101": "maskwright.models.torchvision_networks:deeplabv3_resnet101",
        "lraspp_mobilenet_v3_large": "maskwright.models.torchvision_networks:lraspp_mobilenet_v3_large",
        "transformers": "maskwright.models.transformers_networks:transformers",
    },
)
INSTANCE_MODELS: Registry = Registry(
    "object_model",
    {
        "mask_rcnn": "maskwright.models.mask_rcnn:mask_rcnn",
        "mask2former": "maskwright.models.query_instances:mask2former",
    },
)
OF_TASK = {"semantic": MODELS, "instance": INSTANCE_MODELS}
