"""What a row stands for where all there is is the list of tokens in a GGUF file: pieces, and the texts they spell."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from job.tokens.tokenizer import Tokenizer

_BLANK: Final = "▁"
"""How SentencePiece writes a space."""
_BYTE: Final = re.compile(r"<0x([0-9A-F]{2})>")
"""How SentencePiece writes a byte that is no token of its own."""


def _spelled_bytes() -> dict[str, int]:
    """The character by which GPT-2 spells each byte: itself where it can be seen, else the next one from U+0100."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = sorted(set(range(0x100)) - set(seen))
    return {chr(byte): byte for byte in seen} | {chr(0x100 + n): byte for n, byte in enumerate(hidden)}


_SPELLED: Final[Mapping[str, int]] = _spelled_bytes()


def _byte_level(piece: str) -> str:
    if not _SPELLED.keys() >= set(piece):
        return piece  # a token that was added is written as it is
    return bytes(_SPELLED[char] for char in piece).decode(errors="replace")


def _sentencepiece(piece: str) -> str:
    if byte := _BYTE.fullmatch(piece):
        return bytes([int(byte[1], 16)]).decode(errors="replace")
    return piece.replace(_BLANK, " ")


_SPELLINGS: Final[Mapping[str, Callable[[str], str]]] = {
    "gpt2": _byte_level,  # every byte-level BPE
    "llama": _sentencepiece,  # SentencePiece's BPE
    "t5": _sentencepiece,  # SentencePiece's unigrams
    "bert": _sentencepiece,  # WordPiece, which GGUF writes with ▁ before a word instead of ## within one
    "gemma4": _sentencepiece,
}
"""How tokens spell texts, by ``tokenizer.ggml.model``; those of others are shown as they are."""


def from_vocabulary(model: str, tokens: Sequence[str]) -> Tokenizer:
    """A tokenizer that can only name tokens. ``model``: what GGUF calls ``tokenizer.ggml.model``."""
    spell = _SPELLINGS.get(model, str)
    return Tokenizer(
        kind=f"gguf {model}".rstrip(),
        n_tokens=len(tokens),
        piece=lambda id: tokens[id] if id < len(tokens) else None,
        text=lambda id: spell(tokens[id]),
    )
