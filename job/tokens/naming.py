"""Names the tokens of some rows of W."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from job.checkpoints.file_names import CONFIG
from job.checkpoints.head.config import VOCAB_SIZE_NAMES, has_a_row_for_each_token, stated_number
from job.tokens.files import TokenizerFiles
from job.tokens.gguf_tokens import from_vocabulary
from job.tokens.process import decode_tokens
from job.tokens.tokenizer import Token, TokenizerInfo, TokenizerUnusable

logger = logging.getLogger(__name__)


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


def name_tokens(files: TokenizerFiles, rows: Iterable[int], *, n_rows: int) -> TokenNames:
    """The tokens of these rows of W, which has ``n_rows``. A GGUF file's vocabulary says what its rows are;
    ``tokenizer.json`` beside it decodes them if it agrees. Without a vocabulary, the tokenizer's files say it.

    Raises:
        TransientError: no process can be started in which the tokenizer is read.
    """
    rows = list(rows)
    used = {files.vocabulary.file: files.vocabulary_id} if files.vocabulary else files.content_ids
    unusable = ""
    try:
        if files.no_names:
            raise TokenizerUnusable(files.no_names)
        if files.vocabulary:
            own = files.vocabulary
            gguf = from_vocabulary(own.model, own.tokens, own.added, special=own.special, unused=own.unused)
            tokenizer, tokens = gguf.info, gguf.tokens(rows)
            _check_fit(tokenizer, n_rows, files.config)
            if decoded := _decoded_alike(files, tokens, n_rows):
                used, (tokenizer, tokens) = files.content_ids, decoded
        else:
            tokenizer, tokens = _decoded(files, rows, n_rows)
        by_row = {token.id: token for token in tokens}
    except TokenizerUnusable as error:
        unusable = str(error)  # not the error itself, which holds on to everything that is held here
        logger.info("%s: the tokens have no names: %s", files.source, unusable)
        tokenizer, by_row = None, {row: Token(row, None, None) for row in rows}
    return TokenNames(used, tokenizer, unusable, by_row)


def _decoded(files: TokenizerFiles, rows: Sequence[int], n_rows: int) -> tuple[TokenizerInfo, list[Token]]:
    """The tokenizer of these files, and the tokens of these rows.

    Raises:
        TokenizerUnusable: it cannot be read, or is not the tokenizer of this W.
    """
    if files.unreadable:
        raise TokenizerUnusable(files.unreadable)
    try:
        tokenizer, tokens = decode_tokens(files.folder, rows)
    except TokenizerUnusable as error:
        raise TokenizerUnusable(files.foreign or str(error)) from None
    _check_fit(tokenizer, n_rows, files.config)
    return tokenizer, tokens


def _decoded_alike(
    files: TokenizerFiles, own: Sequence[Token], n_rows: int
) -> tuple[TokenizerInfo, list[Token]] | None:
    """What tokenizer.json beside a GGUF file makes of the file's own tokens; None if there is none, or it has other
    pieces: then it is another model's, or spells them in another way."""
    if not files.content_ids:
        return None
    try:
        tokenizer, tokens = _decoded(files, [token.id for token in own], n_rows)
        for token, other in zip(own, tokens, strict=True):
            if token.piece != other.piece:
                raise TokenizerUnusable(
                    f"found the piece {other.piece!r:.80} for id {token.id:,}, expected {token.piece!r:.80}, as the "
                    "GGUF file has it"
                )
    except TokenizerUnusable as error:
        message = "%s: %stokenizer.json is not used beside the GGUF file's own tokens: %s"
        logger.warning(message, files.source, files.origin, str(error))
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
