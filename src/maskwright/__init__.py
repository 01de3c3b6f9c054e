"""Maskwright: labelled images in, a deployed segmentation model out.

Every command of the command line is a function here, with the same name and options; `load` gives the Predictor.
Nothing heavy is imported until it is used.
"""

from typing import Any

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "check",
    "convert",
    "demo",
    "doctor",
    "evaluate",
    "explain",
    "export",
    "inspect",
    "load",
    "new",
    "predict",
    "preview",
    "report",
    "runs",
    "train",
    "tune_thresholds",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "load":
        from maskwright.prediction.predictor import load

        return load
    from maskwright.verbs import VERBS

    if name in VERBS:
        return VERBS[name]
    raise AttributeError(f"module 'maskwright' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
