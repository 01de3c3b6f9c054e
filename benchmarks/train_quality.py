"""Whether the fast default loses accuracy: the same recipe in bf16 channels-last and in fp32, several seeds each.

    python benchmarks/train_quality.py DATA [--seeds 3] [--epochs 8] [--out FOLDER] [key=value ...]

Prints each run's validation mean IoU and time, and whether the default's mean lies inside the spread of the fp32 seeds.
"""

from __future__ import annotations

import argparse
import statistics

import maskwright as mw


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("changes", nargs="*")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", default="runs")
    parser.add_argument("--precisions", nargs="+", default=["auto", "fp32"])
    options = parser.parse_args()
    found: dict[str, list[float]] = {}
    for seed in range(options.seeds):
        for precision in options.precisions:
            own = [f"train.precision={precision}", f"train.seed={seed}", f"train.epochs={options.epochs}"]
            run = mw.train(options.data, *options.changes, *own, out=options.out)
            found.setdefault(precision, []).append(run.scores["miou"] or 0.0)
            print(f"{precision} seed {seed}: mean IoU {found[precision][-1]:.4f}, {run.seconds:.0f} s", flush=True)
    for precision, values in found.items():
        print(f"{precision}: mean {statistics.mean(values):.4f}, from {min(values):.4f} to {max(values):.4f}")
    if len(found) == 2:
        (_, ours), (_, plain) = found.items()
        inside = min(plain) <= statistics.mean(ours) <= max(plain)
        print(f"the default's mean lies {'inside' if inside else 'outside'} the spread of the fp32 seeds")


if __name__ == "__main__":
    main()
