"""Pixels that count nowhere: no anchor, proposal, mask or query there learns anything, and elsewhere nothing changes."""

import numpy as np
import pytest
import torch
from test_mask_rcnn import a_batch, a_network, wrapped
from torch import Tensor
from torchvision.models.detection.roi_heads import maskrcnn_loss

from maskwright.models import crowds, query_losses
from maskwright.models.instance_segmenter import Layers, objects
from maskwright.models.query_losses import Settings
from maskwright.tasks.instance import IGNORED

GOLDEN = {  # losses and the sum of all gradients' sizes of a seeded step, before there were pixels that count nowhere
    "v1": (
        (0.6931461691856384, 0.20971597731113434, 1.3765459060668945, 8.887247531674802e-05, 0.6741859912872314),
        267,
    ),
    "v2": ((0.6931458711624146, 0.20971569418907166, 1.3648539781570435, 0.000167439706274, 0.6512621641159058), 260),
}


def crowded(targets: Layers, window: tuple[slice, slice], image: int = 1) -> Layers:
    """The same with a crowd in a window of an image, below what is there."""
    layers = targets.layers.clone()
    plane = layers[(image, 0, *window)]
    plane[plane == 0] = IGNORED
    return Layers(layers, targets.table)


@pytest.mark.parametrize("heads", ["v1", "v2"])
def test_without_crowds_losses_are_as_they_were(heads):
    segmenter = wrapped(a_network(heads=heads)).eval()
    torch.manual_seed(7)
    losses = segmenter(*a_batch((50, 70)))
    sum(losses.values()).backward()
    slopes = sum(float(p.grad.double().abs().sum()) for p in segmenter.parameters() if p.grad is not None)
    expected, expected_slopes = GOLDEN[heads]
    assert [float(value.detach()) for value in losses.values()] == pytest.approx(expected, rel=1e-3)
    assert slopes == pytest.approx(expected_slopes, rel=0.01)


@pytest.mark.parametrize("seed", range(5))
def test_the_share_of_a_box_is_its_pixels_counted(seed):
    rng = np.random.default_rng(seed)
    ignored = rng.random((20, 30)) < 0.5
    corners = rng.integers(-10, 40, (50, 2, 2))
    boxes = np.concatenate([corners.min(1), corners.max(1) + 1], axis=1)
    found = crowds.covered(torch.tensor(boxes, dtype=torch.float32), torch.tensor(ignored).to(torch.uint8))
    for share, (x0, y0, x1, y1) in zip(found.tolist(), boxes.tolist(), strict=True):
        own = ignored[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
        assert share == pytest.approx(own.mean() if own.size else 0)


def slopes_of_anchors(targets: Layers, image: int) -> tuple[Tensor, Tensor]:
    """What every anchor of an image learns of being an object or not: boxes (N, 4), sizes of the gradients (N,)."""
    network = a_network(rpn_batch=100_000).eval()  # all that may be sampled are
    rpn, taken = network.rpn, {}
    plain = rpn.compute_loss
    images = torch.zeros(2, 3, *targets.layers.shape[-2:])

    def watched(objectness, deltas, labels, regression):
        objectness.retain_grad()
        taken["objectness"] = objectness
        return plain(objectness, deltas, labels, regression)

    generate = rpn.anchor_generator.forward

    def kept(*inputs):
        taken["anchors"] = generate(*inputs)
        return taken["anchors"]

    rpn.compute_loss, rpn.anchor_generator.forward = watched, kept
    network(images, objects(targets))["rpn_class_loss"].backward()
    slopes = taken["objectness"].grad.reshape(2, -1)[image].abs()
    return taken["anchors"][image], slopes


def test_anchors_inside_a_crowd_learn_nothing_and_all_others_do():
    _, targets = a_batch()
    window = (slice(16, 64), slice(32, 96))
    boxes, slopes = slopes_of_anchors(crowded(targets, window), image=1)
    x0, y0, x1, y1 = boxes.unbind(1)
    inside = (x1.clamp(32, 96) - x0.clamp(32, 96)) * (y1.clamp(16, 64) - y0.clamp(16, 64))
    mostly = inside >= 0.5 * (x1.clamp(0, 96) - x0.clamp(0, 96)) * (y1.clamp(0, 64) - y0.clamp(0, 64))
    assert 100 < int(mostly.sum()) < len(mostly) - 100
    assert float(slopes[mostly].max()) == 0
    assert float(slopes[~mostly].min()) > 0
    _, before = slopes_of_anchors(targets, image=1)
    assert float(before.min()) > 0


def test_anchors_on_an_object_in_a_crowd_learn_it():
    _, targets = a_batch()
    boxes, slopes = slopes_of_anchors(crowded(targets, (slice(0, 64), slice(0, 96)), image=0), image=0)
    object_ = torch.tensor([[12.0, 10.0, 50.0, 40.0]])
    best = crowds.box_iou(object_, boxes)[0].argmax()
    assert float(slopes[best]) > 0


def test_proposals_in_a_crowd_are_left_out_but_those_of_objects():
    heads = a_network().roi_heads
    ignored = torch.zeros(64, 96, dtype=torch.uint8)
    ignored[:, 40:] = 1
    target = {"boxes": torch.tensor([[50.0, 10, 80, 40]]), "ignored": ignored}
    proposals = torch.tensor(
        [[0.0, 0, 20, 20], [30, 0, 49, 20], [31, 0, 51, 20], [52, 11, 80, 40], [60, 40, 90, 60], [45, 5, 95, 64]]
    )
    assert heads._beside(proposals, target).tolist() == proposals[[0, 1, 3]].tolist()
    assert heads._beside(proposals, {**target, "boxes": torch.zeros(0, 4)}).tolist() == proposals[:2].tolist()
    assert heads._beside(proposals, {"boxes": target["boxes"]}) is proposals


@pytest.mark.parametrize("heads", ["v1", "v2"])
@pytest.mark.parametrize("training", [True, False])
def test_a_batch_that_is_all_crowd_teaches_nothing(heads, training):
    segmenter = wrapped(a_network(heads=heads)).train(training)
    images, targets = a_batch()
    layers = torch.full_like(targets.layers, IGNORED)
    losses = segmenter(images, Layers(layers, torch.zeros_like(targets.table)))
    sum(losses.values()).backward()
    assert {name: float(value.detach()) for name, value in losses.items()} == dict.fromkeys(losses, 0.0)
    assert not any(bool(p.grad.any()) for p in segmenter.parameters() if p.grad is not None)


def test_masks_are_compared_where_pixels_count():
    """Logits at ignored cells change nothing; where nothing is ignored the loss is the plain one."""
    masks, ignored = torch.zeros(1, 16, 16, dtype=torch.uint8), torch.zeros(16, 16, dtype=torch.uint8)
    masks[0, 4:12, :8], ignored[:, 8:] = 1, 1
    ignored[4:6, :] = 1  # the object's own pixels count
    boxes, object_ = [torch.tensor([[0.0, 0, 16, 16]])], [torch.tensor([0])]
    target = {"labels": torch.tensor([2]), "masks": masks}
    logits = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    other = logits.clone()
    other[0, 2, :, 9:] += 5
    values = [crowds.mask_loss(each, boxes, [{**target, "ignored": ignored}], object_) for each in (logits, other)]
    assert values[0] == values[1]
    other = logits.clone()
    other[0, 2, 4:6, :8] += 5
    assert crowds.mask_loss(other, boxes, [{**target, "ignored": ignored}], object_) < values[0]
    plain = maskrcnn_loss(logits, boxes, [masks], [target["labels"]], object_)
    for without in (target, {**target, "ignored": torch.zeros_like(ignored)}):
        torch.testing.assert_close(crowds.mask_loss(logits, boxes, [without], object_), plain)


def test_a_crowd_that_covers_no_box_changes_no_loss():
    segmenter, (images, targets) = wrapped(a_network()).eval(), a_batch()
    found = []
    for each in (targets, crowded(targets, (slice(63, 64), slice(95, 96)))):
        torch.manual_seed(3)
        found.append(segmenter(images, each))
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value)


# ------------------------------------------------------------------------------------------------------------- queries


def answers(seed: int = 1) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    return torch.randn(1, 3, 4, generator=random), 4 * torch.randn(1, 3, 16, 16, generator=random)


def learnt(classes: Tensor, masks: Tensor, target: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """The losses of an image, and the slopes of its class and mask logits."""
    classes, masks = classes.clone().requires_grad_(), masks.clone().requires_grad_()
    torch.manual_seed(3)
    losses = query_losses.losses([(classes, masks)], [target], (32, 32), Settings(points=300))
    sum(losses.values()).backward()
    return losses, classes.grad[0], masks.grad[0]


def a_target() -> dict[str, Tensor]:
    masks, ignored = torch.zeros(1, 32, 32, dtype=torch.uint8), torch.zeros(32, 32, dtype=torch.uint8)
    masks[0, :, :16], ignored[:, 16:] = 1, 1
    return {"labels": torch.tensor([2]), "masks": masks, "ignored": ignored}


def test_queries_on_ignored_pixels_are_not_told_that_they_found_nothing():
    classes, masks = answers()
    masks[:] = -9.0
    masks[0, 0, :, :8], masks[0, 1, :, 9:], masks[0, 2, 2:, 5:9] = 9.0, 9.0, 9.0  # object, crowd, half of each and less
    _, slopes, _ = learnt(classes, masks, a_target())
    assert [bool(each.any()) for each in slopes] == [True, False, True]
    plain = {name: value for name, value in a_target().items() if name != "ignored"}
    assert all(bool(each.any()) for each in learnt(classes, masks, plain)[1])


def test_masks_of_queries_are_not_compared_on_ignored_pixels():
    classes, masks = answers()
    _, _, slopes = learnt(classes, masks, a_target())
    assert slopes.any()
    assert not slopes[:, :, 9:].any()
    own = a_target()
    own["masks"][:] = 1  # all of it the object's own
    assert learnt(classes, masks, own)[2][:, :, 9:].any()


def test_an_image_that_is_all_crowd_teaches_queries_nothing():
    target = a_target()
    target["ignored"][:] = 1
    target = {**target, "labels": target["labels"][:0], "masks": target["masks"][:0]}
    losses, slopes, _ = learnt(answers()[0], answers()[1].abs(), target)
    assert {name: float(value.detach()) for name, value in losses.items()} == dict.fromkeys(losses, 0.0)
    assert not slopes.any()
