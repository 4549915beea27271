"""Loads a checkpoint's tokenizer from its files. Does not execute any code of the checkpoint."""

from pathlib import Path

from job.tokens.tokenizer import Tokenizer, errors_translated
from job.tokens.tokenizer_json import load_tokenizer_json
from job.tokens.transformers_files import load_by_transformers


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer whose files are in a folder.

    Raises:
        TokenizerUnusable: the folder has no tokenizer or no vocabulary, or a tokenizer that needs code of its own.
    """
    with errors_translated():
        tokenizer_json = folder / "tokenizer.json"
        return load_tokenizer_json(tokenizer_json) if tokenizer_json.exists() else load_by_transformers(folder)
