"""What a row stands for: the checkpoint's own tokenizer, read from its files; nothing of the checkpoint is executed."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FILES: Final = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
    "config.json",
)
"""The files that a tokenizer of the transformers library may be made of."""


class TokenizerUnusable(Exception):
    """The checkpoint has no tokenizer that can be read; the message says why. It costs the decoding, nothing more."""


@dataclass(frozen=True)
class Token:
    """A row's token: ``piece`` as the vocabulary has it, ``text`` as it decodes; None beyond the tokenizer."""

    id: int
    piece: str | None
    text: str | None


@dataclass(frozen=True)
class Tokenizer:
    """A checkpoint's tokenizer."""

    kind: str
    """The library and class that read it."""
    n_tokens: int
    """Its length, added tokens included."""
    piece: Callable[[int], str | None]
    text: Callable[[int], str]

    def tokens(self, ids: Iterable[int]) -> list[Token]:
        """Each id with its piece and text.

        Raises:
            TokenizerUnusable: the library fails to decode one.
        """
        with _unusable():
            return [self._token(id) for id in ids]

    def _token(self, id: int) -> Token:
        piece = self.piece(id)
        return Token(id, piece, None if piece is None else self.text(id))


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer whose files lie in a folder.

    Raises:
        TokenizerUnusable: there is none, or it needs code of its own.
    """
    with _unusable():
        described = folder / "tokenizer.json"
        return _fast(described) if described.exists() else _slow(folder)


@contextmanager
def _unusable() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # tokenizers raises plain Exception, and transformers nearly everything
        reason = " ".join(str(error).split())[:300]
        raise TokenizerUnusable(f"the tokenizer cannot be read ({type(error).__name__}: {reason})") from error


def _fast(path: Path) -> Tokenizer:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    return Tokenizer(
        kind=f"tokenizers {type(tokenizer.model).__name__}",
        n_tokens=tokenizer.get_vocab_size(with_added_tokens=True),
        piece=tokenizer.id_to_token,
        text=lambda id: tokenizer.decode([id], skip_special_tokens=False),
    )


def _slow(folder: Path) -> Tokenizer:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)

    def piece(id: int) -> str | None:
        found = tokenizer.convert_ids_to_tokens(id) if id < len(tokenizer) else None
        return found if isinstance(found, str) else None

    def text(id: int) -> str:
        return str(tokenizer.decode([id], skip_special_tokens=False, clean_up_tokenization_spaces=False))

    return Tokenizer(f"transformers {type(tokenizer).__name__}", len(tokenizer), piece, text)
