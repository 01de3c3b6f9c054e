"""Predicting a video: an overlay video of the same size, speed and orientation, and a table of areas in every frame.

A class has one colour throughout. Frames are read, predicted and written one after another, so memory does not grow with
the length. Sound is left out.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from maskwright.bundles.bundle import Description
from maskwright.core import events, files
from maskwright.core.errors import DataError, RecipeError
from maskwright.core.registry import missing_package
from maskwright.imaging import draw
from maskwright.imaging.images import Fitting
from maskwright.imaging.palette import class_colours
from maskwright.prediction import views
from maskwright.prediction.evaluation import THREADS, ordered
from maskwright.prediction.folders import Written
from maskwright.prediction.predictor import Predictor

SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".3gp", ".ts"})
QUALITY = "20"  # of x264: 0 lossless, 51 worst; overlays have sharp edges, so better than its default of 23
ALMOST = 0.95  # of the frames that a header promises: it may count some that are never shown
Answered = tuple[np.ndarray, np.ndarray, Fitting]


def is_video(path: str | Path) -> bool:
    return Path(path).suffix.lower() in SUFFIXES and Path(path).is_file()


def predict_video(predictor: Predictor, path: Path, out: Path, *, smooth: float = 0.0) -> Written:
    """Writes `out/NAME.mp4`, the overlay, and `out/NAME.csv`: frame, seconds, class, pixels, share.

    smooth: 0 to 0.99, how much of the frames before is kept in the running average of the probabilities; 0: every
      frame for itself.

    A video that ends too early is written as far as it can be read, and named in `failed`. Raises DataError when no frame
    can be read, RecipeError for another `smooth`, SetupError when PyAV is not installed.
    """
    if not 0 <= smooth < 1:
        raise RecipeError(f"{smooth} is not a share", place="--smooth", hint="it can be 0 to 0.99, as 0.7")
    files.check_writable(out)
    av = _av()
    written = Written(out, pixels=dict.fromkeys(predictor.classes, 0))
    settle = _running_average(smooth, predictor.description)
    colours = class_colours(predictor.classes, predictor.description.multilabel)
    with _opened(av, path) as (container, stream):
        expected, frames = _expected(container, stream), _Frames(av, container, stream)

        def work(frame: Any) -> tuple[Any, Answered]:
            pixels = _upright(frame)
            return frame, (pixels, *predictor.answer(pixels))

        with (
            files.written_whole(out / f"{path.stem}.csv") as table_file,
            files.written_whole(out / f"{path.stem}.mp4") as video_file,
            table_file.open("w", newline="") as table,
            _Overlays(av, video_file, stream) as overlays,
        ):
            rows = csv.writer(table)
            rows.writerow(["frame", "seconds", "class", "pixels", "share"])
            answers = events.progress(ordered(work, frames, THREADS), "predict", expected, "frames")
            for number, (frame, (pixels, logits, fitting)) in enumerate(answers):
                prediction = predictor.decoded(settle(logits), fitting)
                overlays.add(draw.overlay(pixels, prediction.label_map, colours), frame)
                size = prediction.label_map.size
                for name, count in zip(prediction.classes, prediction.areas(), strict=True):
                    if not count:
                        continue
                    rows.writerow([number, f"{frame.time or 0:.3f}", name, count, f"{count / size:.6f}"])
                    written.pixels[name] += count
                written.images += 1
            if not written.images:
                why = f" ({frames.damage})" if frames.damage else ""
                raise DataError(f"holds no frame that can be read{why}", place=path, hint="copy or record it again")
    if frames.damage or written.images < ALMOST * (expected or 0):
        promised = f" of about {expected}" if expected else ""
        why = f" ({frames.damage})" if frames.damage else ""
        written.failed[str(path)] = f"{path}: is cut short: {written.images}{promised} frames could be read{why}"
    return written


class _Frames:
    """The frames of a video in the order they are shown; stops at damage, which is then in `damage`."""

    def __init__(self, av: Any, container: Any, stream: Any):
        self.av, self.container, self.stream, self.damage = av, container, stream, ""

    def __iter__(self) -> Iterator[Any]:
        try:
            yield from self.container.decode(self.stream)
        except self.av.error.FFmpegError as error:
            self.damage = str(error.strerror or error)


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


def _running_average(smooth: float, known: Description) -> Callable[[np.ndarray], np.ndarray]:
    """Logits of a frame -> logits of its probabilities averaged with those of the frames before."""
    past: list[np.ndarray] = []

    def settle(logits: np.ndarray) -> np.ndarray:
        if not smooth:
            return logits
        now = views.probabilities(logits, known.multilabel)
        past[:] = [now if not past else smooth * past[0] + (1 - smooth) * now]
        return views.as_logits(past[0], known.multilabel)

    return settle


def _upright(frame: Any) -> np.ndarray:
    """A frame as uint8 RGB (H, W, 3), turned as the video says it is to be shown."""
    pixels = frame.to_ndarray(format="rgb24")
    turns = round(frame.rotation / 90) % 4  # counterclockwise
    return np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels


def _expected(container: Any, stream: Any) -> int | None:
    """How many frames the header promises, by their number or by the length."""
    if stream.frames or not (container.duration and stream.average_rate):
        return stream.frames or None
    return round(container.duration / 1e6 * float(stream.average_rate))


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
