"""Layers by name: which parameters a pattern of a recipe means, and what it is to keep layers as they are.

A pattern is a name as `encoder.layer1` (and all that is below it) or has `*`, `?` and `[...]` as file names do.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from maskwright.core.errors import RecipeError

MOST_NAMES = 8  # layers that a hint lists


def is_meant(name: str, pattern: str) -> bool:
    """Whether a pattern means the layer or parameter of that name, by itself or as part of one above it."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def matching(network: nn.Module, patterns: Iterable[str], place: str) -> set[str]:
    """Names of the parameters that the patterns mean. Raises RecipeError for a pattern that means none."""
    names = [name for name, _ in network.named_parameters()]
    found: set[str] = set()
    for pattern in patterns:
        meant = {name for name in names if is_meant(name, pattern)}
        if not meant:
            what = f"`{pattern}` is no layer of this network"
            raise RecipeError(what, place=place, hint=_near(network, pattern))
        found |= meant
    return found


def freeze(network: nn.Module, patterns: Sequence[str], place: str) -> None:
    """Only parameters that no pattern means are trained from now on. Raises RecipeError when that leaves none."""
    frozen = matching(network, patterns, place)
    if frozen and len(frozen) == sum(1 for _ in network.parameters()):
        raise RecipeError("all layers are frozen, nothing would be learnt", place=place)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name not in frozen)


def batch_norms(network: nn.Module) -> dict[str, _BatchNorm]:
    """The layers that measure statistics of each batch, by name."""
    return {name: module for name, module in network.named_modules() if isinstance(module, _BatchNorm)}


def hold_statistics(network: nn.Module) -> None:
    """The BatchNorm layers whose scales are frozen use and keep the statistics they have, until the next `.train()`."""
    for norm in batch_norms(network).values():
        if norm.affine and not norm.weight.requires_grad:
            norm.eval()


def _near(network: nn.Module, pattern: str) -> str:
    layers = [name for name, _ in network.named_modules() if name]
    near = get_close_matches(pattern.rstrip("*").rstrip("."), layers, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(f"`{name}`" for name in near) + "?"
    outer = [name for name in layers if name.count(".") < 2]
    listed = sorted(outer, key=lambda name: name.count("."))[:MOST_NAMES]
    return (
        "its layers are " + ", ".join(f"`{name}`" for name in listed) + (", ..." if len(listed) < len(layers) else "")
    )
