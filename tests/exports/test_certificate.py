"""A certificate says what the file does, refuses what loses too much, and notices what was changed since."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from maskwright.bundles.bundle import Description
from maskwright.core import events, files
from maskwright.core.errors import ModelError, RecipeError, SetupError
from maskwright.core.recipe import build as recipe
from maskwright.core.table import Data
from maskwright.core.types import Instances, Network
from maskwright.data import synthetic
from maskwright.data.prepare import gather
from maskwright.exports import agreement, certificate
from maskwright.exports.source import Source, Written
from maskwright.imaging import run_lengths

RUNTIME = "another runtime 1.0"


@pytest.fixture(scope="module")
def labelled(tmp_path_factory: pytest.TempPathFactory) -> Data:
    folder = synthetic.make(tmp_path_factory.mktemp("certificate") / "photos", num=6, size=(40, 48))
    return gather(recipe({"data": str(folder)})).inspected.data


@pytest.fixture
def source(labelled: Data) -> Source:
    count = len(labelled.classes)
    known = Description(labelled.classes, ((9, 9, 9),) * count, (32, 32), "squash", {"name": "unet"})
    made = Source(None, known)  # type: ignore[arg-type]
    made.__dict__["network"] = by_colour(count)  # the segmenter is never asked
    return made


def by_colour(count: int, shift: float = 0.0, noise: float = 0.0) -> Network:
    """A network that goes by the colours of single pixels. shift: for the second class. noise: of each logit."""
    mixing = np.random.default_rng(3).normal(0, 0.02, (count, 3)).astype(np.float32)

    def network(pixels: np.ndarray) -> np.ndarray:
        logits = np.einsum("ck,nkhw->nchw", mixing, pixels - 128)
        logits[:, 1] += shift
        return (logits + noise * np.random.default_rng(1).normal(size=logits.shape)).astype(np.float32)

    return network


def certified(
    source: Source, folder: Path, labelled: Data | None, photos: Data, *, written: Written | None = None, **changes: Any
) -> certificate.Certificate:
    """The certificate of a file that another runtime answers: as the trained network does, unless `network` is given."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.other"
    path.write_bytes(b"some bytes")
    network = changes.pop("network", source.network)
    given = written or Written(source.running(network, RUNTIME), ("one note",), facts={"layers": 3})
    paths = [Path(record.image) for record in photos]
    options = {"opset": 17, "scales": (1, 2)}
    return certificate.certify(
        source,
        given,
        path,
        target="onnx",
        options=options,
        judge=certificate.Judge(source.predictor, paths, labelled),
        photos_of="some photos",
        **changes,
    )


def test_what_answers_the_same_loses_nothing(source: Source, labelled: Data, tmp_path: Path) -> None:
    found = certified(source, tmp_path, labelled, labelled)
    assert found.certified
    assert (found.agreement.pixels_changed, found.agreement.max_logit_difference) == (0.0, 0.0)
    assert found.agreement.images == len(labelled)
    assert found.loss is not None
    assert (found.loss.change, found.loss.low, found.loss.high) == (0.0, 0.0, 0.0)
    assert found.loss.trained == found.loss.exported > 0
    assert set(found.latency_ms) == {"exported", "trained"}
    assert found.runtime == RUNTIME
    assert "one note" in found.notes


def test_the_change_of_each_class_stands_in_it(source: Source, labelled: Data, tmp_path: Path) -> None:
    other = by_colour(len(labelled.classes), shift=0.5)
    loss = certified(source, tmp_path, labelled, labelled, network=other, max_drop=1.0).loss
    assert loss is not None
    values = [value for value, _, _ in loss.classes.values() if value is not None]
    assert list(loss.classes) == list(labelled.classes)
    assert np.mean(values) == pytest.approx(loss.change)
    assert any(value != 0 for value in values)


def test_images_without_anything_to_score_are_no_score_of_nought(
    source: Source, labelled: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskwright.metrics.scores import Scores

    monkeypatch.setattr(Scores, "__getitem__", lambda self, name: None)
    assert certified(source, tmp_path, labelled, labelled).loss is None


def test_it_is_read_back_as_it_was_written(source: Source, labelled: Data, tmp_path: Path) -> None:
    found = certified(source, tmp_path, labelled, labelled)
    assert certificate.load(tmp_path / "model.other") == found.to_json()


def test_changes_are_counted_pixel_by_pixel(source: Source, labelled: Data, tmp_path: Path) -> None:
    other = by_colour(len(labelled.classes), shift=0.5)
    found = certified(source, tmp_path, labelled, labelled, network=other, max_drop=1.0)
    trained, exported = source.predictor, source.running(other, RUNTIME)
    maps = [(trained(r.image).label_map, exported(r.image).label_map) for r in labelled]  # type: ignore[union-attr]
    pixels = sum(a.size for a, _ in maps)
    assert found.agreement.pixels_changed == sum(int((a != b).sum()) for a, b in maps) / pixels > 0
    assert found.agreement.max_logit_difference is not None
    assert 0 < found.agreement.max_logit_difference <= 0.5 + 1e-4


@pytest.mark.parametrize("with_labels", [True, False])
def test_what_loses_too_much_is_refused_and_says_how_much(
    source: Source, labelled: Data, tmp_path: Path, with_labels: bool
) -> None:
    def shuffled(pixels: np.ndarray) -> np.ndarray:
        return np.roll(source.network(pixels), 1, axis=1)  # type: ignore[arg-type]

    words = "mean IoU" if with_labels else "pixels answered differently"
    with pytest.raises(ModelError, match=words) as refused:
        certified(source, tmp_path, labelled if with_labels else None, labelled, network=shuffled)
    assert "--max-drop" in str(refused.value)
    assert not certificate.beside(tmp_path / "model.other").exists()
    accepted = certified(source, tmp_path, labelled if with_labels else None, labelled, network=shuffled, max_drop=1.0)
    assert accepted.agreement.pixels_changed > 0.5


def test_numbers_that_are_not_finite_are_refused(source: Source, labelled: Data, tmp_path: Path) -> None:
    def broken(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(source.network(pixels)) * np.float32("nan")

    with pytest.raises(ModelError, match="finite"):
        certified(source, tmp_path, labelled, labelled, network=broken, max_drop=1.0)


def test_what_runs_nowhere_is_written_only_when_asked_for(source: Source, labelled: Data, tmp_path: Path) -> None:
    twin = source.running(source.network, "the same graph elsewhere")
    nowhere = Written(None, twin=twin, twin_of="the traced graph")
    with pytest.raises(ModelError, match="--uncertified"):
        certified(source, tmp_path, labelled, labelled, written=nowhere)
    found = certified(source, tmp_path, labelled, labelled, written=nowhere, uncertified=True)
    assert not found.certified
    assert found.runtime == "none here"
    assert found.checked == "the traced graph in its place"
    assert set(found.latency_ms) == {"twin", "trained"}


def test_without_labels_it_is_said_that_no_score_was_measured(source: Source, labelled: Data, tmp_path: Path) -> None:
    heard: list[str] = []
    with events.listening(lambda event: heard.append(event.fields.get("text", ""))):
        found = certified(source, tmp_path, None, labelled)
    assert found.loss is None
    assert any("no labelled images that can be scored" in text for text in heard)


DAMAGES: dict[str, tuple[Any, str]] = {
    "no JSON": (lambda text: text[:-20], "damaged"),
    "a list": (lambda text: "[]", "damaged"),
    "no fingerprints": (lambda text: text.replace('"fingerprints"', '"fingers"'), "damaged"),
    "another figure": (lambda text: text.replace('"max_drop": 0.01', '"max_drop": 0.02'), "was changed"),
    "newer": (
        lambda text: text.replace('"maskwright": "0.1.0", "format": 1', '"maskwright": "0.1.0", "format": 9'),
        "newer maskwright",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_certificate_is_told_in_one_sentence(
    source: Source, labelled: Data, tmp_path: Path, damage: str
) -> None:
    certified(source, tmp_path, None, labelled)
    place = certificate.beside(tmp_path / "model.other")
    change, words = DAMAGES[damage]
    text = change(json.dumps(json.loads(place.read_text())))
    place.write_text(text)
    with pytest.raises(ModelError, match=words):
        certificate.load(tmp_path / "model.other")


def test_a_file_without_a_certificate_says_so(tmp_path: Path) -> None:
    (tmp_path / "model.other").write_bytes(b"")
    with pytest.raises(ModelError, match="has no certificate"):
        certificate.load(tmp_path / "model.other")


@pytest.mark.parametrize("limit", [-0.1, 1.1, float("nan")])
def test_a_limit_that_is_no_share_is_refused(limit: float) -> None:
    with pytest.raises(RecipeError, match="--max-drop"):
        certificate.check_limit(limit)


def test_a_known_picture_tells_another_model(source: Source, labelled: Data) -> None:
    count = len(labelled.classes)
    probe = agreement.probe(source.predictor)
    rounded = agreement.probe(source.running(by_colour(count, noise=1e-5), RUNTIME))
    other = agreement.probe(source.running(by_colour(count, shift=0.5), RUNTIME))
    assert certificate.near(probe, rounded) == []
    assert certificate.near(probe, other)
    assert certificate.near(probe, {})
    assert certificate.near(probe, {name: np.full_like(value, np.nan) for name, value in probe.items()})


def objects(*boxes: tuple[int, int, int, int], label: int = 0, score: float = 0.9) -> Instances:
    size, runs = (60, 80), []
    for x0, y0, x1, y1 in boxes:
        mask = np.zeros(size, bool)
        mask[y0:y1, x0:x1] = True
        runs.append(run_lengths.of_mask(mask))
    number = len(boxes)
    return Instances(
        np.full(number, label),
        np.full(number, score, np.float32),
        np.array(boxes, float).reshape(-1, 4),
        tuple(runs),
        size,
        ("a", "b"),
    )


def test_objects_are_held_against_the_nearest_of_their_class() -> None:
    one = objects((0, 0, 20, 20), (40, 10, 70, 40))
    assert agreement.matched(one, one) == (2, 0, 1.0, 0.0)
    assert agreement.matched(one, one.only(np.array([1, 0])))[:3] == (2, 0, 1.0)
    assert agreement.matched(one, one.only(np.array([0])))[:2] == (2, 1)
    assert agreement.matched(one, replace(one, labels=np.array([1, 0])))[:2] == (2, 2)
    nearly = objects((0, 0, 20, 20), (40, 10, 70, 39), score=0.8)
    count, unmatched, iou, difference = agreement.matched(one, nearly)
    assert (count, unmatched, iou) == (2, 0, 29 / 30)
    assert difference == pytest.approx(0.1, abs=1e-6)


def test_the_cover_goes_by_classes_and_not_by_order() -> None:
    one = objects((0, 0, 20, 20), (10, 10, 30, 30))
    turned = one.only(np.array([1, 0]))
    assert np.array_equal(agreement.cover(one), agreement.cover(turned))
    assert not np.array_equal(agreement.cover(one), agreement.cover(replace(one, labels=np.array([0, 1]))))
    assert not np.array_equal(agreement.cover(one), agreement.cover(one.only(np.array([0]))))


def test_a_folder_is_never_replaced_by_a_file(tmp_path: Path) -> None:
    (tmp_path / "b.txt").mkdir()
    (tmp_path / "b.txt" / "precious").write_text("old")

    def fill() -> None:
        with files.staged(tmp_path) as folder:
            for name in ("a.txt", "b.txt"):
                (folder / name).write_text("new")

    with pytest.raises(SetupError, match=r"b\.txt` is a folder"):
        fill()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b.txt", "precious"]


def test_a_staged_folder_leaves_all_or_nothing(tmp_path: Path) -> None:
    (tmp_path / "model.pkg").mkdir()
    (tmp_path / "model.pkg" / "old").write_text("old")

    def fail() -> None:
        with files.staged(tmp_path) as folder:
            (folder / "a.txt").write_text("new")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["model.pkg"]
    with files.staged(tmp_path) as folder:
        (folder / "a.txt").write_text("new")
        (folder / "model.pkg").mkdir()
        (folder / "model.pkg" / "new").write_text("new")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "model.pkg"]
    assert [path.name for path in (tmp_path / "model.pkg").iterdir()] == ["new"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ((-0.00001, -0.00004, 0.00004), "+0.0000 (+0.0000 to +0.0000)"),
        ((-0.0123, -0.02, 0.001), "-0.0123 (-0.0200 to +0.0010)"),
    ],
)
def test_a_change_of_nothing_has_no_minus(change: tuple[float, float, float], words: str) -> None:
    loss = certificate.Loss("miou", 0.5, 0.5 + change[0], *change, images=2, ids="", classes={})
    assert loss.words().endswith(f": {words}")
