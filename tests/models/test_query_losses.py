"""Losses of a network of queries: those of the `transformers` library to the last digit, and what they mean."""

import pytest
import torch

from maskwright.models import query_losses
from maskwright.models.query_losses import Settings


@pytest.mark.parametrize("counts", [(2, 3), (0, 4), (6, 1)])
def test_losses_are_those_of_the_library(counts: tuple[int, int]) -> None:
    library = pytest.importorskip("transformers")
    from transformers.models.mask2former.modeling_mask2former import Mask2FormerLoss

    config = library.Mask2FormerConfig(num_labels=3, train_num_points=50)
    weights_of = {"loss_cross_entropy": 2.0, "loss_mask": 5.0, "loss_dice": 5.0}
    random = torch.Generator().manual_seed(1)
    answers = [(torch.randn(2, 6, 4, generator=random), torch.randn(2, 6, 8, 12, generator=random)) for _ in range(3)]
    masks = [(torch.rand(n, 32, 48, generator=random) > 0.5).to(torch.uint8) for n in counts]
    labels = [torch.randint(0, 3, (n,), generator=random) for n in counts]
    torch.manual_seed(7)
    others = [{"class_queries_logits": c, "masks_queries_logits": m} for c, m in answers[:-1]]
    theirs = Mask2FormerLoss(config, weights_of)(
        answers[-1][1], answers[-1][0], [m.float() for m in masks], labels, others
    )
    torch.manual_seed(7)
    targets = [{"labels": one + 1, "masks": mask} for one, mask in zip(labels, masks, strict=True)]
    ours = query_losses.losses(answers, targets, (32, 48), Settings(points=50))
    for name, theirs_called in zip(("class_loss", "mask_loss", "dice_loss"), weights_of, strict=True):
        expected = sum(
            value * weights_of[theirs_called] for key, value in theirs.items() if key.startswith(theirs_called)
        )
        torch.testing.assert_close(ours[name], expected)


def test_queries_are_matched_at_the_least_cost_of_all() -> None:
    """Masks that are the objects themselves, in another order; more objects than queries leave the costliest out."""
    truth = torch.zeros(3, 16, 16)
    truth[0, :8], truth[1, 8:], truth[2, :, 4:9] = 1, 1, 1
    order = torch.tensor([2, 0, 1])
    target = {"labels": torch.tensor([1, 2, 3]), "masks": truth.to(torch.uint8)}
    classes = torch.full((3, 4), -4.0)
    classes[torch.arange(3), order] = 4.0
    queries, found = query_losses.matched(classes, truth[order] * 20 - 10, target, (16, 16), Settings(points=200))
    assert order[queries].tolist() == found.tolist()
    queries, found = query_losses.matched(
        classes[:2], (truth[order] * 20 - 10)[:2], target, (16, 16), Settings(points=200)
    )
    assert sorted(found.tolist()) == [0, 2]


@pytest.mark.parametrize("name", ["class_loss", "mask_loss", "dice_loss"])
def test_each_loss_has_its_weight(name: str) -> None:
    random = torch.Generator().manual_seed(1)
    answers = [(torch.randn(1, 2, 4, generator=random), torch.randn(1, 2, 8, 8, generator=random))]
    targets = [{"labels": torch.tensor([1, 2]), "masks": torch.ones(2, 8, 8, dtype=torch.uint8)}]
    values = []
    for weight in (1.0, 3.0):
        torch.manual_seed(3)
        one = {"class_loss": 1e-6, "mask_loss": 1e-6, "dice_loss": 1e-6}  # alone, so that the matching stays
        values.append(query_losses.losses(answers, targets, (8, 8), Settings(**{**one, name: weight}))[name])
    assert float(values[1] / values[0]) == pytest.approx(3, rel=1e-4)


def test_what_was_padded_is_compared_to_nothing() -> None:
    """Logits beyond the image's own end change no loss."""
    random = torch.Generator().manual_seed(1)
    classes, masks = torch.randn(1, 2, 4, generator=random), torch.randn(1, 2, 16, 16, generator=random)
    other = masks.clone()
    other[..., 9:], other[..., 13:, :] = 7.0, -7.0
    targets = [{"labels": torch.tensor([3]), "masks": torch.ones(1, 12, 8, dtype=torch.uint8)}]
    found = []
    for logits in (masks, other):
        torch.manual_seed(3)
        found.append(query_losses.losses([(classes, logits)], targets, (16, 16), Settings(points=100)))
    assert found[0] == found[1]
