"""Losses that share a softmax are the losses they are alone, down to probabilities that float32 cannot hold."""

import pytest
import torch

from maskwright.core.types import VOID
from maskwright.training.losses import criterion
from maskwright.training.softmax import shared, softmax

LOSSES = {"cross_entropy": 1.0, "dice": 0.5, "tversky": {"weight": 2.0, "alpha": 0.4, "beta": 0.6}}


@pytest.mark.parametrize("size", [1.0, 30.0, 300.0])
@pytest.mark.parametrize("channels_last", [False, True])
def test_a_sum_of_losses_has_the_sum_of_their_values_and_slopes(size: float, channels_last: bool) -> None:
    logits = size * torch.randn(2, 5, 7, 9)
    logits = logits.to(memory_format=torch.channels_last) if channels_last else logits
    targets = torch.randint(0, 5, (2, 7, 9))
    targets[0, :2] = VOID
    together = logits.clone().requires_grad_()
    losses = criterion(LOSSES)(together, targets)
    sum(losses.values()).backward()
    slopes = torch.zeros_like(logits)
    for name, value in LOSSES.items():
        alone = logits.clone().requires_grad_()
        loss = criterion({name: value})(alone, targets)[name]
        loss.backward()
        torch.testing.assert_close(loss, losses[name])
        slopes += alone.grad
    torch.testing.assert_close(together.grad, slopes, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("gap", [1.0, 20.0, 90.0, 1e4])
def test_sure_and_wrong_answers_keep_their_logarithm_and_its_slope(gap: float) -> None:
    logits = torch.zeros(1, 3, 1, 2)
    logits[0, 1] = gap
    targets = torch.tensor([[[0, 1]]])
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    shares, logs = softmax(ours, targets)
    expected = theirs.permute(0, 2, 3, 1).reshape(-1, 3).log_softmax(1)[[0, 1], [0, 1]]
    torch.testing.assert_close(logs, expected)
    logs.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    torch.testing.assert_close(shares.sum(1), torch.ones(2))


def test_only_shared_logits_share() -> None:
    logits, targets = torch.randn(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=torch.int64)
    alias = shared(logits)
    assert softmax(alias, targets)[0] is softmax(alias, targets)[0]
    assert softmax(logits, targets)[0] is not softmax(logits, targets)[0]
    other = targets + 1  # other questions to the same logits
    torch.testing.assert_close(softmax(alias, other)[1], logits.log_softmax(1)[0, 1].reshape(-1))
