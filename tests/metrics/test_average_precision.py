"""Average precision is COCO's: equal to a reference implementation, to a plain one written here, and to published numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np
import pytest
from hotcoco import mask as coco

from maskwright.core.errors import DataError
from maskwright.core.types import SURE, Instances
from maskwright.imaging import masks
from maskwright.imaging.objects import Objects
from maskwright.metrics import instance_tables
from maskwright.metrics.average_precision import Detections
from maskwright.metrics.differences import class_differences, paired_difference
from maskwright.metrics.instance_scores import HEADLINES, InstanceScores
from maskwright.metrics.matching import SIZES, THRESHOLDS, Matches, box_iou, packed, unpacked
from maskwright.metrics.precision_recall import MEASURES, averaged, measured
from maskwright.prediction import coco_results, coco_truth

CLASSES = ("cat", "dog", "cow")
SIDE = 150
Scene = tuple[Objects, Instances, np.ndarray]


def runs(mask: np.ndarray) -> np.ndarray:
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat.astype(np.int8), prepend=0)).tolist()
    return np.diff([0, *edges, flat.size]).astype(np.uint32)


def box_of(mask: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] if len(rows) else [0, 0, 0, 0]


def blob(rng: np.random.Generator, centre: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """An ellipse with a bite taken out of it, so that its box and its mask overlap others differently."""
    y, x = np.mgrid[:SIDE, :SIDE]
    inside = ((x - centre[0]) / radius[0]) ** 2 + ((y - centre[1]) / radius[1]) ** 2 <= 1
    return np.asarray(inside & ~((x > centre[0]) & (y > centre[1] + rng.integers(1, 6))))


def objects(drawn: list[np.ndarray], labels: Any, crowd: Any) -> Objects:
    num = len(drawn)
    boxes = np.array([box_of(mask) for mask in drawn], np.float64).reshape(num, 4)
    counts = tuple(runs(mask) for mask in drawn)
    return Objects(np.array(labels, np.int64), boxes, np.array(crowd, bool), np.arange(num), counts, (SIDE, SIDE))


def instances(drawn: list[np.ndarray], labels: Any, scores: Any) -> Instances:
    boxes = np.array([box_of(mask) for mask in drawn], np.float64).reshape(len(drawn), 4)
    counts = tuple(runs(mask) for mask in drawn)
    return Instances(
        np.array(labels, np.int64), np.array(scores, np.float32), boxes, counts, (SIDE, SIDE), CLASSES, None
    )


def scene(seed: int, *, most: int = 7, ties: bool = False) -> Scene:
    """Objects of all sizes, some crowds; detections near them, doubled, of another class or nowhere; stated areas."""
    rng = np.random.default_rng(seed)
    drawn, labels, crowd, found, claims = [], [], [], [], []
    for _ in range(int(rng.integers(0, most))):
        centre, radius = rng.uniform(20, SIDE - 20, 2), rng.choice([9.0, 22.0, 60.0]) * rng.uniform(0.6, 1.2, 2)
        drawn.append(blob(rng, centre, radius))
        labels.append(int(rng.integers(len(CLASSES))))
        crowd.append(bool(rng.random() < 0.15))
        for _ in range(int(rng.integers(0, 4))):
            shift = rng.normal(0, 0.12, 2) * radius
            found.append(blob(rng, centre + shift, radius * rng.uniform(0.8, 1.2, 2)))
            claims.append(labels[-1] if rng.random() < 0.9 else int(rng.integers(len(CLASSES))))
    for _ in range(int(rng.integers(0, 4))):
        found.append(blob(rng, rng.uniform(20, SIDE - 20, 2), rng.uniform(5, 50, 2)))
        claims.append(int(rng.integers(len(CLASSES))))
    scores = rng.integers(1, 5, len(found)) / 8 if ties else rng.permutation(len(found)) / 1000 + seed * 1e-5
    areas = np.array([mask.sum() * rng.uniform(0.7, 1.3) for mask in drawn])
    return objects(drawn, labels, crowd), instances(found, claims, scores), areas


def collected(scenes: list[Scene], ids: list[str] | None = None) -> Detections:
    detections = Detections(CLASSES)
    for number, (truth, found, areas) in enumerate(scenes):
        detections.add(ids[number] if ids else f"{number:03}", truth, found, areas)
    return detections


def reference(scenes: list[Scene], kind: str) -> list[float]:
    """The twelve numbers by hotcoco, which is a port of pycocotools."""
    sheets: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": []}
    sheets["categories"] = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
    results = []
    for image, (truth, found, areas) in enumerate(scenes, 1):
        sheets["images"].append({"id": image, "height": SIDE, "width": SIDE})
        for i in range(len(truth)):
            x0, y0, x1, y1 = truth.boxes[i].tolist()
            row = {"id": len(sheets["annotations"]) + 1, "image_id": image, "category_id": int(truth.labels[i]) + 1}
            row |= {"area": float(areas[i]), "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": int(truth.crowd[i])}
            sheets["annotations"].append(row | {"segmentation": rle(truth.counts[i])})
        for i in range(len(found)):
            x0, y0, x1, y1 = found.boxes[i].tolist()
            bare = {"bbox": [x0, y0, x1 - x0, y1 - y0]}
            shape = (
                bare if kind == "box" else {"segmentation": rle(found.counts[i])}
            )  # or masks have their boxes' sizes
            about = {"image_id": image, "category_id": int(found.labels[i]) + 1, "score": float(found.scores[i])}
            results.append(about | shape)
    truth_set = hotcoco.COCO(sheets)
    evaluation = hotcoco.COCOeval(truth_set, truth_set.load_res(results), "bbox" if kind == "box" else "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return list(evaluation.stats)


def rle(counts: np.ndarray) -> dict[str, Any]:
    packed = coco.fr_py_objects({"size": [SIDE, SIDE], "counts": counts.tolist()}, SIDE, SIDE)
    return {"size": packed["size"], "counts": packed["counts"].decode()}


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("kind", ["mask", "box"])
def test_equal_to_the_reference_implementation(kind: str, ties: bool, capfd: Any) -> None:
    scenes = [scene(seed, ties=ties) for seed in range(60)]
    scores = collected(scenes).scores(resamples=0)
    ours = [scores[f"{kind}_{name}"] for name in MEASURES]
    assert ours == pytest.approx(reference(scenes, kind), abs=1e-12)
    assert min(filter(None, ours)) > 0.05
    if kind == "box":
        bare = [(truth, replace(found, counts=()), areas) for truth, found, areas in scenes]
        alone = collected(bare).scores(resamples=0)
        assert [alone[f"box_{name}"] for name in MEASURES] == pytest.approx(reference(bare, kind), abs=1e-12)


def test_beyond_a_hundred_detections_of_a_class_the_least_sure_do_not_count(capfd: Any) -> None:
    rng = np.random.default_rng(5)
    truth, _, areas = scene(3)
    many = [blob(rng, rng.uniform(30, SIDE - 30, 2), rng.uniform(5, 40, 2)) for _ in range(150)]
    copies = truth.masks()
    found = instances(
        [*many, *copies], [0] * 150 + truth.labels.tolist(), [*rng.uniform(0.3, 1, 150), *[0.1] * len(copies)]
    )
    scores = collected([(truth, found, areas)]).scores(resamples=0)
    for kind in ("mask", "box"):
        values = [-1 if (v := scores[f"{kind}_{name}"]) is None else v for name in MEASURES]
        assert values == pytest.approx(reference([(truth, found, areas)], kind), abs=1e-12)


def plain_average(scenes: list[Scene], size: str, threshold: float, most: int) -> tuple[float | None, float | None]:
    """Average precision and recall at one threshold, pixel by pixel and one by one, mean over classes."""
    low, high = SIZES[size]
    precisions, recalls = [], []
    for label in range(len(CLASSES)):
        verdicts: list[tuple[float, bool]] = []  # score, found an object that counts
        num = 0
        for truth, found, areas in scenes:
            true_masks, found_masks = truth.masks(), found.masks()
            mine = [i for i in range(len(truth)) if truth.labels[i] == label]
            idle = {i for i in mine if truth.crowd[i] or not low <= areas[i] <= high}
            num += len(mine) - len(idle)
            free = set(mine)
            ours = sorted((i for i in range(len(found)) if found.labels[i] == label), key=lambda i: -found.scores[i])
            for d in ours[:most]:
                best: tuple[bool, float, int] | None = None
                for g in mine:
                    common = int((true_masks[g] & found_masks[d]).sum())
                    whole = int(found_masks[d].sum() if truth.crowd[g] else (true_masks[g] | found_masks[d]).sum())
                    wish = (g not in idle, common / whole, g)
                    if common / whole >= threshold and (g in free or truth.crowd[g]) and (best is None or wish > best):
                        best = wish
                if best is not None:
                    free.discard(best[2])
                    if best[0]:
                        verdicts.append((found.scores[d], True))
                elif low <= found_masks[d].sum() <= high:
                    verdicts.append((found.scores[d], False))
        if not num:
            continue
        verdicts.sort(key=lambda verdict: -verdict[0])
        points = []
        for count in range(1, len(verdicts) + 1):
            right = sum(hit for _, hit in verdicts[:count])
            points.append((right / num, right / count))
        reached = [max((p for r, p in points if r >= i * 0.01), default=0.0) for i in range(101)]
        precisions.append(sum(reached) / 101)
        recalls.append(points[-1][0] if points else 0.0)
    return (sum(precisions) / len(precisions), sum(recalls) / len(recalls)) if precisions else (None, None)


def test_equal_to_a_plain_implementation() -> None:
    scenes = [scene(seed, most=5) for seed in range(100, 110)]
    scores = collected(scenes).scores(resamples=0)
    assert scores["mask_ap50"] == pytest.approx(plain_average(scenes, "all", THRESHOLDS[0], 100)[0], abs=1e-12)
    assert scores["mask_ap75"] == pytest.approx(plain_average(scenes, "all", THRESHOLDS[5], 100)[0], abs=1e-12)
    for size in ("small", "medium", "large"):
        pairs = [plain_average(scenes, size, threshold, 100) for threshold in THRESHOLDS]
        precision, recall = (None if pairs[0][0] is None else sum(p[i] for p in pairs) / 10 for i in (0, 1))  # type: ignore
        assert scores[f"mask_ap_{size}"] == pytest.approx(precision, abs=1e-12)
        assert scores[f"mask_ar_{size}"] == pytest.approx(recall, abs=1e-12)
    for most in (1, 10, 100):
        recall = sum(plain_average(scenes, "all", threshold, most)[1] or 0 for threshold in THRESHOLDS) / 10
        assert scores[f"mask_ar{most}"] == pytest.approx(recall, abs=1e-12)


def test_a_weight_counts_as_so_many_copies_of_an_image() -> None:
    scenes = [scene(seed) for seed in range(200, 212)]
    weights = np.random.default_rng(0).integers(0, 4, len(scenes))
    copies = [one for one, weight in zip(scenes, weights, strict=True) for _ in range(weight)]
    for kind in ("mask", "box"):
        one, other = (collected(some).scores(resamples=0).matches[kind] for some in (scenes, copies))
        drawn = measured(one, 3)(np.stack([np.ones(len(scenes)), weights]).astype(np.float64))
        copied = measured(other, 3)(np.ones((1, len(copies))))
        np.testing.assert_allclose(drawn[1], copied[0], atol=1e-12)


def test_intervals_hold_the_value_and_narrow_with_more_images() -> None:
    few, many = (collected([scene(s) for s in range(300, 300 + num)]).scores(resamples=300) for num in (8, 64))
    widths = []
    for scores in (few, many):
        estimate = scores.headlines["mask_ap"]
        assert estimate.low is not None
        assert estimate.high is not None
        assert estimate.low <= scores["mask_ap"] <= estimate.high
        widths.append(estimate.high - estimate.low)
    assert widths[1] < widths[0]


def many_matches(num: int, seed: int) -> Matches:
    """What a detector of three classes might get on many images: sure ones are often right."""
    rng = np.random.default_rng(seed)
    truth_image, truth_label = np.repeat(np.arange(num), 2), rng.integers(0, 3, 2 * num)
    false = np.sort(rng.integers(0, num, 3 * num))
    image, label = np.append(truth_image, false), np.append(truth_label, rng.integers(0, 3, 3 * num))
    right = np.arange(len(image)) < len(truth_image)
    score = np.where(right, rng.beta(4, 2, len(image)), rng.beta(2, 4, len(image)))
    reach = rng.integers(-1, 10, len(image))  # the highest threshold that it passes
    hits = np.repeat((right & (np.arange(10)[:, None] <= reach))[None], 4, axis=0)
    order = np.lexsort((-score, label, image))
    columns = [image.astype(np.int32), label.astype(np.int32), score, np.zeros(len(image), np.uint8)]
    columns += [packed(hits), packed(np.zeros_like(hits))]
    truth = [truth_image.astype(np.int32), truth_label.astype(np.int32), np.full(2 * num, 15, np.uint8)]
    return Matches(*(column[order] for column in columns), *truth)


def test_intervals_cover_what_all_images_would_give() -> None:
    """Average precision leans upwards on few images, more so in resamples: percentiles would miss nearly always."""
    whole = averaged(measured(many_matches(20_000, 0), 3)(np.ones((1, 20_000))))[0, 0]
    held = 0
    for seed in range(1, 61):
        matches, ids = many_matches(50, seed), tuple(map(str, range(50)))
        about = {"expected": 50, "resolution": "", "areas": "", "notes": ()}
        scores = InstanceScores.of(classes=CLASSES, ids=ids, matches={"mask": matches}, resamples=100, seed=0, **about)
        estimate = scores.headlines["mask_ap"]
        assert estimate.low <= estimate.value <= estimate.high  # type: ignore[operator]
        held += estimate.low <= whole <= estimate.high  # type: ignore[operator]
    assert held >= 0.8 * 60


def test_perfect_answers_score_one_and_none_score_zero() -> None:
    scenes = [scene(seed) for seed in range(400, 412)]
    perfect, empty = [], []
    for number, (truth, _, areas) in enumerate(scenes):
        real = np.flatnonzero(~truth.crowd)
        drawn = list(truth.masks()[real])
        perfect.append((truth, instances(drawn, truth.labels[real], [0.5 + number / 100] * len(drawn)), areas))
        empty.append((truth, instances([], [], []), areas))
    best, worst = (collected(some).scores(resamples=0) for some in (perfect, empty))
    for name in HEADLINES:
        if "ar1" not in name:
            assert best[name] == pytest.approx(1, abs=1e-12), name
        assert worst[name] == 0, name


def test_what_is_not_there_is_undefined() -> None:
    none = objects([], [], [])
    answer = scene(1)[1]
    scores = collected([(none, answer, np.zeros(0))]).scores()
    assert set(scores.headlines) == set(HEADLINES)
    assert all(estimate.value is None for estimate in scores.headlines.values())
    assert all(value is None for row in scores.per_class for value in row.measures.values())
    assert Detections(CLASSES).scores()["mask_ap"] is None
    assert "undefined" not in instance_tables.text(scores)


def test_boxes_alone_give_no_mask_scores() -> None:
    scenes = [scene(seed) for seed in range(500, 510)]
    both = collected(scenes).scores(resamples=0)
    bare = [(truth, replace(found, counts=()), areas) for truth, found, areas in scenes]
    mixed = [*scenes[:5], *bare[5:]]
    for some in (bare, mixed):
        scores = collected(some).scores(resamples=0)
        assert set(scores.headlines) == {name for name in HEADLINES if name.startswith("box")}
        whole = [name for name in scores.headlines if not name.endswith(("small", "medium", "large"))]
        assert [scores[name] for name in whole] == [both[name] for name in whole]
        assert "masks" not in instance_tables.text(scores).splitlines()[0]


def test_areas_left_out_are_pixels() -> None:
    truth, found, _ = scene(7)
    one, other = Detections(CLASSES), Detections(CLASSES)
    one.add("a", truth, found)
    other.add("a", truth, found, truth.areas())
    assert one.scores(resamples=0).to_json() == other.scores(resamples=0).to_json()


def test_json_and_back(tmp_path: Path) -> None:
    scores = collected([scene(seed) for seed in range(600, 612)]).scores(resamples=50, notes=["a note"])
    written = json.loads(json.dumps(scores.to_json()))
    back = InstanceScores.from_json(written)
    assert back.to_json() == scores.to_json()
    assert instance_tables.text(back) == instance_tables.text(scores)
    assert paired_difference(scores, back, "box_ap").value == 0
    for spoil in ({"schema": 2}, {"matches": {"mask": {}}}, {"classes": None}):
        with pytest.raises(DataError):
            InstanceScores.from_json({**written, **spoil})
    short = json.loads(json.dumps(written))
    short["matches"]["mask"]["score"].pop()
    with pytest.raises(DataError, match="different lengths"):
        InstanceScores.from_json(short)
    scores.csv(tmp_path / "images.csv")
    rows = (tmp_path / "images.csv").read_text().splitlines()
    assert len(rows) == 13
    totals = [sum(int(row.split(",")[i]) for row in rows[1:]) for i in (1, 2)]
    assert totals == [scores.objects["counted"], scores.objects["detections"]]
    assert rows[0] == "id,objects,detections,found,sure,right,f1"
    assert [row["f1"] for row in written["per_image"]] == [image.f1 for image in scores.per_image]
    for row in written["per_image"]:  # files of before images were ranked
        del row["sure"], row["right"], row["f1"]
    assert InstanceScores.from_json(written).per_image == scores.per_image


def test_f1_of_an_image_is_that_of_its_sure_detections_alone() -> None:
    scenes = []
    for seed in range(640, 700):
        truth, found, areas = scene(seed)
        sureness = np.random.default_rng(seed).uniform(0.2, 1.0, len(found)).astype(np.float32)
        scenes.append((truth, replace(found, scores=sureness), areas))
    scores = collected(scenes).scores(resamples=0)
    alone = collected([(t, f.only(f.scores > SURE), a) for t, f, a in scenes]).scores(resamples=0)
    for row, only, (truth, _, _) in zip(scores.per_image, alone.per_image, scenes, strict=True):
        assert (row.sure, row.right) == (only.sure, only.found)
        assert row.sure <= only.detections
        assert row.objects == int((~truth.crowd).sum())
        if row.objects + row.sure == 0:
            assert row.f1 is None
        elif row.right == 0:
            assert row.f1 == 0
        else:
            precision, recall = row.right / row.sure, row.right / row.objects
            assert row.f1 == pytest.approx(2 / (1 / precision + 1 / recall))
    assert {row.f1 is None for row in scores.per_image} == {True, False}
    assert any(0 < (row.f1 or 0) < 1 for row in scores.per_image)
    assert any(row.sure < only.detections for row, only in zip(scores.per_image, alone.per_image, strict=True))


def test_paired_difference_is_that_of_the_values_and_narrower_than_unpaired() -> None:
    scenes = [scene(seed) for seed in range(700, 730)]
    worse = [(t, replace(f, scores=np.roll(f.scores, 1)), a) for t, f, a in scenes]
    a, b = (collected(some).scores(resamples=300) for some in (scenes, worse))
    for headline in ("mask_ap", "mask_ap50", "box_ar10"):
        difference = paired_difference(a, b, headline, resamples=300)
        assert difference.value == pytest.approx((a[headline] or 0) - (b[headline] or 0), abs=1e-12)
    of_classes = class_differences(a, b, resamples=50)
    for one, other in zip(a.per_class, b.per_class, strict=True):
        values = [row.measures["mask_ap"] for row in (one, other)]
        expected = None if None in values else pytest.approx(values[0] - values[1], abs=1e-12)
        assert of_classes[one.name].value == expected
    whole, paired = a.headlines["mask_ap"], paired_difference(a, b, resamples=300)
    assert paired.high - paired.low < whole.high - whole.low  # type: ignore[operator]
    for other, word in (
        (collected(scenes[:-1]).scores(resamples=0), "only one of them: 1"),
        (collected([*scenes[:-1], scene(1)]).scores(resamples=0), "true objects"),
        (collected(scenes[::-1], [f"{i:03}" for i in range(29, -1, -1)]).scores(resamples=0), "orders"),
    ):
        with pytest.raises(DataError, match=word):
            paired_difference(a, other)
    with pytest.raises(DataError, match="do not both have"):
        paired_difference(a, b, "miou")


def test_what_cannot_be_added_is_refused_and_not_counted() -> None:
    truth, found, areas = scene(7)
    assert len(found)
    detections = collected([(truth, found, areas)])
    bad = {
        "scored twice": ("000", found),
        "sizes|pixels": ("1", replace(found, size=(10, 10))),
        "finite": ("1", replace(found, scores=found.scores * np.nan)),
        "none of the 3": ("1", replace(found, labels=found.labels + 3)),
    }
    for word, (id, wrong) in bad.items():
        with pytest.raises(DataError, match=word):
            detections.add(id, truth, wrong, areas)
    assert len(detections) == 1


def test_bits_hold_every_flag() -> None:
    flags = np.random.default_rng(0).random((4, 10, 33)) < 0.3
    bits = packed(flags)
    np.testing.assert_array_equal(unpacked(bits), flags)
    plain = sum(flags.reshape(40, 33)[i].astype(object) << i for i in range(40))
    assert bits.tolist() == list(plain)


def test_box_iou_of_pairs() -> None:
    ours = np.array([[0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 2, 2], [0, 0, 0, 0]], np.float64)
    theirs = np.array([[1, 0, 2, 2], [1, 0, 2, 2], [5, 5, 1, 1], [0, 0, 0, 0]], np.float64)
    crowd = np.array([False, True, False, False])
    assert box_iou(ours, theirs, crowd).tolist() == [1 / 3, 1 / 2, 0, 0]


def test_instances_say_what_they_hold() -> None:
    _, found, _ = scene(7)
    assert len(found) > 2
    drawn = found.masks()
    assert drawn.shape == (len(found), SIDE, SIDE)
    for i in range(len(found)):
        np.testing.assert_array_equal(found.mask(i), coco.decode(rle(found.counts[i])))
        assert box_of(drawn[i]) == found.boxes[i].tolist()
    assert found.areas().tolist() == drawn.sum(axis=(1, 2)).tolist()
    assert f"{SIDE} x {SIDE}" in repr(found)
    bare = replace(found, counts=())
    assert bare.areas().tolist() == [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in found.boxes.tolist()]
    with pytest.raises(DataError, match="only boxes"):
        bare.masks()
    assert "nothing" in repr(instances([], [], []))


def test_misfits_are_those_that_cannot_be_mended() -> None:
    rng = np.random.default_rng(2)
    texts = [rle(runs(blob(rng, rng.uniform(20, 130, 2), rng.uniform(5, 50, 2))))["counts"].encode() for _ in range(40)]
    spoilt = [*texts, texts[0][:-1], texts[1] + b"1", b"", b"\xff\xff", b"ppppppppppp1", b"0", texts[2][1:]]
    for some in (texts, spoilt, spoilt[:42], []):
        expected = [masks.mend_counts(text, (SIDE, SIDE))[0] is None for text in some]
        assert masks.misfits(some, [SIDE * SIDE] * len(some)).tolist() == expected


# -------------------------------------------------------------------------------------------------------- real data

FIGURES = {
    "segm": {
        "mask_ap": 0.3195452759,
        "mask_ap50": 0.5622883973,
        "mask_ap75": 0.2989265341,
        "mask_ap_small": 0.3873740316,
        "mask_ap_medium": 0.3101827240,
        "mask_ap_large": 0.3269339071,
        "mask_ar100": 0.4168394992,
    },
    "bbox": {"box_ap": 0.5045806987, "box_ap50": 0.6969727247},
}


@pytest.mark.parametrize("kind", ["segm", "bbox"])
def test_published_figures(real_data: Path, kind: str) -> None:
    folder = real_data / "cocoapi_eval" / "cocoapi"
    truth = coco_truth.read(folder / "instances_val2014_100.json")
    results = coco_results.read(folder / f"instances_val2014_fake{kind}100_results.json", truth)
    assert not len(truth.refusals)
    assert not len(results.refusals)
    detections = Detections(truth.classes)
    detections.add_shapes(truth.ids, truth.shapes, results.shapes)
    scores = detections.scores(resamples=0)
    for name, value in FIGURES[kind].items():
        assert scores[name] == pytest.approx(value, abs=1e-9), name
    text = (folder.parent / "val2014_fake_eval_res.txt").read_text()
    block = text.split(f"type={kind}")[1].split("type=")[0]
    published = [line.rsplit("=", 1)[1].strip() for line in block.splitlines() if "Average" in line]
    prefix = {"segm": "mask", "bbox": "box"}[kind]
    assert [f"{scores[f'{prefix}_{name}']:.3f}" for name in MEASURES] == published
