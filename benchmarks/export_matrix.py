"""Every network through every exporter, as a Markdown table: parity with torch, size and latency, or refused and why.

    python benchmarks/export_matrix.py
    python benchmarks/export_matrix.py --targets onnx openvino --networks unet mask_rcnn --size 256 --encoder resnet34
    python benchmarks/export_matrix.py --targets litert --options litert.install=true

Networks start from random weights, which says nothing of scores: parity is that of logits on photos of the synthetic shapes
(of objects: how many are found by one of the two alone). A cell: largest difference of a logit, megabytes, milliseconds of one
photo through its own runtime (median of turns taken beside torch, whose are in the second column); `twin` where this machine
has no runtime for the file and its twin was checked instead. For timings on two cores put `taskset -c 0,1` before the command.
A bundle of your own: `--bundles runs/NAME/bundle --photos FOLDER`.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from train_step import network_options

from maskwright.bundles import bundle as bundles
from maskwright.bundles.bundle import Description
from maskwright.core.errors import MaskwrightError
from maskwright.data import synthetic
from maskwright.exports import ENDINGS, EXPORTERS, agreement
from maskwright.exports.source import Source
from maskwright.imaging import images
from maskwright.models import INSTANCE_MODELS, MODELS
from maskwright.models.build import build
from maskwright.prediction import with_torch


def main() -> None:
    options = parsed()
    with tempfile.TemporaryDirectory() as scratch:
        photos = photos_of(options.photos, Path(scratch))
        print("| network | torch, ms |" + "".join(f" {target} |" for target in options.targets))
        print("|---|---|" + "---|" * len(options.targets), flush=True)
        refused: list[str] = []
        for name, source in sources(options, photos):
            cells = [cell(source, target, options, Path(scratch), refused) for target in options.targets]
            with torch.inference_mode():
                taken = agreement.latency({"torch": source.predictor}, photos[0])["torch"]
            print(f"| {name} | {taken:.1f} |" + "".join(f" {cell} |" for cell in cells), flush=True)
    for number, reason in enumerate(refused, 1):
        print(f"\n[{number}] {reason}")


def sources(options: argparse.Namespace, photos: tuple[Path, ...]) -> Iterator[tuple[str, Source]]:
    """The bundles that were named, else the networks with random weights."""
    for path in options.bundles:
        loaded = bundles.load(path)
        name = f"{loaded.description.model['name']}, {'x'.join(map(str, loaded.description.size))}"
        yield name, Source(with_torch.load_segmenter(loaded), loaded.description, photos, loaded.path)
    for name in [] if options.bundles else options.networks:
        task = "instance" if name in INSTANCE_MODELS else "semantic"
        model = {"name": name, **(network_options(name, options.encoder) if task == "semantic" else {})}
        size, count = (options.size, options.size), options.classes
        classes = tuple(f"class {index}" for index in range(count))
        known = Description(classes, ((0, 0, 0),) * count, size, "squash", model, task=task)
        torch.manual_seed(0)
        try:
            yield name, Source(build(known).eval(), known, photos)
        except MaskwrightError as error:
            print(f"| {name} | left out: {error} |")


def cell(source: Source, target: str, options: argparse.Namespace, scratch: Path, refused: list[str]) -> str:
    """What came of one network through one exporter."""
    given = {key.removeprefix(f"{target}."): value for key, value in options.options if key.startswith(f"{target}.")}
    folder = Path(tempfile.mkdtemp(dir=scratch))
    path = folder / f"model{ENDINGS[target]}"
    began = time.perf_counter()
    try:
        written = EXPORTERS[target](source, path, **given)
        seconds = time.perf_counter() - began
        predictor = written.predictor or written.twin
        assert predictor is not None, f"{target} gave nothing to check"
        found = agreement.compare(source.predictor, predictor, source.photos[: options.compared])
        taken = agreement.latency({"torch": source.predictor, "file": predictor}, source.photos[0])["file"]
    except MaskwrightError as error:
        reason = f"{target}: {error}".replace(str(scratch), "").replace("|", "/")
        if reason not in refused:
            refused.append(reason)
        return f"refused [{refused.index(reason) + 1}]"
    megabytes = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
    parts = [parity(found), f"{megabytes:.1f} MB"]
    parts.append(f"{taken:.1f} ms" if written.predictor else "twin")
    return ", ".join([*parts, f"{seconds:.0f} s"] if options.seconds else parts)


def parity(found: agreement.Agreement) -> str:
    if found.objects is not None:
        return f"{found.unmatched} of {found.objects} alone, IoU {found.min_iou:.4f}, scores {found.max_score_difference:.1e}"
    changed = f"{100 * found.pixels_changed:.4f} % changed"
    if found.max_logit_difference is None:  # of windows, whose probabilities are blended
        return changed
    return f"{found.max_logit_difference:.1e}" + (f", {changed}" if found.pixels_changed else "")


def photos_of(folder: str, scratch: Path) -> tuple[Path, ...]:
    """Photos of the user, else those of the synthetic shapes; 8 of them, spread."""
    made = Path(folder) if folder else synthetic.make(scratch / "shapes", num=8) / "images"
    found = sorted(path for path in made.rglob("*") if images.is_image_name(path.name))
    return tuple(found[:: max(1, len(found) // 8)][:8])


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", default=list(EXPORTERS), choices=list(EXPORTERS))
    parser.add_argument("--networks", nargs="+", default=[*MODELS, *INSTANCE_MODELS])
    parser.add_argument("--bundles", nargs="*", default=[], help="instead of networks with random weights")
    parser.add_argument("--photos", default="", help="a folder; left out: synthetic shapes")
    parser.add_argument("--compared", type=int, default=2, help="photos that parity is measured on")
    parser.add_argument("--options", nargs="*", default=[], type=option, help="target.key=value")
    parser.add_argument("--encoder", default="tu-mobilenetv3_small_050", help="of networks that have a choice")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument(
        "--threads", type=int, default=0, help="0: all; runtimes other than torch take those of the process"
    )
    parser.add_argument("--seconds", action="store_true", help="also how long each export took")
    return parser.parse_args()


def option(text: str) -> tuple[str, Any]:
    key, _, value = text.partition("=")
    return key, {"true": True, "false": False}.get(value, value)


if __name__ == "__main__":
    main()
