"""Fetches what names a checkpoint's tokens: the files of its tokenizer, and its config."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from job.checkpoints.checkpoint import Checkpoint
from job.checkpoints.formats.foreign_content import MAX_ERROR_MESSAGE, recognise
from job.checkpoints.formats.gguf_file import Vocabulary
from job.checkpoints.head.config import read_config
from job.errors import ModelError
from job.scratch import write_scratch
from job.tokens.file_choice import files_to_read, needed_files, tokenizer_folder
from job.tokens.tokenizer import TokenizerUnusable

MAX_TOKENIZER_FILE: Final = 256 << 20
"""In bytes. The largest tokenizer files today have about 40 MB."""


@dataclass(frozen=True)
class TokenizerFiles:
    """A checkpoint's tokenizer, as far as it could be fetched."""

    folder: Path
    """Where its files were copied to."""
    source: str
    """The checkpoint that they are from, for people."""
    origin: str
    """Their folder in the checkpoint: empty for the root, otherwise it ends with a slash."""
    vocabulary: Vocabulary | None
    """The list of tokens in a GGUF file, which says what the file's rows are."""
    vocabulary_id: str
    """The content id of the GGUF file; empty if there is none."""
    content_ids: dict[str, str]
    """The content ids of the tokenizer's files, by their names in the checkpoint."""
    config: Mapping[str, object] = field(default_factory=dict)
    foreign: str = ""
    """What one of the files seems to be instead of a tokenizer's; empty if nothing shows."""
    unreadable: str = ""
    """Why the files cannot be read; empty if they were copied."""
    no_names: str = ""
    """Why no token can be named, by whatever file; empty if nothing says so."""


def tokenizer_file_names(
    checkpoint: Checkpoint, weight_file: str, vocabulary: Vocabulary | None
) -> tuple[str, list[str]]:
    """The folder and the names of the files that ``fetch_tokenizer`` fetches."""
    origin = tokenizer_folder({*checkpoint.files, *checkpoint.set_aside}, weight_file)
    return origin, files_to_read(checkpoint.files, origin, has_vocabulary=vocabulary is not None)


def fetch_tokenizer(
    checkpoint: Checkpoint,
    weight_file: str,
    vocabulary: Vocabulary | None,
    folder: Path,
    *,
    rows_are_not_tokens: str | None,
) -> TokenizerFiles:
    """The files that name the tokens of W, copied to ``folder``, which is empty.

    Args:
        weight_file: the file that W is in. The tokenizer is that of the same folder, if it holds a model of its own.
        vocabulary: a GGUF file's list of tokens.
        rows_are_not_tokens: what the rows stand for if row i is not token i. Then nothing is fetched.

    Raises:
        TransientError: a file cannot be fetched, or the scratch disk is full.
    """
    origin, names = tokenizer_file_names(checkpoint, weight_file, vocabulary)
    content_ids = {name: checkpoint.files[name].content_id for name in names}
    vocabulary_id = checkpoint.files[vocabulary.file].content_id if vocabulary else ""
    found = TokenizerFiles(folder, checkpoint.source, origin, vocabulary, vocabulary_id, content_ids)
    if rows_are_not_tokens:
        return replace(found, no_names=rows_are_not_tokens)
    try:
        found = replace(found, config=read_config(checkpoint, origin))
    except ModelError as error:
        return replace(found, no_names=str(error))
    foreign = ""
    try:
        if unreadable := next(filter(checkpoint.set_aside.__contains__, needed_files(checkpoint.files, origin)), None):
            raise TokenizerUnusable(f"{unreadable} cannot be read: {checkpoint.set_aside[unreadable]}")
        if not names:
            raise TokenizerUnusable(f"{f'{origin} in ' if origin else ''}the checkpoint has no tokenizer")
        for name in names:
            content = checkpoint.read(name, MAX_TOKENIZER_FILE)
            if not checkpoint.files[name].matches([content]):
                raise TokenizerUnusable(f"{name}: found content that differs from its git id; download it again")
            foreign = foreign or str(recognise(content[:MAX_ERROR_MESSAGE], len(content), name) or "")
            write_scratch(folder / name.removeprefix(origin), content)
    except (TokenizerUnusable, ModelError) as error:
        return replace(found, unreadable=foreign or str(error))
    return replace(found, foreign=foreign)
