"""Optimisers learn, schedules are pure functions with known ends, and mistakes in a recipe are named."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from maskwright.core.errors import RecipeError
from maskwright.training import OPTIMIZERS, SCHEDULES
from maskwright.training.optim import build, schedule, warmed_up

TOTAL = 100


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_downhill(name: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    inputs = torch.randn(64, 4)
    wanted = inputs.sum(1, keepdim=True)
    optimizer = build(network, name, {"lr": 0.02})
    losses = []
    for _ in range(60):
        loss = nn.functional.mse_loss(network(inputs), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 4


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_trainable_parameter_is_in_one_group_and_biases_do_not_decay(name: str) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    network[2].weight.requires_grad_(False)
    optimizer = build(network, name, {"lr": 0.1, "weight_decay": 0.3})
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in network.parameters() if p.requires_grad}
    assert len(held) == len({id(p) for p in held})
    for group in optimizer.param_groups:
        assert all((p.ndim > 1) == (group["weight_decay"] > 0) for p in group["params"])
        assert group["initial_lr"] == group["lr"] == 0.1


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_survives_saving(name: str) -> None:
    network = nn.Linear(3, 3)

    def step(optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        network(torch.ones(1, 3)).sum().backward()
        optimizer.step()

    first = build(network, name, {})
    step(first)
    weights, state = network.weight.detach().clone(), copy.deepcopy(first.state_dict())
    step(first)
    expected = network.weight.detach().clone()
    with torch.no_grad():
        network.weight.copy_(weights)
    second = build(network, name, {})
    second.load_state_dict(state)
    step(second)
    torch.testing.assert_close(network.weight.detach(), expected)


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_starts_full_and_never_rises(name: str) -> None:
    shape = schedule(name, {})
    factors = [warmed_up(shape, step, TOTAL) for step in range(TOTAL + 1)]
    assert factors[0] == pytest.approx(1.0)
    assert all(0 <= b <= a <= 1 for a, b in pairwise(factors))
    assert factors == [warmed_up(shape, step, TOTAL) for step in range(TOTAL + 1)]  # nothing but the step counts


@pytest.mark.parametrize(
    ("name", "options", "half", "end"),
    [
        ("cosine", {}, 0.5, 0.0),
        ("cosine", {"final": 0.2}, 0.6, 0.2),
        ("poly", {}, 0.5**0.9, 0.0),
        ("poly", {"power": 2.0, "final": 0.1}, 0.1 + 0.9 * 0.25, 0.1),
        ("constant", {}, 1.0, 1.0),
    ],
)
def test_schedules_at_half_time_and_at_the_end(name: str, options: dict, half: float, end: float) -> None:
    shape = schedule(name, options)
    assert warmed_up(shape, TOTAL // 2, TOTAL) == pytest.approx(half)
    assert warmed_up(shape, TOTAL, TOTAL) == pytest.approx(end)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [1, 10, TOTAL, 3 * TOTAL])
def test_warming_up_rises_evenly_and_then_follows_the_schedule(name: str, warmup: int) -> None:
    shape = schedule(name, {})
    factors = [warmed_up(shape, step, TOTAL, warmup) for step in range(TOTAL)]
    rise = [b - a for a, b in pairwise(factors[:warmup])]
    assert rise == pytest.approx([1 / (warmup + 1)] * len(rise))
    assert 0 < factors[0] == pytest.approx(1 / (warmup + 1))
    if warmup < TOTAL:
        assert factors[warmup] == pytest.approx(1.0)
        assert factors[-1] == pytest.approx(shape((TOTAL - 1 - warmup) / (TOTAL - warmup)))
    assert all(math.isfinite(factor) for factor in factors)


def test_no_steps_at_all_is_no_division_by_zero() -> None:
    assert warmed_up(schedule("cosine", {}), 0, 0) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("adam", {}, "no optimizer is called `adam`; did you mean `adamw`"),
        ("adamw", {"lr": -1.0}, "train.optimizer: adamw: invalid learning rate"),
        ("adamw", {"momentum": 0.9}, "train.optimizer.momentum: unknown option"),
        ("sgd", {"wieght_decay": 0.1}, "did you mean `weight_decay`"),
        ("adamw", {"betas": 0.9}, "train.optimizer.betas: input should be a valid tuple"),
    ],
)
def test_mistakes_in_an_optimizer(name: str, options: dict, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        build(nn.Linear(2, 2), name, options)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("cosin", {}, "no schedule is called `cosin`; did you mean `cosine`"),
        ("constant", {"power": 1.0}, "schedule `constant` has no options"),
        ("poly", {"powr": 1.0}, "did you mean `power`"),
    ],
)
def test_mistakes_in_a_schedule(name: str, options: dict, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        schedule(name, options)


@pytest.mark.parametrize("table", [OPTIMIZERS, SCHEDULES], ids=lambda table: table.kind)
def test_every_option_says_what_it_does(table) -> None:
    for name in table:
        assert table.summary(name).endswith(".")
        assert all(option.help and option.default is not option.required for option in table.options(name).values())
