"""A bundle: a trained model as a folder that can be copied anywhere. It holds no pickle and no absolute path.

    weights.safetensors   the network's parameters and buffers
    bundle.json           format number, classes, colours, size, network, scores, versions (`FIELDS` below)
    recipe.yaml           the recipe it was trained with
    model.onnx            the bare network, `contract: network/1` (see export/onnx.py)

Older formats always load; newer ones are refused by a sentence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from maskwright.core import files
from maskwright.core.errors import ModelError

FORMAT = 1
DESCRIPTION, WEIGHTS, ONNX, RECIPE = "bundle.json", "weights.safetensors", "model.onnx", "recipe.yaml"


@dataclass(frozen=True)
class Description:
    """What must be known to predict with a model; stands in bundle.json and in the metadata of model.onnx.

    classes: names in index order. colours: r, g, b of each class. size: height, width of the network's input.
    fit: how an image gets to that size. model: {"name": ..., options}. normalization: "imagenet" | "inception" | "unit".
    scores: the headline scores with their intervals. ledger: digest and totals of the data it was trained on.
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
    format: int = FORMAT

    def to_json(self) -> dict[str, Any]:
        return {"format": self.format, **{k: v for k, v in asdict(self).items() if k != "format"}}


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
                "classes": tuple(str(c) for c in fields["classes"]),
                "colours": tuple((int(r), int(g), int(b)) for r, g, b in fields["colours"]),
                "size": (int(fields["size"][0]), int(fields["size"][1])),
            }
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise ModelError(f"is damaged ({type(error).__name__}: {error})", place=place) from error
    if not description.classes or len(description.colours) != len(description.classes) or min(description.size) < 1:
        raise ModelError("is damaged (classes, colours and size do not fit together)", place=place)
    return description


def save_description(path: Path, description: Description) -> None:
    files.write_json(path / DESCRIPTION, description.to_json())
