"""Loads a checkpoint's tokenizer from its files. Does not execute any code of the checkpoint."""

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from job.checkpoints import file_names

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER_FILES: Final = (*file_names.TOKENIZER_FILES, file_names.CONFIG)
"""The files from which the transformers library may load a tokenizer."""

_WITH_TOKENIZER_JSON: Final = ("tokenizer.json", "tokenizer_config.json", "added_tokens.json", file_names.CONFIG)
"""Those that are enough where there is a tokenizer.json, which holds the vocabulary."""

VOCABULARY_FILES: Final = frozenset(file_names.TOKENIZER_FILES) - {
    "tokenizer_config.json",
    "merges.txt",
    "added_tokens.json",
    "special_tokens_map.json",
}
"""The files that may hold a vocabulary. Without one, the transformers library makes a tokenizer up."""


_SENTENCEPIECE_FILES: Final = frozenset({"tokenizer.model", "spiece.model", "sentencepiece.bpe.model"})
"""The vocabularies that the transformers library reads with further packages only."""

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
    needed = _WITH_TOKENIZER_JSON if f"{folder}tokenizer.json" in names else TOKENIZER_FILES
    return [folder + name for name in needed]


def files_to_read(names: Collection[str], folder: str, *, has_vocabulary: bool) -> list[str]:
    """The tokenizer's files in a folder: none if a GGUF file's vocabulary serves, or ``config.json`` is alone.

    ``has_vocabulary``: whether the weight file holds a list of tokens.
    """
    files = [name for name in needed_files(names, folder) if name in names]
    is_needed = not has_vocabulary or f"{folder}tokenizer.json" in files
    return files if is_needed and files != [folder + file_names.CONFIG] else []


_ADDED_TOKENS: Final = re.compile(r'"added_tokens"\s*:\s*\[')
_LARGE_FILE: Final = 1_000_000


MAX_CHARACTERS: Final = 4_000_000
"""In the pieces and texts of the tokens that are named, which a manifest lists: up to 20,000, mostly short ones."""


class TokenizerUnusable(Exception):
    """The checkpoint's tokenizer cannot be read; the message says why. The survey goes on without names of tokens."""


@dataclass(frozen=True)
class Token:
    """A row's token: its ``piece`` in the vocabulary, and the ``text`` to which it decodes. Both are None if the
    tokenizer has no such token."""

    id: int
    piece: str | None
    text: str | None


@dataclass(frozen=True)
class TokenizerInfo:
    """What a tokenizer is, and how many rows of W it can name."""

    kind: str
    """The library and class that read the tokenizer."""
    n_tokens: int
    """The number of tokens, including added ones."""
    n_ids: int
    """One more than the highest id. It is more than ``n_tokens`` if the tokenizer leaves ids out."""
    n_own_ids: int
    """The same for the vocabulary alone, without added tokens. A model has a row for each of these ids."""


@dataclass(frozen=True)
class Tokenizer:
    """A checkpoint's tokenizer."""

    info: TokenizerInfo
    piece: Callable[[int], str | None]
    text: Callable[[int], str]

    def tokens(self, ids: Iterable[int]) -> list[Token]:
        """The tokens with these ids.

        Raises:
            TokenizerUnusable: the library fails to decode a token, or the tokens are too long in all.
        """
        found, length = [], 0
        with _errors_translated():
            for id in ids:
                token = self._token(id)
                length += len(token.piece or "") + len(token.text or "")
                if length > MAX_CHARACTERS:
                    raise TokenizerUnusable(
                        f"found tokens of more than {MAX_CHARACTERS:,} characters in all, token {id:,} among them with "
                        f"{len(token.piece or ''):,}, expected shorter ones; check the tokenizer's files"
                    )
                found.append(token)
        return found

    def _token(self, id: int) -> Token:
        piece = self.piece(id) if id < self.info.n_ids else None
        return Token(id, piece, None if piece is None else self.text(id))


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer whose files are in a folder.

    Raises:
        TokenizerUnusable: the folder has no tokenizer or no vocabulary, or a tokenizer that needs code of its own.
    """
    with _errors_translated():
        tokenizer_json = folder / "tokenizer.json"
        return _load_tokenizer_json(tokenizer_json) if tokenizer_json.exists() else _load_other_files(folder)


@contextmanager
def _errors_translated() -> Iterator[None]:
    try:
        yield
    except TokenizerUnusable:
        raise
    except BaseException as error:  # tokenizers raises Exception itself, and transformers almost every exception
        if not isinstance(error, Exception) and not _is_panic(error):
            raise
        reason = " ".join(str(error).split())[:300]
        raise TokenizerUnusable(f"the tokenizer cannot be read ({type(error).__name__}: {reason})") from error


def _is_panic(error: BaseException) -> bool:
    """Whether a library in Rust panicked. The class of this error cannot be imported."""
    return (type(error).__module__, type(error).__name__) == ("pyo3_runtime", "PanicException")


def _load_tokenizer_json(path: Path) -> Tokenizer:
    import tokenizers

    stated = _added_tokens(path)  # before the library takes memory
    beside = _added_tokens_beside(path.parent)
    tokenizer = tokenizers.Tokenizer.from_file(str(path))
    lacking = sorted(
        (token for token in beside if tokenizer.token_to_id(token) is None), key=lambda token: (beside[token], token)
    )
    contradicted = {id for token, id in beside.items() if tokenizer.id_to_token(id) not in (None, token)}
    tokenizer.add_special_tokens([tokenizers.AddedToken(token, normalized=False) for token in lacking])
    own = set(tokenizer.get_vocab(with_added_tokens=False).values())  # one at a time: they are large
    every, added = tokenizer.get_vocab(with_added_tokens=True), tokenizer.get_added_tokens_decoder().keys()
    if not own:
        raise TokenizerUnusable("found an empty vocabulary in tokenizer.json, expected tokens; check the file")
    n_own_ids = _size(own - added)
    while n_own_ids not in added and tokenizer.id_to_token(n_own_ids) is not None:
        n_own_ids += 1  # a list of unigrams may end with a token that it has twice
    disputed = _disputed_ids(stated, every) | _disputed_ids(beside, every) | contradicted
    return Tokenizer(
        TokenizerInfo(
            kind=f"tokenizers {type(tokenizer.model).__name__}",
            n_tokens=len(every),
            n_ids=max(n_own_ids, _size(added), _size(every.values()), _size(disputed)),
            n_own_ids=n_own_ids,
        ),
        piece=lambda id: None if id in disputed else tokenizer.id_to_token(id),
        text=lambda id: tokenizer.decode([id], skip_special_tokens=False),
    )


def _load_other_files(folder: Path) -> Tokenizer:
    import transformers

    present = {path.name for path in folder.iterdir()} & set(TOKENIZER_FILES)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # any, as _errors_translated says
        vocabularies = present & VOCABULARY_FILES
        if vocabularies and vocabularies <= _SENTENCEPIECE_FILES and _lacks_a_package(error):
            raise TokenizerUnusable(
                f"SentencePiece files ({', '.join(sorted(vocabularies))}) are not read; a tokenizer.json is"
            ) from error
        if vocabularies:
            raise
        raise _without_vocabulary("the tokenizer", present, VOCABULARY_FILES) from error
    _check_vocabulary_file(tokenizer, present)
    every, added = tokenizer.get_vocab(), tokenizer.get_added_vocab().values()
    ids = set(every.values())
    own = ids - set(added)
    if not own:
        raise TokenizerUnusable(
            f"found a {type(tokenizer).__name__} with {len(every):,} special tokens and no others, expected a "
            "vocabulary; check the tokenizer's files"
        )
    disputed = _disputed_ids(_added_tokens_beside(folder), every)

    def piece(id: int) -> str | None:
        token = None if id in disputed else tokenizer.convert_ids_to_tokens(id)
        if not isinstance(token, str) or (id not in ids and token == tokenizer.unk_token):
            return None  # some classes give the unknown token for an id that is left out
        return token

    def text(id: int) -> str:
        return str(tokenizer.decode([id], skip_special_tokens=False, clean_up_tokenization_spaces=False))

    n_ids = max(_size(ids), _size(disputed))
    return Tokenizer(
        TokenizerInfo(f"transformers {type(tokenizer).__name__}", len(every), n_ids, _size(own)), piece, text
    )


def _lacks_a_package(error: Exception) -> bool:
    """Whether the transformers library asks for a package. It tries several, and raises ValueError for the last one."""
    return isinstance(error, ImportError) or "pip install" in str(error)


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


def _size(ids: Iterable[int]) -> int:
    return max(ids, default=-1) + 1


def _added_tokens(path: Path) -> dict[str, int]:
    """The ids that tokenizer.json, tokenizer_config.json or added_tokens.json gives to added tokens."""
    if not path.exists():
        return {}
    parsed = _parse_added_tokens(path.read_text("utf-8"))
    if not isinstance(parsed, dict):
        return {}
    if path.name == "tokenizer.json":
        listed = parsed.get("added_tokens")
        items = [item for item in listed if isinstance(item, dict)] if isinstance(listed, list) else []
        pairs = [(item.get("content"), item.get("id")) for item in items]
    elif path.name == "tokenizer_config.json":
        decoder = parsed.get("added_tokens_decoder")
        entries = decoder.items() if isinstance(decoder, dict) else ()
        pairs = [
            (entry.get("content"), int(id))
            for id, entry in entries
            if isinstance(entry, dict) and id.isascii() and id.isdigit()
        ]
    else:
        pairs = list(parsed.items())
    return {
        token: id for token, id in pairs if isinstance(token, str) and token and type(id) is int and 0 <= id < 1 << 32
    }


def _parse_added_tokens(text: str) -> object:
    """A JSON file; of a large one with a list of added tokens only that list: all of it takes 20 times its size."""
    lists = list(_ADDED_TOKENS.finditer(text))
    if len(lists) != 1 or len(text) < _LARGE_FILE:
        return json.loads(text)
    # The quote before the colon ends a string, because one within a string has a backslash before it.
    return {"added_tokens": json.JSONDecoder().raw_decode(text, lists[0].end() - 1)[0]}


def _added_tokens_beside(folder: Path) -> dict[str, int]:
    """The ids that the files beside a vocabulary give to added tokens. transformers prefers tokenizer_config.json."""
    return _added_tokens(folder / "added_tokens.json") | _added_tokens(folder / "tokenizer_config.json")


def _disputed_ids(stated: Mapping[str, int], loaded: Mapping[str, int]) -> set[int]:
    """The ids of added tokens that the library gives another id than the file does: it gives them the next free ids.
    Nothing says which of both the model was trained with."""
    differing = {token for token, id in stated.items() if loaded.get(token) not in (None, id)}
    return {stated[token] for token in differing} | {loaded[token] for token in differing}
