"""The panoptic view: laws of merging against a plain reading of the paper, and the way through files to panoptic quality."""

from pathlib import Path

import numpy as np
import pytest

import maskwright as mw
from maskwright.bundles.bundle import Description
from maskwright.core.errors import DataError, RecipeError
from maskwright.core.types import VOID, Instances
from maskwright.imaging import images
from maskwright.imaging.objects import boxes_of
from maskwright.imaging.run_lengths import of_mask
from maskwright.metrics.panoptic import Panoptics, Segments
from maskwright.prediction import panoptic_files
from maskwright.prediction.instances import InstancePredictor
from maskwright.prediction.panoptic_merging import merged, merging, stuff_map
from maskwright.prediction.predictor import Predictor

THINGS = ("cat", "dog")
GOLDEN = Path(__file__).parents[1] / "golden" / "bundle-1"


def instances(masks: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> Instances:
    counts = tuple(of_mask(mask) for mask in masks)
    size = masks.shape[1:]
    return Instances(labels, scores.astype(np.float32), boxes_of(counts, size), counts, size, THINGS)


def random_case(rng: np.random.Generator) -> tuple[np.ndarray, Instances, np.ndarray]:
    height, width, num = (int(n) for n in rng.integers((1, 1, 0), (14, 18, 7)))
    masks = rng.random((num, height, width)) < rng.choice([0.02, 0.3, 0.8], (num, 1, 1))
    scores = rng.choice([0.2, 0.5, 0.5, 0.9], num)  # with ties
    found = instances(masks, rng.integers(0, 2, num), scores)
    return masks, found, rng.choice([0, 1, 2, 3, VOID], (height, width)).astype(np.uint8)


def plainly(
    masks: np.ndarray, found: Instances, label_map: np.ndarray, stuff: tuple[int, ...], uncovered: float, least: float
) -> dict[int, tuple[int, frozenset[tuple[int, ...]]]]:
    """Segments by the paper's words, on sets of pixels: number -> label, pixels."""
    taken: set[tuple[int, ...]] = set()
    made = {}
    for index in sorted(range(len(masks)), key=lambda i: -float(found.scores[i])):
        own = {tuple(p) for p in np.argwhere(masks[index]).tolist()}
        left = own - taken
        if left and len(left) >= uncovered * len(own):
            made[index + 1] = int(found.labels[index]), frozenset(left)
            taken |= left
    for position, value in enumerate(stuff):
        left = {tuple(p) for p in np.argwhere(label_map == value).tolist()} - taken
        if left and len(left) >= (least * max(label_map.shape) / 640) ** 2:
            made[len(masks) + 1 + position] = 2 + position, frozenset(left)
    return made


def test_merging_is_the_papers_rule() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        masks, found, label_map = random_case(rng)
        stuff = tuple(rng.permutation([1, 2, 3])[: rng.integers(0, 4)].tolist())
        uncovered, least = float(rng.choice([0, 0.3, 0.5, 1])), float(rng.choice([0, 64, 200]))
        made = merged(found, label_map, stuff, uncovered=uncovered, least_stuff=least)
        expected = plainly(masks, found, label_map, stuff, uncovered, least)
        assert {
            int(number): (int(label), frozenset(tuple(p) for p in np.argwhere(made.map == number).tolist()))
            for number, label in zip(made.numbers, made.labels, strict=True)
        } == expected
        assert set(np.unique(made.map).tolist()) <= {0, *expected}
        shown = stuff_map(made, len(THINGS))
        assert np.array_equal(shown != VOID, np.isin(made.map, made.numbers[made.labels >= 2]))


def test_what_is_not_sure_leaves_the_stuff_alone() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        _, found, label_map = random_case(rng)
        cut = float(rng.random())
        sure = found.only(np.flatnonzero(found.scores >= cut))
        some, fewer = merged(found, label_map, (1, 2), least_score=cut), merged(sure, label_map, (1, 2))
        assert np.array_equal(some.map > 0, fewer.map > 0)
        assert some.labels.tolist() == fewer.labels.tolist()


def test_perfect_objects_and_stuff_have_quality_one(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    classes, things = (*THINGS, "sky", "road"), (True, True, False, False)
    truths, answers = [], []
    for number in range(4):
        label_map = np.zeros((90, 120), np.uint8)
        label_map[:50], label_map[50:] = 1, 2
        label_map[:, 100:] = 0  # background
        masks = np.zeros((3, 90, 120), np.bool_)
        for mask, x in zip(masks, (0, 30, 60), strict=True):
            y = int(rng.integers(0, 60))
            mask[y : y + 25, x : x + 25] = True
        labels = rng.integers(0, 2, 3)
        stuff = label_map.copy()
        stuff[masks.any(axis=0)] = 0
        layers = np.concatenate((masks, (stuff == 1)[None], (stuff == 2)[None]))
        truths.append((f"{number}.jpg", Segments.of_masks(layers, np.append(labels, [2, 3]))))
        answers.append((f"{number}.jpg", merged(instances(masks, labels, rng.random(3)), label_map, (1, 2))))
    panoptic_files.write(tmp_path / "truth.json", truths, classes, things)
    panoptic_files.write(tmp_path / "found.json", answers[::-1], classes, things)  # other ids: names decide
    for found in ("found.json", "truth.json"):
        evaluated = mw.evaluate(str(tmp_path / found), str(tmp_path / "truth.json"))
        assert {k: v["value"] for k, v in evaluated.to_json()["headlines"].items() if k.startswith("pq")} == {
            "pq": 1,
            "pq_things": 1,
            "pq_stuff": 1,
        }
    counted = Panoptics(classes, things)
    for (name, truth), (_, answer) in zip(truths, answers, strict=True):
        counted.add(name, truth, answer)
    assert counted.scores(resamples=0)["pq"] == 1


def test_segments_infos_are_those_of_the_pixels() -> None:
    rng = np.random.default_rng(2)
    for _ in range(50):
        _, found, label_map = random_case(rng)
        segments = merged(found, label_map, (1, 2), least_stuff=0)
        infos = panoptic_files.infos(segments)
        assert [info["id"] for info in infos] == segments.numbers.tolist()
        for info, label in zip(infos, segments.labels.tolist(), strict=True):
            rows, columns = np.nonzero(segments.map == info["id"])
            left, top = int(columns.min()), int(rows.min())
            box = [left, top, int(columns.max()) + 1 - left, int(rows.max()) + 1 - top]
            known = {"category_id": label + 1, "iscrowd": 0, "area": len(rows), "bbox": box}
            assert info == {"id": info["id"], **known}


def test_a_map_of_large_numbers_comes_back(tmp_path: Path) -> None:
    map = np.array([[0, 1, 255], [256, 65536, 256**3 - 1]], np.int64)
    panoptic_files.write_map(tmp_path / "a.png", map)
    assert np.array_equal(images.read(tmp_path / "a.png").astype(int) @ [1, 256, 65536], map)


def test_what_cannot_be_merged_is_refused() -> None:
    description = Description(THINGS, ((1, 2, 3), (4, 5, 6)), (8, 8), "squash", {"name": "mask_rcnn"}, task="instance")
    objects = InstancePredictor(lambda pixels: (), description, runtime="test")
    with pytest.raises(RecipeError, match="finds objects, too"):
        merging(THINGS, objects)
    semantic = mw.load(GOLDEN)
    assert isinstance(semantic, Predictor)
    with pytest.raises(RecipeError, match="no class that could be stuff"):
        merging(semantic.classes, semantic)
    with pytest.raises(RecipeError, match="0 or more"):
        merging(THINGS, semantic, least_stuff=float("nan"))
    found = instances(np.ones((1, 4, 5), np.bool_), np.zeros(1, np.int64), np.ones(1))
    with pytest.raises(DataError, match="label map on"):
        merged(found, np.zeros((5, 4), np.uint8), (1,))
    boxes = Instances(found.labels, found.scores, found.boxes, (), found.size, THINGS)
    with pytest.raises(DataError, match="only boxes"):
        merged(boxes, np.zeros((4, 5), np.uint8), (1,))


def test_stuff_are_the_classes_that_no_object_has() -> None:
    semantic = mw.load(GOLDEN)
    assert isinstance(semantic, Predictor)
    assert semantic.classes[0] == "background"
    how = merging((semantic.classes[1], "cow"), semantic)
    assert how.stuff == tuple(range(2, len(semantic.classes)))
    assert how.classes == (semantic.classes[1], "cow", *semantic.classes[2:])
    assert how.things == (True, True, *[False] * len(how.stuff))
