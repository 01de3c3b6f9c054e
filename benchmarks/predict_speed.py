"""How fast `predict` is through model.onnx against the same network in plain eager torch fp32, on the same photos.

    python benchmarks/predict_speed.py BUNDLE PHOTOS [--limit 100] [--repeats 5]

Both write masks and the table of areas through `folders.predict_all`, as `maskwright predict --no-overlays` does; the
network alone is timed beside it, one image after the other. Turns are interleaved, medians and ratios are printed.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from maskwright.bundles import bundle as bundles
from maskwright.prediction import folders, predictor, with_torch
from maskwright.prediction.predictor import Predictor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("photos")
    parser.add_argument("--limit", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    loaded = bundles.load(options.bundle)
    plain = with_torch.live(with_torch.load_segmenter(loaded))  # as it comes: fp32, NCHW, no setting of ours
    models = {
        "onnx": predictor.load(options.bundle, runtime="onnx"),
        "torch": Predictor(plain, loaded.description, runtime="torch"),
    }
    pixels = predictor.as_input(np.zeros((*loaded.description.size, 3), np.uint8))
    whole: dict[str, list[float]] = {name: [] for name in models}
    alone: dict[str, list[float]] = {name: [] for name in models}
    with tempfile.TemporaryDirectory() as scratch:
        photos = Path(scratch) / "photos"
        photos.mkdir()
        found = folders.find(options.photos)[1][: options.limit]
        for photo in found:
            shutil.copy(photo, photos)
        for turn in range(options.repeats + 1):
            for name, model in models.items():
                out = Path(scratch) / name
                seconds = timed(lambda model=model, out=out: folders.predict_all(model, photos, out, overlays=False))
                bare = timed(lambda model=model: [model.network(pixels) for _ in found])
                if turn:  # the first warms up
                    whole[name].append(seconds / len(found))
                    alone[name].append(bare / len(found))
    for title, times in (("predict", whole), ("network alone", alone)):
        medians = {name: statistics.median(values) for name, values in times.items()}
        rates = ", ".join(f"{name} {1 / seconds:.1f} images/s" for name, seconds in medians.items())
        print(
            f"{title}: {rates}; onnx is {medians['torch'] / medians['onnx']:.2f}x torch eager fp32 ({len(found)} photos)"
        )


def timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
