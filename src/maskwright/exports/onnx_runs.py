"""Running any ONNX file in onnxruntime to see what it does: between which values it answers, and how long it takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.core.errors import MaskwrightError, ModelError
from maskwright.core.registry import missing_package
from maskwright.exports import agreement, onnx_facts
from maskwright.exports.onnx_facts import Facts, Value
from maskwright.imaging import images

if TYPE_CHECKING:
    import onnxruntime

OPEN = 256  # height and width of an image input that leaves them open, where the file does not say what it was made for
LARGE = 500.0  # megabytes; larger files are not run a second time to count


@dataclass(frozen=True)
class Answers:
    """What a file did.

    ranges: least and largest value of each output, by the values of the input: "0..255", "0..1"; of what is no image "random".
    milliseconds: median of one call. failure: why it does not run here, then the rest is empty. macs: counted while running,
    where the file alone does not tell.
    """

    ranges: Mapping[str, Mapping[str, tuple[float, float]]] = field(default_factory=dict)
    milliseconds: float | None = None
    failure: str | None = None
    macs: int | None = None


def answers(found: Sequence[Facts], photo: Path | None, size: tuple[int, int] | None, threads: int) -> list[Answers]:
    """Runs each file on the same photo, and takes their times in rotation.

    photo: None takes a drawn picture. size: height, width where a file leaves them open. threads: of onnxruntime, 0: all cores.
    """
    calls: dict[int, Callable[[], object]] = {}
    seen: list[Answers] = []
    for index, known in enumerate(found):
        try:
            session = opened(Path(known.path), threads)
            feeds = {scale: fed(known, photo, size, scale) for scale in _scales(known)}
            ranges = {scale: _ranges(session, feed) for scale, feed in feeds.items()}
            macs = known.macs if known.macs is not None else _counted(known, next(iter(feeds.values())))
            seen.append(Answers(ranges, macs=macs))
        except MaskwrightError as error:
            seen.append(
                Answers(
                    failure=f"{error.what}" if error.hint is None else f"{error.what}; {error.hint}", macs=known.macs
                )
            )
            continue
        calls[index] = _call(session, next(iter(feeds.values())))
    for index, milliseconds in agreement.rotated(calls).items():
        seen[index] = Answers(seen[index].ranges, milliseconds, macs=seen[index].macs)
    return seen


def opened(path: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """A session. Raises ModelError, in one sentence, where onnxruntime cannot run the file."""
    try:
        from maskwright.prediction import with_onnx
    except ModuleNotFoundError as error:
        raise missing_package(error.name or "onnxruntime", "running an ONNX file") from error
    try:
        return with_onnx.running(path, threads)
    except ModelError as error:
        raise ModelError(f"does not run in {with_onnx.RUNTIME}: {error.what}", place=path) from error


def fed(known: Facts, photo: Path | None, size: tuple[int, int] | None, scale: str) -> dict[str, np.ndarray]:
    """What each input is given: the photo, times 1/255 where `scale` is "0..1"; ones and noise where it wants no image.

    Raises ModelError where an input's shape or type cannot be guessed.
    """
    return {value.name: _given(value, photo, size or made_for(known), scale) for value in known.inputs}


def made_for(known: Facts) -> tuple[int, int]:
    """Height and width of a file of ours, as it says; OPEN for others."""
    said = (onnx_facts.description(known) or {}).get("size")
    return (int(said[0]), int(said[1])) if isinstance(said, list) and len(said) == 2 else (OPEN, OPEN)


def _given(value: Value, photo: Path | None, size: tuple[int, int], scale: str) -> np.ndarray:
    axes = onnx_facts.image_axes(value.shape)
    sides = [side if side is not None else 1 for side in onnx_facts.settled(value.shape, size)]
    try:
        dtype = np.dtype(value.type)
    except TypeError:
        raise ModelError(f"its input `{value.name}` is of the type {value.type}, which no picture is") from None
    if axes is None:
        noise = np.random.default_rng(0).standard_normal(sides)
        return noise.astype(dtype) if dtype.kind == "f" else np.ones(sides, dtype)
    height, width = sides[axes[0]], sides[axes[1]]
    pixels = agreement.picture(height, width)
    if photo is not None:
        pixels = images.read_fitted(photo, (height, width), "squash")[0]
    shown = pixels.astype(np.float64) / (255 if scale == "0..1" else 1)
    channels = sides[1] if axes == (2, 3) else sides[-1]
    if channels == 1:
        shown = shown.mean(axis=2, keepdims=True)
    elif channels == 4:
        shown = np.concatenate([shown, np.full_like(shown[:, :, :1], shown.max())], axis=2)
    shown = shown.transpose(2, 0, 1) if axes == (2, 3) else shown
    batch = () if axes == (0, 1) else (sides[0],)
    return np.ascontiguousarray(np.broadcast_to(shown, (*batch, *shown.shape))).astype(dtype)


def _scales(known: Facts) -> tuple[str, ...]:
    """How the input is varied: floats may be meant 0..255 or 0..1, whole numbers are 0..255."""
    pictures = [value for value in known.inputs if onnx_facts.image_axes(value.shape) is not None]
    if not pictures:
        return ("random",)
    return ("0..255", "0..1") if any(value.type.startswith("float") for value in pictures) else ("0..255",)


def _ranges(session: Any, feed: Mapping[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    found = {}
    names = [value.name for value in session.get_outputs()]
    for name, answer in zip(names, _run(session, names, feed), strict=True):
        if isinstance(answer, np.ndarray) and answer.size and answer.dtype.kind in "fiub":
            found[name] = (float(answer.min()), float(answer.max()))
    return found


def _run(session: Any, names: Sequence[str], feed: Mapping[str, np.ndarray]) -> list[Any]:
    from maskwright.prediction import with_onnx

    failures: tuple[type[Exception], ...] = (*with_onnx.ERRORS, ValueError)
    try:
        return list(session.run(list(names), dict(feed)))
    except failures as error:
        reason = str(error).splitlines()[0][:200]
        raise ModelError(
            f"does not run on a picture of this size ({reason})", hint="give another with `--size`"
        ) from error


def _call(session: Any, feed: Mapping[str, np.ndarray]) -> Callable[[], object]:
    return lambda: session.run(None, dict(feed))


def _counted(known: Facts, feed: Mapping[str, np.ndarray]) -> int | None:
    """The multiplications of a file whose shapes show only when it runs; None where they hide in loops and branches."""
    import onnx
    import onnxruntime

    from maskwright.prediction import with_onnx

    if known.megabytes > LARGE:
        return None
    model = onnx.load(known.path)
    size = made_for(known)
    outputs = {value.name for value in model.graph.output}
    wanted = onnx_facts.unknown(model, size)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(wanted - outputs))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        shapes = {name: tuple(session.run([name], dict(feed))[0].shape) for name in sorted(wanted)}
    except with_onnx.ERRORS:
        return None
    return onnx_facts.macs(model, size, shapes)
