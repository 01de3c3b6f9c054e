"""The command `maskwright`: lists the verbs, maps errors to exit codes, prints results to stdout and talk to stderr.

`--json` anywhere prints one JSON object on stdout, first key "schema": 1, errors included.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, Any

from maskwright import __version__
from maskwright.core import terminal
from maskwright.core.errors import COMMAND_LINE, Interrupted, MaskwrightError, RecipeError
from maskwright.verbs import VERBS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import App, Token

EXIT_CODES = "exit codes: 0 done, 1 our bug, 2 recipe or options, 3 data, 4 model, 5 set-up, 130 interrupted"


def main(arguments: list[str] | None = None) -> None:
    """Runs the command line and exits with the code of what happened."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in tokens
    tokens = [token for token in tokens if token != "--json"]
    try:
        sys.exit(run(tokens, as_json))
    except BrokenPipeError:  # `maskwright check ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)


def run(tokens: list[str], as_json: bool = False) -> int:
    """Runs one command and returns its exit code; a bug of ours leaves through as its traceback (exit code 1)."""
    from cyclopts import CycloptsError

    app = _app(tokens)
    try:
        with terminal.shown():
            result = app(tokens, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        hint = f"see `maskwright {_command(tokens)}--help`"
        return _fail(RecipeError(_sentence(str(error)), place=COMMAND_LINE, hint=hint), as_json)
    except MaskwrightError as error:
        return _fail(_typed(error), as_json)
    except KeyboardInterrupt:
        return _fail(Interrupted("stopped"), as_json)
    if result is not None:
        _print(result, as_json)
    return int(getattr(result, "exit_code", 0))


def _app(tokens: list[str]) -> App:
    """The command that the tokens name; all of them where they name none, as for `--help` and what was mistyped."""
    from cyclopts import App, Parameter

    app = App(
        name="maskwright",
        help="Labelled images in, a deployed segmentation model out.",
        help_epilogue=f"`--json` prints one JSON object on stdout. {EXIT_CODES}.",
        version=__version__,
        help_format="plaintext",  # markdown would cost a third of the start-up
        help_on_error=False,
        suppress_keyboard_interrupt=False,  # `run` says that it was stopped
        default_parameter=Parameter(negative_iterable=(), converter=_value),
    )
    for name in _named(tokens) or VERBS:
        app.command(VERBS[name], name=name.replace("_", "-"))
    return app


def _value(kind: Any, tokens: Sequence[Token]) -> Any:
    """What was typed, as a value of this type. Raises ValueError for 1.5 as an int, which cyclopts would make 2."""
    from cyclopts import convert

    for token in tokens if kind is int else ():
        if not re.fullmatch(r"[^.]*(\.0*)?", token.value):
            raise ValueError(f"{token.value} is not a whole number")
    return convert(kind, tokens)


def _print(result: Any, as_json: bool) -> None:
    if as_json:
        print(json.dumps({"schema": 1, **{k: v for k, v in result.to_json().items() if k != "schema"}}))
        return
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    result.show(console)
    if result.next:
        console.print()
        for command in result.next:
            console.print(f"next: {command}", markup=False, soft_wrap=True)


def _fail(error: MaskwrightError, as_json: bool) -> int:
    if as_json:
        kind = type(error).__name__
        print(json.dumps({"schema": 1, "error": {"kind": kind, "message": str(error), "exit_code": error.exit_code}}))
    print(f"error: {error}", file=sys.stderr)
    return error.exit_code


def _typed(error: MaskwrightError) -> MaskwrightError:
    """Options are named as changes are: `command line: --out: ...`, `command line: train.epochs: ...`."""
    if error.place is None or not error.place.startswith("--"):
        return error
    return type(error)(error.what, place=f"{COMMAND_LINE}: {error.place}", hint=error.hint)


def _sentence(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def _command(tokens: list[str]) -> str:
    return f"{tokens[0]} " if _named(tokens) else ""


def _named(tokens: list[str]) -> list[str]:
    """The command that comes first, by its name on the shelf, if it is one."""
    return [name for name in (token.replace("-", "_") for token in tokens[:1]) if name in VERBS]


if __name__ == "__main__":
    main()
