"""The segmenter that a description names."""

from __future__ import annotations

from maskwright.bundles.bundle import Description
from maskwright.models import MODELS
from maskwright.models.segmenter import Segmenter, wrap


def build(description: Description) -> Segmenter:
    """A segmenter without trained weights. Raises RecipeError for a model or an option that this version does not have."""
    options = {key: value for key, value in description.model.items() if key != "name"}
    network = MODELS[description.model["name"]](len(description.classes), **options)
    return wrap(network, description.normalization)
