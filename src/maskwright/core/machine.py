"""What this machine is and what is installed on it, asked without importing anything that could be broken.

A package is tried in a process of its own: one that crashes on import cannot take the answer with it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from maskwright.core.cores import usable_cores

MODULES = {"pillow": "PIL", "opencv-python-headless": "cv2", "pyyaml": "yaml"}  # where the names differ
COMPILED = (
    "numpy",
    "pillow",
    "hotcoco",
    "orjson",
    "onnx",
    "onnxruntime",
    "torchvision",
    "opencv-python-headless",
    "av",
)
PATIENCE = 60  # seconds for one import
TORCH = """
import json, torch
cuda = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
print(json.dumps({
    "cuda": [{"name": d.name, "memory_gb": round(d.total_memory / 1e9, 1)} for d in cuda],
    "mps": torch.backends.mps.is_available(), "threads": torch.get_num_threads(), "built_for": torch.version.cuda or "cpu"}))
"""


@dataclass(frozen=True)
class Package:
    """A package that we use. extra: which extra brings it, `` for those that are always needed. wanted: as `>=2.11`.

    state: `fine`, `missing`, `too old`, `too new` or `broken`; trouble: what an import said.
    """

    name: str
    extra: str
    wanted: str
    installed: str | None
    state: str
    trouble: str = ""


def packages() -> tuple[list[Package], dict[str, Any]]:
    """Every package of the extras that people install, and what torch says of its devices ({} without torch)."""
    wanted = _wanted()
    versions = {name: _version(name) for name, _, _ in wanted}
    tried = [name for name in dict.fromkeys((*COMPILED, "torch")) if versions.get(name) is not None]
    with ThreadPoolExecutor(4) as pool:
        answers = dict(zip(tried, pool.map(lambda name: attempt(TORCH if name == "torch" else _import(name)), tried)))
    found = [_judged(name, extra, spec, versions[name], answers.get(name, ("", ""))[1]) for name, extra, spec in wanted]
    said = answers.get("torch", ("", ""))[0].strip().splitlines()
    return found, json.loads(said[-1]) if said else {}


def attempt(code: str) -> tuple[str, str]:
    """What Python code prints in a process of its own, and in one line why it failed (empty when it did not)."""
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return "", f"did not answer in {PATIENCE} s"
    if done.returncode == 0:
        return done.stdout, ""
    last = (done.stderr.strip().splitlines() or [""])[-1]
    return "", last[:300] if done.returncode > 0 else f"crashes on import (signal {-done.returncode})"


def within(version: str, wanted: str) -> str:
    """`fine`, `too old` or `too new`: a version beside bounds as `>=1.3,<2`."""
    for sign, bound in re.findall(r"(>=|<=|==|<|>|~=)\s*([\w.]+)", wanted):
        have, limit = _numbers(version), _numbers(bound)
        if sign in (">=", "==", "~=", ">") and have < limit:
            return "too old"
        if (sign == "<" and have >= limit) or (sign == "<=" and have > limit):
            return "too new"
    return "fine"


def cpu() -> dict[str, Any]:
    """name, cores, usable (by this process); bf16, int8: what computes those quickly, sums of int8 exactly, or None."""
    name, flags = platform.processor() or platform.machine(), set()
    for line in _lines(Path("/proc/cpuinfo")):
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            name = value.strip()
        elif key.strip() in ("flags", "Features"):
            flags = set(value.split())
            break
    bf16, int8 = (next((word for flag, word in table.items() if flag in flags), None) for table in (BF16, INT8))
    return {"name": name, "cores": os.cpu_count(), "usable": usable_cores(), "bf16": bf16, "int8": int8}


BF16 = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512", "bf16": "ARM"}  # in the order of their speed
INT8 = {"amx_int8": "AMX", "avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX VNNI", "asimddp": "ARM dot product"}


def memory() -> dict[str, float]:
    """total_gb and free_gb, where the system tells: what a container may use, if that is less."""
    read = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in _lines(Path("/proc/meminfo")) if " kB" in line}
    if "MemTotal" not in read:
        names = getattr(os, "sysconf_names", {})
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if "SC_PHYS_PAGES" in names else 0
        return {"total_gb": round(total / 1e9, 1)} if total else {}
    total, free = read["MemTotal"], read.get("MemAvailable", read.get("MemFree", 0))
    limit = (_lines(Path("/sys/fs/cgroup/memory.max")) or ["max"])[0]
    used = (_lines(Path("/sys/fs/cgroup/memory.current")) or ["0"])[0]
    if limit.isdigit() and int(limit) < total:
        total, free = int(limit), min(free, int(limit) - int(used or 0))
    return {"total_gb": round(total / 1e9, 1), "free_gb": round(free / 1e9, 1)}


def _wanted() -> list[tuple[str, str, str]]:
    """(name, extra, bounds) of every package that our own metadata ask for, but for those of developers.

    An extra that takes another one in has the other's packages under the other's name.
    """
    found = []
    for line in requirements():
        head, _, marker = line.partition(";")
        parts = re.match(r"([\w.-]+)\s*(?:\[.*?\])?\s*(.*)", head.strip())
        extra = re.search(r"extra\s*==\s*['\"]([\w-]+)['\"]", marker)
        name = parts[1].lower() if parts else ""
        if parts and name != "maskwright" and not (extra and extra[1] == "dev"):
            bounds = sorted(parts[2].strip("() ").split(","), key=lambda bound: bound.startswith("<"))
            found.append((name, extra[1] if extra else "", ",".join(bound.strip() for bound in bounds)))
    return found


def requirements() -> list[str]:
    """What our own metadata ask for, as `torch>=2.11; extra == 'train'`.

    The metadata of an editable installation are as old as the installation: there its pyproject.toml tells.
    """
    told = json.loads(metadata.distribution("maskwright").read_text("direct_url.json") or "{}")
    folder = Path(url2pathname(urlsplit(told.get("url", "")).path))
    if not told.get("dir_info", {}).get("editable") or not (folder / "pyproject.toml").is_file():
        return list(metadata.requires("maskwright") or [])
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"].items()
    return [*project["dependencies"], *(f"{line}; extra == '{extra}'" for extra, lines in extras for line in lines)]


def _judged(name: str, extra: str, wanted: str, installed: str | None, trouble: str) -> Package:
    state = "missing" if installed is None else "broken" if trouble else within(installed, wanted)
    return Package(name, extra, wanted, installed, state, trouble)


def _import(name: str) -> str:
    return f"import {MODULES.get(name, name.replace('-', '_'))}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """`2.15.0+cu128` as (2, 15): release numbers without zeros at the end."""
    numbers = [int(part) for part in re.match(r"[\d.]*", version)[0].split(".") if part]  # type: ignore[index]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
