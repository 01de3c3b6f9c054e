"""Mask R-CNN: losses in both modes, objects in pixels of the input, options that mean something, learning one picture."""

import numpy as np
import pytest
import torch

from maskwright.core.errors import RecipeError
from maskwright.models.instance_segmenter import InstanceSegmenter, Layers
from maskwright.models.mask_rcnn import LOSSES, mask_rcnn

SMALL = {
    "encoder": "mobilenet_v2",
    "channels": 32,
    "anchors": (8, 16, 32, 64, 128),
    "rpn_batch": 32,
    "pre_nms": 100,
    "post_nms": 50,
    "pre_nms_test": 100,
    "post_nms_test": 50,
    "rois": 32,
}


def a_network(**options):
    torch.manual_seed(0)
    return mask_rcnn(3, **{**SMALL, **options})


def wrapped(network):
    return InstanceSegmenter(network, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))


def a_batch(size=(64, 96)):
    """Two photos: one with a square and a bar over it, one with nothing."""
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 3, *size)).astype(np.float32))
    layers, table = torch.zeros(2, 2, *size, dtype=torch.uint8), torch.zeros(2, 2, 256, dtype=torch.uint8)
    layers[0, 0, 10:40, 12:50] = 1
    layers[0, 1, 20:26, 5:70] = 1
    table[0, 0, 1], table[0, 1, 1] = 1, 3
    return images, Layers(layers, table)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("heads", ["v1", "v2"])
def test_losses_are_had_in_both_modes(training, heads):
    segmenter = wrapped(a_network(heads=heads)).train(training)
    losses = segmenter(*a_batch())
    assert set(losses) == set(LOSSES.values())
    assert all(bool(value.isfinite()) and float(value.detach()) >= 0 for value in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None for name, p in segmenter.named_parameters() if "encoder" not in name)
    assert all(module.training == training for module in segmenter.modules())


@pytest.mark.parametrize("name", LOSSES.values())
def test_each_loss_has_its_weight(name):
    images, targets = a_batch()
    torch.manual_seed(1)
    plain = wrapped(a_network()).eval()(images, targets)
    torch.manual_seed(1)
    weighed = wrapped(a_network(**{name: 3.0})).eval()(images, targets)
    for other, value in plain.items():
        assert float(weighed[other].detach()) == pytest.approx(
            (3 if other == name else 1) * float(value.detach()), rel=1e-4
        )


@pytest.mark.parametrize("size", [(64, 96), (50, 70), (33, 32)])
def test_objects_lie_in_the_padded_input(size):
    segmenter = wrapped(a_network(score=0.0, max_detections=7, mask_size=14)).eval()
    with torch.inference_mode():
        found = segmenter(a_batch(size)[0])
    assert len(found) == 2
    for one in found:
        assert len(one["boxes"]) <= 7
        assert one["masks"].shape == (len(one["boxes"]), 1, 14, 14)
        assert float(one["masks"].min()) >= 0
        assert float(one["masks"].max()) <= 1
        assert ((one["labels"] >= 1) & (one["labels"] <= 3)).all()
        assert (one["scores"].diff() <= 0).all()
        assert float(one["boxes"][:, 2].max()) <= -(-size[1] // 32) * 32
        assert float(one["boxes"][:, 3].max()) <= -(-size[0] // 32) * 32


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"anchors": (32, 64)}, "`anchors` are 5 sides"),
        ({"ratios": ()}, "`ratios` are heights over widths"),
        ({"mask_size": 15}, "mask_size must be an even number"),
        ({"nms": 1.5}, "nms can be 0 to 1, not 1.5"),
        ({"rois": 0}, "rois can be 1 or more, not 0"),
        ({"mask_loss": -1.0}, "mask_loss can be 0 or more, not -1"),
        ({"encoder": "resnet34x"}, "no encoder is called `resnet34x`"),
    ],
)
def test_numbers_that_cannot_be_are_refused(options, words):
    with pytest.raises(RecipeError, match=words):
        a_network(**options)


@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2", "tu-mobilenetv3_large_100"])
def test_any_encoder_of_five_levels_will_do(encoder):
    segmenter = wrapped(a_network(encoder=encoder)).eval()
    assert segmenter(*a_batch())["class_loss"].isfinite()


@pytest.mark.slow
def test_one_picture_is_learnt():
    segmenter = wrapped(a_network(score=0.3)).eval()  # statistics of two pictures would not do
    images, targets = a_batch()
    images[0, :, 10:40, 12:50] = torch.tensor([200.0, 30.0, 30.0])[:, None, None]
    images[0, :, 20:26, 5:70] = torch.tensor([30.0, 30.0, 220.0])[:, None, None]
    optimizer = torch.optim.AdamW(segmenter.parameters(), lr=1e-3)
    for _ in range(110):
        optimizer.zero_grad()
        sum(segmenter(images, targets).values()).backward()
        optimizer.step()
    with torch.inference_mode():
        first, second = segmenter(images)
    best = {
        int(label): box.tolist() for box, label in reversed(list(zip(first["boxes"], first["labels"], strict=True)))
    }
    assert best[1] == pytest.approx([12, 10, 50, 40], abs=8)
    assert best[3] == pytest.approx([5, 20, 70, 26], abs=8)
    assert not len(second["boxes"])


def one_object(left, right, size):
    layers, table = torch.zeros(1, 1, *size, dtype=torch.uint8), torch.zeros(1, 1, 256, dtype=torch.uint8)
    layers[0, 0, 40:60, left:right] = 1
    table[0, 0, 1] = 1
    return Layers(layers, table)


@pytest.mark.parametrize(("left", "right"), [(259, 261), (260, 300), (515, 517)])
def test_boxes_keep_their_pixels_whatever_the_layers_compute_in(left, right):
    """bf16 has steps of 2 pixels from 256 on and of 4 from 512: a thin object would have no width."""
    segmenter = wrapped(a_network(anchors=(4, 8, 16, 32, 64))).train()
    size = (96, 544)
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 3, *size)).astype(np.float32))
    found = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            found.append(segmenter(images, one_object(left, right, size)))
    assert all(value.isfinite() for losses in found for value in losses.values())
    for name in ("rpn_class_loss", "rpn_bbox_loss"):
        torch.testing.assert_close(found[0][name], found[1][name], rtol=0.1, atol=0.02)
    anchors = segmenter.network.rpn.anchor_generator.cell_anchors
    assert {each.dtype for each in anchors} == {torch.float32}
