"""Mask2Former for objects: every query of the `transformers` library's network answers with a class and a mask of its own.

Images come normalised. Labels count from 1; the last row of the head stands for `nothing`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad
from torchvision.ops import roi_align

from maskwright.core.errors import RecipeError
from maskwright.models import query_losses, transformers_networks
from maskwright.models.query_losses import Settings, Targets
from maskwright.models.transformers_networks import KINDS, Own

INSIDE = 0.5  # probability from which on a pixel belongs to a query's mask
SAMPLES = 2  # of each cell of a small mask, along each side


def mask2former(
    num_classes: int,
    *,
    path: str = "",
    config: dict[str, Any] | None = None,
    mask_size: int = 112,
    score: float = 0.05,
    max_detections: int = 100,
    class_loss: float = 2.0,
    mask_loss: float = 5.0,
    dice_loss: float = 5.0,
    nothing: float = 0.1,
    points: int = 12544,
) -> nn.Module:
    """Mask2Former (Cheng et al. 2022) of the `transformers` library, trained and read for objects; needs that extra.

    Queries are matched with objects one to one. An image has as many objects at most as the configuration has queries
    (`num_queries`, 100): what is above teaches nothing and is not found.

    path: a folder with `config.json` and, where they are to be used, weights; or the name of a model on the hub.
    config: the content of such a `config.json`, instead of `path`; what a bundle stores.
    mask_size: cells of an object's mask along each side of its box; an object that is longer in pixels loses fine detail.
    score: detections below it are dropped.
    max_detections: most objects found in an image.
    class_loss: weight of this loss (which class, or nothing?), and of the class where queries are matched.
    mask_loss: weight of the cross-entropy of the masks, and of the masks where queries are matched.
    dice_loss: weight of the dice loss of the masks, the same.
    nothing: weight of the queries that found nothing in the class loss.
    points: places of a mask that are compared in training; fewer are faster and need less memory.
    """
    numbers = {name: value for name, value in locals().items() if name not in ("num_classes", "path", "config")}
    _check(numbers)
    query_losses.assignment()  # a missing package is said now and not in the first step
    found = transformers_networks.configured("mask2former", num_classes, path, config, ("mask2former",))
    kind = KINDS[found.model_type]
    network = Mask2Former(transformers_networks.built(kind, found), found, numbers)
    network.own_weights = transformers_networks.weights_beside(path, found, kind)
    return network


class Mask2Former(nn.Module):
    """forward: normalised images float (B, 3, H, W) -> for each image a dict of its objects, in pixels of the input:

        boxes float (N, 4): x0, y0, x1, y1, tight around the pixels that are more likely in the object than not
        labels int64 (N,): 1 to C     scores float (N,): 0..1, class probability times mean probability of those pixels
        masks float (N, 1, M, M): probabilities inside the box, each cell the mean of a few places in it

    With targets (for each image boxes float (N, 4), labels int64 (N,), masks (N, h, w) of 0 and 1, which may be smaller than
    the input by what it was padded right and below; where pixels count nowhere also `ignored` uint8 (h, w) of 0 and 1, see
    query_losses.py) a dict of losses, in train and in eval mode alike.

    encoder: the backbone alone. options: those that make the same network anywhere.
    """

    stride = 32
    head_names = ("head.",)

    def __init__(self, model: Any, config: Any, numbers: dict[str, Any]):
        super().__init__()
        self.encoder: nn.Module = model.model.pixel_level_module.encoder
        self.pixel_decoder: nn.Module = model.model.pixel_level_module.decoder
        self.transformer: nn.Module = model.model.transformer_module
        self.head: nn.Linear = model.class_predictor
        self.encoder_name = str(config.model_type)
        self.num_queries, self.num_classes = int(config.num_queries), int(config.num_labels)
        self.mask_size, self.score, self.most = numbers["mask_size"], numbers["score"], numbers["max_detections"]
        weighed = {name: numbers[name] for name in ("class_loss", "mask_loss", "dice_loss", "nothing", "points")}
        self.settings = Settings(
            **weighed, oversample=config.oversample_ratio, uncertain=config.importance_sample_ratio
        )
        self.every_layer = bool(config.use_auxiliary_loss)
        self.options = {"config": transformers_networks.portable(config.to_diff_dict()), **numbers}
        self.own_weights: Callable[[], Own] | None = None

    def forward(self, images: Tensor, targets: Targets | None = None) -> Any:
        if torch.jit.is_tracing():  # type: ignore[attr-defined]
            images = _of_any_size(images, self.stride)
        pixels = self.pixel_decoder(list(self.encoder(images).feature_maps))
        decoded = self.transformer(
            multi_scale_features=pixels.multi_scale_features,
            mask_features=pixels.mask_features,
            output_hidden_states=True,
        )
        answers = [
            (self.head(queries.transpose(0, 1)).float(), masks.float())
            for queries, masks in zip(decoded.intermediate_hidden_states, decoded.masks_queries_logits, strict=True)
        ]
        size = (images.shape[-2], images.shape[-1])
        with torch.autocast(images.device.type, enabled=False):  # bf16 would tell few levels of a probability apart
            if targets is not None:
                return query_losses.losses(answers if self.every_layer else answers[-1:], targets, size, self.settings)
            return [self._objects(classes, masks, size) for classes, masks in zip(*answers[-1], strict=True)]

    def _objects(self, classes: Tensor, masks: Tensor, size: tuple[int, int]) -> dict[str, Tensor]:
        """Of one image, the surest first, from class logits (Q, C + 1) and mask logits (Q, h, w) of its queries.

        The instance inference of the paper: the best pairs of a query and a class, their scores times how sure the mask is.
        """
        best = min(self.most, self.num_queries * self.num_classes)
        scores, pairs = classes.softmax(-1)[:, :-1].flatten().topk(best)
        sure = scores >= self.score  # a mask's own share only lowers a score
        scores, pairs = scores[sure], pairs[sure]
        queries = torch.div(pairs, self.num_classes, rounding_mode="floor")
        labels = pairs - queries * self.num_classes + 1
        planes = interpolate(masks[queries][:, None], size=size, mode="bilinear", align_corners=False)[:, 0].sigmoid()
        inside = (planes > INSIDE).to(planes.dtype)
        area = inside.sum((1, 2))
        scores = scores * (planes * inside).sum((1, 2)) / area.clamp(min=1)
        kept = torch.nonzero((area > 0) & (scores >= self.score)).flatten()
        order = kept[scores[kept].argsort(descending=True)]
        planes, boxes = planes[order], _boxes(inside[order])
        rois = torch.cat([torch.ones_like(boxes[:, :1]).cumsum(0) - 1, boxes], dim=1)  # each its own plane
        small = roi_align(planes[:, None], rois, self.mask_size, sampling_ratio=SAMPLES, aligned=True)
        return {"boxes": boxes, "labels": labels[order], "scores": scores[order], "masks": small}


def _of_any_size(images: Tensor, stride: int) -> Tensor:
    """The same images, of sides that an exporter does not know: of known ones the library's reference points become
    constants of float64, for which onnxruntime has no grid_sample.
    """
    height, width = images.shape[-2:]
    return pad(images, (0, -width % stride, 0, -height % stride), mode="replicate")


def _boxes(inside: Tensor) -> Tensor:
    """x0, y0, x1, y1 float (N, 4), tight around masks float (N, H, W) of 0 and 1 that hold one pixel at least."""
    sides = []
    for seen in (inside.amax(1), inside.amax(2)):  # columns, rows
        length = seen.shape[1]
        place = torch.arange(length, device=seen.device).to(seen)
        sides.append((length - (seen * (length - place)).amax(1), (seen * (place + 1)).amax(1)))
    (left, right), (top, bottom) = sides
    return torch.stack([left, top, right, bottom], dim=1)


def _check(numbers: dict[str, Any]) -> None:
    """Raises RecipeError for numbers that cannot be."""
    for name, least in (("mask_size", 2), ("max_detections", 1), ("points", 1)):
        if numbers[name] < least:
            raise RecipeError(f"{name} can be {least} or more, not {numbers[name]}")
    for name in ("class_loss", "mask_loss", "dice_loss"):
        if numbers[name] < 0:
            raise RecipeError(f"{name} can be 0 or more, not {numbers[name]:g}")
    if numbers["nothing"] <= 0:
        raise RecipeError(f"nothing can be more than 0, not {numbers['nothing']:g}")
    if not 0 <= numbers["score"] <= 1:
        raise RecipeError(f"score can be 0 to 1, not {numbers['score']:g}")
