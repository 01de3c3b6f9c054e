"""The pictures of a run as data URIs that fit into a budget: as they are, else smaller, else fewer, and saying so."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from maskwright.reports.measures import MEAN_IOU, SHORT

SIDES = (None, 320, 224, 160)  # the longest side tried, in pixels, one after the other; None: the file as it is
KINDS = {b"RIFF": "webp", b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg"}
LAYERS = ("image", "truth", "predicted")
WATCHED = ("image", "now", "before")  # of a photo without labels; the last where a run before watched it too


@dataclass(frozen=True)
class Shown:
    """One picture of the page. uri: data URI; size: width, height in pixels."""

    uri: str
    size: tuple[int, int]


@dataclass(frozen=True)
class Sample:
    """One entry of the run's picture list with its pictures: `file` of a training sample, LAYERS or WATCHED of others."""

    entry: dict[str, Any]
    shown: dict[str, Shown]


@dataclass(frozen=True)
class Pictures:
    """What the page shows. part: of the images answered; measure: what their score is, in short.

    notes: what was left out or made smaller, as sentences.
    """

    train: tuple[Sample, ...] = ()
    best: tuple[Sample, ...] = ()
    worst: tuple[Sample, ...] = ()
    watch: tuple[Sample, ...] = ()
    watched: dict[str, Any] = field(default_factory=dict)
    part: str = "validation"
    measure: str = SHORT[MEAN_IOU]
    notes: tuple[str, ...] = field(default=())


def choose(folder: Path, index: dict[str, Any], budget: int) -> Pictures:
    """The pictures that `index` lists in `folder`, in at most `budget` bytes of data URIs.

    A file that is missing, unreadable or outside the folder is left out with a note.
    """
    groups = {
        "train": entries(index, "train"),
        "best": [e for e in entries(index, "val") if e.get("rank") == "best"],
        "worst": [e for e in entries(index, "val") if e.get("rank") == "worst"],
        "watch": entries(index, "watch"),
    }
    whole, notes = {}, []
    for name, group in groups.items():
        whole[name] = [sample for entry in group if (sample := read(folder, entry, None))]
        if len(whole[name]) < len(group):
            notes.append(
                f"{len(group) - len(whole[name])} of {len(group)} pictures ({name}) could not be read and are left out."
            )
    chosen = whole
    for side in SIDES[1:]:
        if weight(chosen) <= budget:
            break
        chosen = {name: [read(folder, s.entry, side) or s for s in group] for name, group in whole.items()}
        note = f"Pictures are shrunk to {side} px to keep this page below 5 MB."
    if chosen is not whole:
        notes.append(note)
    kept = within(chosen, budget)
    if weight(kept) < weight(chosen):
        shown, listed = (sum(map(len, groups.values())) for groups in (kept, chosen))
        notes.append(f"{shown} of {listed} pictures are shown, to keep this page below 5 MB.")
    about = index.get("watched")
    watched = about if isinstance(about, dict) else {}
    shown_of = {name: tuple(group) for name, group in kept.items()}
    part = "test" if index.get("part") == "test" else "validation"
    measure = str(index.get("measure") or MEAN_IOU)
    return Pictures(**shown_of, watched=watched, part=part, measure=SHORT.get(measure, measure), notes=tuple(notes))


def entries(index: dict[str, Any], name: str) -> list[dict[str, Any]]:
    listed = index.get(name)
    return [e for e in listed if isinstance(e, dict)] if isinstance(listed, list) else []


def read(folder: Path, entry: dict[str, Any], side: int | None) -> Sample | None:
    """The pictures of one entry, or None when one of them cannot be had."""
    shown = {}
    for layer in layers(entry):
        picture = load(folder, entry.get(layer), side)
        if picture is None:
            return None
        shown[layer] = picture
    return Sample({"score": entry.get("miou"), **entry}, shown)  # `miou`: in runs before there was a measure


def layers(entry: dict[str, Any]) -> tuple[str, ...]:
    if "file" in entry:
        return ("file",)
    return tuple(layer for layer in WATCHED if layer in entry) if "now" in entry else LAYERS


def load(folder: Path, name: Any, side: int | None) -> Shown | None:
    """One picture file; None when it is missing, outside `folder` (a page must not carry other files) or no picture."""
    if not isinstance(name, str):
        return None
    try:
        path = (folder / name).resolve(strict=True)
        if not path.is_relative_to(folder.resolve()):
            return None
        data = path.read_bytes()
        kind = next((kind for magic, kind in KINDS.items() if data.startswith(magic)), None)
        if kind is None:
            return None
        with Image.open(io.BytesIO(data), formats=(kind,)) as image:
            size = image.size
            if side is not None and max(size) > side:
                image.thumbnail((side, side))
                size, kind, buffer = image.size, "webp", io.BytesIO()
                image.convert("RGB").save(buffer, "webp", quality=70)
                data = buffer.getvalue()
    except (OSError, ValueError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    return Shown(f"data:image/{kind};base64,{base64.b64encode(data).decode()}", size)


def weight(groups: dict[str, list[Sample]]) -> int:
    return sum(cost(sample) for group in groups.values() for sample in group)


def cost(sample: Sample) -> int:
    return sum(len(shown.uri) for shown in sample.shown.values())


def within(groups: dict[str, list[Sample]], budget: int) -> dict[str, list[Sample]]:
    """The first entries of each group, taken in turn (worst, watch, best, train) while they fit."""
    kept: dict[str, list[Sample]] = {name: [] for name in groups}
    for name, sample in in_turn({name: groups[name] for name in ("worst", "watch", "best", "train")}):
        budget -= cost(sample)
        if budget < 0:
            break
        kept[name].append(sample)
    return kept


def in_turn(groups: dict[str, Sequence[Sample]] | dict[str, list[Sample]]) -> Iterable[tuple[str, Sample]]:
    for position in range(max(map(len, groups.values()), default=0)):
        for name, group in groups.items():
            if position < len(group):
                yield name, group[position]
