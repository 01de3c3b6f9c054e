"""Laws of the augmentation: nothing moves without being asked to, image and labels move together, left and right swap."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.core.errors import RecipeError
from maskwright.core.registry import options_of
from maskwright.core.types import VOID
from maskwright.imaging.images import PAD_COLOUR
from maskwright.training import AUGMENTS, augment
from maskwright.training.augment import Place, Ranges, augmenter, propose_flip_pairs, swap_table

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
        copied = augment._warp(image, label_map, place, (40, 52))
        nudged = Place(flip, 1e-12, x0, 0.0, 1.0, y0)
        assert not nudged.is_copy
        warped = augment._warp(image, label_map, nudged, (40, 52))
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
    image[::2, ::2] = image[1::2, 1::2] = 255  # a fine chequerboard that thinning out would turn black or white
    out, _ = augmenter("none", (8, 8))(image, np.zeros((64, 64), np.uint8), np.random.default_rng(0))
    assert np.abs(out[1:-1, 1:-1].astype(int) - 128).max() <= 2


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
    pairs = propose_flip_pairs(classes)
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
    assert expected == propose_flip_pairs(classes)


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
    assert augment._colour_matrix(0, 0, 0.7, 0.9) @ grey == pytest.approx([90] * 3, abs=1e-3)
    luma, colour = np.array([0.299, 0.587, 0.114]), np.array([200.0, 30, 90, 1])
    assert luma @ augment._colour_matrix(0, 0, 0.5, 0) @ colour == pytest.approx(luma @ colour[:3], abs=1e-3)
    assert augment._colour_matrix(0.5, 0, 0, 0) @ colour == pytest.approx(colour[:3] * 1.5, abs=1e-3)
    assert augment._colour_matrix(0, 0.5, 0, 0) @ grey == pytest.approx([90 * 1.5 - 63.75] * 3, abs=1e-3)
    # a third of a turn carries red into green, green into blue
    third = augment._colour_matrix(0, 0, 0, 2.0)
    assert third[:, :3] == pytest.approx(np.roll(np.eye(3), 1, axis=0), abs=1e-6)
    assert augment._colour_matrix(0, 0, 0, 0)[:, :3] == pytest.approx(np.eye(3), abs=1e-7)


def test_noise_and_blur_do_what_they_say():
    image = np.full((64, 64, 3), 128, np.uint8)
    noisy = augment._recolour(image, Ranges(noise=1.0), np.random.default_rng(0)).astype(float)
    low, high = augment.NOISE_SIGMAS
    assert low - 0.5 < noisy.std() < high + 0.5
    assert abs(noisy.mean() - 128) < 0.5
    edge = np.zeros((16, 16, 3), np.uint8)
    edge[:, 8:] = 255
    blurred = augment._recolour(edge, Ranges(blur=1.0), np.random.default_rng(0))
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
    with pytest.raises(RecipeError, match=f"augment: `{next(iter(options))}` is .* or more"):
        AUGMENTS["soft"](**options)
