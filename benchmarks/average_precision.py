"""Average precision of a results file beside pycocotools: CPU seconds from the two JSON files to the twelve numbers.

    python benchmarks/average_precision.py                               # 1,000 images x 20 detections
    python benchmarks/average_precision.py --images 5000 --rounds 3

The data are made here: polygons with two dozen points, three of 80 classes in an image; of the detections, compressed
run-lengths, seven in ten lie near an object and tend to be surer, and every second one of the others is of any class. Both
sides score masks and boxes (pycocotools in one evaluation each, as it must), ours without intervals and then with them. The
numbers must agree; where pycocotools is not installed ours run alone.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from hotcoco import mask as coco

from maskwright.metrics.precision_recall import MEASURES
from maskwright.prediction import coco_truth, instance_evaluation

CLASSES, HEIGHT, WIDTH = 80, 480, 640


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--objects", type=int, default=7, help="in an image, on average")
    parser.add_argument("--detections", type=int, default=20, help="in an image")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--resamples", type=int, default=0, help="also measure ours with so many resamples")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        truth, results = Path(folder, "truth.json"), Path(folder, "results.json")
        make(truth, results, options.images, options.objects, options.detections)
        sizes = ", ".join(f"{path.stat().st_size / 1e6:.0f} MB" for path in (truth, results))
        print(f"{options.images:,} images, {options.detections} detections each ({sizes})")
        for _ in range(options.rounds):
            side_by_side(truth, results, options.resamples)


def side_by_side(truth: Path, results: Path, resamples: int) -> None:
    seconds, numbers = timed(lambda: ours(truth, results, 0))
    print(
        f"ours                  {seconds:8.2f} CPU seconds   mask AP {numbers['mask'][0]:.6f}, box {numbers['box'][0]:.6f}"
    )
    if resamples:
        longer, _ = timed(lambda: ours(truth, results, resamples))
        print(f"  {resamples:,} resamples     {longer:8.2f} CPU seconds")
    try:
        import pycocotools  # noqa: F401
    except ImportError:
        print("pycocotools is not installed: nothing to compare with")
        return
    official, theirs = timed(lambda: pycocotools_numbers(truth, results))
    print(f"pycocotools           {official:8.2f} CPU seconds   {official / seconds:.1f} times ours")
    for kind in ("mask", "box"):
        worst = max(abs(a - b) for a, b in zip(numbers[kind], theirs[kind], strict=True))
        assert worst < 1e-9, f"{kind}: {numbers[kind]} here, {theirs[kind]} there"
    print("all 24 numbers agree to 1e-9")


def timed(work: Any) -> tuple[float, Any]:
    start = time.process_time()
    answer = work()
    return time.process_time() - start, answer


def ours(truth: Path, results: Path, resamples: int) -> dict[str, list[float]]:
    scores, _ = instance_evaluation.score_results(results, coco_truth.read(truth), resamples=resamples)
    return {kind: [scores[f"{kind}_{name}"] or 0.0 for name in MEASURES] for kind in ("mask", "box")}


def pycocotools_numbers(truth: Path, results: Path) -> dict[str, list[float]]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    numbers = {}
    with contextlib.redirect_stdout(io.StringIO()):
        true = COCO(str(truth))
        found = true.loadRes(str(results))
        for kind, name in (("mask", "segm"), ("box", "bbox")):
            evaluation = COCOeval(true, found, name)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            numbers[kind] = [float(value) for value in evaluation.stats]
    return numbers


def make(truth: Path, results: Path, num: int, objects: int, detections: int) -> None:
    """Two JSON files: a COCO data set without photos, and results."""
    rng = np.random.default_rng(0)
    images: list[Any] = []
    annotations: list[Any] = []
    found: list[Any] = []
    for image in range(1, num + 1):
        images.append({"id": image, "file_name": f"{image:06}.jpg", "height": HEIGHT, "width": WIDTH})
        present = rng.choice(CLASSES, 3, replace=False) + 1
        drawn = []
        for _ in range(int(rng.poisson(objects))):
            centre, radius, label = (
                rng.uniform(0, 1, 2) * (WIDTH, HEIGHT),
                rng.lognormal(3.6, 0.8),
                int(rng.choice(present)),
            )
            drawn.append((centre, radius, label))
            outline = polygon(rng, centre, radius)
            rle = coco.fr_py_objects([outline], HEIGHT, WIDTH)[0]
            row = {"id": len(annotations) + 1, "image_id": image, "category_id": label, "segmentation": [outline]}
            annotations.append(row | {"area": int(coco.area(rle)), "bbox": coco.to_bbox(rle).tolist(), "iscrowd": 0})
        for _ in range(detections):
            near = bool(drawn) and rng.random() < 0.7
            if near:
                centre, radius, label = drawn[int(rng.integers(len(drawn)))]
                centre, radius = centre + rng.normal(0, 0.1, 2) * radius, radius * rng.uniform(0.85, 1.15)
            else:
                centre, radius = rng.uniform(0, 1, 2) * (WIDTH, HEIGHT), rng.lognormal(3.6, 0.8)
                label = int(rng.choice(present) if rng.random() < 0.5 else rng.integers(CLASSES) + 1)
            rle = coco.fr_py_objects([polygon(rng, centre, radius)], HEIGHT, WIDTH)[0]
            mask = {"size": rle["size"], "counts": rle["counts"].decode()}
            found.append(
                {
                    "image_id": image,
                    "category_id": label,
                    "segmentation": mask,
                    "score": float(rng.beta(4, 2) if near else rng.beta(2, 4)),
                }
            )
    categories = [{"id": i, "name": f"class {i}"} for i in range(1, CLASSES + 1)]
    truth.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    results.write_text(json.dumps(found))


def polygon(rng: np.random.Generator, centre: np.ndarray, radius: float) -> list[float]:
    """A wobbly ring of 24 points, cut at the image's edges."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    reach = radius * rng.uniform(0.75, 1.1, 24)
    points = centre + np.stack([np.cos(angles), np.sin(angles)], axis=1) * reach[:, None]
    return [round(float(value), 2) for value in points.clip(0, (WIDTH, HEIGHT)).reshape(-1)]


if __name__ == "__main__":
    main()
