"""The fate of every file, image and annotation of a data set: used, repaired, ignored or refused, with the reason.

Three kinds are counted, each on its own: "file" (everything found on disk below the data set's folder), "image"
(everything the labels list or a pairing found), "annotation" (objects; a label-map file is one annotation). What a
reader has `seen` must equal the sum of the four fates: `reconcile` says where it does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["file", "image", "annotation"]
Fate = Literal["used", "repaired", "ignored", "refused"]
KINDS: tuple[Kind, ...] = ("file", "image", "annotation")
FATES: tuple[Fate, ...] = ("used", "repaired", "ignored", "refused")


@dataclass(frozen=True, slots=True)
class Line:
    """One item that was not simply used. item: a path or an id, as a person would look for it; why: one clause."""

    kind: Kind
    item: str
    fate: Fate
    why: str


class Ledger:
    """Collects fates while data sets are read; simply used items are counted, all others keep a line."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.notes: list[str] = []  # facts about the set as a whole: "class `tie` has no pixel"
        self._seen: Counter[Kind] = Counter()
        self._counts: Counter[tuple[Kind, Fate]] = Counter()
        self._last: dict[tuple[Kind, str], int] = {}  # where in `lines` an item stands

    def seen(self, kind: Kind, count: int = 1) -> None:
        self._seen[kind] += count

    def used(self, kind: Kind, count: int = 1) -> None:
        self._counts[kind, "used"] += count

    def repaired(self, kind: Kind, item: object, why: str) -> None:
        """The item is used, after a change that `why` names."""
        self._add(kind, item, "repaired", why)

    def ignored(self, kind: Kind, item: object, why: str) -> None:
        """The item is not used and nobody asked for it: unlisted, unlabelled, hidden, not an image, switched off."""
        self._add(kind, item, "ignored", why)

    def refused(self, kind: Kind, item: object, why: str) -> None:
        """The item is listed or labelled and cannot be used."""
        self._add(kind, item, "refused", why)

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def revise(self, kind: Kind, item: object, fate: Fate, why: str) -> None:
        """An item that was counted as used turns out otherwise (found while its pixels were read).

        Where the item has a line already because it was used after a repair, the new fate takes that line's place.
        """
        place = self._last.get((kind, str(item)))
        if place is None or self.lines[place].fate != "repaired":
            self._counts[kind, "used"] -= 1
            self._add(kind, item, fate, why)
            return
        before = self.lines[place]
        self._counts[kind, "repaired"] -= 1
        self._counts[kind, fate] += 1
        both = f"{before.why}, {why}" if fate == "repaired" else why
        self.lines[place] = Line(kind, before.item, fate, both)

    def count(self, kind: Kind, fate: Fate) -> int:
        return self._counts[kind, fate]

    def of(self, fate: Fate) -> Iterator[Line]:
        return (line for line in self.lines if line.fate == fate)

    @property
    def num_refused(self) -> int:
        return sum(self._counts[kind, "refused"] for kind in KINDS)

    def totals(self) -> dict[str, dict[str, int]]:
        """{"file": {"seen": n, "used": n, "repaired": n, "ignored": n, "refused": n}, "image": ..., ...}"""
        return {kind: {"seen": self._seen[kind]} | {fate: self._counts[kind, fate] for fate in FATES} for kind in KINDS}

    def reconcile(self) -> None:
        """A reader that lost an item is our bug, not the user's."""
        for kind, row in self.totals().items():
            parts = sum(row[fate] for fate in FATES)
            assert row["seen"] == parts, f"ledger of {kind}s: {row['seen']} seen, {parts} accounted for: {row}"

    def to_json(self) -> dict[str, Any]:
        lines = [{"kind": n.kind, "item": n.item, "fate": n.fate, "why": n.why} for n in self.lines]
        return {"totals": self.totals(), "lines": lines, "notes": self.notes}

    def _add(self, kind: Kind, item: object, fate: Fate, why: str) -> None:
        self._counts[kind, fate] += 1
        self._last[kind, str(item)] = len(self.lines)
        self.lines.append(Line(kind, str(item), fate, why))
