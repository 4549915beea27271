"""Puts together what proves that no encoding holds an id."""

import re
from collections.abc import Mapping, Sequence, Set
from itertools import islice
from typing import TYPE_CHECKING, Final

from job.tokens.model_proofs import UnigramProofs, WordPieceSearch, never_beside, never_merged
from job.tokens.text_proofs import TextProofs
from job.tokens.utf8 import Parts, characters_beginning_with, characters_ending_in, cut, is_exhaustive

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_BYTE: Final = re.compile(r"<0x([0-9A-F]{2})>")
"""A piece that stands for a byte of a character that the vocabulary does not have."""
_NO_BYTES: Final = (0xC0, 0xC1, *range(0xF5, 0x100))
"""They occur in no UTF-8 text (Unicode 16.0, table 3-7)."""

MAX_EXHAUSTED: Final = 300
"""Ids for which all that can stand beside them is gone through; each takes up to 0.1 s."""


class Proofs:
    """The proofs for one tokenizer."""

    def __init__(self, backend: "Tokenizer", added: Set[int]) -> None:
        from tokenizers import models

        self._backend, self._added = backend, added | backend.get_added_tokens_decoder().keys()
        self._given = TextProofs(backend)
        model = backend.model
        self._unknown = getattr(model, "unk_token", None)
        self._is_bpe = isinstance(model, models.BPE)
        self._ignores_merges = isinstance(model, models.BPE) and model.ignore_merges
        self._unigram = UnigramProofs(model) if isinstance(model, models.Unigram) else None
        self._words = (
            WordPieceSearch(backend, model.continuing_subword_prefix) if isinstance(model, models.WordPiece) else None
        )
        self._falls_back = self._unigram.falls_back if self._unigram else getattr(model, "byte_fallback", False)
        self.word_prefix = self._words.prefix if self._words else ""
        """What marks pieces within words."""

    def unreachable(self, pieces: Mapping[int, str], token_bytes: Sequence[bytes | None]) -> set[int]:
        """Those of these ids, given with their pieces, that no text's encoding holds. Of added tokens, which are
        emitted apart from the model, and of the unknown token nothing is said."""
        pieces = {id: piece for id, piece in pieces.items() if id not in self._added and piece != self._unknown}
        parts = {id: self._parts(piece, token_bytes[id]) for id, piece in pieces.items()}
        self._given.cuts.learn(part.whole for part in parts.values() if part)
        unmerged = never_merged(self._backend, pieces) if self._is_bpe else set()
        return {
            id
            for id, piece in pieces.items()
            if (
                (id in unmerged and (not self._ignores_merges or self._never_whole(parts[id])))
                or self._never_given(piece, parts[id])
                or self._no_text_holds(piece, token_bytes[id])
                or (self._unigram is not None and self._unigram.never_chosen(id, piece))
            )
            and not self._can_fall_back(piece)
        }

    def exhausted(self, pieces: Mapping[int, str], token_bytes: Sequence[bytes | None]) -> set[int]:
        """Those of these ids that no encoding holds, by proofs that go through all that can stand beside a piece. They
        are for the few ids for which a search found nothing; beyond ``MAX_EXHAUSTED`` ids nothing is said."""
        own = {id: piece for id, piece in pieces.items() if id not in self._added and piece != self._unknown}
        own = dict(islice(own.items(), MAX_EXHAUSTED))
        words = self._words
        found = {
            id
            for id, piece in own.items()
            if words and words.is_inner(piece) and self._given.never_given(piece) and words.never_follows(piece)
        }
        parts = {id: self._parts(piece, token_bytes[id]) for id, piece in own.items()}
        partial = {id: part for id, part in parts.items() if part and (part.head or part.tail)}
        found |= {id for id, part in partial.items() if self._never_completed(part)}
        if self._is_bpe and partial.keys() - found:
            found |= never_beside(self._backend, partial.keys() - found, token_bytes, self._added)
        return found

    def _never_completed(self, parts: Parts) -> bool:
        """Whether the model is given no text with the piece's whole characters beside one that its bytes belong to."""
        afters = characters_beginning_with(parts.tail) if parts.tail and is_exhaustive(parts.tail) else ()
        befores = characters_ending_in(parts.head) if len(parts.head) > 1 and (parts.whole or parts.tail) else ()
        return bool(
            (afters and all(self._given.never_given(parts.whole + after) for after in afters))
            or (befores and all(self._given.never_given(before + parts.whole) for before in befores))
        )

    def words_with(self, piece: str) -> list[str]:
        """For a piece within words of a WordPiece model: words that are likely to hold it."""
        return self._words.words_with(piece) if self._words and self._words.is_inner(piece) else []

    def _parts(self, piece: str, data: bytes | None) -> Parts | None:
        """What the model is given where it finds a piece, as text; None if no text holds the piece's bytes, or if the
        bytes are not those of the piece."""
        if not self._given.cuts.is_byte_level:
            return Parts(b"", piece, b"")
        return cut(data) if data is not None and len(data) == len(piece) else None

    def _no_text_holds(self, piece: str, data: bytes | None) -> bool:
        """Whether the bytes that a piece is spelt with are part of no UTF-8 text."""
        return self._given.cuts.is_byte_level and data is not None and len(data) == len(piece) and cut(data) is None

    def _never_whole(self, parts: Parts | None) -> bool:
        """Whether no word is the piece, which a model that ignores merges would take as it is."""
        if parts is None or parts.head or parts.tail:
            return self._given.cuts.is_byte_level
        return self._given.cuts.never_whole(parts.whole)

    def _never_given(self, piece: str, parts: Parts | None) -> bool:
        if parts is None:
            return False
        if not self._words or not self._words.is_inner(piece):
            return self._given.never_given(parts.whole)
        if not self._given.never_given(piece):  # a word may begin with what looks like a piece within words
            return False
        text = piece.removeprefix(self.word_prefix)
        return not text or self._given.never_given(text, within_word=True)

    def _can_fall_back(self, piece: str) -> bool:
        """Whether the piece is a byte that characters outside the vocabulary may be spelt with."""
        byte = _BYTE.fullmatch(piece)
        if not byte or not self._falls_back:
            return False
        value = int(byte[1], 16)
        if value < 0x80:
            char = chr(value)
            return self._backend.model.token_to_id(char) is None and not self._given.never_given(char)
        return value not in _NO_BYTES
