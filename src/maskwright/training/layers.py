"""Layers by name and by depth: which parameters a recipe means, and what it is to keep layers as they are.

A pattern is a name as `encoder.layer1` (and all that is below it) or has `*`, `?` and `[...]` as file names do. The depth of an
encoder's layer is the stage it works in: stage k has one place for every 2^k pixels, along both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from math import log2
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from maskwright.core.errors import RecipeError
from maskwright.models import encoders

IN_WORDS = {  # what a stage's `layers` leave as it is
    "heads": "encoder",
    **{f"{stage}+": f"encoder at strides below {2**stage}" for stage in (3, 4, 5)},
}
LOOK = (64, 160)  # height and width of the image that measures depths: sides that no number of channels resembles
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


def below(network: nn.Module, layers: str, place: str) -> tuple[str, ...]:
    """Names of the encoder's layers that `layers`, a word of IN_WORDS, keeps as they are.

    Raises RecipeError where it keeps none, or all of them.
    """
    if layers == "heads":
        return ("encoder",)
    least, found = int(layers.removesuffix("+")), depths(network)
    kept = tuple(name for name, stage in found.items() if stage < least)
    stride = 2**least
    if not kept:
        raise RecipeError(
            f"no layer of the encoder works at a stride below {stride}", place=place, hint="`all` is the same"
        )
    if len(kept) == len(found):
        what = f"no layer of the encoder works at a stride of {stride} or more"
        raise RecipeError(what, place=place, hint="`heads` keeps the whole encoder as it is")
    return kept


def depths(network: nn.Module) -> dict[str, int]:
    """Names of the layers of a network's encoder, together all of its parameters -> the stages they work in.

    Measured on a small image. A block that halves its input belongs as a whole to the stage it ends in, as in matterport's
    Mask R-CNN, whose `3+` is all from res3 on. What has no place in the image goes with the layer defined before it; position
    embeddings, which come first, are in stage 0.
    """
    encoder: nn.Module = network.encoder  # type: ignore[assignment]
    side = getattr(network, "only_size", None) or encoders.only_size(str(getattr(network, "encoder_name", "")))
    strides = _strides(encoder, (side, side) if side else LOOK)
    found: dict[str, int] = {}
    stage = 0
    for name, _ in encoder.named_parameters():
        parts = name.split(".")
        above = [".".join(parts[:count]) for count in range(1, len(parts))]
        layer = next((n for n in above if n in strides and (n == above[-1] or _is_block(*strides[n]))), None)
        after = strides[layer][1] if layer else None
        whole = layer is not None and (layer != above[-1] or not any(encoder.get_submodule(layer).children()))
        stage = round(log2(after)) if after else stage
        found[f"encoder.{layer if whole else name}"] = stage
    return found


def _is_block(before: float | None, after: float | None) -> bool:
    return before is not None and after is not None and before <= after <= 2 * before


@torch.no_grad()
def _strides(encoder: nn.Module, size: tuple[int, int]) -> dict[str, tuple[float | None, float | None]]:
    """Layers that are called -> pixels of the image for each place in what they are given and in what they give."""
    found: dict[str, tuple[float | None, float | None]] = {}
    modes = [(module, module.training) for module in encoder.modules()]

    def look(name: str) -> Any:
        def hook(module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
            found.setdefault(name, (_stride(given, size), _stride(made, size)))

        return hook

    hooks = [module.register_forward_hook(look(name)) for name, module in encoder.named_modules() if name]
    try:
        encoder.eval()(torch.zeros(1, 3, *size, device=next(encoder.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in modes:
            module.training = mode
    return found


def _stride(value: Any, size: tuple[int, int]) -> float | None:
    """Of a map (B, C, h, w) or (B, h, w, C) or a row of places (B, h * w, C), alone or with numbers that are no maps."""
    maps = [one for one in (value if isinstance(value, tuple) else (value,)) if isinstance(one, Tensor)]
    if len(maps) != 1:
        return None
    height, width = size
    shape = maps[0].shape
    for h, w in [shape[2:], shape[1:3]] if len(shape) == 4 else []:
        if h > 1 and w > 1 and h * width == w * height:
            return height / h
    return (height * width / shape[1]) ** 0.5 if len(shape) == 3 and shape[1] > 1 else None


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
