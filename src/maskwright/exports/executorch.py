"""ExecuTorch: the network as a `.pte` program for phones and small devices, its convolutions handed to XNNPACK (fp32, CPU)."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import numpy as np

from maskwright.bundles.bundle import Description
from maskwright.core.errors import ModelError
from maskwright.exports import graphs
from maskwright.exports.source import Source, Written
from maskwright.prediction.predictor import AnyPredictor

CARRIED = f"{graphs.KEY}_description"  # a method of the program that answers with the description


def executorch(source: Source, path: Path, *, delegate: bool = True) -> Written:
    """ExecuTorch: a `.pte` program for phones and small devices.

    The method `forward` takes image float32 (1, 3, h, w), 0..255, of that size alone, and gives logits.

    delegate: hand what XNNPACK knows to it (fast on ARM and x86 processors); false: portable operators alone, slow everywhere.
    """
    graphs.check_fixed(source, "ExecuTorch")
    exir = graphs.needed("executorch.exir", "the ExecuTorch export")
    partitioner = graphs.needed(
        "executorch.backends.xnnpack.partition.xnnpack_partitioner", "the ExecuTorch export"
    ).XnnpackPartitioner
    failures = (
        graphs.needed("executorch.exir.error", "the ExecuTorch export").ExportError,
        graphs.needed("torch._export.verifier", "the ExecuTorch export").SpecViolationError,
    )
    with graphs.conversion("ExecuTorch", failures):
        lowered = exir.to_edge_transform_and_lower(
            graphs.program(source),
            partitioner=[partitioner()] if delegate else [],
            constant_methods={CARRIED: graphs.text_of(source.description)},
        ).to_executorch()
        path.write_bytes(lowered.buffer)
    return Written(open_file(path, None))


def open_file(path: Path, description: Description | None) -> AnyPredictor:
    """The program in ExecuTorch's runtime. Raises ModelError for what is no program, SetupError without the package."""
    graphs.check_there(path)
    runtime = graphs.needed("executorch.runtime", "a .pte file")
    torch = graphs.needed("torch", "a .pte file")
    try:
        found = runtime.Runtime.get().load_program(path)
        carried = str(found.load_method(CARRIED).execute([])[0]) if CARRIED in found.method_names else None
        method = found.load_method("forward")
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(f"is not a usable ExecuTorch program ({graphs.reason(error)})", place=path) from error
    if method is None:
        raise ModelError("is not a usable ExecuTorch program (it has no `forward`)", place=path)

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        return [part.numpy() for part in method.execute([torch.from_numpy(pixels)])]

    return graphs.opened(run, graphs.known(description, carried, path), path, f"executorch {version('executorch')}")
