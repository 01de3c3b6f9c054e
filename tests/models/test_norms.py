"""Frozen BatchNorm statistics: they stay, whatever mode the network is in; everything else goes on as before."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from maskwright.bundles.bundle import Description
from maskwright.exports.onnx import checked
from maskwright.models import MODELS
from maskwright.models.norms import freeze_statistics
from maskwright.models.segmenter import wrap


@pytest.mark.parametrize("encoder", ["mobilenet_v2", "tu-mobilenetv3_small_050"])  # timm has norms of its own
def test_statistics_stay_and_weights_learn(encoder: str) -> None:
    segmenter = wrap(MODELS["fcn32s"](2, encoder=encoder))
    norms = [m for m in segmenter.modules() if isinstance(m, nn.BatchNorm2d)]
    assert freeze_statistics(segmenter) == len(norms) > 0
    before = copy.deepcopy(segmenter.state_dict())
    segmenter.train()
    assert not any(norm.training for norm in norms)
    assert segmenter.training
    for batch in (1, 2):
        segmenter(torch.rand(batch, 3, 32, 32) * 255).square().mean().backward()
    after = segmenter.state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert all(norm.weight.grad is not None for norm in norms)
    assert not any(m.training for m in copy.deepcopy(segmenter).train().modules() if isinstance(m, nn.BatchNorm2d))


def test_frozen_layers_answer_in_train_mode_as_in_eval_mode() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    network[1].running_mean.fill_(0.3)
    images = torch.rand(2, 3, 8, 8)
    expected = network.eval()(images)
    assert freeze_statistics(network) == freeze_statistics(network) == 1
    torch.testing.assert_close(network.train()(images), expected)


def test_a_frozen_network_is_exported_as_it_is(tmp_path: Path) -> None:
    segmenter = wrap(MODELS["lens"](2), "unit")
    segmenter.train()(torch.rand(2, 3, 64, 64) * 255)
    freeze_statistics(segmenter)
    description = Description(("a", "b"), ((0, 0, 0),) * 2, (64, 64), "squash", {"name": "lens"}, "unit")
    pixels = [torch.rand(1, 3, 64, 64).numpy() * 255]
    assert checked(segmenter.train(), description, tmp_path / "model.onnx", pixels).max_logit_difference < 1e-4


def test_a_layer_without_statistics_is_left_out() -> None:
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    assert freeze_statistics(nn.Sequential(norm)) == 0
    assert norm.train().training
