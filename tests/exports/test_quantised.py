"""Layers go back to float32 in the order of what they cost, as few as the judge asks for, who is asked seldom."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from maskwright.bundles.bundle import Description
from maskwright.core.errors import ModelError
from maskwright.core.recipe import build as recipe
from maskwright.data import synthetic
from maskwright.data.prepare import gather
from maskwright.exports import quantised
from maskwright.exports.certificate import Judge
from maskwright.exports.quantised import Found
from maskwright.models.segmenter import wrap
from maskwright.prediction import scoring

COSTS = {f"layer{index}": 0.01 * ((7 * index) % 31 + 1) for index in range(31)}  # all different, in no order


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Networks that are tuples of the layers in float32; what one changes is the sum of what the others cost."""

    def check(model: tuple[str, ...], most: int | None = None) -> Found:
        changed = sum(max(cost, 0) for name, cost in COSTS.items() if name not in model)
        return Found(changed, 1.0, sum(cost for name, cost in COSTS.items() if name not in model))

    def in_float(model: tuple[str, ...], trained: object, names: Sequence[str]) -> tuple[str, ...]:
        return (*model, *names)

    monkeypatch.setattr(quantised, "layers", lambda model: list(COSTS))
    monkeypatch.setattr(quantised, "in_float", in_float)
    return check


@pytest.mark.parametrize("needed", [0, 1, 2, 3, 5, 8, 13, 16])
def test_as_few_as_are_needed_go_back_and_the_judge_is_asked_seldom(pretended: Any, needed: int) -> None:
    asked: list[int] = []

    def holds(model: Any, found: Found, back: int) -> bool:
        assert len(model) == back
        assert found == pretended(model)
        asked.append(back)
        return back >= needed

    model, found, put_back = quantised.within((), None, pretended, holds)  # type: ignore[arg-type]
    costliest = sorted(COSTS, key=lambda name: -COSTS[name])[:needed]
    assert list(model) == [step.layer for step in put_back] == costliest  # type: ignore[call-overload]
    assert found == pretended(model)
    assert len(asked) <= 3 + 2 * math.ceil(math.log2(needed + 1))
    assert len(set(asked)) == len(asked)
    for step in put_back:
        assert step.before - step.after == pytest.approx(COSTS[step.layer])


@pytest.mark.parametrize("helping", [31, 4, 0])
def test_half_of_the_layers_is_the_most(pretended: Any, monkeypatch: pytest.MonkeyPatch, helping: int) -> None:
    """Layers that do not help stay in 8 bits."""
    for name in list(COSTS)[helping:]:
        monkeypatch.setitem(COSTS, name, -1.0)
    asked: list[int] = []

    def holds(model: Any, found: Found, back: int) -> bool:
        asked.append(back)
        return back == len(COSTS)

    with pytest.raises(ModelError, match=rf"even with {min(helping, 16)} of 31 layers") as refused:
        quantised.within((), None, pretended, holds)  # type: ignore[arg-type]
    assert "--max-drop" in str(refused.value)
    assert max(asked[2:]) == min(helping, 16)


def test_where_all_layers_would_not_do_none_is_measured(pretended: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def holds(model: Any, found: Found, back: int) -> bool:
        asked.append(back)
        return False

    with pytest.raises(ModelError, match="even with 31 of 31 layers"):
        quantised.within((), None, pretended, holds)  # type: ignore[arg-type]
    assert asked == [0, 31]


def test_a_judge_scores_the_trained_model_once_and_every_other_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from small_networks import Small

    from maskwright.exports.source import Source

    labelled = gather(recipe({"data": str(synthetic.make(tmp_path / "photos", num=3, size=(40, 48)))})).inspected.data
    known = Description(
        labelled.classes, ((9, 9, 9),) * len(labelled.classes), (32, 32), "squash", {"name": "small"}, "unit"
    )
    source = Source(wrap(Small(), "unit").eval(), known)
    scored: list[Any] = []
    evaluate = scoring.evaluate

    def counted(one: Any, *rest: Any, **more: Any) -> Any:
        scored.append(one)
        return evaluate(one, *rest, **more)

    monkeypatch.setattr(scoring, "evaluate", counted)
    judge = Judge(source.predictor, [], labelled)
    others = [source.running(source.network, f"runtime {index}") for index in range(2)]
    assert [judge(other) for other in (*others, *others)] == [0.0] * 4
    assert sorted(map(id, scored)) == sorted(map(id, (source.predictor, *others)))
