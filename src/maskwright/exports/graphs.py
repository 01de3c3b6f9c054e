"""What the exporters of other runtimes share: the network as a graph of torch, and a written file as a predictor.

A graph takes image float32 (1, 3, h, w), 0..255, of the description's size, and gives logits float32 (1, C, h, w), or for
models that find objects what `core.types.OBJECT_OUTPUTS` names. To add a runtime: write its file beside `torchscript.py`.
"""

from __future__ import annotations

import importlib
import io
import json
import logging
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.bundles.bundle import PLAIN, Description, describe
from maskwright.core.errors import ModelError
from maskwright.core.registry import missing_package
from maskwright.core.types import OBJECT_OUTPUTS
from maskwright.exports import onnx_objects
from maskwright.exports.source import Source
from maskwright.prediction.predictor import AnyPredictor, made

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

KEY = "maskwright"  # under which a file carries its description
OUTPUTS = {"semantic": ("logits",), "instance": OBJECT_OUTPUTS}  # of each task
# what converters raise for a network they do not know; they have no common base
FAILURES: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    ImportError,
    SyntaxError,
)

# how lines of OpenVINO's errors begin that come before the reason
SAY_NOTHING = ("Exception from", "Check '", "FrontEnd API failed", "Model wasn't fully converted", "Summary:")


def needed(package: str, needed_by: str) -> Any:
    """An optional package, imported without its chatter. Raises SetupError, naming the extra, where it is missing."""
    try:
        with quiet():
            return importlib.import_module(package)
    except ModuleNotFoundError as error:
        missing, own = error.name or package, package.split(".")[0]
        raise missing_package(own if missing.split(".")[0] == own else missing, needed_by) from error


@contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars, and without warnings of deprecations and untested versions: what comes out is checked."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def conversion(target: str, failures: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """What a converter cannot do becomes a ModelError, told in one sentence; its chatter is silenced.

    failures: exceptions of its own that it raises besides FAILURES.
    """
    try:
        with quiet():
            yield
    except (*FAILURES, *failures) as error:
        raise ModelError(f"this network cannot be exported to {target} ({reason(error)})") from error


def reason(error: BaseException) -> str:
    """What an exception says, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    lines = [line.lstrip("- ") for line in lines if not line.startswith(SAY_NOTHING)] or lines
    first = next((line for line in lines if any(letter.islower() for letter in line)), type(error).__name__)
    return first[:200].rstrip(".")


def flat(source: Source) -> nn.Module:
    """The network with the inputs and outputs of a graph."""
    from torch import Tensor, nn

    from maskwright.models.instance_segmenter import InstanceSegmenter

    segmenter = source.segmenter
    if isinstance(segmenter, InstanceSegmenter):
        return onnx_objects.flat(segmenter).eval()

    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.segmenter = segmenter

        def forward(self, image: Tensor) -> Tensor:  # its name is that of the input in every file
            logits: Tensor = self.segmenter(image)
            return logits

    return Flat().eval()


def check_fixed(source: Source, target: str) -> None:
    """Raises ModelError for a network that finds objects: torch.export, the way to the target, fixes every size."""
    if source.description.task == "instance":
        what = f"this network cannot be exported to {target}: it answers with as many objects as it finds"
        raise ModelError(what, hint="export to `onnx`, whose runtime runs on phones too")


def example(source: Source) -> Any:
    """The first photo as a tensor, else noise: an image on which a network that finds objects has something to find."""
    import torch

    photo = next(source.inputs(1), None)
    if photo is not None:
        return torch.from_numpy(photo)
    return torch.rand(1, 3, *source.description.size, generator=torch.Generator().manual_seed(0)) * 255


def traced(source: Source) -> Any:
    """The network as a traced graph (torch.jit)."""
    import torch

    with torch.inference_mode(False), torch.no_grad():
        return torch.jit.trace(flat(source), (example(source),), check_trace=False)  # type: ignore[no-untyped-call]


def program(source: Source) -> ExportedProgram:
    """The network as a program of torch.export, of one size."""
    import torch

    with torch.inference_mode(False), torch.no_grad():
        return torch.export.export(flat(source), (example(source),), strict=False)


def text_of(description: Description) -> str:
    """What a file carries to be used without its bundle."""
    return json.dumps(description.to_json())


def known(description: Description | None, carried: str | None, path: Path) -> Description:
    """The description of a file: as given, else as the file carries it. Raises ModelError where there is none."""
    if description is not None:
        return description
    if not carried:
        hint = f"keep {path.name}.certificate.json beside it"
        raise ModelError("does not say what model it holds", place=path, hint=hint)
    try:
        return describe(json.loads(carried), path)
    except ValueError as error:
        raise ModelError("has a damaged description", place=path) from error


def opened(
    run: Callable[[np.ndarray], Sequence[np.ndarray]], description: Description, path: Path, runtime: str
) -> AnyPredictor:
    """A predictor around `run`, which answers a graph's input with its outputs; it is called by one thread at a time.

    Raises ModelError, when it predicts, for a file that does not take the description's size or gives something else.
    """
    lock = threading.Lock()

    def outputs(pixels: np.ndarray) -> list[np.ndarray]:
        try:
            with lock:
                found = [np.array(output) for output in run(np.ascontiguousarray(pixels, np.float32))]
        except (RuntimeError, ValueError, TypeError) as error:
            raise ModelError(f"cannot run ({reason(error)})", place=path) from error
        if len(found) != len(OUTPUTS[description.task]):
            raise ModelError("is not of the model that it is said to hold", place=path)
        return found

    def logits(pixels: np.ndarray) -> np.ndarray:
        found = outputs(pixels)[0].astype(np.float32, copy=False)
        if found.shape != (1, len(description.classes), *pixels.shape[2:]):
            raise ModelError("is not of the model that it is said to hold", place=path)
        return found

    def objects(pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(outputs(pixels))

    network: Any = objects if description.task == "instance" else logits
    return made(network, replace(description, tta=dict(PLAIN)), runtime)


def check_there(path: Path) -> None:
    """Raises ModelError when there is no such file or folder."""
    if not path.exists():
        raise ModelError("not found", place=path)
