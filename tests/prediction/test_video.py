"""Video: as many frames, the same size and speed, turned upright, colours that stay; damage ends in one sentence."""

import csv
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import maskwright as mw
from maskwright.core.errors import DataError, RecipeError
from maskwright.data import synthetic
from maskwright.imaging.palette import class_colours
from maskwright.prediction import video

av = pytest.importorskip("av")

GOLDEN = Path(__file__).parents[1] / "golden" / "bundle-1"
UPRIGHT = "00010000 00000000 00000000 00000000 00010000 00000000 00000000 00000000 40000000"
QUARTER = "00000000 00010000 00000000 ffff0000 00000000 00000000 00000000 00000000 40000000"  # shown turned clockwise


def clip(
    path: Path,
    *,
    frames: int = 8,
    size: tuple[int, int] = (80, 100),
    rate: int = 10,
    codec: str = "libx264",
    picture: Callable[[int], np.ndarray] | None = None,
) -> Path:
    """A picture that wanders to the right, or other ones by their number."""
    image = synthetic.truth(1, 99, size=size)[0].image
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for number in range(frames):
            pixels = np.roll(image, 4 * number, 1) if picture is None else picture(number)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def turned(source: Path, target: Path) -> Path:
    """The same file with a display matrix of a quarter turn, as phones write it."""
    data, matrix = source.read_bytes(), bytes.fromhex(UPRIGHT)
    at = data.index(matrix, data.index(b"tkhd"))
    target.write_bytes(data[:at] + bytes.fromhex(QUARTER) + data[at + len(matrix) :])
    return target


def shown(path: Path) -> tuple[list[np.ndarray], list[float]]:
    """The frames upright, and their times."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [video._upright(frame) for frame in frames], [float(frame.time) for frame in frames]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as table:
        return list(csv.DictReader(table))


@pytest.mark.parametrize("size", [(80, 100), (62, 98)])
def test_frames_size_and_times_stay(tmp_path: Path, size: tuple[int, int]) -> None:
    source = clip(tmp_path / "a.mp4", size=size, rate=12)
    written = video.predict_video(mw.load(GOLDEN), source, tmp_path / "out")
    before, after = shown(source), shown(tmp_path / "out" / "a.mp4")
    assert written.images == len(before[0]) == len(after[0]) == 8
    assert {frame.shape for frame in after[0]} == {(*size, 3)}
    np.testing.assert_allclose(after[1], before[1], atol=1e-3)
    table = rows(tmp_path / "out" / "a.csv")
    for number, seconds in enumerate(before[1]):
        own = [row for row in table if int(row["frame"]) == number]
        assert sum(int(row["pixels"]) for row in own) == size[0] * size[1]
        assert sum(float(row["share"]) for row in own) == pytest.approx(1, abs=1e-4)
        assert float(own[0]["seconds"]) == pytest.approx(seconds, abs=1e-3)
    totals = {name: sum(int(r["pixels"]) for r in table if r["class"] == name) for name in written.pixels}
    assert totals == written.pixels


def test_a_turned_video_comes_out_upright(tmp_path: Path) -> None:
    source = turned(clip(tmp_path / "a.mp4"), tmp_path / "b.mp4")
    plain, tilted = shown(tmp_path / "a.mp4")[0], shown(source)[0]
    np.testing.assert_array_equal(tilted[0], np.rot90(plain[0], 3))
    video.predict_video(mw.load(GOLDEN), source, tmp_path / "out")
    assert {frame.shape for frame in shown(tmp_path / "out" / "b.mp4")[0]} == {(100, 80, 3)}


def test_a_frame_is_predicted_as_a_photo_and_keeps_its_colours(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mp4", frames=3)
    predictor = mw.load(GOLDEN)
    video.predict_video(predictor, source, tmp_path / "out")
    table = rows(tmp_path / "out" / "a.csv")
    for number, (before, after) in enumerate(zip(shown(source)[0], shown(tmp_path / "out" / "a.mp4")[0], strict=True)):
        label_map = predictor(before).label_map
        for index, name in enumerate(predictor.classes):
            counted = [int(r["pixels"]) for r in table if int(r["frame"]) == number and r["class"] == name]
            assert sum(counted) == (label_map == index).sum()
            if index and (label_map == index).sum() > 200:
                change = after[label_map == index].astype(float).mean(0) - before[label_map == index].mean(0)
                wanted = class_colours(predictor.classes)[index] - before[label_map == index].mean(0)
                assert (change * wanted).sum() > 0, "washed with its class's colour"


def test_smoothing_is_a_running_average_of_probabilities() -> None:
    settle = video._running_average(0.8, mw.load(GOLDEN).description)
    past = None
    for logits in np.random.default_rng(0).normal(0, 2, (6, 5, 4, 4)).astype(np.float32):
        now = np.exp(logits) / np.exp(logits).sum(0)
        past = now if past is None else 0.8 * past + 0.2 * now
        found = np.exp(settle(logits))
        np.testing.assert_allclose(found / found.sum(0), past, atol=1e-5)


def test_smoothing_calms_a_video_that_flickers(tmp_path: Path) -> None:
    predictor = mw.load(GOLDEN)

    def by_brightness(pixels: np.ndarray) -> np.ndarray:
        logits = np.zeros((1, 5, *pixels.shape[2:]), np.float32)
        bright = pixels.mean() > 128
        logits[0, 1 + bright] = 6.0 if bright else 1.0
        return logits

    predictor.network = by_brightness
    source = clip(
        tmp_path / "a.mp4", frames=12, picture=lambda number: np.full((80, 100, 3), 255 * (number % 2), np.uint8)
    )
    changes = {}
    for smooth in (0.0, 0.8):
        video.predict_video(predictor, source, tmp_path / f"{smooth}", smooth=smooth)
        seen = [row["class"] for row in rows(tmp_path / f"{smooth}" / "a.csv")]
        changes[smooth] = sum(a != b for a, b in pairwise(seen))
    assert changes[0.0] == 11
    assert changes[0.8] <= 2


def empty(source: Path, path: Path) -> None:
    path.write_bytes(b"")


def cut(source: Path, path: Path) -> None:
    path.write_bytes(source.read_bytes()[: source.stat().st_size // 2])


def words(source: Path, path: Path) -> None:
    path.write_bytes(b"this is not a video at all, " * 50)


@pytest.mark.parametrize("damage", [empty, cut, words])
def test_what_is_no_video_is_one_sentence(tmp_path: Path, damage: Callable[[Path, Path], None]) -> None:
    damage(clip(tmp_path / "a.mp4"), tmp_path / "b.mp4")
    with pytest.raises(DataError, match=r"b\.mp4: is (empty|no video)") as told:
        video.predict_video(mw.load(GOLDEN), tmp_path / "b.mp4", tmp_path / "out")
    assert "\n" not in str(told.value)
    assert not list((tmp_path / "out").iterdir())


def test_a_video_without_frames_is_refused(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.avi", frames=40, codec="mpeg4")
    data = source.read_bytes()
    (tmp_path / "b.avi").write_bytes(data[: data.index(b"movi") + 4])
    with pytest.raises(DataError, match=r"b\.avi: (holds no frame|is no video)"):
        video.predict_video(mw.load(GOLDEN), tmp_path / "b.avi", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "mpeg4"), ("a.mkv", "libx264")])
def test_a_video_that_ends_too_early_is_written_as_far_as_it_goes(tmp_path: Path, name: str, codec: str) -> None:
    source = clip(tmp_path / name, frames=60, codec=codec)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    written = video.predict_video(mw.load(GOLDEN), source, tmp_path / "out")
    assert 0 < written.images < 60
    assert len(shown(tmp_path / "out" / "a.mp4")[0]) == written.images
    assert "is cut short" in written.failed[str(source)]
    assert "of about 60 frames" in written.failed[str(source)]


def test_options_that_cannot_be_are_refused(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mp4", frames=2)
    with pytest.raises(RecipeError, match="--smooth"):
        video.predict_video(mw.load(GOLDEN), source, tmp_path / "out", smooth=1.0)
    for given in ({"cutout": "disc"}, {"probabilities": "npz"}):
        with pytest.raises(RecipeError, match="is for images"):
            mw.predict(str(GOLDEN), str(source), out=str(tmp_path / "out"), **given)
    with pytest.raises(RecipeError, match="is for videos"):
        mw.predict(str(GOLDEN), str(tmp_path), out=str(tmp_path / "out"), smooth=0.5)
