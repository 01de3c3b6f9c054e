"""Laws of the fast way to make images larger: to the bit what `images.fit` makes, whatever the sizes and the grey levels."""

import numpy as np
import pytest

from maskwright.imaging import images
from maskwright.imaging.images import Fitting
from maskwright.training import enlarge


def same(image, fitting):
    return np.array_equal(enlarge.fit(image, fitting), images.fit(image, fitting))


@pytest.mark.parametrize(
    "times", [*range(2, 18), 20, 24, 25, 27, 32, 50, 64, 85, 100, 128, 170, 255, 256, 333, 510, 512]
)
def test_every_pair_of_grey_levels_at_every_weight(times):
    """Two rows become as many as `times`: where rounding turns, and beside it, it turns to the same side."""
    pairs = np.stack(np.divmod(np.arange(256 * 256, dtype=np.uint16), 256)).astype(np.uint8)
    for part in np.array_split(np.pad(pairs, ((0, 0), (0, -pairs.shape[1] % 9)), mode="edge"), 3, axis=1):
        image = np.ascontiguousarray(part).reshape(2, -1, 3)
        size = (times, image.shape[1])
        assert same(image, images.plan(image.shape[:2], size, "squash"))


@pytest.mark.parametrize("how", ["squash", "pad"])
@pytest.mark.parametrize("contrast", ["all levels", "black and white", "one step"])
def test_any_size(how, contrast):
    rng = np.random.default_rng(7)
    tried = 0
    while tried < 120:
        small = tuple(rng.integers(1, 90, 2).tolist())
        kinds = (rng.integers(1, 300, 2), np.array(small) * rng.integers(1, 6, 2), rng.choice([64, 128, 320], 2))
        fitting = images.plan(small, tuple(kinds[tried % 3].tolist()), how)
        if not enlarge.enlarges(fitting):
            assert min(new - old for old, new in zip(small, fitting.box[2:])) < 0
            continue
        levels = {"all levels": (0, 256), "black and white": (0, 2), "one step": (127, 129)}[contrast]
        image = rng.integers(*levels, (*small, 3)).astype(np.uint8) * (255 if contrast == "black and white" else 1)
        assert same(image, fitting), (small, fitting)
        tried += 1


@pytest.mark.parametrize("small", [(512, 512), (427, 640), (640, 427), (800, 800), (799, 3), (1, 1)])
@pytest.mark.parametrize("how", ["squash", "pad"])
def test_sizes_of_photos(small, how):
    image = np.random.default_rng(0).integers(0, 256, (*small, 3), np.uint8)
    assert same(image, images.plan(small, (800, 800), how))
    assert same(image[:, ::-1], images.plan(small, (800, 800), how))  # a view is as good


@pytest.mark.parametrize("side", [4096, 8191])
def test_the_largest_sides(side):
    """The smallest weights: one grey level in the last place would show."""
    rng = np.random.default_rng(1)
    image = rng.integers(0, 256, (side, 5, 3), np.uint8)
    assert same(image, images.plan(image.shape[:2], (enlarge.MOST, 5), "squash"))


@pytest.mark.parametrize(
    ("original", "box"), [((10, 10), (9, 30)), ((10, 10), (30, 9)), ((10, 10), (10, enlarge.MOST + 1))]
)
def test_what_is_left_to_pillow(original, box):
    assert not enlarge.enlarges(Fitting(original, box, (0, 0, *box)))
    assert enlarge.enlarges(Fitting(original, (10, 10), (0, 0, 10, 10)))
