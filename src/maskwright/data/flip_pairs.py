"""Classes that a mirrored image swaps, read from their names: a left door becomes a right one."""

from __future__ import annotations

import re
from collections.abc import Sequence


def proposed(classes: Sequence[str]) -> list[tuple[int, int]]:
    """Indices of classes that a left-right flip turns into each other, read from their names.

    `front_left_door` and `front_right_door`, `Left-arm` and `Right-arm`, `l_eye` and `r_eye`, `hand_L` and `hand_R`.
    """
    keys = [_words(name) for name in classes]
    where = {key: index for index, key in reversed(list(enumerate(keys)))}
    pairs = []
    for index, key in enumerate(keys):
        other = where.get(tuple(_mirrored(word) for word in key), index)
        if index < other and where[key] == index:
            pairs.append((index, other))
    return pairs


def _words(name: str) -> tuple[str, ...]:
    """Lower-case words of a name: `LeftUpper_arm2` is left, upper, arm, 2."""
    return tuple(word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+", name))


def _mirrored(word: str) -> str:
    if word in ("l", "r"):
        return "r" if word == "l" else "l"
    swapped = {"left": "right", "right": "left"}
    return re.sub("left|right", lambda found: swapped[found[0]], word)
