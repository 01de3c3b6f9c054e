"""What the loop trains on at a time: tensors over memory that workers filled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch


@dataclass(frozen=True)
class Batch:
    """images: uint8 (B, 3, H, W) in channels_last memory. targets: uint8 (B, H, W) of class indices and VOID, or masks
    (B, C, H, W) of 0, 1 and VOID.

    ids: of the records, in this order. The tensors are the caller's for as long as they are kept.
    others: of a batch that `mixup` mixed: the targets of the images that weigh 1 - `share` in it.
    """

    images: torch.Tensor
    targets: torch.Tensor
    ids: tuple[str, ...]
    others: torch.Tensor | None = None
    share: float = 1.0


def stacked(
    images: np.ndarray, targets: np.ndarray, ids: tuple[str, ...], others: np.ndarray | None, share: float
) -> Batch:
    second = None if others is None else torch.from_numpy(others)
    return Batch(torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(targets), ids, second, share)


def lay(arrays: tuple[np.ndarray | None, ...], row: int, sample: tuple[np.ndarray, ...]) -> None:
    """Writes a sample into a row of a batch's images, targets and, where it is mixed, other targets."""
    for array, part in zip(arrays, sample):
        assert array is not None
        array[row] = part
