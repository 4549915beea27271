"""Texts from a checkpoint, made safe to show to people; and many of them, in few words."""

from collections import Counter
from collections.abc import Iterable, Sequence


def escape(text: str) -> str:
    """The text with every character that does not print as itself (controls, direction marks, blanks other than a
    space, half surrogates) as its escape."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )


def join_limited(items: Sequence[object], limit: int) -> str:
    """The first ``limit`` of the items, and how many more there are."""
    left = len(items) - limit
    return ", ".join(map(str, items[:limit])) + (f" and {left:,} more" if left > 0 else "")


def count_statuses(statuses: Iterable[str]) -> str:
    """How many models fared, or will fare, how."""
    return ", ".join(f"{n:,} {status}" for status, n in Counter(statuses).items())
