"""What a model is scored on: the same images and labels whether its bundle, its run folder or a file of it is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskwright.bundles import bundle as bundles
from maskwright.bundles.bundle import Description
from maskwright.core import events
from maskwright.core import recipe as recipes
from maskwright.core.recipe_text import dump
from maskwright.core.types import BACKGROUND
from maskwright.data import split as splits
from maskwright.data import synthetic
from maskwright.data.open import open_data
from maskwright.data.split import Split
from maskwright.imaging.objects import has_objects
from maskwright.verbs.asked import Asked

FILES = (bundles.ONNX, "model-certified.onnx", "model.int8.onnx")  # of a bundle


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.make(tmp_path_factory.mktemp("asked") / "photos", num=8, size=(48, 48), format="folder")


@pytest.fixture(scope="module")
def run(photos: Path) -> Path:
    """A run folder as a training of discs alone leaves it, each piece an object; three of its images validated."""
    source = {"path": str(photos), "classes": {"disc": "coin"}, "keep": [BACKGROUND, "coin"], "components": 4}
    recipe = recipes.build({"task": "instance", "data": [source]})
    folder = photos.parent / "run"
    (folder / "bundle").mkdir(parents=True)
    known = Description(("coin",), ((1, 2, 3),), (32, 32), "squash", {"name": "mask_rcnn"}, task="instance")
    bundles.save_description(folder / "bundle", known)
    (folder / "bundle" / bundles.RECIPE).write_text(dump(recipe))
    for name in FILES:
        (folder / "bundle" / name).write_bytes(b"a network")
    ids = tuple(open_data(photos).data.ids)
    splits.save(Split(ids[3:], ids[:3]), folder / "split.json")
    return folder


def heard(
    asked: Asked, model: Path, classes: tuple[str, ...] = ("coin",)
) -> tuple[list[str], tuple[str, ...], bool, list[str]]:
    """Ids, classes and whether there are single objects, of what is scored; what was said of it."""
    told: list[events.Event] = []
    with events.listening(told.append):
        data, _ = asked.images(model, classes)
    words = [event.fields["text"] for event in told if event.name in ("say", "warn")]
    return list(data.ids), data.classes, all(has_objects(record) for record in data), words


@pytest.mark.parametrize("name", FILES)
def test_an_onnx_file_of_a_bundle_is_scored_as_the_bundle(run: Path, photos: Path, name: str) -> None:
    asked = Asked(str(photos))
    of_run, of_bundle, of_file = (heard(asked, path) for path in (run, run / "bundle", run / "bundle" / name))
    assert of_run == of_bundle
    assert of_file[:3] == of_bundle[:3]
    assert of_file[1:3] == ((BACKGROUND, "coin"), True)
    assert len(of_file[0]) == 3
    (said,) = set(of_file[3]) - set(of_bundle[3])
    assert said == f"labels are read as {run / 'bundle' / bundles.RECIPE} says, which lies beside the model"


def test_an_onnx_file_by_itself_has_no_recipe(run: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / bundles.ONNX).write_bytes(b"a network")
    for file, known in ((tmp_path / bundles.ONNX, "coin"), (run / "bundle" / FILES[1], "of another model")):
        ids, classes, _, words = heard(Asked(str(photos)), file, (known,))
        assert (len(ids), classes) == (8, open_data(photos).data.classes)
        assert not any("lies beside" in word or "trained" in word for word in words)


@pytest.mark.parametrize("name", FILES)
def test_a_file_knows_its_run_from_inside_its_bundle(
    run: Path, photos: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run / "bundle")
    ids, _, _, words = heard(Asked(str(photos)), Path(name))
    assert (len(ids), ids) == (3, list(splits.load(run / "split.json").val))
    assert "scoring 3 val images of the model's own run; --part all scores every image" in words


def test_a_bundle_is_not_beside_itself(run: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run / "bundle")
    assert not any("lies beside" in word for word in heard(Asked(str(photos)), Path("."))[3])


@pytest.mark.parametrize("as_recipe", [False, True])
@pytest.mark.parametrize("part", ["all", "train", "val"])
def test_images_that_trained_the_model_are_told(run: Path, photos: Path, as_recipe: bool, part: str) -> None:
    source = tree = str(photos)
    if as_recipe:
        tree = str(run / f"{part}.yaml")
        text = f"data: {source}\nsplit: {{file: {run / 'split.json'}}}\n"
        Path(tree).write_text(text)
    words, of_file = (heard(Asked(tree, part), path)[3] for path in (run / "bundle", run / "bundle" / FILES[1]))
    scored, trained = {"all": (8, 5), "train": (5, 5), "val": (3, 0)}[part]
    warned = [word for word in words if "flatter" in word]
    assert warned == [f"{trained} of {scored} images trained the model: the scores flatter it"] * (trained > 0)
    assert warned == [word for word in of_file if "flatter" in word]
