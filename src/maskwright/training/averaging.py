"""The running average of the weights (EMA): smoother than the weights that are trained, and used instead of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Average:
    """Exponential moving average of a module's parameters and buffers (Polyak and Juditsky 1992).

    decay: share of the average that stays in each update, once it is warm: min(decay, (1 + n) / (10 + n)) at update n, so
      that the average is not held back by the first, untrained weights.

    Statistics of normalisation layers are averaged like weights, since they belong to them; whole numbers are copied.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.module, self.decay = module, decay
        self._held = {name: tensor.detach().clone() for name, tensor in self._own().items()}

    @torch.no_grad()
    def update(self, number: int) -> None:
        """Moves towards the module as it is now. number: of this update, from 1."""
        share = 1 - min(self.decay, (1 + number) / (10 + number))
        own = self._own()
        floating = [name for name, held in self._held.items() if held.is_floating_point()]
        torch._foreach_lerp_([self._held[n] for n in floating], [own[n].detach() for n in floating], share)
        for name, held in self._held.items():
            if not held.is_floating_point():
                held.copy_(own[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside the block the module has the averaged weights; afterwards its own again, bit for bit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _own(self) -> dict[str, Tensor]:
        """The module's tensors, those that two layers share once."""
        kept = self.module.state_dict().keys()
        own = {**dict(self.module.named_parameters()), **dict(self.module.named_buffers())}
        return {name: tensor for name, tensor in own.items() if name in kept}

    @torch.no_grad()
    def _swap(self) -> None:
        own = self._own()
        for name, held in self._held.items():
            self._held[name], own[name].data = own[name].data, held

    def state_dict(self) -> dict[str, Tensor]:
        return dict(self._held)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises KeyError or RuntimeError when `state` is of another module."""
        for name, held in self._held.items():
            held.copy_(state[name])
