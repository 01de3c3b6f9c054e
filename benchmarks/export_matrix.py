"""Every network through every exporter, as a Markdown table: what the certificate of each file says, or why it was refused.

    python benchmarks/export_matrix.py
    python benchmarks/export_matrix.py --networks unet mask_rcnn --targets onnx int8 openvino,precision=fp16
    python benchmarks/export_matrix.py --bundles runs/NAME/bundle --data PHOTOS --keep matrix

Each network trains for half a minute on made-up shapes (`--seconds`; those that find objects eight times as long: Mask R-CNN on
full-size MobileNetV2, with weights from `$MASKWRIGHT_WEIGHTS` where they are, and a small Mask2Former). Then `maskwright
export` writes it for each target as a user would, and its certificate is read.
A cell, line by line: largest difference of a logit and the share of pixels answered
otherwise (of objects: how many are found by one of the two alone, least IoU, scores); change of mean IoU (mask AP) on the
validation images, exported minus trained; megabytes; milliseconds of one photo, in brackets those of torch, which took
turns with it. `twin`: this machine cannot run the file, what comes nearest was run in its place. Each network has a process of
its own; with `--keep FOLDER` what is there already is not made again. For timings on two cores put `taskset -c 0,1` before.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from train_step import network_options

import maskwright
from maskwright.bundles import bundle as bundles
from maskwright.core import machine
from maskwright.core.errors import MaskwrightError
from maskwright.data import synthetic
from maskwright.exports import ENDINGS, EXPORTERS
from maskwright.models import INSTANCE_MODELS, MODELS

FP16, WHOLE = "onnx,precision=fp16", "onnx,self_contained=true"
TARGETS = ["onnx", FP16, WHOLE, *(name for name in EXPORTERS if name != "onnx"), "litert,precision=int8"]
SWIN = {"embed_dim": 24, "depths": [1, 1, 2, 1], "num_heads": [1, 2, 4, 8], "window_size": 4, "model_type": "swin"}
OBJECTS: dict[str, dict[str, Any]] = {
    "mask_rcnn": {"encoder": "mobilenet_v2", "weights": "auto"},
    "mask2former": {
        "config": {
            "model_type": "mask2former",
            "backbone_config": {**SWIN, "out_features": [f"stage{n}" for n in (1, 2, 3, 4)]},
            **dict.fromkeys(("feature_size", "mask_feature_size", "hidden_dim"), 64),
            **dict.fromkeys(("encoder_feedforward_dim", "dim_feedforward"), 128),
            "encoder_layers": 2,
            "decoder_layers": 4,
            "num_attention_heads": 4,
            "num_queries": 30,
        }
    },
}
MANY = 1.0  # a limit that nothing reaches: how much is lost shall be told, not refused


def main() -> None:
    options = parsed()
    if options.child:
        export_all(options, options.child, Path(options.keep))
        return
    with tempfile.TemporaryDirectory() as scratch:
        keep = Path(options.keep or scratch).absolute()
        keep.mkdir(parents=True, exist_ok=True)
        if not (options.bundles or (keep / "shapes").is_dir()):
            synthetic.make(keep / "shapes", num=64, size=(128, 128))
        print(f"{machine.cpu()['name']}, {machine.cpu()['usable']} cores, Python {platform.python_version()}\n")
        print("| network |" + "".join(f" {target} |" for target in options.targets))
        print("|---|" + "---|" * len(options.targets), flush=True)
        reasons: list[str] = []
        for name in options.bundles or options.networks:
            row = made(name, keep)
            if set(options.targets) - set(row):
                ended = subprocess.run([sys.executable, __file__, *sys.argv[1:], "--child", name, "--keep", str(keep)])
                row = made(name, keep)
                crash = f"the process ended with {ended.returncode}"
                row = {target: row.get(target, {"refused": crash}) for target in options.targets}
            cells = (cell(target, row[target], reasons) for target in options.targets)
            print(f"| {shown(name)} |" + "".join(f" {text} |" for text in cells), flush=True)
    for number, reason in enumerate(reasons, 1):
        print(f"\n[{number}] {reason}")


def shown(name: str) -> str:
    """What a row is called: the network, of a bundle also its size."""
    if name in {*MODELS, *INSTANCE_MODELS}:
        return f"`{name}`"
    known = bundles.load(name).description
    return f"`{known.model['name']}`, {' x '.join(map(str, known.size))}"


def made(name: str, keep: Path) -> dict[str, dict[str, Any]]:
    """What is known of each target already."""
    file = kept(name, keep)
    return json.loads(file.read_text()) if file.is_file() else {}


def kept(name: str, keep: Path) -> Path:
    return keep / (re.sub(r"[^\w+]+", "-", name).strip("-") + ".json")


def export_all(options: argparse.Namespace, name: str, keep: Path) -> None:
    """One network through all exporters; what came of each is written as soon as it is known."""
    row = made(name, keep)
    try:
        bundle = name if options.bundles else trained(options, name, keep)
    except MaskwrightError as error:
        row = {target: {"refused": f"training: {error}"} for target in options.targets}
    else:
        data = {"data": options.data} if options.data else {}
        for target in options.targets:
            if target not in row:
                row[target] = exported(bundle, target, options.options, keep, data)
                kept(name, keep).write_text(json.dumps(row))
    kept(name, keep).write_text(json.dumps(row))


def trained(options: argparse.Namespace, name: str, keep: Path) -> str:
    """A bundle of this network, trained for some seconds on the shapes."""
    runs = keep / "runs" / name
    if found := sorted(runs.glob("*/bundle/model.onnx")):
        return str(found[-1].parent)
    changes: dict[str, Any] = {"size": options.size, "train.batch": 8}
    if name in INSTANCE_MODELS:
        model = {"name": name, **OBJECTS[name]}
        changes |= {"task": "instance", "model": model, "train.minutes": 8 * options.seconds / 60}
    else:
        model = {"name": name, **network_options(name, options.encoder)}
        changes |= {"model": model, "train.minutes": options.seconds / 60}
    return maskwright.train(str(keep / "shapes"), changes, out=str(runs)).bundle


def exported(bundle: str, target: str, more: list[str], keep: Path, data: dict[str, str]) -> dict[str, Any]:
    """The certificate of one export, without what a table has no room for, or the reason of its refusal."""
    name, *given = target.split(",")
    given += [text.removeprefix(f"{name}.") for text in more if text.startswith(f"{name}.")]
    with tempfile.TemporaryDirectory(dir=keep) as folder:
        out = str(Path(folder) / f"model{ENDINGS[name]}")
        began = time.perf_counter()
        try:
            done = maskwright.export(bundle, *given, target=name, out=out, max_drop=MANY, uncertified=True, **data)
        except MaskwrightError as error:
            return {"refused": f"{target}: {error}".replace(folder, "")}
    said = done.certificate.to_json()
    known = {key: said[key] for key in ("agreement", "loss", "latency_ms", "size_mb", "certified", "notes", "facts")}
    return {**known, "seconds": time.perf_counter() - began}


def cell(target: str, said: dict[str, Any], reasons: list[str]) -> str:
    if "refused" in said:
        reason = shortened(re.sub(r"\s+", " ", said["refused"]).replace("|", "/"))
        if reason not in reasons:
            reasons.append(reason)
        return f"refused [{reasons.index(reason) + 1}]"
    loss, times = said["loss"], said["latency_ms"]
    running = times.get("exported", times.get("twin"))
    lines = [parity(said["agreement"]), f"{loss['change']:+.4f}" if loss else "", f"{said['size_mb']:.2f} MB"]
    lines.append(f"{running:.1f} ms ({times['trained']:.1f})" + ("" if said["certified"] else " twin"))
    return "<br>".join(filter(None, lines))


def shortened(reason: str) -> str:
    """Up to the first operator that a lens cannot have: the next ones differ from network to network."""
    head, lens, tail = reason.partition("every device: ")
    return f"{head}{lens}{tail.split(', first in')[0]}, ..." if lens else reason


def parity(found: dict[str, Any]) -> str:
    if found["objects"] is not None:
        alone = f"{found['unmatched']} of {found['objects']} alone"
        return f"{alone}, IoU {found['min_iou']:.4f}, scores {found['max_score_difference']:.0e}"
    changed = f"{100 * found['pixels_changed']:.3g} %"
    apart = found["max_logit_difference"]
    return changed if apart is None else f"{apart:.0e}, {changed}"


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--targets", nargs="+", default=TARGETS, help="name, or name,option=value,...")
    parser.add_argument("--networks", nargs="+", default=[*MODELS, *INSTANCE_MODELS])
    parser.add_argument("--bundles", nargs="*", default=[], help="instead of networks trained on shapes")
    parser.add_argument("--data", default="", help="labelled images for bundles that know none of their own")
    parser.add_argument("--options", nargs="*", default=[], help="for each export of a target: litert.install=true")
    parser.add_argument("--encoder", default="tu-mobilenetv3_small_050", help="of networks that have a choice")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--seconds", type=float, default=30, help="of training, for each network")
    parser.add_argument("--keep", default="", help="folder for what is made; it is not made twice")
    parser.add_argument("--child", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
