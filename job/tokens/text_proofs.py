"""Proves that no text hands the model of a tokenizer a given part: because of the normaliser, of the pre-tokenizer, or
of the added tokens, which are taken out before. A component that is not understood here proves nothing."""

from collections.abc import Iterable
from functools import cached_property
from itertools import chain
from typing import TYPE_CHECKING, Final

from job.tokens.encoding_steps import SPACE, has_type, normalizer_of, setting, steps
from job.tokens.word_cuts import WordCuts

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_CLOSED: Final = frozenset({"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents"})
"""Normalisers that leave alone whatever they gave, and every part of it: the normal forms are closed under taking
substrings (Unicode Standard Annex 15, section 3), and the others change each character by itself."""
_UNCHANGED: Final = 0x40000
"""From here on no character has a case or a decomposition; but for tags, none is assigned or planned."""
_TAGS: Final = (0xE0000, 0xE1000)
_INSERTING: Final = frozenset({"Replace", "Prepend"})


class TextProofs:
    """What the model of a tokenizer is never given."""

    def __init__(self, backend: "Tokenizer") -> None:
        self._backend = backend
        self._normalizers = steps(backend.normalizer, "normalizers")
        self.cuts = WordCuts(steps(backend.pre_tokenizer, "pretokenizers"))
        self._sets_apart = self.cuts.at_spaces and any(
            setting(step, "handle_chinese_chars") for step in self._normalizers
        )
        self._apart: dict[str, bool] = {}
        self._closed = {
            str(step["type"]): normalizer_of(step).normalize_str
            for step in self._normalizers
            if has_type(step, _CLOSED)
        }

    def never_given(self, text: str, *, within_word: bool = False) -> bool:
        """Whether no word that the model is given holds this text, as the pre-tokenizer leaves it. ``within_word``:
        after the word's first character."""
        if not text:
            return False
        return (
            any(added in text for added in self._taken_out)
            or self._never_normalized(text)
            or self.cuts.always(text)
            or (len(text) > 1 and any(map(self._set_apart, text)))
            or (within_word and (self._set_apart(text[0]) or self.cuts.isolates(text[0])))
        )

    @cached_property
    def _taken_out(self) -> list[str]:
        """The texts of added tokens that never reach the model.

        One that stands in the input is taken out, or another that overlaps with it is, and then the rest of it is no
        longer in one piece. A token for single words is passed over with what overlaps it, so where there are such,
        nothing is certain. One that is looked for before the normaliser runs must not be a thing that it can make.
        """
        tokens = self._backend.get_added_tokens_decoder().values()
        if any(token.single_word for token in tokens):
            return []
        normalize = self._backend.normalizer.normalize_str if self._backend.normalizer else str
        taken = [token for token in tokens if not (token.special and self._backend.encode_special_tokens)]
        texts = [normalize(token.content) for token in taken if token.normalized]
        if all(has_type(step, _INSERTING) for step in self._normalizers):
            inserted = "".join(setting(step, "content") + setting(step, "prepend") for step in self._normalizers)
            texts += [token.content for token in taken if not token.normalized and not {*inserted} & {*token.content}]
        return [text for text in texts if text and not {" ", SPACE} & {*text}]

    def _never_normalized(self, text: str) -> bool:
        """Whether the normaliser never gives the text: walks its steps from the last one back, as long as they tell
        something about what is between the characters that later ones put in."""
        parts = self.cuts.without_spaces(text)
        for step in reversed(self._normalizers):
            if has_type(step, _CLOSED):
                return any(self._closed[str(step["type"])](part) != part for part in parts)
            if has_type(step, {"BertNormalizer"}):
                return any(ord(char) < _UNCHANGED and char not in self._alphabet for part in parts for char in part)
            if has_type(step, _INSERTING):
                content, old = setting(step, "content") + setting(step, "prepend"), setting(step, "pattern")
                parts = _split_at(parts, content)
                certain = old and old not in content and (content or len(old) == 1)
                if certain and any(old in part for part in parts):
                    return True
                if not content:
                    return False  # what stood around a text that was taken out is now together
            elif not has_type(step, {"Strip"}):
                return False
        return False

    @cached_property
    def _alphabet(self) -> frozenset[str]:
        """The characters that the normaliser gives, if it changes each character by itself, and all further ones."""
        characters = map(chr, chain(range(0xD800), range(0xE000, _UNCHANGED), range(*_TAGS)))
        return frozenset(self._backend.normalizer.normalize_str("".join(characters)))

    def _set_apart(self, char: str) -> bool:
        """Whether the normaliser puts spaces around the character, at which the pre-tokenizer cuts."""
        if char not in self._apart:
            given = self._backend.normalizer.normalize_str(f"a{char}a") if self._sets_apart else ""
            self._apart[char] = given == f"a {char} a"
        return self._apart[char]


def _split_at(parts: Iterable[str], characters: str) -> list[str]:
    table = str.maketrans(dict.fromkeys(characters, " "))
    if not characters:
        return list(parts)
    return [piece for part in parts for piece in part.translate(table).split(" ")]
