"""The loop on a network of a few weights: an interrupted training ends as an uninterrupted one; every knob does its work."""

import itertools
import re
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from maskwright.core import events
from maskwright.core.errors import Interrupted, ModelError, RecipeError
from maskwright.core.recipe import Training
from maskwright.models.device import choose
from maskwright.models.segmenter import Segmenter, wrap
from maskwright.training import layers, loop, optim, plan, schedules
from maskwright.training.averaging import Average
from maskwright.training.batch import Batch
from maskwright.training.batch_size import largest
from maskwright.training.checkpoint import Position
from maskwright.training.plan import Plan
from maskwright.training.watch import Validated

SAMPLES, BATCH, SIDE = 22, 4, 8
DEVICE = choose("cpu", "fp32")
Hook = Callable[[int, int], float]


class Network(nn.Module):
    """An encoder with BatchNorm and dropout (so that random numbers count), and a head."""

    stride = 1

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(images))
        return logits


class Batches:
    """Samples that depend on the epoch, as augmentation makes them. hook: (epoch, batch) -> what its images are times."""

    def __init__(self, hook: Hook = lambda epoch, batch: 1.0, batch: int = BATCH, leftover: bool = True):
        self.hook, self.batch = hook, batch
        self.num_used = SAMPLES if leftover else SAMPLES // batch * batch

    def __len__(self) -> int:
        return -(-self.num_used // self.batch)

    def epoch(self, number: int, first: int = 0) -> Iterator[Batch]:
        random = torch.Generator().manual_seed(number)
        images = torch.randint(0, 256, (SAMPLES, 3, SIDE, SIDE), generator=random).float()
        targets = (images.mean(1) > 128).to(torch.uint8)
        ids = [f"{number}/{row}" for row in range(SAMPLES)]
        for index in range(first, len(self)):
            rows = slice(index * self.batch, min((index + 1) * self.batch, self.num_used))
            yield Batch(images[rows] * self.hook(number, index), targets[rows], tuple(ids[rows]))


def criterion(logits: Tensor, targets: Tensor) -> dict[str, Tensor]:
    return {"cross_entropy": nn.functional.cross_entropy(logits, targets)}


def a_segmenter(network: nn.Module | None = None) -> Segmenter:
    torch.manual_seed(0)
    return wrap(network or Network(), criterion=criterion)


def run(
    folder: Path,
    settings: dict[str, Any],
    *,
    loader: Batches | None = None,
    segmenter: Segmenter | None = None,
    validate: Callable[[Segmenter], float] | None = None,
    val_loss: float = 0.0,
    resume: bool = False,
) -> tuple[Position, Segmenter]:
    """Trains as `assemble` would have it."""
    given = Training(**({"epochs": 6} | settings if "stages" not in settings else settings))
    loader, segmenter = loader or Batches(), segmenter or a_segmenter()
    folder.mkdir(exist_ok=True)
    optimizer = optim.build(
        segmenter.network, given.optimizer.name, given.optimizer.options, layer_lr=given.layer_lr, never=given.freeze
    )
    made = Plan(
        plan.stretches(given, given.epochs or 0),
        len(loader),
        schedules.schedule(given.schedule.name, given.schedule.options),
        folder,
        given.validate_every or 1,
        given.warmup,
        given.accumulate,
        given.early_stopping,
        resume,
    )
    score = validate or coarse_score

    def validated() -> Validated:
        return Validated(score(segmenter), {"val_miou": 0.0, "val_loss": val_loss})

    found = loop.train(segmenter, loader, optimizer, DEVICE, made, given, validated)  # type: ignore[arg-type]
    return found, segmenter


def coarse_score(segmenter: Segmenter) -> float:
    """A score of the weights that is often the same twice in a row."""
    segmenter.eval()
    batch = next(Batches().epoch(99))
    with torch.inference_mode():
        loss = segmenter(batch.images, batch.targets.long())["cross_entropy"]
    return round(1 - float(loss), 1)


def state(folder: Path) -> dict[str, Any]:
    """All that a checkpoint holds but times."""
    held: dict[str, Any] = torch.load(folder / "last.pt", weights_only=True)
    held["position"] = {k: v for k, v in held["position"].items() if k not in ("seconds", "history")}
    return held


def assert_equal(actual: Any, expected: Any, path: str = "") -> None:
    """Bit for bit."""
    if isinstance(expected, Tensor):
        assert torch.equal(actual, expected), path
    elif isinstance(expected, dict):
        assert actual.keys() == expected.keys(), path
        for key, value in expected.items():
            assert_equal(actual[key], value, f"{path}.{key}")
    elif isinstance(expected, list | tuple):
        assert len(actual) == len(expected), path
        for number, (one, other) in enumerate(zip(actual, expected, strict=True)):
            assert_equal(one, other, f"{path}.{number}")
    else:
        assert actual == expected, path


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ema": {"ema": 0.9},
    "accumulate": {"accumulate": 4},
    "clip": {"clip": 0.1},
    "plateau": {"schedule": {"name": "plateau", "patience": 1, "factor": 0.5}},
    "stages": {"stages": [{"epochs": 2, "freeze": ["encoder"]}, {"epochs": 3, "lr": 0.3}, {"epochs": 1, "lr": 0.1}]},
    "freeze": {"freeze": ["encoder.0"], "warmup": 1.5},
    "momentum": {"optimizer": {"name": "rmsprop", "momentum": 0.9}},
    "layer_lr": {"layer_lr": {"encoder.*": 0.1}, "schedule": "one_cycle"},
    "early stopping": {"early_stopping": {"patience": 2, "min_epochs": 3}},
    "every second": {"validate_every": 2},
    "all": {
        "ema": 0.99,
        "accumulate": 2,
        "clip": 1.0,
        "schedule": {"name": "plateau", "patience": 1},
        "stages": [{"epochs": 2, "freeze": ["encoder"]}, {"epochs": 4, "lr": 0.5}],
        "early_stopping": {"patience": 3, "min_epochs": 1},
        "warmup": 1.0,
    },
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("how", ["killed", "ctrl-c"])
def test_an_interrupted_training_ends_as_an_uninterrupted_one(
    settings: dict[str, Any], how: str, tmp_path: Path
) -> None:
    settings = {"schedule": "cosine", "optimizer": {"name": "adamw", "lr": 0.02}} | settings
    run(tmp_path / "whole", settings)

    def interrupt(epoch: int, batch: int) -> float:
        if (epoch, batch) == (2, 3):
            if how == "killed":
                raise RuntimeError("killed")
            signal.raise_signal(signal.SIGINT)
        return 1.0

    with pytest.raises(RuntimeError if how == "killed" else Interrupted):
        run(tmp_path / "cut", settings, loader=Batches(interrupt))
    torch.manual_seed(7)
    run(tmp_path / "cut", settings, resume=True)
    assert_equal(state(tmp_path / "cut"), state(tmp_path / "whole"))
    best, expected = (torch.load(tmp_path / name / "best.pt", weights_only=True) for name in ("cut", "whole"))
    assert_equal(best, expected)


@pytest.mark.parametrize("moment", ["last step of an epoch", "validation", "last validation"])
def test_ctrl_c_at_the_end_of_an_epoch_stops_after_it(moment: str, tmp_path: Path) -> None:
    settings = {"schedule": "cosine", "epochs": 4}
    whole, _ = run(tmp_path / "whole", settings)
    stops_at, validations = (
        {"last step of an epoch": 2, "validation": 2, "last validation": 4}[moment],
        itertools.count(1),
    )

    def step(epoch: int, batch: int) -> float:
        if moment == "last step of an epoch" and (epoch, batch) == (1, len(Batches()) - 1):
            signal.raise_signal(signal.SIGINT)
        return 1.0

    def score(segmenter: Segmenter) -> float:
        if next(validations) == stops_at and moment != "last step of an epoch":
            signal.raise_signal(signal.SIGINT)
        return coarse_score(segmenter)

    with pytest.raises(Interrupted):
        run(tmp_path / "cut", settings, loader=Batches(step), validate=score)
    assert torch.load(tmp_path / "cut" / "last.pt", weights_only=True)["position"]["epoch"] == stops_at
    at, _ = run(tmp_path / "cut", settings, resume=True)
    assert_equal(state(tmp_path / "cut"), state(tmp_path / "whole"))
    assert [(row["epoch"], row["train_loss"]) for row in at.history] == [
        (row["epoch"], row["train_loss"]) for row in whole.history
    ]


def test_accumulated_batches_are_one_large_batch(tmp_path: Path) -> None:
    """Also the last, smaller ones: their images count equally. Without BatchNorm, which looks at batches."""
    settings = {"epochs": 2, "optimizer": {"name": "sgd", "lr": 0.1}}

    class Plain(nn.Sequential):
        stride = 1

    ends = []
    for size, accumulate in ((8, 1), (4, 2), (2, 4), (1, 8)):
        torch.manual_seed(0)
        segmenter = a_segmenter(Plain(nn.Conv2d(3, 2, 3, padding=1)))
        at, _ = run(
            tmp_path / str(size),
            {**settings, "accumulate": accumulate},
            loader=Batches(batch=size),
            segmenter=segmenter,
        )
        assert at.step == 2 * 3
        assert at.samples == 2 * SAMPLES
        ends.append(segmenter.network[0].weight.detach())
    for end in ends[1:]:
        torch.testing.assert_close(end, ends[0])


def test_steps_are_no_longer_than_the_clip(tmp_path: Path) -> None:
    """With SGD of rate 1 a step is its gradient."""
    settings = {"epochs": 1, "optimizer": {"name": "sgd", "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0}}
    for clip in (None, 1e-3):
        segmenter = a_segmenter()
        before = [p.detach().clone() for p in segmenter.parameters()]
        run(tmp_path / str(clip), {**settings, "clip": clip, "schedule": "constant"}, segmenter=segmenter)
        moved = (
            sum(float((p.detach() - b).square().sum()) for p, b in zip(segmenter.parameters(), before, strict=True))
            ** 0.5
        )
        assert (moved <= len(Batches()) * 1e-3 * 1.01) == (clip is not None)


def test_what_a_stage_freezes_stays_as_it_is_with_its_statistics(tmp_path: Path) -> None:
    seen = []

    def look(segmenter: Segmenter) -> float:
        seen.append({name: value.clone() for name, value in segmenter.network.state_dict().items()})
        return 0.0

    stages = [{"epochs": 2, "freeze": ["encoder"]}, {"epochs": 2}]
    segmenter = a_segmenter()
    start = {name: value.clone() for name, value in segmenter.network.state_dict().items()}
    run(tmp_path, {"stages": stages}, segmenter=segmenter, validate=look)
    for name, value in start.items():
        same = [torch.equal(value, at[name]) for at in seen]
        assert same == ([True, True, False, False] if name.startswith("encoder") else [False] * 4), name


def test_the_schedule_runs_anew_in_every_stage() -> None:
    settings = Training(stages=[{"epochs": 2}, {"epochs": 4, "lr": 0.5}], schedule="cosine", warmup=1.0)
    made = Plan(plan.stretches(settings, 0), 10, schedules.schedule("cosine", {}), Path(), warmup=1.0)
    factors = [made.factor(Position(epoch=step // 10, step=step)) for step in range(60)]
    assert made.epochs == 6
    for first, count, factor in ((0, 20, 1.0), (20, 40, 0.5)):
        stage = [value / factor for value in factors[first : first + count]]
        assert stage[:10] == pytest.approx([(step + 1) / 11 for step in range(10)])
        assert stage[10] == pytest.approx(1.0)
        assert stage[10:] == sorted(stage[10:], reverse=True)
        assert stage[-1] < 0.05


# ------------------------------------------------------------------------------------------------------------- averages


def test_the_average_is_the_warmed_up_one_and_gives_the_weights_back() -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))
    average = Average(module, 0.95)
    expected = {name: value.clone() for name, value in module.state_dict().items()}
    for number in range(1, 30):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter))
        module(torch.randn(2, 1, 3, 3))
        average.update(number)
        keep = min(0.95, (1 + number) / (10 + number))
        for name, value in module.state_dict().items():
            expected[name] = keep * expected[name] + (1 - keep) * value if value.is_floating_point() else value.clone()
    own = {name: value.clone() for name, value in module.state_dict().items()}
    with average.applied():
        torch.testing.assert_close(dict(module.state_dict()), expected)
    assert_equal(dict(module.state_dict()), own)


def test_averaged_weights_are_validated_and_kept(tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def look(segmenter: Segmenter) -> float:
        seen.append(segmenter.network.head.weight.detach().clone())
        return float(len(seen))

    _, segmenter = run(tmp_path, {"ema": 0.9}, validate=look)
    best = torch.load(tmp_path / "best.pt", weights_only=True)["network.head.weight"]
    last = torch.load(tmp_path / "last.pt", weights_only=True)
    assert torch.equal(best, seen[-1])
    assert torch.equal(best, last["average"]["network.head.weight"])
    assert torch.equal(segmenter.network.head.weight, last["segmenter"]["network.head.weight"])
    assert not torch.equal(best, segmenter.network.head.weight)


# --------------------------------------------------------------------------------------------------------------- ending


@pytest.mark.parametrize(
    ("scores", "stopping", "epochs"),
    [
        ([0.1, 0.2, 0.2, 0.2, 0.2, 0.2], {"patience": 2, "min_epochs": 0}, 4),
        ([0.1, 0.2, 0.2, 0.2, 0.2, 0.2], {"patience": 2, "min_epochs": 5}, 5),
        ([0.1, 0.2, 0.2, 0.3, 0.3, 0.4], {"patience": 2, "min_epochs": 0}, 6),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], {"patience": 2, "min_epochs": 0, "tolerance": 0.15}, 6),
        ([0.1, 0.2, 0.3, 0.4, 0.5, 0.6], {"patience": 2, "min_epochs": 0, "tolerance": 0.25}, 3),
    ],
)
def test_training_stops_when_the_score_no_longer_rises(
    scores: list[float], stopping: dict[str, Any], epochs: int, tmp_path: Path
) -> None:
    told = iter(scores)
    at, _ = run(tmp_path, {"early_stopping": stopping}, validate=lambda _: next(told))
    assert at.epoch == epochs
    assert bool(at.ended) == (epochs < len(scores))
    assert at.best == max(scores[:epochs])
    again, _ = run(tmp_path, {"early_stopping": stopping}, resume=True)
    assert (again.epoch, again.step) == (at.epoch, at.step)


def test_every_stage_is_announced_once_when_it_begins(tmp_path: Path) -> None:
    told: list[events.Event] = []
    stages = [{"epochs": 2, "freeze": ["encoder"]}, {"epochs": 1, "lr": 0.5}]
    with events.listening(told.append):
        run(tmp_path / "a", {"stages": stages})
        run(tmp_path / "b", {"epochs": 2})
    heard = [e.fields["text"] if e.name == "say" else e.fields["epoch"] for e in told if e.name in ("say", "epoch")]
    first, *rest = heard[:5]
    rate = re.search(r"lr (\S+),", first)
    assert rate
    assert first == f"stage 1 of 2: 2 epochs, lr {rate[1]}, 2 of 6 tensors trained, frozen: encoder"
    assert rest == [1, 2, f"stage 2 of 2: 1 epoch, lr {float(rate[1]) / 2:g}, 6 of 6 tensors trained", 3]
    assert heard[5:] == [1, 2]


def test_stages_before_the_last_run_to_their_end(tmp_path: Path) -> None:
    settings = {"stages": [{"epochs": 4}, {"epochs": 4}], "early_stopping": {"patience": 1, "min_epochs": 0}}
    at, _ = run(tmp_path, settings, validate=lambda _: 0.5)
    assert at.epoch == 6
    assert "stopped early after epoch 6 of 8: no better score in 1 validation" in at.ended


def test_without_validation_the_last_weights_are_kept(tmp_path: Path) -> None:
    segmenter, loader, settings = a_segmenter(), Batches(), Training(epochs=2)
    optimizer = optim.build(segmenter.network, "sgd", {})
    made = Plan(plan.stretches(settings, 2), len(loader), schedules.schedule("constant", {}), tmp_path)
    at = loop.train(segmenter, loader, optimizer, DEVICE, made, settings, None)  # type: ignore[arg-type]
    assert at.best_epoch == 2
    assert at.scores == []
    assert_equal(torch.load(tmp_path / "best.pt", weights_only=True), dict(segmenter.state_dict()))


# ------------------------------------------------------------------------------------------------------------ divergence


def bad_at(where: tuple[int, int], times: int) -> Hook:
    left = itertools.count()

    def hook(epoch: int, batch: int) -> float:
        return float("nan") if (epoch, batch) == where and next(left) < times else 1.0

    return hook


@pytest.mark.parametrize("where", [(0, 0), (0, 4), (3, 2)])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_a_loss_that_is_no_number_sends_the_training_back_once(
    where: tuple[int, int], ema: float, tmp_path: Path
) -> None:
    told: list[events.Event] = []
    with events.listening(told.append):
        at, segmenter = run(tmp_path / "bad", {"ema": ema, "schedule": "constant"}, loader=Batches(bad_at(where, 1)))
    warned = [event for event in told if event.name == "warn"]
    assert [event.fields["ids"] for event in warned] == [
        [f"{where[0]}/{row}" for row in range(BATCH * where[1], BATCH * (where[1] + 1))]
    ]
    assert all(id in warned[0].fields["text"] for id in warned[0].fields["ids"])
    assert (at.epoch, at.rate, at.rescues) == (6, 0.5, 1)
    assert at.step == 6 * len(Batches())
    assert all(bool(value.isfinite().all()) for value in segmenter.state_dict().values())
    rates = [event.fields["lr"] for event in told if event.name == "epoch"]
    assert rates == pytest.approx([rates[0] * (1 if epoch < where[0] else 0.5 ** (where[0] > 0)) for epoch in range(6)])


@pytest.mark.parametrize("resumed", [False, True])
def test_the_second_time_it_stops_with_advice(resumed: bool, tmp_path: Path) -> None:
    settings = {"epochs": 4}
    if resumed:

        def killed_later(epoch: int, batch: int) -> float:
            if (epoch, batch) == (2, 1):
                raise RuntimeError("killed")
            return bad(epoch, batch)

        bad = bad_at((1, 2), 1)
        with pytest.raises(RuntimeError):
            run(tmp_path, settings, loader=Batches(killed_later))
    with pytest.raises(ModelError, match=r"no longer a number .*batch: 3/4, 3/5.*; lower `train\.optimizer\.lr`"):
        run(tmp_path, settings, loader=Batches(bad_at((3, 1), 9)), resume=resumed)


@pytest.mark.parametrize("when", ["at once", "in validation"])
def test_going_back_is_remembered_even_when_killed_right_after(when: str, tmp_path: Path) -> None:
    went_back = itertools.count()

    def killed_after_going_back(epoch: int, batch: int) -> float:
        if (epoch, batch) == (1, 0) and next(went_back) == 1:
            raise RuntimeError("killed")
        return float("nan") if (epoch, batch) == (1, 2) else 1.0

    with pytest.raises(RuntimeError, match="killed"):
        run(tmp_path, {"epochs": 3}, loader=Batches(killed_after_going_back))
    again = Batches(bad_at((1, 2), 9)) if when == "at once" else Batches()
    with pytest.raises(ModelError, match="no longer a number"):
        run(
            tmp_path,
            {"epochs": 3},
            loader=again,
            resume=True,
            val_loss=float("nan") if when == "in validation" else 0.0,
        )


def test_a_validation_loss_that_is_no_number_sends_the_training_back(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no longer a number \(epoch 1, step 6, batch: 0/20, 0/21\), as it was"):
        run(tmp_path, {"epochs": 2}, val_loss=float("nan"))
    assert torch.load(tmp_path / "last.pt", weights_only=True)["position"]["rescues"] == 1


def test_infinite_weights_are_noticed_before_they_are_saved(tmp_path: Path) -> None:
    def explode(segmenter: Segmenter) -> float:
        with torch.no_grad():  # as if the last step had done it, which no loss has shown yet
            segmenter.network.head.weight.mul_(float("inf"))
        return 0.0

    with pytest.raises(ModelError, match="no longer a number"):
        run(tmp_path, {"epochs": 4}, validate=explode)


# -------------------------------------------------------------------------------------------------- layers, batch sizes


def test_patterns_mean_layers_and_all_below_them() -> None:
    network = Network()
    everything = {name for name, _ in network.named_parameters()}
    assert layers.matching(network, ["encoder"], "x") == {n for n in everything if n.startswith("encoder.")}
    assert layers.matching(network, ["encoder.*"], "x") == layers.matching(network, ["encoder"], "x")
    assert layers.matching(network, ["*.bias", "head"], "x") == {n for n in everything if "bias" in n or "head" in n}
    assert layers.matching(network, [], "x") == set()
    with pytest.raises(RecipeError, match=r"train.stages.1.freeze: `encoder.9` is no layer"):
        layers.freeze(network, ["encoder.9"], "train.stages.1.freeze")


@dataclass
class Memory:
    """Bytes that a batch takes, up to the batch at which they run out."""

    fixed: int
    each: int
    fails_at: int
    tried: int = 0

    def __call__(self, batch: int) -> int:
        self.tried = max(self.tried, batch)
        if batch >= self.fails_at:
            raise MemoryError
        return self.fixed + self.each * batch


def test_an_automatic_batch_fits_and_is_hardly_smaller_than_need_be() -> None:
    memories = itertools.product((0, 1000), (1, 7, 50), (3, 20, 10**9))
    for numbers, limit, most in itertools.product(memories, (1050, 2000, 100_000), (1, 3, 16, 128)):
        memory = Memory(*numbers)
        found = largest(memory, limit, most)
        foretold = max((b for b in range(1, most + 1) if memory.fixed + memory.each * b <= limit), default=1)
        if memory.tried >= memory.fails_at:  # only what was tried is known to fit
            assert (memory.fails_at - 1) / 2 <= found < memory.fails_at
        else:
            assert foretold // 4 * 4 <= found <= foretold


def test_the_plan_of_a_recipe_without_stages_is_one_stage() -> None:
    settings = Training(epochs=3, freeze=["encoder"])
    assert plan.stretches(settings, 3) == (replace(plan.Stretch(0, 3), freeze=("encoder",)),)


def test_where_nothing_can_be_scored_the_last_weights_are_kept(tmp_path: Path) -> None:
    at, segmenter = run(tmp_path, {"epochs": 3}, validate=lambda segmenter: None)
    assert (at.best_epoch, at.scores) == (3, [])
    kept = torch.load(tmp_path / "best.pt", weights_only=True)
    assert all(torch.equal(kept[name], value) for name, value in segmenter.state_dict().items())


def test_of_weights_that_know_nothing_the_last_are_kept(tmp_path: Path) -> None:
    told = iter([0.0, 0.0, 0.5, 0.5, 0.0])
    at, _ = run(tmp_path, {"epochs": 5}, validate=lambda segmenter: next(told))
    assert (at.best, at.best_epoch) == (0.5, 3)
    at, _ = run(tmp_path / "zero", {"epochs": 3}, validate=lambda segmenter: 0.0)
    assert (at.best, at.best_epoch) == (0.0, 3)
