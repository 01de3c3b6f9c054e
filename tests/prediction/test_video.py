"""Video: as many frames, the same size and speed, turned upright, colours that stay; damage ends in one sentence."""

import csv
import shutil
import tracemalloc
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import maskwright as mw
from maskwright.core import events
from maskwright.core.errors import DataError, RecipeError
from maskwright.data import synthetic
from maskwright.imaging.images import Fitting
from maskwright.imaging.palette import class_colours
from maskwright.prediction import video
from maskwright.prediction.predictor import Predictor

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
    times: Sequence[int] | None = None,
) -> Path:
    """A picture that wanders to the right, or other ones by their number. times: of the frames, in milliseconds."""
    image = synthetic.truth(1, 99, size=size)[0].image
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(frames if times is None else len(times)):
            pixels = np.roll(image, 4 * number, 1) if picture is None else picture(number)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
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
        found = np.exp(settle(logits, Fitting((4, 4), (4, 4), (0, 0, 4, 4))))
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
    assert not (tmp_path / "out").exists()


def test_a_video_without_frames_is_refused(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.avi", frames=40, codec="mpeg4")
    data = source.read_bytes()
    (tmp_path / "b.avi").write_bytes(data[: data.index(b"movi") + 4])
    with pytest.raises(DataError, match=r"b\.avi: (holds no frame|is no video)"):
        video.predict_video(mw.load(GOLDEN), tmp_path / "b.avi", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "codec", "told"),
    [("a.avi", "mpeg4", " of about 60 frames could be read"), ("a.mkv", "libx264", " of 6.0 seconds could be read")],
)
def test_a_video_that_ends_too_early_is_written_as_far_as_it_goes(
    tmp_path: Path, name: str, codec: str, told: str
) -> None:
    source = clip(tmp_path / name, frames=60, codec=codec)
    source.write_bytes(source.read_bytes()[: source.stat().st_size * 2 // 3])
    written = video.predict_video(mw.load(GOLDEN), source, tmp_path / "out")
    assert 0 < written.images < 60
    assert len(shown(tmp_path / "out" / "a.mp4")[0]) == written.images
    assert "is cut short" in written.failed[str(source)]
    assert told in written.failed[str(source)]


UNEVEN = [*range(0, 1000, 50), *range(1000, 9000, 1000)]
LATE = list(range(5000, 6000, 100))


@pytest.mark.parametrize("times", [UNEVEN, LATE], ids=["uneven", "late"])
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_a_whole_video_is_not_cut_short_whatever_its_times(tmp_path: Path, name: str, times: list[int]) -> None:
    source = clip(tmp_path / name, times=times)
    written = video.predict_video(mw.load(GOLDEN), source, tmp_path / "out")
    assert (written.images, written.failed) == (len(times), {})
    before, after = shown(source)[1], shown(tmp_path / "out" / "a.mp4")[1]
    np.testing.assert_allclose(after, before, atol=2e-3)
    first = {int(row["frame"]): float(row["seconds"]) for row in rows(tmp_path / "out" / "a.csv")}
    np.testing.assert_allclose([first[number] for number in range(len(times))], before, atol=1e-3)


def test_frames_without_times_are_counted_at_the_rate(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.h264", frames=6)  # pictures alone; FFmpeg reads such a file at 25 a second
    written = video.predict_video(mw.load(GOLDEN), source, tmp_path / "out")
    assert (written.images, written.failed) == (6, {})
    seconds = sorted({float(row["seconds"]) for row in rows(tmp_path / "out" / "a.csv")})
    np.testing.assert_allclose(seconds, np.arange(6) / 25, atol=1e-3)
    np.testing.assert_allclose(shown(tmp_path / "out" / "a.mp4")[1], np.arange(6) / 25, atol=1e-3)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.mark.parametrize("name", ["a.mp4", "a.avi"])
@pytest.mark.parametrize("link", [False, True])
def test_the_folder_of_the_clip_is_left_alone(tmp_path: Path, name: str, link: bool) -> None:
    home = tmp_path / "clips"
    home.mkdir()
    source = clip(home / name, frames=2, codec="mpeg4")
    for mine in ("a.csv", "a.mp4"):
        if not (home / mine).exists():
            (home / mine).write_bytes(b"mine")
    before = content(home)
    if link:
        (tmp_path / "link").symlink_to(home)
        (tmp_path / name).symlink_to(source)
    pairs = [(source, home)] if not link else [(source, tmp_path / "link"), (tmp_path / name, home)]
    for given, out in pairs:
        with pytest.raises(RecipeError, match=r"--out: .*; choose another folder"):
            video.predict_video(mw.load(GOLDEN), given, out)
    assert content(home) == before
    assert video.predict_video(mw.load(GOLDEN), source, home / "out").images == 2


def growing(path: Path) -> Path:
    """Frames of 80 x 100, then of 60 x 76, then of 80 x 100 again: MPEG transport streams can be joined end to end."""
    parts = [
        clip(path.with_name(f"{n}.ts"), size=size, times=range(800 * n, 800 * n + 800, 100))
        for n, size in enumerate(((80, 100), (60, 76), (80, 100)))
    ]
    with path.open("wb") as joined:
        for part in parts:
            with part.open("rb") as file:
                shutil.copyfileobj(file, joined)
    return path


@pytest.mark.parametrize("way", [{}, {"tiled": True}], ids=str)
def test_smoothing_starts_anew_when_the_pictures_change_their_size(tmp_path: Path, way: dict[str, bool]) -> None:
    source, predictor = growing(tmp_path / "a.ts"), mw.load(GOLDEN, **way)
    heard: list[events.Event] = []
    with events.listening(heard.append):
        written = video.predict_video(predictor, source, tmp_path / "out", smooth=0.6)
    frames = shown(source)[0]
    assert written.images == len(frames)
    assert [event.name for event in heard if event.name in ("say", "warn")] == ["warn"], "said once"
    changes = [0, *(n for n in range(1, len(frames)) if frames[n].shape != frames[n - 1].shape)]
    assert len(changes) == 3
    table = rows(tmp_path / "out" / "a.csv")
    for number in changes:
        own = {r["class"]: int(r["pixels"]) for r in table if int(r["frame"]) == number}
        alone = dict(zip(predictor.classes, predictor(frames[number]).areas(), strict=True))
        assert own == {name: count for name, count in alone.items() if count}


@pytest.mark.slow
def test_memory_with_windows_holds_a_few_frames_of_probabilities_at_most(tmp_path: Path) -> None:
    height, width = 400, 480
    source = clip(
        tmp_path / "a.mp4", frames=16, size=(height, width), picture=lambda n: np.full((400, 480, 3), n, np.uint8)
    )
    known = mw.load(GOLDEN).description

    def network(pixels: np.ndarray) -> np.ndarray:
        return np.zeros((1, len(known.classes), *pixels.shape[2:]), np.float32)

    one = len(known.classes) * height * width * 4
    for smooth, most in ((0.0, 4), (0.5, 8)):
        tracemalloc.start()
        video.predict_video(
            Predictor(network, known, runtime="torch", tiled=True), source, tmp_path / "o", smooth=smooth
        )
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < most * one, smooth


def test_options_that_cannot_be_are_refused(tmp_path: Path) -> None:
    source = clip(tmp_path / "a.mp4", frames=2)
    with pytest.raises(RecipeError, match="--smooth"):
        video.predict_video(mw.load(GOLDEN), source, tmp_path / "out", smooth=1.0)
    for given in ({"cutout": "disc"}, {"probabilities": "npz"}):
        with pytest.raises(RecipeError, match="is for images"):
            mw.predict(str(GOLDEN), str(source), out=str(tmp_path / "out"), **given)
    with pytest.raises(RecipeError, match="is for videos"):
        mw.predict(str(GOLDEN), str(tmp_path), out=str(tmp_path / "out"), smooth=0.5)
