"""What every exporter takes and gives: a trained model with photos of its user, and the file that was written of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maskwright.bundles.bundle import PLAIN, Description
from maskwright.core.types import Network, ObjectNetwork
from maskwright.imaging import images
from maskwright.prediction.predictor import AnyPredictor, as_input, made

if TYPE_CHECKING:
    from maskwright.models.instance_segmenter import InstanceSegmenter
    from maskwright.models.segmenter import Segmenter


@dataclass(frozen=True)
class Source:
    """A trained model on its way into another file.

    segmenter: in eval mode, on the CPU, float32: uint8 values 0..255 as float32 (N, 3, h, w) -> logits (or objects).
    description: what is known of it. photos: real images of the user, for calibration and checks while writing; an export may
    be asked for without any. bundle: where it lies, None for one that is still being made.
    """

    segmenter: Segmenter | InstanceSegmenter
    description: Description
    photos: tuple[Path, ...] = ()
    bundle: Path | None = None

    @cached_property
    def network(self) -> Network | ObjectNetwork:
        """The trained network in torch, float32, numpy in and out."""
        from maskwright.prediction import with_torch

        return with_torch.running(self.segmenter)

    @cached_property
    def predictor(self) -> AnyPredictor:
        """The trained model as a predictor: what every exported file is held against."""
        return self.running(self.network, "torch")

    def inputs(self, most: int | None = None) -> Iterator[np.ndarray]:
        """The photos as the network sees them: float32 (1, 3, h, w), 0..255, fitted by `images.fit`; `most` of them, spread."""
        step = 1 if most is None else max(1, -(-len(self.photos) // most))
        for path in self.photos[::step]:
            yield as_input(images.read_fitted(path, self.description.size, self.description.whole_fit)[0])

    def running(self, network: Network | ObjectNetwork, runtime: str) -> AnyPredictor:
        """The same model, answered by another network, each image seen once. runtime: name and version, "openvino 2026.4.0"."""
        return made(network, replace(self.description, tta=dict(PLAIN)), runtime)


@dataclass(frozen=True)
class Written:
    """What an exporter wrote, beside what it was told to write (`path`, in a folder of its own).

    predictor: runs the written file in its own runtime, `predictor.runtime` names it; None where this machine has none: then
    `twin` is a predictor of what comes nearest (the same graph in another runtime), and `twin_of` says what that is.
    notes: sentences for the user, kept in the certificate: what was folded, put back to float, left out.
    facts: further figures for the certificate, JSON values.
    """

    predictor: AnyPredictor | None
    notes: tuple[str, ...] = ()
    twin: AnyPredictor | None = None
    twin_of: str = ""
    facts: dict[str, object] | None = None
