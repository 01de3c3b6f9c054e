"""The certificate of an exported file: what it answers on real images, held against the trained model it was made from.

Every export ends here. The file is run in its own runtime; what it loses is measured on the user's labelled images, on original
pixels, with the interval of a paired bootstrap; above the limit nothing is written. The certificate stands as JSON beside the
file, and inside it where the format has room. `maskwright verify` holds a file against it on any machine.
"""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from maskwright import __version__
from maskwright.bundles import runs
from maskwright.core import cores, events, files
from maskwright.core.errors import ModelError, RecipeError
from maskwright.core.table import Data
from maskwright.core.words import counted
from maskwright.exports import agreement, fingerprints
from maskwright.exports.agreement import Agreement
from maskwright.exports.source import Source, Written
from maskwright.prediction.predictor import AnyPredictor

FORMAT = 1
ENDING = ".certificate.json"
HEADLINES = {"semantic": "miou", "instance": "mask_ap"}  # of each task: the score whose loss is limited
MAX_DROP = 0.01  # of that score; without labels, of the pixels
NONE_HERE = "none here"
KILOBYTE = 0.001  # in megabytes
PHOTOS = 64  # that both models are compared on, pixel by pixel


@dataclass(frozen=True)
class Loss:
    """What the exported model's score is beside the trained one's, on the same images. change: exported minus trained.

    classes: the change of each class's IoU (of objects: mask AP) with its interval; [None, None, None] where it is undefined.
    """

    headline: str
    trained: float
    exported: float
    change: float
    low: float | None
    high: float | None
    images: int
    ids: str  # digest of the images' ids
    classes: dict[str, list[float | None]]

    def words(self) -> str:
        within = "" if self.low is None or self.high is None else f" ({_signed(self.low)} to {_signed(self.high)})"
        name = runs.HEADLINES[self.headline]
        return f"{name} {self.exported:.4f}, trained {self.trained:.4f}: {_signed(self.change)}{within}"


def _signed(change: float) -> str:
    return f"{round(change, 4) + 0.0:+.4f}"  # nothing is +0.0000, from either side


@dataclass(frozen=True)
class Certificate:
    """What is said of one exported file.

    runtime: that ran it, "none here" where this machine has none; then `checked` says what was run in its place.
    photos: what both models were compared and scored on, in words.
    latency_ms: of one photo through `exported` (else its `twin`) and `trained` (torch), medians of turns in rotation, both
    with `threads`: one for each usable core, or OMP_NUM_THREADS.
    probe: what the file answers to a picture that can be drawn anywhere. certified: the file itself ran, within the limit.
    description: of the model, as in its bundle.
    """

    file: str
    target: str
    options: dict[str, Any]
    runtime: str
    checked: str
    certified: bool
    photos: str
    agreement: Agreement
    loss: Loss | None
    max_drop: float
    latency_ms: dict[str, float]
    size_mb: float
    notes: tuple[str, ...]
    facts: dict[str, Any]
    probe: dict[str, Any]
    fingerprints: dict[str, Any]
    description: dict[str, Any]
    machine: str = field(default_factory=lambda: _machine())
    threads: int = field(default_factory=cores.threads)
    written: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    maskwright: str = __version__
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        plain = json.loads(json.dumps(asdict(self)))  # tuples as lists: equal to what is read back
        return {**plain, "seal": sealed(plain)}

    def words(self) -> list[str]:
        """What a person reads of it, line by line."""
        said = [f"{counted(self.agreement.images, 'photo')}, {self.checked}: {self.agreement.words()}"]
        if self.loss is not None:
            said.append(f"{counted(self.loss.images, 'labelled image')}: {self.loss.words()}")
        times = ", ".join(f"{name} {value:.1f} ms" for name, value in self.latency_ms.items())
        return [*said, f"{self.size_mb:.2f} MB; one photo: {times}"]


class Judge:
    """Callable: any predictor -> what it loses beside the trained one, by the rule of certificates (see `lost`).

    The trained one is scored once, and what was found of a predictor is known as long as it lives: an exporter may ask before
    the certificate does. photos: to compare on. labelled: images to score on, where there are some.
    """

    def __init__(self, trained: AnyPredictor, photos: Sequence[Path], labelled: Data | None):
        self.trained, self.labelled = trained, labelled
        self.photos = list(photos)[:: max(1, -(-len(photos) // PHOTOS))]
        self._agreements: WeakKeyDictionary[AnyPredictor, Agreement] = WeakKeyDictionary()
        self._losses: WeakKeyDictionary[AnyPredictor, Loss | None] = WeakKeyDictionary()

    def __call__(self, exported: AnyPredictor) -> float:
        loss = self.loss(exported)
        return -loss.change if loss is not None else lost(self.agreement(exported), None)

    def agreement(self, exported: AnyPredictor) -> Agreement:
        if exported not in self._agreements:
            self._agreements[exported] = agreement.compare(self.trained, exported, self.photos)
        return self._agreements[exported]

    def loss(self, exported: AnyPredictor) -> Loss | None:
        """None where the trained model has no score on these images: nothing in them can be scored."""
        if exported not in self._losses:
            self._losses[exported] = self._loss(exported, self.labelled) if self.labelled else None
        return self._losses[exported]

    def _loss(self, exported: AnyPredictor, labelled: Data) -> Loss | None:
        from maskwright.metrics.differences import class_differences, paired_difference
        from maskwright.prediction import scoring

        theirs, ours = scoring.evaluate(exported, labelled, label="score the exported file"), self._trained
        headline = HEADLINES[self.trained.description.task]
        change = paired_difference(theirs, ours, headline)
        trained, score = ours[headline], theirs[headline]
        if trained is None or score is None or change.value is None:
            return None
        of_classes = class_differences(theirs, ours).items()
        classes: dict[str, list[float | None]] = {name: [e.value, e.low, e.high] for name, e in of_classes}
        same = {"images": len(labelled), "ids": digest(labelled.ids), "classes": classes}
        return Loss(headline, trained, score, change.value, change.low, change.high, **same)  # type: ignore[arg-type]

    @cached_property
    def _trained(self) -> Any:
        from maskwright.prediction import scoring

        assert self.labelled is not None, "asked for where there is something to score on"
        return scoring.evaluate(self.trained, self.labelled, label="score the trained model")


def certify(
    source: Source,
    written: Written,
    path: Path,
    *,
    target: str,
    options: dict[str, Any],
    judge: Judge,
    photos_of: str,
    max_drop: float = MAX_DROP,
    uncertified: bool = False,
) -> Certificate:
    """Measures the file, writes its certificate into it and beside it, and returns it.

    path: of the file, in its staging folder. judge: knows the trained model, what to compare and score on (at least one photo),
    and what was found of the file while it was written. photos_of: what these photos are, in words.
    uncertified: a file that no runtime here can run is written all the same.

    Raises ModelError when it loses more than `max_drop`, or runs nowhere here and `uncertified` is not asked for.
    """
    running = written.predictor or written.twin
    if written.predictor is None and not uncertified:
        twin = f" (what can be checked in its place: {written.twin_of})" if written.twin is not None else ""
        what = f"no runtime on this machine runs this file, so that nothing is proved of it{twin}"
        raise ModelError(what, place=path.name, hint="write it all the same with `--uncertified`")
    assert running is not None, "an exporter names what can be run in its place"
    assert judge.photos, "a certificate needs photos"
    found, loss = judge.agreement(running), judge.loss(running)
    ran = "exported" if written.predictor else "twin"
    _judge(found, loss, max_drop, path)
    certificate = Certificate(
        file=path.name,
        target=target,
        options=options,
        runtime=written.predictor.runtime if written.predictor else NONE_HERE,
        checked=f"run in {running.runtime}" if written.predictor else f"{written.twin_of} in its place",
        certified=written.predictor is not None,
        photos=photos_of,
        agreement=found,
        loss=loss,
        max_drop=max_drop,
        latency_ms=agreement.latency({ran: running, "trained": source.predictor}, judge.photos[0]),
        size_mb=_megabytes(path),
        notes=written.notes,
        facts=dict(written.facts or {}),
        probe=agreement.probe(running),
        fingerprints=fingerprints.of_file(path),
        description=source.description.to_json(),
    )
    if path.suffix == ".onnx":
        certificate = _inside(certificate, path)
    files.write_text(beside(path), json.dumps(certificate.to_json(), indent=1) + "\n")
    return certificate


def _inside(certificate: Certificate, path: Path) -> Certificate:
    """Puts a certificate into an ONNX file; it says the size that this gives, to a kilobyte."""
    while True:
        fingerprints.append_certificate(path, json.dumps(certificate.to_json()))
        size = _megabytes(path)
        if round(abs(size - certificate.size_mb), 3) <= KILOBYTE:
            return certificate
        certificate = replace(certificate, size_mb=size)


def beside(path: Path) -> Path:
    """Where the certificate of a file stands."""
    return path.with_name(path.name + ENDING)


def load(path: Path) -> dict[str, Any]:
    """The certificate of a file: that beside it, else that inside. Raises ModelError where there is none, or it is damaged."""
    place = beside(path)
    inside = fingerprints.certificate_in(path) if path.suffix == ".onnx" and path.is_file() else None
    if place.is_file():
        try:
            text = place.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"cannot be read ({error})", place=place) from error
    elif inside is not None:
        text, place = inside, path
    else:
        hint = f"`maskwright export` writes it beside the file, as {place.name}"
        raise ModelError("has no certificate", place=path, hint=hint)
    try:
        found = json.loads(text)
        stated = found["format"]
        if stated > FORMAT:
            what = f"is a certificate of format {stated}; this version reads up to {FORMAT}"
            raise ModelError(what, place=place, hint="install a newer maskwright")
        if found["seal"] != sealed({key: value for key, value in found.items() if key != "seal"}):
            raise ModelError(
                "was changed: what it says is not what was sealed", place=place, hint="export the file again"
            )
        if inside is not None and json.loads(inside) != found:
            raise ModelError("differs from the certificate inside the file: one of them was changed", place=place)
        for needed in ("fingerprints", "probe", "description", "target"):
            found[needed]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError("is a damaged certificate", place=place) from error
    return dict(found)


def near(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What a probe answers otherwise than it did, in words: numbers may differ by rounding."""
    found = []
    for name, before in then.items():
        one, other = np.atleast_1d(np.asarray(before, float)), np.atleast_1d(np.asarray(now.get(name, ()), float))
        allowed = 1e-2 * max(1.0, float(np.abs(one).max(initial=0.0)))
        if one.shape != other.shape or (one.size and not float(np.abs(one - other).max()) <= allowed):
            found.append(f"it answers a known picture with other {name} than when it was certified")
    return found


def sealed(said: Mapping[str, Any]) -> str:
    """A digest of what a certificate says. It shows that something was changed, it does not prove who wrote it."""
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _machine() -> str:
    from maskwright.core import machine

    cpu = machine.cpu()
    return f"{cpu['name']}, {platform.system()} {platform.machine()}, Python {platform.python_version()}"


def digest(ids: Sequence[str]) -> str:
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]


def lost(found: Agreement, loss: Loss | None) -> float:
    """What an exported file loses: of its score, else the share of pixels that changed, or of objects found by one alone."""
    if loss is not None:
        return -loss.change
    if found.objects is None or found.unmatched is None:
        return found.pixels_changed
    return max(found.pixels_changed, found.unmatched / max(found.objects, 1))


def _judge(found: Agreement, loss: Loss | None, max_drop: float, path: Path) -> None:
    hint = "nothing was written; allow more with `--max-drop`, or look at what the export says it changed"
    less = lost(found, loss)
    if loss is None:
        events.warn(
            "no labelled images that can be scored: the file is judged by how many pixels it answers differently"
        )
    if less > max_drop:
        what = f"loses {less:.4f}" if loss is not None else "differs too much"
        said = loss.words() if loss is not None else found.words()
        raise ModelError(f"{what}, {max_drop:g} is the limit: {said}", place=path.name, hint=hint)


def check_limit(max_drop: float) -> None:
    """Raises RecipeError for a limit that cannot be."""
    if not 0 <= max_drop <= 1:
        raise RecipeError(f"{max_drop} is no share of a score", place="--max-drop", hint="it can be 0 to 1, as 0.01")


def _megabytes(path: Path) -> float:
    """Of the files of an export, in its staging folder."""
    return round(sum(file.stat().st_size for file in path.parent.rglob("*") if file.is_file()) / 1e6, 3)
