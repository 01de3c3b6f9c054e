"""What happens to one training sample: drawn first, by operations, then carried out in one warp and few passes of colour.

An operation is a function (change, rng) that turns some of the fields below and draws from `rng` only. Places and colours
fold into each other whatever the order; effects follow, in the order in which they were added.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

Sample = tuple[np.ndarray, np.ndarray]  # image uint8 RGB (H, W, 3), label map uint8 (H, W)
Effect = Callable[[np.ndarray, np.ndarray], Sample]  # of the window as the network will see it; never in place
Operation = Callable[["Change", np.random.Generator], None]


@dataclass(slots=True)
class Change:
    """As it begins, a change leaves a sample alone.

    Places, in this order: flip (left to right), zoom_x and zoom_y (factors), shear (tangent; the top goes one way, the
    bottom the other), turn (degrees) with quarters (quarter turns), right and down (shares of the window's sides), tilt_x
    and tilt_y (how much nearer the right and the lower edge come than the middle, as a share).
    window: where `fit: crop` cuts, 0..1 between the left and the right, the upper and the lower end.

    Colours: brightness, contrast, saturation (shares; 0 is none), hue (degrees), gamma (exponent).
    """

    flip: bool = False
    zoom_x: float = 1.0
    zoom_y: float = 1.0
    shear: float = 0.0
    turn: float = 0.0
    quarters: int = 0
    tilt_x: float = 0.0
    tilt_y: float = 0.0
    right: float = 0.0
    down: float = 0.0
    window: tuple[float, float] = (0.5, 0.5)
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    gamma: float = 1.0
    effects: list[Effect] = field(default_factory=list)

    def lighten(self, brightness: float = 0.0, contrast: float = 0.0, saturation: float = 0.0) -> None:
        """Further shares of light and colour: their factors multiply."""
        self.brightness += brightness + self.brightness * brightness
        self.contrast += contrast + self.contrast * contrast
        self.saturation += saturation + self.saturation * saturation
