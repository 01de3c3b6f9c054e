"""`maskwright predict`: masks for a file, a folder, a glob or a video, from a bundle or a model.onnx."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from maskwright.prediction.folders import Written


@dataclass(frozen=True)
class Predicted:
    """What was written, and how long it took. unit: `images`, or the `frames` of a video."""

    written: Written
    runtime: str
    seconds: float
    unit: str = "images"
    next: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return 3 if self.written.failed and not self.written.images else 0

    def to_json(self) -> dict[str, Any]:
        return {
            "out": str(self.written.folder),
            self.unit: self.written.images,
            "failed": self.written.failed,
            "pixels": self.written.pixels,
            "runtime": self.runtime,
            "seconds": round(self.seconds, 3),
        }

    def _repr_html_(self) -> str:
        from maskwright.reports import notebook

        return notebook.predicted(self.written, self.unit)

    def show(self, console: Console) -> None:
        from rich.markup import escape

        rate = self.written.images / max(self.seconds, 1e-9)
        console.print(
            f"{self.written.images} {self.unit} into {escape(str(self.written.folder))}  "
            f"({rate:.1f} {self.unit}/s, {self.runtime})"
        )
        total = sum(self.written.pixels.values()) or 1
        for name, pixels in sorted(self.written.pixels.items(), key=lambda item: -item[1]):
            if pixels:
                console.print(f"  {100 * pixels / total:5.1f} %  {escape(name)}")
        for why in list(self.written.failed.values())[:10]:
            console.print(f"[yellow]not predicted:[/] {escape(why)}", soft_wrap=True)
        if len(self.written.failed) > 10:
            console.print(f"... and {len(self.written.failed) - 10} more: see predictions.csv")


def predict(
    model: str,
    images: str,
    *,
    out: str = "masks",
    overlays: bool = True,
    cutout: str | None = None,
    probabilities: str | None = None,
    smooth: float = 0.0,
    tiles: bool = False,
    overlap: float | None = None,
    flip: bool | None = None,
    scales: str | None = None,
    runtime: str = "auto",
    device: str = "auto",
) -> Predicted:
    """Write masks, overlays and a table of areas for images; an overlay video and areas per frame for a video.

    Parameters
    ----------
    model
        a bundle, a run folder, or a model.onnx.
    images
        a file, a folder, a glob in quotes, or a video.
    out
        folder that gets masks/ (index PNGs at original size), overlays/, cutouts/ and predictions.csv.
    overlays
        also write overlays.
    cutout
        also write the pixels of this class on transparent ground.
    probabilities
        also write each class's probability at original size: npz (one file) or png (16 bits, one file a class).
    smooth
        for video: 0 to 0.99, how much of the frames before is kept in each frame's probabilities.
    tiles
        predict overlapping windows of the original pixels instead of the whole image scaled down.
    overlap
        share of a window that its neighbour sees too, 0 to 0.9; left out: 0.25.
    flip
        also predict the mirrored image and average; left out: as the model's recipe says.
    scales
        sizes to predict at and average, as factors of the network's: 0.75,1,1.25.
    runtime
        auto, onnx or torch.
    device
        for torch: auto, cpu, cuda, mps.
    """
    import time
    from pathlib import Path

    from maskwright.core import terminal
    from maskwright.core.errors import RecipeError
    from maskwright.prediction import folders, predictor, video

    clip, target = video.is_video(images), Path(out)
    if clip and (cutout or probabilities):
        given = "--cutout" if cutout else "--probabilities"
        raise RecipeError("is for images", place=given, hint="a video gets an overlay video and a table of areas")
    if smooth and not clip:
        raise RecipeError("is for videos", place="--smooth", hint="leave it out")
    with terminal.shown():
        tta = asked_tta(flip, scales)
        loaded = predictor.load(model, runtime=runtime, device=device, tiled=tiles, tta=tta, overlap=overlap)
        began = time.perf_counter()
        if clip:
            written = video.predict_video(loaded, Path(images), target, smooth=smooth)
        else:
            options: dict[str, Any] = {"overlays": overlays, "cutout": cutout, "probabilities": probabilities}
            written = folders.predict_all(loaded, images, target, **options)
    following = [] if clip or not written.images else [f"maskwright evaluate {model} PATH_WITH_LABELS"]
    unit = "frames" if clip else "images"
    return Predicted(written, loaded.runtime, time.perf_counter() - began, unit, following)


def asked_tta(flip: bool | None, scales: str | None) -> dict[str, Any]:
    """What `--flip` and `--scales` say of the test-time augmentation; the rest stays as the model's recipe says."""
    from maskwright.bundles.bundle import augmentation
    from maskwright.core.errors import RecipeError

    given: dict[str, Any] = {} if flip is None else {"flip": flip}
    if scales is None:
        return given
    try:
        given["scales"] = [float(part) for part in scales.split(",")]
    except ValueError:
        raise RecipeError(
            f"`{scales}` is no list of numbers", place="--scales", hint="write them as 0.75,1,1.25"
        ) from None
    try:
        augmentation(given)
    except ValueError as error:
        raise RecipeError(f"cannot be {scales}", place="--scales", hint=str(error)) from error
    return given
