"""How long a COCO JSON of COCO's own size takes to open, and how much memory the data then hold, alone and with workers.

    python benchmarks/open_big_coco.py                      # 118,000 images, 860,000 polygons, 455 MB
    python benchmarks/open_big_coco.py --images 10000 --objects 70000

Generates the JSON (seeded) and an empty file for each photo, since the reader lists the folder; no pixel is read.
Linux only: memory comes from /proc.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from maskwright.core.table import Data
from maskwright.data.formats.coco import FORMAT
from maskwright.data.ledger import Ledger

CLASSES, HEIGHT, WIDTH = 80, 480, 640


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=118_000)
    parser.add_argument("--objects", type=int, default=860_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--records", type=int, default=5_000, help="random records that each worker looks at")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        size = generate(Path(folder), options.images, options.objects)
        print(f"{options.images:,} images, {options.objects:,} polygons, {size / 1e6:.0f} MB of JSON")
        before, ledger, started = memory("Rss"), Ledger(), time.perf_counter()
        data = FORMAT.read(Path(folder), ledger)
        seconds = time.perf_counter() - started
    ledger.reconcile()
    assert len(data) == options.images
    assert ledger.count("annotation", "used") == options.objects
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"opened in {seconds:.1f} s; peak {peak:,.0f} MiB; {before:,.0f} MiB before, {memory('Rss'):,.0f} MiB after")
    for number, (private, shared, rate) in enumerate(walk_in_workers(data, options.workers, options.records)):
        print(f"worker {number}: {private:.0f} MiB of its own, {shared:,.0f} MiB shared; {rate:,.0f} records/s")


def generate(folder: Path, num_images: int, num_objects: int) -> int:
    """Writes `annotations/instances_train2017.json` and empty photos; returns the size of the JSON in bytes."""
    rng = np.random.default_rng(0)
    (folder / "annotations").mkdir()
    (folder / "train2017").mkdir()
    shapes = [polygon(rng) for _ in range(2_000)]
    ids = np.sort(rng.choice(600_000, num_images, replace=False)).tolist()
    path = folder / "annotations" / "instances_train2017.json"
    with path.open("w") as file:
        file.write('{"info": {}, "images": [')
        for number, id in enumerate(ids):
            name = f"{id:012d}.jpg"
            (folder / "train2017" / name).touch()
            image = {"license": 1, "file_name": name, "height": HEIGHT, "width": WIDTH, "id": id}
            file.write((", " if number else "") + json.dumps(image))
        file.write('], "annotations": [')
        owners, kinds = rng.integers(num_images, size=num_objects), rng.integers(len(shapes), size=num_objects)
        labels = rng.integers(1, CLASSES + 1, num_objects)
        for number, (owner, kind, label) in enumerate(zip(owners, kinds, labels, strict=True)):
            file.write(", " if number else "")
            file.write(f'{{"segmentation": {shapes[kind]}, "area": 702.1057, "iscrowd": 0, "image_id": {ids[owner]}, ')
            file.write(f'"bbox": [473.07, 395.93, 38.65, 28.67], "category_id": {label}, "id": {number + 1}}}')
        categories = [{"id": n, "name": f"class {n}"} for n in range(1, CLASSES + 1)]
        file.write(f'], "categories": {json.dumps(categories)}}}')
    return path.stat().st_size


def polygon(rng: np.random.Generator) -> str:
    """A random outline of 5 to 47 points inside the image, as JSON."""
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(5, 48)))
    radius = rng.uniform(5, 200)
    points = [WIDTH, HEIGHT] * rng.uniform(size=2) + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return json.dumps([points.clip(0, [WIDTH, HEIGHT]).round(2).reshape(-1).tolist()])


def walk_in_workers(data: Data, num_workers: int, num_records: int) -> list[tuple[float, float, float]]:
    """Forks workers that make random records at the same time; MiB of their own, MiB shared, records a second of each."""
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    ready = context.Barrier(num_workers)  # memory counts as shared while the others live

    def work(seed: int) -> None:
        rng, started = np.random.default_rng(seed), time.perf_counter()
        for index in rng.integers(len(data), size=num_records):
            assert all(polygon.max() <= WIDTH for region in data[int(index)].regions for polygon in region.polygons)
        rate = num_records / (time.perf_counter() - started)
        ready.wait()
        results.put((memory("Private_Clean", "Private_Dirty"), memory("Shared_Clean", "Shared_Dirty"), rate))
        ready.wait()

    workers = [context.Process(target=work, args=(seed,)) for seed in range(num_workers)]
    for worker in workers:
        worker.start()
    found = [results.get() for _ in workers]
    for worker in workers:
        worker.join()
    return found


def memory(*names: str) -> float:
    """MiB of this process, of the kinds named in /proc/self/smaps_rollup."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    kinds = {name: int(value) for name, value, _ in (line.replace(":", "").split() for line in lines)}
    return sum(kinds[name] for name in names) / 1024


if __name__ == "__main__":
    main()
