"""Losses that are a mean over pixels: cross-entropies and what weighs or chooses pixels in them."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from maskwright.core.types import VOID
from maskwright.training.class_distance import to_other_class
from maskwright.training.class_weights import BETA, ClassWeights
from maskwright.training.loss_targets import (
    are_masks,
    at_label,
    by_pixel,
    factors,
    mean,
    takes_masks,
    weighted_mean,
    widened,
)
from maskwright.training.softmax import softmax

LEAST = 1e-12  # of 1 - p, whose root has no slope at 0


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    class_weights: ClassWeights = None,
    class_beta: float = BETA,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Softmax cross-entropy, the mean over all pixels of the batch.

    class_weights: [one number a class], {class: number}, inverse_frequency or effective_number (of the training
      pixels; a class without any gets 0); the mean is weighted by them.
    class_beta: beta of effective_number (Cui et al. 2019): one minus one over the pixels beyond which more of a class say
      little new.
    label_smoothing: share of the target spread evenly over all classes, 0 up to 1 (Szegedy et al. 2016).
    """
    scores, labels, counted = by_pixel(logits, targets)
    weight = factors(class_weights, scores)
    if label_smoothing:
        told = labels.where(counted, VOID)
        losses = functional.cross_entropy(
            scores, told, weight, ignore_index=VOID, label_smoothing=label_smoothing, reduction="sum"
        )
        return mean(losses, counted.sum() if weight is None else (weight[labels] * counted).sum())
    return _mean_over(-softmax(logits, targets)[1], labels, counted, weight)


@takes_masks
def bce(
    logits: Tensor,
    targets: Tensor,
    *,
    class_weights: ClassWeights = None,
    class_beta: float = BETA,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Binary cross-entropy of each class against all others (a sigmoid a channel), the mean over pixels and classes.

    class_weights: [one number a class], {class: number}, inverse_frequency or effective_number; each weighs a channel.
    class_beta: beta of effective_number (Cui et al. 2019).
    label_smoothing: share of the target that says "half", 0 up to 1.
    """
    if are_masks(targets):
        scores = widened(logits)
        truth, counted = (targets == 1).to(scores.dtype), (targets != VOID).to(scores.dtype)
        losses = functional.softplus(scores) - scores * (truth * (1 - label_smoothing) + label_smoothing / 2)
        return weighted_mean(losses, _by_channel(counted, class_weights))
    scores, labels, counts = by_pixel(logits, targets)
    weight = factors(class_weights, scores)
    weight = scores.new_ones(scores.shape[1]) if weight is None else weight
    # -log sigmoid(z) for the pixel's class and -log(1 - sigmoid(z)) for the others, which is softplus(z) [- z]
    losses = (functional.softplus(scores) - label_smoothing / 2 * scores) @ weight
    losses = losses - (1 - label_smoothing) * at_label(scores, labels) * weight[labels]
    return mean((losses * counts).sum(), counts.sum() * weight.sum())


@takes_masks
def focal(
    logits: Tensor,
    targets: Tensor,
    *,
    gamma: float = 2.0,
    class_weights: ClassWeights = None,
    class_beta: float = BETA,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Focal loss (Lin et al. 2017): cross-entropy times (1 - p)^gamma, p the probability of the truth; the mean over pixels.

    Softmax where a pixel has one class; the paper's sigmoids, a mean over pixels and classes, where classes overlap.

    gamma: how much less a pixel counts that is right already; 0 is cross-entropy.
    class_weights: [one number a class], {class: number}, inverse_frequency or effective_number; the paper's alpha.
    class_beta: beta of effective_number (Cui et al. 2019).
    label_smoothing: share of the target spread evenly, 0 up to 1.
    """
    if are_masks(targets):
        scores = widened(logits)
        counted = (targets != VOID).to(scores.dtype)
        share = (targets == 1).to(scores.dtype) * (1 - label_smoothing) + label_smoothing / 2
        losses = share * _focused(functional.logsigmoid(scores), gamma)
        losses = losses + (1 - share) * _focused(functional.logsigmoid(-scores), gamma)
        return weighted_mean(losses, _by_channel(counted, class_weights))
    scores, labels, counts = by_pixel(logits, targets)
    logs = scores.log_softmax(1)
    losses = (1 - label_smoothing) * _focused(at_label(logs, labels), gamma)
    if label_smoothing:
        losses = losses + label_smoothing * _focused(logs, gamma).mean(1)
    return _mean_over(losses, labels, counts, factors(class_weights, scores))


def ohem(
    logits: Tensor,
    targets: Tensor,
    *,
    threshold: float = 0.7,
    min_kept: float = 0.0625,
    class_weights: ClassWeights = None,
    class_beta: float = BETA,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Cross-entropy of the hard pixels only (online hard example mining, Shrivastava et al. 2016), their mean.

    Pixels whose own class has a probability below `threshold` are hard; when they are fewer than `min_kept`, the hardest
    of the batch count up to that share (and all that are as hard as the easiest of them).

    threshold: probability below which a pixel counts; 0: the hardest share and nothing else.
    min_kept: share of the batch's pixels that counts at least.
    class_weights: [one number a class], {class: number}, inverse_frequency or effective_number; they do not choose pixels.
    class_beta: beta of effective_number (Cui et al. 2019).
    label_smoothing: share of the target spread evenly over all classes, 0 up to 1.
    """
    scores, labels, counted = by_pixel(logits, targets)
    logs = scores.log_softmax(1)
    own = at_label(logs, labels)
    losses = -own if not label_smoothing else -(1 - label_smoothing) * own - label_smoothing * logs.mean(1)
    with torch.no_grad():
        hardness = (-own).where(counted, -1)
        at_least = math.ceil(min_kept * int(counted.sum()))
        kept = counted & (hardness > (-math.log(threshold) if threshold else math.inf))
        if at_least > int(kept.sum()):
            kept = counted & (hardness >= hardness.topk(at_least).values[-1])
    return _mean_over(losses, labels, kept, factors(class_weights, scores))


@takes_masks
def boundary(
    logits: Tensor,
    targets: Tensor,
    *,
    strength: float = 10.0,
    width: float = 5.0,
    class_weights: ClassWeights = None,
    class_beta: float = BETA,
) -> Tensor:
    """Cross-entropy that counts pixels near the borders of classes more (Ronneberger et al. 2015, U-Net), a weighted mean.

    A pixel weighs 1 + strength * exp(-d^2 / (2 width^2)), d the distance to the nearest pixel of another class, through
    VOID if need be. It has a minimum at the truth and trains by itself. Where classes overlap: a sigmoid and a border each.

    strength: how much more a pixel at a border counts.
    width: how far from a border that reaches (one standard deviation), in pixels of the network's size.
    class_weights: [one number a class], {class: number}, inverse_frequency or effective_number.
    class_beta: beta of effective_number (Cui et al. 2019).
    """
    squared = to_other_class(targets.flatten(0, -3), reach=math.ceil(3 * width)).reshape(targets.shape)
    weight = 1 + strength * torch.exp(-squared.to(widened(logits).dtype) / (2 * width**2))
    if are_masks(targets):
        scores = widened(logits)
        losses = functional.softplus(scores) - scores * (targets == 1).to(scores.dtype)
        return weighted_mean(losses, _by_channel(weight * (targets != VOID), class_weights))
    scores, labels, counted = by_pixel(logits, targets)
    losses = functional.cross_entropy(scores, labels, reduction="none")
    share = weight.reshape(-1) * counted
    by_class = factors(class_weights, scores)
    share = share if by_class is None else share * by_class[labels]
    return mean((losses * share).sum(), share.sum())


def _focused(logs: Tensor, gamma: float) -> Tensor:
    """-(1 - p)^gamma log p of log p."""
    return -((-torch.expm1(logs)).clamp(min=LEAST) ** gamma) * logs


def _mean_over(losses: Tensor, labels: Tensor, counted: Tensor, weight: Tensor | None) -> Tensor:
    """The mean of losses (N,) over the pixels that count, by the weights of their classes."""
    share = counted.to(losses.dtype) if weight is None else counted * weight[labels]
    return mean((losses * share).sum(), share.sum())


def _by_channel(shares: Tensor, class_weights: ClassWeights) -> Tensor:
    """Shares (B, C, H, W) times the weight of their channel."""
    weight = factors(class_weights, shares)
    return shares if weight is None else shares * weight[:, None, None]
