"""What a run was made with: versions of the libraries and the machine."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from pathlib import Path

import psutil
import torch

PACKAGES = ("torch", "torchvision", "segmentation-models-pytorch", "timm", "onnxruntime", "numpy", "pillow", "hotcoco")


def versions() -> dict[str, str]:
    """Names and versions, ours and Python's first."""
    from maskwright import __version__

    found = {"maskwright": __version__, "python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, object]:
    """cpu: name; cores; memory_gb; gpu: name or None; system."""
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else None
    memory = round(psutil.virtual_memory().total / 1e9, 1)
    return {"cpu": _cpu(), "cores": os.cpu_count(), "memory_gb": memory, "gpu": gpu, "system": platform.platform()}


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
