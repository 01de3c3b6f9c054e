"""`maskwright explain`: what every key of a recipe means and which options every shelf's entry has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from maskwright.core.registry import Registry


@dataclass(frozen=True)
class Explained:
    """title, one paragraph, and rows of (name, type, default, help)."""

    title: str
    text: str
    rows: list[dict[str, Any]]
    next: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {"title": self.title, "text": self.text, "rows": self.rows}

    def show(self, console: Console) -> None:
        from rich.markup import escape
        from rich.table import Table

        console.print(f"[bold]{escape(self.title)}[/]")
        if self.text:
            console.print(escape(self.text))
        if not self.rows:
            return
        table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
        table.add_column(no_wrap=True, style="cyan")
        table.add_column(style="dim")
        table.add_column()
        for row in self.rows:
            kind = f"{row.get('type', '')}{'' if row.get('default') is None else ' = ' + str(row['default'])}".strip()
            table.add_row(escape(row["name"]), escape(kind), escape(row["help"]))
        console.print(table)


def explain(topic: str = "recipe", name: str | None = None) -> Explained:
    """Explain recipe keys, or the entries of a shelf and their options.

    Parameters
    ----------
    topic
        recipe, recipes (those that are shipped), model, loss, optimizer, schedule, augment,
        operation (what a list in `augment` may hold), mix, format, convention or exporter.
    name
        one entry of that shelf, as in `maskwright explain model unet`.
    """
    from maskwright.core.errors import RecipeError
    from maskwright.core.registry import suggestion

    if topic == "recipe":
        return _recipe() if name is None else _shipped(name)
    if topic == "recipes":
        return _shipped(name)
    shelves = _shelves()
    topic = topic.removesuffix("s") if topic.removesuffix("s") in shelves else topic
    if topic not in shelves:
        raise RecipeError(f"nothing is called `{topic}`", place="explain", hint=suggestion(topic, ["recipe", *shelves]))
    if topic == "augment" and name in shelves["operation"]:  # a recipe's `augment` takes them too
        topic = "operation"
    table = shelves[topic]
    return _shelf(topic, table) if name is None else _entry(topic, name, table)


def _shelves() -> dict[str, Registry]:
    """Every table that a person may ask about; the tables alone import nothing heavy."""
    from maskwright.data.formats import FORMATS
    from maskwright.export import EXPORTERS
    from maskwright.metrics import CONVENTIONS
    from maskwright.models import MODELS
    from maskwright.training import AUGMENTS, LOSSES, MIXES, OPERATIONS, OPTIMIZERS, SCHEDULES

    return {
        "model": MODELS,
        "loss": LOSSES,
        "optimizer": OPTIMIZERS,
        "schedule": SCHEDULES,
        "augment": AUGMENTS,
        "operation": OPERATIONS,
        "mix": MIXES,
        "format": FORMATS,
        "convention": CONVENTIONS,
        "exporter": EXPORTERS,
    }


def _recipe() -> Explained:
    from maskwright.core.recipe_text import described_keys

    rows = [
        {"name": key, "type": kind, "default": default, "help": text} for key, kind, default, text in described_keys()
    ]
    text = "Every key has a default except `data`. On the command line: maskwright train recipe.yaml train.epochs=20"
    return Explained("recipe", text, rows, ["maskwright new PATH", "maskwright explain model unet"])


def _shipped(name: str | None) -> Explained:
    """The shipped recipes, or the text of one."""
    from maskwright.verbs.new import shipped, shipped_text

    if name is not None:
        following = [f"maskwright new DATA --recipe {name}", f"maskwright train {name} data=DATA"]
        return Explained(f"recipe {name}", shipped_text(name, "DATA"), [], following)
    rows = [{"name": key, "type": "", "default": None, "help": text} for key, text in shipped().items()]
    return Explained("recipes", "", rows, [f"maskwright explain recipes {rows[0]['name']}"])


def _shelf(topic: str, table: Registry) -> Explained:
    rows = [{"name": name, "type": "", "default": None, "help": table.summary(name)} for name in table]
    following = [f"maskwright explain {topic} {rows[0]['name']}"] if rows else []
    if topic == "augment":
        following.append("maskwright explain operation")
    return Explained(f"{topic}{'es' if topic.endswith('x') else 's'}", "", rows, following)


def _entry(topic: str, name: str, table: Registry) -> Explained:
    rows = [
        {
            "name": option.name,
            "type": _type_name(option.type),
            "default": "required" if option.default is option.required else repr(option.default),
            "help": option.help,
        }
        for option in table.options(name).values()
    ]
    return Explained(f"{topic} {name}", table.description(name), rows)


def _type_name(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")
