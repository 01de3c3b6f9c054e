"""Label maps in MATLAB files, as clothing-co-parsing has them: `photos/0001.jpg`, `annotations/pixel-level/0001.mat`.

A file holds one matrix of class numbers as large as its photo; `label_list.mat` names the classes from 0, which is `null`,
the background. Layout: W. Yang, P. Luo, L. Lin, "Clothing Co-Parsing by Joint Image Segmentation and Labeling" (CVPR 2014).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

from maskwright.core.errors import DataError
from maskwright.core.table import Data
from maskwright.core.types import BACKGROUND, Coding
from maskwright.data.formats import Format, class_lists
from maskwright.data.formats.pairing import Pair, account, listed, pack_pairs, probe_pairs, stray
from maskwright.data.ledger import Ledger
from maskwright.imaging import mat_files

LABEL_MAPS, NAMES = "annotations/pixel-level", "label_list.mat"
GROUND = ("null", *sorted(class_lists.BACKGROUND_NAMES))


def read(path: Path, ledger: Ledger, *, masks: str | None = None, labels: str | None = None) -> Data:
    """Photos and `.mat` label maps of the same stem. Needs scipy (extra `mat`).

    masks: folder of the .mat files below the data set; left out: `annotations/pixel-level` where it is there, else anywhere.
    labels: file that names the classes from 0, as .mat, text or JSON; `label_list.mat` when left out.
    """
    names = listed(path)
    list_file = path / (labels or NAMES)
    if not list_file.is_file():
        hint = "`labels` is the file that names the classes in the order of their numbers, from 0"
        raise DataError("not found", place=list_file, hint=hint)
    classes, coding = _classes(list_file)
    folder = masks if masks is not None else LABEL_MAPS if (path / LABEL_MAPS).is_dir() else ""
    if not (path / folder).is_dir():
        raise DataError("not a folder of the data set", place=path / folder)
    above = f"{folder.strip('/')}/" if folder.strip("/.") else ""
    label_maps = _by_stem([n for n in names if n.startswith(above) and _is_mat(n) and path / n != list_file])
    photos = _by_stem([name for name in names if stray(name) is None])
    if not label_maps:
        raise DataError("holds no .mat file with labels", place=path / folder)
    pairs = [_pair(path, stem, photos.get(stem, []), files) for stem, files in label_maps.items()]
    taken = {name for stem, files in label_maps.items() for name in (*files, *photos.get(stem, []))}
    taken |= {name for name in names if path / name == list_file}
    bare = {name for stem, files in photos.items() if stem not in label_maps for name in files}
    for name in sorted(bare):
        ledger.seen("image")
        ledger.ignored("image", path / name, "unlabelled: it has no label map")
    account(ledger, path, names, taken, lambda name: _why(name, bare))
    return pack_pairs(probe_pairs(pairs, ledger), classes, lambda _: coding, ledger)


def sniff(path: Path) -> tuple[float, str]:
    """Knows clothing-co-parsing by its list of classes; other sets with .mat files must be asked for: they hold anything."""
    if not path.is_dir():
        return 0.0, "not a folder"
    found = (file for pattern in ("*.mat", "*/*.mat", f"{LABEL_MAPS}/*.mat") for file in islice(path.glob(pattern), 5))
    if not any(file.name != NAMES for file in found):
        return 0.0, "no .mat files"
    if not (path / NAMES).is_file():
        return 0.1, f".mat files, but no {NAMES}"
    return 0.9, f"{NAMES} and .mat label maps"


def _classes(file: Path) -> tuple[tuple[str, ...], Coding]:
    if file.suffix.lower() == mat_files.SUFFIX:
        said: Mapping[int, str] = dict(enumerate(mat_files.names(file)))
    else:
        found = class_lists.read(file)
        said = dict(zip(found.keys or range(len(found.names)), found.names, strict=True))
    named = {value: BACKGROUND if value == 0 and name.lower() in GROUND else name for value, name in said.items()}
    classes, labels = class_lists.table(named, file)
    return classes, Coding(tuple(labels), tuple(labels.values()))


def _is_mat(name: str) -> bool:
    return name.lower().endswith(mat_files.SUFFIX) and stray(f"{name}.png") is None


def _by_stem(names: Sequence[str]) -> dict[str, list[str]]:
    stems: dict[str, list[str]] = {}
    for name in names:
        stems.setdefault(name.rpartition("/")[2].rpartition(".")[0], []).append(name)
    return stems


def _pair(path: Path, stem: str, photos: Sequence[str], files: Sequence[str]) -> Pair:
    refused = None
    if len(photos) != 1 or len(files) != 1:
        several = [*photos, *files] if photos else files
        refused = f"several files of one name: {', '.join(several)}" if photos or len(files) > 1 else "it has no photo"
    photo = path / photos[0] if len(photos) == 1 else None
    return Pair(stem, photo, path / files[0] if len(files) == 1 else None, None, refused)


def _why(name: str, bare: set[str]) -> str:
    if name in bare:
        return "unlabelled: it has no label map"
    return "outside the folder of label maps" if _is_mat(name) else ""


FORMAT = Format(
    name="mat",
    summary="Label maps in MATLAB files, as clothing-co-parsing has them (extra `mat`).",
    sniff=sniff,
    read=read,
    instead="`folder` writes label maps as PNG",
)
