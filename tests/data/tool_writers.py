"""The generated truth as labelling tools write it, by plain json, XML and Pillow: the rows of `LAYOUTS` for their readers."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Tree

import numpy as np
from PIL import Image
from truth_writers import SHAPES, Layout, Truth, save_photo

from maskwright.core.types import Region
from maskwright.imaging import masks

Size = tuple[int, int]


def label_of(region: Region, void: str = "void") -> str:
    return void if region.crowd else SHAPES[region.label - 1]


def cropped(region: Region, size: Size) -> tuple[np.ndarray, int, int]:
    """The region's pixels inside their box, bool (h, w), and the box's left and top."""
    mask = masks.region_mask(region, size)
    rows, columns = np.nonzero(mask)
    return mask[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1], columns.min(), rows.min()


def runs_of(flat: np.ndarray) -> list[int]:
    """Lengths of zeros, ones, zeros, ... of a flat bool array."""
    edges = np.flatnonzero(np.diff(flat.astype(np.int8), prepend=0))
    return np.diff([0, *edges, len(flat)]).tolist()


def base64_png(mask: np.ndarray) -> str:
    buffer = BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return b64encode(buffer.getvalue()).decode()


def rle_pack(
    words: np.ndarray, *, word_size: int = 8, sizes: Sequence[int] = (3, 4, 8, 16), plain_below: int = 2
) -> list[int]:
    """What @thi.ng/rle-pack describes, as a list of bytes: runs shorter than `plain_below` are written word by word."""
    bits = f"{len(words):032b}{word_size - 1:05b}" + "".join(f"{size - 1:04b}" for size in sizes)

    def counted(repeats: int, count: int) -> str:
        which = next(i for i, size in enumerate(sizes) if count <= 1 << size)
        return f"{repeats}{which:02b}{count - 1:0{sizes[which]}b}"

    starts = np.flatnonzero(np.concatenate(([True], words[1:] != words[:-1])))
    longest, plain = 1 << max(sizes), []

    def written_out() -> str:
        text = ""
        for first in range(0, len(plain), longest):
            some = plain[first : first + longest]
            text += counted(0, len(some)) + "".join(f"{word:0{word_size}b}" for word in some)
        plain.clear()
        return text

    for start, end in zip(starts.tolist(), np.append(starts[1:], len(words)).tolist()):
        if end - start < plain_below:
            plain += [int(words[start])] * (end - start)
            continue
        bits += written_out()
        for first in range(start, end, longest):
            bits += counted(1, min(longest, end - first)) + f"{int(words[start]):0{word_size}b}"
    bits += written_out()
    bits += "0" * (-len(bits) % 8)
    return [int(bits[i : i + 8], 2) for i in range(0, len(bits), 8)]


def brush(mask: np.ndarray) -> list[int]:
    """A mask bool (H, W) as Label Studio keeps it: all four channels of a painted pixel are 255."""
    return rle_pack(np.repeat(mask.reshape(-1).astype(np.uint8) * 255, 4))


# ------------------------------------------------------------------------------------------------------------ labelme


def labelme(shape: Callable[[Region, Size], dict[str, Any]]) -> Callable[[Path, list[Truth]], None]:
    def write(folder: Path, samples: list[Truth]) -> None:
        for sample in samples:
            save_photo(folder / f"{sample.name}.jpg", sample.jpeg)
            shapes = [
                {"label": label_of(r, "__ignore__"), "flags": {}, **shape(r, sample.size)} for r in sample.regions
            ]
            document = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": f"{sample.name}.jpg"}
            document |= {"imageData": None, "imageHeight": sample.size[0], "imageWidth": sample.size[1]}
            (folder / f"{sample.name}.json").write_text(json.dumps(document))
        (folder / "labels.txt").write_text("\n".join(["__ignore__", "_background_", *SHAPES]))

    return write


def labelme_polygon(region: Region, size: Size) -> dict[str, Any]:
    return {"shape_type": "polygon", "points": region.polygons[0].tolist(), "group_id": None}


def labelme_mask(region: Region, size: Size) -> dict[str, Any]:
    crop, left, top = cropped(region, size)
    points = [[int(left), int(top)], [int(left + crop.shape[1] - 1), int(top + crop.shape[0] - 1)]]
    return {"shape_type": "mask", "points": points, "group_id": None, "mask": base64_png(crop)}


# ---------------------------------------------------------------------------------------------------------------- VIA


def via_shape(region: Region) -> dict[str, Any]:
    xs, ys = region.polygons[0].T.tolist()
    return {"name": "polygon", "all_points_x": xs, "all_points_y": ys}


def via_entries(samples: list[Truth], value: Callable[[Region], Any], table: bool) -> dict[str, Any]:
    entries = {}
    for sample in samples:
        name, size = f"{sample.name}.jpg", len(sample.jpeg)
        regions = [{"shape_attributes": via_shape(r), "region_attributes": {"kind": value(r)}} for r in sample.regions]
        numbered = {str(i): region for i, region in enumerate(regions)}
        entry = {"filename": name, "size": size, "regions": numbered if table else regions, "file_attributes": {}}
        entries[f"{name}{size}"] = entry
    return entries


def via_one(folder: Path, samples: list[Truth]) -> None:
    for sample in samples:
        save_photo(folder / f"{sample.name}.jpg", sample.jpeg)
    (folder / "via_region_data.json").write_text(json.dumps(via_entries(samples, label_of, True)))


def via_project(folder: Path, samples: list[Truth]) -> None:
    """The class is chosen from a list, whose entries have numbers."""
    for sample in samples:
        save_photo(folder / "photos" / f"{sample.name}.jpg", sample.jpeg)
    options = {str(i): name for i, name in enumerate(("void", *SHAPES), 1)}
    number = {name: key for key, name in options.items()}
    project = {
        "_via_settings": {"core": {"default_filepath": "/home/me/photos/"}},
        "_via_img_metadata": via_entries(samples, lambda region: number[label_of(region)], False),
        "_via_attributes": {"region": {"kind": {"type": "dropdown", "options": options}}, "file": {}},
    }
    (folder / "project.json").write_text(json.dumps(project))


def via_three(folder: Path, samples: list[Truth]) -> None:
    options = {str(i): name for i, name in enumerate(("void", *SHAPES))}
    number = {name: key for key, name in options.items()}
    project: dict[str, Any] = {
        "project": {"pid": "__VIA_PROJECT_ID__"},
        "attribute": {"1": {"aname": "kind", "type": 4, "options": options, "default_option_id": ""}},
        "file": {},
        "view": {},
        "metadata": {},
    }
    for i, sample in enumerate(samples, 1):
        save_photo(folder / f"{sample.name}.jpg", sample.jpeg)
        project["file"][str(i)] = {"fid": i, "fname": f"{sample.name}.jpg", "type": 2, "loc": 1, "src": ""}
        project["view"][str(i)] = {"fid_list": [i]}
        for region in sample.regions:
            xy = [7, *region.polygons[0].reshape(-1).tolist()]
            item = {"vid": str(i), "flg": 0, "z": [], "xy": xy, "av": {"1": number[label_of(region)]}}
            project["metadata"][f"{i}_{region.id}"] = item
    (folder / "via3.json").write_text(json.dumps(project))


# --------------------------------------------------------------------------------------------------------------- CVAT


def cvat(shape: Callable[[Tree.Element, Region, Size], None]) -> Callable[[Path, list[Truth]], None]:
    def write(folder: Path, samples: list[Truth]) -> None:
        root = cvat_root()
        for i, sample in enumerate(samples):
            save_photo(folder / "images" / f"{sample.name}.jpg", sample.jpeg)
            said = {"id": str(i), "name": f"{sample.name}.jpg"}
            said |= {"height": str(sample.size[0]), "width": str(sample.size[1])}
            image = Tree.SubElement(root, "image", said)
            for region in sample.regions:
                shape(image, region, sample.size)
        Tree.ElementTree(root).write(folder / "annotations.xml", encoding="utf-8", xml_declaration=True)

    return write


def cvat_root(**task: str) -> Tree.Element:
    root = Tree.Element("annotations")
    Tree.SubElement(root, "version").text = "1.1"
    told = Tree.SubElement(Tree.SubElement(root, "meta"), "task")
    for key, value in task.items():
        Tree.SubElement(told, key).text = value
    labels = Tree.SubElement(told, "labels")
    for name in SHAPES:
        Tree.SubElement(Tree.SubElement(labels, "label"), "name").text = name
    return root


def points_text(region: Region) -> str:
    return ";".join(f"{x!r},{y!r}" for x, y in region.polygons[0].tolist())


def cvat_polygon(image: Tree.Element, region: Region, size: Size) -> None:
    said = {
        "label": label_of(region),
        "source": "manual",
        "occluded": "0",
        "points": points_text(region),
        "z_order": "0",
    }
    Tree.SubElement(image, "polygon", said)


def cvat_mask(image: Tree.Element, region: Region, size: Size) -> None:
    crop, left, top = cropped(region, size)
    rle = ", ".join(map(str, runs_of(crop.reshape(-1))))
    said = {"label": label_of(region), "rle": rle, "left": str(left), "top": str(top), "z_order": "0"}
    Tree.SubElement(image, "mask", {**said, "width": str(crop.shape[1]), "height": str(crop.shape[0])})


# ------------------------------------------------------------------------------------------------------- Label Studio


def studio_value(region: Region, size: Size, kind: str) -> dict[str, Any]:
    if kind == "brushlabels":
        return {"format": "rle", "rle": brush(masks.region_mask(region, size)), kind: [label_of(region)]}
    percent = region.polygons[0] / (size[1], size[0]) * 100
    return {"points": percent.tolist(), "closed": True, kind: [label_of(region)]}


def studio_result(region: Region, size: Size, kind: str) -> dict[str, Any]:
    about = {"original_width": size[1], "original_height": size[0], "image_rotation": 0}
    named = {"id": f"r{region.id}", "type": kind, "from_name": "label", "to_name": "image"}
    return {**about, **named, "value": studio_value(region, size, kind)}


def label_studio(kind: str) -> Callable[[Path, list[Truth]], None]:
    def write(folder: Path, samples: list[Truth]) -> None:
        tasks = []
        for i, sample in enumerate(samples):
            save_photo(folder / "images" / f"{sample.name}.jpg", sample.jpeg)
            results = [studio_result(region, sample.size, kind) for region in sample.regions]
            annotation = {"id": i, "completed_by": 1, "was_cancelled": False, "result": results}
            data = {"image": f"/data/local-files/?d=photos/{sample.name}.jpg"}
            tasks.append({"id": i, "annotations": [annotation], "predictions": [], "data": data})
        (folder / "project-1.json").write_text(json.dumps(tasks))

    return write


def label_studio_min(folder: Path, samples: list[Truth]) -> None:
    entries = []
    for i, sample in enumerate(samples):
        save_photo(folder / f"{sample.name}.jpg", sample.jpeg)
        about = {"original_width": sample.size[1], "original_height": sample.size[0]}
        labels = [{**studio_value(r, sample.size, "polygonlabels"), **about} for r in sample.regions]
        entry = {"image": f"/data/upload/1/0a1b2c3d-{sample.name}.jpg", "id": i, "label": labels, "annotator": 1}
        entries.append({**entry, "annotation_id": i, "updated_at": "2024-01-01T00:00:00Z"})
    (folder / "project-1-min.json").write_text(json.dumps(entries))


BY_NAME = ("background", *sorted(SHAPES))


def by_name(label_map: np.ndarray) -> np.ndarray:
    """The classes in the order of their names, where nothing else orders them."""
    new = np.arange(256, dtype=np.uint8)
    new[1 : len(BY_NAME)] = [BY_NAME.index(name) for name in SHAPES]
    return new[label_map]


def sorted_layout(name: str, write: Callable[[Path, list[Truth]], None], format: str) -> Layout:
    return Layout(name, write, format, BY_NAME, reduced=by_name)


TOOL_LAYOUTS = (
    Layout("labelme", labelme(labelme_polygon), "labelme"),
    Layout("labelme masks", labelme(labelme_mask), "labelme"),
    sorted_layout("via 1", via_one, "via"),
    Layout("via 2 project", via_project, "via"),
    Layout("via 3 project", via_three, "via"),
    Layout("cvat", cvat(cvat_polygon), "cvat"),
    Layout("cvat masks", cvat(cvat_mask), "cvat"),
    sorted_layout("label studio", label_studio("polygonlabels"), "label_studio"),
    sorted_layout("label studio brush", label_studio("brushlabels"), "label_studio"),
    sorted_layout("label studio min", label_studio_min, "label_studio"),
)
