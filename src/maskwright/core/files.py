"""Files that appear whole or not at all, and folders that are checked before anything slow begins."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maskwright.core.errors import SetupError

_ASKING = threading.Lock()
DAY = 24 * 60 * 60  # seconds


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path` that becomes `path` when the block ends well; nothing is left behind otherwise.

    Raises SetupError when the folder cannot be written or the disk is full.
    """
    path = Path(path)
    temporary: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    """The process's mask for new files, which can only be asked for by setting it: one thread at a time."""
    with _ASKING:
        mask = os.umask(0o077)
        os.umask(mask)
    return mask


@contextmanager
def left_clean(folder: Path) -> Iterator[None]:
    """When the block fails, the folders that were made for `folder`, itself included, go again where they are empty."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        yield
    except BaseException:
        for path in made:
            try:
                path.rmdir()
            except OSError:  # something in it is kept
                break
        raise


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """An empty hidden folder in `folder`; what is in it when the block ends well is moved beside it, the rest goes.

    What was there under the same names is replaced, but no folder by a file. Folders of this kind that a killed process left,
    a day old, are cleared away. Raises SetupError when the folder cannot be written or the disk is full.
    """
    staging: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(".staged-*"):
            if time.time() - left.stat().st_mtime > DAY:
                shutil.rmtree(left, ignore_errors=True)
        staging = Path(tempfile.mkdtemp(prefix=".staged-", dir=folder))
        yield staging
        everything = sorted(staging.iterdir())
        for made in everything:  # before the first is moved
            if (folder / made.name).is_dir() and not made.is_dir():
                raise IsADirectoryError(errno.EISDIR, f"`{made.name}` is a folder")
        for made in everything:
            target = folder / made.name
            if target.is_dir():
                target.replace(staging / f".old-{made.name}")
            made.replace(target)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=1) + "\n")


def check_writable(folder: Path) -> None:
    """Raises SetupError unless a file can be made in `folder` (which is made when it is missing)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise cannot_write(folder, error) from error


def cannot_write(path: Path, error: OSError) -> SetupError:
    what = "no space left on the disk" if error.errno == 28 else f"cannot be written ({error.strerror or error})"
    return SetupError(what, place=path, hint="choose another folder with `--out`, or free some space")


def cache_folder() -> Path:
    """Where things that can be made again are kept: $MASKWRIGHT_CACHE, else the user's cache folder."""
    own = os.environ.get("MASKWRIGHT_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(own) if own else base / "maskwright"
