"""YAML as people expect it: 1e-3 is a number, `no` and `off` are words, a key may stand once, every key knows its line."""

from __future__ import annotations

import re
from typing import Any

import yaml

from maskwright.core.errors import RecipeError


def parse(text: str, name: str) -> tuple[dict[str, Any], dict[str, int]]:
    """The tree of a YAML text and the line each dotted key stands in. Raises RecipeError for bad YAML and double keys."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        lines: dict[str, int] = {}
        if node is not None:
            _collect_lines(node, "", lines, name)
        tree = yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{name}:{mark.line + 1}" if mark else name
        raise RecipeError(
            f"is not valid YAML ({getattr(error, 'problem', None) or 'cannot be parsed'})", place=place
        ) from error
    if not isinstance(tree, dict):
        raise RecipeError(
            "holds no keys", place=name, hint="a recipe begins with `data:`; `maskwright new PATH` writes one"
        )
    return tree, lines


def value(text: str) -> Any:
    """The value a YAML text stands for. Raises yaml.YAMLError."""
    return yaml.load(text, Loader=_Loader)


def flow(value: Any) -> str:
    """A value on one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10_000, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...").removesuffix("...").strip()


class _Loader(yaml.SafeLoader):
    """YAML as people expect it: 1e-3 is a number, only true and false are truth values (`no`, `off`, `y` are words)."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if tag not in ("tag:yaml.org,2002:bool", "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp")
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|false|False)$"), list("tTfF"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\d+\.\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(?:inf|nan))$"),
    list("-+.0123456789"),
)


def _collect_lines(node: yaml.Node, prefix: str, lines: dict[str, int], name: str) -> None:
    if isinstance(node, yaml.MappingNode):
        seen = set()
        for key_node, value_node in node.value:
            key = str(key_node.value)
            line = key_node.start_mark.line + 1
            if key in seen:
                raise RecipeError(f"the key `{key}` stands here twice", place=f"{name}:{line}")
            seen.add(key)
            lines[f"{prefix}{key}"] = line
            _collect_lines(value_node, f"{prefix}{key}.", lines, name)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            lines[f"{prefix}{number}"] = item.start_mark.line + 1
            _collect_lines(item, f"{prefix}{number}.", lines, name)
