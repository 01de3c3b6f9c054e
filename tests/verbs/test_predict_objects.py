"""`maskwright predict` with a model that finds objects: the same command, what it writes, and which options it refuses."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import maskwright as mw
from maskwright import cli
from maskwright.bundles.bundle import Description
from maskwright.data import synthetic
from maskwright.prediction import predictor

GOLDEN = Path(__file__).parents[1] / "golden" / "bundle-1"
DOCUMENTATION = Path(__file__).parents[2] / "docs" / "json.md"
DESCRIPTION = Description(
    ("cat", "dog"), ((1, 2, 3), (4, 5, 6)), (60, 80), "squash", {"name": "mask_rcnn"}, task="instance"
)


def network(pixels: np.ndarray) -> tuple[np.ndarray, ...]:
    """Three objects: the first two share pixels, the last is unsure."""
    boxes = np.array([[5, 5, 45, 45], [25, 5, 75, 45], [50, 46, 60, 58.0]])
    return boxes, np.array([1, 2, 1]), np.array([0.9, 0.8, 0.3], np.float32), np.ones((3, 1, 28, 28), np.float32)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.make(tmp_path_factory.mktemp("predict") / "photos", num=3, size=(60, 80))


@pytest.fixture(autouse=True)
def bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    """`finder` is a bundle whose model finds objects; other names are what they are."""
    real = predictor.load

    def load(path: Any, **how: Any) -> Any:
        if str(path) != "finder":
            return real(path, **how)
        asked = {"tiled": how.get("tiled", False), "tta": how.get("tta"), "overlap": how.get("overlap")}
        return predictor.made(network, DESCRIPTION, "test", thresholds=None, **asked)

    monkeypatch.setattr(predictor, "load", load)


def asked(capsys: pytest.CaptureFixture[str], *tokens: object) -> tuple[int, dict[str, Any]]:
    code = cli.run([str(token) for token in tokens], as_json=True)
    return code, json.loads(capsys.readouterr().out)


def areas(out: Path) -> list[int]:
    with (out / "predictions.csv").open(newline="") as file:
        return [int(row["area"]) for row in csv.DictReader(file)]


def test_thresholds_of_this_prediction(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = {
        "plain": ([], {"cat": 6, "dog": 3}, [1600, 2000, 120]),
        "score": (["--score", "0.5"], {"cat": 3, "dog": 3}, [1600, 2000]),
        "exclusive": (["--exclusive"], {"cat": 6, "dog": 3}, [1600, 1200, 120]),
        "none": (["--score", "1"], {"cat": 0, "dog": 0}, []),
    }
    for name, (tokens, objects, sizes) in expected.items():
        out = tmp_path / name
        code, answer = asked(capsys, "predict", "finder", photos, "--out", out, *tokens)
        assert (code, answer["images"], answer["objects"]) == (0, 3, objects)
        assert areas(out) == sizes * 3
    assert cli.run(["predict", "finder", str(photos), "--out", str(out), "--score", "1"]) == 0
    assert "no objects" in capsys.readouterr().out


def test_the_answer_has_the_documented_keys(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = re.search(r"^\| `predict` of objects \| (.*) \|$", DOCUMENTATION.read_text(encoding="utf-8"), re.MULTILINE)
    assert said is not None
    keys = set(re.findall(r"`(\w+)`", re.sub(r"\([^)]*\)", "", said[1])))
    code, answer = asked(capsys, "predict", "finder", photos, "--out", tmp_path / "out", "--no-overlays")
    assert (code, set(answer) - {"schema", "next"}) == (0, keys)
    assert not (tmp_path / "out" / "overlays").exists()
    assert cli.run(["predict", "finder", str(photos), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"6\s+cat", shown)
    assert re.search(r"3\s+dog", shown)
    assert "6 of them have a score of 0.5 or more and are drawn" in " ".join(shown.split())
    assert "<img" in mw.predict("finder", str(photos), out=str(tmp_path / "out"))._repr_html_()


def test_the_panoptic_view(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tokens = ("predict", "finder", photos, "--panoptic", GOLDEN, "--score", "0.1")
    code, answer = asked(capsys, *tokens, "--out", tmp_path / "a")
    assert (code, answer["images"]) == (0, 3)
    album = tmp_path / "a" / "panoptic.json"
    code, scores = asked(capsys, "evaluate", album, album)
    assert (code, scores["headlines"]["pq"]["value"]) == (0, 1)
    asked(capsys, *tokens, "--out", tmp_path / "b", "--least-stuff", "0")
    num = [
        sum(
            len(entry["segments_info"])
            for entry in json.loads((tmp_path / name / "panoptic.json").read_text())["annotations"]
        )
        for name in ("a", "b")
    ]
    assert num[1] >= num[0] >= 9


@pytest.mark.parametrize(
    ("model", "tokens", "words"),
    [
        ("finder", ["--cutout", "cat"], "--cutout: is for models that label pixels"),
        ("finder", ["--probabilities", "npz"], "--probabilities: is for models that label pixels"),
        ("finder", ["--tiles"], "--tiles: is for models that label pixels"),
        ("finder", ["--scales", "0.5,1"], "--scales: objects are found at one size"),
        ("finder", ["--smooth", "0.5"], "--smooth: is for videos"),
        ("finder", ["--score", "1.5"], "--score: can be 0 to 1, not 1.5"),
        ("finder", ["--score", "nan"], "--score: can be 0 to 1, not nan"),
        ("finder", ["--least-stuff", "3"], "--least-stuff: is for the panoptic view"),
        ("finder", ["--panoptic", "finder"], "--panoptic: finds objects, too"),
        ("finder", ["--panoptic", GOLDEN, "--least-stuff", "-1"], "--least-stuff: can be 0 or more, not -1"),
        (GOLDEN, ["--score", "0.5"], "--score: is for models that find objects"),
        (GOLDEN, ["--exclusive"], "--exclusive: is for models that find objects"),
        (GOLDEN, ["--panoptic", GOLDEN], "--panoptic: is for models that find objects"),
    ],
)
def test_options_of_the_other_task_are_refused_by_name(
    model: Any, tokens: list[Any], words: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, answer = asked(capsys, "predict", model, photos, "--out", tmp_path / "out", *tokens)
    assert code == 2
    assert words in answer["error"]["message"]
    assert not (tmp_path / "out").exists()


def test_a_video_has_its_objects_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width, stream.pix_fmt = 60, 80, "yuv420p"
        for _ in range(5):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((60, 80, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    out = tmp_path / "out"
    code, answer = asked(capsys, "predict", "finder", tmp_path / "clip.mp4", "--out", out, "--score", "0.5")
    assert (code, answer["frames"], answer["objects"]) == (0, 5, {"cat": 5, "dog": 5})
    with (out / "clip.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == [str(number) for number in range(5) for _ in range(2)]
    assert {(row["class"], row["area"]) for row in rows} == {("cat", "1600"), ("dog", "2000")}
    with av.open(str(out / "clip.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(60, 80, 3)] * 5
    assert all(frame[10:40, 10:40].max() > 50 for frame in frames)
    for option in (["--smooth", "0.5"], ["--panoptic", str(GOLDEN)]):
        code, answer = asked(capsys, "predict", "finder", tmp_path / "clip.mp4", "--out", tmp_path / "no", *option)
        assert (code, option[0] in answer["error"]["message"]) == (2, True)
