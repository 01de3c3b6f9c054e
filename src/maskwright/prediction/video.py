"""Predicting a video: an overlay video of the same size, speed and orientation, and a table of areas in every frame.

A class has one colour throughout. Frames are read, predicted and written one after another, so memory does not grow with
the length. Sound is left out.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.bundles.bundle import Description
from maskwright.core import events, files
from maskwright.core.errors import DataError, RecipeError
from maskwright.core.registry import missing_package
from maskwright.core.types import Instances, Prediction
from maskwright.core.words import counted
from maskwright.data.formats.pairing import readable
from maskwright.imaging import draw
from maskwright.imaging.draw_objects import drawn
from maskwright.imaging.images import Fitting
from maskwright.imaging.palette import class_colours
from maskwright.prediction import views
from maskwright.prediction.evaluation import THREADS, ordered
from maskwright.prediction.folders import Written
from maskwright.prediction.instances import InstancePredictor
from maskwright.prediction.object_folders import COLUMNS, rows_of
from maskwright.prediction.predictor import AnyPredictor

QUALITY = "20"  # of x264: 0 lossless, 51 worst; overlays have sharp edges, so better than its default of 23
ALMOST = 0.95  # of what a header promises: it may count frames that are never shown


def predict_video(predictor: AnyPredictor, path: Path, out: Path, *, smooth: float = 0.0) -> Written:
    """Writes `out/NAME.mp4`, the overlay, and `out/NAME.csv`: frame, seconds, class, pixels, share; of a model that finds
    objects a line for each of them (`object_folders.COLUMNS`).

    smooth: 0 to 0.99, how much of the frames before is kept in the running average of the probabilities; 0: every
      frame for itself, as always with objects.

    A video that ends too early is written as far as it can be read, and named in `failed`. Raises DataError when no frame
    can be read, RecipeError for another `smooth` and for the clip's own folder, SetupError when PyAV is not installed.
    """
    if not 0 <= smooth < 1:
        raise RecipeError(f"{smooth} is not a share", place="--smooth", hint="it can be 0 to 0.99, as 0.7")
    finds = isinstance(predictor, InstancePredictor)
    if smooth and finds:
        raise RecipeError("is for models that label pixels", place="--smooth", hint="leave it out")
    _check_apart(path, out)
    av, none = _av(), dict.fromkeys(predictor.classes, 0)
    written = Written(out, objects=none) if finds else Written(out, pixels=none)
    colours = class_colours(predictor.classes, predictor.description.multilabel)
    with _opened(av, path) as (container, stream), files.left_clean(out):
        files.check_writable(out)
        frames = _Frames(av, container, stream)
        with (
            files.written_whole(out / f"{path.stem}.csv") as table_file,
            files.written_whole(out / f"{path.stem}.mp4") as video_file,
            table_file.open("w", newline="", encoding="utf-8", errors="backslashreplace") as table,
            _Overlays(av, video_file, stream) as overlays,
        ):
            rows = csv.writer(table)
            rows.writerow(["frame", "seconds", *(COLUMNS if finds else ("class", "pixels", "share"))])
            answers = events.progress(
                _predicted(predictor, frames, smooth), "predict", _expected(container, stream), "frames"
            )
            for number, (frame, pixels, prediction) in enumerate(answers):
                overlays.add(_drawn(pixels, prediction, colours), frame)
                rows.writerows([number, f"{frame.time:.3f}", *row] for row in _tallied(prediction, written))
                written.images += 1
            if not written.images:
                why = f" ({frames.damage})" if frames.damage else ""
                raise DataError(f"holds no frame that can be read{why}", place=path, hint="copy or record it again")
    if told := frames.cut_short():
        written.failed[readable(str(path))] = f"{readable(str(path))}: is cut short: {told}"
    return written


def _drawn(pixels: np.ndarray, prediction: Prediction | Instances, colours: np.ndarray) -> np.ndarray:
    if isinstance(prediction, Instances):
        return drawn(pixels, prediction, colours)
    return draw.overlay(pixels, prediction.label_map, colours)


def _tallied(prediction: Prediction | Instances, written: Written) -> Iterator[tuple[Any, ...]]:
    """The lines of the table for one frame; what they count is added up."""
    if isinstance(prediction, Instances):
        for row in rows_of(prediction):
            written.objects[row[1]] += 1
            yield row
        return
    for name, count in zip(prediction.classes, prediction.areas(), strict=True):
        if count:
            written.pixels[name] += count
            yield name, count, f"{count / prediction.label_map.size:.6f}"


def _predicted(
    predictor: AnyPredictor, frames: Iterable[Any], smooth: float
) -> Iterator[tuple[Any, np.ndarray, Prediction | Instances]]:
    """Each frame, its upright pixels uint8 (H, W, 3), and what is seen in them."""
    if not smooth or isinstance(predictor, InstancePredictor):

        def alone(frame: Any) -> tuple[Any, np.ndarray, Prediction | Instances]:
            pixels = _upright(frame)
            return frame, pixels, predictor(pixels)

        yield from ordered(alone, frames, THREADS)
        return
    settle = _running_average(smooth, predictor.description)

    def work(frame: Any) -> tuple[Any, np.ndarray, tuple[np.ndarray, Fitting]]:
        pixels = _upright(frame)
        return frame, pixels, predictor.answer(pixels)

    # windows answer at the frame's own size, hundreds of megabytes for many classes: no frame waits for another then
    answered = map(work, frames) if predictor.tiled else ordered(work, frames, THREADS)
    for frame, pixels, (logits, fitting) in answered:
        yield frame, pixels, predictor.decoded(settle(logits, fitting), fitting, pixels)


class _Frames:
    """The frames of a video in the order they are shown, each later than the one before; stops at damage, which is then
    in `damage`. A frame without a time, or with one that goes back, follows the one before at the video's rate."""

    def __init__(self, av: Any, container: Any, stream: Any):
        self.av, self.container, self.stream, self.damage = av, container, stream, ""
        self.count, self.end = 0, 0.0  # frames that were read, and when the last of them ends, in seconds

    def __iter__(self) -> Iterator[Any]:
        step = max(1, round(1 / (float(self.stream.average_rate or 25) * float(self.stream.time_base))))
        due: int | None = None
        try:
            for frame in self.container.decode(self.stream):
                if frame.pts is None or (due is not None and frame.pts <= due - step):
                    frame.pts, frame.time_base = due or 0, self.stream.time_base
                due = frame.pts + step
                self.count += 1
                self.end = float((frame.pts + (frame.duration or step)) * frame.time_base)
                yield frame
        except self.av.error.FFmpegError as error:
            self.damage = str(error.strerror or error)

    def cut_short(self) -> str:
        """How much could be read, when that is not all; else nothing.

        All is what the header counts or, in a Matroska file, when it says that the last picture ends. The length times
        the rate is not: pictures may come unevenly, and the first of them late.
        """
        promised, length = self.stream.frames, _length(self.stream.metadata.get("DURATION", ""))
        why = f" ({self.damage})" if self.damage else ""
        if self.count < ALMOST * promised:
            return f"{self.count:,} of about {counted(promised, 'frame')} could be read{why}"
        if self.end < ALMOST * length:
            return f"{counted(self.count, 'frame')}, {self.end:.1f} of {length:.1f} seconds could be read{why}"
        return f"{counted(self.count, 'frame')} could be read{why}" if why else ""


class _Overlays:
    """An H.264 file that gets pictures at the times of the frames they were made of."""

    def __init__(self, av: Any, path: Path, source: Any):
        self.av, self.path, self.source = av, path, source
        self.stream: Any = None

    def __enter__(self) -> _Overlays:
        self.container = self.av.open(str(self.path), "w", format="mp4")
        return self

    def add(self, picture: np.ndarray, frame: Any) -> None:
        if self.stream is None:
            self.stream = self._begun(*picture.shape[:2])
        made = self.av.VideoFrame.from_ndarray(picture, format="rgb24")
        made.pts, made.time_base = frame.pts, frame.time_base
        self.container.mux(self.stream.encode(made))

    def __exit__(self, error: Any, *_: object) -> None:
        try:
            if error is None and self.stream is not None:
                self.container.mux(self.stream.encode(None))
        finally:
            self.container.close()

    def _begun(self, height: int, width: int) -> Any:
        codec = "libx264" if "libx264" in self.av.codecs_available else "mpeg4"
        stream = self.container.add_stream(codec, rate=self.source.average_rate or 25)
        stream.width, stream.height, stream.codec_context.time_base = width, height, self.source.time_base
        even = height % 2 == width % 2 == 0
        stream.pix_fmt = "yuv420p" if even or codec != "libx264" else "yuv444p"  # halved colours need even sides
        stream.options = {"crf": QUALITY} if codec == "libx264" else {}
        return stream


def _running_average(smooth: float, known: Description) -> Callable[[np.ndarray, Fitting], np.ndarray]:
    """Logits of a frame -> logits of its probabilities averaged with those of the frames before.

    Where a frame lies otherwise than the one before, its pixels are not those of the average, which starts anew.
    """
    past: list[tuple[np.ndarray, Fitting]] = []
    told = False

    def settle(logits: np.ndarray, fitting: Fitting) -> np.ndarray:
        nonlocal told
        now = views.probabilities(logits, known.multilabel)
        if past and past[0][1] != fitting:
            if not told:
                (height, width), (rows, columns) = past[0][1].original, fitting.original
                sizes = f"{width} x {height} to {columns} x {rows}"
                events.warn(f"the pictures change their size from {sizes}: smoothing starts anew at every such change")
            told = True
            past.clear()
        past[:] = [(now if not past else smooth * past[0][0] + (1 - smooth) * now, fitting)]
        return views.as_logits(past[0][0], known.multilabel)

    return settle


def _upright(frame: Any) -> np.ndarray:
    """A frame as uint8 RGB (H, W, 3), turned as the video says it is to be shown."""
    pixels = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4  # counterclockwise
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _expected(container: Any, stream: Any) -> int | None:
    """How many frames there may be, for the progress bar: their number in the header, or the length times the rate."""
    if stream.frames or not (container.duration and stream.average_rate):
        return stream.frames or None
    return round(container.duration / 1e6 * float(stream.average_rate))


def _length(text: str) -> float:
    """`00:01:02.500000000`, as Matroska files keep a length, in seconds; 0 for anything else."""
    try:
        hours, minutes, seconds = map(float, text.split(":"))
    except ValueError:
        return 0.0
    return 3600 * hours + 60 * minutes + seconds


def _check_apart(path: Path, out: Path) -> None:
    """Raises RecipeError when what is written could take the place of the clip, or of what lies beside it."""
    theirs = [mine for mine in (path, path.parent, path.resolve().parent) if mine.exists()]
    written = [ours for ours in (out, out / f"{path.stem}.mp4", out / f"{path.stem}.csv") if ours.exists()]
    if any(mine.samefile(ours) for mine in theirs for ours in written):
        what = f"{readable(str(out))} is where the clip itself lies, and files of its name would be written over"
        raise RecipeError(what, place="--out", hint="choose another folder")


@contextmanager
def _opened(av: Any, path: Path) -> Iterator[tuple[Any, Any]]:
    if not path.is_file() or not path.stat().st_size:
        raise DataError("is empty (0 bytes)" if path.is_file() else "not found", place=path)
    try:
        container = av.open(str(path))
    except (av.error.FFmpegError, OSError) as error:
        what = "is no video that can be read, or damaged from its first bytes on"
        raise DataError(f"{what} ({error.strerror or error})", place=path, hint="copy it again") from error
    with container:
        if not container.streams.video:
            raise DataError("holds no pictures", place=path)
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        yield container, stream


def _av() -> Any:
    try:
        import av
    except ModuleNotFoundError as error:
        raise missing_package("av", "a video") from error
    return av
