"""Which of a checkpoint's files its tokenizer is made of. Knows names only."""

from collections.abc import Collection
from typing import Final

from job.checkpoints import file_names

TOKENIZER_FILES: Final = (*file_names.TOKENIZER_FILES, file_names.CONFIG)
"""The files that a tokenizer may be made of."""

_WITH_TOKENIZER_JSON: Final = ("tokenizer.json", "tokenizer_config.json", "added_tokens.json", file_names.CONFIG)
"""Those that are enough where there is a tokenizer.json, which holds the vocabulary."""

VOCABULARY_FILES: Final = frozenset(file_names.TOKENIZER_FILES) - {
    "tokenizer_config.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
}
"""The files that may hold a vocabulary. Without one, the transformers library makes a tokenizer up."""

_OWN_FILES: Final = VOCABULARY_FILES | {"tokenizer_config.json", file_names.CONFIG}
"""The files that say that a folder holds a model of its own, with its own tokenizer or none."""


def tokenizer_folder(names: Collection[str], weight_file: str) -> str:
    """Where the tokenizer of a file's model is: the nearest folder above the file that holds a model of its own. Empty
    for the root; otherwise it ends with a slash.

    The root may hold another model's tokenizer, with another meaning for each row.
    """
    folder = weight_file
    while folder := folder.removesuffix("/").rpartition("/")[0]:
        folder += "/"
        if any(folder + name in names for name in _OWN_FILES):
            return folder
    return ""


def needed_files(names: Collection[str], folder: str) -> list[str]:
    """The files that a tokenizer in a folder may be made of, whether they are there or not."""
    if f"{folder}tokenizer.json" not in names:
        return [folder + name for name in TOKENIZER_FILES]
    # Where there is no tokenizer_config.json, only the map may name special tokens.
    has_config = f"{folder}tokenizer_config.json" in names
    needed = _WITH_TOKENIZER_JSON if has_config else (*_WITH_TOKENIZER_JSON, "special_tokens_map.json")
    return [folder + name for name in needed]


def files_to_read(names: Collection[str], folder: str, *, has_vocabulary: bool) -> list[str]:
    """The tokenizer's files in a folder: none if a GGUF file's vocabulary serves, or ``config.json`` is alone.

    ``has_vocabulary``: whether the weight file holds a list of tokens.
    """
    files = [name for name in needed_files(names, folder) if name in names]
    is_needed = not has_vocabulary or f"{folder}tokenizer.json" in files
    return files if is_needed and files != [folder + file_names.CONFIG] else []
