"""What a prediction shows of itself: its overlay when it knows its image, and it keeps no photo alive."""

import base64
import gc
import pickle
import re
import weakref
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import maskwright as mw
from maskwright.core.types import Prediction
from maskwright.data import synthetic
from maskwright.imaging import draw
from maskwright.imaging.palette import class_colours

GOLDEN = Path(__file__).parents[1] / "golden" / "bundle-1"


def picture(html: str | None) -> np.ndarray:
    assert html is not None
    data = re.search(r"data:image/webp;base64,([^\"]+)", html)
    assert data is not None
    return np.array(Image.open(BytesIO(base64.b64decode(data[1]))).convert("RGB")).astype(int)


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return bool(np.abs(found - expected.astype(int)).mean() < 6)  # WebP loses a little


@pytest.mark.parametrize("kind", ["path", "bytes", "array"])
def test_it_shows_the_overlay_of_its_image(kind: str, tmp_path: Path) -> None:
    image = synthetic.truth(1, 99, size=(80, 100))[0].image
    path = tmp_path / "photo.png"
    path.write_bytes(draw.encode(image, "png"))
    prediction = mw.load(GOLDEN)({"path": path, "bytes": path.read_bytes(), "array": image}[kind])
    html = prediction._repr_html_()
    assert close(picture(html), draw.overlay(image, prediction.label_map, class_colours(prediction.classes)))
    for index, name in enumerate(prediction.classes):
        share = 100 * (prediction.label_map == index).mean()
        assert (f"{name} {share:.1f} %" in str(html)) == bool(share)


def test_an_array_is_not_kept_alive() -> None:
    image = synthetic.truth(1, 99, size=(80, 100))[0].image
    reference = weakref.ref(image)
    prediction = mw.load(GOLDEN)(image)
    del image
    gc.collect()
    assert reference() is None
    alone = draw.colour_map(prediction.label_map, class_colours(prediction.classes))
    assert close(picture(prediction._repr_html_()), alone)


def test_a_file_that_is_gone_leaves_the_colours(tmp_path: Path) -> None:
    path = tmp_path / "photo <b>.png"
    path.write_bytes(draw.encode(synthetic.truth(1, 99, size=(80, 100))[0].image, "png"))
    prediction = mw.load(GOLDEN)(path)
    path.unlink()
    html = prediction._repr_html_()
    assert close(picture(html), draw.colour_map(prediction.label_map, class_colours(prediction.classes)))
    assert "<b>" not in str(html)


def test_large_photos_are_shown_small() -> None:
    large = np.zeros((1500, 3000, 3), np.uint8)
    assert picture(mw.load(GOLDEN)(large)._repr_html_()).shape == (320, 640, 3)


def test_one_that_was_made_by_hand_or_sent_elsewhere_has_words() -> None:
    made = Prediction(np.array([[0, 0], [0, 1]], np.uint8), ("ground", "cat"), np.ones(2, np.float32), "cat.jpg")
    assert made._repr_html_() is None
    assert repr(made) == "Prediction(cat.jpg, 2 x 2: ground 75.0 %, cat 25.0 %)"
    image = np.zeros((80, 100, 3), np.uint8)
    prediction = mw.load(GOLDEN)(image)
    again = pickle.loads(pickle.dumps(prediction))
    np.testing.assert_array_equal(again.label_map, prediction.label_map)
    assert again._repr_html_() is None
