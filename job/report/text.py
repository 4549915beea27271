"""Makes texts from a checkpoint safe to show, and counts statuses."""

from collections import Counter
from collections.abc import Iterable


def escape(text: str) -> str:
    """The text with escapes in place of all characters that do not print as themselves: control characters, direction
    marks, blanks other than the space, and lone surrogates."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )


def count_statuses(statuses: Iterable[str]) -> str:
    """The number of models with each status."""
    return ", ".join(f"{n:,} {status}" for status, n in Counter(statuses).items())
