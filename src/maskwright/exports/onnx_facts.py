"""What an ONNX file is made of, ours or not: inputs, outputs, operators, parameters, multiplications, size, versions.

Nothing is run here. Weights that lie beside the file are looked for, never loaded.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from maskwright.core.errors import ModelError
from maskwright.core.registry import missing_package

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto, TensorProto

NUMBERS = ("FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "INT8", "UINT8", "INT32", "INT4", "UINT4")  # INT64 is for shapes
MULTIPLYING = (
    "Conv",
    "ConvTranspose",
    "Gemm",
    "MatMul",
    "ConvInteger",
    "QLinearConv",
    "MatMulInteger",
    "QLinearMatMul",
)


@dataclass(frozen=True)
class Value:
    """An input or an output. shape: a length, a name where any length will do, or None where nothing is known."""

    name: str
    type: str
    shape: tuple[int | str | None, ...]

    def words(self) -> str:
        return f"{self.name} {self.type} ({', '.join('?' if side is None else str(side) for side in self.shape)})"


@dataclass(frozen=True)
class Facts:
    """What stands in an ONNX file.

    operators: name -> how many; names of other domains as `domain::Name`. opsets: domain -> version. parameters: numbers in its
    weights. macs: multiplications with accumulation for one input in convolutions and matrix products; None where shapes are
    open and no size was given. denormals: float32 weights too small to be multiplied at full speed; not those in files beside
    the model. megabytes: 1e6 bytes, with the files of its weights. metadata: what the file says of itself.
    """

    path: str
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    operators: Mapping[str, int]
    opsets: Mapping[str, int]
    ir_version: int
    producer: str
    parameters: int
    macs: int | None
    denormals: int
    megabytes: float
    metadata: Mapping[str, str] = field(default_factory=dict)


def facts(path: str | Path, size: tuple[int, int] | None = None) -> Facts:
    """The facts of a file. size: height, width for the multiplications of an image input that leaves them open.

    Raises ModelError when the file is missing, torn, not ONNX, or lacks weights that should lie beside it.
    """
    path = Path(path)
    model = load(path)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = tuple(_value(value) for value in graph.input if value.name not in weights)
    return Facts(
        path=str(path),
        inputs=inputs,
        outputs=tuple(_value(value) for value in graph.output),
        operators=dict(Counter(_named(node) for node in _nodes(graph)).most_common()),
        opsets={entry.domain or "ai.onnx": entry.version for entry in model.opset_import},
        ir_version=model.ir_version,
        producer=f"{model.producer_name} {model.producer_version}".strip(),
        parameters=parameters(graph),
        macs=macs(model, size),
        denormals=denormals(graph),
        megabytes=sum(file.stat().st_size for file in (path, *_beside(graph, path))) / 1e6,
        metadata={entry.key: entry.value for entry in model.metadata_props},
    )


def load(path: Path) -> ModelProto:
    """The model of a file, without weights that lie beside it. Raises ModelError when it is none, or they are missing."""
    try:
        import onnx
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    except ModuleNotFoundError as error:
        raise missing_package(error.name or "onnx", "looking into an ONNX file") from error
    if not path.is_file():
        raise ModelError("not found" if not path.exists() else "is a folder, not an ONNX file", place=path)
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError as error:
        raise ModelError("is torn, or no ONNX file", place=path, hint="download or export it again") from error
    except OSError as error:
        raise ModelError(f"cannot be read ({error.strerror or error})", place=path) from error
    if not model.graph.node or not model.opset_import:
        raise ModelError("is no ONNX file (there is no network in it)", place=path)
    for file in _beside(model.graph, path):
        if not file.is_file():
            hint = f"put `{file.name}` beside it again: both belong together"
            raise ModelError(f"keeps its weights in `{file.name}`, which is missing", place=path, hint=hint)
    return model


def parameters(graph: GraphProto) -> int:
    """How many numbers its weights are; those that only say how to resize, and single numbers, are none."""
    from onnx import TensorProto

    kinds = {getattr(TensorProto, name) for name in NUMBERS if hasattr(TensorProto, name)}
    resizing = {name for node in _nodes(graph) if node.op_type in ("Resize", "Upsample") for name in node.input[1:]}
    return sum(
        prod(tensor.dims)
        for name, tensor in _tensors(graph)
        if tensor.dims and tensor.data_type in kinds and name not in resizing
    )


def denormals(graph: GraphProto) -> int:
    """How many float32 weights are denormal: above 0 and below 1.2e-38. Each can cost a processor 100 cycles and more."""
    from onnx import TensorProto, numpy_helper

    count = 0
    for _, tensor in _tensors(graph):
        if tensor.data_type == TensorProto.FLOAT and tensor.data_location != TensorProto.EXTERNAL:
            values = np.abs(numpy_helper.to_array(tensor))
            count += int(((values > 0) & (values < np.finfo(np.float32).tiny)).sum())
    return count


def macs(
    model: ModelProto, size: tuple[int, int] | None = None, seen: Mapping[str, tuple[int, ...]] | None = None
) -> int | None:
    """Multiplications with accumulation of all convolutions and matrix products for one input; None where shapes are open.

    size: height, width of an image input that leaves them open. seen: shapes that showed when the model ran.
    """
    shapes = {**_shapes(model, size), **(seen or {})}
    counts = [_macs(node, shapes) for node in _nodes(model.graph) if node.op_type in MULTIPLYING]
    return None if None in counts else sum(count for count in counts if count is not None)


def unknown(model: ModelProto, size: tuple[int, int] | None = None) -> set[str]:
    """Names of the tensors whose shapes `macs` lacks."""
    shapes = _shapes(model, size)
    nodes = [node for node in _nodes(model.graph) if node.op_type in MULTIPLYING]
    return {name for node in nodes for name in (*node.input[:4], node.output[0]) if name and shapes.get(name) is None}


def words(number: float) -> str:
    """A count as a person writes it: `366,313`, `157.3 M`, `1.24 G`."""
    for limit, unit in ((1e9, "G"), (1e6, "M")):
        if number >= limit:
            return f"{number / limit:.2f} {unit}" if number < 10 * limit else f"{number / limit:.1f} {unit}"
    return f"{number:,.0f}"


def _macs(node: NodeProto, shapes: Mapping[str, tuple[int, ...] | None]) -> int | None:
    first, second = (3, 0) if node.op_type == "QLinearConv" else (1, 0)
    if node.op_type == "QLinearMatMul":
        first = 3
    weight, given, out = shapes.get(node.input[first]), shapes.get(node.input[second]), shapes.get(node.output[0])
    if weight is None or given is None or out is None:
        return None
    if node.op_type == "ConvTranspose":
        return prod(given) * prod(weight[1:])
    if "Conv" in node.op_type:
        return prod(out) * prod(weight[1:])
    if node.op_type == "Gemm":
        across = next((entry.i for entry in node.attribute if entry.name == "transA"), 0)
        return prod(out) * given[0 if across else 1]
    return prod(out) * given[-1]


def _shapes(model: ModelProto, size: tuple[int, int] | None) -> dict[str, tuple[int, ...] | None]:
    """Every tensor's shape; lengths that the file leaves open are 1 for the batch and `size` for an image, None otherwise."""
    import onnx

    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    weights = {name: tuple(tensor.dims) for name, tensor in _tensors(model.graph)}
    for value in fixed.graph.input:
        if value.name not in weights:
            sides = value.type.tensor_type.shape.dim
            for side, length in zip(sides, settled(_value(value).shape, size), strict=True):
                if length is not None:
                    side.dim_value = length
    for value in fixed.graph.output:
        value.type.tensor_type.ClearField("shape")  # open lengths written there would stop the inference
    del fixed.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(fixed, data_prop=True).graph
    found: dict[str, tuple[int, ...] | None] = dict(weights)
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        if value.name not in weights and value.type.HasField("tensor_type"):
            sides = [
                side.dim_value if side.HasField("dim_value") else None for side in value.type.tensor_type.shape.dim
            ]
            known = value.type.tensor_type.HasField("shape") and None not in sides
            found[value.name] = tuple(side for side in sides if side is not None) if known else None
    return found


def settled(shape: tuple[int | str | None, ...], size: tuple[int, int] | None) -> tuple[int | None, ...]:
    """A shape with 1 for an open batch and `size` for the open height and width of an image."""
    sides = [side if isinstance(side, int) and side > 0 else None for side in shape]
    axes = image_axes(shape)
    if sides and sides[0] is None and len(sides) != 3:
        sides[0] = 1
    if size is not None and axes is not None:
        for axis, length in zip(axes, size, strict=True):
            sides[axis] = sides[axis] or length
    return tuple(sides)


def image_axes(shape: tuple[int | str | None, ...]) -> tuple[int, int] | None:
    """Which axes are height and width of images: (2, 3), (1, 2) where colours stand last, (0, 1) of a single one; else None."""
    if len(shape) == 3 and shape[2] in (3, 4):
        return 0, 1
    if len(shape) != 4:
        return None
    if shape[1] in (1, 3, 4):
        return 2, 3
    return (1, 2) if shape[3] in (1, 3, 4) else None


def _value(value: Any) -> Value:
    from onnx import TensorProto, helper

    if not value.type.HasField("tensor_type"):
        return Value(value.name, str(value.type.WhichOneof("value")).removesuffix("_type"), ())
    kind = value.type.tensor_type.elem_type
    sides: list[int | str | None] = []
    for side in value.type.tensor_type.shape.dim:
        sides.append(side.dim_value if side.HasField("dim_value") and side.dim_value > 0 else side.dim_param or None)
    known = kind in TensorProto.DataType.values() and kind != TensorProto.UNDEFINED
    return Value(value.name, str(helper.tensor_dtype_to_np_dtype(kind)) if known else "?", tuple(sides))


def _named(node: NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}::{node.op_type}"


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Every node, those inside loops and branches too."""
    for node in graph.node:
        yield node
        for entry in node.attribute:
            for inner in ([entry.g] if entry.HasField("g") else []) + list(entry.graphs):
                yield from _nodes(inner)


def _tensors(graph: GraphProto) -> Iterator[tuple[str, TensorProto]]:
    """Every weight by its name, those of Constant nodes too."""
    for tensor in graph.initializer:
        yield tensor.name, tensor
    for node in _nodes(graph):
        for entry in node.attribute:
            if entry.HasField("t"):
                yield node.output[0], entry.t
            if entry.HasField("g"):
                yield from ((tensor.name, tensor) for tensor in entry.g.initializer)


def _beside(graph: GraphProto, path: Path) -> list[Path]:
    """The files beside a model that hold its weights."""
    from onnx import TensorProto

    names = {
        entry.value
        for _, tensor in _tensors(graph)
        if tensor.data_location == TensorProto.EXTERNAL
        for entry in tensor.external_data
        if entry.key == "location"
    }
    return [path.parent / name for name in sorted(names)]


def description(found: Facts) -> dict[str, Any] | None:
    """What a file of ours says of its model; None for others and for damaged metadata."""
    try:
        known = json.loads(found.metadata.get("maskwright", "null"))
    except ValueError:
        return None
    return known if isinstance(known, dict) else None
