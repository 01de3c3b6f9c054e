"""Laws of threshold tuning: the table gives what the predictor would, the best of all settings is found, gains are honest."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from maskwright.bundles.bundle import Description
from maskwright.core.errors import DataError
from maskwright.core.table import Packer
from maskwright.core.types import Region
from maskwright.imaging.objects import objects_of
from maskwright.metrics import decided
from maskwright.metrics.imaterialist import FashionScores
from maskwright.prediction import instance_evaluation, tuning
from maskwright.prediction.instances import InstancePredictor
from maskwright.tasks.thresholds import Thresholds

CLASSES = ("background", "cat", "dog")
COLOURS = ((0, 0, 0), (255, 0, 0), (0, 255, 0))
PHOTO, SIZE = (60, 80), (48, 64)
RULES = [
    Thresholds(),
    Thresholds(score=0.3),
    Thresholds(score=0.25, nms=0.5, mask=0.4, min_area=64),
    Thresholds(score=0.25, nms=0.5, mask=0.4, min_area=64, exclusive=True),
    Thresholds(nms=0.4, mask=0.7, exclusive=True),
]


def boxes_of(rng, num):
    corner = rng.uniform(0, (PHOTO[1] - 20, PHOTO[0] - 20), (num, 2))
    return np.concatenate([corner, corner + rng.uniform(9, 30, (num, 2))], axis=1).clip(0, (*PHOTO[::-1], *PHOTO[::-1]))


def answer_of(rng, truth, labels, noise=(0.05, 0.45)):
    """Findings: all true objects, a little moved and sure; second ones of half of them, and others that are not there."""
    doubled = np.flatnonzero(rng.random(len(truth)) < 0.5)
    away = int(rng.integers(2, 7))
    moved = truth + rng.normal(0, 1.2, truth.shape)
    boxes = np.concatenate([moved, truth[doubled] + rng.normal(0, 3, (len(doubled), 4)), boxes_of(rng, away)])
    found = np.concatenate([labels, labels[doubled], rng.integers(1, 3, away)])
    scores = np.concatenate([rng.uniform(0.5, 0.99, len(truth)), rng.uniform(*noise, len(doubled) + away)])
    scale = np.array([SIZE[1] / PHOTO[1], SIZE[0] / PHOTO[0]] * 2)
    ramp = np.minimum(np.arange(14), np.arange(14)[::-1]) / 6
    masks = np.minimum(np.minimum(ramp[:, None], ramp) + 0.35, 1) * np.ones((len(found), 1, 1, 1))
    return (boxes * scale).astype(np.float32), found, scores.astype(np.float32), masks.astype(np.float32)


def world(folder, count=12, noise=(0.05, 0.45), seed=0, thresholds=None):
    """Photos whose first pixel numbers them, and a predictor that answers by that number; how often each was asked for."""
    packer, answers, asked = Packer(), [], []
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        path = folder / f"{number}.png"
        Image.fromarray(np.full((*PHOTO, 3), number, np.uint8)).save(path)
        packer.image(f"photo {number}", str(path), PHOTO)
        num = int(rng.integers(1, 5)) if number != 1 else 0
        boxes, labels = boxes_of(rng, num), rng.integers(1, 3, num)
        for (x0, y0, x1, y1), label in zip(boxes, labels, strict=True):
            packer.region(int(label), polygons=[[x0, y0, x1, y0, x1, y1, x0, y1]])
        answers.append(answer_of(rng, boxes, labels, noise))

    def network(pixels):
        number = int(pixels[0, 0, 0, 0])
        asked.append(number)
        return answers[number]

    known = Description(CLASSES[1:], COLOURS[1:], SIZE, "squash", {"name": "mask_rcnn"}, task="instance")
    return packer.pack(CLASSES), InstancePredictor(network, known, runtime="test", thresholds=thresholds), asked


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return world(tmp_path_factory.mktemp("photos"))


def under(predictor, rules):
    return InstancePredictor(predictor.network, predictor.description, runtime="test", thresholds=rules.to_json())


def overlaps(found, truth):
    both = (found[:, None] & truth[None]).sum(axis=(2, 3))
    return both / np.maximum((found[:, None] | truth[None]).sum(axis=(2, 3)), 1)


def by_hand(predictor, data, levels):
    """TP, FP, FN (classes, levels), one image, class and threshold after the other."""
    counts = np.zeros((3, len(CLASSES), len(levels)))
    for record in data:
        found = instance_evaluation.named(predictor(record.image), data.classes)
        truth = objects_of(record, data.classes)
        for label, (row, level) in itertools.product((1, 2), enumerate(levels)):
            mine, theirs = found.labels == label, truth.labels == label
            iou = overlaps(found.masks()[mine], truth.masks()[theirs])
            free, hits = np.ones(int(theirs.sum()), bool), 0
            for overlap in iou:  # the surest first
                able = np.where(free & (overlap >= level), overlap, -1)
                if len(able) and able.max() >= 0:
                    free[len(able) - 1 - int(np.argmax(able[::-1]))] = False
                    hits += 1
            counts[:, label, row] += hits, len(iou) - hits, len(free) - hits
    return counts


def tabled(found, rules, metric):
    measure = decided.MEASURES[metric]
    statistic = measure(found.matches(rules, metric), len(found.classes), found.num_images, np.array([rules.score]))
    return statistic(np.ones((1, found.num_images)))[0, 0]


@pytest.mark.parametrize("rules", RULES, ids=str)
def test_the_table_says_what_the_predictor_gives(made, rules):
    data, predictor, _ = made
    found = tuning.look(under(predictor, rules), data)
    real = under(predictor, rules)
    for metric, levels in (("f1", np.linspace(0.5, 0.95, 10)), ("f1_50", [0.5])):
        hits, wrong, missed = by_hand(real, data, levels)
        there = (hits + wrong + missed).any(axis=1)
        expected = (2 * hits[there] / (2 * hits[there] + wrong[there] + missed[there])).mean()
        assert tabled(found, rules, metric) == pytest.approx(expected, abs=1e-12)
    scores = instance_evaluation.evaluate(real, data, resamples=0)
    assert tabled(found, rules, "mask_ap") == pytest.approx(scores["mask_ap"], abs=1e-12)


def test_the_competition_counts_alike(made):
    """Where the masks of neither side overlap, as it demands."""
    data, predictor, _ = made
    rules = RULES[3]
    found = tuning.look(under(predictor, rules), data)
    scores = FashionScores(size=None)
    for record in data:
        answer = instance_evaluation.named(under(predictor, rules)(record.image), data.classes)
        regions = [Region(int(label), counts=runs) for label, runs in zip(answer.labels, answer.counts, strict=True)]
        scores.add(record.id, record.regions, regions, record.size)
    assert tabled(found, rules, "imaterialist") == pytest.approx(scores.result().score, abs=1e-12)


@pytest.mark.parametrize("exclusive", [False, True])
@pytest.mark.parametrize("metric", decided.MEASURES)
def test_no_other_setting_is_better(made, metric, exclusive):
    data, predictor, asked = made
    asked.clear()
    found = tuning.look(predictor, data, exclusive=exclusive)
    assert sorted(asked) == list(range(len(data)))
    tuned = tuning.search(found, predictor.thresholds, metric)
    assert tuned == tuning.search(found, predictor.thresholds, metric)
    assert tuned.after.exclusive is exclusive
    assert tabled(found, tuned.after, metric) == pytest.approx(tuned.value_after)
    assert tuned.gain == tuned.value_after - tuned.value_before
    grid = itertools.product(tuning.SCORES, tuning.NMS, tuning.MASKS, tuning.AREAS)
    for score, nms, mask, area in itertools.islice(grid, 0, None, 97):
        assert tabled(found, Thresholds(score, nms, mask, area, exclusive), metric) <= tuned.value_after + 1e-9


def test_a_planted_cut_is_found_and_its_gain_is_sure(made):
    data, predictor, _ = made
    tuned = tuning.search(tuning.look(predictor, data), predictor.thresholds, "f1_50")
    assert 0.4 <= tuned.after.score <= 0.5
    assert tuned.sure
    assert 0 < tuned.honest.low <= tuned.honest.value <= tuned.gain + 0.02
    assert tabled(tuning.look(under(predictor, tuned.after), data), tuned.after, "f1_50") == tuned.value_after
    assert tuned.to_json()["after"] == {**tuned.after.to_json(), "value": tuned.value_after}


def test_what_is_the_best_already_gains_nothing(made):
    data, predictor, _ = made
    best = tuning.search(tuning.look(predictor, data), predictor.thresholds, "f1").after
    again = tuning.search(tuning.look(under(predictor, best), data), best, "f1")
    assert (again.after, again.gain, again.sure) == (best, 0.0, False)
    assert again.honest.value <= 0


def test_noise_gains_on_the_images_it_was_chosen_on_and_nowhere_else(tmp_path):
    """Findings whose scores tell nothing: some setting is always better where it was chosen, and the honest gain knows."""
    start = Thresholds(score=0.0, nms=0.5, mask=0.5).to_json()
    sure = 0
    for seed in range(4):
        folder = tmp_path / str(seed)
        folder.mkdir()
        data, predictor, _ = world(folder, 8, noise=(0.5, 0.99), seed=seed, thresholds=start)
        tuned = tuning.search(tuning.look(predictor, data), predictor.thresholds, "imaterialist")
        assert tuned.gain > 0
        assert tuned.honest.value < tuned.gain
        sure += tuned.sure
    assert sure <= 1


def test_what_gains_nothing_stays_as_it_was(made):
    """A network that finds nothing: of equal settings none but `exclusive`, which was asked for, is another one."""
    data, predictor, _ = made
    silent = InstancePredictor(
        lambda pixels: (np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 1, 14, 14))),
        predictor.description,
        runtime="test",
        thresholds={"score": 0.33, "nms": 0.55, "mask": 0.45, "min_area": 7},
    )
    tuned = tuning.search(tuning.look(silent, data, exclusive=True), silent.thresholds, "f1")
    assert tuned.after == replace(silent.thresholds, exclusive=True)
    assert (tuned.gain, tuned.sure) == (0, False)


def test_average_precision_keeps_every_finding(made):
    data, predictor, _ = made
    found = tuning.look(under(predictor, Thresholds(score=0.4)), data)
    assert tuning.search(found, Thresholds(score=0.4), "mask_ap").after.score == 0


def test_classes_are_matched_by_name(made, tmp_path):
    data, predictor, _ = made
    swapped = replace(data, classes=("background", "dog", "cat"))
    other = tuning.look(predictor, swapped)
    assert tabled(other, Thresholds(), "f1") < tabled(tuning.look(predictor, data), Thresholds(), "f1") / 2
    with pytest.raises(DataError, match="the model does not know"):
        tuning.look(predictor, replace(data, classes=("background", "cat", "dogs")))
    with pytest.raises(DataError, match="3 images cannot tell"):
        tuning.look(predictor, data.select(np.arange(3)))
