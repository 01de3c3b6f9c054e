"""Which files of a mask folder are images, which are masks, and which belong together: judged by names alone.

A folder's name tells its side (`images`, `imgs`, `photos`, ... or `masks`, `labels`, `train_annotation`, ...) and its
official list (`train`, `validation`, `test`); what is left of the path, and the file's stem, must be the same on both sides.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from maskwright.core.errors import DataError
from maskwright.data.formats.pairing import SPLITS, stray

Side = Literal["image", "mask"]

IMAGES = {"image", "img", "input", "photo", "picture", "jpegimage", "jpg", "rgb"}  # each also with an `s`
MASKS = {"mask", "label", "labelmap", "annotation", "anno", "annot", "gt", "groundtruth", "seg", "segmentation"}
MASKS |= {"segmentationclass", "target", "trimap", "matte"}
LOSSLESS = ("png", "gif", "bmp", "tif", "tiff")


@dataclass(frozen=True, slots=True)
class File:
    """name: relative path; folder: what of its folders says neither side nor list; stem: file name without suffix."""

    name: str
    split: str | None
    folder: str
    stem: str

    @property
    def key(self) -> str:
        return f"{self.folder}/{self.stem}" if self.folder else self.stem


@dataclass(frozen=True, slots=True)
class Layout:
    """pairs: (image, mask); unlabelled: images without a mask; orphans: masks without an image; left: name -> why it is
    neither; unclear: groups of files that claim the same place. certain: folders of both sides were known by name."""

    pairs: list[tuple[File, File]] = field(default_factory=list)
    unlabelled: list[File] = field(default_factory=list)
    orphans: list[File] = field(default_factory=list)
    unclear: list[tuple[list[File], list[File]]] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    certain: bool = False


def lay_out(
    names: Sequence[str],
    *,
    images: str | None = None,
    masks: str | None = None,
    prefix: str | None = None,
    suffix: str | None = None,
) -> Layout:
    """Sorts and pairs files (relative paths). images, masks: folders; prefix, suffix: what a mask's stem has and its image's
    has not. All are found out where they are None."""
    names = [name for name in names if stray(name) is None]
    sides: dict[str, Side | None] = {name: _side(name, images, masks) for name in names}
    found = [name for name in names if sides[name] == "mask"]
    layout = Layout(certain=bool(found) and (masks is not None or any(side == "image" for side in sides.values())))
    if not found or (images is not None and images == masks):
        below = [name for name in names if images is None or images == "." or name.startswith(images + "/")]
        pictures, found = _side_by_side(below, prefix, suffix)
    else:
        pictures = _pictures(names, sides, images)
    chosen = {*pictures, *found}
    layout.left.update({name: "outside the folders of images and masks" for name in names if name not in chosen})
    _match([_file(n, images) for n in pictures], [_file(n, masks) for n in found], prefix, suffix, layout)
    return layout


def _side(name: str, images: str | None, masks: str | None) -> Side | None:
    """By the options, else by the deepest folder whose name tells."""
    within: list[tuple[int, Side]] = []
    for folder, side in ((images, "image"), (masks, "mask")):
        if folder is not None and (folder == "." or name.startswith(folder + "/")):
            within.append((len(folder), side))  # type: ignore[arg-type]
    if within:
        return max(within)[1]
    for part in reversed(name.lower().split("/")[:-1]):
        tokens = set(_words(part))
        if tokens & MASKS:
            return "mask" if masks is None else None
        if tokens & IMAGES:
            return "image" if images is None else None
    return None


def _pictures(names: Sequence[str], sides: dict[str, Side | None], images: str | None) -> list[str]:
    """The image files: in folders called so, else in folders called after a list, else wherever there is no mask."""
    called = [name for name in names if sides[name] == "image"]
    if called or images is not None:
        return called
    others = [name for name in names if sides[name] is None]
    return [name for name in others if _file(name, None).split is not None] or others


def _file(name: str, top: str | None) -> File:
    below = name[len(top) + 1 :] if top not in (None, ".") and name.startswith(f"{top}/") else name
    *folders, base = below.split("/")
    split, rest = None, []
    for part in folders:
        tokens = _words(part.lower())
        told = {token for token in tokens if token in SPLITS or token in MASKS or token in IMAGES}
        split = next((SPLITS[token] for token in tokens if token in SPLITS), split)
        rest.append("_".join(token for token in tokens if token not in told) if told else part)
    return File(name, split, "/".join(part for part in rest if part), base.rpartition(".")[0])


def _words(name: str) -> list[str]:
    """The words of a name, in the singular where that is a word for a side."""
    words = [word for word in re.split(r"[_\-. ]+", name) if word]
    return [word.removesuffix("s") if word.removesuffix("s") in IMAGES | MASKS else word for word in words]


def _side_by_side(names: Sequence[str], prefix: str | None, suffix: str | None) -> tuple[list[str], list[str]]:
    """Images and masks of one folder: masks have a prefix or suffix that says so, or are PNGs beside a JPEG of that name."""
    stems = defaultdict(list)
    for name in names:
        stems[name.rpartition(".")[0]].append(name)
    if prefix is None and suffix is None:
        prefix, suffix = _telling_affix(stems)
    if prefix or suffix:
        test = _carries(prefix or "", suffix or "")
        found = [name for name in names if test(name.rpartition("/")[2].rpartition(".")[0])]
    else:
        twins = [group for group in stems.values() if len(group) == 2]
        found = [n for group in twins for n in group if n.lower().endswith(LOSSLESS) and _has_jpeg(group)]
    masks = set(found)
    return ([name for name in names if name not in masks] if masks else []), found


def _has_jpeg(group: Sequence[str]) -> bool:
    return any(name.lower().endswith(("jpg", "jpeg")) for name in group)


def _telling_affix(stems: Iterable[str]) -> tuple[str | None, str | None]:
    """The commonest first or last word that means `mask` and whose rest is another file's stem."""
    known, votes = set(stems), Counter[tuple[str, str]]()
    for stem in known:
        folder, slash, base = stem.rpartition("/")
        words = re.split(r"([_\-. ]+)", base)
        if len(words) >= 3:
            for start, end in ((words[0] + words[1], ""), ("", words[-2] + words[-1])):
                rest = base[len(start) : len(base) - len(end)]
                if set(_words((start or end).lower())) & MASKS and folder + slash + rest in known:
                    votes[start, end] += 1
    return votes.most_common(1)[0][0] if votes else (None, None)


def _carries(prefix: str, suffix: str) -> Callable[[str], bool]:
    least = len(prefix) + len(suffix)
    return lambda stem: len(stem) > least and stem.startswith(prefix) and stem.endswith(suffix)


def _match(pictures: list[File], masks: list[File], prefix: str | None, suffix: str | None, layout: Layout) -> None:
    """Fills the layout: pairs, and what found no partner."""
    if prefix is None and suffix is None:
        prefix, suffix = common_affix({file.stem for file in pictures}, [file.stem for file in masks])
        if prefix or suffix:
            layout.notes.append(f"masks are called `{prefix}<name of the image>{suffix}`")
    _match_by_key(pictures, masks, prefix or "", suffix or "", layout)


def _match_by_key(pictures: list[File], masks: list[File], prefix: str, suffix: str, layout: Layout) -> None:
    carries = _carries(prefix, suffix)
    by_place: dict[tuple[str | None, str], list[File]] = defaultdict(list)
    by_key: dict[str, list[File]] = defaultdict(list)
    for mask in masks:
        if not carries(mask.stem):
            continue
        key = File(mask.name, None, mask.folder, mask.stem[len(prefix) : len(mask.stem) - len(suffix)]).key
        by_place[mask.split, key].append(mask)
        by_key[key].append(mask)
    images_at: dict[tuple[str | None, str], list[File]] = defaultdict(list)
    for file in pictures:
        images_at[file.split, file.key].append(file)
    if not any(key in by_key for _, key in images_at) and any(file.folder for file in (*pictures, *masks)):
        pictures, masks = ([replace(file, folder="") for file in files] for files in (pictures, masks))
        _match_by_key(pictures, masks, prefix, suffix, layout)  # other folders: the stems alone may do
        return
    partners = {
        (split, key): by_place.get((split, key)) or by_place.get((None, key)) or ([] if split else by_key.get(key, []))
        for split, key in images_at
    }
    claims = Counter(mask.name for group in partners.values() for mask in group)
    for place, files in images_at.items():
        group = partners[place]
        if len(files) == 1 and len(group) == 1 and claims[group[0].name] == 1:
            layout.pairs.append((files[0], group[0]))
        elif group:
            layout.unclear.append((files, group))
        else:
            layout.unlabelled.extend(files)
    why = f"its name is not `{prefix}<name of the image>{suffix}`"
    layout.left.update({mask.name: why for mask in masks if not carries(mask.stem)})
    layout.orphans.extend(m for group in by_place.values() for m in group if m.name not in claims)


def common_affix(images: set[str], masks: Sequence[str]) -> tuple[str, str]:
    """The constant prefix and suffix that turn image stems into mask stems; two empty strings where they are the same.

    It must fit at least half of the masks, and more of them than the bare stem does.
    """

    def fitting(affix: tuple[str, str]) -> int:
        start, end = len(affix[0]), len(affix[1])
        return sum(_carries(*affix)(m) and m[start : len(m) - end] in images for m in masks)

    bare = fitting(("", ""))
    if bare == len(masks):
        return "", ""
    votes = Counter[tuple[str, str]]()
    for mask in masks[:: max(1, len(masks) // 32)]:
        for i in range(len(mask)):
            votes.update((mask[:i], mask[j:]) for j in range(i + 1, len(mask) + 1) if mask[i:j] in images)
    telling = [affix for affix, _ in votes.most_common(32) if not any(part.isdecimal() for part in affix)]
    best = max(telling, key=lambda affix: (fitting(affix), -len("".join(affix))), default=("", ""))
    return best if fitting(best) > bare and 2 * fitting(best) >= len(masks) else ("", "")


def nothing_pairs(layout: Layout, place: object) -> DataError:
    """Why a folder with no pair at all is no mask folder."""
    pictures, masks = [f.name for f in layout.unlabelled], [f.name for f in layout.orphans]
    if not masks:
        return DataError("no masks were found", place=place, hint="name the folders with `images:` and `masks:`")
    shown = f"masks such as {masks[0]}" + (f", images such as {pictures[0]}" if pictures else ", no images")
    return DataError(
        f"no mask is called like an image: {shown}", place=place, hint="set `images:`, `masks:`, `prefix:` or `suffix:`"
    )
