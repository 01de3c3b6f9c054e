"""`maskwright explain`: what every key of a recipe means and which options every shelf's entry has."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from maskwright.core.recipe_keys import Key
    from maskwright.core.registry import Registry

# shelf -> the key of a recipe that names its entries
SHELVES_OF_KEYS = {
    "model": "model",
    "loss": "loss",
    "optimizer": "train.optimizer",
    "schedule": "train.schedule",
    "augment": "augment",
    "mix": "mix",
    "format": "data.format",
}


@dataclass(frozen=True)
class Explained:
    """title, one paragraph, and rows of (name, type, default, help). key: of a recipe, where one is explained."""

    title: str
    text: str
    rows: list[dict[str, Any]]
    next: list[str] = field(default_factory=list)
    key: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        key = {} if self.key is None else {"key": self.key}
        return {"title": self.title, "text": self.text, **key, "rows": self.rows}

    def show(self, console: Console) -> None:
        from rich.markup import escape
        from rich.table import Table

        console.print(f"[bold]{escape(self.title)}[/]")
        if self.text:
            console.print(escape(self.text), soft_wrap=self.key is not None)  # a command is copied whole
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
        recipe, a key of it as train.stages, recipes (those that are shipped), model, object_model, loss, optimizer, schedule,
        augment, operation (what a list in `augment` may hold), mix, format, convention, object_convention or exporter.
    name
        one entry of that shelf, as in `maskwright explain model unet`; of a recipe one key, as in
        `maskwright explain recipe train.stages`.
    """
    from maskwright.core.errors import COMMAND_LINE, RecipeError
    from maskwright.core.recipe_keys import every_key
    from maskwright.core.registry import suggestion
    from maskwright.core.words import plural
    from maskwright.verbs.new import shipped

    if topic == "recipe":
        return _recipe() if name is None else _shipped(name) if name in shipped() else _key(name)
    if topic == "recipes":
        return _shipped(name)
    shelves = _shelves()
    topic = {plural(shelf): shelf for shelf in shelves}.get(topic, topic)
    if topic not in shelves:
        keys = [key.name for key in every_key()]
        if "." in topic or topic in keys:
            return _key(topic)
        hint = suggestion(topic, ["recipe", "recipes", *shelves])
        raise RecipeError(f"nothing is called `{topic}`", place=COMMAND_LINE, hint=hint)
    if topic == "augment" and name in shelves["operation"]:  # a recipe's `augment` takes them too
        topic = "operation"
    if topic == "model" and name in shelves["object_model"]:  # a recipe's `model` takes them with `task: instance`
        topic = "object_model"
    table = shelves[topic]
    return _shelf(topic, table) if name is None else _entry(topic, name, table)


def _shelves() -> dict[str, Registry]:
    """Every table that a person may ask about; the tables alone import nothing heavy."""
    from maskwright.data.formats import FORMATS
    from maskwright.exports import EXPORTERS
    from maskwright.metrics import CONVENTIONS, OBJECT_CONVENTIONS
    from maskwright.models import INSTANCE_MODELS, MODELS
    from maskwright.training import AUGMENTS, LOSSES, MIXES, OPERATIONS, OPTIMIZERS, SCHEDULES

    return {
        "model": MODELS,
        "object_model": INSTANCE_MODELS,
        "loss": LOSSES,
        "optimizer": OPTIMIZERS,
        "schedule": SCHEDULES,
        "augment": AUGMENTS,
        "operation": OPERATIONS,
        "mix": MIXES,
        "format": FORMATS,
        "convention": CONVENTIONS,
        "object_convention": OBJECT_CONVENTIONS,
        "exporter": EXPORTERS,
    }


def _recipe() -> Explained:
    from maskwright.core.recipe_keys import every_key

    rows = [_row(key, kind=False) for key in every_key()]
    text = "Every key has a default except `data`. On the command line: maskwright train recipe.yaml train.epochs=20"
    following = ["maskwright new PATH", "maskwright explain recipe train.stages", "maskwright explain model unet"]
    return Explained("recipe", text, rows, following)


def _key(name: str) -> Explained:
    """One key of a recipe with its example, and the keys below it; an option of the entry that is taken by default."""
    import shlex
    from dataclasses import asdict

    from maskwright.core.recipe_keys import every_key, explained

    for shelf, place in SHELVES_OF_KEYS.items():
        if name.startswith(f"{place}.") and name not in (key.name for key in every_key()):
            return _option(shelf, name.removeprefix(f"{place}."))
    key = explained(name)
    lines = [key.help, f"type: {key.type}"] + [f"default: {key.default}"] * (key.default is not None)
    if key.example:
        typed = shlex.join(["maskwright", "train", "recipe.yaml", key.example])
        lines += [
            "",
            "in a recipe:",
            *(f"  {line}" for line in key.yaml().split("\n")),
            "on the command line:",
            f"  {typed}",
        ]
    following = [f"maskwright explain {shelf}" for shelf, place in SHELVES_OF_KEYS.items() if place == key.name]
    rows = [_row(each) for each in every_key() if each.name in key.below]
    return Explained(key.name, "\n".join(lines), rows, following, asdict(key))


def _option(shelf: str, option: str) -> Explained:
    """An option of a shelf's entries: that of the entry which a recipe takes by default."""
    from maskwright.core.errors import COMMAND_LINE, RecipeError
    from maskwright.core.recipe import Model, Training
    from maskwright.core.registry import suggestion

    table, train = _shelves()[shelf], Training()
    taken = {"model": Model(), "optimizer": train.optimizer, "schedule": train.schedule}.get(shelf)
    entry, own = (taken.name, taken.options) if taken else ("", {})
    known = _entry(shelf, entry, table).rows if entry else []
    rows = [row | ({"default": repr(own[option])} if option in own else {}) for row in known if row["name"] == option]
    if entry and rows:
        following = [f"maskwright explain {shelf} {entry}", f"maskwright explain {shelf}"]
        return Explained(f"{SHELVES_OF_KEYS[shelf]}.{option}", f"an option of the {shelf} `{entry}`", rows, following)
    if option in table:
        return _entry(shelf, option, table)
    what = f"`{option}` is no option of the {shelf} `{entry}`" if entry else f"no {shelf} is called `{option}`"
    near = suggestion(option, [row["name"] for row in known] or table)
    raise RecipeError(what, place=COMMAND_LINE, hint=near)


def _row(key: Key, *, kind: bool = True) -> dict[str, Any]:
    return {"name": key.name, "type": key.type if kind else "", "default": key.default, "help": key.help}


def _shipped(name: str | None) -> Explained:
    """The shipped recipes, or the text of one."""
    from maskwright.verbs.new import shipped, shipped_text

    if name is not None:
        following = [f"maskwright new DATA --recipe {name}", f"maskwright train {name} data=DATA"]
        return Explained(f"recipe {name}", shipped_text(name, "DATA"), [], following)
    rows = [{"name": key, "type": "", "default": None, "help": text} for key, text in shipped().items()]
    return Explained("recipes", "", rows, [f"maskwright explain recipes {rows[0]['name']}"])


def _shelf(topic: str, table: Registry) -> Explained:
    from maskwright.core.words import plural

    rows = [{"name": name, "type": "", "default": None, "help": table.summary(name)} for name in table]
    following = [f"maskwright explain {topic} {rows[0]['name']}"] if rows else []
    if topic == "augment":
        following.append("maskwright explain operation")
    return Explained(plural(topic), "", rows, following)


def _entry(topic: str, name: str, table: Registry) -> Explained:
    from maskwright.core.errors import COMMAND_LINE

    table.check(name, COMMAND_LINE)
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
