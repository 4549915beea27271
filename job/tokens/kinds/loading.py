"""Loads a checkpoint's tokenizer from its files. Does not execute any code of the checkpoint."""

from pathlib import Path

from job.checkpoints.file_names import RANK_FILES
from job.tokens.kinds.rank_files import is_rank_file, load_rank_file
from job.tokens.kinds.sentencepiece_model import SENTENCEPIECE_FILES, is_known_class, load_sentencepiece
from job.tokens.kinds.tekken import load_tekken
from job.tokens.kinds.tokenizer_class import stated_class
from job.tokens.kinds.tokenizer_json import load_tokenizer_json
from job.tokens.kinds.transformers_files import load_by_transformers
from job.tokens.tokenizer import Tokenizer, errors_translated


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer whose files are in a folder.

    Raises:
        TokenizerUnusable: the folder has no tokenizer or no vocabulary, or a tokenizer that needs code of its own.
    """
    with errors_translated():
        if (path := folder / "tokenizer.json").exists():
            return load_tokenizer_json(path)
        if (path := folder / "tekken.json").exists():
            return load_tekken(path)
        for path in (folder / name for name in (*RANK_FILES, *SENTENCEPIECE_FILES)):
            if path.exists() and (path.suffix == ".tiktoken" or is_rank_file(path)):
                return load_rank_file(path)
        for path in (folder / name for name in SENTENCEPIECE_FILES):
            # A class may take the ids from another file, and the pieces alone from this one.
            if path.exists() and (not _has_word_list(folder) or is_known_class(stated_class(folder))):
                return load_sentencepiece(path)
        return load_by_transformers(folder)


def _has_word_list(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("vocab.json", "vocab.txt"))
