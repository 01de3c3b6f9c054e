"""Label Studio's exports as tasks: which annotation of each is taken, and the marks in it, JSON and JSON-MIN alike.

A mark is what the results of one id say together: a shape, its labels, and what was asked about the region.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from maskwright.data.formats import sheets

SHAPES = {"rle": "brush", "points": "polygon", "radiusX": "ellipse", "height": "rectangle", "x": "point"}
_ASKED = ("choices", "textarea", "number", "rating", "taxonomy", "text", "datetime")
_ABOUT = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time")  # of JSON-MIN, beside the data


@dataclass
class Mark:
    """One region. kind: what SHAPES calls it, or "": it has no shape; where: its number and id, for messages."""

    where: str
    kind: str = ""
    value: Mapping[str, Any] = field(default_factory=dict)
    labels: list[Any] = field(default_factory=list)
    size: tuple[int, int] | None = None
    rotation: Any = 0
    item: Any = None
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Annotation:
    """What one person said of a task. why_not: it cannot be taken, and why; names: number and e-mail of the person."""

    marks: list[Mark]
    why_not: str | None
    ground_truth: bool
    changed: str
    names: frozenset[str]


@dataclass
class Task:
    """One task. number: as Label Studio counts it; data: what it showed."""

    number: str
    data: Mapping[str, Any]
    annotations: list[Annotation] = field(default_factory=list)
    num_predictions: int = 0


def tasks(entries: list[Any]) -> Iterator[Task | str]:
    """The tasks of an export, or, for an entry that is none, what it is instead."""
    smalls: dict[tuple[str, str], Task] = {}
    for number, entry in enumerate(entries):
        if not isinstance(entry, dict):
            yield f"[{number}]"
            continue
        if isinstance(entry.get("task"), dict) and "result" in entry:  # one annotation, as sync storages keep it
            entry = {**entry["task"], "annotations": [entry]}
        said = entry.get("annotations", entry.get("completions"))
        if isinstance(said, list) or isinstance(entry.get("data"), dict):
            data = dict(entry["data"]) if isinstance(entry.get("data"), dict) else {}
            data["file_upload"] = entry.get("file_upload")
            found = [_annotation(one) for one in said if isinstance(one, dict)] if isinstance(said, list) else []
            guesses = entry.get("predictions")
            num_guesses = len(guesses) if isinstance(guesses, list) else 0
            yield Task(f"{entry.get('id', number)!s:.40}", data, found, num_guesses)
            continue
        data = {key: value for key, value in entry.items() if isinstance(value, str) and key not in _ABOUT}
        id = f"{entry.get('id', number)!s:.40}"
        small = smalls.setdefault((id, repr(sorted(data.items()))), Task(id, data))
        small.annotations.append(_of_minimal(entry))
        if len(small.annotations) == 1:
            yield small  # later entries of the same task join its annotations before anybody looks at them


def chosen(task: Task, annotator: str | None) -> tuple[Annotation | None, dict[int, str]]:
    """The annotation that is taken, and why the others, by their place, are not.

    Of those that were not cancelled (and are `annotator`'s, where one is wanted): the ground truth, else the one that was
    changed last.
    """
    why_not = {place: one.why_not for place, one in enumerate(task.annotations) if one.why_not}
    for place, one in enumerate(task.annotations):
        if annotator is not None and annotator not in one.names:
            why_not.setdefault(place, f"not by `{annotator}` (annotator)")
    usable = [place for place in range(len(task.annotations)) if place not in why_not]
    if not usable:
        return None, {place: str(why) for place, why in why_not.items()}
    best = max(usable, key=lambda place: (*_rank(task.annotations[place]), place))
    how = "it is the ground truth" if task.annotations[best].ground_truth else "it was changed last"
    return task.annotations[best], {place: str(why) for place, why in why_not.items()} | {
        place: f"another annotation of the task is taken: {how}" for place in usable if place != best
    }


def _rank(annotation: Annotation) -> tuple[bool, str]:
    return annotation.ground_truth, annotation.changed


def _annotation(said: Mapping[str, Any]) -> Annotation:
    cancelled = said.get("was_cancelled") or said.get("skipped")
    results = said.get("result")
    why_not = (
        "the annotation was cancelled" if cancelled else None if isinstance(results, list) else "it has no `result`"
    )
    marks = _marks(results if isinstance(results, list) else [])
    return Annotation(
        marks, why_not, said.get("ground_truth") is True, _changed(said), _names(said.get("completed_by"))
    )


def _of_minimal(entry: Mapping[str, Any]) -> Annotation:
    """The annotation in an entry of JSON-MIN, whose regions stand in lists under the names of their tags."""
    lists = {key: value for key, value in entry.items() if isinstance(value, list)}
    results = [
        {
            "value": item,
            "from_name": key,
            **{k: item.get(k) for k in ("original_width", "original_height", "image_rotation")},
        }
        for key, items in lists.items()
        for item in items
        if isinstance(item, dict)
    ]
    return Annotation(_marks(results), None, False, _changed(entry), _names(entry.get("annotator")))


def _changed(said: Mapping[str, Any]) -> str:
    """When, as ISO text, which sorts as time does; "" where nobody says."""
    times = (said.get("updated_at"), said.get("created_at"))
    return next((time for time in times if isinstance(time, str)), "")


def _names(person: Any) -> frozenset[str]:
    said = [person.get("id"), person.get("email")] if isinstance(person, dict) else [person]
    return frozenset(str(name) for name in said if isinstance(name, int | str))


def _marks(results: list[Any]) -> list[Mark]:
    """The results, those of one id joined, in the order of their first."""
    marks: dict[Any, Mark] = {}
    for number, result in enumerate(results):
        said = result if isinstance(result, dict) else {}
        id = said.get("id") if isinstance(said.get("id"), str | int) else None
        where = f"result[{number}]" if id is None else f"result {id!s:.40}"
        mark = marks.setdefault((number, None) if id is None else (None, id), Mark(where))
        value = said.get("value")
        if isinstance(value, dict):
            _add(mark, said, value)
    return list(marks.values())


def _add(mark: Mark, said: Mapping[str, Any], value: Mapping[str, Any]) -> None:
    """What a result says of a region."""
    kind = next((name for key, name in SHAPES.items() if key in value), "")
    if kind and not mark.kind:
        mark.kind, mark.value = kind, value
        mark.size = sheets.stated(said.get("original_height"), said.get("original_width"))
        mark.rotation, mark.item = said.get("image_rotation"), said.get("item_index")
    for key, labels in value.items():
        if key.endswith("labels") and isinstance(labels, list):
            mark.labels += [label for label in labels if label not in mark.labels]
        elif key in _ASKED and isinstance(said.get("from_name"), str):
            mark.attributes |= sheets.kept({said["from_name"]: labels})
