"""Finds a checkpoint's tokenizer, and names the tokens of some rows of W."""

import logging
from collections.abc import Iterable, Mapping, Sequence
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
    """The tokens of these rows. A GGUF file's ``vocabulary`` says what its rows are; ``tokenizer.json`` beside it
    decodes them if it agrees. Without a vocabulary, the tokenizer's files say it.

    Args:
        weight_file: the file that W is in. The tokenizer is that of the same folder, if it holds a model of its own.
        folder: an empty folder, for a copy of the tokenizer's files.
        n_rows: how many rows W has.
        rows_are_not_tokens: what the rows stand for if row i is not token i. Then no token is named.

    Raises:
        TransientError: a file cannot be fetched, or the scratch disk is full.
    """
    rows = list(rows)
    origin = tokenizer_folder({*checkpoint.files, *checkpoint.set_aside}, weight_file)
    to_read = files_to_read(checkpoint.files, origin, has_vocabulary=vocabulary is not None)
    used = [vocabulary.file] if vocabulary else to_read
    unusable = ""
    try:
        if rows_are_not_tokens:
            raise TokenizerUnusable(rows_are_not_tokens)
        config = read_config(checkpoint, origin)
        if vocabulary:
            gguf = from_vocabulary(vocabulary.model, vocabulary.tokens, vocabulary.added)
            tokenizer, tokens = gguf.info, gguf.tokens(rows)
            _check_fit(tokenizer, n_rows, config)
            decoded = _decoded_alike(checkpoint, to_read, origin, tokens, folder, n_rows, config)
            if decoded:
                used, (tokenizer, tokens) = to_read, decoded
        else:
            tokenizer, tokens = _read_tokenizer(checkpoint, to_read, origin, rows, folder)
            _check_fit(tokenizer, n_rows, config)
        by_row = {token.id: token for token in tokens}
    except (TokenizerUnusable, ModelError) as error:
        unusable = str(error)  # not the error itself, which holds on to everything that is held here
        logger.info("%s: the tokens have no names: %s", checkpoint.source, unusable)
        tokenizer, by_row = None, {row: Token(row, None, None) for row in rows}
    return TokenNames({name: checkpoint.files[name].content_id for name in used}, tokenizer, unusable, by_row)


def _read_tokenizer(
    checkpoint: Checkpoint, names: Sequence[str], origin: str, rows: Sequence[int], folder: Path
) -> tuple[TokenizerInfo, list[Token]]:
    """The tokenizer of the files in the folder ``origin`` of a checkpoint, and the tokens of these rows.

    Raises:
        TokenizerUnusable, ModelError: there is none, or it cannot be read.
    """
    if unreadable := next((name for name in TOKENIZER_FILES if origin + name in checkpoint.set_aside), None):
        raise TokenizerUnusable(f"{origin}{unreadable} cannot be read: {checkpoint.set_aside[origin + unreadable]}")
    if not names:
        raise TokenizerUnusable(f"{f'{origin} in ' if origin else ''}the checkpoint has no tokenizer")
    foreign: ModelError | None = None
    try:
        for name in names:
            content = checkpoint.read(name, MAX_TOKENIZER_FILE)
            if not checkpoint.files[name].matches([content]):
                raise TokenizerUnusable(f"{name}: found content that differs from its git id; download it again")
            foreign = foreign or recognise(content[:MAX_ERROR_MESSAGE], len(content), name)
            write_scratch(folder / name.removeprefix(origin), content)
        return decode_tokens(folder, rows)
    except (TokenizerUnusable, ModelError) as error:
        raise foreign or error from None


def _decoded_alike(
    checkpoint: Checkpoint,
    names: Sequence[str],
    origin: str,
    own: Sequence[Token],
    folder: Path,
    n_rows: int,
    config: Mapping[str, object],
) -> tuple[TokenizerInfo, list[Token]] | None:
    """What tokenizer.json beside a GGUF file makes of the file's own tokens; None if there is none, or it has other
    pieces: then it is another model's, or spells them in another way."""
    if not names:
        return None
    try:
        tokenizer, tokens = _read_tokenizer(checkpoint, names, origin, [token.id for token in own], folder)
        _check_fit(tokenizer, n_rows, config)
        for token, other in zip(own, tokens, strict=True):
            if token.piece != other.piece:
                raise TokenizerUnusable(
                    f"found the piece {other.piece!r:.80} for id {token.id:,}, expected {token.piece!r:.80}, as the "
                    "GGUF file has it"
                )
    except (TokenizerUnusable, ModelError) as error:
        message = "%s: %stokenizer.json is not used beside the GGUF file's own tokens: %s"
        logger.warning(message, checkpoint.source, origin, str(error))
        return None
    return tokenizer, tokens


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
