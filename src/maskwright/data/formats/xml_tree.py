"""XML files as trees whose elements know their line. What could reach beyond the file is refused, not followed.

A document type (`<!DOCTYPE`) is where entities are declared that grow without bounds or name other files: no labelling tool
writes one, so the first is an error at its line.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from xml.parsers import expat

from maskwright.core.errors import DataError

DEEPEST = 50


@dataclass(slots=True)
class Element:
    """tag, attributes and text (without blanks at its ends) of an element; line: where it begins, from 1."""

    tag: str
    attributes: dict[str, str]
    line: int
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def all(self, *tags: str) -> Iterator[Element]:
        """The children that are called so, in order."""
        return (child for child in self.children if child.tag in tags)

    def below(self, *path: str) -> list[Element]:
        """The elements at the end of a path of tags."""
        found = [self]
        for tag in path:
            found = [child for element in found for child in element.all(tag)]
        return found


class _Refused(Exception):
    """Raised inside a handler of the parser."""

    def __init__(self, what: str, line: int, hint: str | None = None):
        super().__init__(what)
        self.what, self.line, self.hint = what, line, hint


def parsed(path: Path) -> Element:
    """The root of an XML file. Raises DataError, with the line, when it is none or declares a document type."""
    parser = expat.ParserCreate()
    top = Element("", {}, 0)
    open_elements, pieces = [top], [[""]]

    def start(tag: str, attributes: dict[str, str]) -> None:
        if len(open_elements) > DEEPEST:
            raise _Refused("elements are nested too deeply", parser.CurrentLineNumber)
        element = Element(tag, attributes, parser.CurrentLineNumber)
        open_elements[-1].children.append(element)
        open_elements.append(element)
        pieces.append([])

    def end(_: str) -> None:
        open_elements.pop().text = "".join(pieces.pop()).strip()

    def doctype(*_: object) -> None:
        hint = "label files have no document type; take the line out if you trust the file"
        raise _Refused("declares a document type (<!DOCTYPE), which is not read", parser.CurrentLineNumber, hint)

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = lambda text: pieces[-1].append(text)
    parser.StartDoctypeDeclHandler = doctype
    parser.buffer_text = True
    try:
        with path.open("rb") as file:
            if file.read(64).startswith(b"version https://git-lfs"):
                hint = "fetch it with `git lfs pull`"
                raise DataError("is a git LFS pointer, not the file itself", place=path, hint=hint)
            file.seek(0)
            parser.ParseFile(file)
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror or error})", place=path) from error
    except _Refused as refusal:
        raise DataError(refusal.what, place=f"{path}:{refusal.line}", hint=refusal.hint) from refusal
    except expat.ExpatError as error:
        what = f"is no XML: {expat.ErrorString(error.code)} (column {error.offset + 1})"
        raise DataError(what, place=f"{path}:{error.lineno}", hint="is the download complete?") from error
    except (LookupError, ValueError) as error:  # an encoding that nobody knows
        raise DataError(f"is no XML: {error}", place=path) from error
    return top.children[0]
