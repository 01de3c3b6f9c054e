"""A network that runs in onnxruntime, as the Predictor wants it. Everything needed to predict stands in the file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from maskwright.bundles.bundle import Description, describe
from maskwright.core.errors import ModelError
from maskwright.core.types import OBJECT_OUTPUTS, Network, ObjectNetwork

CONTRACTS = {  # of each task: what an exported network takes and gives
    "semantic": "network/1",  # float32 (N, 3, h, w), 0..255 -> logits float32 (N, C, h, w)
    "instance": "objects/1",  # float32 (1, 3, h, w), 0..255 -> see core.types.ObjectNetwork
}
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
    if not path.is_file():
        raise ModelError("not found", place=path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # failures are raised; the rest is chatter
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except ERRORS as error:
        raise ModelError(f"is not a usable ONNX file ({str(error).splitlines()[0][:200]})", place=path) from error
    metadata = session.get_modelmeta().custom_metadata_map
    if KEY not in metadata:
        raise ModelError("is not a Maskwright export (no description in its metadata)", place=path)
    if metadata.get("contract") not in CONTRACTS.values():
        known = " and ".join(f"`{contract}`" for contract in CONTRACTS.values())
        raise ModelError(f"has the contract `{metadata.get('contract')}`; this version runs {known}", place=path)
    try:
        description = describe(json.loads(metadata[KEY]), path)
    except ValueError as error:
        raise ModelError("has damaged metadata", place=path) from error
    if metadata["contract"] != CONTRACTS[description.task]:
        raise ModelError(f"is for the task `{description.task}` with the contract of another", place=path)
    output, name = session.get_outputs()[0].name, session.get_inputs()[0].name

    def logits(pixels: np.ndarray) -> np.ndarray:
        return session.run([output], {name: pixels})[0]

    def objects(pixels: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(session.run(list(OBJECT_OUTPUTS), {name: pixels}))

    network = objects if description.task == "instance" else logits
    height, width = session.get_inputs()[0].shape[2:]
    fixed = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    return network, description, fixed
