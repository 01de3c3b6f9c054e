"""iMaterialist-Fashion: a CSV with one row of run-lengths for each object, of 2019, of 2020, or as the DIY sets of others.

`imaterialist_rows` reads the rows, the COCO reader does all the rest. Classes and attributes have their names in
`label_descriptions.json`. `imaterialist_write` writes such a set, `imaterialist_submission` what is handed in.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import get_args

from maskwright.core.errors import DataError, RecipeError
from maskwright.core.registry import suggestion
from maskwright.core.table import Data
from maskwright.data.formats import Format, coco, imaterialist_rows, pairing
from maskwright.data.formats.coco_dialect import Dialect
from maskwright.data.formats.imaterialist_rows import Attributes
from maskwright.data.formats.imaterialist_write import CANNOT_HOLD, write
from maskwright.data.ledger import Ledger


def read(
    path: Path,
    ledger: Ledger,
    *,
    images: str | None = None,
    descriptions: str | None = None,
    attributes: Attributes = "keep",
    first_pixel: int | None = None,
) -> Data:
    """Reads an iMaterialist CSV, or a folder with several.

    Rows that cannot be used and images that are missing go to the ledger; labels are scaled where a photo has another
    size of the same shape. Raises DataError when no CSV can be read.

    images: the folder that holds the photos, absolute or below the data set; left out, they are searched below it.
    descriptions: the JSON with the names of classes and attributes; left out, the `label_descriptions*.json` beside the
      CSV or in the folder above it.
    attributes: `keep` notes their names with each object, `drop` leaves them out, `classes` makes every combination of a
      class and its attributes a class of its own.
    first_pixel: 0 or 1, the number of the top left pixel; left out, 0 for a CSV in which a run starts there, else 1.
    """
    if attributes not in get_args(Attributes):
        raise RecipeError(f"`attributes` cannot be `{attributes}`", hint=suggestion(attributes, get_args(Attributes)))
    if first_pixel not in (None, 0, 1):
        raise RecipeError(f"`first_pixel` cannot be {first_pixel}", hint="it is 0 or 1")
    told = None if descriptions is None else _found(Path(path), descriptions)
    load = partial(imaterialist_rows.load, descriptions=told, attributes=attributes, first_pixel=first_pixel)
    dialect = Dialect(
        glimpse=imaterialist_rows.glimpse,
        load=load,
        name="iMaterialist",
        kind="CSV",
        suffix=".csv",
        entry="line",
        key=stem,
        measured=True,
    )
    return coco.read_dialect(path, ledger, dialect, images=images)


def sniff(path: Path) -> tuple[float, str]:
    """Looks at the first lines of the CSVs here. What is nearly one is known too, so that `read` can say what to do."""
    judged = []
    for file in pairing.files_near(path, ".csv"):
        sure, why, trouble = imaterialist_rows.glimpse(file)
        if trouble == imaterialist_rows.UTF_16 or (path.is_file() and why == imaterialist_rows.SUBMISSION):
            sure = 0.3
        judged.append((sure, f"{file.name} {why}"))
    return max(judged, key=lambda one: one[0], default=(0.0, "no CSV here"))


def stem(name: str) -> str:
    """What photos go by: CSVs of 2020 leave out the suffix."""
    return name.rpartition(".")[0].casefold() or name.casefold()


def _found(path: Path, descriptions: str) -> Path:
    folder = path if path.is_dir() else path.parent
    for place in (folder / descriptions, Path(descriptions).expanduser()):
        if place.is_file():
            return place
    hint = "`descriptions` is the JSON that names classes and attributes"
    raise DataError("not found", place=folder / descriptions, hint=hint)


FORMAT = Format(
    name="imaterialist",
    summary="iMaterialist-Fashion CSV: run-lengths with classes and attributes",
    sniff=sniff,
    read=read,
    write=write,
    cannot_hold=CANNOT_HOLD,
)
