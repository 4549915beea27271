"""The bytes that a token stands for, exactly, by how its vocabulary spells them."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import numpy as np

from job.tokens.byte_level import BYTES
from job.tokens.tokenizer import Spelling, Tokenizer

_SPACE: Final = "▁"
"""The character for a space in a SentencePiece piece."""
_BYTE_PIECE: Final = re.compile(r"<0x([0-9A-Fa-f]{2})>")
"""A SentencePiece piece for a single byte."""
_WITHIN_A_WORD: Final = "##"
"""How a WordPiece piece begins that does not begin a word."""


def exact_bytes(tokenizer: Tokenizer, texts: Sequence[str | None]) -> list[bytes | None]:
    """The bytes of each token, by id. None where the tokenizer has no token, or where nothing says its bytes.

    They are those of the token within a text: SentencePiece's ``▁the`` stands for a space and ``the``, although some
    tokenizers leave the space out if they decode the token by itself.

    Args:
        texts: what each token decodes to, by id.
    """
    pieces, added = tokenizer.pieces, tokenizer.added
    if tokenizer.spelling == "byte-level":
        found = _of_byte_level(pieces, texts)
    else:
        spelled = _SPELLED[tokenizer.spelling]
        found = [
            None if piece is None or text is None else spelled(piece, text)
            for piece, text in zip(pieces, texts, strict=True)
        ]
    for id in added:
        piece, text = pieces[id], texts[id]
        found[id] = None if piece is None or text is None else _of_added(piece, text)
    return found


def single_bytes(tokenizer: Tokenizer, token_bytes: Sequence[bytes | None]) -> list[int]:
    """The ids of the vocabulary's own tokens for single bytes. Only two spellings have such tokens: in the others, the
    piece ``a`` is a character.

    Args:
        token_bytes: ``exact_bytes`` of the tokenizer.
    """
    pieces, added = tokenizer.pieces, tokenizer.added
    if tokenizer.spelling == "byte-level":
        return [id for id, raw in enumerate(token_bytes) if raw is not None and len(raw) == 1 and id not in added]
    if tokenizer.spelling == "sentencepiece":
        return [id for id, piece in enumerate(pieces) if piece and _BYTE_PIECE.fullmatch(piece) and id not in added]
    return []


def is_partial_utf8(token_bytes: bytes) -> bool:
    """Whether bytes are no text by themselves: they begin or end within a character, or are not well-formed."""
    if token_bytes.isascii():
        return False
    try:
        token_bytes.decode()
    except UnicodeDecodeError:
        return True
    return False


def _utf8(text: str) -> bytes | None:
    try:
        return text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which no bytes stand for
        return None


def _of_byte_level(pieces: Sequence[str | None], texts: Sequence[str | None]) -> list[bytes | None]:
    """All at once, because most vocabularies are spelled so. A piece with other characters is plain text, and so is one
    that the library decodes so although the bytes would be no text."""
    byte_of_character = np.full(max(map(ord, BYTES)) + 2, -1, np.int16)
    byte_of_character[[ord(character) for character in BYTES]] = list(BYTES.values())
    joined = "".join(piece or "" for piece in pieces).encode("utf-32-le", "surrogatepass")
    characters = np.frombuffer(joined, np.uint32)
    of_characters = byte_of_character[np.minimum(characters, len(byte_of_character) - 1)]
    ends = np.cumsum(np.fromiter((len(piece or "") for piece in pieces), np.int64, len(pieces)))
    plain = set(np.searchsorted(ends, np.flatnonzero(of_characters < 0), side="right").tolist())
    every, begin, found = of_characters.astype(np.uint8).tobytes(), 0, list[bytes | None]()
    for id, (piece, text, end) in enumerate(zip(pieces, texts, ends.tolist(), strict=True)):
        raw = every[begin:end]
        is_plain = id in plain or (piece == text and is_partial_utf8(raw))
        found.append(None if piece is None else _utf8(piece) if is_plain else raw)
        begin = end
    return found


def _of_sentencepiece(piece: str, _text: str) -> bytes | None:
    if byte := piece[0:1] == "<" and _BYTE_PIECE.fullmatch(piece):
        return bytes.fromhex(byte[1])
    return _utf8(piece.replace(_SPACE, " "))


def _of_wordpiece(piece: str, _text: str) -> bytes | None:
    return _utf8(piece.removeprefix(_WITHIN_A_WORD))


def _of_plain(piece: str, text: str) -> bytes | None:
    return _utf8(piece) if piece == text else None  # otherwise the vocabulary has a spelling after all


def _of_unknown(_piece: str, _text: str) -> None:
    return None


def _of_added(piece: str, text: str) -> bytes | None:
    """An added token is plain text, unless its library decodes ▁ in it as a space: so it is for runs of spaces that
    are both in a SentencePiece vocabulary and added tokens."""
    return _utf8(piece if _SPACE in text else piece.replace(_SPACE, " "))


_SPELLED: Final[Mapping[Spelling, Callable[[str, str], bytes | None]]] = {
    "sentencepiece": _of_sentencepiece,
    "wordpiece": _of_wordpiece,
    "plain": _of_plain,
    "unknown": _of_unknown,
}
"""The bytes of a piece by the spelling of the vocabulary; of the piece's text only to see whether the two agree."""
