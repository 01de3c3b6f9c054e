"""The five ways a user can be told no; each carries an exit code.

    MaskwrightError
    +-- RecipeError   2  the recipe, a key=value or a command-line option
    +-- DataError     3  images, labels, splits
    +-- ModelError    4  weights, bundles, exports, parity
    +-- SetupError    5  missing extra, device, memory, disk, network, permissions
    +-- Interrupted 130  Ctrl-C, after the state was saved

Every message is one sentence for a person: place, what, hint. Anything else that is raised is our own bug (exit code 1).
"""

COMMAND_LINE = "command line"  # the place of everything that was typed there: `command line: train.epochs: ...`


class MaskwrightError(Exception):
    """A mistake a person can mend: `place: what; hint`."""

    exit_code = 1
    status = "failed"  # how `maskwright runs` calls a run that ended with it

    def __init__(self, what: str, *, place: object = None, hint: str | None = None):
        self.what, self.place, self.hint = what, None if place is None else str(place), hint
        text = what if self.place is None else f"{self.place}: {what}"
        super().__init__(text if hint is None else f"{text}; {hint}")


class RecipeError(MaskwrightError):
    exit_code = 2
    status = "recipe error"


class DataError(MaskwrightError):
    exit_code = 3
    status = "data error"


class ModelError(MaskwrightError):
    exit_code = 4


class SetupError(MaskwrightError):
    exit_code = 5


class OutOfMemory(SetupError):
    status = "out of memory"


class Interrupted(MaskwrightError):
    exit_code = 130
    status = "stopped"
