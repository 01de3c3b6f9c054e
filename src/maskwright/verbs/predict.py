"""`maskwright predict`: masks for a file, a folder or a glob, from a bundle or a model.onnx."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from maskwright.prediction.folders import Written


@dataclass(frozen=True)
class Predicted:
    """What was written, and how long one image took."""

    written: Written
    runtime: str
    seconds: float
    next: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        return 3 if self.written.failed and not self.written.images else 0

    def to_json(self) -> dict[str, Any]:
        return {
            "out": str(self.written.folder),
            "images": self.written.images,
            "failed": self.written.failed,
            "pixels": self.written.pixels,
            "runtime": self.runtime,
            "seconds": round(self.seconds, 3),
        }

    def show(self, console: Console) -> None:
        from rich.markup import escape

        rate = self.written.images / max(self.seconds, 1e-9)
        console.print(
            f"{self.written.images} images into {escape(str(self.written.folder))}  ({rate:.1f} images/s, {self.runtime})"
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
    tiles: bool = False,
    runtime: str = "auto",
    device: str = "auto",
) -> Predicted:
    """Write masks, overlays and a table of areas for images.

    Parameters
    ----------
    model
        a bundle, a run folder, or a model.onnx.
    images
        a file, a folder, or a glob in quotes.
    out
        folder that gets masks/ (index PNGs at original size), overlays/, cutouts/ and predictions.csv.
    overlays
        also write overlays.
    cutout
        also write the pixels of this class on transparent ground.
    tiles
        predict overlapping windows of the original pixels instead of the whole image scaled down.
    runtime
        auto, onnx or torch.
    device
        for torch: auto, cpu, cuda, mps.
    """
    import time
    from pathlib import Path

    from maskwright.core import terminal
    from maskwright.prediction import folders, predictor

    with terminal.shown():
        loaded = predictor.load(model, runtime=runtime, device=device, tiled=tiles)
        began = time.perf_counter()
        written = folders.predict_all(loaded, images, Path(out), overlays=overlays, cutout=cutout)
    following = [] if not written.images else [f"maskwright evaluate {model} PATH_WITH_LABELS"]
    return Predicted(written, loaded.runtime, time.perf_counter() - began, following)
