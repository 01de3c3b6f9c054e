"""In a notebook: one bar in place for each piece of work, lines as text, and nothing where no kernel runs."""

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from maskwright.core import events, notebook, terminal


class Handle:
    """What IPython's `display(..., display_id=True)` gives."""

    def __init__(self, shown: list[str]):
        self.shown = shown

    def update(self, html: str) -> None:
        self.shown[-1] = html


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A kernel that keeps what is displayed: one entry a bar, in the state it was drawn last."""
    shown: list[str] = []

    def display(html: str, display_id: bool) -> Handle:
        shown.append(html)
        return Handle(shown)

    module = SimpleNamespace(get_ipython=lambda: SimpleNamespace(kernel=object()))
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(HTML=str, display=display))
    monkeypatch.setattr(notebook, "PATIENCE", 0.0)
    monkeypatch.setattr(notebook, "EVERY", 0.0)
    return shown


def walk(count: int, label: str, monkeypatch: pytest.MonkeyPatch, **total: Any) -> None:
    for number in range(count + 1):
        events.emit("progress", label=label, done=number, unit="images", **total)
    events.emit("progress", label=label, done=count, unit="images", ended=True, **total)


def test_one_bar_a_label_updated_in_place(
    screen: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with terminal.shown():
        events.say("device: cpu")
        events.warn("few images")
        walk(3, "predict <b>", monkeypatch, total=3)
        walk(2, "count", monkeypatch, total=None)
    assert len(screen) == 2
    assert 'value="3" max="3"' in screen[0]
    assert "predict &lt;b&gt;" in screen[0]
    assert "left" not in screen[0], "what is done has no time left"
    assert "<progress" not in screen[1]
    out = capsys.readouterr()
    assert out.out == "device: cpu\nwarning: few images\n"
    assert out.err == ""


def test_short_work_draws_nothing(screen: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notebook, "PATIENCE", 60.0)
    with terminal.shown():
        walk(3, "quick", monkeypatch, total=3)
    assert screen == []


def test_elsewhere_it_is_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not notebook.running()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: None))
    assert not notebook.running()
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: SimpleNamespace()))
    assert not notebook.running(), "an IPython prompt is a terminal"


def test_a_bar_says_how_long_it_takes() -> None:
    text = notebook.html("train", 5, 20, elapsed=10.0, left=30.0, note="loss 0.5 < 1")
    assert "5 of 20 · 10 s, about 30 s left" in text
    assert "loss 0.5 &lt; 1" in text
