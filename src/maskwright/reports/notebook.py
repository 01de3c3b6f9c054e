"""What results show of themselves in a notebook, as HTML: scores, the run's contact sheet, predicted overlays."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from pathlib import Path

from maskwright.bundles.runs import Run
from maskwright.core.errors import DataError
from maskwright.imaging import draw, images
from maskwright.prediction.folders import Written
from maskwright.prediction.scoring import AnyScores
from maskwright.reports import snapshots

MOST = 8  # overlays of a folder


def trained(folder: str | Path, scores: Mapping[str, AnyScores | None]) -> str:
    """The scores of a run by the name of their part, pictures of its best and worst answers, and where things lie."""
    run = Run(Path(folder))
    tables = [f"<b>{escape(part)}</b>{found._repr_html_()}" for part, found in scores.items() if found is not None]
    if snapshots.answers(run.path / "pictures"):
        tables.append(picture(draw.encode(snapshots.contact_sheet(run.path / "pictures"), "webp", 85), "contact sheet"))
    lines = (
        f"{name}: <code>{escape(str(path))}</code>" for name, path in (("bundle", run.bundle), ("report", run.report))
    )
    return "".join(f"<div>{part}</div>" for part in (*tables, *lines))


def predicted(written: Written, unit: str = "images") -> str:
    """The first overlays that were written, or a video's table in words."""
    found = sorted((written.folder / "overlays").rglob("*.jpg"))[:MOST] if unit == "images" else []
    text = f"{written.images} {unit} in <code>{escape(str(written.folder))}</code>"
    if written.failed:
        text += f"; {len(written.failed)} could not be read: {escape(next(iter(written.failed.values())))}"
    try:
        pixels = [images.read(file, at_least=(240, 240)) for file in found]
    except DataError:
        pixels = []
    if not pixels:
        return f"<div>{text}</div>"
    sheet = draw.sheet(pixels, columns=4, captions=[file.stem for file in found], tile=(200, 200))
    return f"<div>{picture(draw.encode(sheet, 'webp', 85), 'overlays')}</div><div>{text}</div>"


def picture(content: bytes, words: str) -> str:
    """A WebP picture as an HTML image with its bytes inside."""
    data = base64.b64encode(content).decode()
    return f'<img alt="{escape(words)}" style="max-width:100%" src="data:image/webp;base64,{data}">'
