"""What the loop trains on at a time: tensors over memory that workers filled."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch


@dataclass(frozen=True)
class Batch:
    """images: uint8 (B, 3, H, W) in channels_last memory. targets: uint8 (B, H, W) of class indices and VOID, masks
    (B, C, H, W) of 0, 1 and VOID, or layers (B, P, H, W) of object numbers as in tasks/instance.py.

    ids: of the records, in this order. The tensors are the caller's for as long as they are kept.
    others: of a batch that `mixup` mixed: the targets of the images that weigh 1 - `share` in it.
    tables: with layers, what their object numbers are: uint8 (B, P, 256), classes from 1; 0 where there is no object.
    """

    images: torch.Tensor
    targets: torch.Tensor
    ids: tuple[str, ...]
    others: torch.Tensor | None = None
    share: float = 1.0
    tables: torch.Tensor | None = None


def stacked(arrays: tuple[np.ndarray, ...], ids: tuple[str, ...], share: float, *, tables: bool) -> Batch:
    """A batch of arrays as samples have them: images uint8 (B, H, W, 3), targets, and maybe tables or other targets."""
    images, targets, *third = map(torch.from_numpy, arrays)
    batch = Batch(images.permute(0, 3, 1, 2), targets, ids)
    if not third:
        return batch
    return replace(batch, tables=third[0]) if tables else replace(batch, others=third[0], share=share)


def lay(arrays: tuple[np.ndarray, ...], row: int, sample: tuple[np.ndarray, ...]) -> None:
    """Writes a sample into a row of a batch's images, targets and, where there are any, tables or other targets."""
    for array, part in zip(arrays, sample):
        array[row] = part
