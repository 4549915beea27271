"""What a tokenizer says of each id: its piece, its text, how it is spelled, and how the tokenizer marks it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    import tokenizers

MAX_CHARACTERS: Final = 4_000_000
"""In the pieces and texts of the tokens that are named, which a manifest lists: up to 20,000, mostly short ones."""

MAX_IDS: Final = 2_000_000
"""The largest vocabulary of 2025 had 262,208 tokens; a list by id of the highest id in a file could take all memory."""

Spelling = Literal["byte-level", "sentencepiece", "wordpiece", "plain", "unknown"]
"""How pieces spell bytes: by GPT-2's characters; ▁ for a space and <0xNN> for a byte; ## within a word; as they are.
Nothing says it where the spelling is unknown."""


class TokenizerUnusable(Exception):
    """The checkpoint's tokenizer cannot be read; the message says why. The survey goes on without names of tokens."""


@dataclass(frozen=True)
class Token:
    """A row's token: its ``piece`` in the vocabulary, and the ``text`` to which it decodes. Both are None if the
    tokenizer has no such token."""

    id: int
    piece: str | None
    text: str | None


@dataclass(frozen=True)
class TokenizerInfo:
    """What a tokenizer is, and how many rows of W it can name."""

    kind: str
    """The library and class that read the tokenizer."""
    n_tokens: int
    """The number of tokens, including added ones."""
    n_ids: int
    """One more than the highest id. It is more than ``n_tokens`` if the tokenizer leaves ids out."""
    n_own_ids: int
    """The same for the vocabulary alone, without added tokens. A model has a row for each of these ids."""


@dataclass(frozen=True)
class Tokenizer:
    """A checkpoint's tokenizer."""

    info: TokenizerInfo
    pieces: Sequence[str | None]
    """By id, ``n_ids`` of them. None where the tokenizer has no such token, or nothing says which of two it is."""
    texts: Callable[[Sequence[int]], list[str]]
    """The text of each of these ids, decoded by itself. Each must have a piece."""
    spelling: Spelling
    """Of the vocabulary's own pieces. Added tokens are plain text."""
    added: frozenset[int]
    special: frozenset[int]
    """Control tokens, as the tokenizer marks them."""
    unused: frozenset[int]
    """Those that the tokenizer marks as reserved. Names that only look so do not count."""
    backend: "tokenizers.Tokenizer | None"
    """Encodes as the model's own tokenizer does. None where nothing says exactly how that is."""

    def tokens(self, ids: Iterable[int]) -> list[Token]:
        """The tokens with these ids.

        Raises:
            TokenizerUnusable: the library fails to decode a token, or the tokens are too long in all.
        """
        found, length = [], 0
        with errors_translated():
            for id in ids:
                token = self._token(id)
                length += len(token.piece or "") + len(token.text or "")
                if length > MAX_CHARACTERS:
                    raise TokenizerUnusable(
                        f"found tokens of more than {MAX_CHARACTERS:,} characters in all, token {id:,} among them with "
                        f"{len(token.piece or ''):,}, expected shorter ones; check the tokenizer's files"
                    )
                found.append(token)
        return found

    def _token(self, id: int) -> Token:
        piece = self.pieces[id] if id < len(self.pieces) else None
        return Token(id, piece, None if piece is None else self.texts([id])[0])


@contextmanager
def errors_translated() -> Iterator[None]:
    """Raise what a library raises over a tokenizer's files as TokenizerUnusable."""
    try:
        yield
    except TokenizerUnusable:
        raise
    except BaseException as error:  # tokenizers raises Exception itself, and transformers almost every exception
        if not isinstance(error, Exception) and not _is_panic(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise TokenizerUnusable(f"the tokenizer cannot be read ({type(error).__name__}: {reason})") from error


def _is_panic(error: BaseException) -> bool:
    """Whether a library in Rust panicked. The class of this error cannot be imported."""
    return (type(error).__module__, type(error).__name__) == ("pyo3_runtime", "PanicException")


def number_of_ids(ids: Iterable[int]) -> int:
    """One more than the highest of these ids; 0 if there are none.

    Raises:
        TokenizerUnusable: an id is too high for a list by id.
    """
    n_ids = max(ids, default=-1) + 1
    if n_ids > MAX_IDS:
        raise TokenizerUnusable(
            f"found a token with id {n_ids - 1:,}, expected ids below {MAX_IDS:,}; check the tokenizer's files"
        )
    return n_ids
