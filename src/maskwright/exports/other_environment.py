"""A Python environment beside the one that Maskwright runs in, for a converter whose packages cannot live in this one.

It is made with `venv` and pip, from the index that the user's pip is configured for, only where the user asked for it.
"""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskwright.core import events, files
from maskwright.core.errors import ModelError, SetupError

LAST_LINES = 400  # characters of what a failed program said


@dataclass(frozen=True)
class Environment:
    """What has to be in it. name: of its folder. package: what pip installs. module: by which it is recognised.

    because: why it cannot be installed here. gigabytes: on disk, with all that it needs.
    """

    name: str
    package: str
    module: str
    because: str
    gigabytes: float

    @property
    def folder(self) -> Path:
        """Where it is made: in the user's cache folder, as it can be made again."""
        return files.cache_folder() / self.name


def python_of(wanted: Environment, given: str, install: bool) -> Path:
    """The Python that has the package: the one given (or of the environment folder given), else the one in the cache.

    Raises SetupError when it is not there or lacks the package, and `install` does not ask for it to be made.
    """
    python = _python(Path(given).expanduser()) if given else _python(wanted.folder)
    if python.is_file() and _has(python, wanted.module):
        return python
    if given:
        what = f"has no `{wanted.package}`" if python.is_file() else "is no Python"
        raise SetupError(what, place=given, hint=f"install it with: {python} -m pip install {wanted.package}")
    size = f"{wanted.gigabytes:g} GB"
    if not install:
        what = f"this needs `{wanted.package}` in an environment of its own ({wanted.because})"
        hint = f"add `install=true` to make it in {wanted.folder} ({size}), or name a Python that has it: `environment=PYTHON`"
        raise SetupError(what, hint=hint)
    events.say(f"installing `{wanted.package}` and what it needs ({size}) into {wanted.folder}; that is done once")
    _make(wanted)
    if not _has(python, wanted.module):
        raise SetupError(f"`{wanted.package}` was installed and cannot be found", place=wanted.folder)
    return python


def run(python: Path, program: Path, arguments: Sequence[str], doing: str) -> str:
    """What a program of ours says (stdout) when that Python runs it; nothing of this environment reaches it.

    Raises ModelError, with the last line of what went wrong, when it fails; OSError where the disk is full.
    """
    command = [str(python), "-I", str(program), *arguments]  # -I: its folder holds files named like packages
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        told = lines[-1] if lines else f"it ended with {done.returncode}"
        if f"[Errno {errno.ENOSPC}]" in told:
            raise OSError(errno.ENOSPC, told)
        raise ModelError(f"{doing} failed ({told[:LAST_LINES].rstrip('.')})")
    return done.stdout


def _python(path: Path) -> Path:
    """The interpreter of an environment's folder, or the path itself."""
    if path.is_file():
        return path
    return path / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _has(python: Path, module: str) -> bool:
    asked = f"import sys, importlib.util; sys.exit(importlib.util.find_spec({module!r}) is None)"
    try:
        return subprocess.run([str(python), "-I", "-c", asked], capture_output=True, check=False).returncode == 0
    except OSError:  # no program
        return False


def _make(wanted: Environment) -> None:
    """The environment, new or completed. Raises SetupError with pip's last line."""
    files.check_writable(wanted.folder)
    python = str(_python(wanted.folder))
    shown = sys.stderr.isatty()  # pip draws what it downloads, and how long that will take
    pip = ["pip", "install", "--disable-pip-version-check", *([] if shown else ["--quiet"]), wanted.package]
    for command in ([sys.executable, "-m", "venv", str(wanted.folder)], [python, "-m", *pip]):
        said: Any = sys.stderr if shown else subprocess.PIPE
        done = subprocess.run(command, stdout=said, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
        if done.returncode != 0:
            lines = [line.strip() for line in (done.stderr or done.stdout or "").splitlines() if line.strip()]
            told = lines[-1][:LAST_LINES] if lines else f"it ended with {done.returncode}"
            what = f"`{wanted.package}` could not be installed ({told.rstrip('.')})"
            raise SetupError(what, place=wanted.folder, hint="the folder can be deleted")
