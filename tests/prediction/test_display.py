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
from maskwright.bundles.bundle import Description
from maskwright.core.types import Prediction
from maskwright.data import synthetic
from maskwright.imaging import draw, draw_objects
from maskwright.imaging.palette import class_colours
from maskwright.prediction.instances import InstancePredictor

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


def finder(scores: tuple[float, ...], **thresholds: float) -> InstancePredictor:
    """A model that finds a square of each score, in a row, and takes turns with its classes."""
    num = len(scores)
    boxes = np.array([[4 + 20 * i, 10, 20 + 20 * i, 40] for i in range(num)], np.float32)
    answer = (boxes, 1 + np.arange(num) % 2, np.array(scores, np.float32), np.ones((num, 1, 28, 28), np.float32))
    description = Description(("cat", "<b>dog"), ((1, 2, 3), (4, 5, 6)), (80, 100), "squash", {}, task="instance")
    return InstancePredictor(lambda pixels: answer, description, runtime="test", thresholds=thresholds)


@pytest.mark.parametrize(
    ("scores", "thresholds", "rows", "weak"),
    [
        (
            (0.9, 0.8, 0.7, 0.3),
            {},
            {"cat": ("2", "0.70 to 0.90"), "&lt;b&gt;dog": ("1", "0.80 to 0.80")},
            "1 weaker one below 0.5",
        ),
        ((0.9, 0.3, 0.2), {"score": 0.25}, {"cat": ("1", "0.90 to 0.90"), "&lt;b&gt;dog": ("1", "0.30 to 0.30")}, ""),
        ((0.2, 0.1), {}, {}, "2 weaker ones below 0.5"),
        ((), {}, {}, ""),
    ],
)
def test_objects_show_their_overlay_and_a_table(
    scores: tuple[float, ...], thresholds: dict[str, float], rows: dict[str, tuple[str, str]], weak: str
) -> None:
    image = synthetic.truth(1, 99, size=(80, 100))[0].image
    found = finder(scores, **thresholds)(image)
    html = str(found._repr_html_())
    told = re.findall(r"</i>([^<]+)</td><td>(\d+)</td><td>([^<]+)</td>", html)
    assert {name: (count, span) for name, count, span in told} == rows
    assert ("no object" in html) == (not rows)
    assert re.findall(r"\d+ weaker ones? below [\d.]+", html) == ([weak] if weak else [])
    sure = found.only(found.scores >= (thresholds.get("score") or 0.5))
    drawn = draw.encode(draw_objects.drawn(image, sure, class_colours(found.classes)), "webp", 85)
    assert base64.b64encode(drawn).decode() in html


def test_objects_keep_no_photo_alive_and_are_sent_without_it() -> None:
    image = synthetic.truth(1, 99, size=(80, 100))[0].image
    reference = weakref.ref(image)
    found = finder((0.9, 0.4))(image)
    whole = picture(found._repr_html_())
    del image
    gc.collect()
    assert reference() is None
    assert picture(found._repr_html_()).shape == whole.shape
    again = pickle.loads(pickle.dumps(found))
    assert np.array_equal(again.masks(), found.masks())
    assert again.scores.tolist() == found.scores.tolist()
    assert again._repr_html_() is None
    assert found.only(np.array([0]))._repr_html_()


def test_objects_on_large_photos_are_shown_small() -> None:
    large = np.zeros((1500, 3000, 3), np.uint8)
    assert picture(finder((0.9,))(large)._repr_html_()).shape == (320, 640, 3)
