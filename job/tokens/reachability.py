"""What a tokenizer's own encoding says of each id: whether its text gives it back, and whether any text does."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from job.tokens.exhibits import Exhibits, encoding_whole_texts, texts_of
from job.tokens.model_proofs import is_random
from job.tokens.proofs import Proofs
from job.tokens.utf8 import is_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer


@dataclass(frozen=True)
class Claims:
    """Two claims about each id; None where it cannot be told, or where the tokenizer has no such token."""

    round_trips: list[bool | None]
    """The text that the id decodes to by itself encodes to this one id."""
    reachable: list[bool | None]
    """Some text encodes to a sequence that holds the id. True was seen, False was proved."""


def encoding_claims(
    backend: "Tokenizer",
    pieces: Sequence[str | None],
    texts: Sequence[str | None],
    token_bytes: Sequence[bytes | None],
    added: Set[int],
) -> Claims:
    """What can be said of each id, without the tokens that mark the beginning and the end of a sequence.

    Args:
        backend: encodes as the model's own tokenizer does. Its settings are as before at the end.
        pieces: by id; None where the tokenizer has no such token, or its id is disputed.
        texts: what each id decodes to by itself.
        token_bytes: the bytes that each id stands for.
        added: the ids of added tokens.
    """
    round_trips: list[bool | None] = [None] * len(pieces)
    reachable = list(round_trips)
    if is_random(backend):
        return Claims(round_trips, reachable)
    own = {id: backend.id_to_token(id) for id, piece in enumerate(pieces) if piece is not None}
    spelt = {id: piece for id, piece in own.items() if piece is not None}
    exhibits, proofs = Exhibits(backend, len(pieces)), Proofs(backend, added)
    with encoding_whole_texts(backend):
        for id, encoded in zip(spelt, exhibits.encode(texts[id] or "" for id in spelt), strict=True):
            round_trips[id] = encoded == [id]
        unseen = {id: piece for id, piece in spelt.items() if id not in exhibits}
        unreachable = proofs.unreachable(unseen, token_bytes)
        left = {id: piece for id, piece in unseen.items() if id not in unreachable}
        _search(exhibits, proofs, left, texts, token_bytes)
        left = {id: piece for id, piece in left.items() if id not in exhibits}
        unreachable |= proofs.exhausted(left, token_bytes)
    for id in spelt:
        reachable[id] = True if id in exhibits else False if id in unreachable else None
    return Claims(round_trips, reachable)


def _search(
    exhibits: Exhibits,
    proofs: Proofs,
    pieces: Mapping[int, str],
    texts: Sequence[str | None],
    token_bytes: Sequence[bytes | None],
) -> None:
    """Look for each id in more and more texts."""
    if pieces:
        exhibits.look_at_all_characters()
    parts = {id: token_bytes[id] or b"" for id in pieces if id not in exhibits}
    exhibits.look_in_completions({id: data for id, data in parts.items() if not is_text(data)})
    exhibits.look_in_contexts(
        {id: texts_of(piece, texts[id], token_bytes[id], proofs.word_prefix) for id, piece in pieces.items()}
    )
    for id, piece in pieces.items():
        if id not in exhibits:
            exhibits.look(proofs.words_with(piece))
