"""Networks that torch cannot write as ONNX end as one sentence, whatever torch raises and prints."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small_networks import KNOWN, Small

from maskwright.core.errors import ModelError
from maskwright.exports.self_contained import self_contained
from maskwright.exports.source import Source
from maskwright.models.segmenter import wrap


class Untraceable(Small):
    """Runs, but cannot be written as ONNX: `why` happens while it is traced."""

    def __init__(self, why: Callable[[Any], Any]):
        super().__init__()
        self.why = why

    def forward(self, images: Any) -> Any:
        logits = super().forward(images)
        return self.why(logits) if torch.onnx.is_in_onnx_export() else logits


def unscriptable(logits: Any) -> Any:
    try:
        return logits
    finally:
        pass


def fails(error: Exception) -> Callable[[Any], Any]:
    def raised(logits: Any) -> Any:
        raise error

    return raised


@pytest.mark.parametrize(
    ("why", "says"),
    [
        (
            lambda logits: logits + torch.linalg.svdvals(logits).sum(),
            "operator 'aten::linalg_svdvals' .* not supported",
        ),
        (lambda logits: torch.nn.functional.adaptive_avg_pool2d(logits, (7, 5)), "adaptive_avg_pool2d"),
        (lambda logits: (row for row in logits), "TypeError: 'generator' object"),
        (lambda logits: None, "TypeError: 'NoneType' object"),
        (fails(RuntimeError("no such thing")), "no such thing"),
        (fails(TypeError("cond must be a bool")), "TypeError: cond must be"),
        (fails(KeyError("UNKNOWN_SCALAR")), "KeyError: 'UNKNOWN_SCALAR'"),
        (fails(IndexError("list index out of range")), "IndexError: list index"),
        (fails(AttributeError("no `node`")), "AttributeError: no `node`"),
        (fails(AssertionError()), "AssertionError"),
        (lambda logits: torch.jit.script(unscriptable)(logits), "try blocks aren't supported"),
    ],
)
@pytest.mark.filterwarnings("ignore:Converting a tensor")
def test_a_network_that_cannot_be_traced_is_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], why: Callable[[Any], Any], says: str
) -> None:
    source = Source(wrap(Untraceable(why), "unit").eval(), replace(KNOWN, model={"name": "small"}))
    with pytest.raises(ModelError, match=rf"^the network cannot be written in opset 18 \(.*{says}.*\)$"):
        self_contained(source, tmp_path / "whole.onnx")
    assert not list(tmp_path.iterdir())
    assert capfd.readouterr() == ("", "")  # torch would print the whole graph
