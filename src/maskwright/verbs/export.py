"""`maskwright export`: a trained bundle as a file for another runtime, proved equal on real images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from maskwright.core.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console


@dataclass(frozen=True)
class Exported:
    """The file and how far it is from the trained network; checked: that in words."""

    path: str
    target: str
    parity: dict[str, Any]
    checked: str
    next: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "target": self.target, "parity": self.parity}

    def show(self, console: Console) -> None:
        p = self.parity
        console.print(f"wrote {self.path} ({p['size_mb']:.1f} MB, opset {p['opset']})", markup=False, soft_wrap=True)
        console.print(f"checked on {counted(p['images'], 'image')}: {self.checked}")


def export(
    bundle: str,
    *,
    target: Annotated[str, Parameter(name="--for")] = "onnx",
    images: str | None = None,
    out: str | None = None,
    opset: int = 17,
) -> Exported:
    """Write a trained model for another runtime and prove that it agrees.

    Parameters
    ----------
    bundle
        a bundle or a run folder.
    target
        what to write; see `maskwright explain exporter`.
    images
        photos for the parity check; left out: those the run kept for its report.
    out
        the file to write; left out: in the bundle.
    opset
        of the ONNX operators.
    """
    from dataclasses import asdict
    from pathlib import Path

    from maskwright.bundles import bundle as bundles
    from maskwright.core import terminal
    from maskwright.core.errors import RecipeError
    from maskwright.exports import EXPORTERS
    from maskwright.imaging.images import read_fitted
    from maskwright.prediction import with_torch
    from maskwright.prediction.predictor import as_input

    if out is not None and Path(out).suffix.lower() != ".onnx":
        raise RecipeError(f"`{out}` names no ONNX file", place="--out", hint=f"give it its ending: {out}.onnx")
    write = EXPORTERS[EXPORTERS.check(target, "--for")]
    loaded = bundles.load(bundle)
    known = loaded.description
    with terminal.shown():
        how = "squash" if known.fit == "crop" else known.fit
        pixels = [as_input(read_fitted(path, known.size, how)[0]) for path in _photos(loaded.path, images)]
        path = Path(out) if out else loaded.path / bundles.ONNX
        parity = write(with_torch.load_segmenter(loaded), known, path, pixels, opset=opset)
    return Exported(
        str(path), target, asdict(parity), parity.words(), [f"maskwright predict {path} PHOTOS --out masks"]
    )


def _photos(bundle: Path, images: str | None, most: int = 16) -> list[Path]:
    from maskwright.core.errors import DataError
    from maskwright.prediction import folders

    if images is not None:
        found = folders.find(images)[1]
        return found[:: max(1, len(found) // most)][:most]
    kept = sorted(bundle.parent.glob("pictures/val_*_image.webp"))
    if not kept:
        raise DataError(
            "there are no images for the parity check", place=bundle, hint="name some with `--images FOLDER`"
        )
    return kept[:most]
