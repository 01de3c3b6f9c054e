"""Laws of the pictures for people."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from maskwright.core.types import VOID
from maskwright.imaging import draw
from maskwright.imaging.palette import class_colours

COLOURS = class_colours(["background", "cat", "dog"])
RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (40, 60, 3), dtype=np.uint8)
LABELS = np.zeros((40, 60), np.uint8)
LABELS[10:30, 10:30] = 1
LABELS[10:30, 30:50] = 2
LABELS[35:, 50:] = VOID


def test_colour_map_is_a_table():
    assert np.array_equal(draw.colour_map(LABELS, COLOURS), COLOURS[LABELS])
    assert np.array_equal(draw.colour_map(LABELS.T, COLOURS), COLOURS[LABELS.T])


def test_overlay_between_image_and_colours():
    assert np.array_equal(draw.overlay(PHOTO, LABELS, COLOURS, opacity=0, edges=False), PHOTO)
    solid = draw.overlay(PHOTO, LABELS, COLOURS, opacity=1, edges=False)
    assert np.array_equal(solid, np.where((LABELS > 0)[..., None], COLOURS[LABELS], PHOTO))
    half = draw.overlay(PHOTO, LABELS, COLOURS, opacity=0.5, edges=False).astype(int)
    assert np.abs(half - (PHOTO.astype(int) + solid) / 2).max() <= 2


def test_overlay_leaves_background_clear_and_the_image_untouched():
    before = PHOTO.copy()
    found = draw.overlay(PHOTO, LABELS, COLOURS)
    assert np.array_equal(found[LABELS == 0], PHOTO[LABELS == 0])
    assert np.array_equal(PHOTO, before)
    assert found.flags.writeable


def test_edges_are_one_pixel_lines_inside_each_class():
    plain, lined = (draw.overlay(PHOTO, LABELS, COLOURS, edges=edges) for edges in (False, True))
    rim = np.zeros(LABELS.shape, bool)
    rim[10:30, 10:50] = True
    rim[11:29, 11:29] = rim[11:29, 31:49] = False
    rim[35, 50:] = rim[35:, 50] = True
    changed = (plain != lined).any(axis=2)
    assert not changed[~rim].any()
    for index in (1, 2):
        line = rim & (index == LABELS)
        tint = COLOURS[index] + (255 - COLOURS[index].astype(float)) * draw.TINT
        assert np.abs(lined[line] - tint).max() <= 1


def test_edges_grow_with_the_image():
    labels = np.zeros((10, 1500), np.uint8)
    labels[:, 700:] = 1
    image = np.full((10, 1500, 3), 7, np.uint8)
    plain, lined = (draw.overlay(image, labels, COLOURS, edges=edges) for edges in (False, True))
    assert np.flatnonzero((plain != lined).any(axis=(0, 2))).tolist() == [700, 701, 702]


def test_cutout():
    found = draw.cutout(PHOTO, LABELS, 1)
    assert (found.shape, found.dtype) == ((40, 60, 4), np.uint8)
    inside = LABELS == 1
    assert np.array_equal(found[inside][:, :3], PHOTO[inside])
    assert (found[inside][:, 3] == 255).all()
    assert not found[~inside].any()


def test_sheet_places_images_in_rows():
    images = [np.full((20, 40, 3), 10 * i, np.uint8) for i in range(5)]
    page = draw.sheet(images, columns=3, tile=(50, 80))
    assert page.shape == (2 * 50 + 3 * draw.GAP, 3 * 80 + 4 * draw.GAP, 3)
    for i in range(5):
        middle = (draw.GAP + 25 + i // 3 * (50 + draw.GAP), draw.GAP + 40 + i % 3 * (80 + draw.GAP))
        assert page[middle].tolist() == [10 * i] * 3
    assert page[-30, -30].tolist() == list(draw.PAPER)


def test_sheet_keeps_the_aspect_and_takes_cutouts():
    page = draw.sheet([np.zeros((10, 40, 3), np.uint8)], columns=4, tile=(80, 80))
    assert (page == 0).all(axis=2).sum() == 20 * 80
    clear = draw.sheet([draw.cutout(PHOTO, LABELS, 9)], columns=1)
    assert (clear == draw.PAPER).all()


def test_captions_are_written_below_and_cut_to_their_width():
    image = np.full((40, 60, 3), 99, np.uint8)
    captions = ["short", "a caption far too long for its narrow tile, cut with dots", "Δ naïve 日本", ""]
    page = draw.sheet([image] * 4, columns=4, captions=captions, tile=(40, 60))
    bare = draw.sheet([image] * 4, columns=4, tile=(40, 60))
    below = page[draw.GAP + 40 :]
    assert page.shape[0] > bare.shape[0]
    for i in range(4):
        column = below[:, draw.GAP + i * (60 + draw.GAP) :][:, :60]
        assert (column < 128).any() == bool(captions[i])
    gaps = [below[:, i * (60 + draw.GAP) : i * (60 + draw.GAP) + draw.GAP - 2] for i in range(5)]
    assert all((gap == draw.PAPER).all() for gap in gaps)


@pytest.mark.parametrize("kind", ["webp", "png", "jpeg"])
def test_encoded_pictures_open_again(kind):
    y, x = np.mgrid[0:40, 0:60]
    smooth = np.stack([4 * y, 4 * x, y + x], axis=-1).astype(np.uint8)
    for image in (smooth, np.dstack([smooth, np.full((40, 60), 255, np.uint8)])):
        data = draw.encode(image, kind)
        with Image.open(BytesIO(data)) as picture:
            assert picture.format == kind.upper()
            found = np.asarray(picture.convert("RGB")).astype(int)
        assert np.abs(found - smooth).max() <= (0 if kind == "png" else 24)


def test_quality_costs_bytes():
    assert len(draw.encode(PHOTO, "webp", 20)) < len(draw.encode(PHOTO, "webp", 95))


def test_transparency_survives_where_the_kind_has_it():
    cut = draw.cutout(PHOTO, LABELS, 1)
    for kind in ("png", "webp"):
        with Image.open(BytesIO(draw.encode(cut, kind))) as picture:
            assert np.array_equal(np.asarray(picture)[..., 3], cut[..., 3])
    with Image.open(BytesIO(draw.encode(cut, "jpeg", 100))) as picture:
        assert np.asarray(picture)[0, 0].min() > 240
