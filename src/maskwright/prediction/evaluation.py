"""Scores on the user's original pixels: every image goes through the Predictor, every truth through `masks.label_map`.

Also scores label maps that another tool wrote, as a folder of index PNGs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np

from maskwright.core import events
from maskwright.core.errors import DataError
from maskwright.core.registry import suggestion
from maskwright.core.table import Data
from maskwright.core.types import BACKGROUND, VOID, Coding, Record
from maskwright.core.words import counted
from maskwright.data.formats.pairing import readable, stray, walk
from maskwright.imaging import images, masks
from maskwright.metrics.confusion import Confusion
from maskwright.metrics.overlaps import Overlaps
from maskwright.metrics.scores import Scores
from maskwright.prediction.predictor import Predictor

T = TypeVar("T")
R = TypeVar("R")
TABLE = "predictions.csv"  # what marks a folder that `predict` wrote
THREADS = 4  # reading, decoding and counting overlap with the network; results do not depend on it


def evaluate(predictor: Predictor, data: Data, *, label: str = "evaluate", resamples: int = 1000) -> Scores:
    """Scores of a predictor on labelled images. Classes are matched by name.

    Raises DataError when the data have a class that the model does not know.
    """
    if predictor.description.multilabel:
        return _evaluate_masks(predictor, data, label, resamples)
    table = class_table(data.classes, predictor.classes)
    return score(
        lambda record: predictor(record.image, upright=record.upright).label_map,
        data,
        predictor.classes,
        table,
        label,
        decision=predictor.decision,
        resamples=resamples,
    )


def _evaluate_masks(predictor: Predictor, data: Data, label: str, resamples: int) -> Scores:
    """Each class's mask against what was drawn of it, hidden by other classes or not."""
    labels = mask_labels(data.classes, predictor.classes)
    overlaps = Overlaps(predictor.classes)

    def counted(record: Record) -> Overlaps:
        predicted = predictor(record.image, upright=record.upright).masks
        assert predicted is not None
        one = Overlaps(predictor.classes)
        one.add(record.id, masks.class_masks(record, labels), predicted)
        return one

    for one in events.progress(ordered(counted, data, THREADS), label, len(data)):
        overlaps.merge(one)
    return overlaps.scores(expected=len(data), decision=predictor.decision, resamples=resamples)


def evaluate_folder(folder: str | Path, data: Data) -> Scores:
    """Scores of a folder of index PNGs (values = indices into `data.classes`, 255 = no answer).

    A map has the name of its image, with or without the image's suffix; of several that have it, the one whose folders
    end most alike is taken. In a folder that `predict` wrote, its masks alone are looked at. Raises DataError when an
    image has no map, or when two fit one image, or one fits two.
    """
    folder = Path(folder)
    found = maps_of(folder, data)
    values = (*range(len(data.classes)), VOID)
    coding = Coding(values, values)

    def predict(record: Record) -> np.ndarray:
        return masks.read_label_map(str(folder / found[record.id]), coding, record.size)

    identity = np.arange(256, dtype=np.uint8)
    return score(predict, data, data.classes, identity, "evaluate", decision="labels as given")


def maps_of(folder: Path, data: Data, inside: str = "masks") -> dict[str, str]:
    """Image id -> the path of its map below `folder`; where `predict` wrote the folder, below its folder `inside`."""
    whole = f"{inside}/" if (folder / TABLE).is_file() and (folder / inside).is_dir() else ""
    by_stem: dict[str, list[str]] = {}
    for name in walk(folder):
        if name.startswith(whole) and name.lower().endswith(".png") and stray(readable(name)) is None:
            by_stem.setdefault(PurePosixPath(name).stem, []).append(name)
    if not by_stem:
        raise DataError("holds no PNG files", place=folder, hint="give a folder of index PNGs, or a bundle")
    fitting = {record.id: _best(record, by_stem) for record in data}
    absent = [id for id, names in fitting.items() if not names]
    if absent:
        what = f"has no label map for {len(absent)} of {counted(len(data), 'image')}, such as {absent[0]}"
        raise DataError(what, place=folder)
    hint = "keep the folders of the images"
    owners: dict[str, str] = {}
    for id, names in fitting.items():
        if len(names) > 1:
            raise DataError(f"{names[0]} and {names[1]} fit the image {id} equally well", place=folder, hint=hint)
        if (other := owners.setdefault(names[0], id)) != id:
            raise DataError(f"{names[0]} fits both images {other} and {id}", place=folder, hint=hint)
    return {id: names[0] for id, names in fitting.items()}


def _best(record: Record, by_stem: dict[str, list[str]]) -> list[str]:
    """The label maps that fit an image best: by the folders of its id, then by those of its file, then by its name."""
    id, file = PurePosixPath(record.id), PurePosixPath(Path(record.image).as_posix())
    bare = id.stem if images.is_image_name(id.name) else id.name

    def likeness(name: str) -> tuple[int, bool, int, bool]:
        path = PurePosixPath(name)
        above = path.parent
        return _common_tail(id.parent, above), id.parent == above, _common_tail(file.parent, above), path.stem != bare

    found = [name for stem in dict.fromkeys((bare, id.name, file.name)) for name in by_stem.get(stem, [])]
    most = max(map(likeness, found), default=None)
    return [name for name in found if likeness(name) == most]


def _common_tail(one: PurePosixPath, other: PurePosixPath) -> int:
    """How many folders two paths share at their ends."""
    pairs = zip(reversed(one.parts), reversed(other.parts), strict=False)
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))


def score(
    predict: Callable[[Record], np.ndarray],
    data: Data,
    classes: tuple[str, ...],
    table: np.ndarray,
    label: str,
    *,
    decision: str = "argmax",
    resamples: int = 1000,
) -> Scores:
    """Counts `predict(record)` (uint8 (H, W)) against the truth. table: uint8 (256,), truth index -> index in `classes`."""
    confusion = Confusion(classes)

    def pair(record: Record) -> tuple[str, np.ndarray, np.ndarray]:
        truth = table[masks.label_map(record)]
        return record.id, truth, predict(record)

    done = ordered(pair, data, THREADS)
    for id, truth, predicted in events.progress(done, label, len(data)):
        confusion.add(id, truth, predicted)
    return confusion.scores(expected=len(data), decision=decision, resamples=resamples)


def mask_labels(given: tuple[str, ...], known: tuple[str, ...]) -> list[int]:
    """The index in `given` of each class in `known`, -1 where it is not there. DataError for a name not known."""
    class_table(given, known, overlapping=True)
    return [given.index(name) if name in given else -1 for name in known]


def class_table(given: tuple[str, ...], known: tuple[str, ...], overlapping: bool = False) -> np.ndarray:
    """uint8 (256,): index in `given` -> index in `known`, by name; VOID stays VOID. DataError for a name not known.

    overlapping: the model has masks that may overlap and no background; where the data have one it becomes VOID.
    """
    table = np.full(256, VOID, np.uint8)
    for index, name in enumerate(given):
        if overlapping and name == BACKGROUND:
            continue
        if name not in known:
            hint = f"{suggestion(name, known)}; rename or drop it with `classes:`"
            raise DataError(f"the data have the class `{name}`, which the model does not know", hint=hint)
        table[index] = known.index(name)
    return table


def ordered(work: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """`map` in threads: results in order, at most a few items ahead of the one that is taken."""
    with ThreadPoolExecutor(workers) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
