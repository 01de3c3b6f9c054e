"""How fast `predict` is through model.onnx against the same network in plain eager torch fp32, on the same photos.

    python benchmarks/predict_speed.py BUNDLE PHOTOS [--limit 100] [--repeats 5]

Both go through the Predictor (read, fit, network, decode), one photo after the other; repeats are interleaved, medians
and their ratio are printed, for the whole walk and for the network alone.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np

from maskwright.prediction import folders, predictor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("photos")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    photos = folders.find(options.photos)[1][: options.limit]
    runtimes = {name: predictor.load(options.bundle, runtime=name) for name in ("onnx", "torch")}
    pixels = predictor.as_input(np.zeros((*runtimes["onnx"].description.size, 3), np.uint8))
    whole: dict[str, list[float]] = {name: [] for name in runtimes}
    bare: dict[str, list[float]] = {name: [] for name in runtimes}
    for turn in range(options.repeats + 1):
        for name, model in runtimes.items():
            seconds = timed(lambda model=model: [model(photo) for photo in photos])
            alone = timed(lambda model=model: [model.network(pixels) for _ in photos])
            if turn:  # the first warms up
                whole[name].append(seconds / len(photos))
                bare[name].append(alone / len(photos))
    for title, times in (("whole walk", whole), ("network alone", bare)):
        medians = {name: statistics.median(values) for name, values in times.items()}
        rates = ", ".join(f"{name} {1 / seconds:.1f} images/s" for name, seconds in medians.items())
        print(f"{title}: {rates}; onnx is {medians['torch'] / medians['onnx']:.2f}x torch eager fp32 ({len(photos)} photos)")


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
