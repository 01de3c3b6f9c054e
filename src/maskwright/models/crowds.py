"""torchvision's region proposals and heads that learn nothing from pixels that count nowhere: crowds, void pixels.

Targets are torchvision's, and `ignored` uint8 (H, W) of 0 and 1 for an image that has such pixels. In a batch without it
every loss is torchvision's to the bit.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus
from torchvision.models.detection.roi_heads import RoIHeads, fastrcnn_loss, project_masks_on_boxes
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.ops import box_iou

Targets = list[dict[str, Tensor]]

# Share of a box's own area. Detectron asks for 0.7 in the box around a crowd, of which the crowd's pixels fill a part.
MOSTLY = 0.5


def covered(boxes: Tensor, ignored: Tensor) -> Tensor:
    """The share of each box's own area, as far as it lies in the image, that is `ignored` (H, W): (N,).

    boxes: float (N, 4), x0, y0, x1, y1 in pixels, which are rounded; 0 for those outside the image.
    """
    height, width = ignored.shape
    sums = torch.zeros((height + 1, width + 1), dtype=torch.int64, device=ignored.device)
    sums[1:, 1:] = ignored.long().cumsum(0).cumsum(1)
    corners = boxes.round().long()
    x0, x1 = corners[:, 0].clamp(0, width), corners[:, 2].clamp(0, width)
    y0, y1 = corners[:, 1].clamp(0, height), corners[:, 3].clamp(0, height)
    inside = sums[y1, x1] - sums[y0, x1] - sums[y1, x0] + sums[y0, x0]
    return inside / ((x1 - x0) * (y1 - y0)).clamp(min=1)


class Proposals(RegionProposalNetwork):
    """Anchors without an object that lie mostly on ignored pixels are sampled neither as objects nor as background.

    The `ignore_iof_thr` of MMDetection (Chen et al. 2019), on pixels instead of boxes.
    """

    def assign_targets_to_anchors(self, anchors: list[Tensor], targets: Targets) -> tuple[list[Tensor], list[Tensor]]:
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        for label, anchor, target in zip(labels, anchors, targets, strict=True):
            if "ignored" in target:
                label[(label == 0) & (covered(anchor, target["ignored"]) >= MOSTLY)] = -1
        return labels, boxes

    def compute_loss(
        self, objectness: Tensor, pred_bbox_deltas: Tensor, labels: list[Tensor], regression_targets: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        if all(bool((label < 0).all()) for label in labels):  # a mean of nothing is no number
            return objectness.sum() * 0, pred_bbox_deltas.sum() * 0
        return super().compute_loss(objectness, pred_bbox_deltas, labels, regression_targets)


class Heads(RoIHeads):
    """Proposals without an object that lie mostly on ignored pixels are left out (`CROWD_FILTER_THRESH` of Detectron,
    Girshick et al. 2018), and masks are compared only where pixels count or are the object's own.
    """

    def select_training_samples(
        self, proposals: list[Tensor], targets: Targets
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
        beside = [self._beside(boxes, target) for boxes, target in zip(proposals, targets, strict=True)]
        return super().select_training_samples(beside, targets)

    def _beside(self, proposals: Tensor, target: dict[str, Tensor]) -> Tensor:
        """The proposals of an image that lie on an object, or not mostly on ignored pixels."""
        if "ignored" not in target:
            return proposals
        left_out = covered(proposals, target["ignored"]) >= MOSTLY
        if len(target["boxes"]):
            nearest = box_iou(target["boxes"].to(proposals), proposals).amax(0)
            left_out &= nearest < self.proposal_matcher.low_threshold
        return proposals[~left_out]

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
        targets: Targets | None = None,
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        if targets is None or not any("ignored" in target for target in targets):
            return super().forward(features, proposals, image_shapes, targets)
        proposals, matched, labels, regression = self.select_training_samples(proposals, targets)
        scores, deltas = self.box_predictor(self.box_head(self.box_roi_pool(features, proposals, image_shapes)))
        if len(scores):
            class_loss, box_loss = fastrcnn_loss(scores, deltas, labels, regression)
        else:
            class_loss, box_loss = scores.sum() * 0, deltas.sum() * 0
        positive = [torch.where(label > 0)[0] for label in labels]
        boxes = [own[chosen] for own, chosen in zip(proposals, positive, strict=True)]
        objects = [own[chosen] for own, chosen in zip(matched, positive, strict=True)]
        logits = self.mask_predictor(self.mask_head(self.mask_roi_pool(features, boxes, image_shapes)))
        losses = {"loss_classifier": class_loss, "loss_box_reg": box_loss}
        return [], {**losses, "loss_mask": mask_loss(logits, boxes, targets, objects)}


def mask_loss(logits: Tensor, boxes: list[Tensor], targets: Targets, objects: list[Tensor]) -> Tensor:
    """torchvision's mask loss over what is known of each cell: mean cross-entropy of the logits (N, C + 1, M, M).

    boxes: for each image (n, 4). objects: for each image int64 (n,), the object in each box.
    """
    if not len(logits):
        return logits.sum() * 0
    side, parts = logits.shape[-1], []
    for own, target, chosen in zip(boxes, targets, objects, strict=True):
        masks = target["masks"]
        known = masks | (1 - target["ignored"]) if "ignored" in target else torch.ones_like(masks)
        mask, known = (project_masks_on_boxes(planes, own, chosen, side) for planes in (masks, known))
        parts.append((target["labels"][chosen], mask, known))
    labels, mask, known = (torch.cat(part) for part in zip(*parts, strict=True))
    drawn = logits[torch.arange(len(labels), device=labels.device), labels]
    return (mask * softplus(-drawn) + (known - mask) * softplus(drawn)).sum() / known.sum().clamp(min=1)
