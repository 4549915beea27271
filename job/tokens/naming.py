"""Which tokenizer a checkpoint has, and what it calls some of W's rows."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.formats.foreign_content import MAX_ERROR_MESSAGE, recognise
from job.checkpoints.formats.gguf_header import Vocabulary
from job.errors import ModelError
from job.scratch import write_scratch
from job.tokens.gguf_tokens import from_vocabulary
from job.tokens.tokenizer import FILES, Token, Tokenizer, TokenizerUnusable, load_tokenizer

logger = logging.getLogger(__name__)

MAX_TOKENIZER_FILE: Final = 256 << 20
"""Bytes; the largest tokenizer files today have about 40 MB."""


@dataclass(frozen=True)
class TokenNames:
    """What some rows stand for, and what told it."""

    files: dict[str, str]
    """The tokenizer's files, with their content ids."""
    tokenizer: Tokenizer | None
    """None where there is none that can be read."""
    unusable: str
    """Why there is none; empty where there is one."""
    tokens: dict[int, Token]
    """By row."""


def name_tokens(checkpoint: Checkpoint, vocabulary: Vocabulary | None, rows: Iterable[int], folder: Path) -> TokenNames:
    """What these rows stand for, by ``tokenizer.json`` before a GGUF file's ``vocabulary`` before other files.

    ``folder``: an empty one, which the tokenizer's files are copied to.

    Raises:
        TransientError: a file cannot be fetched, or the scratch disk is full.
    """
    rows = list(rows)
    files = {name: checkpoint.files[name].content_id for name in FILES if name in checkpoint.files}
    foreign: ModelError | None = None
    try:
        if vocabulary and "tokenizer.json" not in files:
            files = {vocabulary.file: checkpoint.files[vocabulary.file].content_id}
            tokenizer = from_vocabulary(vocabulary.model, vocabulary.tokens)
        elif files.keys() - {"config.json"}:
            for name in files:
                content = checkpoint.read(name, MAX_TOKENIZER_FILE)
                foreign = foreign or recognise(content[:MAX_ERROR_MESSAGE], len(content), name)
                write_scratch(folder / name, content)
            tokenizer = load_tokenizer(folder)
        else:
            return _unnamed({}, rows, "the checkpoint has no tokenizer")
        return TokenNames(files, tokenizer, "", {token.id: token for token in tokenizer.tokens(rows)})
    except (TokenizerUnusable, ModelError) as error:
        logger.info("%s: rows are not decoded: %s", checkpoint.source, error)
        return _unnamed(files, rows, str(foreign or error))


def _unnamed(files: dict[str, str], rows: Iterable[int], why: str) -> TokenNames:
    return TokenNames(files, None, why, {row: Token(row, None, None) for row in rows})
