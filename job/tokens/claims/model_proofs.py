"""Proves that a tokenizer's model gives an id for no word at all: because of its own merges, scores or search."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from itertools import chain, islice
from typing import TYPE_CHECKING, Final, cast

from job.tokens.claims.utf8 import cut

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from tokenizers.models import BPE, Unigram

_MARGIN: Final = 1e-6
"""By which one sum of scores must be above another. The library adds float64 in another order within a longer word."""
MAX_SEARCHED: Final = 500
"""Pieces of a WordPiece model for which all predecessors are gone through; each takes some milliseconds."""
MAX_WORDS: Final = 16
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


def neighbours(
    backend: "Tokenizer", ids: Iterable[int], token_bytes: Sequence[bytes | None], added: Set[int]
) -> dict[int, list[bytes]]:
    """For ids whose bytes begin or end within a character: the bytes of each two pieces, the id's and one with more of
    that character, that the merges of a byte-level BPE model leave side by side.

    A word holds whole characters, so such a piece has such a neighbour. As in ``never_merged``, what BPE makes of the
    two pieces' part of the word by itself is these two pieces. An id without neighbours never occurs.
    """
    with by_merges_alone(backend) as model:
        if model is None or model.continuing_subword_prefix or model.end_of_word_suffix:
            return {}
        data = {id: each for id, each in enumerate(token_bytes) if each and id not in added}
        parts = {id: cut(each) for id, each in data.items()}
        befores = [id for id, part in parts.items() if part and (part.tail or (part.head and not part.whole))]
        afters = [id for id, part in parts.items() if part and part.head]

        def are_left(first: int, second: int) -> bool:
            pieces = (backend.id_to_token(first) or "") + (backend.id_to_token(second) or "")
            return [token.id for token in model.tokenize(pieces)] == [first, second]

        found = {}
        for id in ids:
            part = parts[id]
            pairs = [(id, after) for after in afters] if part and part.tail else [(before, id) for before in befores]
            possible = [pair for pair in pairs if cut(data[pair[0]] + data[pair[1]]) is not None]
            found[id] = [data[first] + data[second] for first, second in possible if are_left(first, second)]
        return found


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
        pieces = sorted(backend.get_vocab(with_added_tokens=False), key=lambda piece: (len(piece), piece))
        self._firsts = _lengthenings([piece for piece in pieces if not self.is_inner(piece)])
        self._inner = _lengthenings([piece.removeprefix(prefix) for piece in pieces if self.is_inner(piece)])
        self._left = MAX_SEARCHED

    def is_inner(self, piece: str) -> bool:
        return bool(self.prefix) and piece.startswith(self.prefix)

    def words_with(self, piece: str) -> list[str]:
        """Words that are another piece and then this one, such as ``abing`` for ``##ing``."""
        text = piece.removeprefix(self.prefix)
        firsts = (first for first in self._firsts if first.isalnum() and self._can_precede(self._firsts[first], text))
        return [first + text for first in islice(firsts, MAX_WORDS)]

    def never_follows(self, piece: str) -> bool:
        """Whether the model takes a longer piece wherever another one comes before this piece. False beyond
        ``MAX_SEARCHED`` pieces."""
        self._left -= 1
        text = piece.removeprefix(self.prefix)
        every = chain(self._firsts.values(), self._inner.values())
        return self._left >= 0 and not any(self._can_precede(lengthenings, text) for lengthenings in every)

    @staticmethod
    def _can_precede(lengthenings: Sequence[str], text: str) -> bool:
        return not any(map(text.startswith, lengthenings))


def _lengthenings(pieces: Sequence[str]) -> dict[str, list[str]]:
    """For each piece what makes a longer one of it."""
    found: dict[str, list[str]] = {piece: [] for piece in pieces if piece}
    for piece in found:
        for n in range(1, len(piece)):
            if piece[:n] in found:
                found[piece[:n]].append(piece[n:])
    return found
