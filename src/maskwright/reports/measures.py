"""What the page shows of scores: of pixels, or of objects found one by one. Names, words and columns; nothing is computed.

To show another number: its line in the columns of its kind. What a run folder lacks becomes a dash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

MEAN_IOU, F1 = "mean IoU", "F1 at IoU 0.5"  # what ranks images, as pictures/index.json says it
SHORT = {MEAN_IOU: "mIoU", F1: "F1"}
SHAPES = {"mask": "masks", "box": "boxes"}
LOSS = "loss: "  # before the name of one of several losses, as a key of an epoch's row

# of objects: the measure -> its label, what it means
OF_OBJECTS = {
    "ap": ("AP", "mean over IoU 0.50 to 0.95 and the {present} of {classes} classes in the truth"),
    "ap50": ("AP50", "at IoU 0.50"),
    "ap75": ("AP75", "at IoU 0.75"),
    "ap_small": ("AP small", "of objects up to 32 × 32 pixels"),
    "ap_medium": ("AP medium", "of those between"),
    "ap_large": ("AP large", "of objects from 96 × 96 pixels"),
    "ar1": ("AR1", "recall of the surest detection of each class in an image"),
    "ar10": ("AR10", "recall of the 10 surest"),
    "ar100": ("AR100", "recall of the 100 surest"),
    "ar_small": ("AR small", "of objects up to 32 × 32 pixels"),
    "ar_medium": ("AR medium", "of those between"),
    "ar_large": ("AR large", "of objects from 96 × 96 pixels"),
}


@dataclass(frozen=True)
class Column:
    """A column of numbers. key: of a row. form: a filter of `words`. bar: drawn from 0 to 1 beside the number too."""

    title: str
    key: str
    form: str = "score"
    bar: bool = False


@dataclass(frozen=True)
class Kind:
    """How scores are told.

    top, label: the headline that stands large, its key and its name. quality: what images are ranked by; spread: the same
    in a sentence. truth: the key of what a class has that is in the truth at all. about: the table of classes, in words.
    classes, images: the columns of their tables, those of images after the quality.
    """

    top: str
    label: str
    quality: Column
    spread: str
    truth: str
    about: str
    classes: tuple[Column, ...]
    images: tuple[Column, ...]


PIXELS = Kind(
    top="miou",
    label=MEAN_IOU,
    quality=Column(MEAN_IOU, "miou", bar=True),
    spread=MEAN_IOU,
    truth="truth_pixels",
    about="Pooled over the pixels of all {part} images.",
    classes=(
        Column("IoU", "iou", bar=True),
        Column("Dice", "dice"),
        Column("precision", "precision"),
        Column("recall", "recall"),
        Column("share of truth", "share", "share"),
        Column("pixels", "truth_pixels", "count"),
        Column("images", "images", "count"),
    ),
    images=(
        Column("pixel accuracy", "pixel_accuracy"),
        Column("pixels scored", "scored", "count"),
        Column("void pixels", "void", "count"),
    ),
)


def kind_of(headlines: Iterable[str]) -> Kind:
    """Of scores with these headlines."""
    shapes = [shape for shape in SHAPES if any(name.startswith(f"{shape}_a") for name in headlines)]
    return of_objects(shapes) if shapes else PIXELS


def of_objects(shapes: list[str]) -> Kind:
    """shapes: "mask", "box", or both: those that were scored."""
    first, *others = shapes
    names = {"ap": "AP", "ap50": "AP50", "ap75": "AP75", "ar100": "AR100"}
    return Kind(
        top=f"{first}_ap",
        label=f"{first} AP",
        quality=Column("F1", "f1", bar=True),
        spread="F1 of the detections surer than 0.5, at IoU 0.5",
        truth="objects",
        about=f"Objects of all {{part}} images; AP, AP50, AP75 and AR100 are those of {SHAPES[first]}.",
        classes=(
            *(Column(label, f"{first}_{name}", bar=name == "ap") for name, label in names.items()),
            *(Column(f"{shape} AP", f"{shape}_ap") for shape in others),
            Column("objects", "objects", "count"),
            Column("images", "images", "count"),
            Column("detections", "detections", "count"),
        ),
        images=(
            Column("objects", "objects", "count"),
            Column("found", "right", "count"),
            Column("surer than 0.5", "sure", "count"),
            Column("all detections", "detections", "count"),
        ),
    )


def epoch_columns(epochs: list[Mapping[str, Any]]) -> tuple[Column, ...]:
    """Of the table of epochs: what any of them tells."""
    known = {key for epoch in epochs for key in epoch}
    columns = (
        Column("samples", "samples", "count"),
        Column("training loss", "train_loss"),
        *(Column(told_loss(key), key) for key in dict.fromkeys(k for e in epochs for k in e) if key.startswith(LOSS)),
        Column("validation loss", "val_loss"),
        Column("mean IoU", "val_miou"),
        Column("pixel accuracy", "val_pixel_accuracy"),
        Column("mask AP", "val_mask_ap"),
        Column("mask AP50", "val_mask_ap50"),
        Column("box AP", "val_box_ap"),
        Column("learning rate", "lr", "rate"),
        Column("images/s", "images_per_second", "decimal"),
        Column("waiting", "waiting", "percent"),
        Column("peak memory", "peak_memory_gb", "gigabytes"),
        Column("time", "seconds", "duration"),
    )
    return tuple(column for column in columns if column.key in known)


def told_loss(key: str) -> str:
    """`RPN box loss` of `loss: rpn_bbox_loss`."""
    words = {"rpn": "RPN", "bbox": "box"}
    return " ".join(words.get(word, word) for word in key.removeprefix(LOSS).split("_"))
