"""`maskwright check`: what is in a data set, how it would be split, and the fate of everything that is not simply used."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from maskwright.core.table import Data
    from maskwright.data.inspect import Inspected
    from maskwright.data.open import Opened
    from maskwright.data.split import Split


@dataclass(frozen=True)
class Checked:
    """What was found: `facts` is the tree of plain values that `--json` prints; `show` tells the same to a person."""

    facts: dict[str, Any]
    next: list[str] = field(default_factory=list)

    @property
    def refused(self) -> int:
        """Items that are listed or labelled and cannot be used; training stops while there are some."""
        return sum(row["refused"] for row in self.facts["ledger"]["totals"].values())

    @property
    def exit_code(self) -> int:
        """0, or that of a DataError when something is refused: a script can stop there. Ignored items are no fault."""
        from maskwright.core.errors import DataError

        return DataError.exit_code if self.refused else 0

    def to_json(self) -> dict[str, Any]:
        return {"schema": 1, **self.facts, "next": self.next}

    def show(self, console: Console) -> None:
        from maskwright.verbs.check_page import show

        show(self.facts, console)


def check(path: str, *, format: str | None = None, option: list[str] | None = None, quick: bool = False) -> Checked:
    """Look through labelled images: classes, splits, and what is repaired, ignored or refused, with the reason.

    Parameters
    ----------
    path
        file or folder with labelled images.
    format
        label format; left out: recognised.
    option
        key=value for the reader, as in `--option border=class`.
    quick
        read labels and image headers only: no pixel is decoded, none counted, no damage inside an image found.
    """
    from maskwright.core import recipe, terminal
    from maskwright.data.inspect import inspect
    from maskwright.data.open import open_data

    path = str(path)
    with terminal.shown():
        with options_placed():
            opened = open_data(path, format=format, options=recipe.as_pairs(option or []))
        inspected = None if quick else inspect(opened.data, opened.ledger)
        facts = _facts(path, opened, inspected)
    return Checked(facts, _next(path, opened, format, option or [], quick))


@contextmanager
def options_placed() -> Iterator[None]:
    """Mistakes in a format and its options are named as the options `--format` and `--option` that gave them."""
    from maskwright.core.errors import RecipeError

    try:
        yield
    except RecipeError as error:
        found = re.match(r"(?:data\.0\.)?format(?: \w+)?(?:\.(\w+))?", error.place or "")
        if found is None:
            raise
        place = f"--option {found[1]}" if found[1] else "--format"
        raise RecipeError(error.what, place=place, hint=error.hint) from error


def _facts(path: str, opened: Opened, inspected: Inspected | None) -> dict[str, Any]:
    data = opened.data if inspected is None else inspected.data
    regions = data.regions
    numbers = data.region_numbers()[1]
    return {
        "path": path,
        "format": opened.format,
        "reason": opened.reason,
        "images": len(data),
        "annotations": len(numbers) + int((data.coding >= 0).sum()),
        "crowds": int(regions.crowd[numbers].sum()),
        "numbered_objects": None if inspected is None else int(inspected.numbered.sum()),
        "sizes": _sizes(data),
        "classes": _classes(data, inspected),
        "pixels": None if inspected is None else int(inspected.pixels.sum() + inspected.void.sum()),
        "void_pixels": None if inspected is None else int(inspected.void.sum()),
        "splits": _lists(data, inspected),
        **_split(data, inspected),
        "ledger": opened.ledger.to_json(),
    }


def _sizes(data: Data) -> dict[str, list[int]] | None:
    """Height and width of the smallest and the largest image, and of the one in the middle, by area."""
    import numpy as np

    if not len(data):
        return None
    order = np.argsort(data.sizes.astype(np.int64).prod(axis=1), kind="stable")
    picks = {"smallest": order[0], "median": order[len(order) // 2], "largest": order[-1]}
    return {name: data.sizes[i].tolist() for name, i in picks.items()}


def _classes(data: Data, inspected: Inspected | None) -> list[dict[str, Any]]:
    """Objects, images and pixels of each class; None where nobody knows: objects of label maps without numbers, pixels when
    quick."""
    import numpy as np

    from maskwright.core.table import DROPPED
    from maskwright.data.strata import drawn

    labels = data.regions.label[data.region_numbers()[1]]
    shown = drawn(data) if inspected is None else inspected.union > 0
    objects = (
        np.bincount(labels[labels != DROPPED], minlength=len(data.classes)) if inspected is None else inspected.objects
    )
    counts = {
        "objects": objects if objects.any() else None,
        "images": None if shown is None else shown.sum(axis=0),
        "pixels": None if inspected is None else inspected.union.sum(axis=0),
        "painted_pixels": None if inspected is None else inspected.pixels.sum(axis=0),
    }
    rows: list[dict[str, Any]] = [
        {"name": name, **{key: None if values is None else int(values[c]) for key, values in counts.items()}}
        for c, name in enumerate(data.classes)
    ]
    if data.has_background:  # what nobody drew
        rows[0] |= {"objects": None} if inspected else {"objects": None, "images": None}
    return rows


def _lists(data: Data, inspected: Inspected | None) -> dict[str, Any]:
    """The data's own lists: images, and pixels of each class."""
    lists: dict[str, Any] = {}
    for number, name in enumerate(data.split_names):
        here = data.split == number
        lists[name] = {"images": int(here.sum())}
        if inspected is not None:
            pixels = inspected.union[here].sum(axis=0).tolist()
            lists[name] |= {"pixels": dict(zip(data.classes, pixels)), "void_pixels": int(inspected.void[here].sum())}
    return lists


def _split(data: Data, inspected: Inspected | None) -> dict[str, Any]:
    """How `train` would split these images when nobody says otherwise, and what its parts share that they should not."""
    from maskwright.core.errors import DataError
    from maskwright.data import split

    presence, digests = (None, {}) if inspected is None else (inspected.presence, inspected.digest_of)
    try:
        made = split.make(data, presence=presence, digests=digests)
    except DataError as error:
        return {"training": {"how": None, "error": str(error)}, "leaks": []}
    leaks = [{"parts": leak.parts, "ids": leak.ids, "why": leak.why} for leak in split.leaks(made, digests)]
    counts = {part: len(ids) for part, ids in made.parts().items()}
    unseen = [] if presence is None else _unseen(data, presence, made)
    return {"training": {"how": made.how, **counts, "only_in_validation": unseen}, "leaks": leaks}


def _unseen(data: Data, presence: Any, made: Split) -> list[str]:
    """Classes that validate and never train."""
    import numpy as np

    trains = set(made.train)
    train = np.array([id in trains for id in data.ids])
    only = presence[~train].any(axis=0) & ~presence[train].any(axis=0)
    return [name for name, missing in zip(data.classes, only) if missing]


def _next(path: str, opened: Opened, format: str | None, option: list[str], quick: bool) -> list[str]:
    import json
    from shlex import quote

    from maskwright.core import recipe

    place = quote(path)
    again = f" --format {format}" if format else ""
    again += "".join(f" --option {quote(o)}" for o in option)
    if quick:
        return [f"maskwright check {place}{again}"]
    source = {"path": path, "format": {"name": opened.format, **recipe.as_pairs(option)}}
    changes = f" {quote('data=' + json.dumps(source))}" if again else ""
    details = [f"maskwright check {place}{again} --json"] if opened.ledger.num_refused else []
    allowed = " --allow-refused" if opened.ledger.num_refused else ""
    return [
        *details,
        *([f"maskwright train {place}{changes}{allowed}"] if opened.ledger.count("image", "used") else []),
    ]
