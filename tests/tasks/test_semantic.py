"""Decoding: bilinear on the original pixels, equal to the textbook formula, for every way of fitting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maskwright.imaging import images
from maskwright.imaging.images import Fitting
from maskwright.tasks import semantic


def bilinear(plane: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Half-pixel centres, edges repeated, float64: the formula, pixel by pixel."""
    height, width = plane.shape
    y = np.clip((np.arange(rows) + 0.5) * height / rows - 0.5, 0, height - 1)
    x = np.clip((np.arange(columns) + 0.5) * width / columns - 0.5, 0, width - 1)
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    y1, x1 = np.minimum(y0 + 1, height - 1), np.minimum(x0 + 1, width - 1)
    fy, fx = (y - y0)[:, None], (x - x0)[None]
    top = plane[y0][:, x0] * (1 - fx) + plane[y0][:, x1] * fx
    bottom = plane[y1][:, x0] * (1 - fx) + plane[y1][:, x1] * fx
    return top * (1 - fy) + bottom * fy


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 6),
    st.integers(2, 9),
    st.integers(2, 9),
    st.integers(1, 5),
    st.integers(0, 2**32 - 1),
)
def test_decode_equals_the_formula_where_the_answer_is_clear(
    classes: int, h: int, w: int, factor: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(classes, h, w)).astype(np.float32) * 3
    rows, columns = h * factor + int(rng.integers(0, 3)), w * factor + int(rng.integers(0, 3))
    label_map = semantic.decode(logits, Fitting((rows, columns), (h, w), (0, 0, h, w)))
    full = np.stack([bilinear(plane.astype(np.float64), rows, columns) for plane in logits])
    assert label_map.shape == (rows, columns)
    assert label_map.dtype == np.uint8
    ranked = np.sort(full, axis=0)
    clear = np.ones((rows, columns), bool) if classes == 1 else ranked[-1] - ranked[-2] > 1e-4
    np.testing.assert_array_equal(label_map[clear], full.argmax(0)[clear])


def test_strips_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = np.random.default_rng(0).normal(size=(5, 16, 16)).astype(np.float32)
    fitting = Fitting((131, 97), (16, 16), (0, 0, 16, 16))
    whole = semantic.decode(logits, fitting)
    monkeypatch.setattr(semantic, "STRIP", 97 * 7)
    assert (semantic.decode(logits, fitting) != whole).mean() < 1e-3


def test_ties_go_to_the_lower_class() -> None:
    fitting = Fitting((8, 8), (4, 4), (0, 0, 4, 4))
    assert not semantic.decode(np.zeros((4, 4, 4), np.float32), fitting).any()
    logits = np.zeros((3, 4, 4), np.float32)
    logits[1] = logits[2] = 1
    assert (semantic.decode(logits, fitting) == 1).all()


@pytest.mark.parametrize("how", ["squash", "pad"])
@pytest.mark.parametrize("original", [(40, 40), (40, 90), (90, 41), (7, 5)])
def test_what_is_fitted_comes_back(how: str, original: tuple[int, int]) -> None:
    label_map = np.zeros(original, np.uint8)
    label_map[: original[0] // 2, : original[1] // 2] = 1
    label_map[original[0] // 2 :, original[1] // 2 :] = 2
    fitting = images.plan(original, (64, 64), how)
    small = images.fit_label_map(label_map, fitting)
    logits = np.stack([(small == c) * 10.0 for c in range(3)]).astype(np.float32)
    assert (semantic.decode(logits, fitting) == label_map).mean() > 0.9


def test_confidence_is_the_mean_probability_of_the_pixels_won() -> None:
    logits = np.zeros((3, 2, 2), np.float32)
    logits[0] = 2.0
    logits[1, 0, 0] = 5.0
    fitting = Fitting((4, 4), (2, 2), (0, 0, 2, 2))
    e = np.exp
    np.testing.assert_allclose(
        semantic.confidence(logits, fitting),
        [e(2) / (e(2) + 2), e(5) / (e(5) + e(2) + 1), 0],
        rtol=1e-6,
    )
