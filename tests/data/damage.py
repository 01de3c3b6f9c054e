"""Random damage to label files: values of JSON swapped for others, lines and bytes changed. Readers must say no politely."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.core.errors import MaskwrightError
from maskwright.data.ledger import Ledger
from maskwright.data.open import open_data
from maskwright.imaging import masks

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**70, -(10**30), 0.5, math.nan, math.inf, 1e308, "", " ", "x", "-1", "nan", "\ud800",
    "../../../etc/passwd", "/etc/passwd", "a" * 5000, [], [[]], [None], [1], [[1, 2]], [["x", "y"]] * 4, {}, {"": {}},
    {"x": [1]}, [[0, 0], [math.nan, 5], [5, 5]],
)  # fmt: skip
STRANGE = "<>&\"'{}[],:0-9.\x00é"


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in a tree, itself included."""
    yield path
    pairs = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in pairs:
        yield from places(value, (*path, key))


def swapped(tree: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The tree with another value at a path."""
    if not path:
        return value
    tree = copy.deepcopy(tree)
    inner = tree
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return tree


def of_json(file: Path, num: int, seed: int = 0) -> Iterator[str]:
    """Texts of a JSON file with a few values swapped, cut off or with bytes changed."""
    tree, rng = json.loads(file.read_text()), np.random.default_rng(seed)
    paths = list(places(tree))
    short = [path for path in paths if len(path) < 6] or paths
    for number in range(num):
        damaged = tree
        for _ in range(1 + number % 3):
            path = (short if rng.random() < 0.7 else paths)[int(rng.integers(len(short)))]
            try:
                damaged = swapped(damaged, path, ODD[int(rng.integers(len(ODD)))])
            except (KeyError, IndexError, TypeError):  # an earlier swap took the place away
                continue
        yield json.dumps(damaged)
    yield from of_text(json.dumps(tree), num // 4, rng)


def of_text(text: str, num: int, rng: np.random.Generator) -> Iterator[str]:
    """The text cut off, with a stretch taken out or doubled, or with characters changed."""
    for _ in range(num):
        first, last = sorted(rng.integers(len(text), size=2).tolist())
        last = min(last, first + 40)
        strange = STRANGE[int(rng.integers(len(STRANGE)))]
        cut, shorter, doubled = text[:last], text[:first] + text[last:], text[:last] + text[first:]
        changed = text[:first] + strange + text[last:]
        yield (cut, shorter, doubled, changed)[int(rng.integers(4))]


def survives(folder: Path, file: Path, texts: Iterator[str], format: str) -> int:
    """Reads the folder with each of the texts as a file; the number of those that gave data. Only our errors may come."""
    read = 0
    for text in texts:
        file.write_text(text, errors="surrogatepass")
        ledger = Ledger()
        data, message = None, ""
        try:
            data = open_data(folder, format=format, ledger=ledger).data
        except MaskwrightError as error:
            message = str(error)
        if data is None:
            assert message.encode(), "a message that can be printed"
            assert str(folder) in message, f"no place: {message}"
            continue
        read += 1
        for record in data:
            masks.label_map(record)
            assert (
                Path(record.image)
                .resolve()
                .is_relative_to(file.parent.resolve() if folder == file else folder.resolve())
            )
        for line in (*ledger.lines, *ledger.notes):
            str(line if isinstance(line, str) else f"{line.item}: {line.why}").encode()
    return read
