"""What is wrong with labels is one clear line: in the ledger, with the item it is about, or as the error. Nothing crashes.

A row of CASES writes a folder; `lines` are (fate, words) of the ledger, or `error` the words of the DataError.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import maskwright as mw
from maskwright.core.errors import DataError

SQUARE = [[5.0, 5.0, 20.0, 5.0, 20.0, 20.0, 5.0, 20.0]]
SIZE = (40, 60)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 5\n"
HEADER = "ImageId,EncodedPixels,Height,Width,ClassId\n"
CVAT = (
    "<annotations><version>1.1</version><meta><task><labels><label><name>cat</name></label></labels></task></meta>"
    '<image id="0" name="a.png" width="60" height="40"><polygon label="cat" points="5,5;20,5;20,20"/></image></annotations>'
)
NOWHERE = ("refused", "the image file is nowhere below the folder")


@dataclass(frozen=True)
class Case:
    """write: makes the folder. lines: (fate, words) in order; error: words of the DataError instead."""

    write: Callable[[Path], None]
    lines: tuple[tuple[str, str], ...] = ()
    error: str | None = None


def photo(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(path)


def coco(*shapes: Any, text: Callable[[str], Any] = str, **change: Any) -> Callable[[Path], None]:
    """Annotations with these segmentations on one photo. text: what becomes of the JSON; change: of every annotation."""

    def write(folder: Path) -> None:
        photo(folder / "a.png")
        rows = [
            {"id": i, "image_id": 1, "category_id": 1, "segmentation": s, **change} for i, s in enumerate(shapes, 1)
        ]
        tree = {
            "images": [{"id": 1, "file_name": "a.png", "height": SIZE[0], "width": SIZE[1]}],
            "annotations": rows,
            "categories": [{"id": 1, "name": "käse"}],
        }
        made = text(json.dumps(tree, ensure_ascii=False))
        (folder / "instances.json").write_bytes(made if isinstance(made, bytes) else made.encode())

    return write


def file(name: str, content: str | bytes) -> Callable[[Path], None]:
    """A label file beside a photo."""

    def write(folder: Path) -> None:
        photo(folder / "a.png")
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def yolo(rows: str | bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        photo(folder / "images" / "a.png")
        (folder / "labels").mkdir()
        (folder / "labels" / "a.txt").write_bytes(rows if isinstance(rows, bytes) else rows.encode())
        (folder / "data.yaml").write_text("names: [cat, dog]\ntrain: images\n")

    return write


def labelme(image: str = "b.png", data: str | None = None, cut: int | None = None) -> Callable[[Path], None]:
    """One JSON whose photo is missing, with a photo of the name it says outside the folder."""

    def write(folder: Path) -> None:
        photo(folder.parent / "outside.png")
        shape = {"label": "cat", "points": [[5, 5], [20, 5], [20, 20]], "shape_type": "polygon"}
        tree = {"shapes": [shape], "imagePath": image.replace("OUTSIDE", str(folder.parent)), "imageData": data}
        (folder / "a.json").write_text(json.dumps({**tree, "imageHeight": 40, "imageWidth": 60})[:cut])

    return write


def via(name: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        photo(folder.parent / "outside.png")
        shape = {"name": "polygon", "all_points_x": [5, 20, 20], "all_points_y": [5, 5, 20]}
        region = {"shape_attributes": shape, "region_attributes": {"class": "cat"}}
        told = name.replace("OUTSIDE", str(folder.parent))
        tree = {"x": {"filename": told, "size": -1, "regions": [region], "file_attributes": {}}}
        (folder / "via.json").write_text(json.dumps(tree))

    return write


def unlabelled(folder: Path) -> None:
    images = [{"id": 1, "file_name": "0000001.jpg", "height": 600, "width": 400}]
    (folder / "modanet2018_instances_val.json").write_text(json.dumps({"images": images, "info": {}}))


def pointer_for_photo(folder: Path) -> None:
    coco(SQUARE)(folder)
    (folder / "a.png").write_text(POINTER)


CASES = {
    "objects without area": Case(
        coco([[5, 5, 20, 5, 30, 5]], [[5.1, 5.1, 5.2, 5.1, 5.2, 5.2]], {"size": [40, 60], "counts": [2400]}, SQUARE),
        lines=(("ignored", "its outline encloses no pixel"),) * 3,
    ),
    "objects outside": Case(
        coco([[500, 500, 600, 500, 600, 600]], [[-50, -50, -20, -50, -20, -20]], SQUARE),
        lines=(("refused", "a polygon wholly outside the image"),) * 2,
    ),
    "objects without a class": Case(
        coco(SQUARE, category_id=None), lines=(("refused", "no category has its `category_id` None"),)
    ),
    "run-lengths of another size": Case(
        coco(
            {"size": [60, 40], "counts": [100, 100, 2200]},
            {"size": [40, 60], "counts": [1, 1]},
            {"size": 5, "counts": "x"},
        ),
        lines=(
            ("refused", "on an image of 40 x 60: height and width are swapped"),
            ("refused", "run-lengths that do not sum to the 40 x 60 pixels of the image"),
            ("refused", "run-lengths without a `size` of height and width"),
        ),
    ),
    "a JSON that breaks off": Case(coco(SQUARE, text=lambda t: t[:-40]), error="instances.json: breaks off at line 1"),
    "a JSON that breaks off early": Case(
        coco(SQUARE, text=lambda t: t[:60]), error="instances.json breaks off at line 1"
    ),
    "a JSON in Latin-1": Case(
        coco(SQUARE, text=lambda t: t.encode("latin-1")), error="is not JSON: invalid .* at byte"
    ),
    "a JSON in UTF-16": Case(coco(SQUARE, text=lambda t: t.encode("utf-16"))),
    "a pointer for a JSON": Case(file("instances.json", POINTER), error="is a git LFS pointer.*git lfs pull"),
    "a pointer for a photo": Case(
        pointer_for_photo,
        lines=(("refused", "is a Git LFS pointer, not the image itself"), ("ignored", "its image is refused")),
    ),
    "a list without labels": Case(unlabelled, error="holds images only, no annotations; ModaNet keeps the labels"),
    "classes that nobody names": Case(
        yolo("0 .1 .1 .5 .1 .5 .5\n7 .1 .1 .5 .1 .5 .5\n-1 .1 .1 .5 .1 .5 .5\n1 .1 .1 .5\n"),
        lines=(
            ("refused", "no class has the number 7"),
            ("refused", "no class has the number -1"),
            ("refused", "a polygon"),
        ),
    ),
    "rows that are no text": Case(
        yolo(b"0 .1 .1 .5 .1 .5 .5\n\xff\xfe"),
        lines=(("refused", "cannot be read as text"), ("refused", "its label file cannot be used")),
    ),
    "labelme without its photo": Case(labelme(), lines=(NOWHERE, ("ignored", "its image is not used"))),
    "labelme and a photo elsewhere": Case(labelme("OUTSIDE/outside.png"), lines=(NOWHERE, ("ignored", ""))),
    "labelme and a photo above": Case(labelme("../outside.png"), lines=(NOWHERE, ("ignored", ""))),
    "labelme with half a photo": Case(
        labelme(data=base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(40)).decode()),
        lines=(("refused", "and its `imageData` is"), ("ignored", "")),
    ),
    "labelme that breaks off": Case(labelme(cut=70), error="a.json breaks off at line 1"),
    "via and a photo elsewhere": Case(via("OUTSIDE/outside.png"), lines=(NOWHERE, ("ignored", ""))),
    "via and a photo above": Case(via("../outside.png"), lines=(NOWHERE, ("ignored", ""))),
    "via and a file of the system": Case(via("file:///etc/hostname"), lines=(NOWHERE, ("ignored", ""))),
    "an XML that grows": Case(
        file("a.xml", '<!DOCTYPE l [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>' + CVAT.replace("cat</", "&b;</")),
        error=r"a.xml:1: declares a document type",
    ),
    "an XML that breaks off": Case(file("a.xml", CVAT[:-30]), error=r"a.xml:1: is no XML: .*is the download complete"),
    "an XML that breaks off early": Case(file("a.xml", CVAT[:9]), error=r"a.xml is no XML"),
    "an XML in an unknown encoding": Case(
        file("a.xml", '<?xml version="1.0" encoding="klingon"?>' + CVAT), error="is no XML: unknown encoding: klingon"
    ),
    "a CSV that breaks off": Case(
        file("train.csv", HEADER + "a.png,1 5,40,60,1\na.png,1 5,4"), lines=(("refused", "it has 3 columns, too few"),)
    ),
    "a CSV in Latin-1": Case(file("train.csv", (HEADER + "ä.png,1 5,40,60,1").encode("latin-1")), error="is no CSV"),
    "a CSV in UTF-16": Case(
        file("train.csv", (HEADER + "a.png,1 5,40,60,1").encode("utf-16")),
        error="train.csv: is UTF-16 text, not UTF-8; save it again as UTF-8",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_one_line_each(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "cache"))
    case, folder = CASES[name], tmp_path / "set"
    folder.mkdir()
    case.write(folder)
    if case.error is not None:
        with pytest.raises(DataError, match=case.error) as caught:
            mw.check(str(folder))
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < len(str(folder)) + 220
        return
    facts = mw.check(str(folder)).facts
    lines = [line for line in facts["ledger"]["lines"] if line["kind"] != "file"]
    assert len(lines) == len(case.lines), lines
    for line, (fate, words) in zip(lines, case.lines, strict=True):
        assert line["fate"] == fate
        assert words in line["why"]
        assert "\n" not in line["why"]
    assert facts["images"] == (0 if any(line["kind"] == "image" for line in lines) else 1)


WRITERS = {"coco": coco(SQUARE), "yolo": yolo("0 .1 .1 .5 .1 .5 .5\n"), "cvat": file("a.xml", CVAT)}


@pytest.mark.parametrize("name", WRITERS)
def test_links_to_themselves_are_walked_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "set"
    folder.mkdir()
    WRITERS[name](folder)
    os.symlink(folder, folder / "again")
    for suffix in ("png", "json", "xml", "txt", "csv", "mat"):
        os.symlink(f"self.{suffix}", folder / f"self.{suffix}")
    facts = mw.check(str(folder)).facts
    assert facts["format"] == name
    assert facts["ledger"]["totals"]["image"]["used"] == 1
    with pytest.raises(DataError, match="cannot be read"):
        mw.check(str(folder / "self.json"))


@pytest.mark.slow
def test_ten_thousand_objects_of_one_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is read, counted, scored and judged: nothing looks at all pairs of objects, or at a whole mask for each."""
    monkeypatch.setenv("MASKWRIGHT_CACHE", str(tmp_path / "cache"))
    num, side = 10_000, 100
    corners = [(6.0 * (i % side), 6.0 * (i // side)) for i in range(num)]
    shapes = [[[x, y, x + 5, y, x + 5, y + 5, x, y + 5]] for x, y in corners]
    folder = tmp_path / "set"
    photo(folder / "a.png")
    Image.fromarray(np.zeros((600, 600, 3), np.uint8)).save(folder / "a.png")
    rows = [{"id": i + 1, "image_id": 1, "category_id": 1 + i % 40, "segmentation": s} for i, s in enumerate(shapes)]
    tree = {
        "images": [{"id": 1, "file_name": "a.png", "height": 600, "width": 600}],
        "annotations": rows,
        "categories": [{"id": i, "name": f"c{i}"} for i in range(1, 41)],
    }
    (folder / "instances.json").write_text(json.dumps(tree))
    (tmp_path / "found.json").write_text(json.dumps([{**row, "score": 0.5} for row in rows]))
    assert mw.check(str(folder)).facts["annotations"] == num
    judged = mw.evaluate(str(tmp_path / "found.json"), str(folder / "instances.json"), convention="imaterialist")
    assert judged.restated.values["score of classes alone"].value == 1
    assert judged.scores["mask_ar100"] == pytest.approx(100 * 40 / num)  # of a class at most 100 count
    assert mw.convert(str(folder), str(tmp_path / "out"), to="yolo", dry_run=True).bill.empty


def test_a_submission_is_called_one(tmp_path: Path) -> None:
    (tmp_path / "submission.csv").write_text("ImageId,EncodedPixels,ClassId\na,1 5,0\n")
    with pytest.raises(
        DataError, match=r"has no column Height.*score it with `maskwright evaluate submission.csv DATA`"
    ):
        mw.check(str(tmp_path / "submission.csv"))
