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
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from maskwright.core.errors import SetupError

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

_ASKING = threading.Lock()
MINUTE, DAY = 60, 24 * 60 * 60  # seconds
STAGED = ".staged-"  # how folders of what is being made begin


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

    What was there under the same names is replaced, but no folder by a file. Processes that end at once move one after the
    other, so that what one made stays together. Folders of this kind that a killed process left are cleared away.
    Raises SetupError when the folder cannot be written or the disk is full.
    """
    staging: Path | None = None
    try:
        staging = _hidden(folder)
        _clear(folder)
        with _locked(staging, wait=True):
            yield staging
            with _locked(folder, wait=True):
                _move(staging, folder)
    except OSError as error:
        raise cannot_write(folder, error) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)


def _hidden(folder: Path) -> Path:
    """A new folder in `folder`, which is made again where another process that failed has just taken it away."""
    for _ in range(10):
        with suppress(FileNotFoundError, FileExistsError):
            return _made(folder)
    return _made(folder)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix=STAGED, dir=folder))


def _move(staging: Path, folder: Path) -> None:
    everything = sorted(staging.iterdir())
    for made in everything:  # before the first is moved
        if (folder / made.name).is_dir() and not made.is_dir():
            raise IsADirectoryError(errno.EISDIR, f"`{made.name}` is a folder")
    for made in everything:
        target = folder / made.name
        if target.is_dir():
            target.replace(staging / f".old-{made.name}")
        made.replace(target)


def _clear(folder: Path) -> None:
    """Removes what killed processes left: a minute old and locked by none, or a day old where folders cannot be locked."""
    for left in folder.glob(f"{STAGED}*"):
        with suppress(OSError):  # its owner has just removed it
            age = time.time() - left.stat().st_mtime
            if age <= MINUTE:  # its owner may be about to lock it
                continue
            with _locked(left) as ours:
                if ours or (ours is None and age > DAY):
                    shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _locked(folder: Path, wait: bool = False) -> Iterator[bool | None]:
    """A lock on a folder that ends with the process; gives False where another has it, None where none can be had."""
    if fcntl is None:
        yield None
        return
    handle: int | None = None
    try:
        try:
            handle = os.open(folder, os.O_RDONLY)
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            got: bool | None = True
        except OSError as error:  # some network disks have no locks, and a folder may be one to write into alone
            got = False if error.errno == errno.EWOULDBLOCK else None
        yield got
    finally:
        if handle is not None:
            os.close(handle)


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
    full = error.errno == errno.ENOSPC or f"[Errno {errno.ENOSPC}]" in str(
        error
    )  # of a copied folder it stands in the text
    reason = error.strerror or " ".join(str(error).split())[:200]
    what = "no space left on the disk" if full else f"cannot be written ({reason})"
    hint = "choose another folder with `--out`, or free some space"
    if full and (temporary := _smaller(path)):
        what, hint = (
            f"{what}, or on that of temporary files, {temporary}",
            f"{hint}; TMPDIR names another one for these",
        )
    return SetupError(what, place=path, hint=hint)


def _smaller(folder: Path) -> str | None:
    """The folder of temporary files, where that has less space left than this one."""
    temporary = tempfile.gettempdir()
    try:
        return temporary if shutil.disk_usage(temporary).free < shutil.disk_usage(folder).free else None
    except OSError:
        return None


def cache_folder() -> Path:
    """Where things that can be made again are kept: $MASKWRIGHT_CACHE, else the user's cache folder."""
    own = os.environ.get("MASKWRIGHT_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Path(own) if own else base / "maskwright"
