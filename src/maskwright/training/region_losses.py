"""Losses that score whole areas: overlaps of truth and answer, pooled over the batch, averaged over the classes present in it.

p is the softmax (the sigmoid where there is one class only, or where classes overlap), t one where the pixel has the class.
A class that is absent from the truth of a batch does not count there.
"""

from __future__ import annotations

import torch
from torch import Tensor

from maskwright.core.types import VOID
from maskwright.training.class_weights import BETA, ClassWeights
from maskwright.training.loss_targets import are_masks, at_label, by_pixel, factors, mean, takes_masks, widened
from maskwright.training.softmax import softmax

SMOOTH = 1.0  # pixels, above and below the fraction bar


@takes_masks
def dice(logits: Tensor, targets: Tensor, *, class_weights: ClassWeights = None, class_beta: float = BETA) -> Tensor:
    """Soft Dice (Milletari et al. 2016, V-Net), pooled over the batch and averaged over the classes present in it.

    1 - (2 sum(p t) + 1) / (sum(p) + sum(t) + 1) a class. The sums in the denominator are plain ones (V-Net squares p).

    class_weights: [one number a class], {class: number}, inverse_frequency or effective_number, in the average of classes.
    class_beta: beta of effective_number (Cui et al. 2019).
    """
    return _overlap(logits, targets, 0.5, 0.5, SMOOTH / 2, class_weights)


@takes_masks
def jaccard(logits: Tensor, targets: Tensor, *, class_weights: ClassWeights = None, class_beta: float = BETA) -> Tensor:
    """One minus the soft mean IoU (Rahman and Wang 2016), pooled over the batch, over the classes present in it.

    1 - (sum(p t) + 1) / (sum(p) + sum(t) - sum(p t) + 1) a class: a number at every logit, whatever is absent or VOID.

    class_weights: [one number a class], {class: number}, inverse_frequency or effective_number, in the average of classes.
    class_beta: beta of effective_number (Cui et al. 2019).
    """
    return _overlap(logits, targets, 1.0, 1.0, SMOOTH, class_weights)


@takes_masks
def tversky(
    logits: Tensor,
    targets: Tensor,
    *,
    alpha: float = 0.3,
    beta: float = 0.7,
    class_weights: ClassWeights = None,
    class_beta: float = BETA,
) -> Tensor:
    """Tversky loss (Salehi et al. 2017): an overlap in which missing and inventing pixels cost differently.

    1 - (hits + 1) / (hits + alpha * invented + beta * missed + 1) a class; 0.5 and 0.5 is Dice, 1 and 1 Jaccard.

    alpha: cost of a pixel that is claimed and not true.
    beta: cost of a true pixel that is missed; above alpha, small objects are found rather than overlooked.
    class_weights: [one number a class], {class: number}, inverse_frequency or effective_number, in the average of classes.
    class_beta: beta of effective_number (Cui et al. 2019).
    """
    return _overlap(logits, targets, alpha, beta, SMOOTH, class_weights)


def lovasz(logits: Tensor, targets: Tensor, *, class_weights: ClassWeights = None, class_beta: float = BETA) -> Tensor:
    """Lovasz-softmax (Berman et al. 2018): the IoU's convex extension, over the batch and the classes present in it.

    class_weights: [one number a class], {class: number}, inverse_frequency or effective_number, in the average of classes.
    class_beta: beta of effective_number (Cui et al. 2019).
    """
    scores, labels, counted = by_pixel(logits, targets)
    scores, labels = scores[counted], labels[counted]
    shares = scores.softmax(1) if scores.shape[1] > 1 else scores.sigmoid()
    sizes = torch.bincount(labels, minlength=scores.shape[1])
    present = sizes.nonzero()[:, 0].tolist()
    if not present:
        return (widened(logits) * 0).sum()
    losses = []
    for index in present:
        truth = labels == index
        errors = (truth.to(shares.dtype) - shares[:, index]).abs()
        losses.append((errors * _lovasz_slopes(errors.detach(), truth, int(sizes[index]))).sum())
    weight = factors(class_weights, shares)
    kept = shares.new_ones(len(present)) if weight is None else weight[present]
    return mean((torch.stack(losses) * kept).sum(), kept.sum())


def _overlap(
    logits: Tensor, targets: Tensor, alpha: float, beta: float, smooth: float, class_weights: ClassWeights
) -> Tensor:
    """1 - (hits + smooth) / (hits + alpha invented + beta missed + smooth), the mean over the classes present."""
    hits, claimed, truth = _mask_sums(logits, targets) if are_masks(targets) else _label_sums(logits, targets)
    invented, missed = (claimed - hits).clamp(min=0), (truth - hits).clamp(min=0)  # rounding may say less
    wrong = alpha * invented + beta * missed
    losses = wrong / (hits + wrong + smooth)
    present = (truth > 0).to(losses.dtype)
    weight = factors(class_weights, losses)
    kept = present if weight is None else present * weight
    return mean((losses * kept).sum(), kept.sum())


def _label_sums(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sum(p t), sum(p) and sum(t) of each class, (C,); row by row first, so that float32 sums stay exact enough."""
    scores, labels, counts = by_pixel(logits, targets)
    num_classes, counted = scores.shape[1], counts.to(scores.dtype)
    shares = softmax(logits, targets)[0] if num_classes > 1 else scores.sigmoid()
    rows, width = targets.shape[0] * targets.shape[1], targets.shape[2]

    def per_class(values: Tensor) -> Tensor:
        sums = values.new_zeros(rows, num_classes)
        return sums.scatter_add(1, labels.reshape(rows, width), values.reshape(rows, width)).sum(0)

    claimed = torch.bmm(counted.view(rows, 1, width), shares.reshape(rows, width, num_classes)).sum((0, 1))
    return per_class(at_label(shares, labels) * counted), claimed, per_class(counted)


def _mask_sums(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """sum(p t), sum(p) and sum(t) of each class, (C,), p the sigmoid of its own channel."""
    shares = widened(logits).sigmoid()
    truth = (targets == 1).to(shares.dtype)
    claimed = shares * (targets != VOID)
    return (shares * truth).sum(3).sum((0, 2)), claimed.sum(3).sum((0, 2)), truth.sum(3).sum((0, 2))


def _lovasz_slopes(errors: Tensor, truth: Tensor, size: int) -> Tensor:
    """What one more unit of error at each pixel (N,) adds to the loss of a class that has `size` true pixels.

    By falling error, the k-th pixel adds what it adds to the Jaccard loss of the set of the first k (Berman et al., algorithm
    1): 1 / union for a true pixel, left / (union * (union - 1)) for another one, `left` being the true pixels not yet seen.
    """
    whole = torch.int64 if errors.dtype == torch.float64 else torch.int32
    # the bits of floats from 0 order as whole numbers do, and whole numbers in rising order sort ten times as fast
    order = (torch.iinfo(whole).max - errors.view(whole)).sort().indices
    seen = truth[order]
    hits = seen.cumsum(0)
    rank = torch.arange(1, len(order) + 1, device=order.device)
    union, left = (size + rank - hits).to(errors.dtype), (size - hits).to(errors.dtype)
    slopes = torch.where(seen, 1 / union, left / (union * (union - 1).clamp(min=1)))
    return torch.empty_like(errors).scatter_(0, order, slopes)
