"""The recipe: the typed tree of what a user may say, read from YAML with file:line errors.

Every key has a default except `data`. Unknown keys are refused with the nearest known one. Options of a model, loss,
optimiser, schedule or format are not listed here: they are the keyword-only parameters of the entry with that name, and
`check_entry` holds them against its signature.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from maskwright.core import yaml_text
from maskwright.core.errors import RecipeError
from maskwright.core.recipe_changes import applied
from maskwright.core.recipe_changes import as_pairs as as_pairs
from maskwright.core.recipe_defaults import FOR_PIXELS, with_defaults
from maskwright.core.recipe_mistakes import first_mistake
from maskwright.core.registry import Registry, suggestion


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Entry(Part):
    """A name from a shelf with options for it, written `name` or `{name: ..., option: ...}`."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    name: str

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.model_extra or {})


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Named = Annotated[Entry, BeforeValidator(_named)]


class Source(Part):
    path: str = Field(description="file or folder with labelled images")
    format: Named | None = Field(None, description="left out: recognised; or a name, or {name: coco, crowd: drop}")
    classes: dict[str, str | None] = Field(
        {}, description="old name: new name; null drops the class; unnamed ones stay"
    )
    keep: list[str] | None = Field(None, description="keep only these classes (names after `classes` was applied)")
    components: Annotated[int, Field(ge=1)] | bool = Field(
        False,
        description="true: each connected piece of a class in label maps is an object; a number: from so many pixels on",
    )
    weight: float = Field(1.0, gt=0, description="share of training samples relative to its size")


class Splitting(Part):
    folds: int = Field(5, ge=2, description="the images are cut into this many parts")
    fold: int = Field(0, ge=0, description="the part that is held out for validation")
    fraction: float | None = Field(None, gt=0, lt=1, description="hold out this share instead of one fold")
    group: str | None = Field(None, description="regular expression on the image id; one group is never cut in two")
    stratify: bool = Field(True, description="keep the share of images of each class equal in all parts")
    seed: int = Field(0, description="another seed draws another split")
    file: str | None = Field(None, description="a split file of an earlier run: the same images again")

    @field_validator("fold")
    @classmethod
    def _exists(cls, fold: int, known: ValidationInfo) -> int:
        folds = known.data.get("folds", fold + 1)
        if fold >= folds:
            raise ValueError(f"{fold} is not below split.folds ({folds}), the first fold being 0")
        return fold


class Model(Entry):
    name: str = Field("unet", description="see `maskwright explain model`")
    weights: str = Field(
        "auto",
        description="auto | imagenet | none | a file | a bundle; auto takes what can be had and says what it took",
    )
    normalization: Literal["auto", "imagenet", "inception", "unit", "clip", "dpn"] = Field(
        "auto", description="how the network wants its pixels; auto: as the weights were trained"
    )


class Tta(Part):
    flip: bool = Field(False, description="also predict the mirrored image; left and right classes change back")
    scales: list[Annotated[float, Field(gt=0, le=4)]] = Field(
        [1.0], min_length=1, description="sizes the image is predicted at, as factors of the network's"
    )


class Stopping(Part):
    patience: int = Field(4, ge=1, description="validations without a better score after which training stops")
    tolerance: float = Field(0.0, ge=0, description="a score counts as better when it rises by more than this")
    min_epochs: int = Field(5, ge=0, description="never stops before")


class Stage(Part):
    epochs: int = Field(ge=1, description="length of this stage")
    lr: float = Field(1.0, gt=0, description="factor of the learning rate in this stage")
    layers: Literal["heads", "3+", "4+", "5+", "all"] = Field(
        "all", description="what is trained: all but the encoder, also its parts at strides from 8, 16 or 32 on, or all"
    )
    freeze: list[str] = Field([], description="layers that stay as they are: names or patterns, as `encoder.*`")


class Training(Part):
    epochs: int | None = Field(
        None, ge=1, description="passes over the training images; left out: as many as fit `minutes`"
    )
    minutes: float | None = Field(None, gt=0, description="time to spend, when `epochs` is left out (then 10)")
    batch: Annotated[int, Field(ge=1)] | Literal["auto"] = Field(
        8, description="images a step; auto: as many as fit into memory, said aloud"
    )
    accumulate: int = Field(
        1, ge=1, description="batches whose gradients make one step, as if they were one large batch"
    )
    clip: float | None = Field(None, gt=0, description="largest norm of the gradient; left out: not clipped")
    drop_last: bool = Field(True, description="only full batches; the images left over wait for another epoch")
    fraction: float = Field(1.0, gt=0, le=1, description="share of the training images to use, drawn with `seed`")
    optimizer: Named = Field(Entry(name="adamw", lr=2e-3), description="see `maskwright explain optimizer`")
    encoder_lr: float = Field(
        0.1, gt=0, description="learning rate of an encoder with pretrained weights, as a factor of the others'"
    )
    layer_lr: dict[str, Annotated[float, Field(ge=0)]] = Field(
        {},
        description="pattern of layer names: factor of their learning rate, as {'encoder.layer1.*': 0.01}; the last that "
        "fits counts, in the encoder instead of `encoder_lr`",
    )
    freeze: list[str] = Field([], description="layers that stay as they are: names or patterns, as `encoder.*`")
    stages: list[Stage] = Field(
        [],
        description="parts of the training one after another, as [{epochs: 4, freeze: [encoder]}, {epochs: 20, lr: 0.1}]; "
        "the schedule, with its warm-up, runs anew in each",
    )
    freeze_norms: bool | Literal["auto"] = Field(
        "auto",
        description="keep BatchNorm statistics of pretrained weights; auto: for batches too small to have their own",
    )
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the running average of the weights that is used; 0: off")
    early_stopping: Stopping | None = Field(None, description="stop when the validation score no longer rises")
    validate_every: int | None = Field(
        None, ge=1, description="epochs between validations; left out: so that they take half of the time at most"
    )
    schedule: Named = Field(Entry(name="cosine"), description="see `maskwright explain schedule`")
    warmup: float = Field(0.0, ge=0, description="epochs in which the learning rate rises from 0")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field("auto", description="of the training arithmetic")
    device: str = Field("auto", description="auto | cpu | cuda | cuda:1 | mps")
    workers: int | Literal["auto"] = Field(
        "auto", description="processes (threads outside Linux) that prepare samples; 0 = none"
    )
    cache: Literal["auto", "memory", "disk", "none"] = Field(
        "auto", description="where decoded samples are kept between epochs"
    )
    cache_gb: float | None = Field(
        None,
        gt=0,
        description="budget for the training images, and again for those of validation; left out: a quarter of what is free",
    )
    seed: int = Field(0, description="of the weights' init, the sample order and the augmentation")

    @model_validator(mode="after")
    def _one_length(self) -> Training:
        if self.epochs is not None and self.minutes is not None:
            raise ValueError("give `epochs` or `minutes`, not both")
        if self.stages and (self.epochs is not None or self.minutes is not None):
            raise ValueError("the length of a training with `stages` is theirs; leave out `epochs` and `minutes`")
        return self


def _listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _sources(value: Any) -> Any:
    """`data: folder`, `data: {path: ...}` and lists of either all become a list of mappings."""
    items = value if isinstance(value, list) else [value]
    return [{"path": item} if isinstance(item, str) else item for item in items]


Sources = Annotated[list[Source], BeforeValidator(_sources)]


def _pair(value: Any) -> Any:
    return [value, value] if isinstance(value, int) and not isinstance(value, bool) else value


Size = Annotated[list[Annotated[int, Field(ge=16, le=8192)]], BeforeValidator(_pair), Field(min_length=2, max_length=2)]


class Recipe(Part):
    task: Literal["semantic", "instance"] = Field(
        "semantic", description="semantic: one class a pixel; instance: every object by itself, with box and mask"
    )
    data: Sources = Field(
        min_length=1, description="labelled images: a path, or a list of {path, format, classes, weight}"
    )
    val: Literal["none"] | Sources | None = Field(
        None,
        description="other data to validate on, instead of a part of `data`; none: train on everything, unmeasured",
    )
    test: Sources | None = Field(None, description="other data to score once at the end")
    split: Splitting = Field(Splitting(), description="how `data` is cut when it has no official lists")
    negatives: float | None = Field(
        None,
        ge=0,
        description="images without any object to keep, per image with one; left out: all; in train and val, never in test",
    )
    allow_refused: bool = Field(
        False, description="train although items of the data were refused; the bundle remembers"
    )
    limit: int | None = Field(None, ge=2, description="use only so many images: a dry run")
    size: Size = Field([256, 256], description="what the network sees: 256 or [height, width]")
    fit: Literal["squash", "pad", "crop"] = Field(
        "squash", description="squash to `size`, pad to keep the aspect, or crop windows of the original pixels"
    )
    base_size: int | None = Field(
        None, ge=16, description="with `fit: crop`: the long side that images are scaled to first; left out: their own"
    )
    multilabel: bool = Field(
        False, description="classes may overlap: one mask each (sigmoid), nothing painted over anything else"
    )
    model: Annotated[Model, BeforeValidator(_named)] = Field(
        Model(), description="the network and where its weights start"
    )
    loss: dict[str, float | dict[str, Any]] = Field(
        {"cross_entropy": 1.0, "dice": 1.0},
        min_length=1,
        description="name: weight, or name: {weight: 1.0, option: ...}; left out with `multilabel`: bce and dice",
    )
    augment: Named | Annotated[list[Named], Field(min_length=1)] = Field(
        Entry(name="soft"),
        description="none | soft | medium | hard, or a list of operations; see `maskwright explain augment`",
    )
    mix: Annotated[list[Named], BeforeValidator(_listed)] = Field(
        [], description="samples made of two: mixup, cutmix, copy_paste; see `maskwright explain mix`"
    )
    flip_pairs: list[list[str]] | Literal["auto"] = Field(
        "auto", description="classes that a horizontal flip swaps; auto: proposed from names with left and right"
    )
    train: Training = Field(Training(), description="length, optimiser, device")
    tta: Tta = Field(Tta(), description="test-time augmentation of every prediction with this model")
    watch: str | None = Field(
        None, description="folder of photos without labels: each training puts its masks of them into the report"
    )

    @model_validator(mode="before")
    @classmethod
    def _left_out(cls, tree: Any) -> Any:
        return with_defaults(tree) if isinstance(tree, dict) else tree

    @field_validator(*FOR_PIXELS, mode="wrap")
    @classmethod
    def _of_pixels(cls, value: Any, validated: ValidatorFunctionWrapHandler, known: ValidationInfo) -> Any:
        """With `task: instance` they can only be what they are when left out, whatever was meant otherwise."""
        if known.data.get("task") != "instance":
            return validated(value)
        name = str(known.field_name)
        default = cls.model_fields[name].get_default()
        try:
            if value is None or validated(value) == default:
                return default
        except ValidationError:
            pass
        model = known.data.get("model")
        raise ValueError(FOR_PIXELS[name].format(model=model.name if isinstance(model, Model) else "mask_rcnn"))

    @field_validator("tta", mode="wrap")
    @classmethod
    def _of_one_size(cls, value: Any, validated: ValidatorFunctionWrapHandler, known: ValidationInfo) -> Any:
        """With `task: instance` images may be mirrored, not scaled."""
        if known.data.get("task") != "instance":
            return validated(value)
        try:
            found = validated(value)
        except ValidationError:
            found = None
        if found is None or found.scales != [1.0]:
            raise ValueError("objects are found at one size; write `tta: {flip: true}`, or leave it out")
        return found

    @property
    def height(self) -> int:
        return self.size[0]

    @property
    def width(self) -> int:
        return self.size[1]


def load(path: str | Path, changes: Mapping[str, Any] | Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file. changes: {"train.epochs": 20} or ["train.epochs=20"].

    Relative data paths are taken from the recipe's own folder. Raises RecipeError with file:line, key and hint.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"cannot be read ({error.strerror})", place=path) from error
    except UnicodeDecodeError as error:
        raise RecipeError(
            "is not a text file", place=path, hint="a recipe is YAML; `maskwright new PATH` writes one"
        ) from error
    tree, lines = yaml_text.parse(text, str(path))
    return _at_home(build(tree, changes, lines, str(path)), path.parent)


def build(
    tree: dict[str, Any],
    changes: Mapping[str, Any] | Sequence[str] = (),
    lines: Mapping[str, int] | None = None,
    name: str = "recipe",
) -> Recipe:
    """A Recipe from a tree of plain values, with changes applied on top. Raises RecipeError for the first mistake."""
    changed = applied(tree, changes)
    try:
        return Recipe.model_validate(changed)
    except ValidationError as error:
        raise first_mistake(error, Recipe, lines or {}, name, set(as_pairs(changes))) from None


def _at_home(recipe: Recipe, home: Path) -> Recipe:
    return with_paths(recipe, lambda path: str(home / Path(path).expanduser()))


def with_paths(recipe: Recipe, moved: Callable[[str], str]) -> Recipe:
    """The recipe with the path of each of its sources, and of the photos to watch, as `moved` makes it."""

    def sources(given: Any) -> Any:
        return [s.model_copy(update={"path": moved(s.path)}) for s in given] if isinstance(given, list) else given

    changed = {key: sources(getattr(recipe, key)) for key in ("data", "val", "test")}
    return recipe.model_copy(update=changed | {"watch": recipe.watch and moved(recipe.watch)})


def check_entry(
    table: Registry,
    entry: Entry | str,
    options: Mapping[str, Any] | None = None,
    place: str = "",
    *,
    texts: bool = False,
) -> None:
    """Holds the options of a recipe entry against the signature of the shelf's entry. Imports that entry.

    texts: numbers may be given as text, to be converted by the caller.

    Raises RecipeError for an unknown name, an unknown option, a missing one, or a value of the wrong type.
    """
    name = entry if isinstance(entry, str) else entry.name
    given = dict(options if options is not None else (entry.options if isinstance(entry, Entry) else {}))
    table.check(name, place or table.kind)
    known = table.options(name)
    for option, value in given.items():
        where = f"{place or table.kind}.{option}"
        if option not in known:
            hint = suggestion(option, known) if known else f"{table.kind} `{name}` has no options"
            raise RecipeError("unknown option", place=where, hint=hint)
        try:
            found = TypeAdapter(known[option].type, config=ConfigDict(strict=False)).validate_python(value)
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise RecipeError(f"{message[0].lower()}{message[1:]} (got `{value}`)", place=where) from None
        if isinstance(value, str) and isinstance(found, int | float) and not texts:
            raise RecipeError(f"is the text `{value}`", place=where, hint=f"write it without quotes: {value}")
    for needed in known.values():
        if needed.default is needed.required and needed.name not in given:
            raise RecipeError("is missing", place=f"{place or table.kind}.{needed.name}", hint=needed.help or None)
