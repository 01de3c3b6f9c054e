"""Networks of the `transformers` library from a folder with its config.json: SegFormer, Mask2Former, EoMT, EoMT with DINOv3.

What is trained elsewhere comes with its folder; a bundle holds the configuration itself, so it needs neither folder nor hub.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import errors as hub_errors
from torch import Tensor, nn
from torch.nn.functional import interpolate

from maskwright.core.errors import ModelError, RecipeError, SetupError
from maskwright.core.registry import missing_package, suggestion
from maskwright.models import encoders, weight_files

WEIGHT_FILES = ("*.safetensors", "*.safetensors.index.json", "pytorch_model*.bin", "pytorch_model.bin.index.json")
PRIVATE = ("id2label", "label2id", "_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype")
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
EPSILON = 1e-6  # of a score, before its logarithm
REFUSALS = (*encoders.REFUSALS, getattr(hub_errors, "StrictDataclassError", ValueError))
UNREADABLE = (*encoders.DOWNLOAD_ERRORS, *weight_files.UNREADABLE, *REFUSALS)


@dataclass(frozen=True)
class Kind:
    """A model type of the library. model: its class. classifier: the layer whose rows are classes.

    masks: it answers with classes and masks of queries, not with logits of pixels. stride: None where it takes
    images of one size only, `image_size` of its configuration.
    """

    model: str
    classifier: str
    masks: bool
    stride: int | None


KINDS = {
    "segformer": Kind("SegformerForSemanticSegmentation", "decode_head.classifier", masks=False, stride=32),
    "mask2former": Kind("Mask2FormerForUniversalSegmentation", "class_predictor", masks=True, stride=32),
    "eomt": Kind("EomtForUniversalSegmentation", "class_predictor", masks=True, stride=None),
    "eomt_dinov3": Kind("EomtDinov3ForUniversalSegmentation", "class_predictor", masks=True, stride=None),
}

Own = tuple[
    str, dict[str, Tensor], tuple[list[float], list[float]] | None
]  # words, state dict, mean and std for 0..255


def transformers(num_classes: int, *, path: str = "", config: dict[str, Any] | None = None) -> nn.Module:
    """SegFormer, Mask2Former or EoMT (also with DINOv3) of the `transformers` library; needs that extra.

    Trained with the losses of the recipe on the logits of pixels, also where the paper matches queries with masks. For these
    the logit of a class is the logarithm of its score: class probability times mask probability, summed over the queries.

    path: a folder with `config.json` and, where they are to be used, weights; or the name of a model on the hub.
    config: the content of such a `config.json`, instead of `path`; what a bundle stores.
    """
    found = configured("transformers", num_classes, path, config)
    kind = KINDS[found.model_type]
    network = TransformersNetwork(built(kind, found), found, kind)
    network.own_weights = weights_beside(path, found, kind)
    return network


def configured(
    name: str,
    num_classes: int,
    path: str,
    config: Mapping[str, Any] | None,
    kinds: Sequence[str] = tuple(KINDS),
) -> Any:
    """The library's configuration that the options of the model `name` mean. Raises RecipeError for another than of `kinds`."""
    if bool(path) == (config is not None):
        raise RecipeError(f"model `{name}` needs `path` or `config`", hint="path: a folder with `config.json`")
    found = _configuration(path) if config is None else _rebuilt(config)
    if found.model_type not in kinds:
        hint = f"it can be {', '.join(f'`{kind}`' for kind in kinds)}"
        raise RecipeError(f"model type `{found.model_type}` cannot be used here", place=path or None, hint=hint)
    found.num_labels = num_classes
    return found


class TransformersNetwork(nn.Module):
    """forward: normalised images float (B, 3, H, W) -> logits (B, C, H, W).

    encoder: the library's model without its last layer; what pretrained weights go into. head: that layer.
    own_weights: reads those of the folder the network was made from; None where it has none.
    options: those that make the same network anywhere.
    """

    head_names = ("head.",)

    def __init__(self, model: nn.Module, config: Any, kind: Kind):
        super().__init__()
        self.head = model.get_submodule(kind.classifier)
        _replace(model, kind.classifier)
        if hasattr(model, "criterion"):
            model.criterion = nn.Identity()  # the paper's loss, which holds a weight for every class
        self.encoder = model
        self.encoder_name = str(config.model_type)
        self.masks = kind.masks
        self.only_size: int | None = int(config.image_size) if kind.stride is None else None
        self.stride = kind.stride or 1
        self.options: dict[str, Any] = {"config": portable(config.to_diff_dict())}
        self.own_weights: Callable[[], Own] | None = None

    def forward(self, images: Tensor) -> Tensor:
        seen = images if self.only_size is None else _resized(images, (self.only_size, self.only_size))
        output = self.encoder(pixel_values=seen, return_dict=True)
        if self.masks:
            logits = _semantic(self.head(output.class_queries_logits), output.masks_queries_logits)
        else:
            logits = self.head(output.logits)
        return _resized(logits, images.shape[-2:])


def _semantic(classes: Tensor, masks: Tensor) -> Tensor:
    """Logits (B, C, h, w) of pixels from class logits (B, Q, C + 1), the last for `nothing`, and mask logits (B, Q, h, w).

    The semantic inference of Cheng et al. 2022, "Masked-attention Mask Transformer".
    """
    with torch.autocast(masks.device.type, enabled=False):  # bf16 would tell few levels of a probability apart
        probabilities = classes.float().softmax(dim=-1)[..., :-1].transpose(1, 2)
        scores = probabilities @ masks.float().sigmoid().flatten(2)
        return torch.log(scores + EPSILON).unflatten(2, masks.shape[-2:])


def _resized(images: Tensor, size: Any) -> Tensor:
    return interpolate(images, size=size, mode="bilinear", align_corners=False)


def _replace(model: nn.Module, name: str) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, nn.Identity())


# ------------------------------------------------------------------------------------------------------- configurations


def _configuration(path: str) -> Any:
    """The library's configuration in a folder, or on the hub."""
    with _library() as library, encoders.cache_only_when_offline() as offline:
        folder = Path(path).expanduser()
        if folder.is_dir() and not (folder / "config.json").is_file():
            raise RecipeError("has no `config.json`", place=folder, hint="`path` is a folder that the library saved")
        if not folder.is_dir() and not HUB_NAME.fullmatch(path):
            raise RecipeError("no such folder", place=path, hint="`path` is a folder with `config.json`")
        try:
            return library.AutoConfig.from_pretrained(folder if folder.is_dir() else path, local_files_only=offline)
        except UNREADABLE as error:
            if folder.is_dir():
                raise ModelError(f"cannot be read ({_in_a_line(error)})", place=folder / "config.json") from error
            why = "no network" if offline else _in_a_line(error)
            raise SetupError(
                f"`{path}` is no folder here and cannot be fetched from the hub ({why})",
                hint="download the model elsewhere and give its folder as `path`",
            ) from error


def _rebuilt(config: Mapping[str, Any]) -> Any:
    """The library's configuration from the content of its file."""
    options = {key: value for key, value in config.items() if key != "model_type"}
    name = config.get("model_type")
    if name not in KINDS:
        what = f"no model type is called `{name}`" if name else "`config` has no `model_type`"
        raise RecipeError(what, place="model.config", hint=suggestion(str(name), KINDS))
    with _library() as library:
        try:
            return library.AutoConfig.for_model(name, **options)
        except REFUSALS as error:
            raise RecipeError(f"`config` cannot be used ({_in_a_line(error)})", place="model.config") from error


def built(kind: Kind, config: Any) -> Any:
    """The library's model of a configuration, with random weights. Raises RecipeError where it cannot be made."""
    with _library() as library:
        model = getattr(library, kind.model, None)
        if model is None:
            raise SetupError(
                f"the installed `transformers` has no {kind.model}", hint="pip install --upgrade transformers"
            )
        try:
            return model(config)
        except REFUSALS as error:
            raise RecipeError(
                f"a {config.model_type} cannot be made of this configuration ({_in_a_line(error)})"
            ) from error


def portable(tree: Any) -> Any:
    """Configuration without names of classes, folders and versions, in the types of JSON."""
    if isinstance(tree, Mapping):
        return {str(key): portable(value) for key, value in tree.items() if key not in PRIVATE}
    if isinstance(tree, list | tuple):
        return [portable(value) for value in tree]
    return tree if isinstance(tree, str | int | float | bool | None) else str(tree)


# -------------------------------------------------------------------------------------------------------------- weights


def weights_beside(path: str, config: Any, kind: Kind) -> Callable[[], Own] | None:
    """A network's `own_weights`: reads those that lie beside the configuration at `path`; None where there are none."""
    return (lambda: _own_weights(path, config, kind)) if path and _has_weights(path) else None


def _has_weights(path: str) -> bool:
    folder = Path(path).expanduser()
    return not folder.is_dir() or any(any(folder.glob(pattern)) for pattern in WEIGHT_FILES)


def _own_weights(path: str, config: Any, kind: Kind) -> Own:
    """The weights that lie beside a configuration, under the names of TransformersNetwork, and the pixel scale they want."""
    folder = Path(path).expanduser()
    place = str(folder) if folder.is_dir() else path
    with _library() as library, encoders.cache_only_when_offline() as offline:
        try:
            model, told = getattr(library, kind.model).from_pretrained(
                place,
                config=config,
                local_files_only=offline,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                dtype=torch.float32,
            )
        except UNREADABLE as error:
            raise ModelError(f"its weights cannot be used ({_in_a_line(error)})", place=place) from error
        scale = _pixel_scale(library, place, offline)
    absent = set(told["missing_keys"]) | {key[0] for key in told["mismatched_keys"]}
    renamed = f"{kind.classifier}."
    state = {
        f"head.{key.removeprefix(renamed)}" if key.startswith(renamed) else f"encoder.{key}": value
        for key, value in model.state_dict().items()
        if key not in absent and not key.startswith("criterion.")
    }
    return f"the weights of {path}", state, scale


def _pixel_scale(library: Any, place: str, offline: bool) -> tuple[list[float], list[float]] | None:
    """Mean and std for pixels 0..255, where a preprocessor_config.json tells."""
    reader = library.image_processing_base.ImageProcessingMixin
    try:
        said, _ = reader.get_image_processor_dict(place, local_files_only=offline)
    except OSError:  # there is none
        return None
    mean, std, scale = said.get("image_mean"), said.get("image_std"), said.get("rescale_factor", 1 / 255)
    return ([m / scale for m in mean], [s / scale for s in std]) if mean and std and scale else None


@contextmanager
def _library() -> Iterator[Any]:
    """The library, silent: it reports what it loads to stderr."""
    try:
        import transformers as library
    except ModuleNotFoundError as error:
        raise missing_package(error.name or "transformers", "model `transformers`") from error
    before, bars = library.logging.get_verbosity(), library.logging.is_progress_bar_enabled()
    library.logging.set_verbosity(library.logging.CRITICAL)
    library.logging.disable_progress_bar()
    try:
        yield library
    finally:
        library.logging.set_verbosity(before)
        if bars:
            library.logging.enable_progress_bar()


def _in_a_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
