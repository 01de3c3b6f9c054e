"""The page that `maskwright check` prints: facts in, lines on a terminal out; readable at 80 columns and without colour."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from maskwright.core.words import counted

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

MOST_CLASSES = 40  # a longer table shows its largest classes
MOST_REASONS = 8
EXAMPLES = 3
LONGEST_NOTE = 300
EIGHTHS = " ▏▎▍▌▋▊▉█"
FATES = ("seen", "used", "repaired", "ignored", "refused")
FATE_STYLES = {"refused": "bold red", "ignored": "yellow", "repaired": "cyan"}


def show(facts: dict[str, Any], console: Console) -> None:
    """Prints what `check` found. facts: as `Checked.facts`."""
    from rich.text import Text

    console.print(Text(facts["path"], style="bold"), soft_wrap=True)
    console.print(_grid(_summary(facts)))
    if facts["images"]:
        console.print()
        _show_classes(facts, console)
    console.print()
    console.print(_ledger_table(facts["ledger"]["totals"]))
    for fate in ("refused", "ignored", "repaired"):
        _show_reasons(fate, facts, console)
    notes = [*facts["ledger"]["notes"], *_warnings(facts)]
    if notes:
        console.print("\nnotes", style="bold")
        console.print(_grid([("-", shorten(note, LONGEST_NOTE, placeholder=" ...: see --json")) for note in notes]))


# ------------------------------------------------------------------------------------------------------------ summary


def _summary(facts: dict[str, Any]) -> Iterable[tuple[str, str]]:
    yield "format", f"{facts['format']}: {facts['reason']}"
    yield "images", f"{facts['images']:,}{_sizes(facts['sizes'])}"
    objects = any(row["objects"] is not None for row in facts["classes"])
    crowds = f", {facts['crowds']:,} of them crowds" if facts["crowds"] else ""
    classes = [row["name"] for row in facts["classes"]]
    background = " and background" if "background" in classes else ""
    of = f"{counted(len(classes) - bool(background), 'class')}{background}"
    numbered = facts["numbered_objects"]
    yield ("objects" if objects and not numbered else "labels"), f"{facts['annotations']:,}{crowds}, of {of}"
    if numbered:
        yield "objects", f"{numbered:,}, told apart by number"
    if facts["pixels"]:
        void = facts["void_pixels"]
        share = f", {_percent(void / facts['pixels'])} of them VOID (count nowhere)" if void else ""
        yield "pixels", f"{_short(facts['pixels'])}{share}"
    yield from _split(facts["splits"], facts["training"])


def _split(lists: dict[str, Any], training: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """The data's own lists, and what `train` makes of them where that is something else."""
    parts = ", ".join(f"{part} {training[part]:,}" for part in ("train", "val", "test") if training.get(part))
    if training["how"] == f"official lists ({parts})":
        yield "split", training["how"]
        return
    if lists:
        yield "lists", ", ".join(f"{name} {part['images']:,}" for name, part in lists.items())
    yield "split", f"{parts}: {training['how']}" if training["how"] else training["error"]


def _sizes(sizes: dict[str, list[int]] | None) -> str:
    if sizes is None:
        return ""
    (h0, w0), (h1, w1), (h, w) = sizes["smallest"], sizes["largest"], sizes["median"]
    if (h0, w0) == (h1, w1):
        return f", all {w} x {h} pixels"
    return f", {w0} x {h0} to {w1} x {h1} pixels (median {w} x {h})"


def _warnings(facts: dict[str, Any]) -> Iterable[str]:
    if only := facts["training"].get("only_in_validation"):
        yield f"{counted(len(only), 'class')} in validation or test that no training image shows: {_few(only, 8)}"
    for leak in facts["leaks"]:
        yield f"leak: {leak['why']} in {' and '.join(dict.fromkeys(leak['parts']))}: {_few(leak['ids'])}"


# ------------------------------------------------------------------------------------------------------------ classes


def _show_classes(facts: dict[str, Any], console: Console) -> None:
    """One row a class: objects, images, pixels, share, and a bar as long as its share among the drawn classes."""
    from rich.table import Table
    from rich.text import Text

    from maskwright.imaging.palette import class_colours

    names = [row["name"] for row in facts["classes"]]
    rows = list(zip(facts["classes"], class_colours(names), strict=False))
    shown = _largest(rows)
    measured = facts["pixels"] is not None
    objects = any(row["objects"] is not None for row, _ in rows)
    if not measured and not objects:
        console.print(_grid([("classes", ", ".join(names))]))
        return
    columns = ["class", *(["objects"] if objects else []), "images", *(["pixels", "share"] if measured else [])]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="left" if column == "class" else "right", no_wrap=True, overflow="ellipsis")
    widest = max(len(name) for name in names)
    table.columns[0].max_width = max(12, min(widest, console.width - 50))
    width = min(32, console.width - 40 - min(widest, console.width - 50))
    bars = measured and width >= 6
    if bars:
        table.add_column("")
    most = max((row["pixels"] or 0 for row, _ in rows if row["name"] != "background"), default=0)
    for row, colour in shown:
        cells: list[RenderableType] = [Text(row["name"])]
        cells += [_number(row[c]) for c in ("objects", "images") if c in columns]
        if measured:
            share = row["pixels"] / facts["pixels"] if facts["pixels"] else 0.0
            cells += [_short(row["pixels"]), _percent(share) if row["pixels"] else "-"]
        if bars:
            length = row["pixels"] / most if most and row["name"] != "background" else 0.0
            style = "rgb({},{},{})".format(*colour.tolist())
            cells.append(Text(_bar(length, width, console.encoding), style=style))
        table.add_row(*cells)
    console.print(table)
    if len(shown) < len(rows):
        console.print(f"... and {counted(len(rows) - len(shown), 'smaller class')}: see --json", style="dim")


def _largest(rows: list[Any]) -> list[Any]:
    """The rows to show, in their order: all, or those of the largest classes."""
    if len(rows) <= MOST_CLASSES:
        return rows
    by_size = sorted(range(len(rows)), key=lambda i: (-(rows[i][0]["pixels"] or 0), -(rows[i][0]["objects"] or 0), i))
    return [rows[i] for i in sorted(by_size[: MOST_CLASSES - 10])]


def _bar(share: float, width: int, encoding: str) -> str:
    """At least a hair for what is there at all."""
    if share <= 0:
        return ""
    if not encoding.lower().startswith("utf"):
        return "#" * max(1, round(share * width))
    eighths = max(1, round(share * width * 8))
    return "█" * (eighths // 8) + (EIGHTHS[eighths % 8] if eighths % 8 else "")


# ------------------------------------------------------------------------------------------------------------- ledger


def _ledger_table(totals: dict[str, dict[str, int]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("ledger")
    for fate in FATES:
        table.add_column(fate, justify="right")
    for kind, row in totals.items():
        if row["seen"]:
            styled = (Text(_number(row[fate] or None), style=_style(fate, row[fate])) for fate in FATES)
            table.add_row(f"{kind}s", *styled)
    return table


def _show_reasons(fate: str, facts: dict[str, Any], console: Console) -> None:
    """The items of one fate, those of the same reason together, the most frequent reason first."""
    from rich.text import Text

    groups = grouped([line for line in facts["ledger"]["lines"] if line["fate"] == fate])
    if not groups:
        return
    console.print(Text(f"\n{fate}", style=FATE_STYLES[fate]))
    rows = []
    for kind, why, items in groups[:MOST_REASONS]:
        names = [item.replace(f"{facts['path'].rstrip('/')}/", "") for item in items]
        rows.append((counted(len(items), kind), f"{why}: {_few(names, EXAMPLES, 'see --json')}"))
    console.print(_grid(rows))
    if (rest := len(groups) - MOST_REASONS) > 0:
        console.print(f"  ... and {counted(rest, 'more reason')}: see --json", style="dim")


def grouped(lines: Sequence[dict[str, str]]) -> list[tuple[str, str, list[str]]]:
    """(kind, reason, items), annotations last, large groups first. Reasons that differ in numbers only are one."""
    groups: dict[tuple[str, str], tuple[str, list[str]]] = {}
    for line in lines:
        key = (line["kind"], re.sub(r"\d[\d,.]*", "#", line["why"]))
        why, items = groups.setdefault(key, (line["why"], []))
        items.append(line["item"])
        if why != line["why"] and not why.endswith(" or the like"):
            groups[key] = (f"{why} or the like", items)
    found = [(kind, why, items) for (kind, _), (why, items) in groups.items()]
    return sorted(found, key=lambda group: (group[0] == "annotation", -len(group[2])))


# -------------------------------------------------------------------------------------------------------------- words


def _grid(rows: Iterable[tuple[str, str]]) -> RenderableType:
    """Two columns, indented; long text wraps below its own column."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for left, right in rows:
        grid.add_row(Text(left, style="dim"), Text(right))
    return Padding(grid, (0, 0, 0, 2), expand=False)


def _style(fate: str, count: int) -> str:
    return FATE_STYLES.get(fate, "") if count else ""


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def _short(value: int) -> str:
    """`50`, `1,439`, `318 k`, `69.8 M`, `2.1 G`."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            scaled = value / (1e3 if unit == "k" else size)
            return f"{scaled:.1f} {unit}" if unit != "k" else f"{scaled:.0f} k"
    return f"{value:,}"


def _percent(share: float) -> str:
    return f"{share:.1%}".replace("%", " %") if share >= 0.0005 else "< 0.1 %"


def _few(names: Sequence[str], most: int = EXAMPLES, where: str | None = None) -> str:
    rest = len(names) - most
    tail = f" ... and {rest:,} more" + (f": {where}" if where else "") if rest > 0 else ""
    return ", ".join(names[:most]) + tail
