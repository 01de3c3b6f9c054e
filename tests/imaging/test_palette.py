"""The promise of the palette: classes stay apart for colour-blind eyes, by another model than the one it is made with."""

from itertools import combinations

import numpy as np
import pytest

from maskwright.core.types import VOID
from maskwright.imaging.palette import OKABE_ITO, VOID_COLOUR, class_colours, palette

# Vienot, Brettel and Mollon (1999): cone responses of linear RGB, and what a dichromat's third cone is replaced by
TO_LMS = np.array([[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]])
DICHROMATS = {
    "normal": np.eye(3),
    "protanopia": np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]]),
    "deuteranopia": np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]]),
}


def lab(colours, eye):
    """CIE Lab (D65) of sRGB colours 0..255 (N, 3), one at a time, as an eye sees them."""
    found = []
    for colour in colours:
        c = np.asarray(colour) / 255
        linear = np.array([v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in c])
        linear = np.clip(np.linalg.inv(TO_LMS) @ DICHROMATS[eye] @ TO_LMS @ linear, 0, 1)
        matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
        x, y, z = (np.array(matrix) @ linear) / [0.9505, 1, 1.089]
        f = [v ** (1 / 3) if v > 216 / 24389 else (24389 / 27 * v + 16) / 116 for v in (x, y, z)]
        found.append((116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])))
    return np.array(found)


def nearest(colours, eye):
    points = lab(colours, eye)
    return min(float(np.linalg.norm(a - b)) for a, b in combinations(points, 2))


# The smallest distance between any two of so many classes, background and VOID included. About 2 is just noticeable side
# by side; below 10 a legend is hard to match. It shrinks as classes are added: outlines and names must then help.
@pytest.mark.parametrize("eye", DICHROMATS)
@pytest.mark.parametrize(
    ("num_classes", "bound"), [(8, 17), (12, 17), (16, 17), (21, 14), (30, 8), (40, 8), (60, 6), (100, 3)]
)
def test_classes_stay_apart(eye, num_classes, bound):
    colours = class_colours(["background", *(f"class {i}" for i in range(1, num_classes))])
    assert nearest([*colours[:num_classes], VOID_COLOUR], eye) > bound


def test_the_first_eight_are_okabe_and_ito():
    assert palette(8)[:8].tolist() == [list(c) for c in OKABE_ITO]
    assert class_colours(["background", "cat", "dog"])[:3].tolist() == [[0, 0, 0], *map(list, OKABE_ITO[:2])]
    assert class_colours(["cat", "dog"])[:2].tolist() == [list(c) for c in OKABE_ITO[:2]]


@pytest.mark.parametrize("num_classes", [0, 1, 7, 8, 9, 21, 254, 255])
def test_every_index_has_a_colour_that_does_not_depend_on_the_number_of_classes(num_classes):
    colours = palette(num_classes)
    assert (colours.shape, colours.dtype) == ((256, 3), np.uint8)
    assert tuple(colours[VOID]) == VOID_COLOUR
    assert np.array_equal(colours[:num_classes], palette(255)[:num_classes])
    assert len(np.unique(colours[:num_classes], axis=0)) == num_classes


def test_a_palette_can_be_changed_by_its_owner():
    palette(8)[:] = 0
    class_colours(["background"])[:] = 0
    assert palette(8).any()


@pytest.mark.parametrize("num_classes", [1, 2, 255])
def test_the_background_is_black_and_no_class_is(num_classes):
    colours = class_colours(["background", *(f"class {i}" for i in range(1, num_classes))])
    assert not colours[0].any()
    assert colours[1:].any(axis=1).all()
    assert tuple(colours[VOID]) == VOID_COLOUR
    assert palette(num_classes).any(axis=1).all()
