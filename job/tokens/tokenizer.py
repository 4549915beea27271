"""Loads a checkpoint's tokenizer from its files. Does not execute any code of the checkpoint."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TOKENIZER_FILES: Final = (
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
"""The files from which the transformers library may load a tokenizer."""


def files_to_read(names: Collection[str], *, has_vocabulary: bool) -> list[str]:
    """The tokenizer's files among a checkpoint's: none if a GGUF file's vocabulary serves, or ``config.json`` is alone.

    ``has_vocabulary``: whether the weight file holds a list of tokens.
    """
    files = [name for name in TOKENIZER_FILES if name in names]
    return [] if (has_vocabulary and "tokenizer.json" not in files) or files == ["config.json"] else files


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
class Tokenizer:
    """A checkpoint's tokenizer."""

    kind: str
    """The library and class that read the tokenizer."""
    n_tokens: int
    """The number of tokens, including added ones."""
    piece: Callable[[int], str | None]
    text: Callable[[int], str]

    def tokens(self, ids: Iterable[int]) -> list[Token]:
        """The tokens with these ids.

        Raises:
            TokenizerUnusable: the library fails to decode a token.
        """
        with _errors_translated():
            return [self._token(id) for id in ids]

    def _token(self, id: int) -> Token:
        piece = self.piece(id)
        return Token(id, piece, None if piece is None else self.text(id))


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer whose files are in a folder.

    Raises:
        TokenizerUnusable: the folder has no tokenizer, or one that needs code of its own.
    """
    with _errors_translated():
        tokenizer_json = folder / "tokenizer.json"
        return _load_tokenizer_json(tokenizer_json) if tokenizer_json.exists() else _load_other_files(folder)


@contextmanager
def _errors_translated() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # tokenizers raises Exception itself, and transformers almost every exception
        reason = " ".join(str(error).split())[:300]
        raise TokenizerUnusable(f"the tokenizer cannot be read ({type(error).__name__}: {reason})") from error


def _load_tokenizer_json(path: Path) -> Tokenizer:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    return Tokenizer(
        kind=f"tokenizers {type(tokenizer.model).__name__}",
        n_tokens=tokenizer.get_vocab_size(with_added_tokens=True),
        piece=tokenizer.id_to_token,
        text=lambda id: tokenizer.decode([id], skip_special_tokens=False),
    )


def _load_other_files(folder: Path) -> Tokenizer:
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)

    def piece(id: int) -> str | None:
        token = tokenizer.convert_ids_to_tokens(id) if id < len(tokenizer) else None
        return token if isinstance(token, str) else None

    def text(id: int) -> str:
        return str(tokenizer.decode([id], skip_special_tokens=False, clean_up_tokenization_spaces=False))

    return Tokenizer(f"transformers {type(tokenizer).__name__}", len(tokenizer), piece, text)
