"""How a network wants its pixels, read off its first layer: weights seldom say which normalisation they were trained with.

The first BatchNorm recorded the variance that the first convolution gave on the training images. What that convolution
gives on natural photos follows from its weights alone, because the pixels of photos vary and resemble their neighbours in
much the same way everywhere. The normalisation for which both agree is the one the weights were trained with: a wrong one
is off by a factor of 4 or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log

import torch
from torch import Tensor, nn

from maskwright.models.encoders import first_batch_norm, first_convolution
from maskwright.models.segmenter import NORMALIZATIONS

# of 270 photos of three public sets, short side 256: standard deviation of a pixel, correlation with the next pixel (it
# falls exponentially with distance) and between colours
DEVIATION, NEIGHBOUR, COLOUR = 0.27 * 255, 0.95, 0.93
CANDIDATES = ("imagenet", "inception", "unit")
ALIVE = 1e-3  # of a channel's recorded variance; channels below it are dead and say nothing


@torch.no_grad()
def recognize(encoder: nn.Module) -> tuple[str, str] | None:
    """The name of the normalisation that fits and a clause on how well; None where the layers do not tell."""
    convolution, norm = first_convolution(encoder), first_batch_norm(encoder)
    if convolution is None or norm is None or norm.running_var is None or norm.num_features != convolution.out_channels:
        return None
    recorded = norm.running_var.double()
    alive = recorded > ALIVE
    if not alive.any() or bool(torch.all(recorded == 1)):
        return None
    off = {name: _off(convolution.weight[alive], recorded[alive], NORMALIZATIONS[name][1]) for name in CANDIDATES}
    best, second = sorted(CANDIDATES, key=lambda name: abs(off[name]))[:2]
    if abs(off[best]) > log(2):
        return None
    return (
        best,
        f"variance in the first layer {exp(-off[best]):.2f}x of the expected, {exp(-off[second]):.1f}x for `{second}`",
    )


def _off(weight: Tensor, recorded: Tensor, std: Sequence[float]) -> float:
    """Median over the channels of log(variance on natural photos / recorded variance)."""
    return float((natural_variance(weight, std) / recorded).log().median())


def natural_variance(weight: Tensor, std: Sequence[float]) -> Tensor:
    """Variance (O,) of the outputs of a convolution (O, 3, kh, kw) on natural photos that were divided by `std`."""
    height, width = weight.shape[2:]
    places = torch.cartesian_prod(torch.arange(height), torch.arange(width)).double()
    near = NEIGHBOUR ** torch.cdist(places, places)
    colours = torch.full((3, 3), COLOUR, dtype=torch.float64).fill_diagonal_(1.0)
    covariance = DEVIATION**2 * torch.kron(colours, near)
    flat = (weight.double() / weight.new_tensor(std).double().view(1, 3, 1, 1)).flatten(1)
    return torch.einsum("oi,ij,oj->o", flat, covariance, flat)
