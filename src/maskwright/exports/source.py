"""What every exporter takes and gives: a trained model with photos of its user, and the file that was written of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maskwright.bundles.bundle import PLAIN, Description
from maskwright.core.types import Network, ObjectNetwork
from maskwright.imaging import images
from maskwright.prediction.predictor import AnyPredictor, Predictor, as_input, made

if TYPE_CHECKING:
    from maskwright.models.instance_segmenter import InstanceSegmenter
    from maskwright.models.segmenter import Segmenter

GOLDEN = 0.618  # its multiples, without what stands before the point, are spread over 0..1


@dataclass(frozen=True)
class Source:
    """A trained model on its way into another file.

    segmenter: in eval mode, on the CPU, float32: uint8 values 0..255 as float32 (N, 3, h, w) -> logits (or objects).
    description: what is known of it. photos: real images of the user, for calibration and checks while writing; an export may
    be asked for without any. bundle: where it lies, None for one that is still being made.
    judge: what the certificate will say that a predictor loses (of the score; without labels, of the pixels); None where nobody
    will. max_drop: the most that may be lost.
    """

    segmenter: Segmenter | InstanceSegmenter
    description: Description
    photos: tuple[Path, ...] = ()
    bundle: Path | None = None
    judge: Callable[[AnyPredictor], float] | None = None
    max_drop: float = 0.01

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
        """The photos as the network sees them: float32 (1, 3, h, w), 0..255; `most` of them, spread.

        Fitted by `images.fit`; where the model looks through windows, a window of each photo, elsewhere in every one, and
        several where there are fewer photos than asked for.
        """
        step = 1 if most is None else max(1, -(-len(self.photos) // most))
        chosen = self.photos[::step]
        share = max(1, (most or 0) // max(len(chosen), 1))
        for index, path in enumerate(chosen):
            if self.description.fit == "crop":
                yield from self._windows(path, share, index)
            else:
                yield as_input(images.read_fitted(path, self.description.size, self.description.fit)[0])

    def _windows(self, path: Path, count: int, turn: int) -> Iterator[np.ndarray]:
        """At most `count` of the windows that prediction cuts a photo into, spread; which, depends on the turn."""
        assert isinstance(self.predictor, Predictor), "windows are for models that label pixels"
        windows = list(self.predictor.windows(path))
        count = min(count, len(windows))
        for number in range(count):
            part = (number + turn * GOLDEN % 1) / count
            yield as_input(windows[int(part * len(windows))])

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
