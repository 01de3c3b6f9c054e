"""JSON files whose lists grow while they are written: entries go to the disk at once, so memory does not grow with them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import orjson

from maskwright.core import files

ONLY = ""  # the name of the list of a file that is nothing else


class Lists:
    """The lists of a file that is being written. `add` one entry, or many that are `spelt` already."""

    def __init__(self, parts: dict[str, IO[bytes]]):
        self._parts = parts
        self._count = dict.fromkeys(parts, 0)

    def add(self, name: str, *entries: Any) -> None:
        self.add_spelt(name, [spelt(entry) for entry in entries])

    def add_spelt(self, name: str, texts: list[bytes]) -> None:
        for text in texts:
            self._parts[name].write((b",\n" if self._count[name] else b"\n") + text)
            self._count[name] += 1

    def count(self, name: str) -> int:
        """How many entries a list has."""
        return self._count[name]


def spelt(entry: Any) -> bytes:
    """An entry as JSON; numpy's numbers and arrays are spelt as short as they can be read back."""
    return orjson.dumps(entry, option=orjson.OPT_SERIALIZE_NUMPY)


@contextmanager
def written(path: Path, *names: str, **rest: Any) -> Iterator[Lists]:
    """A JSON object of `rest` and growing lists of these names, or one bare list (ONLY). It appears whole when the block ends
    well, else not at all. Raises SetupError when it cannot be written.
    """
    assert ONLY not in names or (names == (ONLY,) and not rest)
    with files.written_whole(path) as temporary, ExitStack() as opened:
        parts: dict[str, IO[bytes]] = {
            name: opened.enter_context(tempfile.TemporaryFile(dir=path.parent)) for name in names
        }
        yield Lists(parts)
        with temporary.open("wb") as file:
            if names != (ONLY,):
                file.write(b"{")
                for key, value in rest.items():
                    file.write(spelt(key) + b": " + spelt(value) + b",\n")
            for number, (name, part) in enumerate(parts.items()):
                file.write((b",\n" if number else b"") + (b"[" if name == ONLY else spelt(name) + b": ["))
                part.seek(0)
                shutil.copyfileobj(part, file, 1 << 20)
                file.write(b"\n]")
            file.write(b"\n" if names == (ONLY,) else b"}\n")
