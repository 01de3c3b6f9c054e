"""Files with weights: reading one without trusting it, and finding which of its tensors belongs to which of a network's.

Whole networks of other libraries are known by their names: torchvision's detectors and the Mask2Former of `transformers`.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from maskwright.core.errors import ModelError

SUFFIXES = (".pth", ".pt", ".safetensors", ".bin")
WRAPPERS = (
    "module.",
    "_orig_mod.",
    "model.",
    "network.",
    "net.",
    "encoder.",
    "backbone.",
    "body.",
    "trunk.",
    "features.",
)
RENAMED: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (  # names in whole networks elsewhere, and ours
    (r"\bbackbone\.body\.", "encoder."),
    (r"\bbackbone\.fpn\.(inner_blocks|layer_blocks)\.(\d+)\.(weight|bias)$", r"pyramid.\1.\2.0.\3"),  # of torchvision's
    (r"\bbackbone\.fpn\.", "pyramid."),
    (r"\brpn\.head\.conv\.(weight|bias)$", r"rpn.head.conv.0.0.\1"),  # files from before 2022
    (r"\bmask_head\.mask_fcn(\d)\.", lambda found: f"mask_head.{int(found[1]) - 1}.0."),
    (r"\b(encoder\.)?model\.pixel_level_module\.encoder\.", "encoder."),
    (r"\b(encoder\.)?model\.pixel_level_module\.decoder\.", "pixel_decoder."),
    (r"\b(encoder\.)?model\.transformer_module\.", "transformer."),
    (r"^class_predictor\.", "head."),
)
REFUSED = {  # what a file begins with, or how it ends: what it is
    b"\x89HDF\r\n\x1a\n": "is a Keras file (HDF5), as matterport's Mask R-CNN has them",
    ".h5": "is a Keras file, as matterport's Mask R-CNN has them",
    ".pkl": "is a pickle, as detectron2 has them, which may run anything when it is opened",
}
INSTEAD = (
    "use torchvision's COCO weights (`maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth`, for encoder resnet50), "
    "`imagenet`, or a bundle"
)
DEEPEST = 4  # wrappers around wrappers, and dictionaries inside dictionaries

UNREADABLE = (
    *(pickle.UnpicklingError, zipfile.BadZipFile, SafetensorError, struct.error, EOFError, OSError, RuntimeError),
    *(
        ValueError,
        KeyError,
        IndexError,
        TypeError,
        AttributeError,
        ImportError,
        OverflowError,
        MemoryError,
        AssertionError,
    ),
)


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a .pth, .pt, .bin or .safetensors file by name, on the CPU.

    Of nested dictionaries ({"state_dict": ...}, {"model": ..., "optimizer": ...}) the one with the most tensors is taken.
    Nothing in the file is run. Raises ModelError for anything else than weights.
    """
    if not path.is_file():
        raise ModelError(
            "not found", place=path, hint="`weights` can be `auto`, `imagenet`, `none`, a file or a bundle"
        )
    try:
        start = _start(path)
        _refuse_others(path, start[0])
        tree: Any = load_file(path) if _is_safetensors(start) else _unpickle(path)
    except UNREADABLE as error:
        what = f"cannot be read as weights ({_first_line(error)})"
        hint = "is the file whole, and does it hold nothing but tensors (a state dict)?"
        raise ModelError(what, place=path, hint=hint) from error
    found = max(_state_dicts(tree), key=len, default={})
    if not found:
        raise ModelError("holds no tensors", place=path, hint="save the network's `state_dict()`")
    return found


def match(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, str]:
    """Names of a network's tensors -> names in a file, by the one way of naming that finds most of the encoder's.

    Tried are all wrappers before the file's names (`module.`, `backbone.`, ...) against all before the network's encoder.
    Names of whole networks elsewhere count as ours. Dots and underscores count as equal, because timm writes `stages.0` as
    `stages_0` in networks that give features.
    """
    plain = {renamed(name).replace("_", "."): name for name in own}
    theirs, ours = {renamed(name): name for name in state}, _wrappers({renamed(name): name for name in own})
    best: dict[str, str] = {}
    best_score = (0, 0, 0)
    for before in _wrappers(theirs):
        inner = {key[len(before) :].replace("_", "."): name for key, name in theirs.items() if key.startswith(before)}
        for target in ("", *(wrapper for wrapper in ours if wrapper.startswith("encoder."))):
            found = {plain[target + i]: name for i, name in inner.items() if target + i in plain}
            score = _score(found, state, own)
            if score > best_score:
                best, best_score = found, score
    return best


def renamed(name: str) -> str:
    """A tensor's name in one of our networks, where it has another in a whole network of torchvision or `transformers`."""
    for pattern, ours in RENAMED:
        name = re.sub(pattern, ours, name)
    return name


def is_detector(state: Mapping[str, Tensor]) -> bool:
    """Whether the tensors are those of a detection network of torchvision."""
    return any(re.search(r"\bbackbone\.body\.", name) for name in state)


def _score(found: Mapping[str, str], state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> tuple[int, int, int]:
    """Encoder tensors of the same shape first, then encoder tensors, then any."""
    inside = [name for name in found if name.startswith("encoder.")]
    return sum(own[n].shape == state[found[n]].shape for n in inside), len(inside), len(found)


def _wrappers(names: Mapping[str, Any]) -> list[str]:
    """Every chain of WRAPPERS that some name begins with, the empty one first."""
    found, last = [""], [""]
    for _ in range(DEEPEST):
        last = [chain + w for chain in last for w in WRAPPERS if any(name.startswith(chain + w) for name in names)]
        found += last
    return found


def _start(path: Path) -> tuple[bytes, int]:
    """The first bytes of a file and its size. Raises ValueError for what is no file of weights at all."""
    with path.open("rb") as file:
        start = file.read(64)
    if not start:
        raise ValueError("it is empty")
    if start.startswith(b"version https://git-lfs"):
        raise ValueError("it is a Git LFS pointer, the weights were not downloaded")
    if start.lstrip()[:9].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ValueError("it is a web page")
    return start, path.stat().st_size


def _refuse_others(path: Path, first: bytes) -> None:
    """Raises ModelError for weights of libraries whose files cannot be read, with what can be used instead."""
    for sign, what in REFUSED.items():
        if first.startswith(sign) if isinstance(sign, bytes) else path.suffix.lower() == sign:
            raise ModelError(what, place=path, hint=INSTEAD)


def _is_safetensors(start: tuple[bytes, int]) -> bool:
    """Eight bytes of header length, then the header as JSON."""
    first, size = start
    return first[8:9] == b"{" and 2 <= int.from_bytes(first[:8], "little") <= size


def _unpickle(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(path, map_location="cpu", weights_only=True)


def _state_dicts(tree: Any, depth: int = 0) -> Iterator[dict[str, Tensor]]:
    """Every dictionary inside, with those of its entries that are tensors with a name."""
    if not isinstance(tree, Mapping) or depth > DEEPEST:
        return
    yield {name: value for name, value in tree.items() if isinstance(name, str) and isinstance(value, Tensor)}
    for value in tree.values():
        yield from _state_dicts(value, depth + 1)


def _first_line(error: BaseException) -> str:
    text = next(iter(str(error).splitlines()), "")
    if isinstance(error, pickle.UnpicklingError):
        return "it is damaged, or holds more than tensors"
    return (
        text[:160]
        if isinstance(error, OSError | ValueError | RuntimeError | SafetensorError) and text
        else "it is damaged"
    )
