"""ModaNet: street fashion in 13 classes, COCO's JSON drawn on photos of PaperDoll.

Two shoes are often two objects that both carry the outlines of the pair; `shoes_apart` gives each its own. `area` is that of
the box throughout, which harms nobody here: areas are always measured on the masks. Photos go by the whole number in
their name, and may lie in a folder, an LMDB database or a tree that an SQLite database describes (`modanet_photos`).
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import combinations, islice, product
from pathlib import Path
from typing import Any, Literal, get_args

from maskwright.core.errors import RecipeError
from maskwright.core.registry import suggestion
from maskwright.core.table import Data
from maskwright.core.words import counted
from maskwright.data.formats import Format, coco, coco_json, pairing
from maskwright.data.formats.coco_dialect import Dialect
from maskwright.data.formats.coco_json import Document, Glimpse, Told, Trouble
from maskwright.data.formats.modanet_photos import database, number_of
from maskwright.data.ledger import Ledger

Pairs = Literal["apart", "merged", "drawn"]
SHOES = {"footwear", "boots"}
_MARKS = (b'"scarf/tie"', b'"sunglasses"', b'"footwear"')
_MOST_PARTS, _MOST_CHOICES = 10, 20_000  # of a pair: real ones have at most 7 parts and 32 choices


def read(path: Path, ledger: Ledger, *, images: str | None = None, pairs: Pairs = "apart") -> Data:
    """Reads ModaNet's JSON, or a folder with several; the lists are those in the names of the JSONs.

    Records are named by their photo. Raises DataError when there is nothing to read, as for the published validation
    list, which has no annotations.

    images: a folder with photos named by number (`0396602.jpg`), an LMDB database whose keys are the numbers, or an SQLite
      database with PaperDoll's table `photos` above its tree; left out, they are searched below the data set.
    pairs: what becomes of `footwear` and `boots` that carry the outlines of both shoes: `apart` gives each object the
      outlines that its box measures, `merged` makes one object of all in an image, `drawn` leaves them.
    """
    if pairs not in get_args(Pairs):
        raise RecipeError(f"`pairs` cannot be `{pairs}`", hint=suggestion(pairs, get_args(Pairs)))
    dialect = Dialect(
        glimpse=glimpse, load=partial(load, pairs=pairs), name="ModaNet", key=number_of, store=database, measured=True
    )
    return coco.read_dialect(path, ledger, dialect, images=images)


def sniff(path: Path) -> tuple[float, str]:
    """Looks for classes that only ModaNet has, and for its unfetched files by their name."""
    near = Dialect(glimpse=glimpse)
    sure, why = coco.sniff_dialect(path, near, _MARKS, "has ModaNet's classes")
    if not sure:
        for file in pairing.files_near(path, ".json"):
            trouble = glimpse(file)[2]
            if trouble and "modanet" in file.name.lower():
                return 0.4, f"{file.name} {trouble.what}"
    return sure, why


def glimpse(path: Path) -> Glimpse:
    """COCO's, which also bars a list of images without any annotation."""
    sure, why, trouble = coco_json.glimpse(path)
    if not trouble:
        text = coco_json.ends(path)
        if b'"file_name"' in text and b'"segmentation"' not in text and b'"category_id"' not in text:
            hint = "ModaNet keeps the labels of this list to itself: split the training list instead"
            trouble = Trouble("holds images only, no annotations", hint)
    return (0.0, trouble.what, trouble) if trouble else (sure, why, None)


def load(path: Path, *, pairs: Pairs = "apart") -> Document:
    """The JSON with its shoes mended."""
    document = coco_json.load(path)
    groups = _shoes(document) if pairs != "drawn" else []
    told: dict[int, Told] = {}
    for group in groups:
        told |= shoes_apart(document.annotations, group) if pairs == "apart" else _merged(document.annotations, group)
    boxes = sum(_area_is_of_the_box(annotation) for annotation in document.annotations)
    many = counted(len(document.annotations), "object")
    note = f"{path.name}: `area` is that of the box in {boxes:,} of {many}: areas are measured on the masks"
    return document._replace(told=told, notes=[note] if boxes else [])


def _shoes(document: Document) -> list[list[int]]:
    """Positions of the annotations of one pair: same image, same class, all with outlines and a box."""
    names = {c.get("id"): c.get("name") for c in document.categories if isinstance(c, dict)}
    groups: dict[tuple[Any, Any], list[int]] = defaultdict(list)
    for position, annotation in enumerate(document.annotations):
        if isinstance(annotation, dict) and _parts(annotation) and names.get(annotation.get("category_id")) in SHOES:
            groups[str(annotation.get("image_id")), annotation["category_id"]].append(position)
    return list(groups.values())


def shoes_apart(annotations: list[Any], group: Sequence[int]) -> dict[int, Told]:
    """Leaves each shoe of a group the parts whose common box has the size of its own box; other parts are its fellow's.

    The corner of the box is not looked at: it is often that of the other shoe. Of all choices the one is taken that uses
    every part, and as few as can be twice; where none uses every part nothing is changed, so that no pixel is lost.
    What is then still drawn twice is used once.
    """
    outlines = [[json.dumps(part) for part in _parts(annotations[position])] for position in group]
    options = [list(_of_its_size(annotations[position])) for position in group]
    drawn = {outline for parts in outlines for outline in parts}
    best: tuple[int, tuple[tuple[int, ...], ...]] | None = None
    for choice in islice(product(*options), _MOST_CHOICES):
        used = [outlines[shoe][part] for shoe, parts in enumerate(choice) for part in parts]
        if set(used) == drawn and (best is None or len(used) < best[0]):
            best = len(used), choice
    told: dict[int, Told] = {}
    seen: dict[tuple[str, ...], int] = {}
    for shoe, position in enumerate(group):
        annotation, kept = annotations[position], best[1][shoe] if best else range(len(outlines[shoe]))
        if len(kept) < len(outlines[shoe]):
            annotation["segmentation"] = [annotation["segmentation"][part] for part in kept]
            many = counted(len(outlines[shoe]), "outline")
            told[position] = Told(f"keeps {len(kept)} of {many}: those its box measures, the rest is the other shoe's")
        first = seen.setdefault(tuple(outlines[shoe][part] for part in kept), position)
        if first != position:
            same = annotations[first].get("id")
            told[position] = Told(f"annotation {same!s:.40} of this image has the same outlines", "ignored")
    return told


def _merged(annotations: list[Any], group: Sequence[int]) -> dict[int, Told]:
    """All shoes of an image as the first one."""
    if len(group) == 1:
        return {}
    first, *others = group
    parts = {json.dumps(part): part for position in group for part in annotations[position]["segmentation"]}
    annotations[first]["segmentation"] = list(parts.values())
    id = annotations[first].get("id")
    told = {position: Told(f"joined with annotation {id!s:.40} (pairs: merged)", "ignored") for position in others}
    return told | {first: Told(f"{counted(len(others), 'object')} joined with it (pairs: merged)")}


def _parts(annotation: dict[str, Any]) -> list[list[float]]:
    """The outlines of an annotation that has a box; [] for any other."""
    parts, box = annotation.get("segmentation"), annotation.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(isinstance(side, int | float) for side in box):
        return []
    if not isinstance(parts, list) or not all(
        isinstance(part, list) and len(part) >= 6 and all(isinstance(v, int | float) for v in part) for part in parts
    ):
        return []
    return parts


def _of_its_size(annotation: dict[str, Any]) -> Iterator[tuple[int, ...]]:
    """The choices of parts whose common box is as wide and as high as the annotation's, to a pixel; else all parts."""
    parts, (_, _, width, height) = _parts(annotation), annotation["bbox"]
    sides = [(min(p[0::2]), max(p[0::2]), min(p[1::2]), max(p[1::2])) for p in parts]
    found = False
    for number in range(len(parts), 0, -1) if len(parts) <= _MOST_PARTS else ():
        for choice in combinations(range(len(parts)), number):
            left, right, top, bottom = zip(*(sides[part] for part in choice))
            if abs(max(right) - min(left) - width) <= 1 and abs(max(bottom) - min(top) - height) <= 1:
                found = True
                yield choice
    if not found:
        yield tuple(range(len(parts)))


def _area_is_of_the_box(annotation: Any) -> bool:
    box = annotation.get("bbox") if isinstance(annotation, dict) else None
    return bool(_parts(annotation)) and abs(annotation.get("area", -1) - box[2] * box[3]) < 1 if box else False


FORMAT = Format(
    name="modanet",
    summary="ModaNet: COCO JSON on PaperDoll photos, shoes of a pair drawn twice",
    sniff=sniff,
    read=read,
    instead="`coco` is the same JSON, without the doubled shoes",
)
