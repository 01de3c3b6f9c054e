"""The user's own photos after every training: what the new model makes of them, beside the run before.

A run keeps small pictures in pictures/watch/ and lists them in pictures/index.json; the next run with the same folder
copies those that it is compared with, so that every run folder can be read alone.

    "watch": [{"id", "image", "now", "before"}], "watched": {"folder", "found", "previous"}
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from maskwright.bundles import runs
from maskwright.bundles.runs import Run
from maskwright.core import events, files
from maskwright.core.errors import DataError, RecipeError
from maskwright.imaging import draw, images
from maskwright.imaging.palette import class_colours
from maskwright.prediction import folders
from maskwright.prediction.evaluation import ordered
from maskwright.prediction.predictor import AnyPredictor
from maskwright.reports.snapshots import drawn, small

MOST = 24  # photos that are shown
READERS = 2


def photos(folder: str | None) -> list[Path]:
    """The photos of a recipe's `watch` folder, by name; none for None. Raises RecipeError when it is missing or empty."""
    if folder is None:
        return []
    if not Path(folder).is_dir():
        raise RecipeError("no such folder", place=f"watch: {folder}", hint="it is taken from the recipe's own folder")
    try:
        return folders.find(folder)[1]
    except DataError as error:
        raise RecipeError(error.what, place=f"watch: {folder}", hint=error.hint) from error


def write(run: Run, predictor: AnyPredictor, found: list[Path], home: str | Path) -> None:
    """Predicts the first MOST photos and puts their pictures, and those of the run before, into the run's folder.

    found: the photos, below the folder `home`. A photo that cannot be read is named in a warning.
    """
    home = Path(home).absolute()
    if len(found) > MOST:
        events.say(f"watch: the first {MOST} of {len(found)} photos in {home} are shown")
    folder = run.path / "pictures" / "watch"
    folder.mkdir(parents=True, exist_ok=True)
    previous = _previous(run, home)
    known = {entry["id"]: entry for entry in _index(previous).get("watch", [])} if previous else {}
    names = [photo.absolute().relative_to(home).as_posix() for photo in found[:MOST]]
    chosen = list(zip(range(MOST), found, names, strict=False))
    told = ordered(lambda item: _entry(folder, *item, predictor), chosen, READERS)
    entries = [entry for entry in events.progress(told, "your photos", len(chosen)) if entry]
    for entry in entries:
        _with_before(entry, known.get(entry["id"]), previous, run)
    about = {"folder": home.name, "found": len(found), "previous": previous.name if previous else None}
    files.write_json(run.path / "pictures" / "index.json", {**_index(run), "watch": entries, "watched": about})
    run.write_record(watch=str(home))


def _entry(folder: Path, number: int, photo: Path, name: str, predictor: AnyPredictor) -> dict[str, Any] | None:
    """Writes the photo and its overlay, both small, and returns their entry."""
    try:
        pixels = images.read(photo)
    except DataError as error:
        events.warn(f"watch: {error}")
        return None
    colours = class_colours(predictor.classes, predictor.description.multilabel)
    entry = {"id": name}
    for kind, picture in (("image", small(pixels)), ("now", drawn(pixels, predictor(pixels), colours))):
        file = folder / f"{number:02d}_{kind}.webp"
        file.write_bytes(draw.encode(picture, "webp", 80))
        entry[kind] = f"watch/{file.name}"
    return entry


def _with_before(entry: dict[str, Any], known: dict[str, Any] | None, previous: Run | None, run: Run) -> None:
    """Adds the picture that the run before made of the same photo, where there is one."""
    if known is None or previous is None:
        return
    source = previous.path / "pictures" / str(known.get("now"))
    if source.is_file():
        entry["before"] = entry["now"].replace("_now", "_before")
        shutil.copyfile(source, run.path / "pictures" / entry["before"])


def _previous(run: Run, home: Path) -> Run | None:
    """The last finished run beside this one that watched the same folder."""
    others = [other for other in runs.all_runs(run.path.parent) if other.name != run.name]
    same = (other for other in reversed(others) if other.record.get("watch") == str(home))
    return next((other for other in same if other.status()[0] == "finished"), None)


def _index(run: Run | None) -> dict[str, Any]:
    try:
        value = json.loads((run.path / "pictures" / "index.json").read_text(encoding="utf-8")) if run else {}
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
