"""The images and objects of a COCO JSON into a Packer, each with its fate in the ledger.

Most annotations are plain and take the fast road (`_add_plain`); all others are looked at closely (`_add_odd`), which
knows every oddity and has a reason for each. Whatever the JSON holds, nothing here raises.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from maskwright.core.errors import DataError
from maskwright.core.events import progress
from maskwright.core.table import Packer
from maskwright.data.formats import label_sizes
from maskwright.data.formats.coco_json import NOTHING_TOLD, Told, kind_of
from maskwright.data.formats.coco_photos import PhotoSource, readable
from maskwright.data.formats.label_sizes import Sized
from maskwright.data.ledger import Ledger
from maskwright.imaging import masks

Crowd = Literal["ignore", "foreground", "drop"]
_LONGEST_SIDE = 1_000_000
_LARGEST_ID = 2**63 - 1


@dataclass
class Album:
    """What the label files of one data set add up to, and what they have in common while they are read."""

    photos: PhotoSource
    prefix: str  # from the data set's folder to the photos' (with `/`), for the ids
    ledger: Ledger
    crowd: Crowd
    measured: bool = False  # the headers of photos are read and compared with the sizes that the labels give
    packer: Packer = field(default_factory=Packer)
    sizes: list[tuple[int, int]] = field(default_factory=list)
    drawn: dict[int, tuple[int, int]] = field(default_factory=dict)  # position -> size of its labels, where another
    paths: list[str] = field(default_factory=list)
    listed: dict[str, tuple[int, str, str | None]] = field(default_factory=dict)  # id -> position, JSON, split
    others: set[str] = field(default_factory=set)  # files that were read beside JSONs and photos
    spoilt: set[str] = field(default_factory=set)  # files that were found and whose image was refused
    num_missing: int = 0
    num_crowds: int = 0
    num_without_mask: int = 0


@dataclass
class Listing:
    """What one JSON calls things: its image ids -> positions in the album, or the reason why an image is refused."""

    json: str  # relative to the data set
    place: str  # as messages show it
    split: str | None
    finite: bool  # no number in it can be NaN or infinite
    kind: str = "JSON"  # what such a file and its entries are called
    entry: str = "annotation"
    positions: dict[Any, int] = field(default_factory=dict)
    lost: dict[Any, str] = field(default_factory=dict)
    annotation_ids: set[Any] = field(default_factory=set)


class _Unusable(Exception):
    """An image or annotation that cannot be used, and why."""

    def __init__(self, why: str, *, ignored: bool = False):
        super().__init__(why)
        self.why, self.ignored = why, ignored


def add_images(album: Album, entries: list[Any], listing: Listing) -> None:
    """The `images` of a JSON. Those whose photo or size cannot be had are refused."""
    places = album.photos.places(listing.json)
    torn = _torn_ids(entries)
    album.ledger.seen("image", len(entries))
    for number, entry in enumerate(entries):
        try:
            repair = _add_image(album, entry, listing, places, torn)
        except _Unusable as reason:
            id = entry.get("id") if isinstance(entry, dict) else None
            name = f"image {id!s:.40} ({entry.get('file_name')!s:.200})" if _is_id(id) else f"images[{number}]"
            if _is_id(id) and not reason.ignored:
                listing.lost[id] = reason.why
            refuse = album.ledger.ignored if reason.ignored else album.ledger.refused
            refuse("image", readable(f"{listing.place}: {name}"), reason.why)
        else:
            if repair:
                album.ledger.repaired("image", album.paths[-1], repair)
            else:
                album.ledger.used("image")


def add_objects(
    album: Album,
    annotations: list[Any],
    listing: Listing,
    labels: Mapping[Any, int],
    told: Mapping[int, Told] = NOTHING_TOLD,
) -> None:
    """The `annotations` of a JSON; the list is emptied on the way, so that its memory is free for the packed form.

    labels: category id -> class index. told: position in the list -> what its dialect says of an annotation.
    """
    album.ledger.seen("annotation", len(annotations))
    num_plain = 0
    for number, annotation in enumerate(progress(annotations, f"Reading {listing.json}", unit="objects")):
        annotations[number] = None
        if number not in told and listing.finite and _add_plain(album, annotation, listing, labels):
            num_plain += 1
        else:
            _add_odd(album, annotation, number, listing, labels, told.get(number))
    album.ledger.used("annotation", num_plain)


def _torn_ids(entries: list[Any]) -> set[Any]:
    """Ids that two different photos share."""
    names: dict[Any, Any] = {}
    torn = set()
    for entry in entries:
        if isinstance(entry, dict) and _is_id(entry.get("id")):
            name = entry.get("file_name")
            if names.setdefault(entry["id"], name) != name:
                torn.add(entry["id"])
    return torn


def _add_image(album: Album, entry: Any, listing: Listing, places: list[str], torn: set[Any]) -> str | None:
    """Adds an image, or makes its id another name of one that is there. Returns what had to be repaired."""
    if not isinstance(entry, dict):
        raise _Unusable(f"the entry is {kind_of(entry)}, not an object")
    number, name = entry.get("id"), entry.get("file_name")
    if not _is_id(number):
        raise _Unusable(f"its `id` is {kind_of(number)}" if "id" in entry else "it has no `id`")
    if not isinstance(name, str) or not name.strip():
        raise _Unusable("it has no `file_name`")
    if number in torn:
        raise _Unusable(f"several images have the id {number}: nobody can tell whose its objects are")
    if number in listing.positions or number in listing.lost:
        raise _Unusable("it is listed twice", ignored=True)
    path, odd = album.photos.find(name, places)
    if path is None:
        album.num_missing += odd == album.photos.missing
        raise _Unusable(odd or album.photos.missing)
    id, file, stated = album.prefix + path, os.path.join(album.photos.folder, path), _size(entry)
    try:
        found = label_sizes.sized(stated, file, album.measured)
    except DataError as error:
        album.spoilt.add(file)
        why = "the file" if stated else f"the {listing.kind} gives no usable size, and the file"
        raise _Unusable(f"{why} {error.what}") from error
    if id in album.listed:
        _join(album, id, found, number, listing)
    position = len(album.paths)
    listing.positions[number] = position
    album.listed[id] = (position, listing.json, listing.split)
    album.paths.append(file)
    album.sizes.append(found.size)
    if found.drawn != found.size:
        album.drawn[position] = found.drawn
    album.packer.image(id, file, found.size, split=listing.split, upright=found.upright)
    return ", ".join([odd, *found.repairs] if odd else found.repairs) or None


def _join(album: Album, id: str, found: Sized, number: Any, listing: Listing) -> None:
    """A photo that is listed a second time: its objects go to the first entry, unless the two disagree."""
    position, json, split = album.listed[id]
    if split != listing.split:
        raise _Unusable(f"{json} lists the same photo for another split")
    if (found.size, found.drawn) != (album.sizes[position], album.drawn.get(position, album.sizes[position])):
        raise _Unusable(f"{json} lists the same photo with another size")
    listing.positions[number] = position
    raise _Unusable(f"{json} lists the same photo: their objects were joined", ignored=True)


def _size(entry: dict[str, Any]) -> tuple[int, int] | None:
    """Height and width when both are sane whole numbers."""
    height, width = (_side(entry.get(key)) for key in ("height", "width"))
    return (height, width) if height and width else None


def _side(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= _LONGEST_SIDE:
        return None
    return int(value) if value == int(value) else None


def _is_id(value: object) -> bool:
    return isinstance(value, int | str | float)


def _add_plain(album: Album, annotation: Any, listing: Listing, labels: Mapping[Any, int]) -> bool:
    """Adds an annotation if it is polygons inside a known image, of a known category, and no crowd. Else adds nothing."""
    try:
        number, parts = annotation["id"], annotation["segmentation"]
        image, label = listing.positions[annotation["image_id"]], labels[annotation["category_id"]]
        if image in album.drawn:
            return False
        if type(number) is not int or not 0 <= number <= _LARGEST_ID or number in listing.annotation_ids:
            return False
        if type(parts) is not list or not parts or annotation.get("iscrowd"):
            return False
        height, width = album.sizes[image]
        side = min(height, width)
        for part in parts:
            if len(part) < 6 or len(part) % 2 or min(part) < 0:
                return False
            if max(part) > side and (max(part[0::2]) > width or max(part[1::2]) > height):
                return False
    except (KeyError, TypeError):
        return False
    listing.annotation_ids.add(number)
    album.packer.region(label, polygons=parts, id=number, attributes=_attributes(annotation), image=image)
    return True


def _add_odd(
    album: Album, annotation: Any, number: int, listing: Listing, labels: Mapping[Any, int], told: Told | None
) -> None:
    """Adds an annotation of any kind, or says why not; its fate goes into the ledger."""
    name = f"{listing.place}: {listing.entry}s[{number}]"
    if isinstance(annotation, dict) and _is_id(annotation.get("id")):
        name = f"{listing.place}: {listing.entry} {annotation['id']!s:.40}"
    try:
        if told and told.fate != "repaired":
            raise _Unusable(told.why, ignored=told.fate == "ignored")
        image, region, repairs = _region(album, annotation, listing, labels)
        repairs = [told.why, *repairs] if told else repairs
    except _Unusable as reason:
        refuse = album.ledger.ignored if reason.ignored else album.ledger.refused
        refuse("annotation", readable(name), reason.why)
        return
    album.packer.region(image=image, **region)
    if repairs:
        album.ledger.repaired(
            "annotation", readable(f"{name} of {album.paths[image]}"), ", ".join(dict.fromkeys(repairs))
        )
    else:
        album.ledger.used("annotation")


def _region(
    album: Album, annotation: Any, listing: Listing, labels: Mapping[Any, int]
) -> tuple[int, dict[str, Any], list[str]]:
    """Image position, arguments of Packer.region and the repairs of an annotation."""
    if not isinstance(annotation, dict):
        raise _Unusable(f"the entry is {kind_of(annotation)}, not an object")
    lost = _find(listing.lost, annotation, "image_id")
    if lost:
        raise _Unusable(f"its image is refused: {lost}")
    image = _find(listing.positions, annotation, "image_id", "image")
    label = _find(labels, annotation, "category_id", "category")
    crowd = _is_crowd(annotation)
    if crowd and album.crowd == "drop":
        album.num_crowds += 1
        raise _Unusable("a crowd (crowd: drop)", ignored=True)
    drawn = album.drawn.get(image)
    region, repairs = _shape(album, annotation, drawn or album.sizes[image])
    if drawn:
        region = label_sizes.scaled(region, drawn, album.sizes[image])
    album.num_crowds += crowd
    region |= {"label": label, "crowd": crowd and album.crowd == "ignore"}
    number = annotation.get("id")
    if _is_id(number) and number in listing.annotation_ids:
        repairs.append(f"another annotation has the id {number}: kept without one")
        number = None
    elif _is_id(number):
        listing.annotation_ids.add(number)
    region["id"] = number if type(number) is int and 0 <= number <= _LARGEST_ID else -1
    return image, region | {"attributes": _attributes(annotation)}, repairs


def _find(table: Mapping[Any, Any], annotation: dict[str, Any], key: str, what: str | None = None) -> Any:
    """What an annotation's `key` names, also where one side writes a number as text; refused if it is no `what` at all."""
    id = annotation.get(key)
    if _is_id(id) and id in table:
        return table[id]
    other = int(id) if isinstance(id, str) and id.isdecimal() and len(id) < 20 else str(id) if _is_id(id) else None
    if other not in table and what:
        raise _Unusable(f"no {what} has its `{key}` {id!r:.60}" if key in annotation else f"it has no `{key}`")
    return table.get(other)


def _is_crowd(annotation: dict[str, Any]) -> bool:
    value = annotation.get("iscrowd")
    if value is None or (isinstance(value, int | float) and value in (0, 1)):
        return bool(value)
    raise _Unusable(f"`iscrowd` is {value!r:.60}, neither 0 nor 1")


def _shape(album: Album, annotation: dict[str, Any], size: tuple[int, int]) -> tuple[dict[str, Any], list[str]]:
    """The `polygons` or `counts` of a segmentation, and the repairs."""
    drawn = annotation.get("segmentation")
    if drawn is None or drawn in ([], {}, "") or (isinstance(drawn, list) and all(p in ([], None) for p in drawn)):
        album.num_without_mask += 1
        raise _Unusable("box only, no mask" if annotation.get("bbox") else "no mask", ignored=True)
    if isinstance(drawn, dict):
        return {"counts": _counts(drawn, size)}, []
    if not isinstance(drawn, list):
        raise _Unusable(f"`segmentation` is {kind_of(drawn)}")
    repairs, polygons, faults = [], [], []
    if all(isinstance(value, int | float) for value in drawn):
        repairs.append("its one polygon was not in a list of polygons")
        drawn = [drawn]
    for part in drawn:
        polygon, why = masks.mend_polygon(part, size)
        if polygon is not None:
            polygons.append(polygon)
        if why:
            faults.append(why)
    if not polygons:
        raise _Unusable(", ".join(dict.fromkeys(faults)))
    return {"polygons": polygons}, repairs + [f"left out: {why}" for why in faults]


def _counts(rle: dict[str, Any], size: tuple[int, int]) -> Any:
    """Run-lengths uint32 (n,) that fit the image."""
    stated, (height, width) = rle.get("size"), size
    if stated != [height, width]:
        if not isinstance(stated, list) or len(stated) != 2:
            raise _Unusable("run-lengths without a `size` of height and width")
        turned = ": height and width are swapped" if stated == [width, height] else ""
        given = " x ".join(f"{side!r:.20}" for side in stated)
        raise _Unusable(f"run-lengths for {given} pixels on an image of {height} x {width}{turned}")
    counts, why = masks.mend_counts(rle.get("counts"), size)
    if counts is None:
        raise _Unusable(str(why))
    return counts


def _attributes(annotation: dict[str, Any]) -> dict[str, Any] | None:
    """`attributes` (an object: its keys; else as it is) and `attribute_ids`."""
    own, ids = annotation.get("attributes"), annotation.get("attribute_ids")
    if not own and not ids:
        return None
    kept = dict(own) if isinstance(own, dict) else {"attributes": own} if own else {}
    return kept | {"attribute_ids": ids} if ids else kept
