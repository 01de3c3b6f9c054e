"""TorchScript: the traced network in one file for libtorch (C++) and torch.jit.load; torch is all that runs it.

torch has deprecated it in favour of torch.export; what was written goes on loading.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from maskwright.bundles.bundle import Description
from maskwright.core.errors import ModelError
from maskwright.exports import graphs
from maskwright.exports.source import Source, Written
from maskwright.prediction.predictor import AnyPredictor

CARRIED = f"{graphs.KEY}.json"  # the file inside the archive


def torchscript(source: Source, path: Path) -> Written:
    """TorchScript: the network for libtorch and other programs with torch but without Maskwright.

    The file is the traced network, `image` float32 (1, 3, h, w), 0..255 -> logits float32 (1, C, h, w), with its description
    as the extra file `maskwright.json`.
    """
    torch = graphs.needed("torch", "the TorchScript export")

    with graphs.conversion("TorchScript"):
        module, whole = graphs.traced(source), io.BytesIO()  # written by torch, a full disk would end the process
        torch.jit.save(module, whole, _extra_files={CARRIED: graphs.text_of(source.description)})
    path.write_bytes(whole.getbuffer())
    return Written(open_file(path, None), ("torch has deprecated TorchScript: it is kept, and no longer worked on",))


def open_file(path: Path, description: Description | None) -> AnyPredictor:
    """The file in torch. Raises ModelError for what is no TorchScript, SetupError where torch is not installed."""
    graphs.check_there(path)
    torch = graphs.needed("torch", "a .torchscript file")
    carried = {CARRIED: ""}
    try:
        with graphs.quiet():
            module = torch.jit.load(str(path), map_location="cpu", _extra_files=carried).eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelError(f"is not a usable TorchScript file ({graphs.reason(error)})", place=path) from error
    found = carried[CARRIED]
    text = found.decode("utf-8", "replace") if isinstance(found, bytes) else found

    def run(pixels: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            answer = module(torch.from_numpy(pixels))
        return [part.numpy() for part in (answer if isinstance(answer, tuple) else (answer,))]

    return graphs.opened(run, graphs.known(description, text, path), path, f"torch.jit {torch.__version__}")
