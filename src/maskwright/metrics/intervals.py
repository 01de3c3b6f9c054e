"""How sure a number is: percentile bootstrap over images (Efron 1979; Efron and Tibshirani 1993, chapters 6 and 13).

The images are what was drawn from the world, so whole images are drawn again, with replacement. A resample is a vector
of multinomial weights (how often each image was drawn); all resamples' counts are then one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

CONFIDENCE = 0.95
_BLOCK = 1 << 20  # weights held at a time


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval. value: None where undefined; low, high: None with fewer than two images."""

    value: float | None
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        if self.value is None:
            return "undefined"
        return f"{self.value:.3f}" + ("" if self.low is None else f" ({self.low:.3f} to {self.high:.3f})")

    def times(self, factor: float) -> Estimate:
        """The estimate of a fixed multiple of the quantity; factor >= 0."""
        return Estimate(*(None if v is None else v * factor for v in (self.value, self.low, self.high)))

    def to_json(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Estimate:
        return cls(value["value"], value["low"], value["high"])


def bootstrap(
    counts: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    resamples: int = 1000,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> list[Estimate]:
    """Estimates of S statistics that are functions of counts summed over images, each with a percentile interval.

    counts: (N, ...), what each image adds to the sums.
    statistic: float64 (B, ...) sums of B resamples -> float64 (B, S); NaN where undefined. Resamples without a value (a
        class that none of the drawn images has) are left out of that statistic's interval.
    resamples: how many times N images are drawn; 0 = no interval.
    confidence: share of the resamples that lies between low and high.
    seed: the same seed draws the same images.
    """
    num = len(counts)
    flat = np.asarray(counts, np.float64).reshape(num, int(np.prod(counts.shape[1:])))
    values = statistic(flat.sum(axis=0).reshape(1, *counts.shape[1:]))[0]
    if num < 2 or resamples < 1:
        return [Estimate(_number(v)) for v in values]
    sums = np.concatenate([w @ flat for w in _weights(num, resamples, seed)])
    drawn = statistic(sums.reshape(resamples, *counts.shape[1:]))
    return [Estimate(_number(v), *_percentiles(column, confidence)) for v, column in zip(values, drawn.T, strict=True)]


def resampled(
    num: int,
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    resamples: int = 1000,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> list[Estimate]:
    """Estimates of S statistics of `num` images that are no functions of sums, such as average precision.

    Those have a leaning: of few images they come out higher than of many, and of a resample, which has fewer different ones,
    higher still, so that a percentile interval would lie above the truth. Hence the basic interval (Davison and Hinkley
    1997, section 2.4): as far as resamples lie above the value, so far the truth may lie below it. It is widened to hold
    the value.

    statistic: float64 (B, num), how often each image counts in B resamples -> float64 (B, S); NaN where undefined.
    """
    values = statistic(np.ones((1, num)))[0]
    if num < 2 or resamples < 1:
        return [Estimate(_number(v)) for v in values]
    drawn = np.concatenate([statistic(weights) for weights in _weights(num, resamples, seed)])
    return [_mirrored(v, *_percentiles(column, confidence)) for v, column in zip(values, drawn.T, strict=True)]


def _mirrored(value: float, low: float | None, high: float | None) -> Estimate:
    if low is None or high is None or not np.isfinite(value):
        return Estimate(_number(value))
    value = float(value)
    return Estimate(value, min(value, 2 * value - high), max(value, 2 * value - low))


def _weights(num: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """float64 (B, N) blocks: how often each of N images is drawn in N draws; blocks do not change what is drawn."""
    rng = np.random.default_rng(seed)
    rows = max(1, _BLOCK // num)
    for start in range(0, resamples, rows):
        yield _draw(rng, num, min(rows, resamples - start))


def _draw(rng: np.random.Generator, num: int, rows: int) -> np.ndarray:
    drawn = rng.integers(0, num, size=(rows, num)) + np.arange(rows)[:, None] * num
    return np.bincount(drawn.ravel(), minlength=rows * num).reshape(rows, num).astype(np.float64)


def _percentiles(drawn: np.ndarray, confidence: float) -> tuple[float | None, float | None]:
    known = drawn[np.isfinite(drawn)]
    if not len(known):
        return None, None
    low, high = np.percentile(known, [50 * (1 - confidence), 50 * (1 + confidence)])
    return float(low), float(high)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
