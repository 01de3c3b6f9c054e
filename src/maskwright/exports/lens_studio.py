"""An ONNX file for Snap Lens Studio's ML Component, contract `lens/1`: `data` float32 (1, 3, h, w), 0..255 -> `prob` float32
(1, C, h, w), 0..255; beside it a text that says what to type into the import dialog.

The facts are those of Lens Studio's documentation (4.55, 5.x) and of a file that was shipped in a lens: opset 11, IR version 6,
one static input, no normalisation outside, only operators that are known to run on every device.

What `prob` holds, all computed from a sigmoid, as the support of Softmax is documented nowhere that we know of:
    two classes    one channel, the probability of the second: sigmoid(z1 - z0), which is what softmax gives
    overlapping    a channel a class, its probability
    more classes   a channel a class, its margin: sigmoid(z - the strongest other z); above 127.5 where it is the class of the
                   pixel and nowhere else. Softmax can be computed from it exactly, see `with_onnx.from_lens`
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.bundles.bundle import Description
from maskwright.core import events
from maskwright.core.errors import ModelError, RecipeError
from maskwright.core.registry import missing_package
from maskwright.core.words import counted
from maskwright.exports import folding, lens_operators, lens_recipe, onnx_facts, onnx_files
from maskwright.exports.source import Source, Written

if TYPE_CHECKING:
    from onnx import ModelProto
    from torch import nn

INPUT, OUTPUT = "data", "prob"
IR_VERSION = 6  # the one of opset 11, and of the file that was shipped
OPSETS = (9, 10, 11, 12, 13)  # 9, 10 and 11 stand in Snap's own notebooks
MAX_DIFFERENCE = 0.05  # of prob, 0..255: fp32 reordering stays near 1e-4
TELLS = 1.0  # of prob, 0..255: answers that are further apart are different answers


def lens_studio(
    source: Source,
    path: Path,
    *,
    opset: int = 11,
    allow_operators: str | tuple[str, ...] = (),
    softmax: bool = False,
    max_mb: float = 10.0,
    max_mmacs: float = 150.0,
) -> Written:
    """Lens Studio's ML Component: a static ONNX file for pixels 0..255 that answers 0..255, and how to import it.

    opset: of the ONNX operators, 9 to 13; files with 9, 10 and 11 are known to be imported.
    allow_operators: ONNX operators, as `Clip,MaxPool`, that may be used although they are not known to run on every device.
    softmax: more than two classes as probabilities instead of margins; the support of Softmax (and of Transpose,
      which it needs before opset 13) is not documented.
    max_mb: megabytes above which there is a warning; a limit of 10 is often told and confirmed nowhere.
    max_mmacs: millions of multiplications above which there is a warning; a network of 60 is known to have been shipped, and
      Snap's template, which it was made after, takes 12 of the 33 ms of a picture on an iPhone 6S.
    """
    from maskwright.models.instance_segmenter import InstanceSegmenter
    from maskwright.prediction import with_onnx

    known, segmenter = source.description, source.segmenter
    if isinstance(segmenter, InstanceSegmenter):
        hint = "train one with the recipe `cat_lens` (`maskwright new PHOTOS --recipe cat_lens`), or export to `onnx`"
        raise ModelError("finds objects, and a lens takes networks that label pixels", hint=hint)
    if opset not in OPSETS:
        raise RecipeError(f"Lens Studio is not known to read opset {opset}", place="opset", hint="take 11")
    _check_size(known, segmenter.stride)
    head = head_of(known, softmax)
    model = graph(segmenter, known, head, opset)
    asked = allow_operators.split(",") if isinstance(allow_operators, str) else allow_operators
    allowed = (
        *(name.strip() for name in asked if name.strip()),
        *(["Softmax", "Transpose"] if head == "softmax" else []),
    )
    lens_operators.check(model, allowed)
    tiny = folding.without_tiny(model)
    folding.short_names(model)
    _save(model, known, head, path)
    predictor = source.running(open_network(path), with_onnx.RUNTIME)
    notes = [f"prob holds {lens_recipe.meaning(known, head)}"]
    notes.append(check_range(source, path, head))
    if tiny:
        notes.append(
            f"{counted(tiny, 'weight')} below {folding.TINY:g} became 0: they change no answer and slow processors down"
        )
    found = onnx_facts.facts(path)
    assert found.macs is not None, "a static file has shapes"
    notes += _budget(found, max_mb, max_mmacs)
    if known.fit == "crop":
        scaled = f"scaled to a long side of {known.base_size}" if known.base_size else "in their own size"
        notes.append(
            f"the model was trained on windows of photos {scaled}; a lens sees the whole camera frame at once, so objects look "
            "smaller to it than in training: crop the camera texture, or train with `fit: pad` or a smaller `base_size`"
        )
    recipe = path.with_name(f"{path.stem}.import.txt")
    recipe.write_text(lens_recipe.text(path.name, known, head), encoding="utf-8")
    notes.append(f"{recipe.name} beside the file says what to type into Lens Studio's import dialog")
    facts = {"parameters": found.parameters, "macs": found.macs, "operators": dict(found.operators), "opset": opset}
    return Written(predictor, tuple(notes), facts={**facts, "megabytes": found.megabytes, "head": head})


def head_of(description: Description, softmax: bool = False) -> str:
    """What `prob` holds: `object`, `classes`, `margins` or `softmax`. Raises ModelError for a single class."""
    if description.multilabel:
        return "classes"
    if len(description.classes) < 2:
        raise ModelError(f"knows `{description.classes[0]}` alone, so there is nothing to tell apart")
    return "object" if len(description.classes) == 2 else "softmax" if softmax else "margins"


def graph(segmenter: Any, description: Description, head: str, opset: int) -> ModelProto:
    """The network as an ONNX graph, pixels in, `prob` out, with its normalisation folded away as far as that is exact."""
    try:
        import onnx
        import torch
    except ModuleNotFoundError as error:
        raise missing_package(error.name or "onnx", "an export for Lens Studio") from error
    stream: Any = io.BytesIO()
    with onnx_files.tracing(opset):
        torch.onnx.export(
            _ready(segmenter, len(description.classes), head).eval(),
            (torch.zeros(1, 3, *description.size),),
            stream,
            dynamo=False,
            opset_version=opset,
            input_names=[INPUT],
            output_names=[OUTPUT],
        )
    model = onnx.load_from_string(stream.getvalue())
    if not model.graph.input:
        raise ModelError("the network cannot be written: what was traced does not look at its image")
    folding.tidy(model)
    folding.into_next(model)
    sigmoid = next((node for node in model.graph.node if node.op_type == "Sigmoid" and _is_last(model, node)), None)
    if head == "object" and sigmoid is not None:
        folding.into_previous(model, sigmoid.input[0])
    folding.tidy(model)
    model.ir_version = min(model.ir_version, IR_VERSION if opset <= 11 else 7)
    return model


def check_range(source: Source, path: Path, head: str) -> str:
    """Does the file take pixels 0..255, as torch does? Returns a sentence on what was seen.

    Raises ModelError where it disagrees with torch, or answers outside 0..255, or as if its input were 0..1.
    """
    answer, expected = _runner(path), _expected(source, head)
    difference, told, apart = 0.0, False, 0.0
    inputs = [*source.inputs(8), _noise(source.description.size)]
    for pixels in inputs:
        given, wanted = answer(pixels), expected(pixels)
        if given.shape != wanted.shape or not np.isfinite(given).all() or given.min() < 0 or given.max() > 255.001:
            raise ModelError(f"does not answer with {wanted.shape} numbers of 0 to 255", place=path)
        difference = max(difference, float(np.abs(given - wanted).max()))
        apart = max(apart, float(np.abs(given - answer(pixels / 255)).max()))
        told |= float(np.abs(wanted - expected(pixels / 255)).max()) > TELLS
    if difference > MAX_DIFFERENCE or (told and apart <= TELLS):
        what = f"answers up to {difference:.2g} of 255 away from torch for pixels of 0..255"
        raise ModelError(f"{what} ({apart:.2g} from its own answers for pixels of 0..1)", place=path)
    seen = f"for pixels of 0..255 it answers as torch does (largest difference {difference:.1g} of 255)"
    if not told:
        text = "the model answers alike for pixels of 0..255 and of 0..1, so that the range of its input is not proved"
        events.warn(text)
        return f"{seen}; {text}"
    return f"{seen}; for pixels of 0..1 it answers {apart:.0f} of 255 apart, so that its range is sure"


def open_network(path: Path) -> Any:
    """The network of a written file, logits again (see `with_onnx.from_lens`)."""
    from maskwright.prediction import with_onnx

    return with_onnx.open_file(path)[0]


def _check_size(description: Description, stride: int) -> None:
    """Raises ModelError where the segmenter would pad: a lens sees exactly what the network sees."""
    (height, width), near = description.size, []
    if not (height % stride or width % stride):
        return
    for side in (height, width):
        near.append(sorted({max(stride, side // stride * stride), -(-side // stride) * stride}))
    sides = " x ".join(" or ".join(map(str, sides)) for sides in near)
    hint = f"train with `size` {sides}"
    raise ModelError(f"sees {height} x {width} pixels, and its network works in steps of {stride}", hint=hint)


def _ready(segmenter: Any, count: int, head: str) -> nn.Module:
    """The network between two 1x1 layers that hold the normalisation and the choice of what to answer."""
    import copy

    import torch
    from torch import Tensor, nn

    network = copy.deepcopy(segmenter.network).cpu().float()
    implied = bool(getattr(network, "implied_background", False)) and head != "classes"

    def layer(matrix: Tensor, bias: Tensor | None = None) -> nn.Conv2d:
        made = nn.Conv2d(matrix.shape[1], matrix.shape[0], 1, bias=bias is not None)
        made.weight.data = matrix.float()[:, :, None, None]
        if made.bias is not None and bias is not None:
            made.bias.data = bias.float()
        return made

    class Ready(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            mean, std = (values.double().flatten().cpu() for values in (segmenter.mean, segmenter.std))
            self.before = layer(torch.diag(1 / std), -mean / std if mean.any() else None)
            self.network = network
            self.read: nn.Module = nn.Identity()
            if head == "object" and not implied:
                self.read = layer(torch.tensor([[-1.0, 1.0]]))
            elif implied and head != "object":
                self.read = layer(torch.eye(count)[:, 1:])  # the background's logit is 0
            self.turns = nn.ModuleList(layer(matrix) for matrix in turns(count) if head == "margins")

        def forward(self, pixels: Tensor) -> Tensor:
            output = (network.foreground if implied else network)(self.before(pixels))
            z = self.read(output[0] if isinstance(output, tuple) else output)
            if head == "margins":
                first, *others = self.turns
                strongest = first(z)  # of the next channel; max(a, b) = a + relu(b - a)
                for turn in others:
                    strongest = strongest + turn(strongest).relu()
                z = z + strongest * -1.0
            return (z.softmax(1) if head == "softmax" else z.sigmoid()) * 255.0

    def turns(count: int) -> list[Tensor]:
        """What makes the strongest other channel of each: first its next one, then `as many again` minus `so many`."""
        one, seen = torch.eye(count), 1  # how many of the channels behind each are looked at
        matrices = [one.roll(1, 1)]
        while seen < count - 1:
            step = min(seen, count - 1 - seen)
            matrices.append(one.roll(step, 1) - one)
            seen += step
        return matrices

    return Ready()


def _is_last(model: ModelProto, node: Any) -> bool:
    """Does a Sigmoid lead to the answer, through the factor 255 alone?"""
    last = folding.producer(model, OUTPUT)
    return last is not None and node.output[0] in last.input


def _save(model: ModelProto, description: Description, head: str, path: Path) -> None:
    import onnx

    from maskwright.prediction import with_onnx

    onnx.save(model, str(path))
    words = {"contract": with_onnx.LENS, "head": head, with_onnx.KEY: json.dumps(description.to_json())}
    onnx_files.describe(path, words)
    onnx.checker.check_model(str(path), full_check=True)


def _budget(found: onnx_facts.Facts, max_mb: float, max_mmacs: float) -> list[str]:
    """A sentence on the file's size; warnings where it is above what was asked for."""
    height, width = found.inputs[0].shape[2:]
    assert isinstance(height, int)
    assert isinstance(width, int)
    assert found.macs is not None
    notes = [f"{counted(found.parameters, 'parameter')}, {onnx_facts.words(found.macs)} multiplications a picture"]
    if found.megabytes > max_mb:
        notes.append(f"the file has {found.megabytes:.1f} MB, more than {max_mb:g}: Lens Studio may not take it")
    if found.macs > max_mmacs * 1e6:
        what = f"{onnx_facts.words(found.macs)} multiplications a picture are more than {max_mmacs:g} M"
        notes.append(f"{what}: an older phone will not show 30 pictures a second")
    if width > height:
        notes.append(f"the input is {height} x {width}, wider than tall; a phone's camera frame is taller than wide")
    for text in notes[1:]:
        events.warn(text)
    return notes


def _expected(source: Source, head: str) -> Callable[[np.ndarray], np.ndarray]:
    """What torch says `prob` is, float64."""

    def answer(pixels: np.ndarray) -> np.ndarray:
        z: np.ndarray = np.asarray(source.network(pixels), np.float64)
        if head == "softmax":
            powers = np.exp(z - z.max(1, keepdims=True))
            return 255 * powers / powers.sum(1, keepdims=True)
        if head == "object":
            z = z[:, 1:] - z[:, :1]
        elif head == "margins":
            highest = np.sort(z, axis=1)[:, -2:]
            z = z - np.where(z == highest[:, 1:], highest[:, :1], highest[:, 1:])
        return 255 / (1 + np.exp(-np.clip(z, -500, 500)))

    return answer


def _runner(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    """`prob` as the file gives it."""
    from maskwright.prediction import with_onnx

    session = with_onnx.running(path)

    def answer(pixels: np.ndarray) -> np.ndarray:
        found: Sequence[np.ndarray] = session.run([OUTPUT], {INPUT: pixels.astype(np.float32)})
        return found[0]

    return answer


def _noise(size: tuple[int, int]) -> np.ndarray:
    """float32 (1, 3, h, w), 0..255: rough patches of colour; what is there when there are no photos."""
    height, width = size
    coarse = np.random.default_rng(0).integers(0, 256, (1, 3, -(-height // 16), -(-width // 16)))
    return coarse.repeat(16, 2).repeat(16, 3)[:, :, :height, :width].astype(np.float32)
