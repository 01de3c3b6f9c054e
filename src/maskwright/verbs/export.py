"""`maskwright export`: a trained bundle as a file for another runtime, with a certificate of what it answers on real images."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from maskwright.core.words import counted

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from maskwright.bundles.bundle import Bundle
    from maskwright.core.table import Data
    from maskwright.exports.certificate import Certificate

MOST_SCORED = 300  # labelled images that both models are scored on, spread over all
MOST_CALIBRATED = 100  # photos that an exporter may look at, unless more are asked for (`images` of int8)
HERE = ("install", "environment")  # options that say what is used on this machine
# options that change nothing in the file, so that its name does not tell them
UNTOLD = (*HERE, "workspace_mb", "max_mb", "max_mmacs", "allow_operators")


@dataclass(frozen=True)
class Exported:
    """The file and its certificate."""

    path: str
    certificate: Certificate
    next: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {"path": self.path, **self.certificate.to_json()}

    def show(self, console: Console) -> None:
        known = self.certificate
        console.print(f"wrote {self.path}", markup=False, soft_wrap=True)
        for line in (*known.words(), *known.notes):
            console.print(f"  {line}", markup=False, soft_wrap=True)
        if not known.certified:
            console.print("[yellow]not certified[/]: no runtime on this machine runs it", soft_wrap=True)


def export(
    bundle: str,
    *options: str,
    target: Annotated[str, Parameter(name="--for")] = "onnx",
    out: str | None = None,
    data: str | None = None,
    images: str | None = None,
    calibrate: str | None = None,
    opset: int | None = None,
    self_contained: Annotated[bool, Parameter(negative=())] = False,
    max_drop: float = 0.01,
    uncertified: Annotated[bool, Parameter(negative=())] = False,
) -> Exported:
    """Write a trained model for another runtime, and prove on real images that it answers as the trained one does.

    Parameters
    ----------
    bundle
        a bundle or a run folder.
    options
        of the target, as precision=fp16; `maskwright explain exporter NAME` lists them.
    target
        what to write; see `maskwright explain exporter`.
    out
        the file to write, or the folder to write it into; left out: beside the bundle's weights.
    data
        labelled images to score both models on; left out: the validation images of the run.
    images
        photos without labels to compare both models on, instead.
    calibrate
        photos that a quantised file measures its ranges on; left out: training images of the run, else those compared on.
    opset
        of the ONNX operators, short for opset=N.
    self_contained
        of ONNX: photo in, masks out, with resizing and classes inside the file; short for self_contained=true.
    max_drop
        most that the score may fall (without labels: share of pixels that may change); above it nothing is written.
    uncertified
        write a file that no runtime on this machine can run.
    """
    from maskwright.bundles import bundle as bundles
    from maskwright.core import files, terminal
    from maskwright.exports import EXPORTERS, certificate
    from maskwright.exports.source import Source

    name = EXPORTERS.check(target, "--for")
    short = {"opset": opset, "self_contained": self_contained or None}
    given = _options(name, options, {key: value for key, value in short.items() if value is not None})
    certificate.check_limit(max_drop)
    with terminal.shown():
        loaded = bundles.load(bundle)
        with_torch = _with_torch()
        path = _named(out, name, given, loaded.path)
        ranged = name == "int8" or given.get("precision") == "int8"
        labelled, photos, ranges, whose = _images(loaded, data, images, calibrate, ranged)
        ranges = ranges[:: max(1, -(-len(ranges) // max(MOST_CALIBRATED, given.get("images", 0))))]
        source = Source(with_torch.load_segmenter(loaded), loaded.description, tuple(ranges), loaded.path)
        judge = certificate.Judge(source.predictor, photos, labelled)
        source = replace(source, judge=judge, max_drop=max_drop)
        with files.left_clean(path.parent), files.staged(path.parent) as folder:
            staged = folder / path.name
            written = EXPORTERS[name](source, staged, **given)
            found = certificate.certify(
                source,
                written,
                staged,
                target=name,
                options={key: value for key, value in given.items() if key not in HERE},
                judge=judge,
                photos_of=whose,
                max_drop=max_drop,
                uncertified=uncertified,
            )
    following = [f"maskwright verify {path}"]
    if path.suffix == ".onnx" and name not in ("tensorrt",):
        following.append(f"maskwright predict {path} PHOTOS --out masks")
    return Exported(str(path), found, following)


def _with_torch() -> Any:
    """The runtime of trained models. Raises SetupError where torch is not installed."""
    from maskwright.core.registry import missing_package

    try:
        from maskwright.prediction import with_torch
    except ModuleNotFoundError as error:
        raise missing_package(error.name or "torch", "an export") from error
    return with_torch


def _options(name: str, options: tuple[str, ...], short: dict[str, Any]) -> dict[str, Any]:
    """The options of a target, held against its signature."""
    from maskwright.core import recipe as recipes
    from maskwright.core.errors import RecipeError
    from maskwright.exports import EXPORTERS

    given = recipes.as_pairs(list(options))
    for key in short.keys() & given.keys():
        raise RecipeError("is given twice", place=f"--{key.replace('_', '-')}", hint=f"leave `{key}={given[key]}` out")
    given |= short
    recipes.check_entry(EXPORTERS, name, given, f"--for {name}")
    return given


def _named(out: str | None, target: str, options: dict[str, Any], bundle: Path) -> Path:
    """The file to write: `out`, or in the folder that it names a file named by target and options.

    Raises RecipeError for one with another ending than the target's, and for a bundle's own model.onnx.
    """
    from pathlib import Path

    from maskwright.bundles import bundle as bundles
    from maskwright.bundles.bundle import ONNX
    from maskwright.core.errors import RecipeError
    from maskwright.exports import ENDINGS, FOLDERS

    ending = ENDINGS.get(target, f".{target}")
    suffix = "." + ending.rpartition(".")[2]
    path = bundle if out is None else Path(out)
    whole = suffix in FOLDERS and path.suffix == suffix
    if out is None or (not whole and (path.is_dir() or out.endswith(("/", os.sep)))):
        path /= "-".join(["model", *_words(target, options)]) + ending
    elif path.suffix != suffix:
        raise RecipeError(f"`{out}` has not the ending of this target", place="--out", hint=f"call it {out}{suffix}")
    if path.resolve().name == ONNX and bundles.is_bundle(path.resolve().parent):
        what = f"`{path}` is a bundle's own, which takes what its recipe needs"
        raise RecipeError(what, place="--out", hint="give it another name, or leave it out")
    return path.absolute()


def _words(target: str, options: dict[str, Any]) -> list[str]:
    """What the name of a file tells of its options: those that say something about what is in it."""
    said = []
    for key, value in options.items():
        if key in UNTOLD:
            continue
        text = key if value is True else f"no-{key}" if value is False else value
        said.append(text if isinstance(text, str) else f"{key}{text:g}" if isinstance(text, float) else f"{key}{text}")
    words = [word.replace("_", "-") for word in said]
    words = [word for word in words if word.replace("-", "").replace(".", "").isalnum()]
    return words or ["certified"] * (target == "onnx")  # model.onnx is the bundle's own


def _images(
    bundle: Bundle, data: str | None, images: str | None, calibrate: str | None, ranged: bool
) -> tuple[Data | None, list[Path], list[Path], str]:
    """Labelled images to score on (or None), photos to compare on, photos to look at while writing, and what the first two are.

    ranged: the target measures ranges on photos, which should not be those it is scored on.
    """
    from maskwright.core import events
    from maskwright.core.errors import RecipeError

    if data is not None and images is not None:
        raise RecipeError("is for photos without labels, and `--data` has some", place="--images", hint="leave one out")
    labelled: Data | None = None
    trained: list[Path] = []
    whose = f"`--data {data}`" if data is not None else f"`--images {images}`"
    if data is not None:
        from maskwright.verbs.asked import Asked

        labelled = _spread(Asked(data).images(bundle.path)[0], MOST_SCORED)
    scored = data is None and images is None
    if scored or (ranged and calibrate is None):
        of_run, trained, part = _of_run(bundle, scored)
        if scored:
            labelled, whose = of_run, f"the {part} images of its run" if part else "pictures that its run kept"
    photos = [_path(record.image) for record in labelled] if labelled is not None else _photos(bundle, images)
    ranges = _found(calibrate) if calibrate is not None and ranged else trained or photos
    if calibrate is not None and not ranged:
        events.warn("`--calibrate` is for files that measure ranges (int8): nothing in this one depends on it")
    if ranged and ranges is photos:
        events.warn(
            "ranges are measured on the images that the file is scored on: name others with `--calibrate FOLDER`"
        )
    return labelled, photos, ranges, whose


def _of_run(bundle: Bundle, scored: bool) -> tuple[Data | None, list[Path], str]:
    """The validation images of the run that a bundle lies in (else its test images), photos that trained it, and the part.

    scored: without it, the photos that trained it are all that is asked for.
    """
    from maskwright.core import events
    from maskwright.core.errors import MaskwrightError
    from maskwright.data.prepare import prepare
    from maskwright.verbs.train import recipe_of

    run = bundle.path.resolve().parent
    if not (run / "run.json").is_file() or not (run / "recipe.yaml").is_file():
        return None, [], ""
    try:
        prepared = prepare(recipe_of(str(run), {}, resume=True))
    except MaskwrightError as error:
        named = "`--data` or `--images`" if scored else "`--calibrate`"
        events.warn(f"the images of the run cannot be read ({error}): name others with {named}")
        return None, [], ""
    trained = [_path(record.image) for record in prepared.train]
    if not scored:
        return None, trained, ""
    for part, images in (("validation", prepared.val), ("test", prepared.test), ("training", prepared.train)):
        if len(images):
            chosen = _spread(images, MOST_SCORED)
            events.say(f"its run has {counted(len(images), f'{part} image')}; {len(chosen)} of them can be scored on")
            if part == "training":
                events.warn("both models are scored on images that trained them: only the difference says something")
            return chosen, trained, part
    return None, trained, ""


def _photos(bundle: Bundle, images: str | None) -> list[Path]:
    """Photos of a folder, or those that the run kept for its report."""
    from maskwright.core import events
    from maskwright.core.errors import DataError

    if images is not None:
        return _found(images)
    kept = sorted(bundle.path.resolve().parent.glob("pictures/val_*_image.webp"))
    if not kept:
        hint = "name labelled images with `--data DATA`, or photos with `--images FOLDER`"
        raise DataError("there are no images to check the exported file on", place=bundle.path, hint=hint)
    events.say(f"compared on the {counted(len(kept), 'picture')} that the run kept for its report")
    return kept


def _found(folder: str) -> list[Path]:
    from maskwright.prediction import folders

    return list(folders.find(folder)[1])


def _spread(data: Data, most: int) -> Data:
    from maskwright.data import edit

    return edit.select(data, list(data.ids)[:: max(1, -(-len(data) // most))])


def _path(image: Any) -> Path:
    from pathlib import Path

    return Path(image)
