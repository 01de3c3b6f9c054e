"""The shelf of exporters: a bundle becomes a file for another runtime, and proves that it agrees."""

from maskwright.core.registry import Registry

EXPORTERS: Registry = Registry(
    "exporter",
    {  # Source, path (in an empty folder), options -> Written
        "onnx": "maskwright.exports.onnx:onnx",
        "int8": "maskwright.exports.int8:int8",
        "lens-studio": "maskwright.exports.lens_studio:lens_studio",
        "litert": "maskwright.exports.litert:litert",
        "coreml": "maskwright.exports.coreml:coreml",
        "openvino": "maskwright.exports.openvino:openvino",
        "executorch": "maskwright.exports.executorch:executorch",
        "torchscript": "maskwright.exports.torchscript:torchscript",
        "tensorrt": "maskwright.exports.tensorrt:tensorrt",
    },
)
RUNTIMES: Registry = Registry(
    "runtime",
    {  # ending of a file -> path, Description (None: it stands in the file) -> predictor
        ".onnx": "maskwright.exports.onnx:open_file",
        ".xml": "maskwright.exports.openvino:open_file",
        ".tflite": "maskwright.exports.litert:open_file",
        ".mlpackage": "maskwright.exports.coreml:open_file",
        ".pte": "maskwright.exports.executorch:open_file",
        ".torchscript": "maskwright.exports.torchscript:open_file",
    },
)
ENDINGS = {  # of the file that an exporter writes
    "onnx": ".onnx",
    "int8": ".int8.onnx",
    "lens-studio": ".lens.onnx",
    "litert": ".tflite",
    "coreml": ".mlpackage",
    "openvino": ".xml",
    "executorch": ".pte",
    "torchscript": ".torchscript",
    "tensorrt": ".tensorrt.onnx",
}
FOLDERS = (".mlpackage",)  # endings of what is written as a folder
