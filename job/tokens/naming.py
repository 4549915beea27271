"""Finds a checkpoint's tokenizer, and names the tokens of some rows of W."""

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
from job.tokens.tokenizer import Token, Tokenizer, TokenizerUnusable, files_to_read, load_tokenizer

logger = logging.getLogger(__name__)

MAX_TOKENIZER_FILE: Final = 256 << 20
"""In bytes. The largest tokenizer files today have about 40 MB."""


@dataclass(frozen=True)
class TokenNames:
    """The tokens of some rows, and the tokenizer that named them."""

    files: dict[str, str]
    """The tokenizer's files, with their content ids."""
    tokenizer: Tokenizer | None
    """None if no tokenizer can be read."""
    unusable: str
    """Why no tokenizer can be read; empty if there is one."""
    tokens: dict[int, Token]
    """The tokens by row."""


def name_tokens(checkpoint: Checkpoint, vocabulary: Vocabulary | None, rows: Iterable[int], folder: Path) -> TokenNames:
    """The tokens of these rows. Uses ``tokenizer.json``, or else a GGUF file's ``vocabulary``, or else other files.

    ``folder``: an empty folder, for a copy of the tokenizer's files.

    Raises:
        TransientError: a file cannot be fetched, or the scratch disk is full.
    """
    rows = list(rows)
    to_read = files_to_read(checkpoint.files, has_vocabulary=vocabulary is not None)
    files = {name: checkpoint.files[name].content_id for name in to_read}
    foreign: ModelError | None = None
    try:
        if vocabulary and not files:
            files = {vocabulary.file: checkpoint.files[vocabulary.file].content_id}
            tokenizer = from_vocabulary(vocabulary.model, vocabulary.tokens)
        elif files:
            for name in files:
                content = checkpoint.read(name, MAX_TOKENIZER_FILE)
                foreign = foreign or recognise(content[:MAX_ERROR_MESSAGE], len(content), name)
                write_scratch(folder / name, content)
            tokenizer = load_tokenizer(folder)
        else:
            return _without_names({}, rows, "the checkpoint has no tokenizer")
        return TokenNames(files, tokenizer, "", {token.id: token for token in tokenizer.tokens(rows)})
    except (TokenizerUnusable, ModelError) as error:
        logger.info("%s: the tokens have no names: %s", checkpoint.source, foreign or error)
        return _without_names(files, rows, str(foreign or error))


def _without_names(files: dict[str, str], rows: Iterable[int], reason: str) -> TokenNames:
    return TokenNames(files, None, reason, {row: Token(row, None, None) for row in rows})
