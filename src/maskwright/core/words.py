"""Counts as a person writes them: `1 epoch`, `2 epochs`, `1,204 losses`."""


def counted(number: int, one: str, many: str | None = None) -> str:
    """A number and what it counts. many: the words for any number but 1; left out: the plural of `one`."""
    return f"{number:,} {one if number == 1 else many or plural(one)}"


def plural(one: str) -> str:
    """The plural of a noun, or of words that end with one: `losses`, `mixes`, `copies`, `training images`."""
    if one.endswith(("s", "x", "ch", "sh")) and not one.endswith("epoch"):
        return f"{one}es"
    if one.endswith("y") and one[-2:-1] not in tuple("aeiou"):
        return f"{one[:-1]}ies"
    return f"{one}s"
