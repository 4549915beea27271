"""Texts from a checkpoint, made safe to show to people; and many of them, in few words."""

from collections import Counter
from collections.abc import Iterable, Sequence


def shown(text: str) -> str:
    """The text with every character that does not print as itself (controls, direction marks, blanks other than a
    space, half surrogates) as its escape."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )


def named(items: Sequence[object], most: int) -> str:
    """The first ``most`` of the items, and how many more there are."""
    left = len(items) - most
    return ", ".join(map(str, items[:most])) + (f" and {left:,} more" if left > 0 else "")


def counts(statuses: Iterable[str]) -> str:
    """How many models fared, or will fare, how."""
    return ", ".join(f"{n:,} {status}" for status, n in Counter(statuses).items())
