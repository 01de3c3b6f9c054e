"""Where and how the arithmetic runs: device, precision, memory layout, seeds. Nothing else asks how many GPUs there are."""

from __future__ import annotations

import contextlib
import random
import resource
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from maskwright.core.errors import SetupError


@dataclass(frozen=True)
class Device:
    """A device with the precision of its training arithmetic. reason: one clause on why these."""

    device: torch.device
    dtype: torch.dtype | None  # of autocast; None = fp32 throughout
    channels_last: bool
    reason: str

    @property
    def name(self) -> str:
        return str(self.device)

    @property
    def precision(self) -> str:
        return {None: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16"}[self.dtype]

    def autocast(self) -> AbstractContextManager[object]:
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """Scales the loss under fp16; does nothing otherwise."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)

    def layout(self, images: torch.Tensor) -> torch.Tensor:
        return images.contiguous(memory_format=torch.channels_last) if self.channels_last else images.contiguous()

    def place(self, module: nn.Module) -> nn.Module:
        module = module.to(self.device)
        return module.to(memory_format=torch.channels_last) if self.channels_last else module

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def peak_memory_gb(self) -> float:
        """GB (10^9 bytes): the most that torch held on a CUDA device, the most that this process held elsewhere."""
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device) / 1e9
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def choose(device: str = "auto", precision: str = "auto") -> Device:
    """CUDA before MPS before CPU; bf16 with channels_last where the device computes it faster.

    Raises SetupError for a device or a precision that is not to be had.
    """
    chosen, why = _device(device)
    if precision == "auto":
        fast = _fast_bf16(chosen)
        dtype = torch.bfloat16 if fast else torch.float16 if chosen.type == "cuda" else None
        why += f", {'bf16' if dtype is torch.bfloat16 else 'fp16' if dtype else 'fp32'}"
        why += f" ({fast})" if fast else " (no fast bf16 here)"
    else:
        dtype = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        if dtype is torch.float16 and chosen.type == "cpu":
            raise SetupError("fp16 needs a GPU", place="train.precision", hint="use bf16 or fp32")
        why += f", {precision} (asked for)"
    return Device(chosen, dtype, dtype is not None or chosen.type == "cuda", why)


def is_out_of_memory(error: BaseException) -> bool:
    """True for what torch and Python raise when memory runs out, on any device."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text or "not enough memory" in text)


def seed_everything(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  (for libraries that use the global state)
    torch.manual_seed(seed)


def _device(device: str) -> tuple[torch.device, str]:
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), torch.cuda.get_device_name(0)
        if torch.backends.mps.is_available():
            return torch.device("mps"), "Apple GPU"
        return torch.device("cpu"), f"CPU, {torch.get_num_threads()} threads"
    try:
        chosen = torch.device(device)
    except RuntimeError as error:
        raise SetupError(f"no device is called `{device}`", place="train.device", hint="auto, cpu, cuda, cuda:1 or mps") from error
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(chosen.type, False) or (chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count()):
        raise SetupError(f"`{device}` is not on this machine", place="train.device", hint="use train.device=auto")
    return chosen, f"{chosen} (asked for)"


def _fast_bf16(device: torch.device) -> str:
    """Why bf16 gains on this device; empty where it does not."""
    if device.type == "cuda":
        return "tensor cores" if torch.cuda.get_device_capability(device) >= (8, 0) else ""
    if device.type == "cpu":
        flags = _cpu_flags()
        return " and ".join(f for f in ("amx_bf16", "avx512_bf16") if f in flags)
    return ""


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.partition(":")[2] for line in lines if line.startswith("flags")), "").split())
