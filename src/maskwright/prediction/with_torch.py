"""A network that runs in torch, as the Predictor wants it: numpy in, numpy out, fp32, safe to call from several threads."""

from __future__ import annotations

import threading

import numpy as np
import torch

from maskwright.bundles.bundle import Bundle
from maskwright.core.errors import ModelError
from maskwright.core.types import Network
from maskwright.models import device as devices
from maskwright.models.build import build
from maskwright.models.segmenter import Segmenter


def open_bundle(bundle: Bundle, *, device: str = "auto") -> Network:
    """The bundle's network in fp32 on a device. Raises ModelError when the weights do not fit the description."""
    chosen = devices.choose(device, "fp32")
    return live(chosen.place(load_segmenter(bundle)))


def load_segmenter(bundle: Bundle) -> Segmenter:
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


def live(segmenter: Segmenter) -> Network:
    """A Network around a segmenter that may go on training: each call switches to eval mode and back."""
    lock = threading.Lock()
    device = next(segmenter.parameters()).device

    def network(pixels: np.ndarray) -> np.ndarray:
        with lock, torch.inference_mode():
            training = segmenter.training
            segmenter.eval()
            logits = segmenter(torch.from_numpy(pixels).to(device))
            segmenter.train(training)
            return logits.float().cpu().numpy()

    return network
