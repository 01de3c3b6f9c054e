"""How fast and how near the int8 file of a bundle is, against its float32 and float16 files.

    python benchmarks/int8_latency.py BUNDLE PHOTOS [--limit 32] [--threads 1 2] [--repeats 15] [--max-changed 0.01]

The files are written as `maskwright export` writes them, int8 with ranges from every second photo. One network after the other,
one image at a time, same session settings; turns are interleaved, the first is not counted, medians and ratios are printed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from maskwright.bundles import bundle as bundles
from maskwright.core import events, terminal
from maskwright.core.errors import MaskwrightError
from maskwright.core.types import Network
from maskwright.exports.int8 import int8
from maskwright.exports.onnx import onnx
from maskwright.exports.source import Source
from maskwright.prediction import folders, with_onnx, with_torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("photos")
    parser.add_argument("--limit", type=int, default=32)
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--max-changed", type=float, default=0.01)
    options = parser.parse_args()
    loaded = bundles.load(options.bundle)
    photos = folders.find(options.photos)[1]
    chosen = tuple(photos[:: max(1, len(photos) // options.limit)][: options.limit])
    source = Source(with_torch.load_segmenter(loaded), loaded.description, chosen)
    with tempfile.TemporaryDirectory() as scratch, terminal.shown():
        files = written(source, Path(scratch), options.max_changed)
        image = next(source.inputs())
        for threads in options.threads:
            networks = {name: with_onnx.open_file(path, threads=threads)[0] for name, path in files.items()}
            medians = timed(networks, image, options.repeats)
            said = (f"{name} {1e3 * s:.1f} ms ({s / medians['fp32']:.2f}x)" for name, s in medians.items())
            print(f"{threads} threads: {', '.join(said)}")


def written(source: Source, scratch: Path, max_changed: float) -> dict[str, Path]:
    """The files by name; what cannot be had is said and left out."""
    exports = {
        "fp32": lambda path: onnx(source, path),
        "fp16": lambda path: onnx(source, path, precision="fp16"),
        "int8": lambda path: int8(source, path, images=len(source.photos), max_changed=max_changed),
    }
    files: dict[str, Path] = {}
    for name, export in exports.items():
        path = scratch / f"{name}.onnx"
        try:
            notes = export(path).notes
        except MaskwrightError as error:
            events.say(f"{name} left out: {error}")
            continue
        files[name] = path
        print(f"{name}: {path.stat().st_size / 1e6:.1f} MB", *notes, sep="\n  ")
    return files


def timed(networks: dict[str, Network], image: np.ndarray, repeats: int) -> dict[str, float]:
    """Seconds an image takes, the median of each network's turns."""
    seconds: dict[str, list[float]] = {name: [] for name in networks}
    for turn in range(repeats + 1):
        for name, network in networks.items():
            began = time.perf_counter()
            network(image)
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


if __name__ == "__main__":
    main()
