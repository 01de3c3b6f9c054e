"""A shelf's table: names -> "module:function" strings, so that names are checked without importing anything heavy.

The signature is the schema: an entry is a function, its typed keyword-only parameters are its options, its docstring is
their help (`name: text` lines). Third parties add entries through entry points named `maskwright.<kind>s`.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any, get_type_hints

from maskwright.core.errors import RecipeError, SetupError


@dataclass(frozen=True)
class Option:
    """One keyword-only parameter of an entry: its name, type, default (`Option.required` when it has none) and help."""

    name: str
    type: Any
    default: Any
    help: str

    required = inspect.Parameter.empty


class Registry(Mapping[str, Callable[..., Any]]):
    """A named table of entries; indexing imports the entry. `kind` is the singular noun used in messages."""

    def __init__(self, kind: str, entries: Mapping[str, str]):
        self.kind = kind
        self._own = dict(entries)

    @cached_property
    def _targets(self) -> dict[str, str]:
        from importlib.metadata import entry_points

        foreign = {e.name: e.value for e in entry_points(group=f"maskwright.{self.kind}s")}
        return {**foreign, **self._own}

    def __iter__(self) -> Iterator[str]:
        return iter(self._targets)

    def __len__(self) -> int:
        return len(self._targets)

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in self._targets  # ours need no look at what is installed

    def __getitem__(self, name: str) -> Callable[..., Any]:
        target = self._own.get(name) or self._targets[self.check(name)]
        module, _, attribute = target.partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name and error.name.split(".")[0] == "maskwright":
                raise
            raise missing_package(error.name or module, f"{self.kind} `{name}`") from error

    def check(self, name: str, place: object = None) -> str:
        """The name itself when the table has it; RecipeError with the nearest names otherwise."""
        if name not in self:
            raise RecipeError(f"no {self.kind} is called `{name}`", place=place, hint=suggestion(name, self._targets))
        return name

    def options(self, name: str) -> dict[str, Option]:
        """The options of an entry, read from its signature (or that of its `read`) and docstring. Imports it."""
        entry = self[name]
        return options_of(getattr(entry, "read", entry))

    def summary(self, name: str) -> str:
        """One line about an entry. Imports the entry."""
        entry = self[name]
        return str(getattr(entry, "summary", None) or (inspect.getdoc(entry) or "").split("\n")[0])

    def description(self, name: str) -> str:
        """The entry's docstring without the lines about its options. Imports the entry."""
        entry = getattr(self[name], "read", self[name])
        text = inspect.getdoc(entry) or ""
        helps = set(option_helps(text))
        kept, skipping = [], False
        for line in text.split("\n"):
            names = re.match(r"(\w+(?:, \w+)*): ", line)
            skipping = bool(names and set(names[1].split(", ")) <= helps) or (skipping and line.startswith("  "))
            if not skipping:
                kept.append(line)
        return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()  # no hole where the options stood


def options_of(function: Callable[..., Any]) -> dict[str, Option]:
    """The keyword-only parameters of a function as options, with help from `name: text` lines of its docstring."""
    helps = option_helps(inspect.getdoc(function) or "")
    parameters = inspect.signature(function).parameters.values()
    own = {p.name: p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
    # the types of the other parameters may be known to type checkers alone
    named = SimpleNamespace(__annotations__={name: p.annotation for name, p in own.items()})
    hints = get_type_hints(named, function.__globals__)
    return {name: Option(name, hints.get(name, Any), p.default, helps.get(name, "")) for name, p in own.items()}


def option_helps(docstring: str) -> dict[str, str]:
    """`name: text` paragraphs of a docstring, names in small letters; indented lines below continue the text."""
    helps: dict[str, str] = {}
    current = None
    for line in docstring.split("\n")[1:]:
        start = re.match(r"([a-z_]\w*(?:, \w+)*): (.+)", line)
        if start:
            current = start[1].split(", ")
            helps.update(dict.fromkeys(current, start[2]))
        elif current and line.startswith("  ") and line.strip():
            helps.update({name: f"{helps[name]} {line.strip()}" for name in current})
        else:
            current = None
    return helps


def suggestion(name: str, known: Any) -> str:
    """`did you mean ...` for the nearest known name, else the list of names."""
    from difflib import get_close_matches

    names = [str(k) for k in known]
    near = get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`?" if near else "it can be " + ", ".join(f"`{n}`" for n in sorted(names))


EXTRAS = {
    "torch": "train",
    "torchvision": "train",
    "cv2": "train",
    "segmentation_models_pytorch": "train",
    "timm": "train",
}
EXTRAS |= {"safetensors": "train", "psutil": "train", "jinja2": "train"}
EXTRAS |= {"transformers": "transformers"}
EXTRAS |= {"av": "video"}
EXTRAS |= {"lmdb": "lmdb"}
EXTRAS |= {"scipy": "mat"}
EXTRAS |= {"onnxruntime": "onnx", "onnx": "train"}
EXTRAS |= {"openvino": "openvino", "executorch": "executorch", "coremltools": "coreml", "ai_edge_litert": "litert"}


def missing_package(package: str, needed_by: str) -> SetupError:
    """The sentence for a package that is not installed: which extra brings it."""
    extra = EXTRAS.get(package.split(".")[0])
    command = f"pip install 'maskwright[{extra}]'" if extra else f"pip install {package}"
    return SetupError(f"{needed_by} needs `{package}`, which is not installed", hint=f"install it with: {command}")
