"""What is foretold of a training: memory that grows with steps of many sizes, and trial steps that leave no trace."""

from types import SimpleNamespace

import pytest
import torch

from maskwright.core.recipe import Recipe
from maskwright.models import device as devices
from maskwright.models.instance_segmenter import objects, wrap
from maskwright.models.mask_rcnn import mask_rcnn
from maskwright.training import estimate, for_objects

SMALL = {"channels": 16, "rpn_batch": 16, "pre_nms": 50, "post_nms": 20, "rois": 16}


@pytest.mark.parametrize(
    ("kind", "scatter", "peak", "expected"),
    [("cpu", 1.0, 3000, 3000), ("cpu", 1.5, 3000, 4000), ("cpu", 1.5, 1000, 1000), ("cuda", 1.5, 3000, 3000)],
)
def test_what_trial_steps_took_is_scattered_on_a_cpu_alone(kind, scatter, peak, expected):
    device = SimpleNamespace(device=torch.device(kind), peak_memory=lambda: peak)
    assert estimate.grown(1000, device, scatter) == expected


def test_trial_steps_leave_weights_and_random_numbers_as_they_were():
    device = devices.choose("cpu", "fp32")
    recipe = Recipe.model_validate(
        {"task": "instance", "data": [{"path": "x"}], "size": [96, 96], "model": {"name": "mask_rcnn"}}
    )
    segmenter = wrap(mask_rcnn(2, **SMALL))
    before = {name: value.clone() for name, value in segmenter.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert len(estimate.trial_steps(segmenter, recipe, device, 2, 1)) == 1
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(value, before[name]) for name, value in segmenter.state_dict().items())


def test_trial_steps_draw_as_many_masks_as_a_step_can():
    """Random weights propose boxes on no object: only the objects themselves fill the share of the proposals that is theirs."""
    network = mask_rcnn(2)
    targets = for_objects.trial_targets(wrap(network), None, torch.zeros(2, 3, 384, 384))
    drawn = network.roi_heads.fg_bg_sampler
    for one in objects(targets):
        assert len(one["boxes"]) >= drawn.batch_size_per_image * drawn.positive_fraction
        assert bool((one["masks"].sum(0) <= 1).all())
