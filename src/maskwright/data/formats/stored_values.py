"""From the values stored in a folder of masks to classes: which value means what, and what the masks cannot mean.

Values with gaps make no phantom class: {1, 2, 3} are three classes. The rules are those of `meanings`; whatever was
inferred is written into the ledger's notes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from maskwright.core.errors import DataError
from maskwright.core.types import BACKGROUND, MAX_CLASSES, VOID
from maskwright.core.words import counted
from maskwright.data.formats.class_lists import ClassList, by_order, standard_name
from maskwright.data.formats.pairing import Probed, in_threads
from maskwright.data.ledger import Ledger
from maskwright.imaging import masks

MOST_MASKS = 2000  # more are sampled evenly; a value that only the others hold is refused when their pixels are read
MOST_COLOURS = 64  # more than this without a list of colours are taken for blended colours
MOST_VALUES = 1024  # of one mask; a photograph's colours would fill the memory
COLOUR_MODES = ("RGB", "RGBA", "CMYK", "YCbCr", "LAB", "PA", "LA")
FOREGROUND = "foreground"


@dataclass(frozen=True, slots=True)
class Scan:
    """colour: the masks are read as colours; values: stored value -> pixels, one mapping per scanned mask, by list (split)."""

    colour: bool
    values: list[tuple[str | None, dict[int, int]]]

    def of(self, split: str | None) -> set[int]:
        return {value for name, found in self.values if name == split for value in found}


def scan(probed: Sequence[Probed], classes: ClassList | None) -> Scan:
    """Reads the values of the masks, at most MOST_MASKS of them, and settles whether they are indices or colours."""
    chosen = [probed[i * len(probed) // MOST_MASKS] for i in range(MOST_MASKS)] if len(probed) > MOST_MASKS else probed
    if classes is not None and classes.colour:
        coloured = _read(chosen, lambda _: True)
        known = {*(classes.keys or ()), 0}
        seen = {value for _, found in coloured for value in found}
        if any(item.label_map.mode in COLOUR_MODES for item in chosen) or 2 * len(seen & known) >= len(seen):
            return Scan(True, coloured)
    found = _read(chosen, lambda item: item.label_map.mode in COLOUR_MODES)
    rgb = [values for item, (_, values) in zip(chosen, found, strict=True) if item.label_map.mode in COLOUR_MODES]
    if any(value != (value & 255) * 0x010101 for values in rgb for value in values):
        return Scan(True, found if len(rgb) == len(found) else _read(chosen, lambda _: True))
    return Scan(
        False,
        [
            (split, {v & 255: n for v, n in values.items()} if item.label_map.mode in COLOUR_MODES else values)
            for item, (split, values) in zip(chosen, found, strict=True)
        ],
    )


def _read(probed: Sequence[Probed], colour: Callable[[Probed], bool]) -> list[tuple[str | None, dict[int, int]]]:
    """Values of each mask; none for a damaged one, which is refused when its pixels are read for use."""

    def values(item: Probed) -> dict[int, int] | DataError:
        try:
            held = masks.stored_values(Path(str(item.pair.label_map)), colour(item))
            return dict(islice(held.items(), MOST_VALUES))
        except DataError as error:
            return error

    found = in_threads(values, probed, "Reading the values of masks")
    errors = [result for result in found if isinstance(result, DataError)]
    if errors and len(errors) == len(found):
        raise errors[0]
    return [(p.pair.split, {} if isinstance(v, DataError) else v) for p, v in zip(probed, found, strict=True)]


def check_clean(found: Scan, place: Path) -> None:
    """Raises DataError when most masks are blurred black and white, or hold more values than there can be classes."""
    told = [values for _, values in found.values if len(values) > 1]
    blurred = sum(not found.colour and _is_blurred(values) for values in told)
    if told and 2 * blurred > len(told):
        what = f"{blurred} of {len(found.values)} masks are black and white with grey seams (blurred or JPEG edges)"
        raise DataError(
            what, place=place, hint="give `threshold: 128` to take grey levels of 128 and above as the class"
        )
    distinct = {value for _, values in found.values for value in values}
    if found.colour and len(distinct) > MOST_COLOURS:
        raise DataError(
            f"the masks hold {_many(distinct)} different colours",
            place=place,
            hint="name the colours that are classes in `classes.txt`, a line `name:r,g,b` each; blended edges cannot be read",
        )
    if len(distinct) > MAX_CLASSES + 1:
        hint = "are these photographs, depth maps or object numbers (`--format index_png`)? Class masks hold few values"
        raise DataError(f"the masks hold {_many(distinct)} different values", place=place, hint=hint)


def _many(values: set[int]) -> str:
    return f"{len(values):,}" if len(values) < MOST_VALUES else f"{MOST_VALUES:,} and more"


def _is_blurred(values: Mapping[int, int]) -> bool:
    """Nearly all pixels close to black or white, and dark and light greys between: no class indices look like that."""
    total = sum(values.values())
    ends = sum(n for v, n in values.items() if v <= 8 or v >= 247)
    scattered = all(sum(low <= v < low + 112 for v in values) >= 4 for low in (16, 128))
    return scattered and ends >= 0.8 * total


def meanings(
    seen: AbstractSet[int], classes: ClassList | None, ledger: Ledger, *, colour: bool = False
) -> dict[int, str]:
    """What each value means (a name; `void` for VOID), by the list of classes where there is one.

    Without a list: 0 is the background when there are other values, 255 is VOID beside values other than 0, a single value
    beside 0 is `foreground`, all others are `class_<value>` (`colour_<rrggbb>`). With a list in order: the names count from 0
    or, where 0 is clearly the unnamed background, from 1. Black and white masks take the one or two names of a list.
    """
    if classes is None:
        return _inferred(seen, ledger, colour)
    if classes.keys is not None and colour == classes.colour:
        names = dict(zip(classes.keys, classes.names, strict=True))
    else:
        names = dict(enumerate(classes.names)) if colour else _counted(seen, classes, ledger)
    names = _black_and_white(seen, names, ledger) or names
    if colour and not classes.colour and not seen <= names.keys():
        hint = "add its colour to each name, `name:r,g,b`"
        raise DataError("the masks hold colours and the list of classes has none", place=classes.place, hint=hint)
    if 0 in seen and 0 not in names:
        names[0] = BACKGROUND
        ledger.note(f"value 0 is not in {classes.place}: taken as the background")
    if VOID in seen and VOID not in names and not colour and max(names) < VOID and seen - {0, VOID}:
        names[VOID] = "void"
        ledger.note("value 255 is no class of the list: counts nowhere (VOID)")
    absent = [name for value, name in names.items() if value not in seen and standard_name(name) is not None]
    if absent:
        ledger.note(f"named in {classes.place}, in no mask that was looked at: {', '.join(absent)}")
    return names if colour else dict(sorted(names.items()))


def _inferred(seen: AbstractSet[int], ledger: Ledger, colour: bool) -> dict[int, str]:
    void = {VOID} if not colour and seen - {0, VOID} and max(seen) == VOID and len(seen) > 1 else set()
    values = sorted(seen - void)
    if values[0] == 0 and len(values) == 2:
        names = {0: BACKGROUND, values[1]: FOREGROUND}
    else:
        names = {v: f"colour_{v:06x}" if colour else f"class_{v}" for v in values}
        if len(values) > 1 and 0 in names:
            names[0] = BACKGROUND
    if void:
        names[VOID] = "void"
        ledger.note("value 255 stands beside other classes: counts nowhere (VOID)")
    said = ", ".join(f"#{v:06x}" if colour else str(v) for v in values)
    if len(values) > 2 or 0 not in values:
        gaps = "" if colour or values == list(range(len(values))) else "; values that no mask holds make none"
        ledger.note(f"no list of classes: the masks hold {said}: {counted(len(values), 'class')}{gaps}")
    return names


def _counted(seen: AbstractSet[int], classes: ClassList, ledger: Ledger) -> dict[int, str]:
    """Values for names that have only an order."""
    names = classes.names
    highest = max(seen - {VOID}, default=0)
    named_zero = standard_name(names[0]) in (BACKGROUND, None)
    if not named_zero and highest >= len(names):
        ledger.note(f"{classes.place} does not name value 0: `{names[0]}` is value 1, 0 is the background")
        return {0: BACKGROUND, **by_order(names, 1)} if 0 in seen else by_order(names, 1)
    if not named_zero and not (VOID in seen and highest == 0):
        ledger.note(f"{classes.place} begins with `{names[0]}`, taken as value 0")
    return by_order(names)


def _black_and_white(seen: AbstractSet[int], names: Mapping[int, str], ledger: Ledger) -> dict[int, str] | None:
    """0 and one other value that no name is for, with one or two names: the last name is the other value's."""
    white = max(seen)
    if white in names or white == 0 or not seen <= {0, white}:
        return None
    drawn = [name for name in names.values() if standard_name(name) not in (BACKGROUND, None)]
    if len(drawn) not in (1, 2) or len(names) - len(drawn) + len(set(drawn)) > 2:
        return None
    ledger.note(f"the masks hold two values: {white} is `{drawn[-1]}`")
    return {0: drawn[0] if len(drawn) == 2 else BACKGROUND, white: drawn[-1]}


def sagemaker_labels(value: Any, place: Path) -> Callable[[int], int | None]:
    """SageMaker's label map: `{"map": {"<label>": <stored value>}}` or `{"scale": "3"}` (stored value divided, rounded down).

    Gives stored value -> label, None for a stored value that the map does not name. 255 stays VOID unless mapped.
    """
    hint = 'write {"map": {"0": 2, "1": 1}} (label: stored value) or {"scale": "3"}'
    try:
        scale = int(value.get("scale", 1))
        labels = {int(stored): int(label) for label, stored in value.get("map", {}).items()}
        if scale < 1 or len(labels) != len(value.get("map", {})) or value.keys() not in ({"scale"}, {"map"}):
            raise ValueError
    except (TypeError, ValueError, AttributeError) as error:
        raise DataError("not a label map of SageMaker", place=place, hint=hint) from error
    if "scale" in value:
        return lambda stored: VOID if stored == VOID else stored // scale
    return lambda stored: labels.get(stored, VOID if stored == VOID else None)
