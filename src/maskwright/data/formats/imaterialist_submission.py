"""What is handed in to iMaterialist-Fashion: a CSV of masks at 512 x 512 of which no two of an image share a pixel.

`write_submission` and `read_submission` are each other's inverse, but for what does not fit: see there. The competition's
metric is `metrics.imaterialist`.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from maskwright.core.errors import DataError
from maskwright.core.files import written_whole
from maskwright.core.types import BACKGROUND, Region
from maskwright.data.formats.imaterialist_rows import Descriptions, decoded, rows
from maskwright.data.formats.imaterialist_write import encoded
from maskwright.imaging import masks, run_lengths
from maskwright.imaging.objects import decoded as decoded_mask

SIZE = (512, 512)  # height, width of every mask that is handed in
_NOBODY = "23"  # class of the empty row that stands for an image without objects, as in the sample submission


@dataclass(frozen=True)
class Codes:
    """How the competition numbers what we have names for. classes: class index -> category; attributes: name -> number."""

    classes: Mapping[int, int]
    attributes: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, classes: Sequence[str], descriptions: Descriptions) -> Codes:
        """The codes of a list of classes; DataError for one that the descriptions do not name (but background)."""
        numbers = {name: number for number, name in descriptions.classes.items()}
        strange = next((name for name in classes if name not in numbers and name != BACKGROUND), None)
        if strange:
            raise DataError(f"the competition has no class `{strange}`", hint="train on its own label descriptions")
        named = {index: numbers[name] for index, name in enumerate(classes) if name in numbers}
        return cls(named, {name: number for number, name in descriptions.attributes.items()})


class Answer(NamedTuple):
    """What was found on an image. name: its ImageId; size: height, width; scores: one for each region."""

    name: str
    size: tuple[int, int]
    regions: Sequence[Region]
    scores: Sequence[float]


def write_submission(path: Path, answers: Iterable[Answer], codes: Codes, *, size: tuple[int, int] = SIZE) -> int:
    """Writes ImageId, EncodedPixels, ClassId; an image without objects gets an empty row. Returns how many objects it holds.

    Masks are brought to `size` (nearest pixel); a pixel that several claim goes to the one with the highest score, and
    what then has no pixel left is left out. Attributes follow the class as in `13_12_45`. Raises SetupError when the file
    cannot be written, DataError for an image that is answered twice or a class without a number.
    """
    seen: set[str] = set()
    num_objects = 0
    with written_whole(Path(path)) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("ImageId", "EncodedPixels", "ClassId"))
        for answer in answers:
            if answer.name in seen:
                raise DataError("is answered twice", place=answer.name)
            seen.add(answer.name)
            made = _rows(answer, codes, size)
            num_objects += len(made)
            table.writerows(made or [(answer.name, "", _NOBODY)])
    return num_objects


def read_submission(path: Path, codes: Codes, *, size: tuple[int, int] = SIZE) -> dict[str, list[Region]]:
    """ImageId -> its objects, as regions of `size`; images without objects have an empty list.

    Raises DataError, with the line, for a row that cannot be used and for a class that `codes` do not know.
    """
    labels = {number: index for index, number in codes.classes.items()}
    names = {number: name for name, number in codes.attributes.items()}
    answers: dict[str, list[Region]] = {}
    for row in rows(Path(path), size):
        place = f"{path}:{row.line}"
        counts, trouble = (None, row.trouble) if row.trouble else decoded(row, size, 1)
        if trouble and trouble.fate == "refused":
            raise DataError(trouble.why, place=place)
        found = answers.setdefault(row.image, [])
        if counts is None:
            continue
        if row.label not in labels:
            raise DataError(f"no class has the number {row.label}", place=place)
        named = {"attributes": [names.get(one, str(one)) for one in row.attributes]} if row.attributes else {}
        found.append(Region(labels[row.label], counts=counts, attributes=named))
    return answers


def _rows(answer: Answer, codes: Codes, size: tuple[int, int]) -> list[tuple[str, str, str]]:
    assert len(answer.regions) == len(answer.scores)
    free = np.ones(size, np.bool_)
    made = []
    for index in np.argsort(-np.asarray(answer.scores, np.float64), kind="stable").tolist():
        region = answer.regions[index]
        counts = run_lengths.at_size(masks.region_counts([region], answer.size)[0], answer.size, size)
        mask = decoded_mask(counts, size) & free
        free &= ~mask
        if mask.any():
            made.append((answer.name, encoded(run_lengths.of_mask(mask)), _class_id(region, codes, answer.name)))
    return made


def _class_id(region: Region, codes: Codes, name: str) -> str:
    if region.label not in codes.classes:
        raise DataError(f"class index {region.label} has no number in the competition", place=name)
    named = region.attributes.get("attributes", ())
    more = sorted(codes.attributes.get(one, int(one) if one.isdecimal() else -1) for one in named)
    if more and more[0] < 0:
        raise DataError(f"the competition does not number all of the attributes {', '.join(named)}", place=name)
    return "_".join(map(str, (codes.classes[region.label], *more)))
