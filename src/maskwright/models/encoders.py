"""Encoders by name: all that is asked of segmentation_models_pytorch and timm stands in this file.

A name is one of segmentation_models_pytorch (`resnet34`, `mobilenet_v2`, ...) or `tu-` and one of timm (`tu-convnext_tiny`).
TORCHVISION are encoders of networks that torchvision builds whole: they have weights, but fit no other network.
An encoder returns its features from full resolution down, each level half as large as the one before.
"""

from __future__ import annotations

import socket
import sys
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from urllib.parse import urlparse

import timm
import torch
import torchvision
from huggingface_hub import constants as hub
from huggingface_hub.errors import HfHubHTTPError
from segmentation_models_pytorch import encoders as library
from torch import Tensor, nn

from maskwright.core.errors import RecipeError, SetupError
from maskwright.core.registry import suggestion

# the downloader's errors, those of the client it talks through (which need not be OSErrors), and those of the libraries
DOWNLOAD_ERRORS: tuple[type[BaseException], ...] = (OSError, *HfHubHTTPError.__bases__, RuntimeError, ValueError)
REFUSALS = (ValueError, TypeError, KeyError, RuntimeError, NotImplementedError, AttributeError, AssertionError)


TORCHVISION = ("mobilenet_v3_large",)


def names() -> list[str]:
    """Every encoder name that can be used."""
    return sorted(library.get_encoder_names()) + sorted(f"tu-{name}" for name in timm.list_models())


def check(name: str) -> str:
    """The name itself when it is an encoder's; RecipeError with the nearest names otherwise."""
    if not is_usable(name):
        near = suggestion(name, names())
        hint = (
            near if near.startswith("did") else "see the encoders of segmentation_models_pytorch, or `tu-` and timm's"
        )
        raise RecipeError(f"no encoder is called `{name}`", hint=hint)
    return name


def is_usable(name: str) -> bool:
    """Whether an encoder of this name can be put into a network."""
    return name in library.encoders or (name.startswith("tu-") and timm.is_model(name[3:]))


def is_known(name: str) -> bool:
    """Whether a library knows this encoder; it may have weights for it."""
    return name in TORCHVISION or is_usable(name)


def only_size(name: str) -> int | None:
    """The one height and width an encoder takes, or None when it takes any."""
    said = timm.models.get_pretrained_cfg(name[3:]) if name.startswith("tu-") else None
    return int(said.input_size[-1]) if said is not None and said.fixed_input_size else None


def build(name: str, make: Callable[[], nn.Module], hint: str = "choose another encoder") -> nn.Module:
    """What `make` builds around the encoder `name`, without weights; RecipeError where the library cannot do it."""
    check(name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old aliases of encoders are still fine names
            return make()
    except REFUSALS as error:
        raise RecipeError(f"encoder `{name}` cannot be used here ({error})", hint=hint) from error


def file_stem(name: str) -> str:
    """How the name of a weight file for this encoder begins."""
    return name.removeprefix("tu-").partition(".")[0]


def pretrained_tags(name: str) -> tuple[str, ...]:
    """The kinds of pretrained weights the library offers for an encoder; `imagenet` stands for timm's own."""
    if name in TORCHVISION:
        return ("imagenet",)
    if name.startswith("tu-"):
        return ("imagenet",) if timm.models.is_model_pretrained(name[3:]) else ()
    return tuple(library.encoders.get(name, {}).get("pretrained_settings", {}))


def expected_input(name: str, tag: str = "imagenet") -> tuple[list[float], list[float]] | None:
    """Mean and std, for pixels 0..255, of the library's weights; None where it does not say, or cannot offline."""
    if name in TORCHVISION:
        return [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    try:
        if name.startswith("tu-"):
            said = timm.models.get_pretrained_cfg(name[3:])
            if said is None:
                return None
            mean, std = said.mean, said.std
        else:
            with cache_only_when_offline():
                settings = library.get_preprocessing_params(name, tag)
            mean, std = settings["mean"], settings["std"]
    except DOWNLOAD_ERRORS:
        return None
    return [255 * m for m in mean], [255 * s for s in std]


def download(name: str, tag: str = "imagenet") -> dict[str, Tensor]:
    """State dict of the library's pretrained encoder, from its cache or its download.

    Raises RecipeError when the library has no such weights and SetupError when they cannot be had.
    """
    tags = pretrained_tags(name)
    if tag not in tags:
        hint = f"it can be {', '.join(f'`{t}`' for t in tags)}" if tags else "use `weights: none` or a local file"
        raise RecipeError(f"encoder `{name}` has no weights called `{tag}`", hint=hint)
    try:
        with cache_only_when_offline() as offline, warnings.catch_warnings(), redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")  # standard output is for results; torch tells there what it downloads
            if name in TORCHVISION:
                return dict(torchvision.models.get_model_weights(name).DEFAULT.get_state_dict(progress=False))
            encoder = library.get_encoder(name, weights=True if name.startswith("tu-") else tag)
    except DOWNLOAD_ERRORS as error:
        why = "no network" if offline else (str(error).splitlines() or [type(error).__name__])[0]
        raise SetupError(
            f"the `{tag}` weights of encoder `{name}` cannot be downloaded ({why})",
            hint="give a local file with `weights: path`, put it into $MASKWRIGHT_WEIGHTS, "
            "or train from scratch with `weights: none`",
        ) from error
    return dict(encoder.state_dict())


def reachable(seconds: float = 3.0) -> bool:
    """Whether the library's download host answers; a proxy is trusted to."""
    if urllib.request.getproxies():
        return True
    address = urlparse(hub.ENDPOINT)
    try:
        port = address.port or (80 if address.scheme == "http" else 443)
        with socket.create_connection((address.hostname or "", port), timeout=seconds):
            return True
    except OSError:
        return False


@contextmanager
def cache_only_when_offline() -> Iterator[bool]:
    """Without a network the downloader looks into its cache at once, instead of trying again for half a minute.

    Yields whether that is so.
    """
    before = hub.HF_HUB_OFFLINE
    hub.HF_HUB_OFFLINE = offline = before or not reachable()
    try:
        yield offline
    finally:
        hub.HF_HUB_OFFLINE = before


def first_convolution(module: nn.Module) -> nn.Conv2d | None:
    """The convolution that sees the pixels."""
    return next((m for m in module.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3), None)


def first_batch_norm(module: nn.Module) -> nn.BatchNorm2d | None:
    return next((m for m in module.modules() if isinstance(m, nn.BatchNorm2d)), None)


def is_fresh(norm: nn.BatchNorm2d) -> bool:
    """Whether the running statistics are those of a layer that never saw an image."""
    mean, variance = norm.running_mean, norm.running_var
    return mean is not None and variance is not None and bool(torch.all(mean == 0) and torch.all(variance == 1))
