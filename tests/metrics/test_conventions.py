"""Other projects' conventions against literal loops over pixels and pairs, and their floors on real labels."""

import json
from io import StringIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from maskwright.core.errors import DataError
from maskwright.core.types import VOID
from maskwright.metrics import CONVENTIONS, tables
from maskwright.metrics.confusion import Confusion
from maskwright.metrics.conventions import hydrogen_torch, sagemaker

PET = ("background", "pet", "border")
PET_VALUES = (2, 1, 3)  # what a trimap stores for each of them


def images(seed: int, num_images: int, num: int):
    """[(truth, predicted)] with void, and with classes that many images lack."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(num_images):
        values = np.append(rng.choice(num, rng.integers(1, num + 1), replace=False), VOID).astype(np.uint8)
        truth = rng.choice(values, (6, 7))
        noise = rng.choice(np.append(values[:-1], rng.integers(0, num)), truth.shape)
        pairs.append((truth, np.where(rng.random(truth.shape) < 0.6, truth, noise).astype(np.uint8)))
    return pairs


def score(pairs, classes, **options):
    confusion = Confusion(classes)
    for i, (truth, predicted) in enumerate(pairs):
        confusion.add(f"{i:04}", truth, predicted)
    return confusion.scores(**options)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.booleans())
def test_hydrogen_torch_equals_a_loop_over_images_and_classes(seed, num_images, background):
    pairs = images(seed, num_images, 4)
    classes = ("background" if background else "sky", "a", "b", "c")
    ious, empty = [], []
    for truth, predicted in pairs:
        for c in range(int(background), 4):
            t, p = (truth == c), (predicted == c) & (truth != VOID)
            ious.append((t & p).sum() / (t | p).sum() if (t | p).any() else 1.0)
            empty.append(not t.any())
    restated = hydrogen_torch(score(pairs, classes, resamples=20))
    assert restated.values["IoU"].value == pytest.approx(np.mean(ious))
    assert restated.floor["IoU"] == pytest.approx(np.mean(empty))
    assert restated.classes == classes[int(background) :]
    assert f"{num_images} x {4 - background} pairs" in restated.text


def test_the_hydrogen_torch_floor_is_what_an_all_background_answer_scores():
    pairs = [(truth, np.zeros_like(truth)) for truth, _ in images(5, 30, 9)]
    restated = hydrogen_torch(score(pairs, ("background", *"abcdefgh")))
    assert restated.values["IoU"].value == pytest.approx(restated.floor["IoU"])
    assert 0.3 < restated.floor["IoU"] < 0.7


def test_the_hydrogen_torch_interval_is_that_of_a_mean_over_images():
    pairs = images(1, 25, 5)
    scores = score(pairs, ("background", *"abcd"), seed=3)
    rows = [hydrogen_torch(score([pair], scores.classes)).values["IoU"].value for pair in pairs]
    rng = np.random.default_rng(3)
    means = [np.mean(np.array(rows)[rng.integers(0, 25, 25)]) for _ in range(1000)]
    estimate = hydrogen_torch(scores).values["IoU"]
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])))


def test_images_that_are_void_throughout_and_lists_without_foreground_have_no_pairs():
    void = np.full((6, 7), VOID, np.uint8)
    pairs = images(2, 4, 3)
    both = [
        hydrogen_torch(score(p, ("background", "a", "b"))).values["IoU"].value for p in (pairs, [*pairs, (void, void)])
    ]
    assert both[0] == both[1]
    alone = hydrogen_torch(score([(np.zeros((2, 2), np.uint8),) * 2] * 2, ("background",)))
    assert (alone.values["IoU"].value, alone.floor["IoU"]) == (None, None)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 5), st.permutations(range(8)))
def test_sagemaker_equals_a_loop_over_stored_values(seed, num_images, values):
    stored = np.array([*values[:4], *[VOID] * 252], np.uint8)  # index -> what the file stores
    pairs = images(seed, num_images, 4)
    num_classes = max(values[:4]) + 1
    ious, right, scored = [], 0, 0
    for value in range(num_classes):
        union = common = 0
        for truth, predicted in pairs:
            t, p = stored[truth], stored[predicted]
            inside = t != VOID
            common += int(((t == value) & (p == value)).sum())
            union += int((((t == value) | (p == value)) & inside).sum())
        ious.append(common / union if union else 0.0)
        right += common
    scored = sum(int((truth != VOID).sum()) for truth, _ in pairs)
    restated = sagemaker(score(pairs, tuple("abcd"), resamples=0), stored_values=tuple(values[:4]))
    assert restated.values["mIOU"].value == pytest.approx(np.mean(ious))
    assert restated.values["pixel_accuracy"].value == pytest.approx(right / scored)
    assert len(restated.classes) == num_classes


def test_a_phantom_class_takes_a_quarter_from_pets():
    scores = score(images(4, 12, 3), PET)
    restated = sagemaker(scores, stored_values=PET_VALUES)
    ours, theirs = scores.headlines["miou"], restated.values["mIOU"]
    assert (theirs.value, theirs.low, theirs.high) == pytest.approx(
        (ours.value * 0.75, ours.low * 0.75, ours.high * 0.75)
    )
    assert restated.classes == (*PET, "stored value 0")
    assert "never stored, IoU 0: 0" in restated.text
    assert sagemaker(scores).values["mIOU"].value == pytest.approx(ours.value)  # stored 0, 1, 2: no phantom


def test_the_sagemaker_floor_is_the_best_answer_that_looks_at_nothing():
    truths = [truth for truth, _ in images(6, 10, 3)]
    floors = []
    for c in range(3):
        scores = score([(t, np.full_like(t, c)) for t in truths], PET, resamples=0)
        values = sagemaker(scores, stored_values=PET_VALUES).values
        floors.append((values["mIOU"].value, values["pixel_accuracy"].value))
    floor = sagemaker(scores, stored_values=PET_VALUES).floor
    assert (floor["mIOU"], floor["pixel_accuracy"]) == pytest.approx(max(floors))


@pytest.mark.parametrize("stored", [(1, 2), (1, 2, 3, 4), (1, 1, 2), (-1, 0, 1), (0, 1, 255), ()])
def test_labels_that_the_container_could_not_read_have_no_score_there(stored):
    with pytest.raises(DataError, match="needs one stored value from 0 to 253 for each of 3 classes"):
        sagemaker(score(images(0, 2, 3), PET), stored_values=stored)


def test_every_convention_of_the_shelf_restates_any_scores():
    sets = [images(0, 3, 3), images(0, 1, 3), [(np.full((2, 2), VOID, np.uint8),) * 2], []]
    for name in CONVENTIONS:
        assert CONVENTIONS.summary(name).endswith(".")
        assert all(option.help for option in CONVENTIONS.options(name).values())
        for pairs in sets:
            restated = CONVENTIONS[name](score(pairs, PET))
            assert restated.name == name
            assert restated.floor.keys() == restated.values.keys()
            assert json.loads(json.dumps(restated.to_json()))["convention"] == name


@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_restated_score_shows_floor_and_sentence_in_80_columns(name):
    console = Console(width=80, record=True, file=StringIO())
    restated = CONVENTIONS[name](score(images(0, 9, 3), PET))
    tables.show_restated(restated, console)
    text = console.export_text()
    for value, estimate in restated.values.items():
        line = next(line for line in text.splitlines() if line.startswith(f"{name} {value}"))
        assert f"{estimate.value:.3f}  {estimate.low:.3f} to {estimate.high:.3f}" in line
        assert f"floor {restated.floor[value]:.3f}: {restated.floor_answer}" in line
    assert " ".join(restated.text.split()) in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(("part", "floor"), [("trainingset", 0.589), ("testset", 0.567)])
def test_the_floor_of_car_parts_is_near_six_tenths(real_data, part, floor):
    """Only which parts a photo shows matters here: one pixel a part stands for its region."""
    coco = json.loads((real_data / "car-parts" / part / "annotations.json").read_text())
    drawn = sorted({a["category_id"] for a in coco["annotations"]})
    index = {category: i + 1 for i, category in enumerate(drawn)}
    truths = {image["id"]: np.zeros((1, 19), np.uint8) for image in coco["images"]}
    for annotation in coco["annotations"]:
        label = index[annotation["category_id"]]
        truths[annotation["image_id"]][0, label] = label
    names = ("background", *[next(c["name"] for c in coco["categories"] if c["id"] == d) for d in drawn])
    scores = score([(t, np.zeros_like(t)) for t in truths.values()], names, resamples=0)
    restated = hydrogen_torch(scores)
    assert len(restated.classes) == 18
    assert restated.floor["IoU"] == restated.values["IoU"].value == pytest.approx(floor, abs=0.0005)
