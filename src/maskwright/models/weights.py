"""Where a network's weights start: the library's download, a file, another bundle, or nowhere.

`load` changes the network in place and says what it did, layer by layer; nothing is half loaded when it refuses.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from maskwright.bundles import bundle as bundles
from maskwright.core import events
from maskwright.core.errors import ModelError, RecipeError, SetupError
from maskwright.core.registry import suggestion
from maskwright.core.words import counted
from maskwright.models import encoders, pixel_scale, weight_files
from maskwright.models.segmenter import NORMALIZATIONS, normalization_named

FOLDER = "MASKWRIGHT_WEIGHTS"  # environment variable: a folder with weight files, named as their encoders


@dataclass(frozen=True)
class Loaded:
    """What `load` did.

    source: where the weights came from, in words. normalization: the pixel scale to use with them.
    loaded: the network's tensors that were set. skipped: the source's tensors that were not, and why.
    missing: the network's tensors that the source should have had. notes: what a person should know, one clause each.
    """

    source: str
    normalization: str
    loaded: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """One sentence: what was taken, what the source lacks, what it has too much, and the notes."""
        if not self.loaded:
            return "; ".join([self.source, *self.notes])
        taken = f"{counted(len(self.loaded), 'tensor')} taken from {self.source}"
        lacking = f"{counted(len(self.missing), 'tensor is', 'tensors are')} not in there and stay random"
        over = f"{counted(len(self.skipped), 'tensor')} in there not used, having no place in this network"
        return "; ".join([taken, *[lacking] * bool(self.missing), *[over] * bool(self.skipped), *self.notes])

    def lines(self) -> list[str]:
        """Every tensor with what became of it."""
        rows = [f"loaded   {name}" for name in self.loaded]
        rows += [f"missing  {name}" for name in self.missing]
        return rows + [f"left out {name}: {why}" for name, why in self.skipped]


@dataclass(frozen=True)
class _Source:
    """Weights that were found. classes: the rows of their head, where they tell. normalization: where that is known.

    network: what they are the weights of, in words, where that is known.
    """

    words: str
    state: Mapping[str, Tensor]
    classes: tuple[str, ...] = ()
    normalization: str | None = None
    place: Path | None = None
    network: str = ""


def load(
    network: nn.Module,
    source: str = "auto",
    *,
    normalization: str = "auto",
    classes: Sequence[str] = (),
    encoder: str | None = None,
) -> Loaded:
    """Sets a network's weights from `source` and tells which pixel scale they need.

    source: `imagenet` (or another kind the library offers for the encoder), a file, a bundle or run folder, `none`, or
      `auto`: what the network brings itself (`own_weights`), else as `imagenet`, but where that cannot be had a loud
      warning and random weights. For `imagenet` and `auto` a file in the folder $MASKWRIGHT_WEIGHTS whose name begins with
      the encoder's goes before a download.
    normalization: one of NORMALIZATIONS, or `auto`: what the source says, else what its first layer shows, else `imagenet`.
    classes: the network's classes; from a bundle, the head keeps the rows of classes of the same name.

    Files of torchvision's Mask R-CNN fit ours: all but a head of other classes is taken. (Of the first version, the BatchNorm
    layers were trained on COCO with nothing added to the variance. Ours add 1e-5, so that at first answers differ a little.)
    encoder: the encoder's name, where it is not `network.encoder_name`.

    Raises ModelError for files that cannot be used (also when less than half of the encoder is in them), SetupError when a
    download fails, RecipeError for unknown names.
    """
    if normalization != "auto" and normalization not in NORMALIZATIONS:
        hint = suggestion(normalization, ["auto", *NORMALIZATIONS])
        raise RecipeError(f"no normalization is called `{normalization}`", place="model.normalization", hint=hint)
    name = encoder or str(network.encoder_name)
    found = _find(network, source, name)
    if not found.state:
        return Loaded(found.words, _scale_without_weights(network, normalization))
    chosen = _fit(network, found, classes, name)
    with torch.no_grad():
        own = network.state_dict()
        for key, value in chosen.values.items():
            own[key].copy_(value)
    scale, notes = _scale(network, normalization, found, name)
    _warn_of_folded_norms(network, found, chosen.values)
    skipped = tuple(
        (key, chosen.why.get(key, "the network has no such layer")) for key in found.state if key not in chosen.used
    )
    return Loaded(found.words, scale, tuple(chosen.values), skipped, chosen.missing, (*chosen.notes, *notes))


# ------------------------------------------------------------------------------------------------------------- sources


def _find(network: nn.Module, source: str, encoder: str) -> _Source:
    """The weights that a recipe's `weights` names."""
    if source == "none":
        return _Source("none, the network starts from random values", {})
    own = getattr(network, "own_weights", None)
    if source == "auto" and own is not None:
        words, state, scale = own()
        return _Source(words, state, normalization=normalization_named(*scale) if scale else None)
    if source == "auto" and not encoders.is_known(encoder):
        return _Source("none exist for this network, it starts from random values", {})
    if source == "auto":
        tags = encoders.pretrained_tags(encoder)
        try:
            return _pretrained(encoder, "imagenet" if "imagenet" in tags or not tags else tags[0])
        except (SetupError, RecipeError) as error:
            events.warn(f"training from scratch, which needs far more images and time: {error}")
            return _Source("none (nothing could be had), the network starts from random values", {})
    if source == "imagenet" or source in encoders.pretrained_tags(encoder):
        return _pretrained(encoder, source)
    return _local(Path(source).expanduser())


def _pretrained(encoder: str, tag: str) -> _Source:
    file = file_in_folder(encoder)
    if file is not None:
        return _local(file)
    state = encoders.download(encoder, tag)
    scale = encoders.expected_input(encoder, tag)
    return _Source(
        f"the library's `{tag}` weights", state, normalization=normalization_named(*scale) if scale else None
    )


def file_in_folder(encoder: str) -> Path | None:
    """The file in $MASKWRIGHT_WEIGHTS for an encoder: the one with the shortest name that begins with the encoder's."""
    setting = os.environ.get(FOLDER)
    if not setting:
        return None
    folder, wanted = Path(setting).expanduser(), encoders.file_stem(encoder)
    if not folder.is_dir():
        raise SetupError(f"${FOLDER} is not a folder", place=folder)
    stems = {encoders.file_stem(name) for name in (*encoders.names(), *encoders.TORCHVISION)}

    def is_for(name: str, stem: str) -> bool:
        return name.startswith(stem) and not name[len(stem) : len(stem) + 1].isalnum()

    fitting = [
        path
        for path in folder.iterdir()
        if path.suffix in weight_files.SUFFIXES
        and max((s for s in stems if is_for(path.name, s)), key=len, default="") == wanted
    ]
    return min(fitting, key=lambda path: (len(path.name), path.name), default=None)


def _local(path: Path) -> _Source:
    """Weights in a file, a bundle, or a run folder with a bundle."""
    if path.is_dir():
        bundle = bundles.load(path)
        known = bundle.description
        state = weight_files.read(bundle.weights)
        network = f"`{known.model['name']}` of `task: {known.task}`"
        return _Source(f"the bundle {path}", state, known.classes, known.normalization, bundle.weights, network)
    state = weight_files.read(path)
    if weight_files.is_detector(state):
        return _Source(str(path), state, normalization="imagenet", place=path, network="detector of torchvision")
    return _Source(str(path), state, place=path)


# ------------------------------------------------------------------------------------------------------------- fitting


@dataclass(frozen=True)
class _Fitted:
    """values: what to set. used: the source's names that were taken. why: the source's names that were not, with reasons."""

    values: dict[str, Tensor]
    used: set[str]
    why: dict[str, str]
    missing: tuple[str, ...]
    notes: tuple[str, ...]


def _fit(network: nn.Module, source: _Source, classes: Sequence[str], encoder: str) -> _Fitted:
    """Matches names and shapes. Raises ModelError when less than half of the encoder's parameters are there."""
    own = network.state_dict()
    heads: tuple[str, ...] = tuple(network.head_names)  # type: ignore[arg-type]
    sliced = bool(getattr(network, "sliced_weights", False))
    background = bool(getattr(network, "background_row", False))
    by_name = bool(source.classes and classes and source.classes != tuple(classes))
    matched = weight_files.match(source.state, own)
    values, why, notes = {}, {}, []
    for key, name in matched.items():
        is_head = key.startswith(heads)
        cut = (
            _rows(source.classes, classes, background)
            if is_head and by_name
            else _first_channels
            if sliced and not is_head
            else None
        )
        value = _shaped(source.state[name], own[key], cut)
        if isinstance(value, str):
            why[name] = value
        else:
            values[key] = value
    _require_half(network, source, values, encoder)
    if any(values[key].shape != source.state[matched[key]].shape for key in values if not key.startswith(heads)):
        notes.append("layers that are wider in there were cut to their first channels")
    if any(key.startswith(heads) for key in values) and (by_name or not source.classes):
        notes.append(
            _replaced(source.classes, classes) if by_name else "the head was taken as it is (the file names no classes)"
        )
    elif any(key.startswith(heads) for key in matched) and not any(key.startswith(heads) for key in values):
        notes.append("its head has other shapes and was left out, the network's stays random")
    whole = any(not key.startswith("encoder.") for key in values)
    if source.network and not whole:
        notes.append(f"only its encoder was taken, it is a {source.network}")
    counted_on = (key for key in own if not key.endswith(".num_batches_tracked"))  # frozen BatchNorm layers count none
    wanted = (key for key in counted_on if key.startswith("encoder.") or (whole and not key.startswith(heads)))
    missing = tuple(key for key in wanted if key not in values)
    return _Fitted(values, {matched[key] for key in values}, why, missing, tuple(notes))


Cut = Callable[[Tensor, Tensor], Tensor | None]


def _shaped(value: Tensor, own: Tensor, cut: Cut | None) -> Tensor | str:
    """The source's tensor for a place in the network, or why it does not go there. cut: makes it fit where it does not."""
    if not own.is_floating_point() and torch.equal(value, value.round()):
        value = value.to(own.dtype)  # bundles hold counters as float32 too
    if value.is_floating_point() != own.is_floating_point():
        return f"holds {str(value.dtype).removeprefix('torch.')} numbers"
    fitting = cut(value, own) if cut else value if value.shape == own.shape else None
    return f"has the shape {tuple(value.shape)}, the network's has {tuple(own.shape)}" if fitting is None else fitting


def _first_channels(value: Tensor, own: Tensor) -> Tensor | None:
    if value.ndim != own.ndim or any(a < b for a, b in zip(value.shape, own.shape, strict=True)):
        return None
    return value[tuple(slice(size) for size in own.shape)]


def _rows(old_classes: Sequence[str], classes: Sequence[str], background: bool = False) -> Cut:
    """Cuts a head: rows of classes that both know are taken, by name, the others stay as the network has them.

    A head has one row a class, one less where the first class has none (`lens`), or one more for `nothing` (Mask2Former).
    background: it has as many rows for what is no object, before those of the classes, as it has for each (Mask R-CNN).
    """

    def row_names(names: Sequence[str], count: int) -> list[object]:
        if background:
            each = count // (len(names) + 1)  # the four sides of a box have one each
            return [(name, row) for name in (None, *names) for row in range(each)]
        more = count - len(names)
        return [*names[max(0, -more) :], *range(more)]

    def cut(value: Tensor, own: Tensor) -> Tensor | None:
        old, new = row_names(old_classes, len(value)), row_names(classes, len(own))
        if value.shape[1:] != own.shape[1:] or (len(old), len(new)) != (len(value), len(own)):
            return None
        rows = dict(zip(old, value, strict=True))
        return torch.stack(
            [rows[name].to(row.dtype) if name in rows else row for name, row in zip(new, own, strict=True)]
        )

    return cut


def _replaced(old_classes: Sequence[str], classes: Sequence[str]) -> str:
    new = [name for name in classes if name not in old_classes]
    gone = [name for name in old_classes if name not in classes]
    told = [f"kept {len(classes) - len(new)}"] if len(new) < len(classes) else []
    told += [f"new: {', '.join(new)}"] * bool(new) + [f"dropped: {', '.join(gone)}"] * bool(gone)
    return f"the head was replaced for other classes ({'; '.join(told)})"


def _require_half(network: nn.Module, source: _Source, values: Mapping[str, Tensor], encoder: str) -> None:
    wanted = [f"encoder.{name}" for name, _ in network.encoder.named_parameters()]  # type: ignore[union-attr,operator]
    there = sum(name in values for name in wanted)
    if 2 * there < len(wanted):
        first = next(iter(source.state))
        raise ModelError(
            f"holds only {there} of the {len(wanted)} parameters of encoder `{encoder}`",
            place=source.place or source.words,
            hint=f"is it for another encoder? its first tensor is `{first}` {tuple(source.state[first].shape)}",
        )
    broken = [name for name, value in values.items() if not torch.isfinite(value).all()]
    if broken:
        what = f"holds numbers that are not finite in {counted(len(broken), 'tensor')} (`{broken[0]}`)"
        raise ModelError(what, place=source.place or source.words, hint="the training that wrote it had diverged")


# ------------------------------------------------------------------------------------------------------ pixels and norms


def _scale(network: nn.Module, asked: str, source: _Source, encoder: str) -> tuple[str, list[str]]:
    """The normalisation to use from now on, and a note on why."""
    if asked != "auto":
        name, why = asked, "as `model.normalization` asks"
    elif source.normalization is not None:
        name, why = source.normalization, "as they were trained"
    elif (recognized := pixel_scale.recognize(network.encoder)) is not None:  # type: ignore[arg-type]
        name, why = recognized
    else:
        scale = encoders.expected_input(encoder) if encoder.startswith("tu-") else None
        named = normalization_named(*scale) if scale else None
        name, why = (named, "timm says so") if named else ("imagenet", "a guess, the file does not tell")
    own = getattr(network, "normalization", name)
    if own == name:
        return name, [f"pixels are scaled as `{name}` ({why})"]
    network.absorb_normalization(*NORMALIZATIONS[name])  # type: ignore[operator]
    return own, [
        f"trained with pixels scaled as `{name}` ({why}), folded into the first layer, which now takes `{own}`"
    ]


def _scale_without_weights(network: nn.Module, asked: str) -> str:
    own = getattr(network, "normalization", None)
    if own is not None and asked not in ("auto", own):
        events.warn(f"this network works with pixels as `{own}` only; `normalization: {asked}` has no effect")
    return own or (asked if asked != "auto" else "imagenet")


def _warn_of_folded_norms(network: nn.Module, source: _Source, values: Mapping[str, Tensor]) -> None:
    named = network.encoder.named_modules(prefix="encoder")  # type: ignore[union-attr,operator]
    norms = [m for name, m in named if isinstance(m, nn.BatchNorm2d) and f"{name}.running_mean" in values]
    if norms and all(encoders.is_fresh(norm) for norm in norms):
        events.warn(
            f"{source.words}: its BatchNorm layers never saw an image (all means 0, all variances 1), as in weights that "
            "were folded for inference; training on from them may collapse"
        )
