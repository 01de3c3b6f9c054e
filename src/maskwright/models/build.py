"""The segmenter that a description names."""

from __future__ import annotations

from torch import nn

from maskwright.bundles.bundle import Description
from maskwright.models import OF_TASK, instance_segmenter, segmenter
from maskwright.models.instance_segmenter import InstanceSegmenter
from maskwright.models.segmenter import Segmenter

AnySegmenter = Segmenter | InstanceSegmenter


def build(description: Description) -> AnySegmenter:
    """A segmenter without trained weights. Raises RecipeError for a model or an option that this version does not have."""
    options = {key: value for key, value in description.model.items() if key != "name"}
    network = OF_TASK[description.task][description.model["name"]](len(description.classes), **options)
    return wrapped(network, description.normalization, description.task)


def wrapped(network: nn.Module, normalization: str, task: str) -> AnySegmenter:
    """The network with one of `segmenter.NORMALIZATIONS` before it. Raises ModelError for another name."""
    return (instance_segmenter if task == "instance" else segmenter).wrap(network, normalization)
