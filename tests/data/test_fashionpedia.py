"""Fashionpedia: attributes by name, sizes that differ from the files, and the counts of the real sample."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from truth_writers import CLASSES, compressed, photo, run_lengths

from maskwright.core.table import Data
from maskwright.data.formats import coco
from maskwright.data.ledger import Ledger
from maskwright.data.open import open_data, recognise
from maskwright.imaging import masks

H, W = 20, 30
SQUARE = [2.0, 3.0, 12.0, 3.0, 12.0, 13.0, 2.0, 13.0]


def document(*changes: dict[str, Any], **more: Any) -> dict[str, Any]:
    own = {
        "image_id": "0aff",
        "category_id": 0,
        "attribute_ids": [7],
        "segmentation": [SQUARE],
        "area": 5.0,
        "iscrowd": 0,
    }
    return {
        "images": [{"id": "0aff", "file_name": "0aff.jpg", "height": H, "width": W}],
        "annotations": [{**own, "id": i, **change} for i, change in enumerate(changes or ({},), 1)],
        "categories": [{"id": i, "name": name, "level": 2} for i, name in enumerate(CLASSES[1:])],
        "attributes": [{"id": 7, "name": "striped"}, {"id": 9, "name": "short"}, {"id": 3}, "odd"],
    } | more


def read(folder: Path, content: dict[str, Any], size: tuple[int, int] = (H, W)) -> tuple[Data, Ledger]:
    (folder / "instances_attributes_train2020.json").write_text(json.dumps(content))
    if not (folder / "0aff.jpg").exists():
        Image.new("RGB", size[::-1]).save(folder / "0aff.jpg")
    opened = open_data(folder)
    assert opened.format == "fashionpedia"
    return opened.data, opened.ledger


def test_attributes_have_their_names(tmp_path: Path) -> None:
    changes = [{"attribute_ids": ids} for ids in ([7, 9], [], None, [9, 300, "x"], [3], "odd", [[1]])]
    data, ledger = read(tmp_path, document(*changes))
    named = [region.attributes.get("attributes", []) for region in data[0].regions]
    assert named == [["striped", "short"], [], [], ["short", "300", "x"], ["3"], [], []]
    (note,) = [note for note in ledger.notes if "attribute ids" in note]
    assert note.endswith("3 attribute ids have no name in its list `attributes` and stay numbers: 3, 300, x")


def test_attributes_survive_coco(tmp_path: Path) -> None:
    """What is written as COCO is COCO, and says the same of every object."""
    (tmp_path / "in").mkdir()
    data, _ = read(tmp_path / "in", document({}, {"attribute_ids": []}))
    coco.FORMAT.write(data, tmp_path / "out")  # type: ignore[misc]
    again = open_data(tmp_path / "out")
    assert again.format == "coco"
    assert [r.attributes for r in again.data[0].regions] == [{"attributes": ["striped"]}, {}]


@pytest.mark.parametrize("times", [(2, 2), (3, 3)])
def test_labels_of_another_size_are_scaled(times: tuple[int, int], tmp_path: Path) -> None:
    """Polygons, run-lengths and compressed run-lengths alike."""
    mask = np.zeros((H, W), bool)
    mask[3:13, 2:12] = True
    runs = {"size": [H, W], "counts": run_lengths(mask)}
    packed = {"size": [H, W], "counts": compressed(run_lengths(mask))}
    drawn = [{"segmentation": shape} for shape in ([SQUARE], runs, packed)]
    data, ledger = read(tmp_path, document(*drawn), (times[0] * H, times[1] * W))
    expected = np.kron(mask, np.ones(times, bool))
    assert data[0].size == expected.shape
    for region in data[0].regions:
        np.testing.assert_array_equal(masks.region_mask(region, expected.shape), expected)
    assert ledger.count("annotation", "used") == 3
    assert [line.why for line in ledger.of("repaired")] == [
        f"labels drawn at {W} x {H} are scaled to its {W * times[1]} x {H * times[0]} pixels"
    ]


SIZES = {
    "as it is": ((H, W), 1, "used", True),
    "rounded": ((13, 20), 1, "repaired", True),  # 13.3 x 20
    "more than rounded": ((15, 20), 1, "refused", True),
    "as stored": ((H, W), 6, "repaired", False),
    "as stored, halved": ((H // 2, W // 2), 6, "repaired", False),
    "as displayed": ((W, H), 6, "used", True),
    "as displayed, halved": ((W // 2, H // 2), 6, "repaired", True),
    "another shape": ((H, W + 4), 1, "refused", True),
    "turned": ((W, H), 1, "refused", True),
}


@pytest.mark.parametrize(("size", "orientation", "fate", "upright"), SIZES.values(), ids=SIZES)
def test_sizes_and_orientations(
    size: tuple[int, int], orientation: int, fate: Any, upright: bool, tmp_path: Path
) -> None:
    (tmp_path / "0aff.jpg").write_bytes(photo(size, orientation=orientation))
    data, ledger = read(tmp_path, document())
    assert ledger.count("image", fate) == 1
    for record in data:
        assert record.upright is upright
        assert record.size == (size if not upright or orientation == 1 else size[::-1])
        masks.label_map(record)


def test_a_photo_that_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    (tmp_path / "0aff.jpg").write_bytes(b"nothing")
    _, ledger = read(tmp_path, document())
    assert next(line.why for line in ledger.of("refused")).startswith("the file is no image of a kind")


def test_counts_of_the_real_sample(real_data: Path) -> None:
    name = "fashionpedia/data/sample.json"
    facts = json.loads((real_data / "facts.json").read_text())[name]
    assert recognise(real_data / name)[0] == "fashionpedia"
    opened = open_data(real_data / "fashionpedia")
    data, ledger = opened.data, opened.ledger
    assert (len(data), len(data.regions), len(data.classes) - 1) == (
        facts["images"], facts["annotations"], facts["categories"],
    )  # fmt: skip
    assert ledger.count("annotation", "used") == facts["annotations"]
    counts = np.bincount(data.regions.label, minlength=len(data.classes))
    assert {n: int(c) for n, c in zip(data.classes, counts) if c} == facts["objects"]
    pixels = sum(masks.class_areas(record, len(data.classes)) for record in data)
    assert {n: int(c) for n, c in zip(data.classes, pixels) if c} == facts["pixels_union_per_class"]
    dress = next(r for record in data for r in record.regions if data.classes[r.label] == "dress")
    assert "symmetrical" in dress.attributes["attributes"]
