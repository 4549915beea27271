"""Texts from a checkpoint, made safe to show to people."""


def shown(text: str) -> str:
    """The text with every character that does not print as itself (controls, direction marks, blanks other than a
    space, half surrogates) as its escape."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode() for char in text
    )
