"""`predict` and `evaluate` from the command line: test-time options, probabilities, windows, video, and what they refuse."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import maskwright as mw
from maskwright import cli
from maskwright.data import synthetic
from maskwright.imaging import draw, images

GOLDEN = Path(__file__).parents[1] / "golden" / "bundle-1"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return synthetic.make(tmp_path_factory.mktemp("predict") / "photos", num=4, size=(70, 90))


def asked(capsys: pytest.CaptureFixture[str], *tokens: object) -> tuple[int, dict[str, Any]]:
    code = cli.run([str(token) for token in tokens], as_json=True)
    return code, json.loads(capsys.readouterr().out)


def masks(folder: Path) -> list[np.ndarray]:
    return [images.read(path) for path in sorted((folder / "masks").rglob("*.png"))]


def test_every_option_reaches_the_predictor(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, list[str]] = {
        "plain": [],
        "flip": ["--flip"],
        "no-flip": ["--no-flip"],
        "scales": ["--scales", "0.5,1,2"],
        "one": ["--scales", "1"],
        "tiles": ["--tiles"],
        "overlap": ["--tiles", "--overlap", "0.6"],
    }
    found = {}
    for name, tokens in options.items():
        code, answer = asked(capsys, "predict", GOLDEN, photos, "--out", tmp_path / name, *tokens)
        assert (code, answer["images"], answer["failed"]) == (0, 4, {})
        found[name] = np.concatenate([mask.ravel() for mask in masks(tmp_path / name)])
    assert (found["plain"] == found["no-flip"]).all()
    assert (found["plain"] == found["one"]).all()
    for name in ("flip", "scales", "tiles"):
        assert (found["plain"] != found[name]).any(), name
    assert (found["tiles"] != found["overlap"]).any()


def test_scores_say_how_they_were_made_and_are_those_of_the_masks(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for tokens, words in ([["--flip"], "(argmax, tta: flip)"], [[], "(argmax)"]):
        code, answer = asked(capsys, "evaluate", GOLDEN, photos, *tokens)
        assert code == 0
        assert words in answer["convention"]
        asked(capsys, "predict", GOLDEN, photos, "--out", tmp_path / "out", *tokens)
        again = mw.evaluate(str(tmp_path / "out" / "masks"), str(photos))
        assert again.scores["miou"] == pytest.approx(answer["headlines"]["miou"]["value"], abs=1e-12)


@pytest.mark.slow
def test_both_runtimes_score_the_same(photos: Path) -> None:
    for options in ({"flip": True}, {"tiles": True, "flip": True}, {"scales": "1"}):
        scores = [mw.evaluate(str(GOLDEN), str(photos), runtime=r, **options).scores["miou"] for r in ("onnx", "torch")]
        assert scores[0] == pytest.approx(scores[1], abs=1e-9)


def test_probabilities_and_video_from_the_command_line(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = asked(
        capsys, "predict", GOLDEN, photos, "--out", tmp_path / "a", "--probabilities", "npz", "--no-overlays"
    )
    assert code == 0
    assert len(list((tmp_path / "a" / "probabilities").rglob("*.npz"))) == 4
    assert not (tmp_path / "a" / "overlays").exists()
    av = pytest.importorskip("av")
    with av.open(str(tmp_path / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    code, answer = asked(capsys, "predict", GOLDEN, tmp_path / "clip.mp4", "--out", tmp_path / "b", "--smooth", "0.5")
    assert (code, answer["frames"]) == (0, 3)
    assert {path.name for path in (tmp_path / "b").iterdir()} == {"clip.mp4", "clip.csv"}


@pytest.mark.parametrize(
    ("tokens", "code", "message"),
    [
        (["--scales", "big"], 2, "--scales: `big` is no list of numbers; write them as 0.75,1,1.25"),
        (["--scales", "0"], 2, "command line: --scales: cannot be 0; `scales` are numbers above 0"),
        (["--scales", "1,9"], 2, "command line: --scales: cannot be 1,9; "),
        (["--overlap", "0.5"], 2, "command line: --overlap: is for windows, and this model sees whole images"),
        (["--overlap", "0.95"], 2, "--overlap: an overlap of 0.95 cannot be; it can be 0 to 0.9"),
        (["--probabilities", "tiff"], 2, "probabilities are not written as `tiff`"),
        (["--smooth", "0.5"], 2, "--smooth: is for videos"),
        (["--scales", "0.5,1", "--runtime", "onnx"], 4, "add `--runtime torch`"),
    ],
)
def test_what_cannot_be_is_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], tokens: list[str], code: int, message: str
) -> None:
    given, answer = asked(capsys, "predict", GOLDEN, photos, "--out", tmp_path / "out", *tokens)
    assert given == code
    assert message in answer["error"]["message"]
    assert not (tmp_path / "out").exists()
    if tokens[0] in ("--scales", "--overlap") and code == 2:
        assert asked(capsys, "evaluate", GOLDEN, photos, *tokens)[0] == code


@pytest.mark.parametrize("content", [b"", b"this is no video" * 50])
def test_a_broken_video_leaves_nothing(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("av")
    (tmp_path / "b.mp4").write_bytes(content)
    (tmp_path / "kept").mkdir()
    for out in ("new/deep", "kept"):
        assert asked(capsys, "predict", GOLDEN, tmp_path / "b.mp4", "--out", tmp_path / out)[0] == 3
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["b.mp4", "kept"]


def test_results_show_themselves_in_a_notebook(photos: Path, tmp_path: Path) -> None:
    predicted = mw.predict(str(GOLDEN), str(photos), out=str(tmp_path / "out"))
    assert "<img" in predicted._repr_html_()
    assert "4 images" in predicted._repr_html_()
    evaluated = mw.evaluate(str(GOLDEN), str(photos), convention="hydrogen-torch")
    assert f"{evaluated.scores['miou']:.3f}" in evaluated._repr_html_()
    assert "hydrogen-torch" in evaluated._repr_html_()
    assert all(name in evaluated.scores._repr_html_() for name in evaluated.scores.classes)
    (tmp_path / "<i>").mkdir()
    (tmp_path / "<i>" / "a.png").write_bytes(draw.encode(np.zeros((9, 9, 3), np.uint8), "png"))
    odd = mw.predict(str(GOLDEN), str(tmp_path / "<i>"), out=str(tmp_path / "<b>"))
    assert "<b>" not in odd._repr_html_()
