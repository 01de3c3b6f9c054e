"""Optimisers and learning-rate schedules. To add one: write the function here, add its name in `training/__init__.py`.

An optimiser is (parameter groups, *, lr, options) -> torch.optim.Optimizer. A schedule is (progress, *, options) -> factor
of the learning rate, progress running from 0 (first step) to 1 (after the last): a pure function, so that a resumed
training needs nothing but its step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from maskwright.core.errors import RecipeError
from maskwright.core.recipe import check_entry
from maskwright.training import OPTIMIZERS, SCHEDULES

Schedule = Callable[[float], float]
Groups = Iterable[Mapping[str, Any]]


def build(
    network: nn.Module,
    name: str,
    options: Mapping[str, Any],
    *,
    encoder: nn.Module | None = None,
    encoder_lr: float = 1.0,
) -> Optimizer:
    """The optimiser of a recipe over the trainable parameters of a network; each group keeps its `initial_lr`.

    Biases and the scales of normalisation layers (parameters of one dimension) are not decayed.

    encoder: a part of the network whose learning rate is `encoder_lr` times that of the rest.

    Raises RecipeError for an unknown name or option and for values the optimiser refuses.
    """
    trained = [p for p in network.parameters() if p.requires_grad]
    slow = {id(p) for p in encoder.parameters()} if encoder is not None else set()
    groups: list[dict[str, Any]] = []
    for factor, part in (
        (1.0, [p for p in trained if id(p) not in slow]),
        (encoder_lr, [p for p in trained if id(p) in slow]),
    ):
        groups.append({"params": [p for p in part if p.ndim > 1], "factor": factor})
        groups.append({"params": [p for p in part if p.ndim <= 1], "factor": factor, "weight_decay": 0.0})
    groups = [group for group in groups if group["params"]]
    check_entry(OPTIMIZERS, name, options, place="train.optimizer")
    try:
        optimizer: Optimizer = OPTIMIZERS[name](groups, **options)
    except (ValueError, TypeError) as error:
        raise RecipeError(f"{str(error)[:1].lower()}{str(error)[1:]}", place=f"train.optimizer: {name}") from error
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = group["lr"] * group["factor"]
    return optimizer


def adamw(
    groups: Groups, *, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), weight_decay: float = 0.01
) -> Optimizer:
    """AdamW (Loshchilov and Hutter 2019): Adam with decoupled weight decay.

    lr: learning rate at its highest.
    betas: decay of the running mean of the gradient and of its square.
    weight_decay: share of the learning rate by which weights shrink each step; not applied to biases and normalisation.
    """
    return torch.optim.AdamW(list(groups), lr=lr, betas=tuple(betas), weight_decay=weight_decay)  # type: ignore[arg-type]


def sgd(
    groups: Groups, *, lr: float = 0.01, momentum: float = 0.9, nesterov: bool = True, weight_decay: float = 1e-4
) -> Optimizer:
    """Stochastic gradient descent with momentum.

    lr: learning rate at its highest.
    momentum: share of the last step that is taken again.
    nesterov: look ahead along the momentum (Sutskever et al. 2013).
    weight_decay: added to the gradient times the weight; not applied to biases and normalisation.
    """
    nesterov = nesterov and momentum > 0
    return torch.optim.SGD(list(groups), lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)  # type: ignore[arg-type]


def schedule(name: str, options: Mapping[str, Any]) -> Schedule:
    """The schedule of a recipe: progress 0..1 -> factor. Raises RecipeError for an unknown name or option."""
    check_entry(SCHEDULES, name, options, place="train.schedule")
    return partial(SCHEDULES[name], **options)


def warmed_up(shape: Schedule, step: int, total_steps: int, warmup_steps: int = 0) -> float:
    """The factor at a step (from 0): rises in equal parts over the warm-up, then follows `shape` over the steps left."""
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    return shape(min(1.0, (step - warmup_steps) / max(1, total_steps - warmup_steps)))


def cosine(progress: float, *, final: float = 0.0) -> float:
    """Half a cosine down to `final` (Loshchilov and Hutter 2017).

    final: factor at the end.
    """
    return final + (1 - final) * (1 + math.cos(math.pi * progress)) / 2


def poly(progress: float, *, power: float = 0.9, final: float = 0.0) -> float:
    """(1 - progress) ** power, as DeepLab trains (Chen et al. 2017).

    power: above 1 falls early, below 1 late.
    final: factor at the end.
    """
    return final + (1 - final) * (1 - progress) ** power


def constant(progress: float) -> float:
    """The same learning rate throughout."""
    return 1.0
