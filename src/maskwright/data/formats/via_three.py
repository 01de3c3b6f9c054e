"""VIA 3 projects, told as VIA 2 would: files, views of one file each, and metadata whose `xy` is a shape and its numbers."""

from __future__ import annotations

from typing import Any

from maskwright.data.formats.coco_json import kind_of
from maskwright.data.formats.shapes import Unusable

_POINT, _BOX, _CIRCLE, _ELLIPSE, _LINE, _POLYLINE, _POLYGON = range(1, 8)
_FIELDS = {
    _POINT: ("point", ("cx", "cy")),
    _BOX: ("rect", ("x", "y", "width", "height")),
    _CIRCLE: ("circle", ("cx", "cy", "r")),
    _ELLIPSE: ("ellipse", ("cx", "cy", "rx", "ry")),
}
_LINES = {_LINE: "polyline", _POLYLINE: "polyline", _POLYGON: "polygon"}
_IMAGE = 2  # `type` of a file; others are video and audio
_TICKED = 2  # `type` of an attribute with several values, "0,2"

Images = list[tuple[str, Any]]
Options = dict[str, dict[str, str]]


def translated(project: dict[str, Any]) -> tuple[Images, Options]:
    """The images of a project as (view, VIA 2 entry), and for each attribute its values in order."""
    files, attributes = project["file"], project.get("attribute")
    metadata = project.get("metadata")
    attributes = attributes if isinstance(attributes, dict) else {}
    regions: dict[str, dict[str, Any]] = {}
    for key, item in (metadata if isinstance(metadata, dict) else {}).items():
        view = item.get("vid") if isinstance(item, dict) else None
        regions.setdefault(str(view), {})[key] = _region(item, attributes)
    images = [(view, _entry(spec, files, regions.pop(view, {}))) for view, spec in project["view"].items()]
    for view, orphans in regions.items():
        images.append((view, {"filename": view, "regions": orphans, "trouble": Unusable("no view has this number")}))
    options = {
        name: dict.fromkeys(values.values(), "") for name, _, values in map(_attribute, attributes.values()) if values
    }
    return images, {name: values for name, values in options.items() if all(value.strip() for value in values)}


def _entry(view: Any, files: dict[str, Any], regions: dict[str, Any]) -> dict[str, Any]:
    """A VIA 2 entry; `trouble` says why its image cannot be used."""
    list_of = view.get("fid_list") if isinstance(view, dict) else None
    numbers = [str(number) for number in list_of] if isinstance(list_of, list) else []
    file = files.get(numbers[0]) if len(numbers) == 1 else None
    entry: dict[str, Any] = {"filename": ", ".join(numbers) or "a view", "regions": regions, "size": -1}
    if not isinstance(file, dict):
        what = "it shows several files" if len(numbers) > 1 else "its file is not listed"
        return entry | {"trouble": Unusable(what)}
    entry["filename"] = file.get("fname") or file.get("src")
    if file.get("type", _IMAGE) not in (_IMAGE, str(_IMAGE)):
        entry["trouble"] = Unusable("its file is no image", ignored=True)
    return entry


def _region(item: Any, attributes: dict[str, Any]) -> Any:
    """A VIA 2 region, or why there is none."""
    if not isinstance(item, dict):
        return Unusable(f"the entry is {kind_of(item)}, not an object")
    if item.get("z"):
        return Unusable("it is a stretch of time, not a shape")
    xy = item.get("xy")
    if not isinstance(xy, list) or not xy or not isinstance(xy[0], int):
        return Unusable("it has no shape", ignored=xy in (None, []))
    kind, *numbers = xy
    shape: dict[str, Any] = {"name": f"number {kind}"}
    if kind in _FIELDS:
        name, keys = _FIELDS[kind]
        shape = {"name": name, **dict(zip(keys, numbers))}
    elif kind in _LINES:
        if len(numbers) % 2:
            return Unusable("a polygon with an odd number of coordinates")
        shape = {"name": _LINES[kind], "all_points_x": numbers[0::2], "all_points_y": numbers[1::2]}
    said = item.get("av")
    values = (_value(attributes.get(key), value) for key, value in (said if isinstance(said, dict) else {}).items())
    return {"shape_attributes": shape, "region_attributes": {name: value for name, value in values if name}}


def _attribute(spec: Any) -> tuple[str, Any, dict[str, str]]:
    """Name, type, and option number -> text."""
    spec = spec if isinstance(spec, dict) else {}
    name, options = spec.get("aname"), spec.get("options")
    texts = {key: text for key, text in options.items() if isinstance(text, str)} if isinstance(options, dict) else {}
    return (name if isinstance(name, str) else ""), spec.get("type"), texts


def _value(spec: Any, value: Any) -> tuple[str, Any]:
    """Attribute name and value, with the option's text in the place of its number."""
    name, kind, texts = _attribute(spec)
    if kind in (_TICKED, str(_TICKED)) and isinstance(value, str):
        return name, {texts.get(part.strip(), part.strip()): True for part in value.split(",") if part.strip()}
    return name, texts.get(value, value) if isinstance(value, str) else value
