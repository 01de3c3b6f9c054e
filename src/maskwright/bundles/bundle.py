"""A bundle: a trained model as a folder that can be copied anywhere. It holds no pickle and no absolute path.

    weights.safetensors   the network's parameters and buffers
    bundle.json           format number, classes, colours, size, network, scores, versions (`FIELDS` below)
    recipe.yaml           the recipe it was trained with
    model.onnx            the bare network, `contract: network/1` (see exports/onnx.py)

Older formats always load; newer ones are refused by a sentence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from maskwright.core import files
from maskwright.core.errors import ModelError
from maskwright.data import flip_pairs as names

FORMAT = 3  # the newest that is read; what is written is the oldest that says all, see `Description.format`
DESCRIPTION, WEIGHTS, ONNX, RECIPE = "bundle.json", "weights.safetensors", "model.onnx", "recipe.yaml"
TASKS = ("semantic", "instance")
FITS = ("squash", "pad", "crop")
PLAIN: dict[str, Any] = {"flip": False, "scales": [1.0]}  # no test-time augmentation


@dataclass(frozen=True)
class Description:
    """What must be known to predict with a model; stands in bundle.json and in the metadata of model.onnx.

    classes: names in index order. colours: r, g, b of each class. size: height, width of the network's input.
    fit: how an image gets to that size. model: {"name": ..., options}. normalization: "imagenet" | "inception" | "unit".
    scores: the headline scores with their intervals. ledger: digest and totals of the data it was trained on.
    tta: test-time augmentation of every prediction: {"flip": bool, "scales": factors of `size`}.
    flip_pairs: indices of classes that change places in a mirrored image, such as left and right.
    base_size: with `fit: crop`, the long side that images are scaled to first; None: their own pixels.
    multilabel: each class has a mask of its own (sigmoid), they may overlap.
    task: "semantic", or "instance": then `classes` are those that objects can have, without a background.
    thresholds: of instance models, what counts as an object (see tasks/thresholds.py); what is not named has its default.
    """

    classes: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]
    size: tuple[int, int]
    fit: str
    model: Mapping[str, Any]
    normalization: str = "imagenet"
    task: str = "semantic"
    scores: Mapping[str, Any] = field(default_factory=dict)
    ledger: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    fixed_output: Mapping[str, Any] = field(default_factory=dict)
    tta: Mapping[str, Any] = field(default_factory=lambda: dict(PLAIN))
    flip_pairs: tuple[tuple[int, int], ...] = ()
    base_size: int | None = None
    multilabel: bool = False
    thresholds: Mapping[str, Any] = field(default_factory=dict)

    @property
    def format(self) -> int:
        """The oldest that predicts right with it: 1, 2 (augmented, multilabel or windowed), or 3 (objects)."""
        if self.task == "instance":
            return 3
        return 2 if self.multilabel or self.base_size is not None or dict(self.tta) != PLAIN else 1

    @property
    def whole_fit(self) -> str:
        """How a whole image is fitted: as in training, squashed where the model looks through windows."""
        return "squash" if self.fit == "crop" else self.fit

    def to_json(self) -> dict[str, Any]:
        return {"format": self.format, **asdict(self)}


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk."""

    path: Path
    description: Description

    @property
    def onnx(self) -> Path | None:
        file = self.path / ONNX
        return file if file.is_file() else None

    @property
    def weights(self) -> Path:
        return self.path / WEIGHTS


def is_bundle(path: str | Path) -> bool:
    return (Path(path) / DESCRIPTION).is_file()


def load(path: str | Path) -> Bundle:
    """The bundle in a folder. Raises ModelError when it is none, is incomplete, or was written by a newer version."""
    path = Path(path)
    if not path.exists():
        raise ModelError("not found", place=path, hint="`maskwright runs` lists the bundles of your runs")
    if is_bundle(path / "bundle"):
        path = path / "bundle"  # a run folder was given
    if path.is_file():
        hint = "give `runs/NAME/bundle` or a `.onnx` file; what else `maskwright export` wrote is for its own runtime"
        raise ModelError("is a file, and no ONNX one", place=path, hint=hint)
    if not is_bundle(path):
        raise ModelError(
            f"is not a bundle (no {DESCRIPTION} in it)", place=path, hint="give the folder `runs/NAME/bundle`"
        )
    try:
        text = (path / DESCRIPTION).read_text(encoding="utf-8")
        fields = json.loads(text)
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot be read ({error})", place=path / DESCRIPTION) from error
    return Bundle(path, describe(fields, path / DESCRIPTION))


def describe(fields: Any, place: object) -> Description:
    """A Description from parsed JSON. Raises ModelError for other shapes and newer formats."""
    if not isinstance(fields, dict) or not isinstance(fields.get("format"), int):
        raise ModelError("is not the description of a Maskwright model", place=place)
    if fields["format"] > FORMAT:
        raise ModelError(
            f"was written in bundle format {fields['format']}; this version reads up to {FORMAT}",
            place=place,
            hint="update with: pip install -U maskwright",
        )
    known = set(Description.__dataclass_fields__)
    try:
        values = {k: v for k, v in fields.items() if k in known}
        description = Description(
            **{
                **values,
                "classes": tuple(str(c) for c in _listed(fields["classes"])),
                "colours": tuple((int(r), int(g), int(b)) for r, g, b in fields["colours"]),
                "size": (int(fields["size"][0]), int(fields["size"][1])),
                "tta": augmentation(fields.get("tta", {})),
                # bundles did not always say it; without it a mirrored view would mix up left and right
                "flip_pairs": tuple(
                    (int(a), int(b)) for a, b in fields.get("flip_pairs", names.proposed(fields["classes"]))
                ),
            }
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelError(f"is damaged ({type(error).__name__}: {error})", place=place) from error
    _check_words(description, place)
    count, pairs = len(description.classes), description.flip_pairs
    if not count or len(description.colours) != count or min(description.size) < 1:
        raise ModelError("is damaged (classes, colours and size do not fit together)", place=place)
    if not all(0 <= index < count for pair in pairs for index in pair):
        raise ModelError("is damaged (flip_pairs names a class that is not there)", place=place)
    return description


def _listed(value: Any) -> Sequence[Any]:
    if not isinstance(value, list | tuple):
        raise TypeError(f"`classes` is `{value}`, no list")
    return value


def _check_words(description: Description, place: object) -> None:
    """Raises ModelError for a task, a network, a fit or class names that cannot be."""
    if description.task not in TASKS:
        hint = "update with: pip install -U maskwright"
        raise ModelError(
            f"is for the task `{description.task}`, which this version does not know", place=place, hint=hint
        )
    if not isinstance(description.model, Mapping) or not isinstance(description.model.get("name"), str):
        raise ModelError("is damaged (`model` names no network)", place=place)
    if description.fit not in FITS:
        raise ModelError(f"is damaged (`fit` is `{description.fit}`)", place=place)
    if len(set(description.classes)) < len(description.classes):
        raise ModelError("is damaged (two classes have one name)", place=place)


def augmentation(given: Mapping[str, Any], known: Mapping[str, Any] = PLAIN) -> dict[str, Any]:
    """A whole `tta` from what is given of it; what is not given stays as in `known`.

    Raises ValueError for other keys, scales outside 0..4, and no scale at all.
    """
    flip, scales = ({**known, **given}[key] for key in PLAIN)
    if unknown := set(given) - set(PLAIN):
        raise ValueError(f"no test-time augmentation is called `{min(unknown)}`; it can be `flip` or `scales`")
    if not isinstance(flip, bool):
        raise ValueError(f"`flip` is true or false, not `{flip}`")
    if not scales or not all(0 < scale <= 4 for scale in scales):
        raise ValueError("`scales` are numbers above 0, 4 at most, such as 0.75,1,1.25")
    return {"flip": flip, "scales": [float(scale) for scale in scales]}


def save_description(path: Path, description: Description) -> None:
    files.write_json(path / DESCRIPTION, description.to_json())
