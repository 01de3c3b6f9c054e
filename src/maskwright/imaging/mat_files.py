"""MATLAB files of labels (version 5, as clothing-co-parsing has them): a matrix of class numbers, or a list of names.

Read through scipy (extra `mat`). Whatever is wrong with a file ends in a DataError that names it; nothing in it is run.
"""

from __future__ import annotations

import struct
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.core.errors import DataError
from maskwright.core.registry import missing_package

SUFFIX = ".mat"
MAX_PIXELS = 500_000_000
NOT_MATRICES = ("cell", "struct", "object", "char", "function", "opaque", "sparse", "unknown")
_VERSION_7_3 = b"MATLAB 7.3"  # an HDF5 file


def label_values(path: str | Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """The matrix of class numbers in a file: uint16 (H, W). Raises DataError for what is none, or has another size."""
    name, found = _matrix(path)
    if size is not None and found != tuple(size):
        what = f"this label map is {found[0]} x {found[1]} pixels (height x width), its image {size[0]} x {size[1]}"
        raise DataError(what, place=path)
    values = _loaded(path, name)
    if values.ndim != 2 or values.dtype.kind not in "iufb":
        raise DataError(f"`{name}` is no matrix of numbers", place=path)
    whole = np.asarray(values, np.float64) if values.dtype.kind == "f" else values
    if values.size and not (whole.min() >= 0 and whole.max() <= np.iinfo(np.uint16).max):
        raise DataError(f"`{name}` holds numbers outside 0..65535", place=path)
    labels = values.astype(np.uint16)
    if values.dtype.kind == "f" and (labels != values).any():
        raise DataError(f"`{name}` holds numbers that are not whole", place=path)
    return labels


def size_of(path: str | Path) -> tuple[int, int]:
    """Height and width of the matrix in a file, from its header."""
    return _matrix(path)[1]


def names(path: str | Path) -> list[str]:
    """The first list of texts in a file (a cell array), in its order. Raises DataError where there is none."""
    for name, _, kind in _listed(path):
        if kind == "cell":
            entries = [np.asarray(entry).reshape(-1) for entry in _loaded(path, name).reshape(-1)]
            if entries and all(len(entry) == 1 and entry.dtype.kind == "U" for entry in entries):
                return [str(entry[0]) for entry in entries]
    raise DataError("holds no list of names", place=path)


def _matrix(path: str | Path) -> tuple[str, tuple[int, int]]:
    """Name and size of the one matrix in a file."""
    matrices = [(name, shape) for name, shape, kind in _listed(path) if kind not in NOT_MATRICES and len(shape) == 2]
    matrices = [(name, shape) for name, shape in matrices if min(shape) > 0]
    if len(matrices) != 1:
        several = ", ".join(name for name, _ in matrices)
        what = f"holds several matrices ({several}), not one" if matrices else "holds no matrix of labels"
        raise DataError(what, place=path)
    name, shape = matrices[0]
    if shape[0] * shape[1] > MAX_PIXELS:
        raise DataError(f"`{name}` is {shape[0]} x {shape[1]}: too large to be a label map", place=path)
    return name, (int(shape[0]), int(shape[1]))


def _listed(path: str | Path) -> list[tuple[str, tuple[int, ...], str]]:
    """Name, shape and kind of everything in a file."""
    _check(path)
    reader = _scipy()
    try:
        return list(reader.whosmat(str(path)))
    except _broken() as error:
        raise DataError(f"is damaged, or no MATLAB file ({_short(error)})", place=path) from error


def _loaded(path: str | Path, name: str) -> np.ndarray:
    reader = _scipy()
    try:
        return np.asarray(reader.loadmat(str(path), variable_names=[name])[name])
    except _broken() as error:
        raise DataError(f"is damaged ({_short(error)})", place=path) from error


def _check(path: str | Path) -> None:
    try:
        with open(path, "rb") as file:
            head = file.read(128)
    except FileNotFoundError as error:
        raise DataError("not found", place=path) from error
    except OSError as error:
        raise DataError(f"cannot be read ({(error.strerror or str(error)).lower()})", place=path) from error
    if head.startswith(_VERSION_7_3):
        hint = "in MATLAB, save it with `save(..., '-v7')`"
        raise DataError("is a MATLAB file of version 7.3 (HDF5)", place=path, hint=hint)
    if head.startswith(b"version https://git-lfs"):
        hint = "run `git lfs pull` in its repository"
        raise DataError("is a Git LFS pointer, not the file itself", place=path, hint=hint)
    if len(head) < 128:
        raise DataError("is cut off" if head else "is empty (0 bytes)", place=path)


@cache
def _scipy() -> Any:
    try:
        import scipy.io
    except ModuleNotFoundError as error:
        raise missing_package("scipy", "a MATLAB file") from error
    return scipy.io


def _broken() -> tuple[type[Exception], ...]:
    """What scipy was seen to raise on broken files."""
    from scipy.io.matlab import MatReadError

    return (
        OSError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, MemoryError, NotImplementedError,
        AttributeError, struct.error, zlib.error, MatReadError,
    )  # fmt: skip


def _short(error: BaseException) -> str:
    return (str(error) or type(error).__name__).split("\n")[0][:100].lower()
