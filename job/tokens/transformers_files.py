"""Loads a tokenizer of other files than ``tokenizer.json`` by the transformers library."""

from collections.abc import Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING

from job.tokens.added_tokens import disputed_ids, ids_stated_beside
from job.tokens.file_choice import TOKENIZER_FILES, VOCABULARY_FILES
from job.tokens.tokenizer import Tokenizer, TokenizerInfo, TokenizerUnusable, number_of_ids
from job.tokens.tokenizer_json import from_backend

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_by_transformers(folder: Path) -> Tokenizer:
    """The tokenizer that the class of the transformers library makes of a folder's files. Runs no code of the folder.

    Raises:
        TokenizerUnusable: there is no vocabulary file for the class, or the vocabulary is empty.
    """
    import transformers

    present = {path.name for path in folder.iterdir()} & set(TOKENIZER_FILES)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # any, as errors_translated says
        if present & VOCABULARY_FILES:
            raise
        raise _without_vocabulary("the tokenizer", present, VOCABULARY_FILES) from error
    _check_vocabulary_file(tokenizer, present)
    every, added = tokenizer.get_vocab(), set(tokenizer.get_added_vocab().values())
    ids = set(every.values())
    if not ids - added:
        raise TokenizerUnusable(
            f"found a {type(tokenizer).__name__} with {len(every):,} special tokens and no others, expected a "
            "vocabulary; check the tokenizer's files"
        )
    disputed = disputed_ids(ids_stated_beside(folder), every)
    n_ids = max(number_of_ids(ids), number_of_ids(disputed))
    n_own_ids = number_of_ids(ids - added)
    info = TokenizerInfo(f"transformers {type(tokenizer).__name__}", len(every), n_ids, n_own_ids)
    special = _special_ids(tokenizer)
    if backend := getattr(tokenizer, "backend_tokenizer", None):
        return from_backend(backend, info, added=added, special=special, disputed=disputed)
    return _in_python(tokenizer, info, ids, added=added, special=special, disputed=disputed)


def _special_ids(tokenizer: "PreTrainedTokenizerBase") -> set[int]:
    marked = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    return marked | {id for id in tokenizer.all_special_ids if isinstance(id, int)}


def _in_python(
    tokenizer: "PreTrainedTokenizerBase",
    info: TokenizerInfo,
    ids: Set[int],
    *,
    added: Set[int],
    special: Set[int],
    disputed: Set[int],
) -> Tokenizer:
    """A tokenizer of a class in Python, which has no backend."""

    def piece(id: int) -> str | None:
        token = None if id in disputed else tokenizer.convert_ids_to_tokens(id)
        if not isinstance(token, str) or (id not in ids and token == tokenizer.unk_token):
            return None  # some classes give the unknown token for an id that is left out
        return token

    def texts(ids: Sequence[int]) -> list[str]:
        options = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        return [str(tokenizer.decode([id], **options)) for id in ids]

    pieces = [piece(id) for id in range(info.n_ids)]
    marks = (frozenset(added), frozenset(special), frozenset[int]())
    return Tokenizer(info, pieces, texts, "unknown", *marks, backend=None)


def _check_vocabulary_file(tokenizer: "PreTrainedTokenizerBase", present: Set[str]) -> None:
    """Check that the class read a vocabulary. A class for bytes or characters has no file for one."""
    names = VOCABULARY_FILES & set(tokenizer.vocab_files_names.values())
    if names == {"tokenizer.json"}:  # the general class, which converts any vocabulary file
        names = VOCABULARY_FILES
    if tokenizer.vocab_files_names and not names & present:
        raise _without_vocabulary(type(tokenizer).__name__, present, names)


def _without_vocabulary(what: str, present: Set[str], names: Set[str]) -> TokenizerUnusable:
    return TokenizerUnusable(
        f"found no vocabulary file for {what} beside {', '.join(sorted(present))}, expected "
        f"{' or '.join(sorted(names))}; check that the checkpoint is complete"
    )
