"""`maskwright verify`: is an exported file still what its certificate says, and does it answer the same on this machine?"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from maskwright.bundles.bundle import Description
    from maskwright.core.table import Data
    from maskwright.prediction.predictor import AnyPredictor


@dataclass(frozen=True)
class Verified:
    """What was checked and held. ran: the runtime that answered the known picture, None where there is none here."""

    path: str
    certificate: dict[str, Any]
    ran: str | None
    score: str | None = None
    next: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, "ran": self.ran, "score": self.score, "certificate": self.certificate}

    def show(self, console: Console) -> None:
        known = self.certificate
        console.print(f"{self.path} is what was certified on {known['written']}", markup=False, soft_wrap=True)
        parts = known["fingerprints"]
        if "operators" in parts:
            held = f"{len(parts['operators'])} operators, {len(parts['weights'])} weights, {len(parts['metadata'])} entries"
            console.print(f"  {held} of metadata: unchanged", markup=False, soft_wrap=True)
        else:
            console.print("  every byte: unchanged")
        if self.ran is None:
            console.print("  [yellow]not run: this machine has no runtime for it[/]")
        else:
            console.print(
                f"  run here in {self.ran}: it answers a known picture as it did", markup=False, soft_wrap=True
            )
        if self.score is not None:
            console.print(f"  {self.score}", markup=False, soft_wrap=True)
        if not known["certified"]:
            console.print("  [yellow]it was written without a certificate of its own[/] (--uncertified)")


def verify(file: str, *, data: str | None = None, part: str | None = None) -> Verified:
    """Hold an exported file against its certificate: its parts, and what it answers on this machine.

    Parameters
    ----------
    file
        what `maskwright export` wrote; its certificate lies beside it, or in it.
    data
        labelled images: score the file on them, and hold that against the certificate where they are the same.
    part
        of `data`: train, val, test or all; left out: as `evaluate` takes it.
    """
    from pathlib import Path

    from maskwright.core import terminal
    from maskwright.core.errors import ModelError, RecipeError
    from maskwright.exports import certificate, fingerprints

    path = Path(file)
    if part is not None and data is None:
        raise RecipeError(
            "is a part of labelled images", place="--part", hint="name them with `--data`, or leave it out"
        )
    _check_file(path)
    known = certificate.load(path)
    found = fingerprints.changes(known["fingerprints"], fingerprints.of_file(path))
    if found := [*_fields(path, known), *_lost(path), *_engine(path, known), *found]:
        raise ModelError(_told(found, known), place=path, hint="export it again")
    with terminal.shown():
        predictor = _opened(path, known, needed=data is not None)
        if predictor is not None:
            _check_answers(predictor, known, path)
        score = None if predictor is None or data is None else _score(predictor, known, path, data, part)
    following = [f"maskwright predict {path} PHOTOS"] if path.suffix == ".onnx" else []
    return Verified(str(path), known, None if predictor is None else predictor.runtime, score, following)


def _check_file(path: Path) -> None:
    """Raises ModelError for what is no exported file, with the one that is meant where that lies beside it."""
    from maskwright.core.errors import ModelError
    from maskwright.exports import FOLDERS, certificate, fingerprints

    if not path.exists():
        raise ModelError("not found", place=path)
    if path.name.endswith(certificate.ENDING):
        of = path.with_name(path.name.removesuffix(certificate.ENDING))
        raise ModelError(
            "is a certificate, not the file that it speaks of", place=path, hint=f"`maskwright verify {of}`"
        )
    if path.is_dir() and path.suffix not in FOLDERS:
        raise ModelError(
            "is a folder, not an exported file", place=path, hint=f"name the file in it, as {path}/model.onnx"
        )
    for ending, weights in fingerprints.WEIGHTS_OF.items():
        if path.suffix == weights and (of := path.with_suffix(ending)).is_file():
            raise ModelError(f"holds the weights of {of.name}", place=path, hint=f"`maskwright verify {of}`")
    if path.is_file() and not path.stat().st_size:
        raise ModelError("is empty", place=path, hint="copy or export it again")


def _lost(path: Path) -> list[str]:
    """In words, where the certificate that an ONNX file was written with stands no longer in it."""
    from maskwright.exports import fingerprints

    if path.suffix != ".onnx" or fingerprints.certificate_in(path) is not None:
        return []
    return [f"the metadata entry `{fingerprints.KEY}` is gone"]


def _engine(path: Path, known: dict[str, Any]) -> list[str]:
    """In words, where the TensorRT engine beside the file is not that which was certified; that it is not there is said."""
    from maskwright.core import events
    from maskwright.exports import fingerprints

    said = known.get("facts", {}).get("engine")
    if not said:
        return []
    engine = path.with_suffix(".engine")
    if not engine.is_file():
        events.warn(f"{engine.name}, the engine that was certified, is not beside the file")
        return []
    same = fingerprints.of_file(engine)["sha256"] == said["sha256"]
    return [] if same else [f"the engine `{engine.name}` was changed"]


def _fields(path: Path, known: dict[str, Any]) -> list[str]:
    """What was changed in the description of an ONNX file's model, field by field, in words.

    Exporters leave out views of the model's recipe: `tta`, and `format` with it, may differ from the bundle's by right.
    """
    import json

    from maskwright.exports import fingerprints
    from maskwright.exports.graphs import KEY

    if path.suffix != ".onnx":
        return []
    try:
        stated = json.loads(fingerprints.metadata_in(path).get(KEY, "{}"))
    except ValueError:
        return []
    fields = [
        name
        for name, value in known["description"].items()
        if isinstance(stated, dict) and name not in ("tta", "format") and stated.get(name) != value
    ]
    return [f"`{name}` of its description was changed" for name in fields]


def _told(found: list[str], known: dict[str, Any]) -> str:
    """The changes in one sentence, the first three by name."""
    more = f", and {len(found) - 3} more changes" if len(found) > 3 else ""
    return f"is not what was certified on {known.get('written')}: {'; '.join(found[:3])}{more}"


def _opened(path: Path, known: dict[str, Any], needed: bool) -> AnyPredictor | None:
    """The file in its runtime; None, said aloud, where this machine has none for it.

    A file that was written without a certificate of its own is run too: this may be the machine that can.
    Raises SetupError where the runtime is `needed`.
    """
    from maskwright.bundles import bundle as bundles
    from maskwright.core import events
    from maskwright.core.errors import SetupError
    from maskwright.exports import RUNTIMES

    try:
        if path.suffix not in RUNTIMES:
            raise SetupError("no runtime is known for files of this ending", place=path)
        description = bundles.describe(known["description"], path)
        predictor: AnyPredictor = _with_engine(path, known, description) or RUNTIMES[path.suffix](path, description)
    except SetupError as error:
        if needed:
            raise
        events.warn(f"not run: {error}")
        return None
    return predictor


def _with_engine(path: Path, known: dict[str, Any], description: Description) -> AnyPredictor | None:
    """The TensorRT engine that was certified; None, said aloud, where the ONNX file is run in its place."""
    from maskwright.core import events
    from maskwright.core.errors import SetupError

    if known["target"] != "tensorrt":
        return None
    try:
        if not known.get("facts", {}).get("engine"):
            raise SetupError("no engine was certified")
        from maskwright.exports import tensorrt

        return tensorrt.open_engine(path.with_suffix(".engine"), description)
    except SetupError as error:
        events.warn(f"the ONNX file is run, not an engine built from it: {error}")
        return None


def _check_answers(predictor: AnyPredictor, known: dict[str, Any], path: Path) -> None:
    """Raises ModelError where the file answers a known picture otherwise than its certificate says."""
    from maskwright.core.errors import ModelError
    from maskwright.exports import agreement, certificate

    if different := certificate.near(known["probe"], agreement.probe(predictor)):
        hint = "export it again, or look at the versions of the runtime"
        raise ModelError("; ".join(different), place=path, hint=hint)


def _score(predictor: AnyPredictor, known: dict[str, Any], path: Path, data: str, part: str | None) -> str:
    """What the file scores on labelled images, beside what its certificate says of the same images."""
    from maskwright.bundles import runs
    from maskwright.core.errors import ModelError
    from maskwright.core.words import counted
    from maskwright.exports import certificate
    from maskwright.prediction import scoring
    from maskwright.verbs.asked import Asked

    loss = known["loss"]
    labelled = _certified(Asked(data, part).images(path, predictor.classes)[0], loss)
    headline = certificate.HEADLINES[predictor.description.task]
    value = scoring.evaluate(predictor, labelled)[headline] or 0.0
    words = f"{runs.HEADLINES[headline]} {value:.4f} on {counted(len(labelled), 'image')}"
    if loss is None or loss["ids"] != certificate.digest(labelled.ids):
        return f"{words} (not those of its certificate)"
    if abs(value - loss["exported"]) > 0.002:
        what = f"{words}, its certificate says {loss['exported']:.4f} of the same images"
        raise ModelError(what, place=known["file"], hint="are the labels still the same? else export it again")
    return f"{words}, as its certificate says"


def _certified(labelled: Data, loss: dict[str, Any] | None) -> Data:
    """The images that the certificate was scored on, where these are some of `labelled`, spread over it; else all."""
    from maskwright.data import edit
    from maskwright.exports import certificate

    if loss is None:
        return labelled
    step = max(1, -(-len(labelled) // loss["images"]))  # as `export` takes 300 of many
    chosen = edit.select(labelled, list(labelled.ids)[::step])
    return chosen if certificate.digest(chosen.ids) == loss["ids"] else labelled
