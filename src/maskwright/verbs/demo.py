"""`maskwright demo`: the whole way, offline, in about a minute: made-up photos, a trained model, scores, masks, a report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from maskwright.verbs.evaluate import Evaluated
    from maskwright.verbs.train import Trained

SECONDS = 45.0  # of training; the epochs that fit are run


@dataclass(frozen=True)
class Demo:
    """What the demo made, and the two scores that must agree: the training's own, and that of model.onnx alone."""

    trained: Trained
    evaluated: Evaluated
    masks: str
    next: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "train": self.trained.to_json(),
            "evaluate": {"miou": self.evaluated.scores["miou"], "model": self.evaluated.model},
            "masks": self.masks,
        }

    def show(self, console: Console) -> None:
        self.trained.show(console)
        assert self.trained.scores is not None
        ours, alone = (scores["miou"] or 0.0 for scores in (self.trained.scores, self.evaluated.scores))
        console.print(f"model.onnx alone scores the same: mean IoU {alone:.4f} (difference {abs(ours - alone):.1g})")
        console.print(f"masks and overlays of the validation photos: {self.masks}", markup=False, soft_wrap=True)


def demo(folder: str = "demo", *, images: int = 96, seconds: float = SECONDS) -> Demo:
    """Make a small data set offline, train on it, score, export, predict, and write a report.

    Parameters
    ----------
    folder
        gets photos/, runs/, masks/ and sheet.webp, the picture of the README.
    images
        photos to draw.
    seconds
        time for the training itself.
    """
    from pathlib import Path

    from maskwright.core import terminal
    from maskwright.imaging import draw
    from maskwright.reports import snapshots
    from maskwright.verbs.evaluate import Evaluated, evaluate
    from maskwright.verbs.predict import predict
    from maskwright.verbs.train import Trained, train

    home = Path(folder)
    with terminal.shown():
        photos = _photos(home, images)
        changes = {"size": 128, "train.minutes": seconds / 60, "train.batch": 8, "model.weights": "none"}
        trained = train(str(photos), changes, out=str(home / "runs"))
        assert isinstance(trained, Trained)
        model = str(Path(trained.bundle) / "model.onnx")
        evaluated = evaluate(model, str(photos), split=str(Path(trained.run) / "split.json"), part="val")
        assert isinstance(evaluated, Evaluated)
        sheet = snapshots.contact_sheet(Path(trained.run) / "pictures")
        (home / "sheet.webp").write_bytes(draw.encode(sheet, "webp", 85))
        masks = str(home / "masks")
        predict(model, str(photos), out=masks)
    following = [
        f"maskwright check {photos}",
        "maskwright train PATH_TO_YOUR_PHOTOS_AND_LABELS",
        "maskwright explain recipe",
    ]
    return Demo(trained, evaluated, masks, following)


def _photos(home: Path, images: int) -> Path:
    """The folder with so many drawn photos, whole or not there: a demo that was stopped can be started again."""
    import tempfile
    from pathlib import Path

    from maskwright.core import files
    from maskwright.core.errors import SetupError
    from maskwright.data import synthetic
    from maskwright.data.open import open_data

    photos = home / "photos"
    if photos.exists():
        if (found := len(open_data(photos).data)) != images:
            hint = f"delete {home}, or give another folder"
            raise SetupError(f"holds {found} photos of another demo, not {images}", place=photos, hint=hint)
        return photos
    files.check_writable(home)
    with tempfile.TemporaryDirectory(dir=home, prefix=".photos-") as unfinished:
        synthetic.make(Path(unfinished) / "photos", num=images, coloured=True).rename(photos)
    return photos
