"""Tells whether a text can lie within one match of the regular expression that a pre-tokenizer splits by. Which
characters a class such as \\p{L} holds is left to the tokenizers library, which is what splits in the end."""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Final

from job.tokens.pattern_syntax import read_pattern

_SURROGATES: Final = range(0xD800, 0xE000)


class SplitPattern:
    """A regular expression each of whose matches is one piece of the text.

    The automaton accepts whatever the expression matches, and more: it takes a look-around for the empty text, and a
    possessive quantifier for an ordinary one. So "it cannot match" is certain, and "it can" is not.

    Raises:
        UnknownSyntax: the expression has something that is not read here.
    """

    def __init__(self, pattern: str) -> None:
        self._read = read_pattern(pattern)
        self._characters: dict[str, int] = {}  # the atoms that match a character, as bits
        self._steps: dict[tuple[frozenset[int], int], frozenset[int]] = {}
        self._always: dict[str, bool] = {}

    def learn(self, characters: Iterable[str]) -> None:
        """Ask the library which atoms match these characters: one question for each atom."""
        new = sorted({char for char in characters if char not in self._characters and ord(char) not in _SURROGATES})
        if not new:
            return
        found = dict.fromkeys(new, 0)
        for bit, atom in enumerate(self._read.atoms):
            for char in _matched(atom, new):
                found[char] |= 1 << bit
        self._characters |= found

    def never_within(self, text: str) -> bool:
        """Whether no match holds the text. A part of the text that no match covers is a piece too, so one character
        that is always in a match must be among it."""
        return bool(text) and not self._run(text, self._anywhere) and any(map(self._always_matched, text))

    def never_is(self, text: str) -> bool:
        """Whether no match is exactly the text, under the same condition."""
        states = self._run(text, self._closure({self._read.start}))
        return self._read.end not in states and any(map(self._always_matched, text))

    @cached_property
    def _anywhere(self) -> frozenset[int]:
        return frozenset(range(len(self._read.edges)))

    def _run(self, text: str, states: frozenset[int]) -> frozenset[int]:
        self.learn(text)
        for char in text:
            key = states, self._characters.get(char, 0)
            if key not in self._steps:
                edges = [edge for state in key[0] for edge in self._read.edges[state]]
                self._steps[key] = self._closure({end for atom, end in edges if key[1] >> atom & 1})
            states = self._steps[key]
        return states

    def _closure(self, states: set[int]) -> frozenset[int]:
        found, waiting = set(states), list(states)
        while waiting:
            new = set(self._read.empty_edges[waiting.pop()]) - found
            found |= new
            waiting += new
        return frozenset(found)

    def _always_matched(self, char: str) -> bool:
        """Whether a match covers the character wherever it stands: the alternatives without look-around match it alone.
        Whatever follows it, the search then finds that match, or a longer or an earlier one that covers it."""
        if char not in self._always:
            self._always[char] = ord(char) not in _SURROGATES and not self._unmatched(char)
        return self._always[char]

    @cached_property
    def _unmatched(self) -> "Callable[[str], list[tuple[str, tuple[int, int]]]]":
        from tokenizers import Regex, pre_tokenizers

        if not self._read.plain_alternatives:
            return lambda char: [(char, (0, 1))]
        return pre_tokenizers.Split(Regex("|".join(self._read.plain_alternatives)), "removed").pre_tokenize_str


def _matched(atom: str, characters: list[str]) -> set[str]:
    """Those of the characters that an expression for a single character matches."""
    from tokenizers import Regex, pre_tokenizers

    split = pre_tokenizers.Split(Regex(atom), "removed")
    rest = {begin for _, (begin, end) in split.pre_tokenize_str("".join(characters)) for begin in range(begin, end)}
    return {char for position, char in enumerate(characters) if position not in rest}
