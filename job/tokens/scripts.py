"""The Unicode script of each token's text (UAX 24)."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

COMMON: Final = "Common"
MIXED: Final = "Mixed"
_NO_SCRIPT: Final = frozenset({"Common", "Inherited", "Unknown"})
"""Scripts of characters that stand with letters of any script, such as digits, spaces and accents."""
_SEPARATOR: Final = "\n"
"""Between the texts, of no script: so no text is empty."""
_N_TEXTS: Final = 16_384
"""At a time: for each of their characters, 10 bytes are held."""


def scripts(texts: Sequence[str | None]) -> tuple[NDArray[np.int16], list[str]]:
    """The script of each text, as an index into the names that are returned with it; −1 for no text.

    It is the one script that the text's letters, and the marks and digits of a script, have. Characters that several
    scripts use count for none: a text without others is ``Common``. A text with several scripts is ``Mixed``, also if
    a language writes with them, as Japanese does.
    """
    numbers = _ScriptNumbers()
    found = [numbers.of_texts(texts[begin : begin + _N_TEXTS]) for begin in range(0, len(texts), _N_TEXTS)]
    by_number = np.concatenate(found) if found else np.empty(0, np.int16)
    # By name, so that the indices do not depend on which text comes first.
    names = sorted(numbers.names[number] for number in set(by_number.tolist()) if number >= 0)
    place = {number: names.index(name) for number, name in enumerate(numbers.names) if name in names} | {-1: -1}
    lookup = np.array([place.get(number, -1) for number in range(-1, len(numbers.names))], np.int16)
    return lookup[by_number + 1], names


class _ScriptNumbers:
    """Scripts as numbers in the order in which they occur; 0 is ``Common``, 1 is ``Mixed``."""

    def __init__(self) -> None:
        self.names = [COMMON, MIXED]
        self._numbers = dict.fromkeys(_NO_SCRIPT, 0)
        self._of_character = np.full(0x110000, -1, np.int16)

    def of_texts(self, texts: Sequence[str | None]) -> NDArray[np.int16]:
        """(n,): the number of each text's script."""
        joined = "".join(f"{text or ''}{_SEPARATOR}" for text in texts)
        characters = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
        lengths = np.fromiter((len(text or "") + 1 for text in texts), np.int64, len(texts))
        self._look_up(characters)
        of_characters = self._of_character[characters]
        begins = np.cumsum(lengths) - lengths
        highest = np.maximum.reduceat(of_characters, begins)
        lowest = np.minimum.reduceat(np.where(of_characters == 0, np.int16(0x7FFF), of_characters), begins)
        numbers = np.where((highest > 0) & (lowest != highest), np.int16(self.names.index(MIXED)), highest)
        return np.where([not text for text in texts], np.int16(-1), numbers).astype(np.int16)

    def _look_up(self, characters: NDArray[np.uint32]) -> None:
        from unicodedataplus import script  # type: ignore[import-not-found]  # it ships no types

        occur = np.zeros(0x110000, np.bool_)
        occur[characters] = True
        for character in np.flatnonzero(occur & (self._of_character < 0)).tolist():
            name = script(chr(character))
            if name not in self._numbers:
                self._numbers[name] = len(self.names)
                self.names.append(name)
            self._of_character[character] = self._numbers[name]
