"""The shelf of exporters: a bundle becomes a file for another runtime, and proves that it agrees."""

from maskwright.core.registry import Registry

EXPORTERS: Registry = Registry("exporter", {"onnx": "maskwright.exports.onnx:onnx"})
