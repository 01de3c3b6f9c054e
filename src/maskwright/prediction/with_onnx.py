"""A network that runs in onnxruntime, as the Predictor wants it. Everything needed to predict stands in the file."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from maskwright.bundles.bundle import Description, describe
from maskwright.core import cores
from maskwright.core.errors import ModelError
from maskwright.core.types import OBJECT_OUTPUTS, Network, ObjectNetwork
from maskwright.prediction import whole

RUNTIME = f"onnxruntime {onnxruntime.__version__}"
CONTRACTS = {  # of each task: what an exported network takes and gives
    "semantic": "network/1",  # float32 (N, 3, h, w), 0..255 -> logits float32 (N, C, h, w)
    "instance": "objects/1",  # float32 (1, 3, h, w), 0..255 -> see core.types.ObjectNetwork
}
LENS = "lens/1"  # float32 (1, 3, h, w), 0..255 -> float32 (1, C, h, w), 0..255; see `from_lens`
ERRORS: tuple[type[Exception], ...] = tuple(  # they have no common base
    e for e in vars(state).values() if isinstance(e, type) and issubclass(e, Exception)
)
KEY = "maskwright"  # metadata: the Description as JSON; "contract" stands beside it


def open_file(
    path: str | Path, *, threads: int = 0
) -> tuple[Network | ObjectNetwork, Description, tuple[int, int] | None]:
    """The network and its description from a model.onnx, and the height and width it takes (None: any).

    Raises ModelError when the file is missing, torn, not ONNX, not ours, or of a contract this version does not know.
    """
    path = Path(path)
    session = running(path, threads)
    metadata = session.get_modelmeta().custom_metadata_map
    if KEY not in metadata:
        raise ModelError("is not a Maskwright export (no description in its metadata)", place=path)
    contracts = (*CONTRACTS.values(), LENS, whole.CONTRACT)
    if metadata.get("contract") not in contracts:
        known = " and ".join(f"`{contract}`" for contract in contracts)
        raise ModelError(f"has the contract `{metadata.get('contract')}`; this version runs {known}", place=path)
    try:
        description = describe(json.loads(metadata[KEY]), path)
    except ValueError as error:
        raise ModelError("has damaged metadata", place=path) from error
    if metadata["contract"] == whole.CONTRACT:
        return whole.Whole(_finished(session), description, path), description, None
    if not session.get_inputs():
        raise ModelError("takes no image: what was traced does not look at it", place=path)
    lens = metadata["contract"] == LENS and description.task == "semantic"
    if not lens and metadata["contract"] != CONTRACTS[description.task]:
        raise ModelError(f"is for the task `{description.task}` with the contract of another", place=path)
    output, name = session.get_outputs()[0].name, session.get_inputs()[0].name

    def logits(pixels: np.ndarray) -> np.ndarray:
        return session.run([output], {name: pixels})[0]

    def objects(pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(session.run(list(OBJECT_OUTPUTS), {name: pixels}))

    def lens_logits(pixels: np.ndarray) -> np.ndarray:
        return from_lens(logits(pixels), metadata.get("head", ""))

    network = objects if description.task == "instance" else lens_logits if lens else logits
    height, width = session.get_inputs()[0].shape[2:]
    fixed = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    return network, description, fixed


def _finished(session: onnxruntime.InferenceSession) -> Callable[[np.ndarray, tuple[str, ...]], list[np.ndarray]]:
    """What `whole.Whole` runs: an image uint8 (H, W, 3) and names of outputs -> their arrays."""
    name = session.get_inputs()[0].name
    return lambda pixels, outputs: list(session.run(list(outputs), {name: pixels}))


def running(path: Path, threads: int = 0) -> onnxruntime.InferenceSession:
    """A session of any ONNX file on the CPU. Raises ModelError when the file is missing, torn, not ONNX or cannot run."""
    if not path.is_file():
        raise ModelError("is a folder, not an ONNX file" if path.exists() else "not found", place=path)
    try:
        return onnxruntime.InferenceSession(str(path), settings(threads), providers=["CPUExecutionProvider"])
    except ERRORS as error:
        raise _unusable(error, path) from error


def settings(threads: int = 0) -> onnxruntime.SessionOptions:
    """Of every session. threads: 0 for all cores."""
    options = onnxruntime.SessionOptions()
    fewer = cores.threads()
    options.intra_op_num_threads = threads or (fewer if fewer != os.cpu_count() else 0)  # 0: its own choice
    options.log_severity_level = 4  # failures are raised; the rest is chatter
    return options


def _unusable(error: Exception, path: Path) -> ModelError:
    told = str(error).splitlines()[0]
    if isinstance(error, state.InvalidProtobuf) or "No graph was found" in told:
        return ModelError("is torn, or no ONNX file", place=path, hint="download or export it again")
    if "xternal data" in told:
        hint = "both belong together: put it beside the file again"
        return ModelError("keeps its weights in a second file, which is missing or torn", place=path, hint=hint)
    return ModelError(f"is not a usable ONNX file ({told[:200]})", place=path)


def from_lens(answer: np.ndarray, head: str) -> np.ndarray:
    """Logits float32 (1, C, h, w) from what a `lens/1` file answers, 0..255; a pixel's logits are known up to a common summand.

    head: `object` (one channel for two classes), `classes` (a sigmoid each), `margins` (sigmoid(z - the strongest other z):
    below 0 the other is the strongest of all, so that the smaller of margin and 0 is z less the strongest z), or `softmax`.
    Sigmoids near 255 are 255 in float32: logits end at 17 there.
    """
    share = answer.astype(np.float64) / 255
    low, high = np.finfo(np.float32).tiny, 1 - 2.0**-25
    share = share.clip(low, high)
    if head == "softmax":
        return np.log(share).astype(np.float32)
    z = (np.log(share) - np.log1p(-share)).astype(np.float32)
    if head == "object":
        return np.concatenate([np.zeros_like(z), z], axis=1)
    return np.minimum(z, 0) if head == "margins" else z
