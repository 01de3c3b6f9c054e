"""Which ONNX operators Lens Studio is known to run on every device, and in which form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from maskwright.core.errors import ModelError, RecipeError
from maskwright.core.registry import suggestion
from maskwright.core.words import counted
from maskwright.exports import folding

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

# Conv to Constant: in a file that was shipped in a lens; the others: yes in all four columns (CPU, iPhone GPU, iPhone NPU,
# Android GPU) of Lens Studio 4.55's table
SHIPPED = ("Conv", "Relu", "Add", "Resize", "Upsample", "Sigmoid", "Mul", "Constant")
LISTED = ("Abs", "BatchNormalization", "Concat", "ConvTranspose")
INSTEAD = "`maskwright new PHOTOS --recipe cat_lens` starts a network of these alone (`model: lens`)"


def check(model: ModelProto, allowed: Sequence[str] = ()) -> None:
    """Raises ModelError where an operator is not known to run everywhere and not allowed; RecipeError for unknown names."""
    from onnx import defs

    everything = {schema.name for schema in defs.get_all_schemas() if not schema.domain}
    for name in allowed:
        if name not in everything:
            hint = suggestion(name, everything) if len(name) > 2 else "as in `Clip,MaxPool`"
            raise RecipeError(f"no ONNX operator is called `{name}`", place="allow_operators", hint=hint[:200])
    found: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.op_type not in allowed and (reason := _doubt(model, node)) is not None:
            found.setdefault(f"{node.op_type} ({reason})" if reason else node.op_type, []).append(_place(node))
    if found:
        listed = "; ".join(f"{counted(len(at), 'time')} {name}, first in {at[0]}" for name, at in found.items())
        names = ",".join(dict.fromkeys([*allowed, *(name.split(" (")[0] for name in found)]))
        raise ModelError(
            f"needs operators that Lens Studio is not known to run on every device: {listed}",
            hint=f"{INSTEAD}; `allow_operators={names}` writes the file nevertheless",
        )


def _doubt(model: ModelProto, node: NodeProto) -> str | None:
    """Why a node may not run: a clause, empty where the operator itself is not known; None where it does."""
    if node.domain not in ("", "ai.onnx") or node.op_type not in (*SHIPPED, *LISTED):
        return ""
    test = FORMS.get(node.op_type)
    return None if test is None else test(model, node)


def _convolution(model: ModelProto, node: NodeProto) -> str | None:
    known = folding.attributes(node)
    weight = folding.constant(model, node.input[1])
    if weight is None or weight.ndim != 4:
        return "not of pictures with constant weights"
    dilations, strides, pads, group = (known[key] for key in ("dilations", "strides", "pads", "group"))
    if len(set(strides)) > 1 or len(set(dilations)) > 1:
        return "other strides or dilations down than across"
    if known["auto_pad"] or any(pad > side for pad, side in zip(pads, weight.shape[2:] * 2, strict=True)):
        return "padded by more than its kernel"
    # a depthwise layer has one channel in and one out a group; a transposed one keeps its weights the other way round
    if group not in (1, weight.shape[0]) or (group > 1 and weight.shape[1] != 1):
        return "in groups of channels"
    if node.op_type == "ConvTranspose" and (set(dilations) != {1} or len({*weight.shape[2:]}) > 1 or len({*pads}) > 1):
        return "dilated, or other kernels or pads down than across"
    return None


def _resizing(model: ModelProto, node: NodeProto) -> str | None:
    known = folding.attributes(node)
    if known.get("mode", b"nearest") != b"nearest":
        return known["mode"].decode()
    how = (known.get("coordinate_transformation_mode"), known.get("nearest_mode"))
    if node.op_type == "Resize" and len(node.input) > 2 and how != (b"asymmetric", b"floor"):
        return "nearest of another kind"
    place = 1 if len(node.input) == 2 else 2
    scales = folding.constant(model, node.input[place]) if len(node.input) > place else None
    if scales is None or scales.tolist() != [1, 1, 2, 2]:
        return "by another factor than 2"
    return None


def _joining(model: ModelProto, node: NodeProto) -> str | None:
    return None if folding.attributes(node).get("axis") in (0, 1, -4, -3) else "of rows or columns"


FORMS: dict[str, Callable[[Any, Any], str | None]] = {
    "Conv": _convolution,
    "ConvTranspose": _convolution,
    "Resize": _resizing,
    "Upsample": _resizing,
    "Concat": _joining,
}


def _place(node: NodeProto) -> str:
    return f"`{(node.name or node.output[0]).strip('/')}`"
