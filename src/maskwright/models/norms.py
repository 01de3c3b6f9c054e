"""BatchNorm layers whose statistics stay as they are, for batches too small to have statistics of their own."""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def freeze_statistics(module: nn.Module) -> int:
    """Makes every BatchNorm layer of a module use and keep its running statistics for good, also after `.train()`.

    Their weights and biases go on learning. Returns the number of layers. A layer without running statistics is left out.
    """
    found = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    for layer in found:
        if not isinstance(layer, Frozen):
            layer.__class__ = _frozen(type(layer))  # type: ignore[arg-type]
        layer.eval()
    return len(found)


class Frozen(nn.Module):
    """A layer that `.train()` leaves in eval mode."""

    def train(self, mode: bool = True) -> Any:
        return super().train(False)


@cache
def _frozen(kind: type[_BatchNorm]) -> type[_BatchNorm]:
    """The same layer, frozen; libraries have layers of their own below torch's (timm's include the activation)."""
    return type(f"Frozen{kind.__name__}", (Frozen, kind), {})
