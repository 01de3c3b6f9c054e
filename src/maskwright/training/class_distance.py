"""Distances between classes on label maps, in torch and without a loop over pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from maskwright.core.types import VOID

FAR = 1 << 14  # pixels; its square still fits int32


def to_other_class(labels: Tensor, *, reach: int) -> Tensor:
    """From each pixel to the nearest one of another class, squared, int32 (N, H, W), in pixels, exact up to `reach`.

    labels: whole numbers (N, H, W). VOID is no class: distances go through it, and its own pixels get those of any class.
    Farther than `reach` (and where there is no other class) it is FAR ** 2.

    Row by row, the nearest pixel of any class and the nearest of another class than that one are enough to know the
    nearest pixel that differs from any label; then one pass a row offset (the separable distance transform of
    Felzenszwalb and Huttenlocher 2012, by brute force, as `reach` is small).
    """
    labels = labels.to(torch.int32)
    first, near, far = _in_row(labels)
    near, far = (torch.where(d > reach, FAR, d) ** 2 for d in (near, far))
    rows = labels.shape[-2]
    best = torch.where(first != labels, near, far)
    for offset in range(1, min(reach, rows - 1) + 1):
        for here, there in (
            (slice(offset, None), slice(None, -offset)),
            (slice(None, -offset), slice(offset, None)),
        ):
            others = torch.where(first[:, there] != labels[:, here], near[:, there], far[:, there])
            torch.minimum(best[:, here], others.add_(offset * offset), out=best[:, here])
    return torch.where(best > reach * reach, FAR * FAR, best)


def _in_row(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each pixel, in its row: the label of the nearest pixel that is not VOID (itself, mostly), the distance to it,
    and the distance to the nearest pixel of yet another class. int32 (N, H, W) each; FAR where there is none."""
    left, left_near, left_far = _from_left(labels)
    right, right_near, right_far = (part.flip(-1) for part in _from_left(labels.flip(-1)))
    leftwards = left_near <= right_near
    first, second = torch.where(leftwards, left, right), torch.where(leftwards, right, left)
    near = torch.minimum(left_near, right_near)
    own_far, other_near = torch.where(leftwards, left_far, right_far), torch.maximum(left_near, right_near)
    other_far = torch.where(leftwards, right_far, left_far)
    return first, near, torch.minimum(own_far, torch.where(second != first, other_near, other_far))


def _from_left(labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As `_in_row`, looking only at the pixel itself and to its left."""
    columns = torch.arange(labels.shape[-1], device=labels.device, dtype=torch.int64).expand(labels.shape)
    last = torch.where(labels != VOID, columns, -1).cummax(-1).values  # the nearest pixel that is not VOID
    first = torch.where(last >= 0, labels.gather(-1, last.clamp(min=0)), VOID)
    before = torch.nn.functional.pad(last[..., :-1], (1, 0), value=-1)  # the nearest one further left
    old = torch.where(before >= 0, labels.gather(-1, before.clamp(min=0)), VOID)
    changed = (old != first) & (before >= 0)
    other = torch.where(changed, before, -1).cummax(-1).values
    near = torch.where(last >= 0, columns - last, FAR).to(torch.int32)
    return first, near, torch.where(other >= 0, columns - other, FAR).to(torch.int32)
