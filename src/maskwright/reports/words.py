"""How the page writes numbers, times and names: the template's filters. What is not known becomes a dash."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from maskwright.core import terminal, words
from maskwright.core.registry import missing_package
from maskwright.reports.figures import clipped, compact, is_number

UNKNOWN = "–"


def environment() -> Any:
    """The jinja2 environment of the page: everything is escaped, what is missing is empty.

    Raises SetupError when jinja2 is not installed.
    """
    try:
        from jinja2 import ChainableUndefined, Environment
    except ModuleNotFoundError as error:
        raise missing_package("jinja2", "the report") from error
    made = Environment(autoescape=True, undefined=ChainableUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= FILTERS
    return made


def form(pattern: str) -> Callable[[object], str]:
    """A filter that writes numbers by a format string."""
    return lambda value: pattern.format(value) if is_number(value) else UNKNOWN


def percent(value: object, digits: int = 1) -> str:
    return f"{100 * value:.{digits}f}\N{NO-BREAK SPACE}%" if is_number(value) else UNKNOWN


def decimal(value: object, digits: int = 1) -> str:
    return f"{value:,.{digits}f}" if is_number(value) else UNKNOWN


def duration(value: object) -> str:
    return terminal.duration(value) if is_number(value) else UNKNOWN


def short_count(value: object) -> str:
    return compact(value) if is_number(value) else UNKNOWN


def sorting(value: object) -> float:
    """What a table sorts by: unknown numbers lie below all others."""
    return value if is_number(value) else -1


def day(text: object) -> str:
    """`20 November 2026, 14:03` of an ISO time, in the zone it was written in."""
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return ""
    return f"{moment.day} {moment:%B %Y, %H:%M}"


def code(text: object) -> Any:
    """Markup with what stands in backticks as code; everything is escaped."""
    from markupsafe import Markup, escape

    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape("" if text is None else text))))


def digest(text: object) -> str:
    """The sha256 of a script, as a content security policy names it."""
    return base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()


def css(colour: Sequence[float]) -> str:
    """A CSS colour; only whole numbers get through."""
    return f"rgb({','.join(str(int(c)) for c in colour[:3])})"


FILTERS: dict[str, Callable[..., Any]] = {
    "score": form("{:.3f}"),
    "count": form("{:,.0f}"),
    "counted": words.counted,
    "rate": form("{:.2e}"),
    "percent": percent,
    "share": lambda value: percent(value, 2),
    "gigabytes": lambda value: f"{decimal(value)} GB",
    "shown": lambda value, form: FILTERS[form](value),
    "decimal": decimal,
    "duration": duration,
    "compact": short_count,
    "sorting": sorting,
    "clipped": clipped,
    "day": day,
    "code": code,
    "digest": digest,
}
