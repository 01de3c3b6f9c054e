"""Every key of a recipe explained by itself: its type in words, its default, its help and an example.

A new key of the recipe gets its line in EXAMPLES, written as a change on the command line.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from maskwright.core.errors import COMMAND_LINE, RecipeError
from maskwright.core.recipe import Entry, Recipe
from maskwright.core.recipe_mistakes import parts_in
from maskwright.core.recipe_text import plain
from maskwright.core.registry import suggestion
from maskwright.core.yaml_text import flow

WORDS = {bool: "true or false", int: "whole number", float: "number", str: "text"}
SIGNS = {"ge": "from {:g}", "gt": "above {:g}", "le": "up to {:g}", "lt": "below {:g}"}


@dataclass(frozen=True)
class Key:
    """name: dotted. default: as YAML; None where there is none. example: a change, `train.epochs=20`. below: its own keys."""

    name: str
    type: str
    default: str | None
    help: str
    example: str | None
    below: tuple[str, ...] = ()

    def yaml(self) -> str:
        """The example as it stands in a recipe."""
        path, _, value = (self.example or "").partition("=")
        *parents, last = path.split(".")
        lines = [f"{'  ' * depth}{name}:" for depth, name in enumerate(parents)]
        return "\n".join([*lines, f"{'  ' * len(parents)}{last}: {value}"]) if self.example else ""


def explained(name: str) -> Key:
    """One key of a recipe; numbers in it are left out (`data.0.path`). Raises RecipeError with the nearest keys."""
    parts = [part for part in name.split(".") if not part.isdigit()]
    known = {key.name: key for key in every_key()}
    if (dotted := ".".join(parts)) in known:
        return known[dotted]
    same = [key for key in known if key.split(".")[-1] == parts[-1:][0]] if parts else []
    hint = "did you mean " + " or ".join(f"`{key}`" for key in same) + "?" if same else suggestion(dotted, known)
    if hint.startswith("it can be"):
        hint = "`maskwright explain recipe` lists them"
    raise RecipeError(f"no key of a recipe is called `{name}`", place=COMMAND_LINE, hint=hint)


def every_key() -> Iterator[Key]:
    """Every key that a recipe may have, in the order they are written; those of `val` and `test` are those of `data`."""
    return _keys(Recipe, "")


def _keys(part: type[BaseModel], prefix: str) -> Iterator[Key]:
    for key, info in part.model_fields.items():
        name, below = f"{prefix}{key}", next(parts_in(info.annotation), None)
        nested = below is not None and below is not Entry and key not in ("val", "test")
        inner = list(_keys(below, f"{name}.")) if below is not None and nested else []
        own = tuple(k.name for k in inner if k.name.count(".") == name.count(".") + 1)
        given = None if info.is_required() or (isinstance(info.default, BaseModel) and nested) else info.default
        default = None if given is None else flow(plain(given))
        help = info.description or ""
        yield Key(name, in_words(info.annotation, info.metadata), default, help, EXAMPLES.get(name), own)
        yield from inner


def in_words(annotation: Any, limits: Sequence[Any] = ()) -> str:
    """A type as a person says it: `whole number from 1`, `list of {epochs, lr, freeze}`, `auto | memory | disk`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        own = [limit for given in inner[1:] for limit in (given.metadata if isinstance(given, FieldInfo) else [given])]
        return in_words(inner[0], own)
    if origin in (Union, types.UnionType):
        members = [member for member in inner if member is not type(None)]
        return " or ".join(dict.fromkeys(in_words(member, limits) for member in members))
    if origin is Literal:
        return " | ".join(str(choice) for choice in inner)
    if origin is list:
        return f"list of {in_words(inner[0])}"
    if origin is dict:
        return f"{{{in_words(inner[0])}: {in_words(inner[1])}}}"
    if annotation is Entry:
        return "a name, or {name: ..., option: ...}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        more = ", option: ..." if issubclass(annotation, Entry) else ""
        return f"{{{', '.join(annotation.model_fields)}{more}}}"
    bounds = [
        words.format(getattr(limit, sign)) for limit in limits for sign, words in SIGNS.items() if hasattr(limit, sign)
    ]
    return " ".join([WORDS.get(annotation, "anything"), *bounds])


EXAMPLES = {
    "task": "task=semantic",
    "data": "data=[{path: trainingset}, {path: more_photos, weight: 0.5}]",
    "data.path": "data=[{path: trainingset}]",
    "data.format": "data=[{path: trainingset, format: {name: coco, crowd: drop}}]",
    "data.classes": "data=[{path: trainingset, classes: {front_door: door, tailgate: null}}]",
    "data.keep": "data=[{path: trainingset, keep: [door, wheel]}]",
    "data.components": "data=[{path: masks, components: 25}]",
    "data.weight": "data=[{path: trainingset, weight: 2.0}]",
    "val": "val=[{path: other_photos}]",
    "test": "test=[{path: test_photos}]",
    "split": "split={folds: 10, fold: 3}",
    "split.folds": "split.folds=10",
    "split.fold": "split.fold=1",
    "split.fraction": "split.fraction=0.2",
    "split.group": r"split.group=^(\w+)_\d+",
    "split.stratify": "split.stratify=false",
    "split.seed": "split.seed=1",
    "split.file": "split.file=runs/NAME/split.json",
    "negatives": "negatives=0.5",
    "allow_refused": "allow_refused=true",
    "limit": "limit=40",
    "size": "size=[256, 384]",
    "fit": "fit=pad",
    "base_size": "base_size=1024",
    "multilabel": "multilabel=true",
    "model": "model={name: unet, encoder: resnet34, weights: imagenet}",
    "model.name": "model.name=deeplabv3+",
    "model.weights": "model.weights=resnet34.pth",
    "model.normalization": "model.normalization=unit",
    "loss": "loss={cross_entropy: 1.0, dice: {weight: 0.5}}",
    "augment": "augment={name: medium, rotate: 15}",
    "mix": "mix=[mixup]",
    "flip_pairs": "flip_pairs=[[left_hand, right_hand]]",
    "train": "train={epochs: 20, batch: 16}",
    "train.epochs": "train.epochs=20",
    "train.minutes": "train.minutes=30",
    "train.batch": "train.batch=auto",
    "train.accumulate": "train.accumulate=4",
    "train.clip": "train.clip=1.0",
    "train.drop_last": "train.drop_last=false",
    "train.fraction": "train.fraction=0.1",
    "train.optimizer": "train.optimizer={name: sgd, lr: 0.01, momentum: 0.9}",
    "train.encoder_lr": "train.encoder_lr=1.0",
    "train.layer_lr": "train.layer_lr={encoder.layer1.*: 0.01}",
    "train.freeze": "train.freeze=[encoder.layer1]",
    "train.stages": "train.stages=[{epochs: 4, freeze: [encoder]}, {epochs: 20, lr: 0.1}]",
    "train.stages.epochs": "train.stages=[{epochs: 4}, {epochs: 20}]",
    "train.stages.lr": "train.stages=[{epochs: 4}, {epochs: 20, lr: 0.1}]",
    "train.stages.layers": "train.stages=[{epochs: 4, layers: heads}, {epochs: 10, layers: 4+}, {epochs: 20, lr: 0.1}]",
    "train.stages.freeze": "train.stages=[{epochs: 4, freeze: [encoder]}, {epochs: 20}]",
    "train.freeze_norms": "train.freeze_norms=true",
    "train.ema": "train.ema=0.999",
    "train.early_stopping": "train.early_stopping={patience: 6}",
    "train.early_stopping.patience": "train.early_stopping.patience=6",
    "train.early_stopping.tolerance": "train.early_stopping.tolerance=0.002",
    "train.early_stopping.min_epochs": "train.early_stopping.min_epochs=10",
    "train.validate_every": "train.validate_every=2",
    "train.schedule": "train.schedule={name: poly, power: 0.9}",
    "train.warmup": "train.warmup=1.0",
    "train.precision": "train.precision=fp32",
    "train.device": "train.device=cuda:1",
    "train.workers": "train.workers=4",
    "train.cache": "train.cache=disk",
    "train.cache_gb": "train.cache_gb=8.0",
    "train.seed": "train.seed=1",
    "tta": "tta={flip: true, scales: [0.75, 1.0, 1.25]}",
    "tta.flip": "tta.flip=true",
    "tta.scales": "tta.scales=[0.75, 1.0, 1.25]",
    "watch": "watch=my_photos",
}
