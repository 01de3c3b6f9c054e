"""Run by another Python, the one that has litert-torch: an exported program of torch becomes a TFLite file.

    PYTHON -I litert_convert.py PROGRAM.pt2 PHOTOS.npy OUT.tflite fp32|int8 nhwc|nchw

Nothing of Maskwright can be imported here. PROGRAM was saved by torch.export.save, which other releases of torch load; PHOTOS
is float32 (N, 3, h, w), 0..255: with int8 what the ranges of the activations are measured on, else N = 1.
"""

import os
import sys
import tempfile


def main(program: str, photos: str, out: str, precision: str, layout: str) -> None:
    """Writes OUT. Float in and out, also where it computes in int8."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import litert_torch
    import numpy as np
    import torch

    images = np.load(photos)
    if layout == "nhwc":
        images = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    module = torch.export.load(program).module()
    if layout == "nhwc":
        module = litert_torch.to_channel_last_io(module, args=[0], outputs=[0])
    model = litert_torch.convert(module, (torch.from_numpy(images[:1]),))
    if precision == "fp32":
        model.export(out)
        return
    with tempfile.TemporaryDirectory(dir=os.path.dirname(out)) as folder:
        exact = os.path.join(folder, "fp32.tflite")
        model.export(exact)
        quantise(exact, out, images)


def quantise(exact, out, images):  # type: ignore[no-untyped-def]
    """Weights and activations in int8, ranges measured on the images."""
    from ai_edge_litert.interpreter import Interpreter
    from ai_edge_quantizer import quantizer
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName

    (signature, ends), *_ = Interpreter(exact).get_signature_list().items()
    name = ends["inputs"][0]
    ours = quantizer.Quantizer(exact)
    ours.add_static_config(".*", TFLOperationName.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    for end in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):  # float32 in and out, as without
        ours.update_quantization_recipe(".*", end, algorithm_key=AlgorithmName.NO_QUANTIZE)
    ranges = ours.calibrate({signature: [{name: images[i : i + 1]} for i in range(len(images))]}, num_threads=2)
    ours.quantize(ranges).export_model(out, overwrite=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
