"""What each setting gives: one recipe, changed in one thing at a time, several seeds each, differences with intervals.

    python benchmarks/ablation.py DATA [key=value ...] --out FOLDER [--seeds 0 1 2] [--epochs 15] [--only "ema 0.99" ...]

key=value change the base recipe. Scores are those of the held-out fold (`split`), never of test images: settings are
chosen by this table. Run it again to go on where it stopped; what is finished is only read (so several processes may share a
folder, each with seeds of its own, and a last call with all of them draws the table). The table gives, for each
variant, the mean over the seeds of its mean IoU minus that of the base with the same seed: the 95 % interval is a bootstrap
over the images (the same draw for both and for all seeds), the range is that of the single seeds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np

import maskwright as mw
from maskwright.core import recipe as recipes
from maskwright.data.prepare import prepare
from maskwright.metrics.intervals import Estimate, bootstrap
from maskwright.metrics.scores import Scores
from maskwright.prediction import evaluation

VARIANTS: dict[str, list[str]] = {
    "base": [],
    "no pretrained weights": ["model.weights=none"],
    "fp32": ["train.precision=fp32"],
    "encoder lr x0.1": ["train.encoder_lr=0.1"],
    "encoder lr x1": ["train.encoder_lr=1"],
    "augment none": ["augment=none"],
    "augment soft": ["augment=soft"],
    "augment hard": ["augment=hard"],
    "ema 0.99": ["train.ema=0.99"],
    "cross-entropy alone": ["loss={cross_entropy: 1}"],
    "cross-entropy + lovasz": ["loss={cross_entropy: 1, lovasz: 1}"],
    "focal + dice": ["loss={focal: 1, dice: 1}"],
    "class weights": ["loss={cross_entropy: {weight: 1, class_weights: effective_number}, dice: 1}"],
    "cutmix": ["mix={name: cutmix, chance: 0.5}"],
    "copy-paste": ["mix={name: copy_paste, chance: 0.5}"],
    "size 256": ["size=256"],
    "one-cycle": ["train.schedule=one_cycle"],
    "fpn": ["model.name=fpn"],
    "deeplabv3+": ["model.name=deeplabv3+"],
    "unet++": ["model.name=unet++"],
}
VIEWS: dict[str, dict[str, object]] = {  # the base's bundles, looked at in another way: nothing is trained
    "tta flip": {"flip": True},
    "tta flip, scales": {"flip": True, "scales": [0.75, 1.0, 1.25]},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("changes", nargs="*")
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--only", nargs="+", choices=[*VARIANTS, *VIEWS])
    options = parser.parse_args()
    base = [*options.changes, f"train.epochs={options.epochs}"]
    chosen = [name for name in (*VARIANTS, *VIEWS) if not options.only or name in ("base", *options.only)]
    found: dict[str, list[tuple[Scores, float]]] = {name: [] for name in chosen}
    for seed in options.seeds:  # seed by seed, so that what is there when it stops can be compared
        for name in chosen:
            folder = options.out / f"{'base' if name in VIEWS else name}-{seed}".replace(" ", "-")
            run = trained(options.data, folder, [*base, *VARIANTS.get(name, ()), f"train.seed={seed}"])
            found[name].append(viewed(run, VIEWS[name]) if name in VIEWS else scored(run))
            print(f"{name}, seed {seed}: {found[name][-1][0]['miou']:.4f}, {found[name][-1][1]:.0f} s", flush=True)
    show(found)


def trained(data: str, folder: Path, changes: list[str]) -> Path:
    """The run in a folder, trained now unless it is finished."""
    kept = next(iter(folder.glob("*/checkpoints/last.pt")), None)
    if kept is None or not (kept.parents[1] / "scores.json").is_file():
        arguments = [str(kept.parents[1]), "--resume"] if kept else [data, *changes, "--out", str(folder)]
        subprocess.run([sys.executable, "-m", "maskwright", "train", *arguments], check=True, capture_output=True)
    return next(folder.glob("*/scores.json")).parent


def scored(run: Path) -> tuple[Scores, float]:
    """Validation scores and seconds of training."""
    scores = Scores.from_json(json.loads((run / "scores.json").read_text())["val"])
    return scores, float(json.loads((run / "run.json").read_text())["actual"]["seconds"])


def viewed(run: Path, tta: dict[str, object]) -> tuple[Scores, float]:
    """Scores of the run's bundle on the same images with test-time augmentation; no time of training."""
    kept = run / f"viewed-{'-'.join(tta)}.json"
    if not kept.is_file():
        settings = recipes.load(run / "recipe.yaml", {"split.file": str(run / "split.json")})
        predictor = mw.load(run / "bundle", runtime="torch", tta=tta)
        kept.write_text(json.dumps(evaluation.evaluate(predictor, prepare(settings).val).to_json()))
    return Scores.from_json(json.loads(kept.read_text())), 0.0


def show(found: dict[str, list[tuple[Scores, float]]]) -> None:
    base = [scores for scores, _ in found["base"]]
    print(f"\n| variant | mean IoU | minus base, 95 % interval | single seeds | seconds |\n{'|---' * 5}|")
    for name, runs in found.items():
        own = [scores for scores, _ in runs]
        gains = [(a["miou"] or 0.0) - (b["miou"] or 0.0) for a, b in zip(own, base, strict=True)]
        seconds = statistics.median(seconds for _, seconds in runs)
        gain = "" if name == "base" else signed(difference(own, base))
        single = "" if name == "base" else f"{min(gains):+.3f} to {max(gains):+.3f}"
        mean = statistics.mean(scores["miou"] or 0.0 for scores in own)
        print(f"| {name} | {mean:.3f} | {gain} | {single} | {seconds:.0f} |")


def difference(own: list[Scores], base: list[Scores]) -> Estimate:
    """Mean over the seeds of mean IoU of `own` minus that of `base`, seed by seed on the same images."""
    counts = np.stack([np.stack([s.counts for s in scores], 1) for scores in (own, base)], 1)  # (N, 2, S, 3, C)

    def statistic(sums: np.ndarray) -> np.ndarray:
        common, truth, predicted = np.moveaxis(sums, -2, 0)
        with np.errstate(invalid="ignore"):
            iou = np.where(truth > 0, common / (truth + predicted - common), np.nan)
        mean = np.nanmean(iou, -1).mean(-1)
        return (mean[:, 0] - mean[:, 1])[:, None]

    return bootstrap(counts, statistic)[0]


def signed(e: Estimate) -> str:
    return f"{e.value:+.3f} ({e.low:+.3f} to {e.high:+.3f})" if e.low is not None else f"{e.value:+.3f}"


if __name__ == "__main__":
    main()
