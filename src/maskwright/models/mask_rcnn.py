"""Mask R-CNN on a feature pyramid of any encoder: torchvision's region proposals and heads, our encoders and options.

Images come fitted and normalised: nothing is resized or normalised a second time. Labels count from 1, 0 is background.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal
from unittest import mock

import torch
from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign, poolers
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from maskwright.core.errors import RecipeError
from maskwright.models import encoders
from maskwright.models.crowds import Heads, Proposals

LEVELS = (
    "4",
    "8",
    "16",
    "32",
)  # strides of the encoder's features that the pyramid takes; one more is pooled from the last
LOSSES = {  # torchvision's names of the five losses: ours, which are also the options that weigh them
    "loss_objectness": "rpn_class_loss",
    "loss_rpn_box_reg": "rpn_bbox_loss",
    "loss_classifier": "class_loss",
    "loss_box_reg": "bbox_loss",
    "loss_mask": "mask_loss",
}
Targets = list[dict[str, Tensor]]


def mask_rcnn(
    num_classes: int,
    *,
    encoder: str = "mobilenet_v2",
    heads: Literal["v1", "v2"] = "v1",
    channels: int = 256,
    anchors: tuple[int, ...] = (32, 64, 128, 256, 512),
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0),
    rpn_batch: int = 256,
    rpn_positive: float = 0.5,
    rpn_nms: float = 0.7,
    pre_nms: int = 1000,
    pre_nms_test: int = 1000,
    post_nms: int = 500,
    post_nms_test: int = 1000,
    rois: int = 128,
    roi_positive: float = 0.25,
    score: float = 0.05,
    nms: float = 0.5,
    max_detections: int = 100,
    mask_size: int = 28,
    rpn_class_loss: float = 1.0,
    rpn_bbox_loss: float = 1.0,
    class_loss: float = 1.0,
    bbox_loss: float = 1.0,
    mask_loss: float = 1.0,
) -> nn.Module:
    """Mask R-CNN (He et al. 2017) on a feature pyramid (Lin et al. 2017).

    encoder: name of the encoder, of segmentation_models_pytorch (resnet50, mobilenet_v2, ...) or of timm with `tu-` before it.
    heads: v1 as in the paper; v2 with more convolutions and BatchNorm (Li et al. 2021, "Benchmarking Detection Transfer").
    channels: of the pyramid; 256 in the paper, fewer are faster.
    anchors: sides of the anchor boxes, in pixels of the network's input, one for each of the five pyramid levels.
    ratios: heights over widths of the anchor boxes.
    rpn_batch: anchors of an image that train the region proposals.
    rpn_positive: largest share of them that lies on objects.
    rpn_nms: intersection over union from which the weaker of two proposals is dropped (RPN NMS threshold).
    pre_nms: best proposals of each level kept before that, in training (torchvision: 2000).
    pre_nms_test: the same in prediction.
    post_nms: proposals kept after that, in training (torchvision: 2000).
    post_nms_test: the same in prediction.
    rois: proposals of an image that train the heads (matterport: 200, torchvision: 512); 128 take a third of the time of 512 on
      a CPU and are enough for about thirty objects an image.
    roi_positive: largest share of them that lies on objects (matterport: 0.33).
    score: detections below it are dropped (matterport: 0.7).
    nms: intersection over union from which the weaker of two detections of a class is dropped (matterport: 0.3).
    max_detections: most objects found in an image.
    mask_size: side of an object's mask as the network draws it, in pixels; an even number.
    rpn_class_loss: weight of this loss (is there an object?).
    rpn_bbox_loss: weight of this loss (the proposals' boxes).
    class_loss: weight of this loss (which class?).
    bbox_loss: weight of this loss (the objects' boxes).
    mask_loss: weight of this loss (the objects' masks).
    """
    options = dict(locals())
    _check(options)
    built = encoders.build(encoder, lambda: get_encoder(encoder, weights=None))
    taken: list[int] = list(built.out_channels)[-len(LEVELS) :]  # type: ignore[arg-type]
    norm = nn.BatchNorm2d if heads == "v2" else None
    pyramid = FeaturePyramidNetwork(taken, channels, extra_blocks=LastLevelMaxPool(), norm_layer=norm)
    rpn = Proposals(
        _Anchors(tuple((side,) for side in anchors), (tuple(ratios),) * len(anchors)),
        _ProposalHead(channels, len(ratios), conv_depth=2 if heads == "v2" else 1),
        fg_iou_thresh=0.7,
        bg_iou_thresh=0.3,
        batch_size_per_image=rpn_batch,
        positive_fraction=rpn_positive,
        pre_nms_top_n={"training": pre_nms, "testing": pre_nms_test},
        post_nms_top_n={"training": post_nms, "testing": post_nms_test},
        nms_thresh=rpn_nms,
    )
    roi_heads = Heads(
        Pool(list(LEVELS), output_size=7, sampling_ratio=2),
        _box_head(heads, channels),
        _BoxPredictor(1024, num_classes + 1),
        fg_iou_thresh=0.5,
        bg_iou_thresh=0.5,
        batch_size_per_image=rois,
        positive_fraction=roi_positive,
        bbox_reg_weights=None,
        score_thresh=score,
        nms_thresh=nms,
        detections_per_img=max_detections,
        mask_roi_pool=Pool(list(LEVELS), output_size=mask_size // 2, sampling_ratio=2),
        mask_head=MaskRCNNHeads(channels, (256,) * 4, 1, norm_layer=norm),
        mask_predictor=_MaskPredictor(256, 256, num_classes + 1),
    )
    weights = {name: float(options[ours]) for name, ours in LOSSES.items()}
    return MaskRcnn(built, pyramid, rpn, roi_heads, encoder, weights)


class Pool(MultiScaleRoIAlign):
    """torchvision's, which in a trace puts the regions of each level into place number by number, a third of the network's time
    in onnxruntime; here they move as a whole.
    """

    def forward(self, *given: Any) -> Tensor:
        if not torch.jit.is_tracing():  # type: ignore[attr-defined]
            return super().forward(*given)
        with mock.patch.object(poolers, "_onnx_merge_levels", _merged):
            return super().forward(*given)


def _merged(levels: Tensor, pooled: list[Tensor]) -> Tensor:
    """Regions (R, C, h, w) in the order of their boxes. levels: (R,), of each box; pooled: the regions, level by level."""
    order = torch.cat([torch.where(levels == level)[0] for level in range(len(pooled))])
    places = torch.zeros_like(order).scatter(0, order, torch.ones_like(order).cumsum(0) - 1)
    return torch.cat(pooled)[places]


class MaskRcnn(nn.Module):
    """forward: normalised images float (B, 3, H, W) -> for each image a dict of its objects, in pixels of the input:

        boxes float (N, 4): x0, y0, x1, y1     labels int64 (N,): 1 to C     scores float (N,): 0..1
        masks float (N, 1, M, M): probabilities inside the box

    With targets (for each image boxes float (N, 4), labels int64 (N,), masks (N, H, W) of 0 and 1; where there are pixels
    that count nowhere, also `ignored` uint8 (H, W) of 0 and 1, see crowds.py) a dict of losses, in train and in eval mode
    alike.
    """

    stride = 32
    head_names = ("roi_heads.box_predictor.", "roi_heads.mask_predictor.mask_fcn_logits.")
    background_row = True

    def __init__(
        self,
        encoder: nn.Module,
        pyramid: FeaturePyramidNetwork,
        rpn: Proposals,
        roi_heads: Heads,
        encoder_name: str,
        loss_weights: dict[str, float],
    ):
        super().__init__()
        self.encoder, self.pyramid = encoder, pyramid
        self.rpn, self.roi_heads = rpn, roi_heads
        self.encoder_name, self.loss_weights = encoder_name, loss_weights

    def forward(self, images: Tensor, targets: Targets | None = None) -> Any:
        features = self.pyramid(OrderedDict(zip(LEVELS, self.encoder(images)[-len(LEVELS) :], strict=True)))
        height, width = images.shape[-2:]
        listed = ImageList(images, [(height, width)] * len(images))
        with _computing_losses(self.rpn, self.roi_heads, on=targets is not None):
            proposals, first = self.rpn(listed, features, targets)
            found, second = self.roi_heads(features, proposals, listed.image_sizes, targets)
        if targets is None:
            return found
        losses = {**first, **second}
        return {ours: self.loss_weights[name] * losses[name] for name, ours in LOSSES.items()}


# Boxes, anchors and indices are float32 whatever the layers compute in: bf16 has steps of 2 pixels from 256 on.


class _Anchors(AnchorGenerator):
    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        super().set_cell_anchors(torch.float32, device)


class _ProposalHead(RPNHead):
    def forward(self, features: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        objectness, deltas = super().forward(features)
        return [each.float() for each in objectness], [each.float() for each in deltas]


class _BoxPredictor(FastRCNNPredictor):
    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        scores, deltas = super().forward(features)
        return scores.float(), deltas.float()


class _MaskPredictor(MaskRCNNPredictor):
    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = super().forward(features)
        return logits.float()


@contextmanager
def _computing_losses(*parts: nn.Module, on: bool) -> Iterator[None]:
    """torchvision's parts compute losses when their own flag says training; their layers stay in the mode they are in."""
    before = [part.training for part in parts]
    for part in parts:
        part.training = on
    try:
        yield
    finally:
        for part, mode in zip(parts, before, strict=True):
            part.training = mode


def _box_head(heads: str, channels: int) -> nn.Module:
    if heads == "v1":
        return TwoMLPHead(channels * 7 * 7, 1024)
    return FastRCNNConvFCHead((channels, 7, 7), [256] * 4, [1024], norm_layer=nn.BatchNorm2d)


def _check(options: dict[str, Any]) -> None:
    """Raises RecipeError for numbers that cannot be."""
    levels = len(LEVELS) + 1
    if len(options["anchors"]) != levels or min(options["anchors"]) < 1:
        raise RecipeError(f"`anchors` are {levels} sides in pixels, one for each level, as (32, 64, 128, 256, 512)")
    if not options["ratios"] or min(options["ratios"]) <= 0:
        raise RecipeError("`ratios` are heights over widths, as (0.5, 1, 2)")
    if options["mask_size"] < 2 or options["mask_size"] % 2:
        raise RecipeError(f"mask_size must be an even number of pixels, not {options['mask_size']}", hint="28 is usual")
    shares = ("rpn_positive", "rpn_nms", "roi_positive", "score", "nms")
    _between(options, shares, 0.0, 1.0)
    counts = ("channels", "rpn_batch", "pre_nms", "pre_nms_test", "post_nms", "post_nms_test", "rois", "max_detections")
    _between(options, counts, 1, None)
    _between(options, tuple(LOSSES.values()), 0.0, None)


def _between(options: dict[str, Any], names: Sequence[str], low: float, high: float | None) -> None:
    for name in names:
        value = options[name]
        if value < low or (high is not None and value > high):
            reach = f"{low:g} to {high:g}" if high is not None else f"{low:g} or more"
            raise RecipeError(f"{name} can be {reach}, not {value:g}")
