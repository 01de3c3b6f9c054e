"""`maskwright inspect`: what any ONNX file is, wants, answers and costs; two files side by side."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from maskwright.exports.onnx_facts import Facts
    from maskwright.exports.onnx_runs import Answers


@dataclass(frozen=True)
class Inspected:
    """One file or two. picture: what they were run on. threads: of onnxruntime, 0: all cores."""

    facts: list[Facts]
    answers: list[Answers]
    certificates: list[dict[str, Any] | None]
    picture: str
    threads: int
    next: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        from dataclasses import asdict

        files = []
        for known, seen, certificate in zip(self.facts, self.answers, self.certificates, strict=True):
            metadata = {"contract": known.metadata.get("contract"), "certificate": certificate}
            files.append({**asdict(known), **asdict(seen), "metadata": sorted(known.metadata), **metadata})
        return {"files": files, "picture": self.picture, "threads": self.threads, "differs": self.differing()}

    def differing(self) -> list[str]:
        """The rows in which two files differ; none for one file."""
        return [name for name, cells in self.rows() if len(set(cells)) > 1 and name != "file"]

    def rows(self) -> list[tuple[str, list[str]]]:
        """What is shown: a name and a cell for each file."""
        from pathlib import Path

        from maskwright.exports.onnx_facts import words

        rows: list[tuple[str, list[str]]] = [("file", [Path(known.path).name for known in self.facts])]
        facts = self.facts
        for number in range(max(len(known.inputs) for known in facts)):
            rows.append(
                ("input", [known.inputs[number].words() if number < len(known.inputs) else "-" for known in facts])
            )
        for number in range(max(len(known.outputs) for known in facts)):
            found = [known.outputs[number].words() if number < len(known.outputs) else "-" for known in facts]
            rows.append(("output", found))
        for scale in dict.fromkeys(scale for seen in self.answers for scale in seen.ranges):
            rows.append((f"answers to {scale}", [_ranges(seen, scale) for seen in self.answers]))
        rows.append(("opset", [", ".join(_opset(*pair) for pair in known.opsets.items()) for known in facts]))
        rows.append(("IR version", [str(known.ir_version) for known in facts]))
        rows.append(("written by", [known.producer or "-" for known in facts]))
        rows.append(("parameters", [f"{known.parameters:,}" for known in facts]))
        if any(known.denormals for known in facts):
            rows.append(
                (
                    "denormal weights",
                    [f"{known.denormals:,} (slow on CPUs)" * bool(known.denormals) or "0" for known in facts],
                )
            )
        rows.append(("multiplications", ["?" if seen.macs is None else words(seen.macs) for seen in self.answers]))
        rows.append(("size", [f"{known.megabytes:.2f} MB" for known in facts]))
        rows.append(("one call", [_time(seen) for seen in self.answers]))
        rows.append(("contract", [known.metadata.get("contract", "-") for known in facts]))
        rows.append(("certificate", [_certified(certificate) for certificate in self.certificates]))
        names = dict.fromkeys(name for known in facts for name in known.operators)
        counts = [(name, [str(known.operators.get(name, "-")) for known in facts]) for name in names]
        return rows + counts

    def show(self, console: Console) -> None:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column(style="dim", no_wrap=True)
        for _ in self.facts:
            table.add_column(overflow="fold")
        table.add_column(no_wrap=True)
        first, differing = next(iter(self.facts[0].operators)), self.differing()
        for name, cells in self.rows():
            if name == first:
                table.add_row()
            differs = name in differing and len(set(cells)) > 1
            style = "bold" if differs else ""
            table.add_row(name, *(Text(cell, style=style) for cell in cells), "differs" if differs else "")
        console.print(table)
        console.print()
        cores = "all cores" if not self.threads else f"{self.threads} thread{'s' * (self.threads > 1)}"
        how = "in rotation, " if len(self.facts) > 1 else ""
        console.print(
            f"run on {self.picture}; times are medians, {how}onnxruntime with {cores}", markup=False, soft_wrap=True
        )
        for known, seen in zip(self.facts, self.answers, strict=True):
            if seen.failure is not None:
                console.print(f"{known.path}: {seen.failure}", markup=False, style="yellow", soft_wrap=True)


def inspect(
    file: str,
    other: str | None = None,
    *,
    photo: str | None = None,
    size: str | None = None,
    threads: int = 1,
) -> Inspected:
    """Look into an ONNX file, ours or not: inputs, outputs, ranges, operators, size, cost; or compare two.

    Parameters
    ----------
    file
        an ONNX file.
    other
        another one, to be shown beside it.
    photo
        what to run them on; left out: a drawn picture.
    size
        HEIGHTxWIDTH, as 256x128, for a file that leaves them open; left out: what it was made for, else 256x256.
    threads
        of onnxruntime; 0: all cores.
    """
    from pathlib import Path

    from maskwright.core import terminal
    from maskwright.core.errors import RecipeError
    from maskwright.exports import onnx_facts, onnx_runs

    if threads < 0:
        raise RecipeError(f"{threads} threads cannot be", place="--threads", hint="it can be 0 (all cores) or more")
    sides = None if size is None else _size(size)
    paths = [Path(path) for path in (file, other) if path is not None]
    with terminal.shown():
        facts = [onnx_facts.facts(path, sides) for path in paths]
        facts = [known if sides or known.macs is not None else _again(known) for known in facts]
        answers = onnx_runs.answers(facts, None if photo is None else Path(photo), sides, threads)
    certificates = [_certificate(path) for path in paths]
    return Inspected(facts, answers, certificates, photo or "a drawn picture", threads, _next(facts, certificates))


def _again(known: Facts) -> Facts:
    """The facts of a file at the size that it was made for."""
    from pathlib import Path

    from maskwright.exports import onnx_facts, onnx_runs

    return onnx_facts.facts(Path(known.path), onnx_runs.made_for(known))


def _size(text: str) -> tuple[int, int]:
    import re

    from maskwright.core.errors import RecipeError

    found = re.fullmatch(r"(\d{1,5})[xX,](\d{1,5})", text.replace(" ", ""))
    if not found or not int(found[1]) or not int(found[2]):
        raise RecipeError(f"`{text}` is no size", place="--size", hint="write height and width, as 256x128")
    return int(found[1]), int(found[2])


def _certificate(path: Path) -> dict[str, Any] | None:
    """The certificate beside a file or in it, unchecked; None where there is none or it is damaged."""
    from maskwright.core.errors import ModelError
    from maskwright.exports import certificate

    try:
        return certificate.load(path)
    except ModelError:
        return None


def _certified(certificate: dict[str, Any] | None) -> str:
    if certificate is None:
        return "none"
    state = "" if certificate.get("certified") else "not certified, "
    return f"{state}{certificate.get('target')}, {str(certificate.get('written'))[:10]}"


def _next(facts: list[Facts], certificates: list[dict[str, Any] | None]) -> list[str]:
    """Of two files nothing more; of a certified one its verification, of one of ours a prediction."""
    if len(facts) > 1:
        return []
    path = facts[0].path
    commands = [f"maskwright verify {path}"] if certificates[0] is not None else []
    if "maskwright" in facts[0].metadata:
        return [*commands, f"maskwright predict {path} PHOTOS --out masks"]
    return [f"maskwright inspect {path} OTHER.onnx"]


def _ranges(seen: Answers, scale: str) -> str:
    if seen.failure is not None:
        return "does not run here"
    found = seen.ranges.get(scale, {})
    several = len(found) > 1
    return (
        ", ".join(f"{f'{name} ' * several}{_number(low)}..{_number(high)}" for name, (low, high) in found.items())
        or "-"
    )


def _number(value: float) -> str:
    return "0" if abs(value) < 5e-4 else f"{value:.4g}"


def _opset(domain: str, version: int) -> str:
    return str(version) if domain == "ai.onnx" else f"{domain} {version}"


def _time(seen: Answers) -> str:
    return "-" if seen.milliseconds is None else f"{seen.milliseconds:.2f} ms"
