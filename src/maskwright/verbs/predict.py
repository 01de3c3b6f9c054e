"""`maskwright predict`: masks or objects for a file, a folder, a glob or a video, from a bundle or a model.onnx."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from maskwright.prediction.folders import Written
    from maskwright.prediction.predictor import AnyPredictor

VIDEOS = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".3gp", ".ts"})


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
        """With `objects` in the place of `pixels` where the model finds objects."""
        objects = self.written.objects
        return {
            "out": str(self.written.folder),
            self.unit: self.written.images,
            "failed": self.written.failed,
            **({"objects": objects} if objects else {"pixels": self.written.pixels}),
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
        for name, number in sorted(self.written.objects.items(), key=lambda item: -item[1]):
            if number:
                console.print(f"  {number:7,}  {escape(name)}")
        if self.written.objects and not any(self.written.objects.values()):
            console.print("  no objects")
        elif self.written.sure < sum(self.written.objects.values()):
            console.print(
                f"  {self.written.sure:,} of them have a score of {self.written.least:g} or more and are drawn; `--score "
                f"{self.written.least:g}` writes those alone, `maskwright tune-thresholds` finds the best score",
                soft_wrap=True,
            )
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
    score: float | None = None,
    exclusive: bool | None = None,
    panoptic: str | None = None,
    least_stuff: float | None = None,
    runtime: str = "auto",
    device: str = "auto",
) -> Predicted:
    """Write masks or objects, overlays and a table for images; an overlay video and a table of its frames for a video.

    Parameters
    ----------
    model
        a bundle, a run folder, or a model.onnx.
    images
        a file, a folder, a glob in quotes, or a video.
    out
        folder that gets masks/ (index PNGs at original size), overlays/, cutouts/ and predictions.csv; of models that find
        objects objects.json (COCO results), coco.json (a COCO data set), objects/ (PNGs of object numbers) and overlays/.
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
    score
        for objects: leave out those that are less sure, 0 to 1; left out: as the model's thresholds say.
    exclusive
        for objects: one pixel, one object, the surer one; left out: as the model's thresholds say.
    panoptic
        for objects: a semantic model, whose other classes fill what they leave free: panoptic.json and panoptic/.
    least_stuff
        for --panoptic: side of the smallest square of stuff that counts on a photo of 640 pixels; left out: 64.
    runtime
        auto, onnx or torch.
    device
        for torch: auto, cpu, cuda, mps.
    """
    import time
    from pathlib import Path

    from maskwright.core import terminal
    from maskwright.core.errors import RecipeError
    from maskwright.prediction import predictor
    from maskwright.prediction.instances import InstancePredictor

    clip, target = Path(images).suffix.lower() in VIDEOS and Path(images).is_file(), Path(out)
    for_images = {"--cutout": cutout, "--probabilities": probabilities, "--panoptic": panoptic}
    if clip:
        _refuse(for_images, "is for images", "a video gets an overlay video and a table of its frames")
    else:
        _refuse({"--smooth": smooth or None}, "is for videos", "leave it out")
    if score is not None and not 0 <= score <= 1:
        raise RecipeError(f"can be 0 to 1, not {score}", place="--score")
    if least_stuff is not None and panoptic is None:
        raise RecipeError("is for the panoptic view", place="--least-stuff", hint="give a semantic model, --panoptic")
    with terminal.shown():
        tta = asked_tta(flip, scales)
        loaded = predictor.load(model, runtime=runtime, device=device, tiled=tiles, tta=tta, overlap=overlap)
        if isinstance(loaded, InstancePredictor):
            pixels_only = {"--cutout": cutout, "--probabilities": probabilities, "--smooth": smooth or None}
            _refuse(pixels_only, "is for models that label pixels", "leave it out: this model finds objects")
            asked = {"score": score, "exclusive": exclusive}
            loaded.thresholds = loaded.thresholds.changed({k: v for k, v in asked.items() if v is not None})
        else:
            objects_only = {"--score": score, "--exclusive": exclusive, "--panoptic": panoptic}
            _refuse(objects_only, "is for models that find objects", "leave it out: this model labels pixels")
        semantic = predictor.load(panoptic, runtime=runtime, device=device) if panoptic is not None else None
        began = time.perf_counter()
        if clip:
            from maskwright.prediction import video

            written = video.predict_video(loaded, Path(images), target, smooth=smooth)
        else:
            how: dict[str, Any] = {"overlays": overlays, "cutout": cutout, "probabilities": probabilities}
            written = _predict_images(loaded, images, target, semantic, least_stuff, **how)
    following = [] if clip or not written.images else [f"maskwright evaluate {model} PATH_WITH_LABELS"]
    unit = "frames" if clip else "images"
    return Predicted(written, loaded.runtime, time.perf_counter() - began, unit, following)


def _predict_images(
    loaded: AnyPredictor,
    images: str,
    target: Path,
    semantic: AnyPredictor | None,
    least_stuff: float | None,
    *,
    overlays: bool,
    **for_pixels: Any,
) -> Written:
    from maskwright.core.types import SURE
    from maskwright.prediction import folders, object_folders, panoptic_merging
    from maskwright.prediction.instances import InstancePredictor

    if not isinstance(loaded, InstancePredictor):
        return folders.predict_all(loaded, images, target, overlays=overlays, **for_pixels)
    merging = None
    if semantic is not None:
        least = panoptic_merging.LEAST_STUFF if least_stuff is None else least_stuff
        sure = loaded.thresholds.score or SURE
        merging = panoptic_merging.merging(loaded.classes, semantic, least_stuff=least, least_score=sure)
    return object_folders.predict_all(loaded, images, target, overlays=overlays, merging=merging)


def _refuse(given: dict[str, Any], what: str, hint: str) -> None:
    """Raises RecipeError when one of these options was given."""
    from maskwright.core.errors import RecipeError

    for name, value in given.items():
        if value is not None:
            raise RecipeError(what, place=name, hint=hint)


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
