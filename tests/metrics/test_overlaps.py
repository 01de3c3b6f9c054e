"""Masks that may overlap, counted against sets of pixels in plain Python."""

import json

import numpy as np
import pytest

from maskwright.core.errors import DataError
from maskwright.core.types import BACKGROUND, VOID
from maskwright.metrics import tables
from maskwright.metrics.confusion import Confusion
from maskwright.metrics.conventions import hydrogen_torch, sagemaker
from maskwright.metrics.overlaps import Overlaps
from maskwright.metrics.scores import Scores

CLASSES = ("car", "door", "wheel")


def images(seed: int, num: int = 4) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(num):
        size = (3, *rng.integers(1, 9, 2).tolist())
        truth = rng.choice(np.array([0, 1, VOID], np.uint8), size, p=(0.5, 0.35, 0.15))
        truth[2] = truth[2] * (rng.random() < 0.5)  # sometimes absent
        found.append((truth, rng.random(size) < 0.4))
    return found


def scored(pairs: list[tuple[np.ndarray, np.ndarray]], **options) -> Scores:
    overlaps = Overlaps(CLASSES)
    for number, (truth, predicted) in enumerate(pairs):
        overlaps.add(f"image {number}", truth, predicted)
    return overlaps.scores(**{"resamples": 0, **options})


@pytest.mark.parametrize("seed", range(10))
def test_scores_are_what_sets_of_pixels_say(seed: int) -> None:
    pairs = images(seed)
    scores = scored(pairs)
    ious, dices, recalls = [], [], []
    for c, found in enumerate(scores.per_class):
        counted = [(t[c] != VOID) for t, _ in pairs]
        true = {(i, *p) for i, (t, _) in enumerate(pairs) for p in np.argwhere(t[c] == 1).tolist()}
        claimed = {(i, *p) for i, (_, m) in enumerate(pairs) for p in np.argwhere(m[c] & counted[i]).tolist()}
        both = true & claimed
        assert (found.truth_pixels, found.predicted_pixels) == (len(true), len(claimed))
        assert found.iou == (len(both) / len(true | claimed) if true | claimed else None)
        assert found.dice == (2 * len(both) / (len(true) + len(claimed)) if true or claimed else None)
        assert found.precision == (len(both) / len(claimed) if claimed else None)
        assert found.recall == (len(both) / len(true) if true else None)
        if true:
            ious.append(found.iou)
            dices.append(found.dice)
            recalls.append(found.recall)
        assert scores.matrix[c].tolist() == [len(both) * (c == d) for d in range(3)] + [len(true - both)]
    assert scores["miou"] == pytest.approx(np.mean(ious))
    assert scores["miou_all"] == pytest.approx(np.sum(ious) / 3)
    assert scores["mdice"] == pytest.approx(np.mean(dices))
    assert scores["mean_class_accuracy"] == pytest.approx(np.mean(recalls))
    assert "pixel_accuracy" not in scores.headlines
    assert scores.pixels["void"] == sum(int((t == VOID).sum()) for t, _ in pairs)


@pytest.mark.parametrize("seed", range(5))
def test_classes_that_do_not_overlap_score_as_label_maps_do(seed: int) -> None:
    rng = np.random.default_rng(seed)
    confusion, overlaps = Confusion((BACKGROUND, *CLASSES)), Overlaps(CLASSES)
    for number in range(3):
        truth, predicted = rng.integers(0, 4, (2, 6, 7), np.uint8)
        truth[rng.random(truth.shape) < 0.2] = VOID
        confusion.add(str(number), truth, predicted)
        masks = np.stack([np.where(truth == VOID, VOID, truth == c) for c in (1, 2, 3)]).astype(np.uint8)
        overlaps.add(str(number), masks, np.stack([predicted == c for c in (1, 2, 3)]))
    one, other = confusion.scores(resamples=50), overlaps.scores(resamples=50)
    assert other.per_class == one.per_class[1:]
    assert other.headlines["miou"] == one.headlines["miou_foreground"]
    restated = [hydrogen_torch(scores).values["IoU"] for scores in (one, other)]
    assert restated[0] == restated[1]


def test_workers_that_are_merged_count_as_one() -> None:
    pairs, parts = images(3), [Overlaps(CLASSES) for _ in range(4)]
    for number, (part, pair) in enumerate(zip(parts, pairs, strict=True)):
        part.add(f"image {number}", *pair)
    for part in parts[1:]:
        parts[0].merge(part)
    assert parts[0].scores(resamples=20).to_json() == scored(pairs, resamples=20).to_json()
    with pytest.raises(DataError, match="image 1: the image is scored twice"):
        parts[0].merge(parts[1])


def test_scores_survive_json_and_can_be_shown() -> None:
    scores = scored(images(4), resamples=20)
    again = Scores.from_json(json.loads(json.dumps(scores.to_json())))
    assert again.to_json() == scores.to_json()
    assert again.overlapping
    text = tables.text(scores)
    assert "in the true masks of all classes" in text
    assert "may overlap" in text.replace("\n", " ")
    with pytest.raises(DataError, match="these classes overlap"):
        sagemaker(scores)


def test_masks_of_another_size_value_or_number_are_refused() -> None:
    overlaps = Overlaps(CLASSES)
    truth, predicted = np.zeros((3, 4, 5), np.uint8), np.zeros((3, 4, 5), bool)
    with pytest.raises(DataError, match="a: the masks are"):
        overlaps.add("a", truth, predicted[:, :3])
    with pytest.raises(DataError, match="other values than 0, 1 and 255"):
        overlaps.add("a", truth + 2, predicted)
    with pytest.raises(DataError, match="a: the masks are"):
        overlaps.add("a", truth[:2], predicted[:2])
    overlaps.add("a", truth, predicted)
    with pytest.raises(DataError, match="scored twice"):
        overlaps.add("a", truth, predicted)
    assert len(overlaps) == 1
    assert overlaps.scores(resamples=0)["miou"] is None
