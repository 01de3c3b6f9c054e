"""Fingerprints of what an exported file is made of, so that whoever has it can tell what was changed since it was certified.

An ONNX file is read as protocol-buffer records (the `onnx.proto` of the ONNX specification), without its package: each
operator and weight has a digest of its own bytes. The certificate is appended to the file as one more metadata record, which
leaves every other byte as it was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maskwright.core.errors import ModelError

KEY = "certificate"  # of the metadata record that holds it
GRAPH, OPSETS, METADATA = 7, 8, 14  # fields of a ModelProto
NODE, WEIGHT, INPUT, OUTPUT = 1, 5, 11, 12  # of a GraphProto
NODE_NAME, NODE_TYPE, WEIGHT_NAME = 3, 4, 8
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
TORN = "is torn, or no ONNX file: its records do not fit into it"
WEIGHTS_OF = {".xml": ".bin"}  # endings of files whose weights lie in a second one, and its ending


def of_file(path: Path) -> dict[str, Any]:
    """The fingerprints of a file or, as some formats are, a folder: {"sha256": ...}, of ONNX also those of its parts:

    operators: {"0 Conv name": digest}, in their order. weights: {name: digest}. interface: digest of inputs, outputs, opset.
    metadata: {key: digest}. The certificate in an ONNX file counts for none of them. Of other files whose weights lie in a
    second one, beside: {its ending: digest}, empty where it is gone.

    Raises ModelError when the file cannot be read, or an ONNX file is torn.
    """
    if path.suffix.lower() != ".onnx":
        found: dict[str, Any] = {"sha256": _sha256(*_contents(path))}
        if ending := WEIGHTS_OF.get(path.suffix.lower()):
            weights = path.with_suffix(ending)
            found["beside"] = {ending: _sha256(_read(weights))} if weights.is_file() else {}
        return found
    body = _read(path)
    try:
        return _of_onnx(body)
    except (IndexError, UnicodeDecodeError) as error:
        raise ModelError(TORN, place=path) from error


def certificate_in(path: Path) -> str | None:
    """The certificate that stands in an ONNX file, as it was written; None where there is none."""
    return metadata_in(path).get(KEY)


def metadata_in(path: Path) -> dict[str, str]:
    """What stands in the metadata of an ONNX file."""
    try:
        return {key: str(value, "utf-8") for key, value in _metadata(_read(path))}
    except (IndexError, UnicodeDecodeError) as error:
        raise ModelError(TORN, place=path) from error


def append_certificate(path: Path, text: str) -> None:
    """Adds the certificate to an ONNX file, in place of one that it has."""
    body = b"".join(_record(number, kind, value) for number, kind, value, _ in _kept(_read(path)))
    entry = _record(1, BYTES, KEY.encode()) + _record(2, BYTES, text.encode("utf-8"))
    path.write_bytes(body + _record(METADATA, BYTES, entry))


def changes(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two fingerprints, in words; empty where nothing does."""
    found: list[str] = []
    kinds = {
        "operators": "operator",
        "weights": "weight",
        "metadata": "metadata entry",
        "beside": "file of its weights",
    }
    for part, one in kinds.items():
        before, after = then.get(part, {}), now.get(part, {})
        for name in [*before, *(name for name in after if name not in before)]:
            if name not in after:
                found.append(f"the {one} `{name}` is gone")
            elif name not in before:
                found.append(f"the {one} `{name}` was added")
            elif before[name] != after[name]:
                found.append(f"the {one} `{name}` was changed")
        if not found and list(before) != list(after):
            found.append(f"the {part} stand in another order")
    if then.get("interface") != now.get("interface"):
        found.append("the inputs, outputs or operator versions were changed")
    if not found and then.get("sha256") != now.get("sha256"):
        found.append("its bytes were changed")
    return found


def _of_onnx(body: memoryview) -> dict[str, Any]:
    whole, interface = hashlib.sha256(), hashlib.sha256()
    operators: dict[str, str] = {}
    weights: dict[str, str] = {}
    for number, _, value, raw in _kept(body):
        whole.update(raw)
        if number == OPSETS:
            interface.update(raw)
        if number != GRAPH:
            continue
        for field, _, part, part_raw in _records(value):
            if field == NODE:
                name = f"{len(operators)} {_text(part, NODE_TYPE)} {_text(part, NODE_NAME)}".strip()
                operators[name] = _digest(part)
            elif field == WEIGHT:
                weights[_text(part, WEIGHT_NAME)] = _digest(part)
            elif field in (INPUT, OUTPUT):
                interface.update(part_raw)
    return {
        "sha256": whole.hexdigest(),
        "operators": operators,
        "weights": weights,
        "interface": interface.hexdigest()[:16],
        "metadata": {key: _digest(value) for key, value in _metadata(body) if key != KEY},
    }


def _kept(body: memoryview) -> Iterator[tuple[int, int, memoryview, memoryview]]:
    """The records of a model but for its certificate."""
    for record in _records(body):
        if record[0] != METADATA or _text(record[2], 1) != KEY:
            yield record


def _metadata(body: memoryview) -> Iterator[tuple[str, memoryview]]:
    for number, _, value, _ in _records(body):
        if number == METADATA:
            entry = {field: part for field, _, part, _ in _records(value)}
            yield str(entry.get(1, b""), "utf-8"), entry.get(2, memoryview(b""))


def _text(message: memoryview, wanted: int) -> str:
    """A field of a message as text; "" where it has none."""
    return next((str(value, "utf-8") for number, _, value, _ in _records(message) if number == wanted), "")


def _records(message: memoryview) -> Iterator[tuple[int, int, memoryview, memoryview]]:
    """(field number, wire type, value, the whole record) of each field, uncopied. Raises IndexError where it ends too early."""
    at = 0
    while at < len(message):
        start = at
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == VARINT:
            begin = at
            _, at = _varint(message, at)
        elif kind == BYTES:
            length, begin = _varint(message, at)
            at = begin + length
        elif kind in (FIXED64, FIXED32):
            begin, at = at, at + (8 if kind == FIXED64 else 4)
        else:
            raise IndexError(f"a record of the unknown kind {kind}")
        if at > len(message):
            raise IndexError("a record ends behind the file")
        yield tag >> 3, kind, message[begin:at], message[start:at]


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if not byte & 128:
            return value, at


def _record(number: int, kind: int, value: bytes | memoryview) -> bytes:
    length = _encoded(len(value)) if kind == BYTES else b""
    return _encoded(number << 3 | kind) + length + value


def _encoded(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _contents(path: Path) -> Iterator[bytes | memoryview]:
    """Of a file its bytes, of a folder the names and bytes of all files in it."""
    if path.is_file():
        yield _read(path)
        return
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        yield f"{file.relative_to(path).as_posix()}\n{file.stat().st_size}\n".encode()
        yield _read(file)


def _read(path: Path) -> memoryview:
    try:
        return memoryview(path.read_bytes())
    except OSError as error:
        raise ModelError(f"cannot be read ({error.strerror or error})", place=path) from error


def _sha256(*parts: bytes | memoryview) -> str:
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def _digest(part: memoryview) -> str:
    return _sha256(part)[:16]
