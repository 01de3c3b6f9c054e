"""Whether the self-contained file answers as the Predictor does, on real photos of odd sizes.

    python benchmarks/self_contained.py BUNDLE PHOTOS... [--photos 200] [--file FILE] [--threads 1] [--seed 0]

The file is exported from the bundle (or given) and run in plain onnxruntime; the Predictor (torch, one view) is handed the same
uint8 pixels. Photos are spread over the folders, decoded by our reader, and taken in six kinds of sizes, one after the other:
their own; cut out, sides 17 to 3,000 and odd; scaled to such sides, each by itself; wide and tall, 17 to 61 by 1,501 to 3,001;
lines, one pixel high or wide.

Printed of each kind: pixels that differ, and the photo with most of them; `gap`, at the pixels that differ: by how much the
probabilities of the two likeliest classes differ there, at most (0 is a tie); seconds a photo. Of objects: how many one alone
finds, the least overlap of the others, their scores. For photos of their own size, what differs where the Predictor reads the
file itself stands below: it decodes large JPEGs at a part of their size.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from PIL import Image

from maskwright.bundles import bundle as bundles
from maskwright.core.errors import DataError, ModelError
from maskwright.core.types import Instances
from maskwright.exports import agreement
from maskwright.exports.self_contained import self_contained
from maskwright.exports.source import Source
from maskwright.imaging import images
from maskwright.imaging.paste import run_lengths
from maskwright.prediction import folders, probabilities, with_torch
from maskwright.prediction.predictor import AnyPredictor, Predictor

KINDS = ("own", "cut", "scaled", "wide", "tall", "line")
SIDES = (17, 3000)


@dataclass(frozen=True)
class Row:
    """Of one photo. different: pixels. gap: see above, NaN where none differs. by_path: pixels that differ where the Predictor
    reads the file. objects: see `agreement.matched`. seconds: of the file, of the Predictor."""

    kind: str
    photo: str
    size: tuple[int, int]
    different: int
    gap: float
    by_path: int | None
    objects: tuple[int, int, float, float] | None
    seconds: tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle")
    parser.add_argument("folders", nargs="+", metavar="PHOTOS")
    parser.add_argument("--photos", type=int, default=200)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    loaded = bundles.load(options.bundle)
    source = Source(with_torch.load_segmenter(loaded), loaded.description)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            path = options.file or self_contained_file(source, Path(scratch))
        except ModelError as error:
            sys.exit(f"refused: {error}")
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
        print(f"{path.stat().st_size / 1e6:.1f} MB, {source.predictor.runtime}, onnxruntime {onnxruntime.__version__}")
        rows = []
        for kind, photo, pixels in pictures(options.folders, options.photos, options.seed):
            rows.append(compared(session, source.predictor, kind, photo, pixels))
    report(rows)


def self_contained_file(source: Source, folder: Path) -> Path:
    self_contained(source, folder / "model.onnx")
    return folder / "model.onnx"


def pictures(where: Sequence[str], most: int, seed: int) -> Iterator[tuple[str, Path, np.ndarray]]:
    """Photos spread over the folders, the kind of their size, their pixels uint8 (H, W, 3)."""
    shares = []
    for folder in where:
        found = folders.find(folder)[1]
        shares.append(found[:: max(1, len(found) * len(where) // most)])
    taken = [share[turn] for turn in range(max(map(len, shares))) for share in shares if turn < len(share)][:most]
    random = np.random.default_rng(seed)
    for number, path in enumerate(taken):
        kind = KINDS[number % len(KINDS)]
        try:
            pixels = images.read(path)
        except DataError as error:
            print(f"left out: {error}")
            continue
        yield kind, path, shaped(pixels, kind, random)


def shaped(pixels: np.ndarray, kind: str, random: np.random.Generator) -> np.ndarray:
    def side(low: int, high: int) -> int:
        return int(np.exp(random.uniform(np.log(low), np.log(high)))) | 1

    height, width = pixels.shape[:2]
    if kind == "own":
        return pixels
    if kind == "cut":
        rows, columns = (min(full, side(*SIDES)) for full in (height, width))
        top, left = (int(random.integers(0, full - part + 1)) for full, part in ((height, rows), (width, columns)))
        return np.ascontiguousarray(pixels[top : top + rows, left : left + columns])
    short, long = side(17, 60), side(1501, 3000)
    line = (1, long)[:: 1 if random.random() < 0.5 else -1]
    sizes = {"scaled": (side(*SIDES), side(*SIDES)), "wide": (short, long), "tall": (long, short), "line": line}
    rows, columns = sizes[kind]
    return np.asarray(Image.fromarray(pixels).resize((columns, rows), Image.Resampling.BICUBIC))


def compared(
    session: onnxruntime.InferenceSession, predictor: AnyPredictor, kind: str, photo: Path, pixels: np.ndarray
) -> Row:
    names = [output.name for output in session.get_outputs()]
    began = time.perf_counter()
    found = dict(zip(names, session.run(names, {"image": pixels}), strict=True))
    between = time.perf_counter()
    ours = predictor(pixels)
    seconds = (between - began, time.perf_counter() - between)
    different, objects = differing(ours, found)
    gap = gaps(predictor, pixels)[different].max() if different.any() and isinstance(predictor, Predictor) else np.nan
    by_path = int(differing(predictor(photo), found)[0].sum()) if kind == "own" else None
    size = (pixels.shape[0], pixels.shape[1])
    return Row(kind, photo.name, size, int(different.sum()), float(gap), by_path, objects, seconds)


def differing(ours: Any, found: dict[str, np.ndarray]) -> tuple[np.ndarray, tuple[int, int, float, float] | None]:
    """Which pixels differ, bool (H, W); of objects also how they match."""
    if not isinstance(ours, Instances):
        if ours.masks is not None:
            return (ours.masks != found["masks"].astype(np.bool_)).any(axis=0), None
        return ours.label_map != found["class_map"], None
    counts = tuple(run_lengths(mask.astype(np.bool_), (0, 0), ours.size) for mask in found["masks"])
    boxes = found["boxes"].astype(np.float64)
    theirs = Instances(found["labels"], found["scores"], boxes, counts, ours.size, ours.classes)
    return agreement.cover(ours) != agreement.cover(theirs), agreement.matched(ours, theirs)


def gaps(predictor: Predictor, pixels: np.ndarray) -> np.ndarray:
    """float32 (H, W): how far the two likeliest classes are apart; of classes that overlap, how far one is from half."""
    overlapping = predictor.description.multilabel
    logits, fitting = predictor.answer(pixels)
    strips = []
    for _, chances, _ in probabilities.strips(logits, fitting, np.empty(0, np.uint8), overlapping):
        if overlapping:
            strips.append(np.abs(2 * chances - 1).min(axis=0))
        else:
            best = np.partition(chances, -2, axis=0)[-2:]
            strips.append(best[1] - best[0])
    return np.concatenate(strips)


def report(rows: Sequence[Row]) -> None:
    print(f"{'size':8}{'photos':>7}{'pixels':>9}  {'heights':12}{'widths':12}{'different':>12}  worst photo")
    for kind in (*KINDS, "all"):
        some = [row for row in rows if kind in (row.kind, "all")]
        if not some:
            continue
        total = sum(area(row) for row in some)
        worst = max(some, key=lambda row: row.different / area(row))
        heights, widths = ([row.size[axis] for row in some] for axis in (0, 1))
        reach = f"{min(heights)}-{max(heights)}".ljust(12) + f"{min(widths)}-{max(widths)}".ljust(12)
        share = 100 * sum(row.different for row in some) / total
        line = f"{kind:8}{len(some):7}{total / 1e6:8.1f}M  {reach}{share:10.5f} %  "
        line += f"{100 * worst.different / area(worst):.4f} % ({worst.different} px, {worst.photo})"
        if not np.isnan([row.gap for row in some]).all():
            line += f", gap {np.nanmax([row.gap for row in some]):.1e}"
        if found := [row.objects for row in some if row.objects]:
            line += f"; {agreement.Agreement(len(some), share / 100, None, None, *agreement.summed(found)).words()}"
        theirs, ours = (np.mean([row.seconds[which] for row in some]) for which in (0, 1))
        print(f"{line}; {theirs:.2f} s, Predictor {ours:.2f} s")
    if own := [row for row in rows if row.by_path is not None]:
        shares = {row.photo: (row.by_path or 0) / area(row) for row in own}
        mean = 100 * sum(row.by_path or 0 for row in own) / sum(map(area, own))
        name = max(shares, key=lambda photo: shares[photo])
        print(f"own size, the Predictor reads the file: {mean:.4f} %, worst {100 * shares[name]:.3f} % ({name})")


def area(row: Row) -> int:
    return row.size[0] * row.size[1]


if __name__ == "__main__":
    main()
