"""CVAT XML: images and videos, every kind of shape, groups, what lies above what, XML that tries to reach further."""

import math
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest
from damage import of_text, survives
from tool_writers import cvat, cvat_mask, cvat_polygon
from truth_writers import fates, photo, save_photo, truth

from maskwright.core.errors import DataError
from maskwright.data.formats import xml_tree
from maskwright.data.open import open_data, recognise
from maskwright.imaging import masks

SIZE = (40, 60)
SQUARE = "10,5;30,5;30,25;10,25"
META = "<meta><task><labels><label><name>dog</name></label><label><name>cat</name></label></labels></task></meta>"


def shape(tag: str = "polygon", inner: str = "", **said: Any) -> str:
    said = {"label": "cat", **({"points": SQUARE} if tag in ("polygon", "polyline", "points") else {}), **said}
    return f"<{tag} {' '.join(f'{key}={quoteattr(str(value))}' for key, value in said.items())}>{inner}</{tag}>"


def image(*drawn: str, name: str = "a.jpg", width: int = SIZE[1], height: int = SIZE[0], **said: Any) -> str:
    told = " ".join(f"{key}={quoteattr(str(value))}" for key, value in said.items())
    lines = "\n".join(drawn)
    return f'<image id="0" name={quoteattr(name)} width="{width}" height="{height}" {told}>\n{lines}\n</image>'


def make(folder: Path, *inside: str, meta: str = META, head: str = "") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_photo(folder / "images" / "a.jpg", photo(SIZE))
    text = "\n".join(inside)
    (folder / "annotations.xml").write_text(
        f'<?xml version="1.0" encoding="utf-8"?>{head}\n<annotations><version>1.1</version>{meta}\n{text}\n</annotations>\n'
    )
    return folder


def read(folder: Path, **options: Any):
    opened = open_data(folder, format="cvat", options=options)
    return opened.data, opened.ledger


def test_recognised_and_read_from_one_file(tmp_path):
    folder = make(tmp_path, image(shape()))
    assert recognise(folder) == ("cvat", "annotations.xml holds CVAT's `annotations`")
    opened = open_data(folder / "annotations.xml")
    assert (opened.format, len(opened.data)) == ("cvat", 1)
    assert opened.data.classes == ("background", "dog", "cat")
    (folder / "boxes.xml").write_text("<annotation><object/></annotation>")
    assert fates(read(folder)[1], "ignored") == {("file", "boxes.xml"): "no CVAT XML"}


@pytest.mark.parametrize(
    ("drawn", "pixels"),
    [
        (shape(), 400),
        (shape("box", xtl=10, ytl=5, xbr=30, ybr=25), 400),
        (shape("box", xtl=10, ytl=5, xbr=30, ybr=25, rotation=90), 400),
        (shape("box", xtl=10, ytl=10, xbr=50, ybr=20, rotation="30"), 400),
        (shape("ellipse", cx=30, cy=20, rx=16, ry=8, rotation=15.5), math.pi * 128),
        (shape("polyline", points=f"{SQUARE};10,5"), 400),
        (shape("mask", rle="1, 2, 3", left=58, top=38, width=2, height=3).replace('top="38"', 'top="37"'), 2),
        (shape("mask", rle="0,6", left=0, top=0, width=2, height=3), 6),
    ],
)
def test_shapes_cover_what_they_say(drawn, pixels, tmp_path):
    found, ledger = read(make(tmp_path, image(drawn)))
    assert masks.region_area(found[0].regions[0], SIZE) == pytest.approx(pixels, rel=0.04)
    assert ledger.count("annotation", "used") == 1


def test_a_mask_runs_along_the_rows_of_its_box(tmp_path):
    found, _ = read(make(tmp_path, image(shape("mask", rle="1,2,1,1,1", left=7, top=4, width=3, height=2))))
    expected = np.zeros(SIZE, bool)
    expected[4:6, 7:10] = [[0, 1, 1], [0, 1, 0]]
    np.testing.assert_array_equal(masks.region_mask(found[0].regions[0], SIZE), expected)


@pytest.mark.parametrize(
    ("drawn", "fate", "why"),
    [
        (shape("points"), "ignored", "a point has no area"),
        (shape("polyline"), "ignored", "an open line has no area"),
        (shape("tag"), "ignored", "a tag of the whole image"),
        (shape("skeleton"), "refused", "a skeleton, which has no mask"),
        (shape("cuboid"), "refused", "a cuboid, which has no mask"),
        (shape(outside=1), "ignored", "outside: the object is not in this frame"),
        (shape(label=""), "refused", "it has no label"),
        (shape(points="1,2;3"), "refused", "its points are no list of x and y"),
        (shape(points="1,2;3,x;4,5"), "refused", "`y` is no number"),
        (shape(points="1,2;3,inf;4,5"), "refused", "`y` is no number, or none of an image"),
        (shape(points=""), "refused", "a polygon with fewer than 3 points"),
        (shape("box", xtl=1, ytl=1, xbr=3), "refused", "`ybr` is missing"),
        (shape("box", xtl=1, ytl=1, xbr=3, ybr=3, rotation="x"), "refused", "`rotation` is no number"),
        (shape("ellipse", cx=9, cy=9, rx=0, ry=4), "refused", "a circle or ellipse without a radius"),
        (shape(z_order="top"), "refused", "`z_order` is `top`, no whole number"),
        (shape("mask", rle="1,x", left=0, top=0, width=2, height=2), "refused", "its `rle` is no list of whole numbers"),
        (shape("mask", rle="1,2", left=0, top=0, width=2, height=2), "refused",
         "its `rle` sums to 3, and its box has 2 x 2 pixels"),
        (shape("mask", rle="0,999999999", left=0, top=0, width=99999, height=99999), "refused",
         "its `rle` sums to 999999999, and its box has 99999 x 99999 pixels"),
        (shape("mask", rle="0,4", left=59, top=0, width=2, height=2), "refused",
         "a mask of 2 x 2 pixels at row 0, column 59 leaves its image of 40 x 60"),
        (shape("mask", rle="0,4", left=0.5, top=0, width=2, height=2), "refused", "`left` is 0.5, no whole number"),
    ],
)  # fmt: skip
def test_what_is_not_used_says_why_and_where(drawn, fate, why, tmp_path):
    found, ledger = read(make(tmp_path, image(shape(), drawn)))
    assert [len(record.regions) for record in found] == [1]
    assert fates(ledger, fate) == {("annotation", "annotations.xml:5"): why}


def test_a_group_is_one_object_of_each_label(tmp_path):
    dot = shape("mask", rle="0,4", left=0, top=0, width=2, height=2, group_id=2, z_order=3)
    drawn = [
        shape(group_id=1),
        shape(group_id=1, points="40,5;50,5;50,25"),
        shape(group_id=1, label="dog"),
        shape(group_id=0),
    ]
    found, _ = read(make(tmp_path, image(*drawn, shape(group_id=0), shape(group_id=2), dot)))
    regions = found[0].regions
    assert [found.classes[r.label] for r in regions] == ["cat", "dog", "cat", "cat", "cat"]
    assert [len(r.polygons) for r in regions] == [2, 1, 1, 1, 0]
    assert masks.region_area(regions[4], SIZE) == 404
    assert regions[4].attributes == {"z_order": 3}


def test_attributes_and_what_lies_above_what(tmp_path):
    inner = '<attribute name="colour">red</attribute><attribute name="z_order">7</attribute>'
    large = shape("box", inner, xtl=0, ytl=0, xbr=60, ybr=40, z_order=2, occluded=1, label="dog")
    folder = make(tmp_path, image(shape(), large, shape("box", xtl=0, ytl=0, xbr=5, ybr=5, z_order=-1)))
    found, _ = read(folder)
    assert [dict(r.attributes) for r in found[0].regions] == [
        {}, {"colour": "red", "occluded": True, "z_order": 2}, {"z_order": -1},
    ]  # fmt: skip
    assert (masks.label_map(found[0]) == 1).all()
    make(tmp_path, image(shape(), large.replace('z_order="2"', 'z_order="0"')))
    assert (masks.label_map(read(folder)[0][0])[5:25, 10:30] == 2).all()


def test_splits_boxes_and_images_that_cannot_be_used(tmp_path):
    folder = make(
        tmp_path,
        image(shape("box", xtl=0, ytl=0, xbr=5, ybr=5), subset="Validation"),
        image(shape(), name="lost.jpg"),
        image(shape(), name="../../outside.jpg"),
        image(shape(), name="b.jpg", width=61),
        image(name=""),
    )
    save_photo(folder / "images" / "b.jpg", photo(SIZE))
    found, ledger = read(folder)
    assert [(record.id, record.split) for record in found] == [("images/a.jpg", "val")]
    assert {key[1]: why for key, why in fates(ledger, "refused").items()} == {
        "annotations.xml:6": "the image file is nowhere below the folder",
        "annotations.xml:9": "the image file is nowhere below the folder",
        "b.jpg": "the labels are for 61 x 40 pixels and the photo has 60 x 40",
        "annotations.xml:15": "it has no `name`",
    }
    assert fates(ledger, "ignored")["annotation", "annotations.xml:7"] == "its image is not used"
    found, ledger = read(folder, boxes="ignore")
    assert not found[0].regions


# -------------------------------------------------------------------------------------------------------------- videos


def video(folder: Path, *tracks: str, frames: int = 3, size: int = 3) -> Path:
    about = f"<size>{size}</size><original_size><width>60</width><height>40</height></original_size>"
    make(folder, *tracks, meta=META.replace("<task>", f"<task>{about}"))
    (folder / "images" / "a.jpg").unlink()
    for frame in range(frames):
        save_photo(folder / "images" / f"frame_{frame:06d}.jpg", photo(SIZE, seed=frame))
    return folder


def track(*shapes: str, label: str = "cat") -> str:
    return f'<track id="0" label="{label}" source="manual">\n' + "\n".join(shapes) + "\n</track>"


def test_a_video_is_read_frame_by_frame(tmp_path):
    def at(frame, **said):
        return shape(frame=frame, keyframe=1, **said).replace('label="cat" ', "")

    other = track(at(0), at(9), at("x"), label="dog")
    found, ledger = read(video(tmp_path, track(at(0), at(1, occluded=1), at(2, outside=1)), other))
    assert [record.id for record in found] == [f"images/frame_{frame:06d}.jpg" for frame in range(3)]
    assert [[found.classes[r.label] for r in record.regions] for record in found] == [["cat", "dog"], ["cat"], []]
    assert found[1].regions[0].attributes == {"occluded": True}
    refused = fates(ledger, "refused")
    assert refused["image", "annotations.xml: frame 9"] == "the image file is nowhere below the folder"
    assert refused["image", "annotations.xml: frame -1"] == "it has no `frame`"
    assert len(refused) == 2


def test_a_video_without_its_frames_is_one_error(tmp_path):
    with pytest.raises(
        DataError, match="is CVAT for video, and none of its frames is here; export the task with its images"
    ):
        read(video(tmp_path, track(shape(frame=0)), frames=0))


# ------------------------------------------------------------------------------------------------------------ security


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + "".join(
    f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi")
) + "]>"  # fmt: skip


@pytest.mark.parametrize(
    "head",
    [BOMB, '<!DOCTYPE x SYSTEM "file:///etc/passwd">', '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'],
)
def test_document_types_are_refused_at_their_line(head, tmp_path):
    folder = make(tmp_path, image(shape(label="&i;" if head == BOMB else "&e;")), head=f"\n{head}")
    with pytest.raises(
        DataError, match=r"annotations\.xml:2: declares a document type \(<!DOCTYPE\), which is not read"
    ):
        open_data(folder / "annotations.xml", format="cvat")
    (folder / "good.xml").write_text(f"<annotations>{META}{image(shape())}</annotations>")
    found, ledger = read(folder)
    assert len(found) == 1
    assert fates(ledger, "refused")["file", "annotations.xml"].startswith("declares a document type")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<annotations><meta>", r"x\.xml:1: is no XML: no element found"),
        (b"<annotations>\n<image></annotations>", r"x\.xml:2: is no XML: mismatched tag"),
        (b"<annotations>&e;</annotations>", r"x\.xml:1: is no XML: undefined entity"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "is no XML"),
        (b"<a>" * 100, "elements are nested too deeply"),
        (b"<annotation/>", r"x\.xml:1: holds `annotation`, not CVAT's `annotations`"),
        (b"\x00\x01", "is no XML"),
        ("<annotations>é</annotations>".encode("latin-1"), "is no XML: not well-formed"),
    ],
)
def test_files_that_are_none(content, message, tmp_path):
    file = tmp_path / "x.xml"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        open_data(file, format="cvat")


def test_elements_know_their_line_and_text(tmp_path):
    (tmp_path / "x.xml").write_text("<a>\n <b c='1'>one <d/>&amp; two</b>\n <b/></a>")
    root = xml_tree.parsed(tmp_path / "x.xml")
    assert [(e.line, e.attributes, e.text) for e in root.all("b")] == [(2, {"c": "1"}, "one & two"), (3, {}, "")]
    assert [e.tag for e in root.below("b", "d")] == ["d"]


@pytest.mark.parametrize("kind", [cvat_polygon, cvat_mask])
def test_random_damage_never_crashes(kind, tmp_path):
    cvat(kind)(tmp_path, truth(3, seed=4, size=(24, 32)))
    file = tmp_path / "annotations.xml"
    text = file.read_text()
    rng = np.random.default_rng(3)
    values = [part for part in text.split('"') if part and part[0].isdigit()]
    texts = [*of_text(text, 80, rng)]
    for _ in range(120):
        old, new = values[int(rng.integers(len(values)))], ["", "x", "-1", "nan", "1e999", "9" * 400, "1,1", ";", "0.5"]
        texts.append(text.replace(f'"{old}"', f'"{new[int(rng.integers(len(new)))]}"', 1 + int(rng.integers(3))))
    assert survives(tmp_path, file, iter(texts), "cvat") > 50
