"""Published models beside ours, scored by our evaluator on the same images.

    python benchmarks/peers.py cat DATA MODEL.onnx [--ours RUN | RUN/bundle/model.lens.onnx ...] [--sources 0 3] [--squash]
    python benchmarks/peers.py deeplab VOCdevkit MODEL.tflite --python PYTHON [--out FOLDER] [--fit pad|squash]

cat: the cat project's network over every source of the shipped recipe `cat_lens`, run as it was trained: the photo 256
pixels tall, windows 128 wide, blended, cat where the answer is above 127 of 255. Its windows overlap by half, and so do ours.
Photos with a cat are scored: IoU of `cat` pooled, and as the mean of each photo's; ours with the difference, paired, in a
95 % bootstrap interval. Photos that trained a run of ours are left out for both. Parameters, size and latency of one window
at one thread stand below.

deeplab: VOC's official val images through a .tflite, by a Python that has a tflite runtime (ai-edge-litert), which writes
index PNGs that `evaluate_folder` scores. pad: the image as it is on a grey 513 x 513, as DeepLab was evaluated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper
from PIL import Image

from maskwright.bundles import bundle as bundles
from maskwright.core import recipe as recipes
from maskwright.core import yaml_text
from maskwright.core.table import Data
from maskwright.core.types import Record
from maskwright.data import edit
from maskwright.data import split as splits
from maskwright.data.prepare import gather
from maskwright.imaging import images
from maskwright.metrics.intervals import Estimate, bootstrap
from maskwright.metrics.scores import Scores
from maskwright.prediction import evaluation, predictor, tiles
from maskwright.verbs.new import shipped_text

CLASSES = ("background", "cat")
THRESHOLD = 127.0
OVERLAP = 0.5  # of windows, for all contenders
RUNS = 200


@dataclass(frozen=True)
class Contender:
    """name: as the table shows it; predict: record -> uint8 (H, W), 1 is cat; onnx: its file; seen: ids that trained it."""

    name: str
    predict: Callable[[Record], np.ndarray]
    onnx: Path
    seen: frozenset[str] = frozenset()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    cat = commands.add_parser("cat")
    cat.add_argument("data")
    cat.add_argument("model", type=Path)
    cat.add_argument(
        "--ours", nargs="*", type=Path, default=[], help="runs, bundles, files exported beside their weights"
    )
    cat.add_argument("--sources", nargs="*", type=int, help="numbers of the recipe's sources; left out: all")
    cat.add_argument("--squash", action="store_true", help="also the peer on the whole photo squashed to 128 x 256")
    deeplab = commands.add_parser("deeplab")
    deeplab.add_argument("data")
    deeplab.add_argument("model", type=Path)
    deeplab.add_argument("--python", required=True, help="a Python that has ai-edge-litert")
    deeplab.add_argument("--out", type=Path, help="folder for the label maps; left out: not kept")
    deeplab.add_argument("--fit", choices=["pad", "squash"], default="pad")
    options = parser.parse_args()
    (compare_cats if options.command == "cat" else score_deeplab)(options)


# ------------------------------------------------------------------------------------------------------------------ cats


def compare_cats(options: argparse.Namespace) -> None:
    tree, lines = yaml_text.parse(shipped_text("cat_lens", options.data), "cat_lens")
    recipe = recipes.build(tree, {"allow_refused": True}, lines)
    found = gather(recipe).inspected  # lists of the sets for a test keep their photos without a cat
    data = found.data.select(np.flatnonzero(found.pixels[:, found.data.classes.index("cat")]))
    contenders = [Contender("peer, windows", peer(options.model, squashed=False), options.model)]
    if options.squash:
        contenders.append(Contender("peer, squashed", peer(options.model, squashed=True), options.model))
    contenders += [ours(path) for path in options.ours]
    for number, source in enumerate(recipe.data):
        if options.sources is None or number in options.sources:
            compare(
                f"{number} {Path(source.path).name}", data.select(np.flatnonzero(data.source == number)), contenders
            )
    for contender in contenders:
        print_cost(contender)


def compare(name: str, data: Data, contenders: list[Contender]) -> None:
    """The table of one source: every contender on the photos that trained none of them."""
    seen = frozenset().union(*(contender.seen for contender in contenders))
    kept = edit.drop(data, seen & set(data.ids)) if seen & set(data.ids) else data
    print(
        f"\n{name}: {len(kept)} photos with a cat"
        + (f", {len(data) - len(kept)} left out" if len(kept) < len(data) else "")
    )
    if not len(kept):
        return
    table = evaluation.class_table(kept.classes, CLASSES)
    scored = [evaluation.score(c.predict, kept, CLASSES, table, c.name, resamples=0) for c in contenders]
    for contender, scores in zip(contenders, scored, strict=True):
        mean, pooled = estimates(scores, None)
        print(f"  {contender.name:<24} mean IoU {mean}   pooled {pooled}", end="")
        if contender is not contenders[0]:
            by_mean, by_pooled = estimates(scores, scored[0])
            print(f"   minus the peer: mean {by_mean}, pooled {by_pooled}", end="")
        print(flush=True)


def estimates(scores: Scores, base: Scores | None) -> list[Estimate]:
    """Mean of the photos' IoU of cat, and pooled IoU; of `scores`, or by how much they are above `base` on the same photos."""
    both = [scores, *([base] if base is not None else [])]
    cats = np.stack(
        [s.counts[:, :, 1].astype(np.float64) for s in both], axis=1
    )  # (N, 1 or 2, common / truth / predicted)
    union = cats[..., 1] + cats[..., 2] - cats[..., 0]
    counts = np.stack([cats[..., 0], union, cats[..., 0] / union, np.ones_like(union)], axis=-1)

    def statistic(sums: np.ndarray) -> np.ndarray:
        found = np.stack([sums[..., 2] / sums[..., 3], sums[..., 0] / sums[..., 1]], axis=-1)  # (B, 1 or 2, 2)
        return found[:, 0] - (found[:, 1] if base is not None else 0.0)

    return bootstrap(counts, statistic)


def peer(path: Path, *, squashed: bool) -> Callable[[Record], np.ndarray]:
    """The cat project's network: data [1, 3, 256, 128], 0..255 -> prob [1, 1, 256, 128], 0..255."""
    session = opened(path)
    rows, columns = session.get_inputs()[0].shape[2:]

    def answer(window: np.ndarray) -> np.ndarray:
        pixels = np.ascontiguousarray(window.transpose(2, 0, 1)[None], np.float32)
        return session.run(["prob"], {"data": pixels})[0][0]

    def predict(record: Record) -> np.ndarray:
        pixels = images.read(record.image, upright=record.upright)
        height, width = record.size
        wide = columns if squashed else max(1, round(width * rows / height))
        small = np.asarray(Image.fromarray(pixels).resize((wide, rows), Image.Resampling.BILINEAR))
        bands = [band[0] for _, band in tiles.bands(answer, small, (rows, columns), OVERLAP)]
        grey = Image.fromarray(np.concatenate(bands)).resize((width, height), Image.Resampling.BILINEAR)
        return (np.asarray(grey) > THRESHOLD).astype(np.uint8)

    return predict


def ours(path: Path) -> Contender:
    """A run or bundle of ours with a class `cat`, or a file exported beside its weights; other classes are background."""
    bundle = bundles.load(path.absolute().parent if path.suffix == ".onnx" else path)
    file = path if path.suffix == ".onnx" else bundle.onnx
    assert file is not None, f"{path} holds no model.onnx"
    overlap = OVERLAP if bundle.description.fit == "crop" else None
    model = predictor.load(path, threads=1, overlap=overlap)
    cat = model.classes.index("cat")
    lists = bundle.path.parent / "split.json"
    seen = frozenset(splits.load(lists).train) if lists.is_file() else frozenset()

    def predict(record: Record) -> np.ndarray:
        return (model(record.image, upright=record.upright).label_map == cat).astype(np.uint8)

    known = bundle.path.parent.name if lists.is_file() else bundle.path.name
    return Contender(f"{known} {file.name}" if path.suffix == ".onnx" else known, predict, file, seen)


def opened(model: Path | bytes) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = settings.inter_op_num_threads = 1
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, settings, providers=["CPUExecutionProvider"])


def print_cost(contender: Contender) -> None:
    """Parameters, size and latency, the same settings for all."""
    model = onnx.load(str(contender.onnx))
    floats = [w for w in model.graph.initializer if w.data_type == onnx.TensorProto.FLOAT]
    parameters, size = sum(int(np.prod(w.dims)) for w in floats), contender.onnx.stat().st_size
    print(f"\n{contender.name}: {parameters:,} parameters, {size:,} bytes, {latency(contender.onnx, contender.onnx)}")
    flushed = 0
    for weight in floats:
        values = numpy_helper.to_array(weight).copy()
        tiny = (values != 0) & (np.abs(values) < np.finfo(np.float32).tiny)
        values[tiny] = 0
        weight.CopyFrom(numpy_helper.from_array(values, weight.name))
        flushed += int(tiny.sum())
    if flushed:  # arithmetic with them is many times slower; a fair race shows the network without, too
        print(f"  with its {flushed:,} denormal weights set to 0: {latency(model.SerializeToString(), contender.onnx)}")


def latency(model: Path | bytes, file: Path) -> str:
    session = opened(model)
    given = session.get_inputs()[0]
    sides = [side if isinstance(side, int) else 1 for side in given.shape]
    if sides[2] == 1:  # any size: the bundle's own
        sides[2:] = predictor.load(file).description.size
    pixels = np.random.default_rng(0).uniform(0, 255, sides).astype(np.float32)
    times = []
    for _ in range(RUNS):
        began = time.perf_counter()
        session.run(None, {given.name: pixels})
        times.append(1e3 * (time.perf_counter() - began))
    low, middle, high = np.percentile(times[RUNS // 10 :], [5, 50, 95])
    return f"{middle:.2f} ms at {'x'.join(map(str, sides[2:]))} ({low:.2f} to {high:.2f}), one thread"


# --------------------------------------------------------------------------------------------------------------- deeplab

CHILD = """
import json, sys
import numpy as np
from PIL import Image
from ai_edge_litert.interpreter import Interpreter
model, fit, jobs = sys.argv[1], sys.argv[2], json.load(sys.stdin)
net = Interpreter(model, num_threads=1)
net.allocate_tensors()
given, made = net.get_input_details()[0], net.get_output_details()[0]
rows, columns = given["shape"][1:3]
for photo, target in jobs:
    image = Image.open(photo).convert("RGB")
    width, height = image.size
    scale = min(1.0, columns / width, rows / height)
    inner = (round(width * scale), round(height * scale)) if fit == "pad" else (columns, rows)
    pixels = np.full((rows, columns, 3), 127, np.uint8)
    pixels[: inner[1], : inner[0]] = np.asarray(image.resize(inner, Image.Resampling.BILINEAR))
    net.set_tensor(given["index"], pixels[None])
    net.invoke()
    labels = net.get_tensor(made["index"])[0].astype(np.uint8)[: inner[1], : inner[0]]
    Image.fromarray(labels).resize((width, height), Image.Resampling.NEAREST).save(target)
"""


def score_deeplab(options: argparse.Namespace) -> None:
    recipe = recipes.build({"data": [{"path": options.data, "format": "voc"}]})
    data = gather(recipe).inspected.data
    val = edit.select(data, [record.id for record in data if splits.role_of(record.split) == "val"])
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        jobs = [(record.image, str(folder / f"{Path(record.id).stem}.png")) for record in val]
        began = time.perf_counter()
        command = [options.python, "-c", CHILD, str(options.model), options.fit]
        subprocess.run(
            command, input=json.dumps(jobs), text=True, check=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        )
        seconds = (time.perf_counter() - began) / len(jobs)
        scores = evaluation.evaluate_folder(folder, val)
    print(f"{options.model.name}, {options.fit}, {len(val)} val images, {seconds:.2f} s an image")
    for name, estimate in scores.headlines.items():
        print(f"  {name:<20} {estimate}")
    for row in scores.per_class:
        if row.truth_pixels:
            print(f"  {row.name:<20} IoU {row.iou:.3f}   {row.images} images")


if __name__ == "__main__":
    main()
