"""The metrics room: how well label maps and objects agree with the truth, with an interval and a convention beside every
number.

`Confusion` counts pixels image by image, its `scores()` are `Scores`, and an entry of CONVENTIONS restates them the way
another project prints its own, for comparison. `Detections` (`average_precision.py`) and `Panoptics` (`panoptic.py`) do the
same for objects. To add a convention: write `fn(scores, *, <options>) -> Restated` in
`conventions.py` and add its line here.
"""

from __future__ import annotations

from maskwright.core.registry import Registry

CONVENTIONS: Registry = Registry(
    "convention",
    {
        "hydrogen-torch": "maskwright.metrics.conventions:hydrogen_torch",
        "sagemaker": "maskwright.metrics.conventions:sagemaker",
    },
)

# of objects, one by one: from masks (`prediction.fashion`), not from Scores
OBJECT_CONVENTIONS: Registry = Registry(
    "object_convention", {"imaterialist": "maskwright.metrics.imaterialist:restated"}
)
