"""Laws of the augmentation: nothing moves without being asked to, image and labels move together, left and right swap."""

import re

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.core import events
from maskwright.core import recipe as recipes
from maskwright.core.errors import RecipeError
from maskwright.core.recipe import Entry
from maskwright.core.registry import options_of
from maskwright.core.types import VOID
from maskwright.data import flip_pairs
from maskwright.imaging.images import PAD_COLOUR
from maskwright.training import AUGMENTS, OPERATIONS, augment, colour
from maskwright.training.augment import Ranges, augmenter
from maskwright.training.change import Change
from maskwright.training.geometry import Place, place, swap_sides, swap_table, warp

COLOURS = np.array([(7, 250, 40), (200, 10, 90), (30, 60, 220), (240, 240, 20), (128, 20, 180)], np.uint8)


def blobs(size, seed=0, cell=12):
    """A label map of large patches and the picture painted in its classes' colours."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, len(COLOURS), (size[0] // cell + 1, size[1] // cell + 1)).astype(np.uint8)
    label_map = np.kron(coarse, np.ones((cell, cell), np.uint8))[: size[0], : size[1]].copy()
    return COLOURS[label_map], label_map


def noise(size, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (*size, 3), np.uint8), rng.integers(0, 20, size).astype(np.uint8)


@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
def test_none_gives_back_what_came_in(fit):
    image, label_map = noise((33, 47))
    for seed in range(5):
        out = augmenter("none", (33, 47), fit=fit)(image, label_map, np.random.default_rng(seed))
        assert (out[0] == image).all()
        assert (out[1] == label_map).all()


def test_a_flip_is_fliplr_exactly():
    image, label_map = noise((33, 47))
    out = augmenter(Ranges(flip=1.0), (33, 47))(image, label_map, np.random.default_rng(0))
    assert (out[0] == np.fliplr(image)).all()
    assert (out[1] == np.fliplr(label_map)).all()


def test_interpolation_agrees_with_the_copy_where_nothing_is_between_pixels():
    """The road through warpAffine, taken at whole pixels, equals the road that only copies: the half pixels are right."""
    image, label_map = noise((40, 52))
    for flip, x0, y0 in ((1.0, 3.0, -2.0), (-1.0, 51.0, 0.0), (-1.0, 46.0, 9.0), (1.0, -60.0, 0.0)):
        place = Place(flip, 0.0, x0, 0.0, 1.0, y0)
        assert place.is_copy
        copied = warp(image, label_map, place, (40, 52))
        nudged = Place(flip, 1e-12, x0, 0.0, 1.0, y0)
        assert not nudged.is_copy
        warped = warp(image, label_map, nudged, (40, 52))
        assert (copied[1] == warped[1]).all()
        assert (copied[0] == warped[0]).all()


def test_a_quarter_turn_is_exact():
    """90 degrees about the middle of a square: every pixel centre falls on a pixel centre."""
    image, label_map = noise((31, 31))

    class Right(np.random.Generator):
        def random(self, size):
            return np.array([1.0, 0.5, 1.0, 0.5, 0.5][:size] + [0.5] * (size - 5))

    out = augmenter(Ranges(rotate=90), (31, 31))(image, label_map, Right(np.random.PCG64()))
    turned = [k for k in (1, 3) if (np.rot90(label_map, k) == out[1]).all()]
    assert len(turned) == 1
    assert (np.rot90(image, turned[0]) == out[0]).all()


def test_stretching_to_another_size_keeps_the_edges_together():
    """A sample of another size is stretched edge to edge: doubling repeats every pixel of the label map twice."""
    image, label_map = noise((16, 20))
    out = augmenter("none", (32, 40))(image, label_map, np.random.default_rng(0))
    assert (out[1] == label_map.repeat(2, 0).repeat(2, 1)).all()
    exact = cv2.resize(image, (40, 32), interpolation=cv2.INTER_LINEAR)[1:-1, 1:-1].astype(
        int
    )  # borders blend with padding
    assert np.abs(out[0][1:-1, 1:-1] - exact).max() <= 1


def test_shrinking_averages_areas():
    image = np.zeros((64, 64, 3), np.uint8)
    image[::4] = 255  # one row in four: two neighbours in the middle of eight would be black
    out, _ = augmenter("none", (8, 8))(image, np.zeros((64, 64), np.uint8), np.random.default_rng(0))
    assert np.abs(out.astype(int) - 64).max() <= 1


@pytest.mark.parametrize("zoom", [1.0, 0.5, 0.3, 0.25, 0.22, 0.15, 0.1])
def test_a_plain_picture_stays_plain_however_small_it_is_shown(zoom):
    """Windows that lie inside it show nothing of what is outside, and none of their edges is darker."""
    image, labels = np.full((700, 700, 3), 200, np.uint8), np.ones((700, 700), np.uint8)
    change = augmenter(lambda change, rng: _zoomed(change, zoom, rng), (48, 48), fit="crop")
    for seed in range(10):
        out, seen = change(image, labels, np.random.default_rng(seed))
        assert (out == 200).all()
        assert (seen == 1).all()


def _zoomed(change, zoom, rng):
    change.zoom_x = change.zoom_y = zoom
    change.window = tuple(rng.random(2).tolist())


def test_a_vertical_flip_is_a_mirror_that_swaps_pairs():
    image, labels = blobs((30, 40), 1)
    flipped, swapped = augmenter([Entry(name="flip_vertical", chance=1.0)], (30, 40), flip_pairs=[(1, 2)])(
        image, labels, np.random.default_rng(0)
    )
    assert (flipped == image[::-1]).all()
    swap = np.array([0, 2, 1, *range(3, 256)], np.uint8)
    assert (swapped == swap[labels[::-1]]).all()


@pytest.mark.parametrize("fit", ["squash", "crop"])
@given(seed=st.integers(0, 10_000), strength=st.sampled_from(["soft", "medium", "hard"]))
@settings(max_examples=40, deadline=None)
def test_image_and_label_map_stay_aligned(fit, seed, strength):
    """A picture painted from its label map still is, away from edges where colours blend."""
    image, label_map = blobs((120, 150), seed)
    ranges = AUGMENTS[strength](light=0, colour=0, gamma=0, blur=0, noise=0)
    size = (120, 150) if fit == "squash" else (90, 70)
    out, labels = augmenter(ranges, size, fit=fit)(image, label_map, np.random.default_rng(seed))
    assert out.shape == (*size, 3)
    assert labels.shape == size
    assert out.dtype == labels.dtype == np.uint8
    colours = np.vstack([COLOURS, np.zeros((256 - len(COLOURS), 3), np.uint8)])
    colours[VOID] = PAD_COLOUR
    kernel = np.ones((7, 7), np.uint8)
    inner = cv2.erode(labels, kernel) == cv2.dilate(labels, kernel)
    inner[[0, 1, -2, -1]] = inner[:, [0, 1, -2, -1]] = False  # what lies beyond the window may blend in
    assert inner.any()
    assert np.abs(out[inner].astype(int) - colours[labels[inner]]).max() <= 1


def test_outside_is_void_and_padding_colour():
    image, label_map = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)
    rng = np.random.default_rng(3)
    seen = False
    for _ in range(20):
        out, labels = augmenter(Ranges(scale=2.0, rotate=30, shift=0.2), (40, 40))(image, label_map, rng)
        assert set(np.unique(labels)) <= {0, VOID}
        outside = cv2.erode((labels == VOID).astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
        assert (out[outside] == PAD_COLOUR).all()
        seen |= bool(outside.any())
    assert seen


def test_a_window_of_a_smaller_image_is_padded():
    image, label_map = noise((20, 30))
    for seed in range(10):
        out, labels = augmenter("none", (32, 32), fit="crop")(image, label_map, np.random.default_rng(seed))
        inside = labels != VOID
        assert inside.sum() == 20 * 30
        rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
        window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert (labels[window] == label_map).all()
        assert (out[window] == image).all()
        assert (out[~inside] == PAD_COLOUR).all()


def test_windows_are_pieces_of_the_image_and_reach_everywhere():
    height, width = 50, 60
    where = np.arange(height * width).reshape(height, width)
    image = np.dstack([where // 256, where % 256, where * 0]).astype(np.uint8)
    corners = set()
    for seed in range(400):
        out, _ = augmenter("none", (48, 57), fit="crop")(
            image, np.zeros((height, width), np.uint8), np.random.default_rng(seed)
        )
        top, left = divmod(int(out[0, 0, 0]) * 256 + int(out[0, 0, 1]), width)
        assert (out == image[top : top + 48, left : left + 57]).all()
        corners.add((top, left))
    assert corners == {(top, left) for top in range(3) for left in range(4)}


def test_a_crop_of_a_zoomed_window_shows_the_image_at_that_zoom():
    """With a fixed zoom of 2 the window covers half as many pixels of the source, at twice their size."""
    image, label_map = blobs((200, 200))

    class Zoomed(np.random.Generator):
        def random(self, size):
            return np.array([1.0, 1.0, 0.5, 0.5, 0.5][:size] + [0.5] * (size - 5))

    _, labels = augmenter(Ranges(scale=2), (100, 100), fit="crop")(image, label_map, Zoomed(np.random.PCG64()))
    assert (labels == label_map[75:125, 75:125].repeat(2, 0).repeat(2, 1)).all()


def test_a_flip_swaps_the_pairs():
    classes = ["background", "left_mirror", "hood", "right_mirror"]
    _, label_map = noise((16, 16))
    label_map %= 4
    label_map[0, :3] = VOID
    pairs = flip_pairs.proposed(classes)
    flipped = augmenter(Ranges(flip=1.0), (16, 16), flip_pairs=pairs)
    _, once = flipped(np.zeros((16, 16, 3), np.uint8), label_map, np.random.default_rng(0))
    mirror = np.fliplr(label_map)
    assert pairs == [(1, 3)]
    assert ((once == 1) == (mirror == 3)).all()
    assert ((once == 3) == (mirror == 1)).all()
    assert ((once == VOID) == (mirror == VOID)).all()
    _, twice = flipped(np.zeros((16, 16, 3), np.uint8), once, np.random.default_rng(0))
    assert (twice == label_map).all()
    unflipped = augmenter(Ranges(), (16, 16), flip_pairs=pairs)
    assert (unflipped(np.zeros((16, 16, 3), np.uint8), label_map, np.random.default_rng(0))[1] == label_map).all()


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        (["front_left_door", "hood", "front_right_door"], [(0, 2)]),
        (["right_mirror", "left_mirror"], [(0, 1)]),
        (["Left-arm", "Right-arm", "left-leg"], [(0, 1)]),
        (["l_eye", "r_eye", "nose", "l_brow", "r_brow"], [(0, 1), (3, 4)]),
        (["hand_L", "foot_L", "foot_R", "hand_R"], [(0, 3), (1, 2)]),
        (["LeftUpperArm", "RightUpperArm", "lArm", "rArm"], [(0, 1), (2, 3)]),
        (["lefteye", "righteye", "LEFT HAND", "RIGHT HAND"], [(0, 1), (2, 3)]),
        (["left 1", "left 2", "right 2", "right 1"], [(0, 3), (1, 2)]),
        (["left_door", "Left Door", "right_door"], [(0, 2)]),
        (["leftovers", "copyright", "l", "road", "car", "letter", "radio"], []),
        ([], []),
    ],
)
def test_pairs_are_proposed_from_names(classes, expected):
    assert expected == flip_pairs.proposed(classes)


def test_swap_table_is_its_own_inverse():
    table = swap_table([(3, 5), (0, 9)])
    assert (table[table] == np.arange(256)).all()
    assert (table != np.arange(256)).sum() == 4


@pytest.mark.parametrize("strength", AUGMENTS)
@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_same_draws_same_sample(strength, fit):
    image, label_map = noise((64, 48))
    change = augmenter(strength, (32, 40), fit=fit)
    first, again, other = (change(image, label_map, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert strength == "none" or not (first[0] == other[0]).all()


def test_inputs_are_never_written():
    image, label_map = noise((64, 48))
    kept = image.copy(), label_map.copy()
    image.flags.writeable = label_map.flags.writeable = False
    for strength in AUGMENTS:
        for seed in range(20):
            augmenter(strength, (64, 48), flip_pairs=[(1, 2)])(image, label_map, np.random.default_rng(seed))
    assert (image == kept[0]).all()
    assert (label_map == kept[1]).all()


def test_geometry_does_not_depend_on_the_colours_asked_for():
    image, label_map = noise((64, 48))
    plain = augmenter(AUGMENTS["hard"](light=0, colour=0, gamma=0, blur=0, noise=0), (64, 48))
    full = augmenter("hard", (64, 48))
    for seed in range(10):
        a, b = (f(image, label_map, np.random.default_rng(seed))[1] for f in (plain, full))
        assert (a == b).all()


def test_colour_matrix():
    """Grey stays grey under hue and saturation; luma stays under saturation; brightness and contrast are what they say."""
    grey = np.array([90.0, 90, 90, 1])
    assert colour.colour_matrix(0, 0, 0.7, 54) @ grey == pytest.approx([90] * 3, abs=1e-3)
    luma, pixel = np.array([0.299, 0.587, 0.114]), np.array([200.0, 30, 90, 1])
    assert luma @ colour.colour_matrix(0, 0, 0.5, 0) @ pixel == pytest.approx(luma @ pixel[:3], abs=1e-3)
    assert colour.colour_matrix(0.5, 0, 0, 0) @ pixel == pytest.approx(pixel[:3] * 1.5, abs=1e-3)
    assert colour.colour_matrix(0, 0.5, 0, 0) @ grey == pytest.approx([90 * 1.5 - 63.75] * 3, abs=1e-3)
    # a third of a turn carries red into green, green into blue
    third = colour.colour_matrix(0, 0, 0, 120)
    assert third[:, :3] == pytest.approx(np.roll(np.eye(3), 1, axis=0), abs=1e-6)
    assert colour.colour_matrix(0, 0, 0, 0)[:, :3] == pytest.approx(np.eye(3), abs=1e-7)


def coloured(operation, image, seed=0):
    """The image after the colours and effects of an operation."""
    return augmenter(operation, image.shape[:2])(
        image, np.zeros(image.shape[:2], np.uint8), np.random.default_rng(seed)
    )[0]


def test_noise_and_blur_do_what_they_say():
    image = np.full((64, 64, 3), 128, np.uint8)
    noisy = coloured(Ranges(noise=1.0), image).astype(float)
    low, high = augment.NOISE_SIGMAS
    assert low - 0.5 < noisy.std() < high + 0.5
    assert abs(noisy.mean() - 128) < 0.5
    edge = np.zeros((16, 16, 3), np.uint8)
    edge[:, 8:] = 255
    blurred = coloured(Ranges(blur=1.0), edge)
    assert 0 < blurred[8, 7, 0] < blurred[8, 8, 0] < 255


@pytest.mark.parametrize("strength", AUGMENTS)
def test_options_are_documented_and_reach_the_ranges(strength):
    options = options_of(AUGMENTS[strength])
    assert all(option.help for option in options.values())
    if options:
        assert AUGMENTS[strength](rotate=3.0).rotate == 3.0
    assert all(getattr(AUGMENTS[strength](), name) == option.default for name, option in options.items())


def test_strengths_grow():
    soft, medium, hard = (AUGMENTS[name]() for name in ("soft", "medium", "hard"))
    for name in Ranges.__dataclass_fields__:
        assert getattr(soft, name) <= getattr(medium, name) <= getattr(hard, name)


@pytest.mark.parametrize("options", [{"scale": 0.5}, {"scale": -2.0}, {"gamma": -1.0}, {"rotate": -5.0}])
def test_ranges_that_make_no_sense_are_refused(options):
    with pytest.raises(RecipeError, match=f"augment: `{next(iter(options))}` is .* and goes from "):
        AUGMENTS["soft"](**options)


# ---------------------------------------------------------------------------------------------------------- operations

ALWAYS = {"chance": 1.0}
WITHOUT_EFFECT = {  # options at which an operation that takes part changes nothing
    "rotate": {"degrees": 0},
    "zoom": {"scale": [1, 1]},
    "stretch": {"ratio": [1, 1]},
    "shift": {"share": 0},
    "shear": {"degrees": 0},
    "perspective": {"share": 0},
    "brightness": {"share": 0},
    "contrast": {"share": 0},
    "saturation": {"share": 0},
    "hue": {"degrees": 0},
    "gamma": {"exponent": [1, 1]},
    "motion_blur": {"length": [1, 1]},
    "noise": {"sigma": [0, 0]},
    "erase": {"area": [0, 0]},
}
PLACES = ("flip", "flip_vertical", "quarter_turn", "rotate", "zoom", "stretch", "shift", "shear", "perspective")


def entry(name, **options):
    return Entry(name=name, **ALWAYS | options)


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_without_chance_or_strength_leaves_samples_alone(name):
    image, label_map = noise((33, 47))
    ways = [{"chance": 0.0}] + ([WITHOUT_EFFECT[name]] if name in WITHOUT_EFFECT else [])
    for options in ways:
        for seed in range(3):
            change = augmenter([entry(name, **options)], (33, 47), flip_pairs=[(1, 2)])
            out = change(image, label_map, np.random.default_rng(seed))
            assert (out[0] == image).all()
            assert (out[1] == label_map).all()


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("fit", ["squash", "crop"])
def test_an_operation_is_a_function_of_its_draws_and_writes_into_nothing(name, fit):
    image, label_map = noise((64, 48))
    image.flags.writeable = label_map.flags.writeable = False
    if name == "shift" and fit == "crop":
        return
    change = augmenter([entry(name)], (40, 40), fit=fit)
    first, again, *others = (change(image, label_map, np.random.default_rng(seed)) for seed in (1, 1, 2, 3, 4))
    for out in (first, again, *others):
        assert out[0].shape == (40, 40, 3)
        assert out[1].shape == (40, 40)
        assert out[0].dtype == out[1].dtype == np.uint8
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    plain = augmenter("none", (40, 40))(image, label_map, np.random.default_rng(0))[0]
    assert any((out[0] != plain).any() for out in (first, *others))


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
def test_places_move_image_and_label_map_together(name, fit):
    """A picture painted from its label map still is, away from edges where colours blend; outside is VOID, PAD_COLOUR."""
    if name == "shift" and fit == "crop":
        return
    for seed in range(6):
        image, label_map = blobs((120, 150), seed)
        size = (90, 70) if fit == "crop" else (120, 150)
        change = augmenter([entry(name), entry("zoom", scale=[0.7, 1.4])], size, fit=fit)
        out, labels = change(image, label_map, np.random.default_rng(seed))
        painted(out, labels)


def painted(out, labels):
    colours = np.vstack([COLOURS, np.zeros((256 - len(COLOURS), 3), np.uint8)])
    colours[VOID] = PAD_COLOUR
    kernel = np.ones((7, 7), np.uint8)
    inner = cv2.erode(labels, kernel) == cv2.dilate(labels, kernel)
    inner[[0, 1, -2, -1]] = inner[:, [0, 1, -2, -1]] = False
    assert inner.mean() > 0.1
    assert np.abs(out[inner].astype(int) - colours[labels[inner]]).max() <= 1


def test_all_places_at_once_are_still_one_warp():
    for seed in range(10):
        image, label_map = blobs((120, 150), seed, cell=30)
        painted(*augmenter([entry(name) for name in PLACES], (120, 150))(image, label_map, np.random.default_rng(seed)))


@pytest.mark.parametrize("name", OPERATIONS)
def test_draws_do_not_change_when_another_operation_is_added(name):
    image, label_map = noise((48, 48))
    rng = np.random.default_rng
    alone, beside = Change(), Change()
    augment.made([entry("rotate"), entry("brightness")])(alone, rng(7))
    augment.made([entry(name), entry("rotate"), entry("erase"), entry("brightness")])(beside, rng(7))
    if name not in ("rotate", "brightness", "saturation"):
        assert (alone.turn, alone.brightness) == (beside.turn, beside.brightness)
    if name not in PLACES:
        some, more = (augmenter(wanted, (48, 48)) for wanted in ([entry("zoom")], [entry(name), entry("zoom")]))
        kept = some(image, label_map, rng(3))[1], more(image, label_map, rng(3))[1]
        assert (kept[0] == kept[1])[kept[1] != VOID].all()


@pytest.mark.parametrize("name", ["rotate", "zoom", "brightness", "saturation"])
def test_the_order_of_places_and_colours_is_of_no_account(name):
    image, label_map = blobs((60, 60))
    names = [name, "flip", "shear", "contrast", "hue"]
    ways = [augmenter([entry(n) for n in order], (60, 60)) for order in (names, names[::-1])]
    for seed in range(5):
        one, other = (way(image, label_map, np.random.default_rng(seed)) for way in ways)
        assert (one[0] == other[0]).all()
        assert (one[1] == other[1]).all()


def test_twice_the_same_operation_draws_twice():
    once, twice = Change(), Change()
    augment.made([entry("rotate")])(once, np.random.default_rng(0))
    augment.made([entry("rotate"), entry("rotate")])(twice, np.random.default_rng(0))
    assert twice.turn not in (once.turn, 2 * once.turn)


def test_quarter_turns_and_flips_are_exact():
    image, label_map = noise((32, 32))
    seen = set()
    for seed in range(40):
        change = augmenter(["quarter_turn", "flip", "flip_vertical"], (32, 32))
        out = change(image, label_map, np.random.default_rng(seed))
        found = [
            (k, flipped)
            for k in range(4)
            for flipped in (False, True)
            if (np.rot90(np.fliplr(label_map) if flipped else label_map, k) == out[1]).all()
        ]
        assert len(found) == 1
        k, flipped = found[0]
        assert (np.rot90(np.fliplr(image) if flipped else image, k) == out[0]).all()
        seen.add(found[0])
    assert len(seen) == 8


def test_a_quarter_turn_of_a_wide_window_fills_it():
    image, label_map = noise((32, 64))
    for fit in ("squash", "crop"):
        for seed in range(4):
            change = augmenter([entry("quarter_turn")], (32, 64), fit=fit)
            labels = change(image, label_map, np.random.default_rng(seed))[1]
            if fit == "squash":
                assert (labels != VOID).all()


def test_a_place_is_what_brute_force_says():
    """Every output pixel takes the source pixel under it, perspective and all."""
    _, label_map = noise((41, 57))
    rng = np.random.default_rng(0)
    for _ in range(20):
        change = Change(
            flip=bool(rng.integers(2)),
            zoom_x=rng.uniform(0.6, 2),
            zoom_y=rng.uniform(0.6, 2),
            turn=rng.uniform(-180, 180),
        )
        change.shear, (change.tilt_x, change.tilt_y) = rng.uniform(-0.3, 0.3), rng.uniform(-0.4, 0.4, 2)
        change.right, change.down = rng.uniform(-0.2, 0.2, 2)
        where = place(change, (41, 57), (50, 40), "squash")
        _, labels = warp(np.zeros((41, 57, 3), np.uint8), label_map, where, (50, 40))
        agree = clear = 0
        for y in range(50):
            for x in range(40):
                sx, sy = where.source(x, y)
                if max(abs(sx % 1 - 0.5), abs(sy % 1 - 0.5)) < 0.05:
                    continue  # between pixels: either is right
                column, row = round(sx), round(sy)
                inside = 0 <= column < 57 and 0 <= row < 41
                clear += 1
                agree += labels[y, x] == (label_map[row, column] if inside else VOID)
        assert agree > 0.9 * clear  # OpenCV rounds places to a thirty-second of a pixel


def test_perspective_keeps_lines_straight_and_the_middle_in_place():
    where = place(Change(tilt_x=0.3, tilt_y=-0.2), (100, 100), (100, 100), "squash")
    assert where.source(49.5, 49.5) == pytest.approx((49.5, 49.5))
    points = np.array([where.source(x, 10 + 0.5 * x) for x in range(0, 100, 9)])
    assert np.linalg.matrix_rank(points - points[0], tol=1e-6) == 1
    left, right = (np.linalg.norm(np.subtract(where.source(x, 49), where.source(x, 50))) for x in (0, 99))
    assert right < 1 < left  # the right side came nearer
    assert not where.flipped
    assert place(Change(flip=True, tilt_x=0.4, tilt_y=0.4), (100, 100), (100, 100), "squash").flipped


def test_erased_pixels_are_void_or_keep_their_labels():
    image, label_map = noise((50, 60))
    for keep in (False, True):
        change = augmenter([entry("erase", area=[0.1, 0.2], keep_labels=keep)], (50, 60))
        out, labels = change(image, label_map, np.random.default_rng(1))
        gone = (out != image).any(axis=2)
        assert 0.08 < gone.mean() < 0.22
        assert (out[gone] == PAD_COLOUR).all()
        assert (labels[~gone] == label_map[~gone]).all()
        assert (labels[gone] == (label_map[gone] if keep else VOID)).all()


def test_colours_do_what_they_say():
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(60, 180, (6, 6, 3), np.uint8), (48, 48))
    grey = coloured([entry("grey")], image).astype(int)
    assert (grey.max(axis=2) - grey.min(axis=2)).max() <= 1
    assert np.abs(grey[..., 0] - image @ np.array([0.299, 0.587, 0.114])).max() <= 1
    brighter = coloured([entry("brightness", share=[0.2, 0.2])], image)
    assert np.abs(brighter - image * 1.2).max() <= 1
    darker = coloured([entry("gamma", exponent=[2, 2])], image)
    assert np.abs(darker - (image / 255) ** 2 * 255).max() <= 1
    twice = coloured([entry("brightness", share=[0.1, 0.1]), entry("brightness", share=[-0.1, -0.1])], image)
    assert np.abs(twice - image * 0.99).max() <= 1
    saved = coloured([entry("jpeg", quality=[95, 95])], image).astype(int)
    assert 0 < np.abs(saved - image).mean() < 3  # the colours keep their order


@pytest.mark.parametrize("angle", [0, 30, 45, 90, 170])
@pytest.mark.parametrize("length", [1.0, 2.5, 9.0])
def test_a_trace_is_a_line_through_the_middle(length, angle):
    kernel = colour.line_kernel(length, angle)
    size = len(kernel)
    assert kernel.shape == (size, size)
    assert size % 2 == 1
    assert kernel.sum() == pytest.approx(1)
    rows, columns = np.mgrid[:size, :size] - size // 2
    assert abs((kernel * rows).sum()) + abs((kernel * columns).sum()) < 1e-5
    x, y = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    across = np.abs(rows * x - columns * y)[kernel > 1e-6]
    assert across.max() <= 1.5
    spread = np.sqrt((kernel * (rows * y + columns * x) ** 2).sum())
    assert spread == pytest.approx(length / np.sqrt(12), abs=0.6)


def test_masks_of_each_class_go_where_the_label_map_goes():
    image, label_map = blobs((60, 70))
    masks = (label_map == np.arange(5)[:, None, None]).astype(np.uint8)
    wanted = ["hard", "erase", "quarter_turn", "perspective"]
    change = augmenter(wanted, (50, 50), flip_pairs=[(1, 3)], fit="crop")
    for seed in range(15):
        _, labels = change(image, label_map, np.random.default_rng(seed))
        _, moved = change(image, masks, np.random.default_rng(seed))
        assert moved.shape == (5, 50, 50)
        expected = np.where(labels == VOID, VOID, labels == np.arange(5)[:, None, None])
        assert (moved == expected).all()


def test_swapped_sides_of_masks():
    masks = np.arange(3, dtype=np.uint8)[:, None, None] * np.ones((3, 2, 2), np.uint8)
    assert swap_sides(masks, swap_table([(0, 2)]))[:, 0, 0].tolist() == [2, 1, 0]


def test_a_strength_in_a_list_and_an_operation_alone():
    image, label_map = noise((40, 40))
    listed, alone = augmenter(["hard"], (40, 40)), augmenter("flip", (40, 40))
    assert not (listed(image, label_map, np.random.default_rng(0))[0] == image).all()
    outs = [alone(image, label_map, np.random.default_rng(seed))[0] for seed in range(20)]
    assert {bool((out == image).all()) for out in outs} == {True, False}
    assert all((out == image).all() or (out == np.fliplr(image)).all() for out in outs)


@pytest.mark.parametrize("name", OPERATIONS)
def test_options_of_operations_are_explained(name):
    options = options_of(OPERATIONS[name])
    assert "chance" in options
    assert all(option.help for option in options.values())
    augment.check([name])


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["flop"], r"augment\.0: no augmentation is called `flop`.*`flip`"),
        ("hrad", r"augment: no augmentation is called `hrad`.*`hard`"),
        (["soft", Entry(name="rotate", degree=3)], r"augment\.1\.degree: unknown option.*`degrees`"),
        ([Entry(name="rotate", degrees="much")], r"augment\.0\.degrees: "),
        ([Entry(name="rotate", degrees=-5)], r"augment: rotate\.degrees: must be 0 \(off\) or more"),
        ([Entry(name="zoom", scale=[0, 2])], r"zoom\.scale: must be above 0"),
        ([Entry(name="zoom", scale=[2, 0.5])], r"zoom\.scale: must be \[least, most\]"),
        ([Entry(name="flip", chance=1.5)], r"flip\.chance: must be from 0 to 1"),
        ([Entry(name="perspective", share=0.9)], r"perspective\.share: .*0\.45"),
        ([Entry(name="saturation", share=[-2, 0])], r"saturation\.share: "),
        ([Entry(name="jpeg", quality=[0, 101])], r"jpeg\.quality: "),
        ([Entry(name="erase", holes=0)], r"erase\.holes: must be 1"),
        ([Entry(name="rotate", degrees="15")], r"augment\.0\.degrees: is the text `15`.*without quotes: 15"),
        ([Entry(name="rotate", degrees=float("inf"))], r"rotate\.degrees: must be"),
        ([Entry(name="blur", sigma=[1, 1e6])], r"blur\.sigma: must be .* to 50"),
        (Entry(name="soft", scale=float("nan")), r"`scale` is nan"),
        (Entry(name="soft", scale=float("inf")), r"`scale` is inf and goes from 1 \(no zoom\) to 16"),
        (Entry(name="hard", flip=3.0), r"`flip` is 3.0 and goes from 0 \(off\) to 1"),
    ],
)
def test_lists_that_make_no_sense_are_refused(wanted, message):
    with pytest.raises(RecipeError) as caught:
        augment.check(wanted)
    assert re.search(message, f"{caught.value.place}: {caught.value.what} {caught.value.hint}")


def test_the_source_projects_can_be_said():
    """Cats: ShiftScaleRotate, HSV, light, noise, motion blur, flip. Pets: the long side times U(0.5, 2), windows of 240."""
    image, label_map = noise((100, 130))
    cats = [
        {"name": "rotate", "degrees": 10}, {"name": "zoom", "scale": [0.9, 1.1], "even": True},
        {"name": "shift", "share": 0.06},
        {"name": "hue", "degrees": 20}, {"name": "saturation", "share": 0.3}, "brightness", "contrast",
        {"name": "noise", "chance": 0.5, "sigma": [3, 7]}, {"name": "motion_blur", "length": [3, 7], "chance": 0.5}, "flip",
    ]  # fmt: skip
    recipe = recipes.build({"data": "x", "augment": cats})
    out = augmenter(recipe.augment, (64, 32))(image, label_map, np.random.default_rng(0))
    assert out[0].shape == (64, 32, 3)
    pets = recipes.build({"data": "x", "augment": ["flip", {"name": "zoom", "scale": [0.5, 2.0], "even": True}]})
    assert augmenter(pets.augment, (24, 24), fit="crop")(image, label_map, np.random.default_rng(0))[1].shape == (
        24,
        24,
    )


def test_shifting_random_windows_is_said_to_do_nothing():
    told = []
    with events.listening(lambda event: told.append(event)):
        augmenter(["shift"], (16, 16), fit="crop")
    assert "does nothing" in str(told)


@pytest.mark.parametrize(
    ("strength", "moves", "colours"),
    [
        (
            "soft",
            (-1.499542, 0.05315, 54.402052, 0.044292, 1.249618, 1.48075),
            (0.128463, -0.128874, -0.111068, 8.069912, 1.0),
        ),
        (
            "medium",
            (-1.497112, 0.106262, 51.276031, 0.088552, 1.247594, 2.293011),
            (0.214106, -0.21479, -0.222136, 16.139824, 1.055902),
        ),
        (
            "hard",
            (-1.489973, 0.185715, 47.290768, 0.154762, 1.241644, 3.391173),
            (0.342569, -0.343664, -0.370226, 26.899707, 1.103889),
        ),
    ],
)
def test_golden_numbers_of_the_strengths(strength, moves, colours):
    """What a strength draws has stayed the same since the first version: trainings can be repeated."""
    change = Change()
    augment.made(strength)(change, np.random.default_rng(11))
    where = place(change, (50, 60), (40, 40), "squash")
    assert (where.xx, where.xy, where.x0, where.yx, where.yy, where.y0) == pytest.approx(moves, abs=1e-6)
    drawn = (change.brightness, change.contrast, change.saturation, change.hue, change.gamma)
    assert drawn == pytest.approx(colours, abs=1e-6)


def test_samples_of_large_windows_do_not_share_memory():
    """The memory that is used again between samples holds nothing that anybody keeps."""
    image, label_map = noise((400, 420))
    change = augmenter("hard", (400, 400))
    first = change(image, label_map, np.random.default_rng(0))
    kept = first[0].copy(), first[1].copy()
    again = [change(image, label_map, np.random.default_rng(seed)) for seed in (1, 2, 0)][-1]
    assert all((a == b).all() for a, b in zip(first, kept, strict=True))
    assert all((a == b).all() for a, b in zip(again, kept, strict=True))
