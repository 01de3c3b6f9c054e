"""Shelves: names without imports, options from signatures, unknown names with the nearest known one."""

import sys

import pytest

from maskwright.core.errors import RecipeError, SetupError
from maskwright.core.recipe import Entry, check_entry
from maskwright.core.registry import Registry, options_of


def sample(data: int, *, width: int = 16, names: list[str] | None = None, rate: float) -> None:
    """Does something with data.

    width: channels of the first level;
      each level below has twice as many.
    names, other: what they are called.

    Method: as it is done (Author, 2020, https://example.org/1);
    and said.
    """


TABLE = Registry("thing", {"sample": f"{__name__}:sample", "lost": "no_such_package_xyz:thing"})


def test_options_are_read_from_the_signature() -> None:
    options = options_of(sample)
    assert list(options) == ["width", "names", "rate"]
    assert options["width"].default == 16
    assert options["width"].type is int
    assert options["width"].help == "channels of the first level; each level below has twice as many."
    assert options["names"].help == "what they are called."
    assert options["rate"].default is options["rate"].required


def test_names_are_listed_without_importing() -> None:
    table = Registry("thing", {"a": "antigravity:x"})
    assert list(table) == ["a"]
    assert "antigravity" not in sys.modules


def test_unknown_names_get_the_nearest_one() -> None:
    with pytest.raises(RecipeError, match=r"no thing is called `sampel`; did you mean `sample`\?"):
        TABLE["sampel"]


def test_a_missing_package_is_one_sentence() -> None:
    with pytest.raises(SetupError, match="thing `lost` needs `no_such_package_xyz`, which is not installed"):
        TABLE["lost"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 1.0, "widht": 3}, "thing.widht: unknown option; did you mean `width`?"),
        ({"rate": 1.0, "width": "wide"}, "thing.width: input should be a valid integer"),
        ({"width": 3}, "thing.rate: is missing"),
    ],
)
def test_options_are_held_against_the_signature(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check_entry(TABLE, Entry(name="sample", **options))
    check_entry(TABLE, Entry(name="sample", rate=0.5, width=3))


def test_the_description_leaves_out_the_options() -> None:
    assert TABLE.summary("sample") == "Does something with data."
    method = "Method: as it is done (Author, 2020, https://example.org/1);\nand said."
    assert TABLE.description("sample") == f"Does something with data.\n\n{method}"
