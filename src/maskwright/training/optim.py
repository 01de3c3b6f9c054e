"""Optimisers. To add one: write the function here, add its name in `training/__init__.py`.

An optimiser is (parameter groups, *, lr, options) -> torch.optim.Optimizer; groups bring their own `weight_decay` of 0 where
nothing is to decay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn, optim
from torch.optim import Optimizer

from maskwright.core.errors import RecipeError
from maskwright.core.recipe import check_entry
from maskwright.training import OPTIMIZERS, layers

Groups = Iterable[Mapping[str, Any]]


def build(
    network: nn.Module,
    name: str,
    options: Mapping[str, Any],
    *,
    encoder: nn.Module | None = None,
    encoder_lr: float = 1.0,
    layer_lr: Mapping[str, float] | None = None,
    never: Iterable[str] = (),
) -> Optimizer:
    """The optimiser of a recipe over the parameters of a network; each group keeps its `initial_lr`.

    Biases and the scales of normalisation layers (parameters of one dimension) are not decayed.

    encoder: a part of the network whose learning rate is `encoder_lr` times that of the rest.
    layer_lr: pattern of layer names -> factor of their learning rate, whether in the encoder or not; the last that fits counts.
    never: patterns of layers that stay frozen from first to last.

    Raises RecipeError for an unknown name or option, values the optimiser refuses, and patterns that mean no layer.
    """
    check_entry(OPTIMIZERS, name, options, place="train.optimizer")
    frozen = layers.matching(network, never, "train.freeze")
    slow = {id(p) for p in encoder.parameters()} if encoder is not None else set()
    factors = {name: encoder_lr if id(p) in slow else 1.0 for name, p in network.named_parameters()}
    for pattern, factor in (layer_lr or {}).items():
        factors |= dict.fromkeys(layers.matching(network, [pattern], "train.layer_lr"), factor)
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for parameter_name, parameter in network.named_parameters():
        if parameter_name in frozen:
            continue
        decays, factor = parameter.ndim > 1, factors[parameter_name]
        rest = {} if decays else {"weight_decay": 0.0}
        groups.setdefault((factor, decays), {"params": [], "factor": factor, **rest})["params"].append(parameter)
    if not groups:
        raise RecipeError("all layers are frozen, nothing would be learnt", place="train.freeze")
    if not any(factor for factor, _ in groups):
        raise RecipeError("all factors are 0, nothing would be learnt", place="train.layer_lr")
    try:
        optimizer: Optimizer = OPTIMIZERS[name](list(groups.values()), **options)
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
    return optim.AdamW(groups, lr=lr, betas=tuple(betas), weight_decay=weight_decay, fused=True)  # type: ignore[arg-type]


def adam(
    groups: Groups, *, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), weight_decay: float = 0.0
) -> Optimizer:
    """Adam (Kingma and Ba 2015).

    lr: learning rate at its highest.
    betas: decay of the running mean of the gradient and of its square.
    weight_decay: added to the gradient times the weight; not applied to biases and normalisation.
    """
    return optim.Adam(groups, lr=lr, betas=tuple(betas), weight_decay=weight_decay, fused=True)  # type: ignore[arg-type]


def sgd(
    groups: Groups, *, lr: float = 0.01, momentum: float = 0.9, nesterov: bool = False, weight_decay: float = 1e-4
) -> Optimizer:
    """Stochastic gradient descent with momentum.

    lr: learning rate at its highest.
    momentum: share of the last step that is taken again.
    nesterov: look ahead along the momentum (Sutskever et al. 2013).
    weight_decay: added to the gradient times the weight; not applied to biases and normalisation.
    """
    return optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)  # type: ignore[arg-type]


def nag(groups: Groups, *, lr: float = 0.01, momentum: float = 0.9, weight_decay: float = 1e-4) -> Optimizer:
    """Nesterov's accelerated gradient: SGD that looks ahead along its momentum (Sutskever et al. 2013).

    lr: learning rate at its highest.
    momentum: share of the last step that is taken again, above 0.
    weight_decay: added to the gradient times the weight; not applied to biases and normalisation.
    """
    return optim.SGD(groups, lr=lr, momentum=momentum, nesterov=True, weight_decay=weight_decay)  # type: ignore[arg-type]


def rmsprop(
    groups: Groups,
    *,
    lr: float = 1e-3,
    alpha: float = 0.99,
    momentum: float = 0.0,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Optimizer:
    """RMSprop (Tieleman and Hinton 2012): each step divided by the running size of its gradient.

    lr: learning rate at its highest.
    alpha: decay of the running mean of the squared gradient; elsewhere called gamma1, rho or smoothing.
    momentum: share of the last step that is taken again; elsewhere called gamma2.
    eps: added to what is divided by; 1e-4 and more keeps small gradients small.
    weight_decay: added to the gradient times the weight; not applied to biases and normalisation.
    """
    return optim.RMSprop(groups, lr=lr, alpha=alpha, momentum=momentum, eps=eps, weight_decay=weight_decay)  # type: ignore[arg-type]


def adagrad(groups: Groups, *, lr: float = 0.01, eps: float = 1e-10, weight_decay: float = 0.0) -> Optimizer:
    """Adagrad (Duchi et al. 2011): each step divided by the size of all its gradients so far.

    lr: learning rate at its highest.
    eps: added to what is divided by.
    weight_decay: added to the gradient times the weight; not applied to biases and normalisation.
    """
    return optim.Adagrad(groups, lr=lr, eps=eps, weight_decay=weight_decay, fused=True)  # type: ignore[arg-type]


def adadelta(
    groups: Groups, *, lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0.0
) -> Optimizer:
    """Adadelta (Zeiler 2012): steps of the size that earlier steps had, without a learning rate of their own.

    lr: factor of the step, at its highest.
    rho: decay of the running means of the squared gradient and of the squared step.
    eps: added to both means; it alone sets how large the first steps are.
    weight_decay: added to the gradient times the weight; not applied to biases and normalisation.
    """
    return optim.Adadelta(groups, lr=lr, rho=rho, eps=eps, weight_decay=weight_decay)  # type: ignore[arg-type]
