"""What a recipe makes of its sources: test images are never thinned out, and the same image in two parts is said once."""

import json

import pytest
from truth_writers import index_png, photo, save_photo, truth

from maskwright.core import events
from maskwright.core import recipe as recipes
from maskwright.core.errors import RecipeError
from maskwright.data.prepare import prepare
from maskwright.training.inputs import flip_pairs, make_loader

SIZE = (8, 12)
CAT = "0 0 0 0.5 0 0.5 1 0 1"


def yolo(folder, parts, seed=0):
    """parts: name -> how many photos with a cat, how many without; each photo is another one."""
    for part, counts in parts.items():
        for number in range(sum(counts)):
            save_photo(folder / "images" / part / f"{number}.jpg", photo(SIZE, seed=seed))
            text = folder / "labels" / part / f"{number}.txt"
            text.parent.mkdir(parents=True, exist_ok=True)
            text.write_text(CAT if number < counts[0] else "")
            seed += 1
    (folder / "data.yaml").write_text(json.dumps({"names": {0: "cat"}}))
    return str(folder)


def parts_of(changes):
    found = prepare(recipes.build(changes))
    return [len(part) for part in (found.train, found.val, found.test)]


@pytest.mark.parametrize("negatives", [0, 1, None])
def test_negatives_of_test_images_all_stay(negatives, tmp_path):
    official = yolo(tmp_path / "official", {"train": (6, 9), "val": (2, 5), "test": (3, 8)})
    fewer = {0: [6, 2], 1: [12, 4], None: [15, 7]}[negatives]
    assert parts_of({"data": official, "negatives": negatives}) == [*fewer, 11]
    alone = yolo(tmp_path / "alone", {"photos": (2, 7)}, seed=50)
    assert parts_of({"data": official, "test": alone, "negatives": negatives})[2] == 11 + 9


def test_the_same_images_in_two_parts_are_one_warning(tmp_path):
    once = yolo(tmp_path / "once", {"photos": (6, 0)})
    again = yolo(tmp_path / "again", {"photos": (6, 0)})
    told = []
    with events.listening(told.append):
        prepare(recipes.build({"data": once, "val": again}))
    leaks = [event.fields["text"] for event in told if "the same image is in" in event.fields.get("text", "")]
    assert len(leaks) == 1
    assert "train and val" in leaks[0]
    assert leaks[0].endswith("and 5 more such images")


@pytest.mark.parametrize(("components", "least"), [(False, 0), (True, 1), (25, 25)])
def test_pieces_are_objects_where_a_source_asks_for_them(components, least, tmp_path):
    index_png(tmp_path, truth())
    found = prepare(recipes.build({"data": [{"path": str(tmp_path), "components": components}]}))
    assert set(found.data.components.tolist()) == {least}
    source = {"path": yolo(tmp_path / "polygons", {"photos": (6, 0)}), "components": True}
    with pytest.raises(RecipeError, match=r"data\.0\.components: .*no label map without objects"):
        prepare(recipes.build({"data": [source]}))


def test_weights_that_leave_no_image_are_refused(tmp_path):
    source = {"path": yolo(tmp_path, {"photos": (6, 0)}), "weight": 0.01}
    recipe = recipes.build({"data": [source], "size": 32, "train": {"batch": 2, "workers": 0}})
    with pytest.raises(RecipeError, match="leave no training image"):
        make_loader(recipe, prepare(recipe).train)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([["a", "b"], ["b", "c"]], "`b` stands in two pairs"),
        ([["a", "a"]], r"`\[a, a\]` is no pair of classes"),
        ([["a"]], r"`\[a\]` is no pair of classes"),
        ([[]], r"`\[\]` is no pair of classes"),
        ([["a", "d"]], "no class is called `d`"),
    ],
)
def test_pairs_that_make_no_sense_are_refused(pairs, message):
    with pytest.raises(RecipeError, match=message):
        flip_pairs(recipes.build({"data": "x", "flip_pairs": pairs}), ("a", "b", "c"))
