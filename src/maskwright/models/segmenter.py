"""The wrapper around a bare network that the rest of the house sees: pixels 0..255 of any size in, losses or logits out.

    segmenter(images, targets) -> dict of losses, in train and in eval mode
    segmenter(images)          -> logits float32 (B, C, H, W)

A network that answers with a second, auxiliary set of logits in train mode has one more loss, `aux`.

images: float32 (B, 3, H, W), 0..255; targets: int64 (B, H, W), class indices and VOID.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad
from torch.nn.modules.batchnorm import _BatchNorm

from maskwright.core.errors import ModelError
from maskwright.core.registry import suggestion

Criterion = Callable[[Tensor, Tensor], dict[str, Tensor]]

NORMALIZATIONS: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    # name: mean and std of the three colours, for pixels 0..255
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "inception": ((127.5, 127.5, 127.5), (127.5, 127.5, 127.5)),
    "unit": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
    "clip": ((122.77094, 116.74601, 104.09374), (68.50049, 66.63222, 70.32316)),
    "dpn": ((124.0, 117.0, 104.0), (59.88024, 59.88024, 59.88024)),
}


def wrap(network: nn.Module, normalization: str = "imagenet", criterion: Criterion | None = None) -> Segmenter:
    """The network with one of NORMALIZATIONS before it. Raises ModelError for another name."""
    mean, std = normalization_of(normalization)
    return Segmenter(network, mean=mean, std=std, criterion=criterion)


def normalization_of(name: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and std of the three colours, for pixels 0..255. Raises ModelError for another name than NORMALIZATIONS has."""
    if name not in NORMALIZATIONS:
        hint = suggestion(name, NORMALIZATIONS)
        raise ModelError(f"no normalization is called `{name}`", hint=hint)
    return NORMALIZATIONS[name]


def normalization_named(mean: Sequence[float], std: Sequence[float], tolerance: float = 0.5) -> str | None:
    """The name of a mean and a std for pixels 0..255, or None when they are no known ones."""
    for name, known in NORMALIZATIONS.items():
        if all(abs(a - b) <= tolerance for a, b in zip([*mean, *std], [*known[0], *known[1]], strict=True)):
            return name
    return None


class Segmenter(nn.Module):
    """Normalises, pads right and bottom to the network's stride by repeating the border, and crops the logits back.

    mean, std: for pixels 0..255; kept in the state dict, so that saved weights know their scale.
    stride: what height and width are padded to a multiple of; the network's own by default.
    criterion: (logits, targets) -> dict of losses; needed as soon as targets are given.

    A BatchNorm layer in train mode that gets a single value per channel (batch of one, features of 1 x 1) has no variance
    to measure: it uses its running statistics for that step and leaves them as they are.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        network: nn.Module,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        stride: int | None = None,
        criterion: Criterion | None = None,
    ):
        super().__init__()
        self.network = network
        self.stride = int(network.stride if stride is None else stride)  # type: ignore[arg-type]
        self.criterion = criterion
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(1, 3, 1, 1))
        for module in network.modules():
            if isinstance(module, _BatchNorm) and not isinstance(module, nn.SyncBatchNorm):
                module.register_forward_pre_hook(_spare_single_values)
                module.register_forward_hook(_resume_training)

    def forward(self, images: Tensor, targets: Tensor | None = None) -> Any:
        height, width = images.shape[-2:]
        inputs = self._padded((images - self.mean) / self.std)
        output = self.network(inputs)
        logits, auxiliary = output if isinstance(output, tuple) else (output, None)
        logits = logits[..., :height, :width].float()
        if targets is None:
            return logits
        assert self.criterion is not None, "a segmenter needs its criterion before it can give losses"
        losses = self.criterion(logits, targets)
        if auxiliary is None:
            return losses
        auxiliary = interpolate(auxiliary.float(), size=inputs.shape[-2:], mode="bilinear", align_corners=False)
        second = self.criterion(auxiliary[..., :height, :width], targets)
        return {**losses, "aux": float(self.network.aux_weight) * torch.stack(list(second.values())).sum()}  # type: ignore[arg-type]

    def _padded(self, images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        below, right = -height % self.stride, -width % self.stride
        # a traced size is no number that could be asked
        traced = torch.jit.is_tracing()  # type: ignore[attr-defined]
        if not traced and not (below or right):
            return images
        return pad(images, (0, right, 0, below), mode="replicate")


def _spare_single_values(norm: _BatchNorm, inputs: tuple[Tensor, ...]) -> None:
    if norm.training and inputs[0].numel() == inputs[0].shape[1]:
        norm.eval()
        norm.__dict__["resumes_training"] = True


def _resume_training(norm: _BatchNorm, inputs: Any, output: Any) -> None:
    if norm.__dict__.pop("resumes_training", False):
        norm.train()
