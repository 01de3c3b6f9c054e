"""One generated truth, written by hand in every layout that the readers know: what each must read back is known exactly.

`LAYOUTS` is the table; an entry writes the same samples with plain Pillow, numpy and json, never with the tool's writers.
`reduced` says what of the truth a layout can hold, as a function of the true label map.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from maskwright.core.table import Data, Packer
from maskwright.core.types import VOID, Record, Region
from maskwright.data import synthetic
from maskwright.data.ledger import Ledger
from maskwright.imaging import masks

CLASSES = synthetic.CLASSES
SHAPES = CLASSES[1:]


@dataclass(frozen=True)
class Truth:
    """One image: its JPEG, the regions drawn on it (some are crowds) and the label map uint8 (H, W) they make."""

    name: str
    jpeg: bytes
    regions: tuple[Region, ...]
    label_map: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        return self.label_map.shape  # type: ignore[return-value]


def truth(num: int = 12, seed: int = 3, size: tuple[int, int] = (72, 96)) -> list[Truth]:
    """Samples of the synthetic generator; the last shape of every third one is turned into a crowd, so that there is VOID."""
    made = []
    for number, sample in enumerate(synthetic.truth(num, seed, size=size)):
        regions = [Region(s.label, (s.outline,), id=10 * number + i) for i, s in enumerate(sample.shapes, 1)]
        if number % 3 == 2 and regions:
            regions[-1] = Region(regions[-1].label, regions[-1].polygons, crowd=True, id=regions[-1].id)
        buffer = BytesIO()
        Image.fromarray(sample.image).save(buffer, "JPEG", quality=90)
        painted = masks.paint(regions, sample.image.shape[:2])
        made.append(Truth(sample.name, buffer.getvalue(), tuple(regions), painted))
    return made


@dataclass(frozen=True)
class Layout:
    """write: (folder, truth); format: what must be recognised; classes: what must be read; reduced: true label map -> held."""

    name: str
    write: Callable[[Path, list[Truth]], None]
    format: str
    classes: tuple[str, ...] = CLASSES
    options: dict[str, Any] = field(default_factory=dict)
    reduced: Callable[[np.ndarray], np.ndarray] = lambda label_map: label_map


# ------------------------------------------------------------------------------------------------------------ pieces


def photo(size: tuple[int, int] = (8, 12), *, seed: int = 0, orientation: int = 1) -> bytes:
    """A JPEG of noise whose stored pixels are size (H, W), with an EXIF orientation."""
    picture = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))
    exif, buffer = Image.Exif(), BytesIO()
    exif[0x0112] = orientation
    picture.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def save_photo(path: Path, jpeg: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(jpeg)


def save_mask(path: Path, values: np.ndarray, *, palette: np.ndarray | None = None, **options: Any) -> None:
    """Values as they are: uint8 (H, W), with a palette or without; uint8 (H, W, 3); bool (H, W); uint16 (H, W)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(values)
    if palette is not None:
        picture.putpalette(palette.astype(np.uint8).tobytes())
    picture.save(path, **options)


def run_lengths(mask: np.ndarray) -> list[int]:
    """A mask bool (H, W) as uncompressed COCO counts: column by column, zeros first."""
    flat = np.concatenate([[0], mask.T.reshape(-1).astype(np.int8), [0]])
    edges = np.flatnonzero(np.diff(flat)).tolist()
    return (
        np.diff([0, *edges, mask.size]).tolist()
        if not edges or edges[-1] != mask.size
        else np.diff([0, *edges]).tolist()
    )


def compressed(counts: list[int]) -> str:
    """COCO's compressed string: from the third count on differences to the one two before, 5 bits a character, low first."""
    text = ""
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        more = True
        while more:
            bits = value & 0x1F
            value >>= 5
            more = value != (-1 if bits & 0x10 else 0)
            text += chr(48 + bits + (0x20 if more else 0))
    return text


def border(label_map: np.ndarray) -> np.ndarray:
    """Where a pixel's neighbour above, below, left or right is drawn and it is not, or the other way round: bool (H, W)."""
    drawn = np.pad(label_map > 0, 1, mode="edge")
    inner = drawn[1:-1, 1:-1]
    return (
        (drawn[:-2, 1:-1] != inner)
        | (drawn[2:, 1:-1] != inner)
        | (drawn[1:-1, :-2] != inner)
        | (drawn[1:-1, 2:] != inner)
    )


def trimap(label_map: np.ndarray) -> np.ndarray:
    """What a pet trimap holds of it: 0, 1, and VOID on the border and where it was VOID."""
    return np.where(border(label_map) | (label_map == VOID), VOID, label_map > 0).astype(np.uint8)


def one_class(label_map: np.ndarray) -> np.ndarray:
    """What a black-and-white mask holds of it: all shapes as one, VOID as ground."""
    return ((label_map > 0) & (label_map != VOID)).astype(np.uint8)


COLOURS = np.zeros((256, 3), np.uint8)
COLOURS[: len(CLASSES)] = [(0, 0, 0), (250, 50, 83), (36, 179, 83), (61, 61, 245), (255, 204, 51)]
COLOURS[VOID] = (224, 224, 192)


def data(folder: Path, *, split: str | None = None, void: bool = True) -> Data:
    """The truth as a Data whose photos lie in `folder`, every third in "val" and the rest in `split`; `void`: with crowds."""
    packer = Packer()
    for number, sample in enumerate(truth()):
        path = folder / f"{sample.name}.jpg"
        save_photo(path, sample.jpeg)
        regions = tuple(region for region in sample.regions if void or not region.crowd)
        where = "val" if split and number % 3 == 0 else split
        packer.record(Record(sample.name, str(path), sample.size, regions, split=where))
    return packer.pack(CLASSES)


def fates(ledger: Ledger, fate: str) -> dict[tuple[str, str], str]:
    """(kind, file name) -> why, for every line of one fate."""
    return {(line.kind, line.item.rpartition("/")[2]): line.why for line in ledger.lines if line.fate == fate}


# ------------------------------------------------------------------------------------------------------------ writers


def coco(encode: Callable[[Region, tuple[int, int]], Any]) -> Callable[[Path, list[Truth]], None]:
    def write(folder: Path, samples: list[Truth]) -> None:
        document: dict[str, Any] = {"images": [], "annotations": [], "categories": []}
        for i, name in enumerate(SHAPES, 1):
            document["categories"].append({"id": 7 * i, "name": name})
        for number, sample in enumerate(samples, 500):
            save_photo(folder / "photos" / f"{sample.name}.jpg", sample.jpeg)
            (height, width), file_name = sample.size, f"{sample.name}.jpg"
            document["images"].append({"id": number, "file_name": file_name, "width": width, "height": height})
            for region in sample.regions:
                one = {
                    "id": region.id,
                    "image_id": number,
                    "category_id": 7 * region.label,
                    "iscrowd": int(region.crowd),
                }
                document["annotations"].append({**one, "segmentation": encode(region, sample.size)})
        (folder / "instances.json").write_text(json.dumps(document))

    return write


def as_polygons(region: Region, size: tuple[int, int]) -> list[list[float]]:
    return [polygon.reshape(-1).tolist() for polygon in region.polygons]


def as_counts(region: Region, size: tuple[int, int]) -> dict[str, Any]:
    return {"size": list(size), "counts": run_lengths(masks.region_mask(region, size))}


def as_string(region: Region, size: tuple[int, int]) -> dict[str, Any]:
    return {"size": list(size), "counts": compressed(run_lengths(masks.region_mask(region, size)))}


def voc(folder: Path, samples: list[Truth]) -> None:
    base = folder / "VOCdevkit" / "VOC2012"
    lists: dict[str, list[str]] = {"train": [], "val": []}
    for i, sample in enumerate(samples):
        save_photo(base / "JPEGImages" / f"{sample.name}.jpg", sample.jpeg)
        save_mask(base / "SegmentationClass" / f"{sample.name}.png", sample.label_map, palette=COLOURS)
        lists["val" if i % 3 == 1 else "train"].append(sample.name)
    (base / "ImageSets" / "Segmentation").mkdir(parents=True)
    for name, members in {**lists, "trainval": [*lists["train"], *lists["val"]]}.items():
        (base / "ImageSets" / "Segmentation" / f"{name}.txt").write_text(
            "".join(f"{m} \r\n" for m in members), newline=""
        )
    (base / "class_names.txt").write_text("\n".join(("_background_", *SHAPES)))


def voc_in_colour(folder: Path, samples: list[Truth]) -> None:
    """As CVAT exports it: RGB files, labelmap.txt, one list called default."""
    for sample in samples:
        save_photo(folder / "JPEGImages" / f"{sample.name}.jpg", sample.jpeg)
        save_mask(folder / "SegmentationClass" / f"{sample.name}.png", COLOURS[sample.label_map])
    (folder / "ImageSets" / "Segmentation").mkdir(parents=True)
    (folder / "ImageSets" / "Segmentation" / "default.txt").write_text("\n".join(sample.name for sample in samples))
    write_labelmap(folder)


def write_labelmap(folder: Path) -> None:
    lines = ["# label:color_rgb:parts:actions"]
    lines += [f"{name}:{','.join(map(str, COLOURS[i]))}::" for i, name in enumerate(CLASSES)]
    (folder / "labelmap.txt").write_text("\n".join(lines))


def pet(folder: Path, samples: list[Truth]) -> None:
    rows = []
    for sample in samples:
        save_photo(folder / "images" / f"{sample.name}.jpg", sample.jpeg)
        values = np.select([trimap(sample.label_map) == value for value in (1, 0, VOID)], [1, 2, 3]).astype(np.uint8)
        save_mask(folder / "annotations" / "trimaps" / f"{sample.name}.png", values)
        rows.append(f"{sample.name} 1 2 1\n")
    for name, some in {"list": ["#Image CLASS-ID\n", *rows], "trainval": rows[::2], "test": rows[1::2]}.items():
        (folder / "annotations" / f"{name}.txt").write_text("".join(some))


def index_png(folder: Path, samples: list[Truth]) -> None:
    for sample in samples:
        save_photo(folder / "images" / f"{sample.name}.jpg", sample.jpeg)
        save_mask(folder / "masks" / f"{sample.name}.png", sample.label_map, palette=COLOURS)
    (folder / "classes.txt").write_text("\n".join(CLASSES))


def rgb_palette(folder: Path, samples: list[Truth]) -> None:
    for sample in samples:
        save_photo(folder / "images" / f"{sample.name}.jpg", sample.jpeg)
        save_mask(folder / "labels" / f"{sample.name}.png", COLOURS[sample.label_map])
    write_labelmap(folder)
    with (folder / "labelmap.txt").open("a") as file:
        file.write("\nvoid:224,224,192::")


def black_and_white(folder: Path, samples: list[Truth]) -> None:
    for sample in samples:
        save_photo(folder / f"{sample.name}.jpg", sample.jpeg)
        save_mask(folder / f"{sample.name}_mask.png", one_class(sample.label_map) * np.uint8(255))


def one_bit(folder: Path, samples: list[Truth]) -> None:
    for sample in samples:
        save_photo(folder / "train" / f"{sample.name}.jpg", sample.jpeg)
        save_mask(folder / "train_masks" / f"{sample.name}_mask.gif", one_class(sample.label_map).astype(bool))


def sagemaker(folder: Path, samples: list[Truth]) -> None:
    for i, sample in enumerate(samples):
        channel = "validation" if i % 4 == 0 else "train"
        save_photo(folder / channel / f"{sample.name}.jpg", sample.jpeg)
        save_mask(folder / f"{channel}_annotation" / f"{sample.name}.png", sample.label_map)
    (folder / "classes.json").write_text(json.dumps({name: i for i, name in enumerate(CLASSES)}))


def yolo(folder: Path, samples: list[Truth]) -> None:
    """Crowds as a class `void`; ids with gaps; an image without shapes has no label file; paths that lead out of the folder."""
    for i, sample in enumerate(samples):
        part = "valid" if i % 3 == 1 else "train"
        save_photo(folder / part / "images" / f"{sample.name}.jpg", sample.jpeg)
        height, width = sample.size
        rows = [
            " ".join([str(0 if r.crowd else 3 * r.label), *(repr(float(v)) for v in (p / (width, height)).reshape(-1))])
            for r in sample.regions
            for p in r.polygons
        ]
        if rows:
            target = folder / part / "labels" / f"{sample.name}.txt"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("\n".join(rows))
    names = {0: "void", **{3 * i: name for i, name in enumerate(SHAPES, 1)}}
    lists = {"train": "../train/images", "val": "../valid/images", "test": "../test/images"}
    (folder / "data.yaml").write_text(json.dumps({**lists, "nc": len(names), "names": names}))


BINARY = ("background", "foreground")
LAYOUTS = (
    Layout("coco polygons", coco(as_polygons), "coco"),
    Layout("coco run-lengths", coco(as_counts), "coco"),
    Layout("coco compressed run-lengths", coco(as_string), "coco"),
    Layout("voc", voc, "voc"),
    Layout("voc in colour", voc_in_colour, "voc"),
    Layout("pet trimap", pet, "pet", ("background", "pet"), reduced=trimap),
    Layout("pet trimap, border a class", pet, "pet", ("background", "pet", "border"), {"border": "class"},
           lambda m: np.where(trimap(m) == VOID, 2, trimap(m))),
    Layout("index png", index_png, "folder"),
    Layout("rgb palette", rgb_palette, "folder"),
    Layout("black and white", black_and_white, "folder", BINARY, reduced=one_class),
    Layout("one bit", one_bit, "folder", BINARY, reduced=one_class),
    Layout("sagemaker", sagemaker, "folder"),
    Layout("yolo", yolo, "yolo"),
)  # fmt: skip
