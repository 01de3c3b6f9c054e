"""Scores of any predictor on labelled images: pixels, or objects one by one, as its model does."""

from __future__ import annotations

from maskwright.core.table import Data
from maskwright.metrics.instance_scores import InstanceScores
from maskwright.metrics.scores import Scores
from maskwright.prediction import evaluation, instance_evaluation
from maskwright.prediction.instances import InstancePredictor
from maskwright.prediction.predictor import AnyPredictor

AnyScores = Scores | InstanceScores


def evaluate(predictor: AnyPredictor, data: Data, *, label: str = "evaluate", resamples: int = 1000) -> AnyScores:
    """Scores of a predictor on labelled images, at their own size. Classes are matched by name.

    Raises DataError when the data have a class that the model does not know.
    """
    if isinstance(predictor, InstancePredictor):
        return instance_evaluation.evaluate(predictor, data, label=label, resamples=resamples)
    return evaluation.evaluate(predictor, data, label=label, resamples=resamples)
