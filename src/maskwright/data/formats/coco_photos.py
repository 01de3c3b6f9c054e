"""Where the photos of a COCO data set are: look-ups in a list of files that was made once, however many images there are."""

from __future__ import annotations

import posixpath
import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Protocol

from maskwright.core.words import counted
from maskwright.imaging.images import is_image_name

MISSING = "the image file is nowhere below the folder"
_USUAL = ("images", "JPEGImages", "image", "imgs", "img", "photos", "data")


def split_of(json: str) -> str | None:
    """The official list that a JSON's name, or else the nearest folder's, speaks of: "train", "val", "test" or None."""
    path = PurePosixPath(json)
    for name in (path.stem, *reversed(path.parts[:-1])):
        for word in re.findall("[a-z]+", name.lower()):
            if found := re.fullmatch(r"(train|val|test)(ing|id|idation|val)?(set|data|split|images)?", word):
                return found[1]
    return None


def readable(text: str) -> str:
    """The text with what is not valid Unicode (broken file names, lone surrogates in JSON) spelt out."""
    return text.encode(errors="backslashreplace").decode()


class PhotoSource(Protocol):
    """Where photos come from. folder: what stands before the paths that `find` gives, with a `/` between.

    missing: what `find` says of a photo that is not there.
    """

    folder: str
    missing: str

    def find(self, name: str, places: Sequence[str]) -> tuple[str | None, str | None]:
        """The path of a photo and None; or what is odd about it, with the path or without one."""

    def places(self, json: str) -> list[str]:
        """Where the photos of a label file usually lie."""


class Photos:
    """The files of a folder, found by the names that a JSON gives them.

    key: base names with the same key mean the same photo; left out: those that differ in upper and lower case only, which
      is then said.
    """

    missing = MISSING

    def __init__(self, folder: Path, files: Iterable[str], key: Callable[[str], Hashable] | None = None):
        self.folder = str(folder)
        self._files = frozenset(file for file in files if readable(file) == file)
        self._key, self._own_key = key or str.casefold, key is not None

    def find(self, name: str, places: Sequence[str]) -> tuple[str | None, str | None]:
        """The file that `name` means, relative to the folder: in one of `places`, else by its base name anywhere.

        Returns the path, or None, and what is odd about it: why there is none, or how its name differs.
        """
        plain = posixpath.normpath(name.replace("\\", "/"))
        for place in places:
            path = posixpath.normpath(posixpath.join(place, plain)) if plain.startswith("..") else place + plain
            if path in self._files:
                return path, None
        namesakes = self._by_name.get(self._key(posixpath.basename(plain)), [])
        exact = [path for path in namesakes if posixpath.basename(path) == posixpath.basename(plain)]
        found = exact or namesakes
        tail = "/" + re.sub(r"^(\.*/)+", "", plain)
        if len(found) > 1:
            found = [path for path in found if f"/{path}".endswith(tail)] or found
        if len(found) > 1:
            return None, f"there are {counted(len(found), 'file')} of that name: {found[0]} and {found[1]}"
        if not found:
            return None, MISSING
        return found[0], None if exact or self._own_key else f"found as {found[0]}"

    def places(self, json: str) -> list[str]:
        """Folders (with `/` at the end, those that exist) where the photos of a JSON usually lie, the likeliest first."""
        beside = posixpath.dirname(json)
        inside = ["", *_USUAL]
        for split in filter(None, (re.sub(r"^[a-z_]*instances_", "", PurePosixPath(json).stem), split_of(json))):
            inside += [split, *(f"{usual}/{split}" for usual in _USUAL), f"{split}/images"]
        paths = (posixpath.join(base, sub) for base in (beside, posixpath.dirname(beside), "") for sub in inside)
        known = dict.fromkeys(posixpath.normpath(path) for path in paths)
        return ["" if path == "." else f"{path}/" for path in known if path == "." or path in self._folders]

    @cached_property
    def _by_name(self) -> dict[Hashable, list[str]]:
        names: dict[Hashable, list[str]] = defaultdict(list)
        for path in sorted(self._files):
            if not self._own_key or is_image_name(path):
                names[self._key(posixpath.basename(path))].append(path)
        return names

    @cached_property
    def _folders(self) -> frozenset[str]:
        parents = {posixpath.dirname(path) for path in self._files}
        return frozenset(str(above) for folder in parents for above in [folder, *PurePosixPath(folder).parents])
