"""Choosing a device and a precision, and telling memory errors from others."""

import errno
import sys

import numpy as np
import pytest
import torch

from maskwright.core import events
from maskwright.core.errors import SetupError
from maskwright.models import device as devices
from maskwright.models.device import choose, is_out_of_memory


def machine(monkeypatch: pytest.MonkeyPatch, *, cuda: bool = False, mps: bool = False, bf16: str = "") -> None:
    """A machine with or without these; no test here needs the real thing."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(cuda))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: "A GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 0) if bf16 else (7, 5))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: bool(bf16))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(devices, "cpu_bf16", lambda: bf16)


@pytest.mark.parametrize(
    ("has", "name", "precision", "channels_last"),
    [
        ({}, "cpu", "fp32", True),
        ({"bf16": "avx512_bf16"}, "cpu", "bf16", True),
        ({"mps": True}, "mps", "fp32", False),
        ({"cuda": True}, "cuda", "fp16", True),
        ({"cuda": True, "mps": True, "bf16": "yes"}, "cuda", "bf16", True),
    ],
)
def test_auto_takes_the_fastest(
    monkeypatch: pytest.MonkeyPatch, has: dict, name: str, precision: str, channels_last: bool
) -> None:
    machine(monkeypatch, **has)
    chosen = choose()
    assert (chosen.name, chosen.precision, chosen.channels_last) == (name, precision, channels_last)
    assert precision in chosen.reason
    assert chosen.describe().startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("has", "device", "precision", "words"),
    [
        ({}, "cuda", "auto", "no device `cuda` that torch can use"),
        ({"cuda": True}, "cuda:3", "auto", "no device `cuda:3`"),
        ({}, "mps", "auto", "no device `mps`"),
        ({}, "gpu", "auto", "no device is called `gpu`"),
        ({}, "meta", "auto", "no device is called `meta`"),
        ({}, "cpu", "fp8", "no precision is called `fp8`"),
        ({}, "cpu", "fp16", "fp16 training needs a CUDA device"),
        ({"mps": True}, "auto", "bf16", "bf16 is not offered on Apple GPUs"),
        ({"cuda": True}, "auto", "bf16", "this CUDA device has no bf16"),
    ],
)
def test_what_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, has: dict, device: str, precision: str, words: str
) -> None:
    machine(monkeypatch, **has)
    with pytest.raises(SetupError, match=words):
        choose(device, precision)


def test_emulated_bf16_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch)
    told: list[str] = []
    with events.listening(lambda event: told.append(event.name)):
        assert choose("cpu", "bf16").precision == "bf16"
    assert told == ["warn"]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_autocast_layout_and_scaler_do_what_they_say(precision: str) -> None:
    chosen = choose("cpu", precision)
    network = chosen.place(torch.nn.Conv2d(3, 4, 3))
    assert network.weight.is_contiguous(memory_format=torch.channels_last)
    images = chosen.layout(torch.rand(2, 3, 8, 8))
    assert images.is_contiguous(memory_format=torch.channels_last)
    with chosen.autocast():
        assert network(images).dtype == (torch.bfloat16 if precision == "bf16" else torch.float32)
    scaler = chosen.scaler()
    assert not scaler.is_enabled()
    assert scaler.scale(torch.tensor(2.0)) == 2.0
    chosen.synchronize()


def test_peak_memory_counts_what_was_held() -> None:
    chosen = choose("cpu")
    before = chosen.peak_memory()
    held = np.ones(before + 200_000_000, dtype=np.uint8)
    assert chosen.peak_memory() >= len(held)
    assert chosen.peak_memory_gb() == chosen.peak_memory() / 1e9


def test_the_same_seed_gives_the_same_numbers() -> None:
    def draw() -> list[float]:
        devices.seed_everything(7)
        return [torch.rand(1).item(), float(np.random.rand())]  # noqa: NPY002

    assert draw() == draw()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the setting is glibc's")
def test_freed_memory_is_kept_on_linux() -> None:
    assert isinstance(devices.keep_freed_memory(), bool)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried ..."),
            True,
        ),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory of what we did last summer"), False),
    ],
)
def test_memory_errors_are_told_from_others(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_a_real_memory_error_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
