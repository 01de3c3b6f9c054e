"""Overlapping classes end to end: a car, its doors, and what covers them, each with a mask of its own, nothing painted over.

The doors lie on the car and the sticker lies on both, so that one label map could not hold what is true.
"""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import maskwright as mw
from maskwright.bundles import bundle as bundles
from maskwright.core import events
from maskwright.core.errors import DataError, RecipeError
from maskwright.core.recipe import build, load
from maskwright.core.recipe_text import dump
from maskwright.core.table import Data, Packer
from maskwright.core.types import BACKGROUND
from maskwright.data.formats import FORMATS
from maskwright.data.open import open_data
from maskwright.metrics.scores import Scores
from maskwright.prediction.predictor import load as load_predictor
from maskwright.tasks import multilabel
from maskwright.training import assemble

CLASSES = ("car", "left_door", "right_door", "sticker")
SIZES = ((72, 96), (96, 80))
SMALL = {
    "size": 64,
    "multilabel": True,
    "model": {"name": "residual_unet", "width": 8, "weights": "none"},
    "train.batch": 8,
    "train.epochs": 24,
    "train.workers": 0,
    "augment": {"name": "soft", "rotate": 0.0},
}


def boxes(number: int) -> dict[str, tuple[int, int, int, int]]:
    """Of each class in an image, in pixels: left, top, right, bottom (exclusive)."""
    draw = np.random.default_rng(number)
    x, y = draw.integers(4, 16, 2).tolist()
    w, h = draw.integers(44, 60, 2).tolist()
    middle = x + w // 2
    found = {
        "car": (x, y, x + w, y + h),
        "left_door": (x + 4, y + 6, middle - 2, y + h - 10),
        "right_door": (middle + 2, y + 6, x + w - 4, y + h - 10),
    }
    if number % 3:
        found["sticker"] = (middle - 10, y + 12, middle + 10, y + 24)
    return found


def picture(number: int) -> Image.Image:
    """Each class adds its own colour to what lies below."""
    height, width = SIZES[number % 2]
    pixels = np.random.default_rng(100 + number).integers(20, 60, (height, width, 3)).astype(np.int64)
    shades = {"car": (110, 0, 0), "left_door": (0, 130, 0), "right_door": (0, 0, 150), "sticker": (60, 60, 60)}
    for name, (left, top, right, bottom) in boxes(number).items():
        pixels[top:bottom, left:right] += shades[name]
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def as_data(folder: Path, num: int) -> Data:
    packer = Packer()
    for number in range(num):
        photo = folder / f"car_{number:02d}.jpg"
        image = picture(number)
        image.save(photo, quality=95)
        packer.image(photo.stem, str(photo), (image.height, image.width), split="val" if number % 4 == 0 else "train")
        for name, (left, top, right, bottom) in boxes(number).items():
            outline = [left, top, right, top, right, bottom, left, bottom]
            packer.region(1 + CLASSES.index(name), polygons=[outline], id=100 * number + len(packer))
    return packer.pack((BACKGROUND, *CLASSES))


def truth_of(number: int) -> np.ndarray:
    """bool (C, H, W), drawn without any code of ours."""
    masks = np.zeros((len(CLASSES), *SIZES[number % 2]), bool)
    for name, (left, top, right, bottom) in boxes(number).items():
        masks[CLASSES.index(name), top:bottom, left:right] = True
    return masks


@pytest.fixture(scope="session")
def cars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cars")
    (folder / "photos").mkdir()
    FORMATS["coco"].write(as_data(folder / "photos", 24), folder / "data")
    return folder / "data"


@pytest.fixture(scope="session")
def trained(cars: Path) -> Any:
    return mw.train(str(cars), SMALL, out=str(cars.parent / "runs"))


@pytest.mark.slow
def test_it_learns_what_one_label_a_pixel_could_not_say(trained: Any, cars: Path) -> None:
    run, known = Path(trained.run), bundles.load(trained.bundle).description
    assert known.multilabel
    assert known.classes == CLASSES
    assert known.flip_pairs == ((1, 2),)
    scores = json.loads((run / "scores.json").read_text())["val"]
    assert scores["overlapping"] is True
    assert "pixel_accuracy" not in scores["headlines"]
    assert scores["headlines"]["miou"]["value"] > 0.6
    said = [json.loads(line).get("text", "") for line in (run / "events.jsonl").read_text().splitlines()]
    assert any("trained by bce + dice" in text for text in said)
    assert load(run / "recipe.yaml").loss == {"bce": 1.0, "dice": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["torch", "onnx"])
@pytest.mark.parametrize("tiles", [False, True])
def test_evaluation_counts_each_class_by_itself(trained: Any, cars: Path, runtime: str, tiles: bool) -> None:
    predictor = load_predictor(trained.bundle, runtime=runtime, tiled=tiles)
    found = mw.evaluate(trained.bundle, str(cars), part="all", runtime=runtime, tiles=tiles).scores
    common, union = np.zeros(len(CLASSES)), np.zeros(len(CLASSES))
    for record in open_data(cars).data:
        prediction, true = predictor(record.image), truth_of(int(Path(record.image).stem[-2:]))
        masks = prediction.masks
        assert masks.dtype == bool
        assert masks.shape == true.shape
        common += (masks & true).sum(axis=(1, 2))
        union += (masks | true).sum(axis=(1, 2))
        np.testing.assert_array_equal(prediction.label_map, multilabel.flat(masks))
    assert [c.iou for c in found.per_class] == pytest.approx((common / union).tolist())
    assert found["miou"] == pytest.approx(float((common / union).mean()))
    assert "one mask per class, which may overlap (above 0.5)" in found.convention
    again = Scores.from_json(json.loads(json.dumps(found.to_json())))
    assert again.summary() == found.summary()


@pytest.mark.slow
def test_predict_writes_a_mask_for_each_class(trained: Any, cars: Path, tmp_path: Path) -> None:
    photo = open_data(cars).data[1].image
    mw.predict(trained.bundle, photo, out=str(tmp_path), cutout="car", probabilities="png")
    prediction = load_predictor(trained.bundle)(photo)
    name = Path(photo).stem
    files = sorted((tmp_path / "masks" / name).iterdir())
    assert [file.name for file in files] == [f"{i}_{label}.png" for i, label in enumerate(CLASSES)]
    for file, mask in zip(files, prediction.masks, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(file)), mask * np.uint8(255))
        chances = np.asarray(Image.open(tmp_path / "probabilities" / name / file.name)) / 65535
        sure = np.abs(chances - 0.5) > 1e-3
        np.testing.assert_array_equal((chances > 0.5)[sure], mask[sure])
    alpha = np.asarray(Image.open(tmp_path / "cutouts" / f"{name}.png"))[..., 3]
    np.testing.assert_array_equal(alpha > 0, prediction.masks[0])
    with (tmp_path / "predictions.csv").open(newline="") as file:
        rows = {row["class"]: int(row["pixels"]) for row in csv.DictReader(file)}
    assert rows == {label: int(mask.sum()) for label, mask in zip(CLASSES, prediction.masks, strict=True) if mask.any()}
    assert (tmp_path / "overlays" / f"{name}.jpg").is_file()


@pytest.mark.slow
def test_the_report_shows_no_confusion_of_classes_that_do_not_exclude_each_other(trained: Any) -> None:
    page = (Path(trained.run) / "report.html").read_text()
    assert "may overlap" in page
    assert "left_door" in page
    assert 'id="confusion"' not in page


@pytest.mark.slow
def test_every_other_knob_goes_with_it(cars: Path) -> None:
    """Windows of original pixels, workers, mixes, weights from the data, views at test time, photos to watch."""
    changes = {
        **SMALL,
        "fit": "crop",
        "base_size": 80,
        "train.epochs": 1,
        "train.workers": 2,
        "augment": ["flip", "zoom", "erase"],
        "mix": ["mixup", "cutmix", "copy_paste"],
        "loss": {
            "bce": {"class_weights": "inverse_frequency"},
            "focal": {"class_weights": {"sticker": 3.0}},
            "tversky": 1.0,
            "jaccard": {"class_weights": "effective_number"},
            "boundary": 0.5,
        },
        "tta.flip": True,
        "watch": str(cars.parent / "photos"),
    }
    run = Path(mw.train(str(cars), changes, out=str(cars.parent / "runs")).run)
    text = (run / "events.jsonl").read_text()
    assert "loss.bce.class_weights: inverse_frequency of the training pixels: car" in text
    assert "above 0.5, tta: flip" in json.loads((run / "scores.json").read_text())["val"]["convention"]
    assert (run / "pictures" / "watch" / "00_now.webp").is_file()


@pytest.mark.slow
def test_a_mirrored_photo_has_mirrored_masks_with_left_and_right_swapped(trained: Any) -> None:
    predictor = load_predictor(trained.bundle, tta={"flip": True})
    pixels = np.asarray(picture(0))
    masks, mirrored = (predictor(np.ascontiguousarray(p)).masks for p in (pixels, pixels[:, ::-1]))
    swapped = masks[[0, 2, 1, 3], :, ::-1]
    assert (swapped == mirrored).mean() > 0.999
    assert (masks[1] != masks[2]).any()


@pytest.mark.slow
def test_other_conventions(trained: Any, cars: Path) -> None:
    restated = mw.evaluate(trained.bundle, str(cars), part="all", convention="hydrogen-torch").restated
    assert restated.classes == CLASSES
    with pytest.raises(DataError, match="one class a pixel"):
        mw.evaluate(trained.bundle, str(cars), part="all", convention="sagemaker")


def test_the_default_loss_fits_overlapping_classes() -> None:
    tree = {"data": "photos"}
    assert list(build(tree).loss) == ["cross_entropy", "dice"]
    assert list(build({**tree, "multilabel": True}).loss) == ["bce", "dice"]
    assert list(build(tree, ["multilabel=true"]).loss) == ["bce", "dice"]
    assert list(build({**tree, "multilabel": True, "loss": {"focal": 1.0}}).loss) == ["focal"]


def test_a_recipe_with_overlapping_classes_is_read_back_as_it_was(tmp_path: Path) -> None:
    recipe = build({"data": str(tmp_path), "multilabel": True})
    (tmp_path / "recipe.yaml").write_text(dump(recipe))
    assert load(tmp_path / "recipe.yaml") == recipe


@pytest.mark.parametrize("loss", ["cross_entropy", "lovasz", "ohem"])
def test_losses_that_choose_one_class_are_refused_before_data_are_opened(loss: str) -> None:
    recipe = build({"data": "nowhere", "multilabel": True, "loss": {loss: 1.0}})
    with pytest.raises(RecipeError, match=f"loss.{loss}: .*`multilabel: true`.*`bce`"):
        assemble.check(recipe)


def test_that_classes_may_overlap_is_said_aloud() -> None:
    heard: list[str] = []
    with events.listening(lambda event: heard.append(event.fields.get("text", ""))):
        assemble.check(build({"data": "nowhere", "multilabel": True}))
    assert any("classes may overlap" in text and "bce + dice" in text for text in heard)


def test_a_network_without_a_channel_for_its_first_class_is_refused(tmp_path: Path) -> None:
    """Its first class would be sigmoid(0) = 0.5 everywhere, and never learnt."""
    recipe = build({"data": "x", "multilabel": True, "model": {"name": "lens", "weights": "none"}})
    with pytest.raises(RecipeError, match="`lens` has no channel for its first class"):
        assemble._network(recipe, 4)
