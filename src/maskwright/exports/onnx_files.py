"""Writing ONNX files: the trace of a network, and what stands in the file's metadata."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from maskwright.bundles.bundle import Description

if TYPE_CHECKING:
    from torch import nn


def export(
    model: nn.Module,
    description: Description,
    path: Path,
    opset: int,
    outputs: Sequence[str],
    axes: Mapping[str, Mapping[int, str]],
) -> None:
    """A model (image float32 (1, 3, h, w) -> `outputs`) in a file that names its contract and carries its description.

    axes: of each input and output, the sides that may be of any length, and what they are called.
    """
    import torch

    from maskwright.prediction import with_onnx

    example = torch.zeros(1, 3, *description.size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter announces its age; the newer one ignores opset and size
        torch.onnx.export(
            copy.deepcopy(model).eval().cpu(),
            (example,),
            str(path),
            dynamo=False,
            opset_version=opset,
            input_names=["image"],
            output_names=list(outputs),
            dynamic_axes={name: dict(sides) for name, sides in axes.items()},
        )
    contract = with_onnx.CONTRACTS[description.task]
    describe(path, {"contract": contract, with_onnx.KEY: json.dumps(description.to_json())})


def describe(path: Path, metadata: Mapping[str, str]) -> None:
    """Adds to the file's metadata."""
    import onnx as onnx_package

    model = onnx_package.load(str(path))
    model.producer_name = "maskwright"
    have = {entry.key: entry.value for entry in model.metadata_props}
    onnx_package.helper.set_model_props(model, {**have, **metadata})
    onnx_package.save(model, str(path))
