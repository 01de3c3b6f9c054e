"""Every loss against plain loops, its gradient against differences, and what the recipe may say of it."""

import math

import pytest
import torch
from torch import Tensor

from maskwright.core.errors import RecipeError
from maskwright.core.types import VOID
from maskwright.training import LOSSES
from maskwright.training.losses import bce, criterion, cross_entropy, dice


def sample(batch: int, classes: int, size: tuple[int, int], seed: int, void: float = 0.2) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(batch, classes, *size, generator=draw, dtype=torch.float64) * 3
    targets = torch.randint(0, classes, (batch, *size), generator=draw)
    targets[torch.rand(batch, *size, generator=draw) < void] = VOID
    return logits, targets


def pixels_of(logits: Tensor, targets: Tensor) -> list[tuple[list[float], int]]:
    """(scores, label) of each pixel that counts."""
    rows = logits.permute(0, 2, 3, 1).reshape(-1, logits.shape[1]).tolist()
    return [(scores, label) for scores, label in zip(rows, targets.flatten().tolist(), strict=True) if label != VOID]


def softmax(scores: list[float]) -> list[float]:
    powers = [math.exp(s - max(scores)) for s in scores]
    return [p / sum(powers) for p in powers] if len(scores) > 1 else [1 / (1 + math.exp(-scores[0]))]


def plain_cross_entropy(logits: Tensor, targets: Tensor, weights: list[float] | None = None) -> float:
    pixels = pixels_of(logits, targets)
    weights = weights or [1.0] * logits.shape[1]
    shares = [softmax(scores) if logits.shape[1] > 1 else [1.0] for scores, _ in pixels]
    total = sum(-weights[label] * math.log(s[label]) for s, (_, label) in zip(shares, pixels, strict=True))
    return total / sum(weights[label] for _, label in pixels)


def plain_bce(logits: Tensor, targets: Tensor) -> float:
    pixels = pixels_of(logits, targets)
    total = sum(math.log1p(math.exp(-z if c == label else z)) for scores, label in pixels for c, z in enumerate(scores))
    return total / (len(pixels) * logits.shape[1])


def plain_dice(logits: Tensor, targets: Tensor) -> float:
    pixels = [(softmax(scores), label) for scores, label in pixels_of(logits, targets)]
    losses = []
    for c in sorted({label for _, label in pixels}):
        hits = sum(shares[c] for shares, label in pixels if label == c)
        sizes = sum(shares[c] for shares, _ in pixels) + sum(label == c for _, label in pixels)
        losses.append(1 - (2 * hits + 1) / (sizes + 1))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("classes", [1, 2, 5])
@pytest.mark.parametrize(
    ("loss", "plain"), [(cross_entropy, plain_cross_entropy), (bce, plain_bce), (dice, plain_dice)]
)
def test_losses_are_what_plain_loops_count(loss, plain, classes: int, seed: int) -> None:
    logits, targets = sample(2, classes, (3, 5), seed)
    targets[targets == seed % classes] = classes - 1  # one class is absent
    assert loss(logits, targets).item() == pytest.approx(plain(logits, targets), abs=1e-12)
    assert loss(logits.float(), targets).item() == pytest.approx(plain(logits, targets), rel=1e-5, abs=1e-6)


def test_class_weights_weigh_pixels() -> None:
    logits, targets = sample(2, 3, (4, 4), 0)
    weights = [0.5, 2.0, 0.0]
    expected = plain_cross_entropy(logits, targets, weights)
    assert cross_entropy(logits, targets, class_weights=weights).item() == pytest.approx(expected)
    only_third = torch.where(targets == VOID, VOID, 2)
    assert cross_entropy(logits, only_third, class_weights=weights) == 0


def test_label_smoothing_asks_for_less_than_certainty() -> None:
    logits, targets = sample(1, 4, (3, 3), 1)
    pixels = [(softmax(scores), label) for scores, label in pixels_of(logits, targets)]
    wanted = [[0.1 / 4 + 0.9 * (c == label) for c in range(4)] for _, label in pixels]
    expected = -sum(
        w * math.log(s) for ws, (shares, _) in zip(wanted, pixels, strict=True) for w, s in zip(ws, shares, strict=True)
    )
    assert cross_entropy(logits, targets, label_smoothing=0.1).item() == pytest.approx(expected / len(pixels))


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_those_of_differences(name: str, classes: int) -> None:
    logits, targets = sample(2, classes, (2, 3), 3)
    assert torch.autograd.gradcheck(lambda z: LOSSES[name](z, targets), logits.requires_grad_())


@pytest.mark.parametrize("name", LOSSES)
def test_void_counts_nowhere(name: str) -> None:
    logits, targets = sample(2, 3, (4, 6), 4)
    logits.requires_grad_()
    LOSSES[name](logits, targets).backward()
    assert (logits.grad.permute(0, 2, 3, 1)[targets == VOID] == 0).all()
    other = torch.where((targets == VOID)[:, None], -logits.detach() + 7, logits.detach())
    assert LOSSES[name](other, targets).item() == pytest.approx(LOSSES[name](logits, targets).item())


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("name", LOSSES)
def test_nothing_but_void_is_zero_with_a_gradient_of_zero(name: str, classes: int) -> None:
    logits = torch.randn(2, classes, 4, 4, requires_grad=True)
    value = LOSSES[name](logits, torch.full((2, 4, 4), VOID))
    value.backward()
    assert value == 0
    assert (logits.grad == 0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_a_perfect_answer_costs_nothing_and_a_wrong_one_most(name: str) -> None:
    targets = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    right = torch.nn.functional.one_hot(targets, 3).permute(0, 3, 1, 2) * 60.0 - 30
    perfect, undecided, wrong = (LOSSES[name](z, targets).item() for z in (right, right * 0, -right))
    assert perfect == pytest.approx(0, abs=1e-4)
    assert perfect < undecided < wrong


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_logits_stay_finite(name: str) -> None:
    logits = torch.full((1, 3, 4, 4), 3e4)
    logits[:, 1] = -3e4
    logits.requires_grad_()
    value = LOSSES[name](logits, torch.ones(1, 4, 4, dtype=torch.int64))
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("name", LOSSES)
def test_the_memory_layout_makes_no_difference(name: str) -> None:
    logits, targets = sample(2, 4, (5, 7), 6)
    turned = logits.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(LOSSES[name](turned, targets), LOSSES[name](logits, targets))


def test_dice_counts_as_well_over_millions_of_pixels() -> None:
    """float32 sums that grow by one stop growing at 2^24; sums by rows do not."""
    targets = torch.zeros(5, 2048, 2048, dtype=torch.int64)
    logits = torch.full((5, 2, 2048, 2048), 0.0)
    assert dice(logits, targets).item() == pytest.approx(1 - (2 * 0.5) / (0.5 + 1), rel=1e-4)


def test_a_criterion_weighs_its_losses() -> None:
    logits, targets = sample(1, 3, (4, 4), 7)
    losses = criterion({"cross_entropy": 2.0, "dice": {"weight": 0.5}, "bce": {}})(logits, targets)
    assert list(losses) == ["cross_entropy", "dice", "bce"]
    assert losses["cross_entropy"].item() == pytest.approx(2 * plain_cross_entropy(logits, targets))
    assert losses["dice"].item() == pytest.approx(0.5 * plain_dice(logits, targets))
    assert losses["bce"].item() == pytest.approx(plain_bce(logits, targets))


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_float32_inside_autocast(name: str) -> None:
    logits, targets = sample(1, 3, (8, 8), 8)
    half = logits.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = criterion({name: 1.0})(half, targets)[name]
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(LOSSES[name](half.double(), targets).item(), rel=1e-5)


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({}, "loss: names no loss"),
        ({"dise": 1.0}, "no loss is called `dise`; did you mean `dice`"),
        ({"dice": -1.0}, "loss.dice: the weight of a loss is a number from 0, not `-1.0`"),
        ({"dice": float("nan")}, "not `nan`"),
        ({"dice": True}, "not `True`"),
        ({"dice": {"weight": "much"}}, "not `much`"),
        ({"dice": 0.0}, "all weights are 0"),
        ({"cross_entropy": {"weihgt": 1.0}}, "loss.cross_entropy.weihgt: unknown option; did you mean `weight`"),
        ({"cross_entropy": {"label_smoothing": 1.5}}, "can be 0 up to 1"),
    ],
)
def test_what_a_recipe_may_not_say(parts: dict, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        criterion(parts)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 1.0, -1.0], [1.0, 1.0, float("inf")]])
def test_class_weights_are_one_a_class(weights: list[float]) -> None:
    logits, targets = sample(1, 3, (4, 4), 9)
    with pytest.raises(RecipeError, match="needs 3 numbers from 0"):
        criterion({"cross_entropy": {"class_weights": weights}})(logits, targets)


@pytest.mark.parametrize("name", LOSSES)
def test_every_option_says_what_it_does(name: str) -> None:
    assert LOSSES.summary(name)
    assert "weight" not in LOSSES.options(name)  # that is the loss's own weight in a recipe
    assert all(option.help and option.default is not option.required for option in LOSSES.options(name).values())
