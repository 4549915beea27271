"""Where a pre-tokenizer cuts whatever stands around, so that no word that it gives holds a text."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final

from job.tokens.encoding_steps import SPACE, Step, has_type, pre_tokenizer_of, regular_expression, setting
from job.tokens.pattern_syntax import UnknownSyntax
from job.tokens.split_pattern import SplitPattern

_GPT2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""ByteLevel's own pattern."""
_BY_CHARACTER: Final = frozenset({"BertPreTokenizer", "Whitespace", "WhitespaceSplit", "Punctuation", "Digits"})
"""They cut between two characters because of these two alone."""

_Cut = Callable[[str], bool]
"""Whether a step always cuts within a text."""


class WordCuts:
    """The steps of a pre-tokenizer."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self._patterns: list[SplitPattern] = []
        self._cuts: list[_Cut] = []
        self._last: SplitPattern | None = None
        self._bert = next((pre_tokenizer_of(step) for step in steps if has_type(step, {"BertPreTokenizer"})), None)
        self.at_spaces = any(has_type(step, {"BertPreTokenizer", "Whitespace", "WhitespaceSplit"}) for step in steps)
        self.is_byte_level = any(has_type(step, {"ByteLevel"}) for step in steps)
        self._marks_spaces = any(has_type(step, {"Metaspace"}) for step in steps)
        before_spaces = self._marks_spaces
        for step in steps:
            before_spaces = before_spaces and not has_type(step, {"Metaspace"})
            cut = self._cut_of(step)
            if cut is not None:
                self._cuts.append(partial(_any_part, cut) if before_spaces else cut)

    def learn(self, texts: Iterable[str]) -> None:
        """Look at the characters of many texts at once, which is quicker."""
        characters = set[str]().union(*texts)
        for pattern in self._patterns:
            pattern.learn(characters)

    def always(self, text: str) -> bool:
        """Whether no word holds the text."""
        return any(cut(text) for cut in self._cuts)

    def never_whole(self, text: str) -> bool:
        """Whether no word is exactly the text."""
        return self.always(text) or (self._last is not None and self._last.never_is(text))

    def isolates(self, char: str) -> bool:
        """Whether a character is always a word of its own."""
        return self._bert is not None and len(self._bert.pre_tokenize_str(f"a{char}a")) > 1

    def without_spaces(self, text: str) -> list[str]:
        """The parts of a text that are the normaliser's, without the marks that a step puts in for spaces."""
        return text.split(SPACE) if self._marks_spaces else [text]

    def _cut_of(self, step: Step) -> _Cut | None:
        if has_type(step, {"Metaspace"}):
            cut = _cut_at_marks if setting(step, "split") else _cut_at_spaces
            return cut if setting(step, "replacement") == SPACE else None
        if has_type(step, {"ByteLevel"}) and not setting(step, "use_regex"):
            return None
        self._last = None
        if has_type(step, _BY_CHARACTER):
            return partial(_cut_by, pre_tokenizer_of(step).pre_tokenize_str)
        if has_type(step, {"Split"}) and len(string := setting(step, "pattern")) == 1 and not setting(step, "invert"):
            return partial(_cut_at_character, string, setting(step, "behavior"))
        if not (expression := _expression_of(step)):
            return None
        try:
            self._last = SplitPattern(expression)
        except UnknownSyntax:
            return None
        self._patterns.append(self._last)
        return self._last.never_within


def _expression_of(step: Step) -> str:
    """The expression whose matches, and what is between them, are the words; empty for other kinds of step."""
    if has_type(step, {"ByteLevel"}):
        return _GPT2
    by_matches = (setting(step, "behavior"), setting(step, "invert")) in (("Isolated", ""), ("Removed", "True"))
    return regular_expression(step) if has_type(step, {"Split"}) and by_matches else ""


def _any_part(cut: _Cut, text: str) -> bool:
    return any(cut(part) for part in text.split(SPACE))


def _cut_at_marks(text: str) -> bool:
    return " " in text or SPACE in text[1:]


def _cut_at_spaces(text: str) -> bool:
    return " " in text


def _cut_by(pre_tokenize: Callable[[str], list[tuple[str, tuple[int, int]]]], text: str) -> bool:
    return bool(text) and [word for word, _ in pre_tokenize(text)] != [text]


def _cut_at_character(char: str, behavior: str, text: str) -> bool:
    if behavior == "Removed":
        return char in text
    kept = {"Isolated": text if len(text) > 1 else "", "MergedWithPrevious": text[:-1], "MergedWithNext": text[1:]}
    return char in kept.get(behavior, "")
