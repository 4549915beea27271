"""Proves that a tokenizer's model gives an id for no word at all: because of its own merges, scores or search."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, cast

from job.tokens.utf8 import cut

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE, Unigram

_MARGIN: Final = 1e-6
"""By which one sum of scores must be above another. The library adds float64 in another order within a longer word."""
MAX_SEARCHED: Final = 500
"""Pieces of a WordPiece model for which all predecessors are gone through; each takes some milliseconds."""
MAX_WORDS: Final = 100
"""That are tried for a piece within words."""


def is_random(backend: "Tokenizer") -> bool:
    """Whether the model leaves out merges, or draws among segmentations, so that a text has no one encoding."""
    model = backend.model
    return bool(getattr(model, "dropout", None) or getattr(model, "alpha", None))


@contextmanager
def by_merges_alone(backend: "Tokenizer") -> Iterator["BPE | None"]:
    """The BPE model, set to give no word its id directly; None for other models. Set back at the end."""
    from tokenizers.models import BPE

    model = backend.model
    if not isinstance(model, BPE):
        yield None
        return
    ignored = model.ignore_merges
    model.ignore_merges = False
    try:
        yield model
    finally:
        model.ignore_merges = ignored


def never_merged(backend: "Tokenizer", pieces: Mapping[int, str]) -> set[int]:
    """Those of these ids, given with their pieces, that the merges of a BPE model never end in.

    A piece that BPE finds in a word is what it makes of that part of the word by itself: no merge crossed the part's
    borders, or the piece would not begin and end there; so those within it are the ones that are possible without
    the rest of the word, and they come in the same order, by rank and then from left to right. If the model makes
    something else of the piece alone, it never gives it. This holds only if the symbols that it starts with do not
    depend on the place in the word (no prefix within words, no suffix at their end).
    The unknown token and bytes, which stand for what the vocabulary lacks, are for the caller.
    """
    with by_merges_alone(backend) as model:
        if model is None or model.continuing_subword_prefix or model.end_of_word_suffix:
            return set()
        return {id for id, piece in pieces.items() if [token.id for token in model.tokenize(piece)] != [id]}


def never_beside(
    backend: "Tokenizer", ids: Iterable[int], token_bytes: Sequence[bytes | None], added: Set[int]
) -> set[int]:
    """Those of these ids, whose bytes begin or end within a character, that the merges of a byte-level BPE model never
    leave beside the piece with the rest of the character.

    A word holds whole characters, so such a piece has a neighbour that goes on with the character. As in
    ``never_merged``, what BPE makes of the two pieces' part of the word by itself is these two pieces. If it makes
    something else for each possible neighbour, the piece never occurs.
    """
    with by_merges_alone(backend) as model:
        if model is None or model.continuing_subword_prefix or model.end_of_word_suffix:
            return set()
        parts = {id: cut(data) for id, data in enumerate(token_bytes) if data and id not in added}
        befores = [id for id, part in parts.items() if part and (part.tail or (part.head and not part.whole))]
        afters = [id for id, part in parts.items() if part and part.head]

        def is_pair(first: int, second: int) -> bool:
            data = (token_bytes[first] or b"") + (token_bytes[second] or b"")
            if cut(data) is None:
                return False
            pieces = (backend.id_to_token(first) or "") + (backend.id_to_token(second) or "")
            return [token.id for token in model.tokenize(pieces)] == [first, second]

        return {
            id
            for id in ids
            if (part := parts[id])
            and (
                (part.tail and not any(is_pair(id, after) for after in afters))
                or (part.head and not any(is_pair(before, id) for before in befores))
            )
        }


class UnigramProofs:
    """The pieces and scores of a unigram model."""

    def __init__(self, model: "Unigram") -> None:
        state = cast("Mapping[str, object]", json.loads(model.__getstate__()))
        self._model = model
        self._unknown = state["unk_id"]
        self.falls_back = bool(state.get("byte_fallback"))
        self._scores = [score for _, score in cast("Sequence[tuple[str, float]]", state["vocab"])]

    def never_chosen(self, id: int, piece: str) -> bool:
        """Whether the search never ends in this id: another has the same piece, or pieces that make up the same text
        have a greater score in all, so that putting them in its place makes every segmentation better."""
        if id == self._unknown:
            return False
        if self._model.token_to_id(piece) != id:
            return True
        best = [token.id for token in self._model.tokenize(piece)]
        if best == [id] or self._unknown in best or "".join(map(self._piece, best)) != piece:
            return False
        return sum(self._scores[other] for other in best) > self._scores[id] + _MARGIN

    def _piece(self, id: int) -> str:
        return self._model.id_to_token(id) or ""


class WordPieceSearch:
    """What can stand before a piece within a word. The model takes the longest piece that fits, from left to right.

    It is enough to look at the piece just before, and at pieces that end their word: what the model takes before a
    place does not depend on what it takes after, and a text that follows can only lengthen what it takes.
    """

    def __init__(self, backend: "Tokenizer", prefix: str) -> None:
        self.prefix = prefix
        pieces = sorted(backend.get_vocab(with_added_tokens=False))
        self._firsts = {piece for piece in pieces if not self.is_inner(piece)}
        self._inner = {piece.removeprefix(prefix) for piece in pieces if self.is_inner(piece)}
        self._left = MAX_SEARCHED

    def is_inner(self, piece: str) -> bool:
        return bool(self.prefix) and piece.startswith(self.prefix)

    def words_with(self, piece: str) -> list[str]:
        """Words that are another piece and then this one."""
        text = piece.removeprefix(self.prefix)
        return [first + text for first in sorted(self._not_lengthened(self._firsts, text), key=_by_length)[:MAX_WORDS]]

    def never_follows(self, piece: str) -> bool:
        """Whether the model takes a longer piece wherever another one comes before this piece. False beyond
        ``MAX_SEARCHED`` pieces."""
        self._left -= 1
        text = piece.removeprefix(self.prefix)
        return self._left >= 0 and not any(self._not_lengthened(all, text) for all in (self._firsts, self._inner))

    @staticmethod
    def _not_lengthened(pieces: Set[str], text: str) -> set[str]:
        """The pieces after which the text can begin: with none of its beginnings they make another piece."""
        beginnings = [text[:n] for n in range(1, len(text) + 1)]
        return set(pieces) - {other[: -len(each)] for each in beginnings for other in pieces if other.endswith(each)}


def _by_length(text: str) -> tuple[int, str]:
    return len(text), text
