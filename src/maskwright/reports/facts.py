"""What the page says in words and rows: scores, the fate of the data, effort, machine. Plain values in, plain values out.

Everything that comes from a run folder may be missing or null; what is not known is None and the page leaves it out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from maskwright.core.terminal import duration
from maskwright.core.types import BACKGROUND
from maskwright.core.words import counted
from maskwright.metrics.scores import MEASURES
from maskwright.reports import figures, measures
from maskwright.reports.figures import Chart, Line, Matrix, is_number
from maskwright.reports.measures import LOSS, OF_OBJECTS, SHAPES, Kind

PARTS = {"test": "test", "val": "validation", "train": "training"}  # in the order of their weight on the page
MOST_GROUPS, MOST_EXAMPLES, MOST_IMAGES, MOST_LINES = 40, 3, 100, 200
FATES = {"refused": 0, "repaired": 1, "ignored": 2}
NO_CLASS = "no class"
HUES = ("first", "second", "third", "fourth", "fifth")  # of lines in one chart


@dataclass(frozen=True)
class Headline:
    """One headline number of a set. value, low, high: in 0..1, None where undefined."""

    name: str
    label: str
    meaning: str
    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Scored:
    """Everything the page says of one scored set. images: the worst first, at most MOST_IMAGES.

    pale: whether some class is not in the truth. notes: what a reader of the numbers must know.
    """

    part: str
    kind: Kind
    headlines: tuple[Headline, ...]
    num_images: int
    scope: str
    convention: str
    classes: tuple[dict[str, Any], ...]
    pale: bool
    confusion: Matrix | None
    spread: tuple[tuple[float, int], ...]
    images: tuple[dict[str, Any], ...]
    notes: tuple[str, ...] = ()

    def headline(self, name: str) -> Headline | None:
        return next((h for h in self.headlines if h.name == name and h.value is not None), None)


@dataclass(frozen=True)
class Board:
    """The table of headlines. rows: label, meaning, and the headline of each column or None. gauged: gauges have room."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, str, tuple[Headline | None, ...]], ...]
    gauged: bool


@dataclass(frozen=True)
class Group:
    """Items of the ledger that share a fate and a reason. why: the reason of the first, others differ in numbers and names."""

    kind: str
    fate: str
    why: str
    count: int
    alike: bool
    examples: tuple[str, ...]


def scored_sets(scores: Mapping[str, Any]) -> tuple[Scored, ...]:
    """The sets in scores.json, the most telling first."""
    return tuple(scored(name, value) for part, name in PARTS.items() if isinstance(value := scores.get(part), dict))


def scored(part: str, value: Mapping[str, Any]) -> Scored:
    kind = measures.kind_of(mapping(value.get("headlines")))
    classes = dicts(value.get("classes"))
    if kind is not measures.PIXELS:
        classes = [row for row in classes if row.get("name") != BACKGROUND or row.get("detections")]  # no object can be
    names = [str(row.get("name")) for row in classes]
    key = kind.quality.key
    images = sorted(dicts(value.get("per_image")), key=lambda row: (not is_number(row.get(key)), row.get(key)))
    spread = figures.histogram(row[key] for row in images if is_number(row.get(key)))
    counted, overlapping = mapping(value.get("images")), bool(value.get("overlapping"))
    total = sum(row["truth_pixels"] for row in classes if is_number(row.get("truth_pixels")))
    rows = [{**r, "share": ratio(r.get("truth_pixels"), total), "absent": not r.get(kind.truth)} for r in classes]
    notes = value.get("notes")
    return Scored(
        part=part,
        kind=kind,
        headlines=headlines(value, names, classes),
        num_images=counted["scored"] if is_number(counted.get("scored")) else len(images),
        scope=scope(counted, {} if overlapping else mapping(value.get("pixels")), mapping(value.get("objects"))),
        convention=str(value.get("convention") or ""),
        classes=tuple(rows),
        pale=any(row.get(kind.truth) == 0 for row in classes),
        confusion=None if overlapping else confusion(value.get("confusion"), names),
        spread=tuple(spread),
        images=tuple(images[:MOST_IMAGES]),
        notes=tuple(str(note) for note in notes) if isinstance(notes, list) else (),
    )


def board(sets: Sequence[Scored]) -> Board:
    """Headlines of pixels have a line each and a column a set; those of objects share a line, masks beside boxes."""
    if not sets:
        return Board((), (), True)
    if sets[0].kind is measures.PIXELS:
        known = ((h.name, h.label, h.meaning) for h in sets[0].headlines)
        rows = tuple((label, meaning, tuple(s.headline(name) for s in sets)) for name, label, meaning in known)
        return Board(tuple(s.part for s in sets), rows, True)
    found = [(s, shape) for s in sets for shape in SHAPES if any(h.name.startswith(f"{shape}_") for h in s.headlines)]
    meanings = {h.name.partition("_")[2]: h.meaning for h in sets[0].headlines}
    lines = [
        (label, meanings[name], tuple(s.headline(f"{shape}_{name}") for s, shape in found))
        for name, (label, _) in OF_OBJECTS.items()
        if name in meanings
    ]
    return Board(tuple(f"{s.part} {SHAPES[shape]}" for s, shape in found), tuple(lines), len(found) <= 2)


def headlines(
    value: Mapping[str, Any], names: Sequence[str], classes: Sequence[dict[str, Any]]
) -> tuple[Headline, ...]:
    kind = measures.kind_of(mapping(value.get("headlines")))
    present = [bool(row.get(kind.truth)) for row in classes]
    first = bool(names) and names[0] == BACKGROUND
    numbers = {"present": sum(present), "classes": len(names), "foreground": sum(present[first:])}
    told_of = {f"{shape}_{name}": told for shape in SHAPES for name, told in OF_OBJECTS.items()} | MEASURES
    found = []
    for name, told in mapping(value.get("headlines")).items():
        label, meaning = told_of.get(name, (name, ""))
        low, high = (number(mapping(told).get(end)) for end in ("low", "high"))
        found.append(Headline(name, label, meaning.format(**numbers), number(mapping(told).get("value")), low, high))
    return tuple(found)


def scope(images: Mapping[str, Any], pixels: Mapping[str, Any], objects: Mapping[str, Any]) -> str:
    """`pixels scored N of N` and its kin, in words."""
    parts = []
    if is_number(images.get("scored")) and is_number(images.get("of")):
        parts.append(f"{images['scored']:,} of {counted(int(images['of']), 'image')} scored")
    if is_number(pixels.get("scored")) and is_number(pixels.get("total")):
        void = f" ({pixels['void']:,} void)" if pixels.get("void") else ""
        parts.append(f"{pixels['scored']:,} of {pixels['total']:,} pixels scored{void}")
    if pixels.get("unanswered"):
        parts.append(f"{pixels['unanswered']:,} pixels were given no class and count as wrong")
    counts = [
        counted(int(objects[key]), one)
        for key, one in (("counted", "object"), ("crowds", "crowd"), ("detections", "detection"))
        if is_number(objects.get(key)) and (objects[key] or key != "crowds")
    ]
    return "; ".join([*parts, ", ".join(counts)] if counts else parts)


def confusion(counts: Any, names: Sequence[str]) -> Matrix | None:
    """The picture of the matrix; its last column (no class) only where something stands in it."""
    if not isinstance(counts, list) or len(counts) != len(names):
        return None
    rows = [[value if is_number(value) else 0 for value in row] for row in counts if isinstance(row, list)]
    if any(len(row) != len(names) + 1 for row in rows) or len(rows) != len(names):
        return None
    if any(row[-1] for row in rows):
        return figures.confusion(rows, names, [*names, NO_CLASS])
    return figures.confusion([row[:-1] for row in rows], names, names)


def curves(events: Sequence[Mapping[str, Any]], objects: bool = False) -> tuple[Chart, ...]:
    """Losses, scores, learning rate and speed against samples seen. objects: of a model that finds objects."""
    rows, steps = epochs(events, objects), of(events, "step")

    def line(name: str, kind: str, key: str, show: Any, rows: Sequence[Mapping[str, Any]] = rows) -> Line:
        return Line(name, kind, figures.finite((row.get("samples"), row.get(key)) for row in rows), show)

    def lines(keys: Mapping[str, str]) -> list[Line]:
        return [line(name, HUES[i % len(HUES)], key, "{:.3f}".format) for i, (key, name) in enumerate(keys.items())]

    best = next((e.get("samples") for e in reversed(rows) if e.get("best")), None)
    best = number(best)
    losses = {key: measures.told_loss(key).removesuffix(" loss") for row in rows for key in row if key.startswith(LOSS)}
    of_pixels = {"val_miou": "mean IoU", "val_pixel_accuracy": "pixel accuracy"}
    of_objects = {"val_mask_ap": "mask AP", "val_mask_ap50": "mask AP50", "val_box_ap": "box AP"}
    charts = (
        figures.chart(
            "Loss",
            [line("batch", "faint", "loss", None, steps), *lines({"train_loss": "training", "val_loss": "validation"})],
            best=best,
        ),
        figures.chart("Losses by name", lines(losses), best=best) if len(losses) > 1 else None,
        figures.chart("Validation scores", lines(of_objects if objects else of_pixels), top=1.0, best=best),
        figures.chart("Learning rate", [replace(line("per step", "first", "lr", figures.short, steps), dotted=False)]),
        figures.chart("Images per second", [line("per epoch", "first", "images_per_second", "{:.1f}".format)]),
    )
    return tuple(chart for chart in charts if chart)


def epochs(events: Sequence[Mapping[str, Any]], objects: bool = False) -> list[Mapping[str, Any]]:
    """What each epoch told; of a model that finds objects every loss has a key of its own."""
    told = of(events, "epoch")
    if not objects:
        return told
    return [{**row, **{f"{LOSS}{name}": v for name, v in mapping(row.get("losses")).items()}} for row in told]


def finds_objects(run: Mapping[str, Any], sets: Sequence[Scored]) -> bool:
    """Whether a run is about objects one by one; the scores know it where run.json is lost."""
    return run.get("task") == "instance" or bool(sets and sets[0].kind is not measures.PIXELS)


def ledger_groups(ledger: Mapping[str, Any]) -> tuple[Group, ...]:
    """Lines that differ only in numbers and names become one: refused first, then the largest."""
    groups: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for line in dicts(ledger.get("lines")):
        why = str(line.get("why"))
        pattern = re.sub(r"`[^`]*`|'[^']*'|\d[\d.,]*", "#", why)
        groups.setdefault((str(line.get("fate")), str(line.get("kind")), pattern), []).append(line)
    found = [
        Group(
            kind=kind,
            fate=fate,
            why=str(lines[0].get("why")),
            count=len(lines),
            alike=len({line.get("why") for line in lines}) > 1,
            examples=tuple(str(line.get("item")) for line in lines[:MOST_EXAMPLES]),
        )
        for (fate, kind, _), lines in groups.items()
    ]
    return tuple(sorted(found, key=lambda g: (FATES.get(g.fate, 9), -g.count)))


def effort(run: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Rows of (what, estimated, measured, measured / estimated)."""
    estimate, actual = mapping(run.get("estimate")), mapping(run.get("actual"))
    rows = []
    for name, key, show in (("time", "seconds", duration), ("peak memory", "memory_gb", gigabytes)):
        guessed, measured = number(estimate.get(key)), number(actual.get(key))
        if guessed is None and measured is None:
            continue
        quotient = ratio(measured, guessed)
        before, after = ("–" if value is None else show(value) for value in (guessed, measured))
        rows.append((name, before, after, "–" if quotient is None else f"{quotient:.2f}×"))
    return rows


def machine(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of (what, value) on device, precision, hardware and versions."""
    device, hardware = mapping(run.get("device")), mapping(run.get("hardware"))
    cores, memory = hardware.get("cores"), number(hardware.get("memory_gb"))
    named = " – ".join(str(device[key]) for key in ("name", "reason") if device.get(key))
    rows = [
        ("device", named),
        ("precision", device.get("precision")),
        ("GPU", hardware.get("gpu")),
        ("CPU", " – ".join(str(v) for v in (hardware.get("cpu"), counted(cores, "core") if cores else None) if v)),
        ("memory", gigabytes(memory) if memory is not None else None),
        ("system", hardware.get("system")),
        *((str(name), version) for name, version in mapping(run.get("versions")).items()),
    ]
    return [(name, str(value)) for name, value in rows if value]


def weights(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of (what, value) on what the training started from."""
    told = mapping(run.get("weights"))
    rows = [("source", told.get("source")), *((f"tensors {key}", told.get(key)) for key in ("loaded", "skipped"))]
    return [(name, f"{value:,}" if is_number(value) else str(value)) for name, value in rows if value is not None]


def exported(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Rows of (what, value) on model.onnx and its parity check."""
    told = mapping(mapping(run.get("export")).get("onnx"))
    shown = {
        "size_mb": ("model.onnx", "{:.1f} MB".format),
        "images": ("checked against torch on", lambda images: counted(images, "validation image")),
        "max_logit_difference": ("largest logit difference", "{:.1e}".format),
        "pixels_changed": ("pixels with another class", "{:.4%}".format),
        "objects": ("objects in them", "{:,}".format),
        "unmatched": ("objects that one of the two alone finds", "{:,}".format),
        "min_iou": ("smallest overlap of an object's pixels", "{:.4f}".format),
        "max_score_difference": ("largest difference of a score", "{:.1e}".format),
    }
    return [(name, form(told[key])) for key, (name, form) in shown.items() if is_number(told.get(key))]


def labelled(run: Mapping[str, Any], objects: bool = False) -> list[dict[str, Any]]:
    """The classes of the labels; `bar` is the share against the largest class but the background, which has none.

    objects: the share is that of the objects, and there is no background.
    """
    rows = dicts(mapping(run.get("data")).get("classes"))
    first = bool(rows) and rows[0].get("name") == BACKGROUND
    if objects:
        rows, first = rows[first:], False
    key = "objects" if objects else "share"
    most = max((row[key] for row in rows[first:] if is_number(row.get(key))), default=None)
    return [{**row, "bar": None if first and not i else ratio(row.get(key), most)} for i, row in enumerate(rows)]


def summary(run: Mapping[str, Any], status: str) -> str:
    """One sentence for those who read only one: which network learned what, from how much, where."""
    model, data = mapping(run.get("model")), mapping(run.get("data"))
    if not model.get("name"):
        return ""
    encoder = f" on {model['encoder']}" if model.get("encoder") else ""
    size = f" ({model['parameters'] / 1e6:,.1f} million parameters)" if is_number(model.get("parameters")) else ""
    counts = mapping(data.get("images"))
    images = counts.get("train")
    source = f" with {counted(int(images), 'image')}" if is_number(images) else ""
    classes = run.get("classes")
    what = ""
    if isinstance(classes, list) and classes:
        number_of = counted(len(classes), "class")
        what = f" to find objects of {number_of}" if run.get("task") == "instance" else f" to tell {number_of} apart"
    seconds = number(mapping(run.get("actual")).get("seconds"))
    device = mapping(run.get("device")).get("name")
    device = mapping(run.get("hardware")).get("cpu") or device if device == "cpu" else device
    where = f" on {device}" if device else ""
    time = f" It took {duration(seconds)}{where}." if seconds is not None else ""
    verb = "trained" if status == "finished" else "set out to train"
    unmeasured = (
        " Its quality was not measured on validation images: all of them trained." if counts.get("val") == 0 else ""
    )
    return f"This run {verb} {model['name']}{encoder}{size}{source}{what}.{time}{unmeasured}"


def of(events: Iterable[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    return [event for event in events if event.get("event") == name]


def dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def number(value: Any) -> float | None:
    return value if is_number(value) else None


def ratio(part: Any, whole: Any) -> float | None:
    return part / whole if is_number(part) and is_number(whole) and whole else None


def gigabytes(value: float) -> str:
    return f"{value:.1f} GB"
