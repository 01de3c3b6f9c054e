"""Whole training epochs, from image files to trained weights: this tool beside three peers, side by side on this machine.

    python benchmarks/peer_epochs.py [DATA] [--size 256] [--encoder resnet34] [--batch 8] [--repeats 3] [--images 96]
    python benchmarks/peer_epochs.py --only ours lightning --device cuda --peer-precision bf16 --json

All train the same U-Net without pretrained weights, with AdamW at a constant rate, on the same images squashed to the same
size: a flip in half of the cases, zoom 0.8 to 1.25, rotation within 10 degrees, brightness and contrast within 15 %. All have
as many workers, which live on between epochs. Nobody validates, logs or saves.

- ours: Samples, Loader, Segmenter and Device as `maskwright train` uses them, in the precision it chooses by itself.
- lightning: segmentation_models_pytorch in a LightningModule; albumentations, pycocotools, torch's DataLoader.
- trainer: the same network and data set in the Trainer of transformers.
- torchvision: a plain loop in the manner of torchvision's references; PIL, its first transforms. Its loss is their
  cross-entropy alone, which is less work; all others have cross-entropy + Dice.

The peers compute in fp32, as they do unless told otherwise (`--peer-precision`). Every turn is a process of its own, and
contestants take turns. The first epoch of a turn is cold (it starts workers, decodes files, fills our cache) and stands in a
column of its own; images/s are of the epochs after it, which for us means from the cache: the peers have none. An epoch lasts
from the end of the one before. Memory is the largest sum over a process and its workers, sampled: pages that they share count
once where the system tells (Linux), elsewhere as often as they are held.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import segmentation_models_pytorch as smp
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from maskwright.core.cores import usable_cores
from maskwright.core.table import Data
from maskwright.core.types import VOID, Record
from maskwright.data import flip_pairs
from maskwright.data.open import open_data
from maskwright.imaging.images import PAD_COLOUR
from maskwright.models.device import peak_process_memory

NEEDS = {
    "ours": (),
    "lightning": ("lightning", "albumentations", "pycocotools"),
    "trainer": ("transformers", "accelerate", "albumentations", "pycocotools"),
    "torchvision": ("torchvision", "pycocotools"),
}
SHOWN = (
    "torch",
    "torchvision",
    "segmentation-models-pytorch",
    "lightning",
    "transformers",
    "accelerate",
    "albumentations",
)
LR = 1e-3
SCALE, ROTATE, LIGHT = 1.25, 10.0, 0.15
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LINUX = sys.platform == "linux"
SAMPLED = 0.25  # seconds between two looks at the memory
GB = 1e9


def main() -> None:
    options = parsed()
    if options.turn:
        one_turn(options)
        return
    names = present(options.only)
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for repeat in range(options.repeats):
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            turns[name].append(in_process(name))
            rate = turns[name][-1]["rate"]
            print(f"turn {repeat + 1} of {options.repeats}, {name}: {rate:.2f} images/s", file=sys.stderr, flush=True)
    report(options, turns)


def present(names: list[str]) -> list[str]:
    """Those that can run here; the others are named with what they lack."""
    missing = {name: [need for need in NEEDS[name] if importlib.util.find_spec(need) is None] for name in names}
    for name, needs in missing.items():
        if needs:
            print(
                f"{name}: SKIPPED, not installed: {', '.join(needs)} (pip install 'maskwright[bench]')", file=sys.stderr
            )
    able = [name for name in names if not missing[name]]
    return able or sys.exit("nothing to measure")


def in_process(name: str) -> dict[str, Any]:
    """A turn of a contestant in a new process: what it answers, and the most memory that it and its workers held."""
    with tempfile.TemporaryDirectory() as folder:
        answer, log = Path(folder, "answer.json"), Path(folder, "log.txt")
        command = [sys.executable, __file__, *sys.argv[1:], "--turn", name, str(answer)]
        with log.open("w") as file:
            process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, cwd=Path.cwd())
            peak = 0
            while process.poll() is None:
                peak = max(peak, held(process.pid))
                time.sleep(SAMPLED)
        if process.returncode:
            sys.exit(f"{name} failed ({process.returncode}):\n{log.read_text()[-3000:]}")
        found = json.loads(answer.read_text())
        return {**found, "peak": max(peak, found["main"])}  # samples may miss a peak


def held(pid: int) -> int:
    """Bytes that a process and all below it hold now; libraries, which all have from the same files, as the first has them."""
    total = 0
    try:
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        total = kilobytes(f"/proc/{pid}/status", "RssFile") if LINUX else 0
        for process in family:
            rollup = f"/proc/{process.pid}/smaps_rollup"
            total += kilobytes(rollup, "Pss_Anon", "Pss_Shmem") if LINUX else process.memory_info().rss
    except (psutil.Error, OSError):  # one has just ended; what was counted so far is no more than there was
        pass
    return total


def kilobytes(path: str, *wanted: str) -> int:
    """Bytes that a file of /proc states in kB under these names."""
    lines = (line.split() for line in Path(path).read_text().splitlines())
    return sum(int(words[1]) * 1024 for words in lines if words[0].rstrip(":") in wanted)


def report(options: argparse.Namespace, turns: dict[str, list[dict[str, Any]]]) -> None:
    if len({turn["parameters"] for all_turns in turns.values() for turn in all_turns}) != 1:
        sys.exit("the networks differ: " + str({name: all_turns[0]["parameters"] for name, all_turns in turns.items()}))
    first = next(iter(turns.values()))[0]
    table = {name: summary(all_turns) for name, all_turns in turns.items()}
    versions = {name: version(name) for name in SHOWN}
    print(f"U-Net {options.encoder}, {first['parameters']:,} parameters, {first['classes']} classes, ", end="")
    print(f"{options.size} x {options.size}, batch {options.batch}, {first['images']} images of {options.data}")
    print(
        f"{options.repeats} turns of 1 + {options.epochs} epochs; {platform.platform()}, {platform.machine()}, ", end=""
    )
    print(f"{usable_cores()} cores, {first['threads']} threads, {first['workers']} workers each")
    print(", ".join(f"{name} {number}" for name, number in versions.items()))
    print(
        f"{'':12}{'images/s':>9} {'(from, to)':>18}{'of ours':>9}{'cold':>8}{'memory':>10}{'main':>9}{'GPU':>9}  computes in"
    )
    ours = table.get("ours", {}).get("rate")
    for name, row in table.items():
        row["of_ours"] = row["rate"] / ours if ours else None
        spread = f"({row['slowest']:.2f}, {row['fastest']:.2f})"
        share = f"{row['of_ours']:.2f}x" if ours else "-"
        gpu = f"{row['gpu'] / GB:.2f} GB" if row["gpu"] else "-"
        print(f"{name:12}{row['rate']:9.2f} {spread:>18}{share:>9}{row['cold']:8.2f}", end="")
        print(f"{row['peak'] / GB:7.2f} GB{row['main'] / GB:6.2f} GB{gpu:>9}  {turns[name][0]['device']}")
    print("cold: images/s of the first epoch, with all that starts in it; memory: with workers; main: without them")
    if options.json:
        settings = {key: str(value) if isinstance(value, Path) else value for key, value in vars(options).items()}
        print(json.dumps({"schema": 1, "settings": settings, "versions": versions, "table": table, "turns": turns}))


def summary(turns: list[dict[str, Any]]) -> dict[str, Any]:
    rates = [turn["rate"] for turn in turns]
    medians = {key: statistics.median(turn[key] for turn in turns) for key in ("rate", "cold", "peak", "main", "gpu")}
    return {**medians, "slowest": min(rates), "fastest": max(rates)}


def version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "-"


# ------------------------------------------------------------------------------------------------ inside such a process


@dataclass
class Job:
    """What every contestant is told, and where it marks the ends of its epochs.

    data: exactly whole batches. ends: seconds of the clock, the first one when the training begins.
    """

    data: Data
    size: int
    encoder: str
    batch: int
    epochs: int
    workers: int
    device: str
    precision: str
    bf16: bool
    ends: list[float] = field(default_factory=list)
    steps: int = 0
    parameters: int = 0

    @property
    def classes(self) -> int:
        return len(self.data.classes)

    def mark(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    def watch(self, network: nn.Module) -> nn.Module:
        """Counts its parameters now and its steps later, so that no contestant gets away with less."""

        def count(*_: Any) -> None:
            self.steps += 1

        self.parameters = sum(parameter.numel() for parameter in network.parameters())
        network.register_forward_hook(count)
        return network

    def peer_network(self) -> nn.Module:
        return self.watch(smp.Unet(self.encoder, encoder_weights=None, classes=self.classes))

    def peer_loader(self, samples: Dataset) -> DataLoader:
        return DataLoader(
            samples,
            self.batch,
            shuffle=True,
            drop_last=True,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            pin_memory=self.device == "cuda",
        )

    def peer_words(self) -> str:
        return f"{self.device}: {'bf16 autocast' if self.bf16 else 'fp32'}"


def one_turn(options: argparse.Namespace) -> None:
    """Trains, and writes to the file named on the command line how it went."""
    name, answer = options.turn
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    data = open_data(options.data).data
    batch = min(options.batch, len(data))
    job = Job(
        data=data.select(np.arange(min(len(data), max(options.images, batch)) // batch * batch)),
        size=options.size,
        encoder=options.encoder,
        batch=batch,
        epochs=1 + options.epochs,
        workers=min(8, usable_cores() // 2) if options.workers is None else options.workers,
        device=options.device,
        precision=options.precision,
        bf16=options.peer_precision == "bf16",
    )
    words = CONTESTANTS[name](job)
    seconds = np.diff(job.ends).tolist()
    assert len(seconds) == job.epochs, f"{len(seconds)} epochs were marked"
    assert job.steps == job.epochs * len(job.data) // batch, f"{job.steps} steps were made"
    found = {
        "rate": len(job.data) / statistics.median(seconds[1:]),
        "cold": len(job.data) / seconds[0],
        "seconds": seconds,
        "main": peak_process_memory(),
        "gpu": torch.cuda.max_memory_allocated() if job.device == "cuda" else 0,
        "device": words,
        "threads": torch.get_num_threads(),
        "workers": job.workers,
        "images": len(job.data),
        "classes": job.classes,
        "parameters": job.parameters,
    }
    Path(answer).write_text(json.dumps(found))


def with_ours(job: Job) -> str:
    """What training/loop.py does in an epoch, without what it tells and saves."""
    from maskwright.models import MODELS, device
    from maskwright.models.segmenter import wrap
    from maskwright.training import optim
    from maskwright.training.augment import augmenter, soft
    from maskwright.training.cache import Samples
    from maskwright.training.loader import Loader
    from maskwright.training.loop import on_device
    from maskwright.training.losses import criterion

    place = device.choose(job.device, job.precision)
    network = job.watch(MODELS["unet"](job.classes, encoder=job.encoder))
    segmenter = wrap(network, criterion=criterion({"cross_entropy": 1.0, "dice": 1.0}, job.data.classes))
    segmenter = place.place(segmenter).train()
    optimizer, scaler = optim.build(segmenter, "adamw", {"lr": LR}), place.scaler()
    size = (job.size, job.size)
    ranges = soft(scale=SCALE, rotate=ROTATE, shift=0.0, light=LIGHT, colour=0.0)
    augment = augmenter(ranges, size, flip_pairs=flip_pairs.proposed(job.data.classes))
    loader = Loader(Samples(job.data, range(len(job.data)), size=size), augment, batch=job.batch, workers=job.workers)
    job.steps = 0  # a network may be tried while it is built
    job.mark()
    for epoch in range(job.epochs):
        for batch in loader.epoch(epoch):
            images, targets = on_device(batch, place)
            with place.autocast():
                losses = segmenter(images, targets)
            scaler.scale(torch.stack(list(losses.values())).sum()).backward()
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad(set_to_none=True)
        job.mark()
    loader.close()
    return place.describe()


def with_lightning(job: Job) -> str:
    import lightning.pytorch as pl

    class Module(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.loss = job.peer_network(), CrossEntropyAndDice()

        def training_step(self, batch: dict[str, Tensor], index: int) -> Tensor:
            return self.loss(self.network(batch["pixel_values"]), batch["labels"])

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.AdamW(self.parameters(), lr=LR)

    class Marks(pl.Callback):
        def on_train_epoch_end(self, *_: Any) -> None:
            job.mark()

    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="gpu" if job.device == "cuda" else "cpu",
            devices=1,
            precision="bf16-mixed" if job.bf16 else "32-true",
            max_epochs=job.epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[Marks()],
            default_root_dir=folder,
        )
        module, loader = Module(), job.peer_loader(Albumented(job.data, job.size))
        job.mark()
        trainer.fit(module, loader)
    return job.peer_words()


def with_trainer(job: Job) -> str:
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class Answering(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network, self.loss = job.peer_network(), CrossEntropyAndDice()

        def forward(self, pixel_values: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits = self.network(pixel_values)
            return {"loss": self.loss(logits, labels), "logits": logits}

    class Marks(TrainerCallback):
        def on_epoch_end(self, *_: Any, **__: Any) -> None:
            job.mark()

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=job.batch,
            num_train_epochs=job.epochs,
            learning_rate=LR,
            lr_scheduler_type="constant",
            max_grad_norm=0.0,  # the others do not clip
            bf16=job.bf16,
            use_cpu=job.device == "cpu",
            dataloader_num_workers=job.workers,
            dataloader_persistent_workers=job.workers > 0,
            dataloader_drop_last=True,
            remove_unused_columns=False,
            logging_strategy="no",
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        samples = Albumented(job.data, job.size)
        trainer = Trainer(Answering(), arguments, train_dataset=samples, callbacks=[Marks()])
        job.mark()
        trainer.train()
    return job.peer_words()


def with_torchvision(job: Job) -> str:
    device = torch.device(job.device)
    network = job.peer_network().to(device).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=LR)
    loader = job.peer_loader(Transformed(job.data, job.size))
    job.mark()
    for _ in range(job.epochs):
        for images, targets in loader:
            images, targets = images.to(device, non_blocking=True), targets.to(device, non_blocking=True)
            cast: AbstractContextManager[Any] = (
                torch.autocast(job.device, torch.bfloat16) if job.bf16 else nullcontext()
            )
            with cast:
                loss = nn.functional.cross_entropy(network(images), targets, ignore_index=VOID)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        job.mark()
    return job.peer_words()


CONTESTANTS: dict[str, Callable[[Job], str]] = {
    "ours": with_ours,
    "lightning": with_lightning,
    "trainer": with_trainer,
    "torchvision": with_torchvision,
}


class CrossEntropyAndDice(nn.Module):
    """As users of segmentation_models_pytorch write it."""

    def __init__(self) -> None:
        super().__init__()
        self.cross_entropy = nn.CrossEntropyLoss(ignore_index=VOID)
        self.dice = smp.losses.DiceLoss("multiclass", ignore_index=VOID)

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        return self.cross_entropy(logits, targets) + self.dice(logits, targets)


class Albumented(Dataset):
    """{pixel_values: float (3, H, W), labels: int64 (H, W)}, read by OpenCV and changed by albumentations."""

    def __init__(self, data: Data, size: int):
        os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for a newer version
        import albumentations as A
        import cv2
        from albumentations.pytorch import ToTensorV2

        cv2.setNumThreads(0)
        self.data, self.cv2 = data, cv2
        affine = A.Affine(
            scale=(1 / SCALE, SCALE),
            rotate=(-ROTATE, ROTATE),
            border_mode=cv2.BORDER_CONSTANT,
            fill=PAD_COLOUR,
            fill_mask=VOID,
            p=1.0,
        )
        light = A.RandomBrightnessContrast(brightness_limit=LIGHT, contrast_limit=LIGHT, p=1.0)
        steps = [A.Resize(size, size), A.HorizontalFlip(p=0.5), affine, light, A.Normalize(MEAN, STD), ToTensorV2()]
        self.change = A.Compose(steps)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        record = self.data[index]
        image = self.cv2.cvtColor(self.cv2.imread(record.image), self.cv2.COLOR_BGR2RGB)
        changed = self.change(image=image, mask=painted(record))
        return {"pixel_values": changed["image"], "labels": changed["mask"].long()}


class Transformed(Dataset):
    """(float (3, H, W), int64 (H, W)), read by PIL and changed by torchvision's first transforms, image and labels alike."""

    def __init__(self, data: Data, size: int):
        from torchvision import transforms

        self.data, self.size, self.jitter = data, [size, size], transforms.ColorJitter(LIGHT, LIGHT)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms import functional as F

        bilinear, nearest = InterpolationMode.BILINEAR, InterpolationMode.NEAREST
        record = self.data[index]
        with Image.open(record.image) as file:
            image = F.resize(file.convert("RGB"), self.size, bilinear)
        target = F.resize(Image.fromarray(painted(record)), self.size, nearest)
        if torch.rand(1) < 0.5:
            image, target = F.hflip(image), F.hflip(target)
        turn, zoom = torch.empty(2).uniform_(-1, 1).tolist()
        place = {"angle": ROTATE * turn, "translate": [0, 0], "scale": SCALE**zoom, "shear": [0.0, 0.0]}
        image = F.affine(image, **place, interpolation=bilinear, fill=list(PAD_COLOUR))
        target = F.affine(target, **place, interpolation=nearest, fill=[VOID])
        tensor = F.normalize(F.to_tensor(self.jitter(image)), list(MEAN), list(STD))
        return tensor, torch.as_tensor(np.array(target), dtype=torch.int64)


def painted(record: Record) -> np.ndarray:
    """Label map uint8 (H, W) as the peers' users paint it: one pycocotools mask after the other."""
    from pycocotools import mask as coco_mask

    label_map = np.zeros(record.size, np.uint8)
    for region in record.regions:
        polygons = [part.reshape(-1).tolist() for part in region.polygons]
        label_map[coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *record.size))) > 0] = region.label
    return label_map


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(os.environ.get("MASKWRIGHT_DATA") or Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("data", nargs="?", type=Path, default=shared / "car-parts" / "trainingset")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--encoder", default="resnet34")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--images", type=int, default=96, help="images an epoch, rounded down to whole batches")
    parser.add_argument("--epochs", type=int, default=2, help="counted epochs of a turn")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=list(NEEDS), default=list(NEEDS))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", default="auto", help="of ours")
    parser.add_argument("--peer-precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--threads", type=int, default=0, help="0: as torch chooses")
    parser.add_argument("--workers", type=int, help="left out: half of the cores, 8 at most")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--turn", nargs=2, help=argparse.SUPPRESS)  # a contestant, a file for its answer
    options = parser.parse_args()
    if min(options.epochs, options.repeats, options.batch, options.images) < 1:
        parser.error("epochs, repeats, batch and images are 1 or more")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("this machine has no CUDA device that torch can use")
    return options


if __name__ == "__main__":
    main()
