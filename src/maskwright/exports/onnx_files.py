"""Writing ONNX files: the trace of a network, which sides of its input are free, and what stands in the file's metadata."""

from __future__ import annotations

import copy
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from maskwright import __version__
from maskwright.bundles.bundle import Description
from maskwright.core.errors import ModelError
from maskwright.core.types import OBJECT_OUTPUTS
from maskwright.exports import onnx_objects

if TYPE_CHECKING:
    from torch import nn

    from maskwright.models.instance_segmenter import InstanceSegmenter
    from maskwright.models.segmenter import Segmenter

Free = Literal["none", "batch", "size"]
AXES: Mapping[str, dict[int, str]] = {"none": {}, "batch": {0: "n"}, "size": {0: "n", 2: "h", 3: "w"}}


def traced(
    segmenter: Segmenter | InstanceSegmenter, description: Description, path: Path, opset: int, free: Free
) -> None:
    """The network (image float32 (n, 3, h, w) -> logits, or objects) in a file that names its contract and describes itself.

    free: which sides of the input may be of any length: none, n, or n, h and w; what finds objects takes one image at a time.
    Raises ModelError with torch's reason when the network cannot be traced or has operators that are not of this opset.
    """
    if description.task != "instance":
        axes = dict.fromkeys(("image", "logits"), AXES[free])
        return export(segmenter, description, path, opset, ("logits",), axes)
    sides = {side: name for side, name in AXES[free].items() if side}
    axes = {"image": sides, **{name: {0: "n"} for name in OBJECT_OUTPUTS}}
    model: Any = segmenter
    return export(onnx_objects.flat(model), description, path, opset, OBJECT_OUTPUTS, axes)


def export(
    model: nn.Module,
    description: Description,
    path: Path,
    opset: int,
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
) -> None:
    """A model (image float32 (1, 3, h, w) -> `outputs`) in a file that names its contract and carries its description.

    axes: of each input and output, the sides that may be of any length, and what they are called. Raises ModelError.
    """
    import torch

    from maskwright.prediction import with_onnx

    example = torch.zeros(1, 3, *description.size)
    with tracing(opset):
        torch.onnx.export(
            copy.deepcopy(model).eval().cpu(),
            (example,),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=["image"],
            output_names=list(outputs),
            dynamic_axes={name: dict(sides) for name, sides in axes.items() if sides},
        )
    contract = with_onnx.CONTRACTS[description.task]
    describe(path, {"contract": contract, with_onnx.KEY: json.dumps(description.to_json())})


@contextmanager
def tracing(opset: int) -> Iterator[None]:
    """What torch's exporter cannot do becomes a ModelError in one sentence; it says nothing else."""
    from torch.jit.frontend import FrontendError

    # what torch's own errors are, and what networks and the writers of its operators stumble over where they do not look
    slips = (TypeError, ValueError, LookupError, AttributeError, AssertionError, ArithmeticError)
    try:
        with warnings.catch_warnings(), _unprinted():
            # the older exporter announces its age; the newer one ignores opset and size
            warnings.simplefilter("ignore")
            yield
    except (RuntimeError, FrontendError, *slips) as error:
        raise ModelError(f"the network cannot be written in opset {opset} ({reason_of(error)})") from error


@contextmanager
def _unprinted() -> Iterator[None]:
    """Without the graph that torch prints, past Python and on hundreds of lines, before it raises that it cannot go on."""
    import torch

    # to standard error: what goes to standard output waits in a buffer, and comes when nobody holds it back any more
    torch._C._jit_set_onnx_log_output_stream("stderr")
    try:
        kept = os.dup(2)
    except OSError:  # closed: nothing will be seen
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def reason_of(error: Exception) -> str:
    """What an error of torch or onnxruntime says, in a line."""
    text, kind = str(error).strip(), type(error).__name__
    if not text or isinstance(error, LookupError | TypeError | AttributeError | AssertionError):
        text = f"{kind}: {text}" if text else kind
    return text.splitlines()[0].split("  [Caused by")[0][:200]


def describe(path: Path, metadata: Mapping[str, str]) -> None:
    """Adds to the file's metadata."""
    import onnx as onnx_package

    model = onnx_package.load(str(path))
    model.producer_name, model.producer_version = "maskwright", __version__
    have = {entry.key: entry.value for entry in model.metadata_props}
    onnx_package.helper.set_model_props(model, {**have, **metadata})
    onnx_package.save(model, str(path))


def metadata(path: Path) -> dict[str, str]:
    """What stands in the file's metadata."""
    import onnx as onnx_package

    return {entry.key: entry.value for entry in onnx_package.load(str(path), load_external_data=False).metadata_props}
