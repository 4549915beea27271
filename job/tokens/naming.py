"""Names the tokens that the rows of W stand for. Their columns are written in another process."""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from job.checkpoints.file_names import CONFIG
from job.checkpoints.formats.gguf_file import Vocabulary
from job.checkpoints.head.config import VOCAB_SIZE_NAMES, has_a_row_for_each_token, stated_number
from job.tokens.files import TokenizerFiles
from job.tokens.process import DescribedTokens, describe_in_process, write_vocabulary
from job.tokens.tokenizer import MAX_CHARACTERS, Token, TokenizerInfo, TokenizerUnusable

logger = logging.getLogger(__name__)

COLUMNS_FILE: Final = "tokens.arrow"
_VOCABULARY_FILE: Final = "gguf-vocabulary.json"


@dataclass(frozen=True)
class TokenNames:
    """What the rows of W stand for, and the tokenizer that says so."""

    files: dict[str, str]
    """The tokenizer's files, with their content ids."""
    tokenizer: TokenizerInfo | None
    """None if no token can be named."""
    unusable: str
    """Why no token can be named; empty if there is a tokenizer."""
    columns: Path | None
    """The Arrow IPC file with a row for each row of W; None if no token can be named."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long what took in the other process."""

    def of(self, rows: Iterable[int]) -> dict[int, Token]:
        """The tokens of these rows, for the manifest. Tokens without which there would be more than ``MAX_CHARACTERS``
        have no names there, as if no token could be named."""
        named = {row: Token(row, None, None) for row in rows}
        if self.columns is None:
            return named
        from job.tokens.columns import read_tokens  # imports numpy, which a run may not need

        length, left_out = 0, 0
        for token in read_tokens(self.columns, named):
            n_characters = len(token.piece or "") + len(token.text or "")
            if length + n_characters > MAX_CHARACTERS:
                left_out += 1
                continue
            length += n_characters
            named[token.id] = token
        if left_out:
            message = "found tokens of more than %s characters in all, expected shorter ones: the manifest lists %d of"
            message += " them without names; the table of tokens has all"
            logger.warning(message, f"{MAX_CHARACTERS:,}", left_out)
        return named


def name_tokens(files: TokenizerFiles, folder: Path, *, n_rows: int) -> TokenNames:
    """Describe the rows of W, which has ``n_rows``, in a new file in ``folder``. A GGUF file's vocabulary says what its
    rows are; ``tokenizer.json`` beside it describes them if it agrees. Without a vocabulary, the tokenizer's files say
    it.

    Raises:
        TransientError: no process can be started in which the tokenizer is read, or the scratch disk is full.
    """
    used = {files.vocabulary.file: files.vocabulary_id} if files.vocabulary else files.content_ids
    columns = folder / COLUMNS_FILE
    try:
        if files.no_names:
            raise TokenizerUnusable(files.no_names)
        if files.vocabulary is None:
            described = _by_files(files, None, n_rows, columns)
        else:
            own = _write_own_list(files, files.vocabulary, folder, n_rows)
            if alike := _by_files_alike(files, own, n_rows, columns):
                used, described = files.content_ids, alike
            else:
                described = describe_in_process(None, own, n_rows, columns)
    except TokenizerUnusable as error:
        unusable = str(error)  # not the error itself, which holds on to everything that is held here
        logger.info("%s: the tokens have no names: %s", files.source, unusable)
        return TokenNames(used, None, unusable, None)
    return TokenNames(used, described.info, "", columns, described.seconds)


def _by_files(files: TokenizerFiles, own: Path | None, n_rows: int, columns: Path) -> DescribedTokens:
    """Describe the rows by the tokenizer's files.

    Args:
        own: the GGUF file's list of tokens, with which the tokenizer has to agree.

    Raises:
        TokenizerUnusable: the tokenizer cannot be read, does not agree, or is not the tokenizer of this W.
    """
    if files.unreadable:
        raise TokenizerUnusable(files.unreadable)
    try:
        described = describe_in_process(files.folder, own, n_rows, columns)
    except TokenizerUnusable as error:
        raise TokenizerUnusable(files.foreign or str(error)) from None
    _check_fit(described.info, n_rows, files.config)
    return described


def _write_own_list(files: TokenizerFiles, vocabulary: Vocabulary, folder: Path, n_rows: int) -> Path:
    """A file with the GGUF file's list of tokens, for the other process.

    Raises:
        TokenizerUnusable: it cannot be the list of this W's rows.
    """
    n_ids = len(vocabulary.tokens)
    _check_fit(TokenizerInfo("gguf", n_tokens=n_ids, n_ids=n_ids, n_own_ids=n_ids), n_rows, files.config)
    path = folder / _VOCABULARY_FILE
    write_vocabulary(vocabulary, path)
    return path


def _by_files_alike(files: TokenizerFiles, own: Path, n_rows: int, columns: Path) -> DescribedTokens | None:
    """Describe the rows by tokenizer.json beside a GGUF file; None if there is none, or it has other pieces than the
    file's own list: then it is another model's, or spells them in another way."""
    if not files.content_ids:
        return None
    try:
        return _by_files(files, own, n_rows, columns)
    except TokenizerUnusable as error:
        message = "%s: %stokenizer.json is not used beside the GGUF file's own tokens: %s"
        logger.warning(message, files.source, files.origin, str(error))
        return None


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
