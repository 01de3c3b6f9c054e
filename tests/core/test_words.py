"""Counts in words, and that nobody writes `1 images` beside them."""

import re
from pathlib import Path

import pytest

from maskwright.core.words import counted, plural

SOURCE = Path(__file__).parents[2] / "src" / "maskwright"
NOUNS = (
    "images|photos|epochs|steps|threads|classes|files|items|frames|layers|tensors|validations|objects|cores|folds|"
    "masks|rows|reasons|batches|ids"
)


@pytest.mark.parametrize(
    ("number", "one", "many", "text"),
    [
        (0, "image", None, "0 images"),
        (1, "image", None, "1 image"),
        (1204, "image", None, "1,204 images"),
        (2, "epoch", None, "2 epochs"),
        (1, "loss", None, "1 loss"),
        (2, "loss", None, "2 losses"),
        (2, "training class", None, "2 training classes"),
        (2, "batch", None, "2 batches"),
        (2, "query", None, "2 queries"),
        (2, "display", None, "2 displays"),
        (1, "row is", "rows are", "1 row is"),
        (3, "row is", "rows are", "3 rows are"),
    ],
)
def test_a_number_and_what_it_counts(number: int, one: str, many: str | None, text: str) -> None:
    assert counted(number, one, many) == text


@pytest.mark.parametrize(
    ("one", "many"), [("mix", "mixes"), ("model", "models"), ("loss", "losses"), ("key", "keys"), ("epoch", "epochs")]
)
def test_plurals(one: str, many: str) -> None:
    assert plural(one) == many


def test_counts_that_may_be_one_are_written_with_it() -> None:
    """`{len(found)} images` reads `1 images` some day. Sizes, `H x W pixels`, and `of {n} images` are no such counts."""
    plain = re.compile(rf"(?<!x )(?<!of )\{{(?:len\([^{{}}]*\)|num_\w+|[\w.]*epochs?)(?::,)?\}} (?:{NOUNS})\b")
    found = [
        f"{path.relative_to(SOURCE)}:{number}: {line.strip()}"
        for path in sorted(SOURCE.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1)
        if plain.search(line)
    ]
    assert not found, "\n".join(found)
