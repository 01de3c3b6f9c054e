"""iMaterialist: what is wrong with a row is a line of the ledger, and what is handed in obeys the competition's rules."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fashion_layouts import descriptions, diy, imaterialist, objects, write_csv
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from truth_writers import SHAPES, photo, truth

from maskwright.core.errors import DataError, RecipeError
from maskwright.core.table import Data
from maskwright.core.types import Region
from maskwright.data.formats.imaterialist_rows import Descriptions, described
from maskwright.data.formats.imaterialist_submission import SIZE, Answer, Codes, read_submission, write_submission
from maskwright.data.ledger import Ledger
from maskwright.data.open import open_data
from maskwright.imaging import masks, run_lengths

H, W = 4, 6
HEADER = ("ImageId", "EncodedPixels", "Height", "Width", "ClassId")
RUNS = "6 2 10 2 24 1"  # rows 1-2 of columns 1-2, and the last pixel


def data_set(
    folder: Path, *rows: tuple[Any, ...], header: tuple[str, ...] = HEADER, size: tuple[int, int] = (H, W)
) -> Path:
    write_csv(folder / "train.csv", header, list(rows))
    (folder / "label_descriptions.json").write_text(descriptions())
    (folder / "train").mkdir()
    Image.new("RGB", size[::-1]).save(folder / "train" / "a.jpg")
    return folder


def read(path: Path, **options: Any) -> tuple[Data, Ledger]:
    opened = open_data(path, options=options)
    assert opened.format == "imaterialist"
    assert len(opened.data.regions) == opened.ledger.count("annotation", "used")
    return opened.data, opened.ledger


def mask_of(data: Data, index: int = 0) -> np.ndarray:
    return masks.region_mask(data[0].regions[index], data[0].size)


ROWS = {
    "plain": (("a.jpg", RUNS, H, W, "1"), "used", ""),
    "all pixels": (("a.jpg", "1 24", H, W, "1"), "used", ""),
    "out of order": (("a.jpg", "24 1 10 2 6 2", H, W, "1"), "used", ""),
    "an empty run": (("a.jpg", "3 0 6 2", H, W, "1"), "used", ""),
    "class as tables write it": (("a.jpg", RUNS, "4.0", "6.0", "1.0"), "used", ""),
    "no mask": (("a.jpg", "", H, W, "1"), "ignored", "no mask"),
    "no run": (("a.jpg", "5 0", H, W, "1"), "ignored", "no mask"),
    "odd": (("a.jpg", "6 2 10", H, W, "1"), "refused", "3 numbers, not pairs"),
    "overlap": (("a.jpg", "6 3 8 2", H, W, "1"), "refused", "overlap"),
    "one pixel too far": (("a.jpg", "24 2", H, W, "1"), "refused", "reach pixel 25 of 4 x 6 = 24 pixels from 1 on"),
    "far too far": (("a.jpg", f"{10**14} 2", H, W, "1"), "refused", "reach pixel"),
    "longer than numbers are": (("a.jpg", "1 " + "9" * 30, H, W, "1"), "refused", "no whole numbers"),
    "negative": (("a.jpg", "-1 5", H, W, "1"), "refused", "no whole numbers"),
    "words": (("a.jpg", "one 2", H, W, "1"), "refused", "no whole numbers"),
    "no class": (("a.jpg", RUNS, H, W, ""), "refused", "are no numbers: ''"),
    "class in words": (("a.jpg", RUNS, H, W, "shoe"), "refused", "are no numbers: 'shoe'"),
    "class that nobody names": (("a.jpg", RUNS, H, W, "45"), "refused", "no category has its `category_id` 45"),
    "size in words": (("a.jpg", RUNS, "x", W, "1"), "refused", "its size is 'x' x '6'"),
    "no height": (("a.jpg", RUNS, 0, W, "1"), "refused", "its size is '0' x '6'"),
    "no image": (("", RUNS, H, W, "1"), "refused", "no ImageId"),
    "cut off": (("a.jpg", RUNS), "refused", "2 columns, too few"),
    "another size than its image": (
        ("a.jpg", RUNS, W, H, "1"),
        "refused",
        "says its image is 6 x 4, most other lines 4 x 6",
    ),
}


@pytest.mark.parametrize(("row", "fate", "why"), ROWS.values(), ids=ROWS)
def test_every_row_has_a_fate(row: tuple[Any, ...], fate: str, why: str, tmp_path: Path) -> None:
    good = ("a.jpg", "1 1", H, W, "0")
    data, ledger = read(data_set(tmp_path, good, row, good))
    assert len(data) == 1
    assert ledger.count("annotation", fate) == (3 if fate == "used" else 1)  # type: ignore[arg-type]
    lines = [line for line in ledger.lines if line.kind == "annotation"]
    assert [(line.item, why in line.why) for line in lines] == (
        [] if fate == "used" else [(f"{tmp_path}/train.csv: line 3", True)]
    )


def test_masks_are_counted_from_one_down_the_columns(tmp_path: Path) -> None:
    data, _ = read(data_set(tmp_path, ("a.jpg", RUNS, H, W, "1")))
    expected = np.zeros((H, W), bool)
    expected[1:3, 1:3] = expected[3, 5] = True
    np.testing.assert_array_equal(mask_of(data), expected)
    assert data[0].regions[0].counts.tolist() == [5, 2, 2, 2, 12, 1]  # as pycocotools has it
    assert data[0].regions[0].id == 2  # its line


def test_a_file_that_counts_from_zero_is_found_out(tmp_path: Path) -> None:
    """One run at 0 says it of all rows; and then the last pixel is number H * W - 1."""
    rows = [("a.jpg", text, H, W, "1") for text in ("5 2 9 2 23 1", "0 1", "24 1")]
    data, ledger = read(data_set(tmp_path, *rows))
    assert data[0].regions[0].counts.tolist() == [5, 2, 2, 2, 12, 1]
    assert mask_of(data, 1)[0, 0]
    assert "train.csv counts pixels from 0, not from 1: line 3 has a run that starts there" in ledger.notes
    assert [line.why for line in ledger.of("refused")] == [
        "its run-lengths reach pixel 24 of 4 x 6 = 24 pixels from 0 on"
    ]


def test_where_counting_starts_can_be_said(tmp_path: Path) -> None:
    folder = data_set(tmp_path, ("a.jpg", "0 1", H, W, "1"), ("a.jpg", "23 1", H, W, "1"))
    data, ledger = read(folder, first_pixel=1)
    assert [line.why for line in ledger.of("refused")] == [
        "its run-lengths reach pixel 0 of 4 x 6 = 24 pixels from 1 on"
    ]
    assert mask_of(data).sum() == mask_of(data)[2, 5] == 1
    for wrong in ({"first_pixel": 2}, {"attributes": "some"}, {"descriptions": 3}):
        with pytest.raises(RecipeError):
            open_data(folder, options=wrong)
    with pytest.raises(DataError, match=r"none.json: not found"):
        open_data(folder, options={"descriptions": "none.json"})


@pytest.mark.parametrize("from_zero", [False, True])
def test_reads_what_was_drawn(from_zero: bool, tmp_path: Path) -> None:
    samples = truth()
    (diy if from_zero else imaterialist)(tmp_path, samples)
    data, ledger = read(tmp_path, first_pixel=0 if from_zero else None)
    drawn = [region for _, region, _ in objects(samples) if region is not None]
    assert ledger.count("annotation", "used") == len(drawn)
    read_back = [(region.label, masks.region_area(region, record.size)) for record in data for region in record.regions]
    sizes = {region.id: sample.size for sample in samples for region in sample.regions}
    assert read_back == [(region.label, masks.region_area(region, sizes[region.id])) for region in drawn]


ATTRIBUTES = [("a.jpg", "1 1", H, W, "1_9_4"), ("a.jpg", "2 1", H, W, "1"), ("a.jpg", "3 1", H, W, "0_4_77")]


def test_attributes_are_kept_dropped_or_made_classes(tmp_path: Path) -> None:
    folder = data_set(tmp_path, *ATTRIBUTES)
    kept, _ = read(folder)
    assert [region.attributes for region in kept[0].regions] == [
        {"attributes": ["short", "striped"]}, {}, {"attributes": ["striped", "77"]},
    ]  # fmt: skip
    assert [region.label for region in kept[0].regions] == [2, 2, 1]
    dropped, _ = read(folder, attributes="drop")
    assert [region.attributes for region in dropped[0].regions] == [{}] * 3
    apart, _ = read(folder, attributes="classes")
    found = [apart.classes[region.label] for region in apart[0].regions]
    assert found == [f"{SHAPES[1]} (striped, short)", SHAPES[1], f"{SHAPES[0]} (striped, 77)"]


def test_attributes_of_2020_have_a_column_and_more_names(tmp_path: Path) -> None:
    rows = [("a", "1 1", H, W, "1", "4,77"), ("a", "2 1", H, W, "1", "")]
    folder = data_set(tmp_path, *rows, header=(*HEADER, "AttributesIds"))
    more = json.loads(descriptions())
    more["attributes"].append({"id": 77, "name": "ruched"})
    (folder / "label_descriptions_2020.json").write_text(json.dumps(more))
    data, ledger = read(folder)
    assert [region.attributes for region in data[0].regions] == [{"attributes": ["striped", "ruched"]}, {}]
    assert Counter(Path(line.item).name for line in ledger.lines) == {
        "label_descriptions.json": 1
    }  # the other was read


def test_without_descriptions_classes_go_by_number(tmp_path: Path) -> None:
    folder = data_set(tmp_path, ("a.jpg", RUNS, H, W, "23"), ("a.jpg", RUNS, H, W, "6_4"))
    (folder / "label_descriptions.json").rename(tmp_path / "named.json")
    data, ledger = read(folder)
    assert data.classes == ("background", "6", "23")
    assert any("go by number" in note for note in ledger.notes)
    assert read(folder, descriptions="named.json")[1].count("annotation", "refused") == 2  # it names neither class


def test_missing_images_are_lines_of_the_ledger(tmp_path: Path) -> None:
    data, ledger = read(data_set(tmp_path, ("a.jpg", RUNS, H, W, "1"), ("b.jpg", RUNS, H, W, "1")))
    assert len(data) == 1
    assert {line.kind: line.why for line in ledger.of("refused")} == {
        "image": "the image file is nowhere below the folder",
        "annotation": "its image is refused: the image file is nowhere below the folder",
    }


def test_labels_of_another_size_are_scaled_or_refused(tmp_path: Path) -> None:
    row = ("a.jpg", "1 4 5 2", H, W, "1")  # the first column, and half of the second
    data, ledger = read(data_set(tmp_path / "twice", row, size=(2 * H, 2 * W)))
    expected = np.zeros((2 * H, 2 * W), bool)
    expected[:, :2], expected[:4, 2:4] = True, True
    np.testing.assert_array_equal(mask_of(data), expected)
    assert [line.why for line in ledger.of("repaired")] == ["labels drawn at 6 x 4 are scaled to its 12 x 8 pixels"]
    _, ledger = read(data_set(tmp_path / "other", row, size=(H, 2 * W)))
    assert (
        next(line.why for line in ledger.of("refused")) == "the file is 12 x 4 pixels, its labels were drawn at 6 x 4"
    )


def test_labels_that_fit_the_unrotated_photo(tmp_path: Path) -> None:
    folder = data_set(tmp_path, ("a.jpg", RUNS, H, W, "1"))
    (folder / "train" / "a.jpg").write_bytes(photo((H, W), orientation=6))
    data, ledger = read(folder)
    assert (data[0].size, data[0].upright) == ((H, W), False)
    assert [line.why for line in ledger.of("repaired")] == [
        "labels fit the image before EXIF rotation, which is left out"
    ]


BROKEN = {
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\n", r"[Gg]it LFS pointer"),
    "a page": (b"<html>", "web page"),
    "an archive": (b"PK\x03\x04", "archive"),
    "a submission": (
        b"ImageId,EncodedPixels,ClassId\n",
        "no column Height and no column Width; a submission is no data set",
    ),
    "other columns": (b"ImageId,Label\n", "no column EncodedPixels"),
    "no text": (",".join(HEADER).encode() + b"\n\xff\xff\n", "no CSV"),
    "an open quote": (",".join(HEADER).encode() + b'\n"a.jpg', "few|no CSV|no image"),
}


@pytest.mark.parametrize(("content", "why"), BROKEN.values(), ids=BROKEN)
def test_what_is_no_data_set_says_what_it_is(content: bytes, why: str, tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_bytes(content)
    if "|" in why:
        opened = open_data(file, format="imaterialist")
        assert len(opened.data) == 0
        assert opened.ledger.num_refused == 1
    else:
        with pytest.raises(DataError, match=why):
            open_data(file, format="imaterialist")


def test_fields_may_be_longer_than_csv_likes(tmp_path: Path) -> None:
    limit, size = csv.field_size_limit(), (200, 400)
    runs = " ".join(f"{start} 1" for start in range(1, 80_000, 2))
    data, _ = read(data_set(tmp_path, ("a.jpg", runs, *size, "1"), size=size))
    assert len(runs) > limit
    assert mask_of(data).sum() == 40_000
    assert csv.field_size_limit() == limit


@given(st.lists(st.booleans(), min_size=1, max_size=60), st.integers(1, 6))
def test_spans_become_the_run_lengths_of_their_mask(bits: list[bool], height: int) -> None:
    mask = np.resize(np.array(bits), (height, max(1, len(bits) // height)))
    flat = np.flatnonzero(mask.T.reshape(-1))  # every pixel a span of its own: those that touch must become one
    counts = run_lengths.of_spans(flat, flat + 1, mask.size)
    assert counts.tolist() == run_lengths.of_mask(mask).tolist()
    assert counts.sum() == mask.size
    np.testing.assert_array_equal(masks.region_mask(Region(0, counts=counts), mask.shape), mask)


# ------------------------------------------------------------------------------------------------- what is handed in

CODES = Codes({1: 23, 2: 6, 3: 45}, {"striped": 4, "short": 9})


def answer(name: str, rng: np.random.Generator, num: int, size: tuple[int, int] = (40, 30)) -> Answer:
    regions = []
    for number in range(num):
        mask = np.zeros(size, bool)
        top, left = rng.integers(0, 30), rng.integers(0, 20)
        mask[top : top + rng.integers(1, 25), left : left + rng.integers(1, 20)] = True
        named = {"attributes": ["short", "striped"]} if number % 3 == 2 else {}
        label = int(rng.integers(1, 4))
        regions.append(Region(label, counts=run_lengths.of_mask(mask), attributes=named))
    return Answer(name, size, regions, rng.random(num).tolist())


@pytest.mark.parametrize("seed", range(5))
def test_a_submission_obeys_the_rules(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    answers = [answer(f"{n}.jpg", rng, num) for n, num in enumerate((6, 0, 1, 9))]
    write_submission(tmp_path / "s.csv", answers, CODES, size=(64, 64))
    found = read_submission(tmp_path / "s.csv", CODES, size=(64, 64))
    assert list(found) == [a.name for a in answers]  # every image, in order
    for given_answer in answers:
        claimed = np.zeros((64, 64), int)
        best = np.full((64, 64), -1.0)
        for region, score in zip(given_answer.regions, given_answer.scores):
            mask = run_lengths.resized(masks.region_mask(region, given_answer.size), (64, 64))
            best[mask] = np.maximum(best[mask], score)
        drawn = [masks.region_mask(region, (64, 64)) for region in found[given_answer.name]]
        for mask in drawn:
            claimed += mask
        assert claimed.max(initial=0) <= 1  # no pixel twice
        np.testing.assert_array_equal(claimed == 1, best >= 0)  # none lost
        order = np.argsort(-np.array(given_answer.scores), kind="stable")
        kept = iter(found[given_answer.name])
        for index in order:  # a pixel goes to the best score
            mask = run_lengths.resized(masks.region_mask(given_answer.regions[index], given_answer.size), (64, 64))
            own = mask & (best == given_answer.scores[index])
            if own.any():
                region = next(kept)
                np.testing.assert_array_equal(masks.region_mask(region, (64, 64)), own)
                assert region.label == given_answer.regions[index].label
                assert bool(region.attributes) == bool(given_answer.regions[index].attributes)
                assert region.attributes in ({}, {"attributes": ["striped", "short"]})  # by their numbers, 4 and 9


def test_the_letters_of_a_submission(tmp_path: Path) -> None:
    """512 x 512, columns first, counted from 1, attributes behind the class; an empty image has an empty row of class 23."""
    mask = np.zeros((256, 256), bool)
    mask[1, 0] = True
    named = {"attributes": ["short", "striped"]}
    corner = Region(2, counts=run_lengths.of_mask(mask), attributes=named)
    write_submission(
        tmp_path / "s.csv", [Answer("a.jpg", (256, 256), [corner], [0.5]), Answer("b.jpg", (9, 9), [], [])], CODES
    )
    assert SIZE == (512, 512)
    assert (tmp_path / "s.csv").read_text().splitlines() == [
        "ImageId,EncodedPixels,ClassId", "a.jpg,3 2 515 2,6_4_9", "b.jpg,,23",
    ]  # fmt: skip


def test_what_cannot_be_handed_in(tmp_path: Path) -> None:
    whole = np.ones((4, 4), bool)
    counts = run_lengths.of_mask(whole)
    regions = [Region(7, counts=counts), Region(1, counts=counts, attributes={"attributes": ["odd"]})]
    for region, why in zip(regions, ("class index 7", "does not number all of the attributes odd")):
        with pytest.raises(DataError, match=why):
            write_submission(tmp_path / "s.csv", [Answer("a", (4, 4), [region], [1.0])], CODES)
    with pytest.raises(DataError, match="answered twice"):
        write_submission(tmp_path / "s.csv", [Answer("a", (4, 4), [], [])] * 2, CODES)
    assert not (tmp_path / "s.csv").exists()
    for rows, why in (
        (("a", "1", "23"), ":2: its run-lengths are 1 numbers"),
        (("a", "1 1", "5"), ":2: no class has the number 5"),
    ):
        write_csv(tmp_path / "bad.csv", ("ImageId", "EncodedPixels", "ClassId"), [rows])
        with pytest.raises(DataError, match=why):
            read_submission(tmp_path / "bad.csv", CODES)


def test_codes_come_from_the_descriptions() -> None:
    named = Descriptions({0: "shirt", 23: "shoe"}, {4: "striped"})
    assert Codes.of(("background", "shoe", "shirt"), named) == Codes({1: 23, 2: 0}, {"striped": 4})
    with pytest.raises(DataError, match="no class `hat`"):
        Codes.of(("background", "hat"), named)


# ------------------------------------------------------------------------------------------------- the real files


def test_the_real_descriptions(real_data: Path) -> None:
    for name, attributes in (("label_descriptions.json", 92), ("label_descriptions_2020.json", 294)):
        named = described(real_data / "imaterialist-fashion-2019" / name)
        assert (len(named.classes), len(named.attributes)) == (46, attributes)
        assert (named.classes[0], named.classes[23], named.classes[45]) == ("shirt, blouse", "shoe", "tassel")


def test_the_real_submission(real_data: Path, tmp_path: Path) -> None:
    """230 rows of 30 images, drawn at 128 x 128 in fact; written again it says the same."""
    folder = real_data / "imaterialist-fashion-2019"
    named = described(folder / "label_descriptions.json")
    codes = Codes.of(("background", *named.classes.values()), named)
    found = read_submission(folder / "submission_example.csv", codes, size=(128, 128))
    assert (len(found), sum(map(len, found.values()))) == (30, 230)
    counts = Counter(codes.classes[region.label] for regions in found.values() for region in regions)
    assert (counts[27], counts[10], counts[3], counts[40]) == (30, 30, 22, 1)
    answers = [Answer(name, (128, 128), regions, [1.0] * len(regions)) for name, regions in found.items()]
    write_submission(tmp_path / "again.csv", answers, codes, size=(128, 128))
    assert (tmp_path / "again.csv").read_text().split() == (folder / "submission_example.csv").read_text().split()
    with pytest.raises(DataError, match=r"submission_example.csv is a submission|no label format"):
        open_data(folder)
