"""Decodes the tokens of a GGUF file that has a list of tokens, but no tokenizer."""

import re
from collections.abc import Callable, Mapping, Sequence, Set
from typing import Final

from job.tokens.byte_level import BYTES
from job.tokens.tokenizer import Spelling, Tokenizer, TokenizerInfo

_SPACE: Final = "▁"
"""The character for a space in a SentencePiece token."""
_BYTE: Final = re.compile(r"<0x([0-9A-F]{2})>")
"""A SentencePiece token for a single byte."""


def _decode_byte_level(piece: str) -> str:
    if not BYTES.keys() >= set(piece):
        return piece  # an added token is stored as plain text
    raw = bytes(BYTES[char] for char in piece)
    try:
        return raw.decode()
    except UnicodeDecodeError:  # part of a character, or an added token with a character such as é
        return piece if piece[0] + piece[-1] == "<>" and len(piece) > 2 else raw.decode(errors="replace")


def _decode_sentencepiece(piece: str) -> str:
    if byte := _BYTE.fullmatch(piece):
        return bytes([int(byte[1], 16)]).decode(errors="replace")
    return piece.replace(_SPACE, " ")


_DECODERS: Final[Mapping[Spelling, Callable[[str], str]]] = {
    "byte-level": _decode_byte_level,
    "sentencepiece": _decode_sentencepiece,
}
"""The decoder of a piece. Otherwise a piece is its own text."""

_SPELLINGS: Final[Mapping[str, Spelling]] = {
    "gpt2": "byte-level",  # every byte-level BPE
    "llama": "sentencepiece",  # SentencePiece's BPE
    "t5": "sentencepiece",  # SentencePiece's unigrams
    "bert": "sentencepiece",  # WordPiece; GGUF writes ▁ before a word instead of ## within a word
    "gemma4": "sentencepiece",
}
"""The spelling of the pieces by ``tokenizer.ggml.model``."""


def from_vocabulary(
    model: str,
    tokens: Sequence[str],
    added: Set[int] = frozenset(),
    *,
    special: Set[int] = frozenset(),
    unused: Set[int] = frozenset(),
) -> Tokenizer:
    """A tokenizer that can decode single tokens.

    Args:
        model: the file's ``tokenizer.ggml.model``.
        added: the ids of added tokens. Those of byte-level BPE are plain text.
        special: the ids of control tokens and of the unknown one.
        unused: the ids that the file calls unused.
    """
    n_ids, spelling = len(tokens), _SPELLINGS.get(model, "unknown")
    decode = _DECODERS.get(spelling, str)
    plain = added if spelling == "byte-level" else frozenset()

    def texts(ids: Sequence[int]) -> list[str]:
        return [tokens[id] if id in plain else decode(tokens[id]) for id in ids]

    within = frozenset(range(n_ids)).intersection  # a file may have more types than tokens
    return Tokenizer(
        TokenizerInfo(f"gguf {model}".rstrip(), n_tokens=n_ids, n_ids=n_ids, n_own_ids=n_ids),
        tokens,
        texts,
        spelling,
        added=within(added),
        special=within(special),
        unused=within(unused),
        backend=None,
    )
