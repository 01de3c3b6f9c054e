"""Optimisers learn, schedules are pure functions with known values, and mistakes in a recipe are named."""

import copy
import math
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import nn

from maskwright.core.errors import RecipeError
from maskwright.training import OPTIMIZERS, SCHEDULES
from maskwright.training.optim import build
from maskwright.training.schedules import Moment, schedule, since_better, warmed_up

TOTAL = 100
FALLING = [name for name in SCHEDULES if name not in ("one_cycle", "plateau")]
RATES = {"adagrad": 0.1, "adadelta": 20.0}  # those whose steps shrink, or begin tiny


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_goes_downhill(name: str) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    inputs = torch.randn(64, 4)
    wanted = inputs.sum(1, keepdim=True)
    optimizer = build(network, name, {"lr": RATES.get(name, 0.02)})
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
    optimizer = build(network, name, {"lr": 0.1, "weight_decay": 0.3}, never=["2.weight"])
    held = [p for group in optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for n, p in network.named_parameters() if n != "2.weight"}
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


def test_nesterov_differs_from_plain_momentum_and_rmsprop_takes_its_three_settings() -> None:
    assert build(nn.Linear(2, 2), "nag", {}).defaults["nesterov"]
    assert not build(nn.Linear(2, 2), "sgd", {}).defaults["nesterov"]
    chosen = build(nn.Linear(2, 2), "rmsprop", {"lr": 0.01, "alpha": 0.9, "momentum": 0.9, "eps": 1e-4}).defaults
    assert {"lr": 0.01, "alpha": 0.9, "momentum": 0.9, "eps": 1e-4}.items() <= chosen.items()


def test_layers_have_the_learning_rate_of_the_last_pattern_that_fits() -> None:
    network = nn.ModuleDict({"encoder": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]), "head": nn.Linear(2, 2)})
    optimizer = build(
        network,
        "sgd",
        {"lr": 1.0},
        encoder=network["encoder"],
        encoder_lr=0.1,
        layer_lr={"encoder.*": 0.5, "encoder.1": 0.01, "*.bias": 2.0},
    )
    rate = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    rates = {name: rate[id(p)] for name, p in network.named_parameters()}
    expected = {"encoder.0.weight": 0.5, "encoder.1.weight": 0.01, "head.weight": 1.0}
    assert rates == expected | dict.fromkeys(["encoder.0.bias", "encoder.1.bias", "head.bias"], 2.0)


# ------------------------------------------------------------------------------------------------------------ schedules


def along(name: str, options: dict[str, Any], steps: int = TOTAL, epochs: float = 10.0, warmup: int = 0) -> list[float]:
    """The factors of a training of so many steps and epochs."""
    shape = schedule(name, options)
    moments = [Moment(0.0, epochs * step / steps) for step in range(steps + 1)]
    return [warmed_up(shape, moment, step, steps, warmup) for step, moment in enumerate(moments)]


@pytest.mark.parametrize("name", FALLING)
def test_falling_schedules_start_full_and_never_rise(name: str) -> None:
    factors = along(name, {})
    assert factors[0] == pytest.approx(1.0)
    assert all(0 <= b <= a <= 1 for a, b in pairwise(factors))


@pytest.mark.parametrize("name", SCHEDULES)
def test_nothing_but_the_moment_counts(name: str) -> None:
    assert along(name, {}) == along(name, {})
    assert all(0 <= factor <= 1 for factor in along(name, {}))


@pytest.mark.parametrize(
    ("name", "options", "half", "end"),
    [
        ("cosine", {}, 0.5, 0.0),
        ("cosine", {"final": 0.2}, 0.6, 0.2),
        ("poly", {}, 0.5**0.9, 0.0),
        ("poly", {"power": 2.0, "final": 0.1}, 0.1 + 0.9 * 0.25, 0.1),
        ("constant", {}, 1.0, 1.0),
        ("exponential", {}, 0.1, 0.01),
        ("exponential", {"final": 1e-4}, 0.01, 1e-4),
        ("step", {}, 0.1, 0.01),
        ("step", {"at": [0.25, 0.5, 0.75], "factor": 0.5}, 0.25, 0.125),
        ("step", {"at": [5, 8]}, 0.1, 0.01),
        ("step", {"at": [6]}, 1.0, 0.1),
        ("step", {"every": 2, "factor": 0.5}, 0.25, 0.5**5),
        ("one_cycle", {"pct_start": 0.5}, 1.0, 1 / 25 / 1e4),
        ("plateau", {}, 1.0, 1.0),
    ],
)
def test_schedules_at_half_time_and_at_the_end(name: str, options: dict[str, Any], half: float, end: float) -> None:
    factors = along(name, options)
    assert factors[TOTAL // 2] == pytest.approx(half)
    assert factors[TOTAL] == pytest.approx(end)


@pytest.mark.parametrize("options", [{}, {"pct_start": 0.1, "div_factor": 10.0, "final_div_factor": 100.0}])
def test_one_cycle_is_that_of_torch(options: dict[str, Any]) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=TOTAL + 1, cycle_momentum=False, **options
    )
    rates = []
    for _ in range(TOTAL + 1):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if len(rates) <= TOTAL:
            theirs.step()
    # theirs turns at a step that need not be whole, and counts it from 1 lower
    peak = options.get("pct_start", 0.3) * (TOTAL + 1) - 1
    shape = schedule("one_cycle", {**options, "pct_start": peak / TOTAL})
    assert [shape(Moment(step / TOTAL)) for step in range(TOTAL + 1)] == pytest.approx(rates, abs=1e-9)


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_plateau_is_that_of_torch_with_one_more_validation(patience: int) -> None:
    scores = [0.1, 0.2, 0.2, 0.15, 0.2, 0.19, 0.3, 0.3, 0.3, 0.3, 0.3, 0.29, 0.31, 0.2]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=patience - 1, threshold=1e-4, threshold_mode="abs"
    )
    shape = schedule("plateau", {"factor": 0.5, "patience": patience})
    for number, score in enumerate(scores):
        theirs.step(score)
        ours = shape(Moment(0.0, scores=tuple(scores[: number + 1])))
        assert ours == pytest.approx(optimizer.param_groups[0]["lr"])


def test_plateau_stops_at_the_least_factor() -> None:
    shape = schedule("plateau", {"factor": 0.1, "patience": 1, "min_factor": 0.05})
    assert shape(Moment(0.0, scores=(0.5,) * 10)) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("scores", "tolerance", "expected"),
    [([], 0.0, 0), ([0.5], 0.0, 0), ([0.5, 0.5], 0.0, 1), ([0.5, 0.6, 0.55], 0.0, 1), ([0.5, 0.55, 0.6], 0.2, 2)],
)
def test_idle_validations_are_counted_from_the_best(scores: list[float], tolerance: float, expected: int) -> None:
    assert since_better(scores, tolerance)[-1] == expected


@pytest.mark.parametrize("name", FALLING)
@pytest.mark.parametrize("warmup", [1, 10, TOTAL, 3 * TOTAL])
def test_warming_up_rises_evenly_and_then_follows_the_schedule(name: str, warmup: int) -> None:
    shape = schedule(name, {})
    factors = along(name, {}, warmup=warmup)[:TOTAL]
    rise = [b - a for a, b in pairwise(factors[:warmup])]
    assert rise == pytest.approx([1 / (warmup + 1)] * len(rise))
    assert 0 < factors[0] == pytest.approx(1 / (warmup + 1))
    if warmup < TOTAL:
        assert factors[warmup] == pytest.approx(1.0)
        assert factors[-1] == pytest.approx(shape(Moment((TOTAL - 1 - warmup) / (TOTAL - warmup))))
    assert all(math.isfinite(factor) for factor in factors)


def test_no_steps_at_all_is_no_division_by_zero() -> None:
    assert warmed_up(schedule("cosine", {}), Moment(0.0), 0, 0) == pytest.approx(1.0)


# ------------------------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("adamm", {}, "no optimizer is called `adamm`; did you mean `adam"),
        ("adamw", {"lr": -1.0}, "train.optimizer: adamw: invalid learning rate"),
        ("nag", {"momentum": 0.0}, "train.optimizer: nag: nesterov momentum requires a momentum"),
        ("adamw", {"momentum": 0.9}, "train.optimizer.momentum: unknown option"),
        ("sgd", {"wieght_decay": 0.1}, "did you mean `weight_decay`"),
        ("adamw", {"betas": 0.9}, "train.optimizer.betas: input should be a valid tuple"),
    ],
)
def test_mistakes_in_an_optimizer(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        build(nn.Linear(2, 2), name, options)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"layer_lr": {"encodr.*": 0.1}}, r"train.layer_lr: `encodr.\*` is no layer .*; did you mean `encoder"),
        ({"layer_lr": {"xyz": 0.1}}, "`xyz` is no layer of this network; its layers are `encoder`, `head`"),
        ({"never": ["hed"]}, "train.freeze: `hed` is no layer .*; did you mean `head`"),
        ({"never": ["*"]}, "train.freeze: all layers are frozen"),
    ],
)
def test_layers_that_are_not_there(settings: dict[str, Any], words: str) -> None:
    network = nn.ModuleDict({"encoder": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    with pytest.raises(RecipeError, match=words):
        build(network, "sgd", {}, **settings)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("cosin", {}, "no schedule is called `cosin`; did you mean `cosine`"),
        ("constant", {"power": 1.0}, "schedule `constant` has no options"),
        ("poly", {"powr": 1.0}, "did you mean `power`"),
        ("step", {"at": [3], "every": 2}, "train.schedule: step: give `at` or `every`, not both"),
        ("step", {"factor": -1.0}, "`factor` goes from 0 to 1, not -1.0"),
        ("cosine", {"final": -1.0}, "`final` goes from 0 to 1, not -1.0"),
        ("cosine", {"final": math.nan}, "`final` goes from 0 to 1, not nan"),
        ("poly", {"final": -2.0}, "`final` goes from 0 to 1, not -2.0"),
        ("poly", {"power": -1.0}, "`power` must be above 0, not -1.0"),
        ("exponential", {"final": 100.0}, "`final` must be above 0 and at most 1, not 100.0"),
        ("plateau", {"min_factor": 7.0}, "`min_factor` goes from 0 to 1, not 7.0"),
        ("plateau", {"tolerance": -1.0}, "`tolerance` is 0 or more"),
        ("step", {"at": [0]}, "`at` must be above 0"),
        ("exponential", {"final": 0}, "`final` must be above 0"),
        ("one_cycle", {"pct_start": 1.0}, "`pct_start` goes from 0 to below 1"),
        ("plateau", {"factor": 1.5}, "`factor` lies between 0 and 1"),
    ],
)
def test_mistakes_in_a_schedule(name: str, options: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        schedule(name, options)


@pytest.mark.parametrize("table", [OPTIMIZERS, SCHEDULES], ids=lambda table: table.kind)
def test_every_option_says_what_it_does(table: Any) -> None:
    for name in table:
        assert table.summary(name).endswith(".")
        assert all(option.help and option.default is not option.required for option in table.options(name).values())


def test_rates_that_are_all_zero_are_refused() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 2, 1))
    with pytest.raises(RecipeError, match=r"train\.layer_lr: all factors are 0"):
        build(network, "adamw", {}, layer_lr={"*": 0.0})
    assert len(build(network, "adamw", {}, layer_lr={"0.*": 0.0}).param_groups) == 4


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_layers_may_join_later(name: str) -> None:
    """As in stages: the first steps are taken without them."""
    network = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = build(network, name, {"lr": RATES.get(name, 0.02)})
    before = network[0].weight.detach().clone()
    for trains in (False, False, True, True):
        network[0].requires_grad_(trains)
        optimizer.zero_grad()
        network(torch.ones(2, 4)).sum().backward()
        optimizer.step()
        assert torch.equal(network[0].weight, before) or trains
    assert not torch.equal(network[0].weight, before)
