"""A byte-level BPE whose tokens are ranked bytes, as in the tiktoken library: neighbours are merged into the token of
the lowest rank first, and a stretch of text that is itself a token needs no merges.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from job.tokens.byte_level import spell
from job.tokens.tokenizer import Tokenizer, TokenizerInfo, number_of_ids

if TYPE_CHECKING:
    import tokenizers


@dataclass(frozen=True)
class Splitting:
    """How a text is prepared for a BPE."""

    pattern: str
    """A regular expression. Each match is a stretch that is encoded by itself."""
    nfc: bool = False
    """Whether the text is normalised to NFC first."""


@dataclass(frozen=True)
class AddedNames:
    """Tokens of which only the name is known, by id."""

    names: Mapping[int, str]
    special: frozenset[int]
    unused: frozenset[int] = frozenset()
    """Those that stand for nothing yet."""


def from_ranks(kind: str, tokens: Mapping[int, bytes], added: AddedNames, splitting: Splitting | None) -> Tokenizer:
    """The tokenizer of ranked tokens.

    Args:
        tokens: the bytes of the ranked tokens by id, which rises with the rank.
        splitting: None if nothing says how texts are split. Then the tokenizer cannot encode.

    Raises:
        TokenizerUnusable: an id is too high.
    """
    spelled = {id: spell(content) for id, content in tokens.items()}
    n_ids = number_of_ids([*tokens, *added.names])
    pieces = [added.names.get(id, spelled.get(id)) for id in range(n_ids)]
    disputed = {
        id for id in added.names.keys() & tokens.keys() if added.names[id] != tokens[id].decode(errors="replace")
    }
    for id in disputed:
        pieces[id] = None  # nothing says which of both the model was trained with

    def texts(ids: Sequence[int]) -> list[str]:
        return [added.names[id] if id in added.names else tokens[id].decode(errors="replace") for id in ids]

    return Tokenizer(
        TokenizerInfo(kind, len(tokens.keys() | added.names.keys()), n_ids, number_of_ids(tokens)),
        pieces,
        texts,
        "byte-level",
        added=frozenset(added.names),
        special=added.special,
        unused=added.unused,
        backend=_backend(spelled, added, splitting) if splitting and not disputed else None,
    )


def _backend(spelled: Mapping[int, str], added: AddedNames, splitting: Splitting) -> "tokenizers.Tokenizer | None":
    """The tokenizer of the tokenizers library; None if a byte has no token, or a name is also another token's
    spelling."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    ids = {piece: id for id, piece in spelled.items()}
    names = {name: id for id, name in added.names.items()}
    has_conflict = len(names) < len(added.names) or any(ids.get(name, id) != id for name, id in names.items())
    if has_conflict or not all(spell(bytes([byte])) in ids for byte in range(256)):
        return None
    # Added tokens that are in the model's vocabulary keep the ids that they have there.
    backend = Tokenizer(models.BPE(ids | names, _merges(ids), ignore_merges=True))
    if splitting.nfc:
        backend.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(splitting.pattern), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(False, use_regex=False)])
    backend.decoder = decoders.ByteLevel()
    backend.add_tokens(
        [AddedToken(name, normalized=False, special=id in added.special) for name, id in sorted(names.items())]
    )
    return backend


def _merges(ids: Mapping[str, int]) -> list[tuple[str, str]]:
    """Each split of a token into two tokens, by rank: any of them may meet in a text."""
    return [
        (piece[:at], piece[at:])
        for piece in sorted(ids, key=ids.__getitem__)
        for at in range(1, len(piece))
        if piece[:at] in ids and piece[at:] in ids
    ]
