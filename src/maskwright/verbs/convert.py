"""`maskwright convert`: a data set in another label format, with the bill of what is lost before anything is written; or what
`predict` found as the CSV that is handed in to iMaterialist-Fashion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

if TYPE_CHECKING:
    from rich.console import Console

    from maskwright.data.bill import Bill
    from maskwright.prediction.fashion import HandedIn

SUBMISSION = "imaterialist-submission"  # no data set: masks of 512 x 512 without classes' names or photos


@dataclass(frozen=True)
class Converted:
    """bill: what the other format cannot hold; written: whether the data set was written."""

    path: str
    out: str
    source: str
    target: str
    classes: tuple[str, ...]
    bill: Bill
    written: bool
    refused: bool
    next: list[str] = field(default_factory=list)

    @property
    def exit_code(self) -> int:
        """That of a DataError when there is a loss that nobody allowed."""
        from maskwright.core.errors import DataError

        return DataError.exit_code if self.refused else 0

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": 1,
            "path": self.path,
            "out": self.out,
            "from": self.source,
            "to": self.target,
            "classes": list(self.classes),
            "bill": self.bill.to_json(),
            "lossless": self.bill.empty,
            "written": self.written,
            "next": self.next,
        }

    def show(self, console: Console) -> None:
        from maskwright.core.words import counted

        bill = self.bill
        head = f"{self.path} ({self.source}): {counted(bill.images, 'image')}, {counted(bill.objects, 'object')}"
        console.print(f"{head}, {counted(bill.pixels, 'pixel')} of objects", markup=False, soft_wrap=True)
        losses = [loss for loss in bill.losses if not loss.harmless]
        console.print(f"{self.target} loses:" if losses else f"{self.target} loses nothing that counts", markup=False)
        for loss in (*losses, *(loss for loss in bill.losses if loss.harmless)):
            harmless = ", no harm" if loss.harmless else ""
            console.print(f"  {loss.sentence()}{harmless}", markup=False, soft_wrap=True)
        if self.written:
            console.print(f"wrote {self.out}", markup=False, soft_wrap=True)
        elif self.refused:
            console.print("nothing was written: say --allow-loss if that may be lost", markup=False)
        else:
            console.print("nothing was written (dry run)", markup=False)


@dataclass(frozen=True)
class Submitted:
    """What was written for the competition, and where."""

    path: str
    out: str
    handed_in: HandedIn
    next: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        done = self.handed_in
        counts = {"images": done.images, "objects": done.objects, "hidden": done.hidden}
        return {"schema": 1, "path": self.path, "out": self.out, "to": SUBMISSION, **counts, "next": self.next}

    def show(self, console: Console) -> None:
        from maskwright.core.words import counted

        done = self.handed_in
        told = f"wrote {self.out}: {counted(done.images, 'image')}, {counted(done.objects, 'object')} at 512 x 512"
        console.print(told, markup=False, soft_wrap=True)
        if done.hidden:
            hidden = counted(done.hidden, "object")
            console.print(f"{hidden} left out: surer ones cover all its pixels, or none is left", markup=False)


def convert(
    data: str,
    out: str,
    *,
    to: str,
    format: Annotated[str | None, Parameter(name="--from")] = None,
    option: list[str] | None = None,
    components: int | None = None,
    allow_loss: bool = False,
    copy_images: bool = True,
    link: bool = False,
    dry_run: bool = False,
) -> Converted | Submitted:
    """Write a data set in another label format; first the bill: what that format cannot hold, in objects and pixels.

    The bill is measured: all is written to a hidden place, read back and compared object by object. A bill that is not
    empty stops it, with nothing written.

    Parameters
    ----------
    data
        file or folder with labelled images; for `imaterialist-submission` a COCO JSON of what was found, as `predict` writes.
    out
        folder to write; must be empty or not there yet. For `imaterialist-submission` the CSV.
    to
        label format to write, such as `coco`, `yolo`, `voc`, `labelme`, `folder`; or `imaterialist-submission`.
    format
        label format of the data; left out: recognised.
    option
        key=value for the reader, as in `--option crowd=drop`; for `imaterialist-submission`: `descriptions=FILE`, the JSON that
        numbers classes (left out: beside DATA or above it).
    components
        make each connected piece of a class in label maps an object, from so many pixels on.
    allow_loss
        write although something is lost.
    copy_images
        copy the photos, byte by byte; what is done unless `--link`.
    link
        make symbolic links to the photos instead of copies.
    dry_run
        only print the bill.
    """
    from pathlib import Path

    from maskwright.core import recipe, terminal
    from maskwright.core.errors import RecipeError, SetupError
    from maskwright.data import convert as conversion
    from maskwright.data import edit
    from maskwright.data.open import open_data
    from maskwright.verbs.check import options_placed

    data, out = str(data), str(out)
    if to == SUBMISSION:
        others = {"--from": format, "--components": components, "--allow-loss": allow_loss, "--link": link}
        return _submit(data, out, option or [], {**others, "--dry-run": dry_run})
    if not (copy_images or link):
        raise RecipeError("photos are copied or linked", place="--no-copy-images", hint="say `--link`")
    conversion.writer(to)
    place, source = Path(out).expanduser(), Path(data).expanduser()
    if source.is_dir() and place.resolve().is_relative_to(source.resolve()):
        raise SetupError("lies in the data set, which is never written to", place=out)
    with terminal.shown():
        with options_placed():
            opened = open_data(data, format=format, options=recipe.as_pairs(option or []))
        found = opened.data if components is None else edit.with_components(opened.data, components)
        done = conversion.convert(
            found,
            place,
            to,
            allow_loss=allow_loss,
            dry_run=dry_run,
            link=link,
            unreadable=opened.ledger.num_refused,
        )
    refused = not (done.bill.empty or allow_loss)
    following = [f"maskwright check {_quoted(out)}"] if done.written else []
    return Converted(data, out, opened.format, to, found.classes, done.bill, done.written, refused, following)


def _submit(data: str, out: str, option: list[str], others: dict[str, Any]) -> Submitted:
    """Writes the competition's CSV. others: options that say nothing here."""
    from pathlib import Path

    from maskwright.core import recipe, terminal
    from maskwright.core.errors import RecipeError
    from maskwright.core.registry import suggestion
    from maskwright.prediction import fashion

    for name, value in others.items():
        if value not in (None, False):
            raise RecipeError(f"does nothing for {SUBMISSION}", place=name, hint="leave it out")
    options = recipe.as_pairs(option)
    for name in options:
        if name != "descriptions":
            raise RecipeError("is no option here", place=f"--option {name}", hint=suggestion(name, ["descriptions"]))
    descriptions = Path(str(options["descriptions"])).expanduser() if options else None
    with terminal.shown():
        done = fashion.hand_in(Path(data).expanduser(), Path(out).expanduser(), descriptions)
    return Submitted(data, out, done, [f"maskwright evaluate {_quoted(out)} LABELLED_PHOTOS"])


def _quoted(path: str) -> str:
    from shlex import quote

    return quote(path)
