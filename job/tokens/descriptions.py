"""What each row of W stands for, by its tokenizer: piece, text, bytes, kind of token, script."""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from job.tokens.classes import TokenClasses, classify
from job.tokens.scripts import scripts
from job.tokens.token_bytes import exact_bytes
from job.tokens.tokenizer import Tokenizer

_N_TEXTS: Final = 16_384
"""Decoded at a time."""
_REPLACEMENT: Final = "\ufffd"
"""What a decoder gives for bytes that are no text."""
_SURROGATE: Final = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Descriptions:
    """What a tokenizer says of its tokens, by id, and of the rows of W."""

    pieces: list[str | None]
    texts: list[str | None]
    token_bytes: list[bytes | None]
    classes: TokenClasses
    script_index: NDArray[np.int16]
    """By id: into ``script_names``; −1 for a token without text."""
    script_names: list[str]


def describe_tokens(tokenizer: Tokenizer, n_rows: int) -> Descriptions:
    """The descriptions of all tokens, for a W with ``n_rows``."""
    pieces = [piece and without_surrogates(piece) for piece in tokenizer.pieces]
    texts = _texts(tokenizer)
    token_bytes = exact_bytes(tokenizer, texts)
    classes = classify(tokenizer, token_bytes, n_rows)
    script_index, names = scripts([_readable(text, raw) for text, raw in zip(texts, token_bytes, strict=True)])
    return Descriptions(pieces, texts, token_bytes, classes, script_index, names)


def without_surrogates(text: str) -> str:
    """The same text as one that UTF-8 can hold. A tokenizer in Python may give half of a surrogate pair."""
    return text if text.isascii() else _SURROGATE.sub(_REPLACEMENT, text)


def _texts(tokenizer: Tokenizer) -> list[str | None]:
    """What each token decodes to by itself, by id."""
    texts: list[str | None] = [None] * len(tokenizer.pieces)
    ids = [id for id, piece in enumerate(tokenizer.pieces) if piece is not None]
    for begin in range(0, len(ids), _N_TEXTS):
        some = ids[begin : begin + _N_TEXTS]
        for id, text in zip(some, tokenizer.texts(some), strict=True):
            texts[id] = without_surrogates(text)
    return texts


def _readable(text: str | None, token_bytes: bytes | None) -> str | None:
    """The text, if anything of it can be read: nothing of a part of a character can."""
    is_part = text is not None and not text.strip(_REPLACEMENT) and token_bytes != text.encode()
    return None if is_part else text
