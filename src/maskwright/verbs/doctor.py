"""`maskwright doctor`: what this machine has, what is missing for which extra, and what is broken."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from maskwright.core.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from maskwright.core.machine import Package

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
WEIGHTS = (".pth", ".pt", ".safetensors", ".bin", ".pkl")


@dataclass(frozen=True)
class Examined:
    """facts: what there is, by topic. packages: installed and not. problems: sentences; any makes the exit code 5."""

    facts: dict[str, Any]
    packages: list[Package]
    problems: list[str]
    next: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return 5 if self.problems else 0

    @property
    def missing(self) -> dict[str, list[str]]:
        """Extra -> its packages that are not installed."""
        extras = dict.fromkeys(package.extra for package in self.packages if package.state == "missing")
        gone = {e: [p.name for p in self.packages if p.extra == e and p.state == "missing"] for e in extras}
        return {extra: names for extra, names in gone.items() if extra}

    def to_json(self) -> dict[str, Any]:
        from dataclasses import asdict

        packages = [asdict(package) for package in self.packages]
        return {**self.facts, "packages": packages, "missing": self.missing, "problems": self.problems}

    def show(self, console: Console) -> None:
        from rich.table import Table
        from rich.text import Text

        facts = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        facts.add_column(style="dim", no_wrap=True)
        facts.add_column(overflow="fold")
        for topic, words in _in_words(self.facts):
            facts.add_row(topic, Text(words))
        console.print(facts)
        console.print()
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
        for column in ("package", "installed", "wanted", "extra", ""):
            table.add_column(column, no_wrap=column != "wanted")
        for package in self.packages:
            style = {"fine": "", "missing": "dim"}.get(package.state, "red")
            state = "" if package.state == "fine" else package.state
            cells = (package.name, package.installed or "-", package.wanted, package.extra, state)
            table.add_row(*map(Text, cells), style=style)
        console.print(table)
        console.print()
        for extra, names in self.missing.items():
            console.print(f"pip install 'maskwright[{extra}]' brings {', '.join(names)}", markup=False, soft_wrap=True)
        for problem in self.problems:
            console.print(f"problem: {problem}", markup=False, style="red", soft_wrap=True)
        if not self.problems:
            console.print("nothing that is installed is broken")


def doctor() -> Examined:
    """Look at the machine and the installation: devices, versions, what is missing for which extra, weights, disk.

    Nothing is changed. The exit code is 5 when something that is installed is broken, too old or too new.
    """
    import platform
    import sys
    from pathlib import Path

    from maskwright import __version__
    from maskwright.core import machine
    from maskwright.core.files import cache_folder

    packages, torch = machine.packages()
    places = {"here": Path.cwd(), "cache": cache_folder()}
    facts = {
        "maskwright": __version__,
        "python": {"version": platform.python_version(), "path": sys.executable},
        "system": platform.platform(),
        "cpu": machine.cpu(),
        "memory": machine.memory(),
        "torch": torch,
        "threads": _threads(),
        "weights": _weights(),
        "places": {name: _place(path, count=name == "cache") for name, path in places.items()},
    }
    return Examined(facts, packages, _problems(packages, facts), _next(packages))


def _problems(packages: list[Package], facts: dict[str, Any]) -> list[str]:
    from maskwright.core import machine

    found = []
    for package in packages:
        how = f"'maskwright[{package.extra}]'" if package.extra else "maskwright"
        if package.state in ("too old", "too new"):
            what = f"{package.name} {package.installed} is {package.state}, wanted is {package.wanted}"
            found.append(f"{what}; mend it with: pip install -U {how}")
        elif package.state == "broken":
            again = f"pip install --force-reinstall {package.name}"
            found.append(f"{package.name} {package.installed} cannot be imported ({package.trouble}); try: {again}")
        elif package.state == "missing" and not package.extra:
            found.append(f"{package.name} is missing; install it with: pip install maskwright")
    if machine.within(facts["python"]["version"], ">=3.11") != "fine":
        found.append(f"Python {facts['python']['version']} is too old, wanted is 3.11 or newer")
    weights = facts["weights"]
    if weights["folder"] and not weights["found"]:
        found.append(f"$MASKWRIGHT_WEIGHTS is {weights['folder']}, which is no folder; set it to one, or unset it")
    cache = facts["places"]["cache"]
    if not cache["writable"]:
        found.append(f"the cache folder {cache['path']} cannot be written; set $MASKWRIGHT_CACHE to another")
    return found


def _in_words(facts: dict[str, Any]) -> list[tuple[str, str]]:
    cpu, memory, torch, weights = (facts[key] for key in ("cpu", "memory", "torch", "weights"))
    usable = "" if cpu["usable"] == cpu["cores"] else f", {cpu['usable']} of them for this process"
    bf16 = f"bf16 with {cpu['bf16']}" if cpu["bf16"] else "no fast bf16"
    free = f", {memory['free_gb']} GB free" if "free_gb" in memory else ""
    rows = [
        ("maskwright", f"{facts['maskwright']}, Python {facts['python']['version']} ({facts['python']['path']})"),
        ("system", facts["system"]),
        ("cpu", f"{cpu['name']}, {counted(cpu['cores'], 'core')}{usable}, {bf16}"),
        ("memory", f"{memory['total_gb']} GB{free}" if memory else "not known"),
        ("devices", _devices(torch)),
        ("threads", _thread_words(facts["threads"], torch)),
        ("weights", _weight_words(weights)),
    ]
    for name, place in facts["places"].items():
        size = f"{counted(place['files'], 'file')}, {place['mb']} MB; " if name == "cache" else ""
        writable = "writable" if place["writable"] else "CANNOT BE WRITTEN"
        rows.append((name, f"{place['path']}: {size}{writable}, {place['free_gb']} GB free"))
    return rows


def _devices(torch: dict[str, Any]) -> str:
    if not torch:
        return "torch is not installed, or broken: onnxruntime on the CPU alone"
    gpus = [f"cuda:{i} {gpu['name']} ({gpu['memory_gb']} GB)" for i, gpu in enumerate(torch["cuda"])]
    other = ["mps"] if torch["mps"] else []
    none = f" (no GPU; torch is built for {torch['built_for']})" if not gpus and not other else ""
    return ", ".join([*gpus, *other, "cpu"]) + none


def _thread_words(threads: dict[str, str], torch: dict[str, Any]) -> str:
    settings = ", ".join(f"{name}={value}" for name, value in threads.items()) or "no setting"
    return settings + (f"; torch uses {torch['threads']}" if torch else "")


def _weight_words(weights: dict[str, Any]) -> str:
    if not weights["folder"]:
        return "$MASKWRIGHT_WEIGHTS is not set: pretrained weights are downloaded"
    if not weights["found"]:
        return f"{weights['folder']} is no folder"
    few = ", ".join(weights["files"][:4]) + (", ..." if len(weights["files"]) > 4 else "")
    return f"{weights['folder']}: {counted(len(weights['files']), 'weight file')}" + (f" ({few})" if few else "")


def _threads() -> dict[str, str]:
    import os

    return {name: os.environ[name] for name in THREADS if name in os.environ}


def _weights() -> dict[str, Any]:
    import os
    from pathlib import Path

    setting = os.environ.get("MASKWRIGHT_WEIGHTS")
    folder = Path(setting).expanduser() if setting else None
    names = sorted(p.name for p in folder.iterdir() if p.suffix in WEIGHTS) if folder and folder.is_dir() else []
    return {"folder": setting, "found": bool(folder and folder.is_dir()), "files": names}


def _place(path: Path, *, count: bool) -> dict[str, Any]:
    """Whether a folder (that may not exist yet) can be written, the free space of its disk, and with `count` its size."""
    import os
    import shutil

    standing = next(parent for parent in (path, *path.parents) if parent.exists())
    inside = [f.stat().st_size for f in path.rglob("*") if f.is_file()] if count else []
    return {
        "path": str(path),
        "writable": standing.is_dir() and os.access(standing, os.W_OK | os.X_OK),
        "free_gb": round(shutil.disk_usage(standing).free / 1e9, 1),
        "files": len(inside),
        "mb": round(sum(inside) / 1e6, 1),
    }


def _next(packages: list[Package]) -> list[str]:
    trains = all(package.state == "fine" for package in packages if package.extra == "train")
    return ["maskwright demo" if trains else "pip install 'maskwright[train]'"]
