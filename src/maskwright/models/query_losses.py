"""What a network of queries learns from: each object is matched with one query, whose class and mask are then compared to it.

The losses of Cheng et al. 2022, "Masked-attention Mask Transformer": masks are compared at random points, most of them where
the network is unsure (Kirillov et al. 2020, "PointRend"). All sizes below: B images, Q queries, C classes, N objects, P points.

Pixels that count nowhere (crowds, void) teach nothing: no point there is compared, but for those of an object's own mask, and
a query without an object whose mask lies mostly there is not told that it found nothing. Points that fall there are not
drawn again elsewhere, and the network's attention sees those pixels like any others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import (
    adaptive_avg_pool2d,
    binary_cross_entropy_with_logits,
    cross_entropy,
    grid_sample,
    pad,
    softplus,
)

from maskwright.core.errors import SetupError
from maskwright.models.crowds import MOSTLY

Targets = list[dict[str, Tensor]]
Answer = tuple[Tensor, Tensor]  # class logits (B, Q, C + 1), the last for `nothing`, and mask logits (B, Q, h, w)
Pairs = tuple[Tensor, Tensor]  # int64 (M,) each: queries, and the objects they were matched with
NOT_TOLD = -100  # the class that cross_entropy leaves out


@dataclass(frozen=True)
class Settings:
    """class_loss, mask_loss, dice_loss: weights, in the losses and in the costs of matching. nothing: weight of the queries
    without an object. points: of a mask. oversample: so many times more are drawn, of which the least sure are taken, for
    `uncertain` of the points; the others lie anywhere."""

    class_loss: float = 2.0
    mask_loss: float = 5.0
    dice_loss: float = 5.0
    nothing: float = 0.1
    points: int = 12544
    oversample: float = 3.0
    uncertain: float = 0.75


def losses(answers: Sequence[Answer], targets: Targets, size: tuple[int, int], settings: Settings) -> dict[str, Tensor]:
    """The weighted losses class_loss, mask_loss and dice_loss, summed over the answers of a network's layers, the last first.

    targets: for each image labels int64 (N,), 1 to C, and masks (N, H, W) of 0 and 1, which may end before the input of
    `size` does: what was padded right and below is compared to nothing. Where pixels count nowhere, also `ignored` uint8
    (H, W) of 0 and 1.
    """
    total: dict[str, Tensor] = {}
    for classes, masks in (answers[-1], *answers[:-1]):
        pairs = [matched(classes[i], masks[i], target, size, settings) for i, target in enumerate(targets)]
        found = {"class_loss": _class_loss(classes, masks, targets, pairs, size, settings.nothing)}
        found |= _mask_losses(masks, targets, pairs, size, settings)
        for name, value in found.items():
            total[name] = total.get(name, 0.0) + getattr(settings, name) * value
    return total


@torch.no_grad()
def matched(
    classes: Tensor, masks: Tensor, target: dict[str, Tensor], size: tuple[int, int], settings: Settings
) -> Pairs:
    """The queries of one image (classes (Q, C + 1), masks (Q, h, w)) and the objects they stand for, at the least cost of all.

    Where there are more objects than queries, the costliest stay without one.
    """
    labels = target["labels"] - 1
    points = torch.rand(1, settings.points, 2, device=masks.device)
    if "ignored" in target:
        points = points[:, _at(target["ignored"][None].to(masks), points)[0] < 0.5]
    truth = _at(target["masks"].to(masks), points)
    drawn = _at(masks, points * _share(target, size, points))
    costs = {
        "class_loss": -classes.softmax(-1)[:, labels],
        "mask_loss": (softplus(-drawn) @ truth.T + softplus(drawn) @ (1 - truth).T) / max(1, points.shape[1]),
        "dice_loss": _dice(drawn.sigmoid() @ truth.T, drawn.sigmoid().sum(-1)[:, None], truth.sum(-1)),
    }
    cost = sum(getattr(settings, name) * value for name, value in costs.items())
    largest = torch.finfo(torch.float32).max  # the loop, not the matching, finds numbers that are none
    rows, columns = assignment()(torch.nan_to_num(cost, largest, largest, largest).cpu().numpy())
    return torch.as_tensor(rows, device=masks.device), torch.as_tensor(columns, device=masks.device)


def assignment() -> Any:
    """scipy's solver of the assignment problem. Raises SetupError where scipy is not installed."""
    try:
        from scipy.optimize import linear_sum_assignment
    except ModuleNotFoundError as error:
        hint = "install it with: pip install 'maskwright[transformers]'"
        raise SetupError("model `mask2former` needs `scipy`, which is not installed", hint=hint) from error
    return linear_sum_assignment


def _class_loss(
    classes: Tensor,
    masks: Tensor,
    targets: Targets,
    pairs: Sequence[Pairs],
    size: tuple[int, int],
    nothing: float,
) -> Tensor:
    wanted = torch.full(classes.shape[:2], classes.shape[2] - 1, dtype=torch.int64, device=classes.device)
    for row, own, target, (queries, objects) in zip(wanted, masks, targets, pairs, strict=True):
        if "ignored" in target:
            row[_on_ignored(own, target["ignored"], size)] = NOT_TOLD
        row[queries] = target["labels"][objects] - 1
    if any("ignored" in target for target in targets) and bool((wanted == NOT_TOLD).all()):
        return classes.sum() * 0.0  # a mean of nothing is no number
    weights = torch.ones(classes.shape[2], device=classes.device)
    weights[-1] = nothing
    return cross_entropy(classes.flatten(0, 1), wanted.flatten(), weights, ignore_index=NOT_TOLD)


@torch.no_grad()
def _on_ignored(masks: Tensor, ignored: Tensor, size: tuple[int, int]) -> Tensor:
    """Which masks, logits (Q, h, w), lie mostly on ignored pixels (H, W): bool (Q,). A mask without a pixel does not."""
    right, below = size[1] - ignored.shape[1], size[0] - ignored.shape[0]
    share = adaptive_avg_pool2d(pad(ignored.to(masks), (0, right, 0, below))[None], (masks.shape[1], masks.shape[2]))
    inside = (masks > 0).to(masks)
    area = inside.sum((1, 2))
    return (area > 0) & ((inside * share).sum((1, 2)) >= MOSTLY * area)


def _mask_losses(
    masks: Tensor, targets: Targets, pairs: Sequence[Pairs], size: tuple[int, int], settings: Settings
) -> dict[str, Tensor]:
    """Means over the objects of a batch; 0 where it has none."""
    drawn = torch.cat([masks[i, queries] for i, (queries, _) in enumerate(pairs)])
    if not len(drawn):
        return {"mask_loss": masks.sum() * 0.0, "dice_loss": masks.sum() * 0.0}
    truth = torch.cat([t["masks"][objects] for t, (_, objects) in zip(targets, pairs, strict=True)]).to(masks)
    share = torch.cat([_share(t, size, masks).expand(len(q), 1, 2) for t, (q, _) in zip(targets, pairs, strict=True)])
    with torch.no_grad():
        points = _unsure(drawn, share, settings)
        truth = _at(truth, points)
        known = _known(targets, pairs, points)
    logits = _at(drawn, points * share)
    number = max(1, sum(len(target["labels"]) for target in targets))
    likely, apart = logits.sigmoid(), binary_cross_entropy_with_logits(logits, truth, reduction="none")
    if known is None:
        mean = apart.mean(1)
    else:
        mean = (apart * known).sum(1) / known.sum(1).clamp(min=1)
        likely, truth = likely * known, truth * known
    return {
        "mask_loss": mean.sum() / number,
        "dice_loss": _dice((likely * truth).sum(-1), likely.sum(-1), truth.sum(-1)).sum() / number,
    }


def _known(targets: Targets, pairs: Sequence[Pairs], points: Tensor) -> Tensor | None:
    """1 for each of the points (M, P, 2) that counts or is the object's own, else 0: (M, P). None where all count."""
    if not any("ignored" in target for target in targets):
        return None
    found = []
    for target, (_, objects), own in zip(targets, pairs, points.split([len(q) for q, _ in pairs]), strict=True):
        if "ignored" not in target:
            found.append(torch.ones_like(own[..., 0]))
            continue
        unknown = target["ignored"] & (1 - target["masks"][objects])
        found.append((_at(unknown.to(own), own) < 0.5).to(own))
    return torch.cat(found)


def _unsure(logits: Tensor, share: Tensor, settings: Settings) -> Tensor:
    """Points (M, P, 2) of masks (M, h, w), most of them where a logit is near 0."""
    certain = settings.points - int(settings.uncertain * settings.points)
    many = max(settings.points, int(settings.oversample * settings.points))
    points = torch.rand(len(logits), many, 2, device=logits.device)
    nearest = _at(logits, points * share).abs().neg().topk(settings.points - certain, dim=1)[1]
    chosen = points.gather(1, nearest[..., None].expand(-1, -1, 2))
    return torch.cat([chosen, torch.rand(len(logits), certain, 2, device=logits.device)], dim=1)


def _at(planes: Tensor, points: Tensor) -> Tensor:
    """Values (N, P) of planes (N, h, w) at points (N or 1, P, 2): x, y, from 0 to 1 across the plane, bilinear."""
    places = 2 * points.expand(len(planes), -1, -1) - 1
    return grid_sample(planes[:, None], places[:, :, None], align_corners=False)[:, 0, :, 0]


def _share(target: dict[str, Tensor], size: tuple[int, int], like: Tensor) -> Tensor:
    """How far an image reaches into the input it was padded to: (1, 1, 2), of its width and its height."""
    height, width = target["masks"].shape[-2:]
    return torch.tensor([[[width / size[1], height / size[0]]]], device=like.device)


def _dice(shared: Tensor, first: Tensor, second: Tensor) -> Tensor:
    """1 - Dice, of the sums of a product and of its two factors."""
    return 1 - (2 * shared + 1) / (first + second + 1)
