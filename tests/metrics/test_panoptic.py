"""Panoptic quality: equal to a plain count, to a reference implementation, and to what the paper's laws say; its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hotcoco.panoptic import pq_compute
from PIL import Image

from maskwright.core.errors import DataError
from maskwright.metrics import panoptic_tables
from maskwright.metrics.panoptic import Panoptics, PanopticScores, Segments
from maskwright.prediction import panoptic_files

CLASSES = ("cat", "dog", "sky", "grass")
THINGS = (True, True, False, False)
Pair = tuple[Segments, Segments]


def random_pair(seed: int) -> Pair:
    """Truth with void and crowds, made of blocks; a prediction that is the truth with blocks given away."""
    rng = np.random.default_rng(seed)
    numbers = rng.choice(5000, int(rng.integers(1, 9)), replace=False) + 1
    blocks = rng.choice([0, *numbers.tolist()], (8, 8))
    labels = rng.integers(0, 4, len(numbers))
    crowd = (rng.random(len(numbers)) < 0.2) & (labels < 2)
    for label in (0, 1):
        crowd[np.flatnonzero(crowd & (labels == label))[1:]] = False  # the format has one crowd of a class at most
    changed = np.where(rng.random((8, 8)) < 0.25, rng.choice([0, 9001, 9002, *numbers.tolist()], (8, 8)), blocks)
    claims = np.where(rng.random(len(numbers)) < 0.85, labels, rng.integers(0, 4, len(numbers)))
    fine = [np.repeat(np.repeat(b, 3, axis=0), 4, axis=1).astype(np.int64) for b in (blocks, changed)]
    extra = np.append(numbers, [9001, 9002])
    shown = np.isin(extra, changed)
    found = Segments(fine[1], extra[shown], np.append(claims, [0, 2])[shown], np.zeros(shown.sum(), bool))
    shown = np.isin(numbers, blocks)
    return Segments(fine[0], numbers[shown], labels[shown], crowd[shown]), found


def plain(pairs: list[Pair], label: int) -> tuple[int, int, int, float]:
    """matched, missed, wrong, sum of IoU of one class, pixel by pixel."""
    matched, missed, wrong, total = 0, 0, 0, 0.0
    for truth, found in pairs:
        void = truth.map == 0
        real = [
            n for n, c, crowd in zip(truth.numbers, truth.labels, truth.crowd, strict=True) if c == label and not crowd
        ]
        crowds = [
            n for n, c, crowd in zip(truth.numbers, truth.labels, truth.crowd, strict=True) if c == label and crowd
        ]
        ours = [n for n, c in zip(found.numbers, found.labels, strict=True) if c == label]
        taken = set()
        for number in real:
            mask = truth.map == number
            for other in ours:
                claim = (found.map == other) & ~void
                iou = (mask & claim).sum() / (mask | claim).sum()
                if iou > 0.5:
                    taken.add(other)
                    matched, total = matched + 1, total + float(iou)
                    break
            else:
                missed += 1
        for other in set(ours) - taken:
            claim = found.map == other
            idle = (claim & (void | np.isin(truth.map, crowds))).sum()
            wrong += int(idle / claim.sum() <= 0.5)
    return matched, missed, wrong, total


def counted(pairs: list[Pair]) -> Panoptics:
    panoptics = Panoptics(CLASSES, THINGS)
    for number, (truth, found) in enumerate(pairs):
        panoptics.add(f"{number:03}.jpg", truth, found)
    return panoptics


def test_equal_to_a_plain_count() -> None:
    pairs = [random_pair(seed) for seed in range(40)]
    scores = counted(pairs).scores(resamples=0)
    qualities = []
    for label, row in enumerate(scores.per_class):
        matched, missed, wrong, total = plain(pairs, label)
        assert (row["matched"], row["missed"], row["wrong"]) == (matched, missed, wrong)
        assert matched > 0
        whole = matched + missed / 2 + wrong / 2
        assert row["pq"] == pytest.approx(total / whole, abs=1e-12)
        assert row["sq"] == pytest.approx(total / matched, abs=1e-12)
        assert row["rq"] == pytest.approx(matched / whole, abs=1e-12)
        qualities.append(total / whole)
    assert scores["pq"] == pytest.approx(np.mean(qualities), abs=1e-12)
    assert scores["pq_things"] == pytest.approx(np.mean(qualities[:2]), abs=1e-12)
    assert scores["pq_stuff"] == pytest.approx(np.mean(qualities[2:]), abs=1e-12)


def written(folder: Path, pairs: list[Pair]) -> tuple[Path, Path]:
    sides = folder / "truth.json", folder / "found.json"
    for side, path in enumerate(sides):
        rows = [(f"photos/{number:03}.jpg", pair[side]) for number, pair in enumerate(pairs)]
        panoptic_files.write(path, rows, CLASSES, THINGS)
    return sides


def test_equal_to_the_reference_implementation_on_files(tmp_path: Path, capfd: Any) -> None:
    pairs = [random_pair(seed) for seed in range(50, 70)]
    truth, found = written(tmp_path, pairs)
    theirs = pq_compute(str(truth), str(found))
    ours = panoptic_files.evaluate(found, truth, resamples=0)
    for group, ending in (("All", ""), ("Things", "_things"), ("Stuff", "_stuff")):
        for measure in ("pq", "sq", "rq"):
            assert ours[f"{measure}{ending}"] == pytest.approx(theirs[group][measure], abs=1e-12)
    assert ours.to_json() == counted_by_photo(pairs).to_json()


def counted_by_photo(pairs: list[Pair]) -> PanopticScores:
    panoptics = Panoptics(CLASSES, THINGS)
    for number, (truth, found) in enumerate(pairs):
        panoptics.add(f"photos/{number:03}.jpg", truth, found)
    return panoptics.scores(resamples=0)


def test_files_hold_what_was_written(tmp_path: Path) -> None:
    pairs = [random_pair(seed) for seed in range(80, 90)]
    path, _ = written(tmp_path, pairs)
    album = panoptic_files.open_album(path)
    assert album.classes == CLASSES
    assert album.things == THINGS
    for id, (truth, _) in zip(album.files, pairs, strict=True):
        back = album.read(id)
        np.testing.assert_array_equal(back.map, truth.map)
        for name in ("numbers", "labels", "crowd"):
            np.testing.assert_array_equal(getattr(back, name), getattr(truth, name))
    rows = json.loads(path.read_text())["annotations"][0]["segments_info"]
    for row in rows:
        rows_of, columns = np.nonzero(pairs[0][0].map == row["id"])
        x, y, width, height = row["bbox"]
        assert (columns.min(), rows_of.min(), np.ptp(columns) + 1, np.ptp(rows_of) + 1) == (x, y, width, height)
        assert row["area"] == len(columns)


def test_the_truth_itself_scores_one_and_nothing_scores_zero() -> None:
    truths = [random_pair(seed)[0] for seed in range(90, 110)]
    plainly = [Segments(t.map, t.numbers, t.labels, np.zeros_like(t.crowd)) for t in truths]
    scores = counted([(t, t) for t in plainly]).scores()
    assert {e.value for e in scores.headlines.values()} == {1.0}
    none = np.zeros(0, np.int64)
    empty = [(t, Segments(np.zeros_like(t.map), none, none, none.astype(bool))) for t in plainly]
    assert {e.value for e in counted(empty).scores().headlines.values()} == {0.0}
    assert Panoptics(CLASSES, THINGS).scores()["pq"] is None


def test_masks_become_segments_the_first_on_top() -> None:
    drawn = np.zeros((3, 4, 4), bool)
    drawn[0, 1, 1] = drawn[1, :2] = drawn[2] = True
    segments = Segments.of_masks(drawn, np.array([5, 6, 7]))
    assert segments.map.tolist() == [[2, 2, 2, 2], [2, 1, 2, 2], [3, 3, 3, 3], [3, 3, 3, 3]]
    assert Segments.of_masks(drawn[:0], np.zeros(0)).map.tolist() == np.zeros((4, 4)).tolist()


def test_json_and_back_and_a_table() -> None:
    scores = counted([random_pair(seed) for seed in range(12)]).scores(resamples=60)
    back = PanopticScores.from_json(json.loads(json.dumps(scores.to_json())))
    assert back.to_json() == scores.to_json()
    text = panoptic_tables.text(back, 80)
    assert max(map(len, text.splitlines())) <= 80
    assert all(name in text for name in (*CLASSES, "things", "stuff", "12 of 12 images scored", "Panoptic quality"))
    for bad in ({}, {**scores.to_json(), "schema": 9}, {**scores.to_json(), "per_image": [{"id": "a", "counts": [1]}]}):
        with pytest.raises(DataError, match="panoptic scores"):
            PanopticScores.from_json(bad)


def spoil_size(folder: Path) -> None:
    Image.new("RGB", (3, 3)).save(folder / "found" / "000.png")


def spoil_png(folder: Path) -> None:
    Image.fromarray(np.full((24, 32, 3), 7, np.uint8)).save(folder / "found" / "000.png")


def spoil(change: Any) -> Any:
    def spoiler(folder: Path) -> None:
        tree = json.loads((folder / "found.json").read_text())
        change(tree)
        (folder / "found.json").write_text(json.dumps(tree))

    return spoiler


SPOILED = {
    "pixels": spoil_size,
    "does not list, such as 460551": spoil_png,
    "for 1 of 3 images": spoil(lambda tree: tree["annotations"].pop()),
    "listed twice": spoil(lambda tree: tree["annotations"].append(tree["annotations"][0])),
    "no category": spoil(lambda tree: tree["annotations"][0]["segments_info"][0].update(category_id=77)),
    "no `id` from 1": spoil(lambda tree: tree["annotations"][0]["segments_info"][0].update(id=0)),
    "`annotations\\[0\\]`": spoil(lambda tree: tree["annotations"][0].pop("file_name")),
    "`categories\\[0\\]`": spoil(lambda tree: tree["categories"][0].pop("isthing")),
    "no panoptic JSON": spoil(lambda tree: tree.pop("annotations")),
    "two categories": spoil(lambda tree: tree["categories"].append(tree["categories"][0])),
}


@pytest.mark.parametrize("word", SPOILED)
def test_what_is_wrong_with_files_is_said(tmp_path: Path, word: str) -> None:
    truth, found = written(tmp_path, [random_pair(seed) for seed in range(3)])
    SPOILED[word](tmp_path)
    with pytest.raises(DataError, match=word):
        panoptic_files.evaluate(found, truth)


def test_predictions_need_no_categories_and_may_lack_images(tmp_path: Path) -> None:
    truth, found = written(tmp_path, [random_pair(seed) for seed in range(3)])
    whole = panoptic_files.evaluate(found, truth, resamples=0)
    spoil(lambda tree: (tree.pop("categories"), tree.pop("images")))(tmp_path)
    assert panoptic_files.evaluate(found, truth, resamples=0).to_json() == whole.to_json()
    spoil(lambda tree: tree["annotations"].pop())(tmp_path)
    rest = panoptic_files.evaluate(found, truth, allow_refused=True, resamples=0)
    assert (len(rest.ids), rest.expected) == (2, 3)
    panoptics = counted([random_pair(1)])
    with pytest.raises(DataError, match="twice"):
        panoptics.add("000.jpg", *random_pair(1))
