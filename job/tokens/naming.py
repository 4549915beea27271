"""Finds a checkpoint's tokenizer, and names the tokens of some rows of W."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.file_names import CONFIG
from job.checkpoints.formats.foreign_content import MAX_ERROR_MESSAGE, recognise
from job.checkpoints.formats.gguf_header import Vocabulary
from job.checkpoints.head.config import VOCAB_SIZE_NAMES, has_a_row_for_each_token, read_config, stated_number
from job.errors import ModelError
from job.scratch import write_scratch
from job.tokens.gguf_tokens import from_vocabulary
from job.tokens.process import decode_tokens
from job.tokens.tokenizer import (
    TOKENIZER_FILES,
    Token,
    TokenizerInfo,
    TokenizerUnusable,
    files_to_read,
    tokenizer_folder,
)

logger = logging.getLogger(__name__)

MAX_TOKENIZER_FILE: Final = 256 << 20
"""In bytes. The largest tokenizer files today have about 40 MB."""


@dataclass(frozen=True)
class TokenNames:
    """The tokens of some rows, and the tokenizer that named them."""

    files: dict[str, str]
    """The tokenizer's files, with their content ids."""
    tokenizer: TokenizerInfo | None
    """None if no token can be named."""
    unusable: str
    """Why no token can be named; empty if there is a tokenizer."""
    tokens: dict[int, Token]
    """The tokens by row."""


def name_tokens(
    checkpoint: Checkpoint,
    weight_file: str,
    vocabulary: Vocabulary | None,
    rows: Iterable[int],
    folder: Path,
    *,
    n_rows: int,
    rows_are_not_tokens: str | None,
) -> TokenNames:
    """The tokens of these rows. Uses ``tokenizer.json``, or else a GGUF file's ``vocabulary``, or else other files.

    Args:
        weight_file: the file that W is in. The tokenizer is that of the same folder, if it holds a model of its own.
        folder: an empty folder, for a copy of the tokenizer's files.
        n_rows: how many rows W has.
        rows_are_not_tokens: what the rows stand for if row i is not token i. Then no token is named.

    Raises:
        TransientError: a file cannot be fetched, or the scratch disk is full.
    """
    rows = list(rows)
    names = {*checkpoint.files, *checkpoint.set_aside}
    origin = tokenizer_folder(names, weight_file)
    from_gguf = vocabulary is not None and f"{origin}tokenizer.json" not in names
    to_read = files_to_read(checkpoint.files, origin, has_vocabulary=from_gguf)
    files = {name: checkpoint.files[name].content_id for name in to_read}
    unreadable = next((origin + name for name in TOKENIZER_FILES if origin + name in checkpoint.set_aside), None)
    if vocabulary and from_gguf:
        files = {vocabulary.file: checkpoint.files[vocabulary.file].content_id}
    foreign: ModelError | None = None
    try:
        if rows_are_not_tokens:
            raise TokenizerUnusable(rows_are_not_tokens)
        if unreadable and not from_gguf:
            raise TokenizerUnusable(f"{unreadable} cannot be read: {checkpoint.set_aside[unreadable]}")
        if vocabulary and from_gguf:
            gguf = from_vocabulary(vocabulary.model, vocabulary.tokens)
            tokenizer, tokens = gguf.info, gguf.tokens(rows)
        elif files:
            for name in files:
                content = checkpoint.read(name, MAX_TOKENIZER_FILE)
                foreign = foreign or recognise(content[:MAX_ERROR_MESSAGE], len(content), name)
                write_scratch(folder / name.removeprefix(origin), content)
            tokenizer, tokens = decode_tokens(folder, rows)
        else:
            files = {}
            where = f"{origin} in the checkpoint" if origin else "the checkpoint"
            raise TokenizerUnusable(f"{where} has no tokenizer")
        _check_fit(tokenizer, n_rows, read_config(checkpoint, origin))
        return TokenNames(files, tokenizer, "", {token.id: token for token in tokens})
    except (TokenizerUnusable, ModelError) as error:
        reason = str(foreign or error)  # not the error itself, which holds on to everything that is held here
        logger.info("%s: the tokens have no names: %s", checkpoint.source, reason)
        return TokenNames(files, None, reason, {row: Token(row, None, None) for row in rows})


def _check_fit(tokenizer: TokenizerInfo, n_rows: int, config: Mapping[str, object]) -> None:
    """Check that the rows of W can be the tokenizer's tokens. Otherwise the tokenizer is another model's, or the rows
    stand for something else, such as audio codes.

    A sound model may lack rows for tokens that were added later, and may have more rows than tokens.

    Raises:
        TokenizerUnusable: W has no row for an id of the vocabulary; or it has far more rows than both the tokenizer has
            ids and config.json states, with which transformers would not load it.
    """
    if tokenizer.n_own_ids > n_rows:
        raise TokenizerUnusable(
            f"found a vocabulary of {tokenizer.n_own_ids:,} ids without added tokens, expected at most {n_rows:,}, the "
            "number of rows of W; so nothing says that row i of W is token i"
        )
    stated = stated_number(config, VOCAB_SIZE_NAMES)
    if stated and max(stated[1], tokenizer.n_ids) < n_rows and not has_a_row_for_each_token(n_rows, config):
        raise TokenizerUnusable(
            f"found {n_rows:,} rows of W, expected {stated[1]:,}, which {CONFIG} sets {stated[0]} to, and "
            f"a tokenizer of {tokenizer.n_ids:,} ids; so nothing says that row i of W is token i"
        )
