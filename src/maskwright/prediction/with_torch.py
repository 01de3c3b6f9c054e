"""A network that runs in torch, as the Predictor wants it: numpy in, numpy out, fp32, safe to call from several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from maskwright.bundles.bundle import Bundle
from maskwright.core.errors import ModelError
from maskwright.core.types import OBJECT_OUTPUTS, Network, ObjectNetwork
from maskwright.models import device as devices
from maskwright.models.build import build
from maskwright.models.instance_segmenter import InstanceSegmenter
from maskwright.models.segmenter import Segmenter


def open_bundle(bundle: Bundle, *, device: str = "auto") -> Network | ObjectNetwork:
    """The bundle's network in fp32 on a device. Raises ModelError when the weights do not fit the description."""
    chosen = devices.choose(device, "fp32")
    return running(chosen.place(load_segmenter(bundle)))


def load_segmenter(bundle: Bundle) -> Segmenter | InstanceSegmenter:
    """The bundle's segmenter with its weights, in eval mode on the CPU."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    segmenter = build(bundle.description)
    try:
        state = load_file(bundle.weights)
    except (OSError, SafetensorError) as error:
        raise ModelError(f"cannot be read ({error})", place=bundle.weights) from error
    wrong = segmenter.load_state_dict(state, strict=False)
    if wrong.missing_keys or wrong.unexpected_keys:
        first = (wrong.missing_keys + wrong.unexpected_keys)[0]
        raise ModelError(
            f"does not hold the weights of `{bundle.description.model['name']}` ({first})", place=bundle.weights
        )
    return segmenter.eval()


def running(segmenter: Segmenter | InstanceSegmenter) -> Network | ObjectNetwork:
    """`live` or `live_objects`, as the segmenter is."""
    return live_objects(segmenter) if isinstance(segmenter, InstanceSegmenter) else live(segmenter)


def live(segmenter: Segmenter) -> Network:
    """A Network around a segmenter that may go on training: each call switches to eval mode and back."""
    answer = _evaluating(segmenter)

    def network(pixels: np.ndarray) -> np.ndarray:
        logits: np.ndarray = answer(pixels).float().cpu().numpy()
        return logits

    return network


def live_objects(segmenter: InstanceSegmenter) -> ObjectNetwork:
    """The same for a segmenter that finds objects, of one image at a time."""
    answer = _evaluating(segmenter)

    def network(pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        found = answer(pixels)[0]
        return tuple(found[name].float().cpu().numpy() for name in OBJECT_OUTPUTS)

    return network


def _evaluating(segmenter: torch.nn.Module) -> Callable[[np.ndarray], Any]:
    lock = threading.Lock()
    device = next(segmenter.parameters()).device

    def answer(pixels: np.ndarray) -> Any:
        with lock, torch.inference_mode():
            training = segmenter.training
            segmenter.eval()
            found = segmenter(torch.from_numpy(pixels).to(device))
            segmenter.train(training)
            return found

    return answer
