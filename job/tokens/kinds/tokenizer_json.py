"""Loads ``tokenizer.json``, the file of the tokenizers library."""

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, cast

from job.tokens.kinds.added_tokens import (
    disputed_ids,
    flags_stated_beside,
    ids_stated_beside,
    names_of_special_tokens,
    stated_ids,
)
from job.tokens.tokenizer import Spelling, Tokenizer, TokenizerInfo, TokenizerUnusable, number_of_ids

if TYPE_CHECKING:
    import tokenizers


def load_tokenizer_json(path: Path) -> Tokenizer:
    """The tokenizer in tokenizer.json, with the added tokens that only the files beside it state.

    Raises:
        TokenizerUnusable: the vocabulary is empty, or an id is too high.
    """
    import tokenizers

    stated = stated_ids(path)  # before the library takes memory
    beside, flags = ids_stated_beside(path.parent), flags_stated_beside(path.parent)
    backend = tokenizers.Tokenizer.from_file(str(path))
    lacking = sorted(
        (token for token in beside if backend.token_to_id(token) is None), key=lambda token: (beside[token], token)
    )
    contradicted = {id for token, id in beside.items() if backend.id_to_token(id) not in (None, token)}
    for token in lacking:
        backend.add_tokens([tokenizers.AddedToken(token, normalized=False, special=flags.get(token, True))])
    own = set(backend.get_vocab(with_added_tokens=False).values())  # one at a time: they are large
    every, listed = backend.get_vocab(with_added_tokens=True), backend.get_added_tokens_decoder().keys()
    named = names_of_special_tokens(path.parent) & every.keys()
    # As transformers does: a token that is named for a purpose is taken out of a text before the model runs.
    backend.add_special_tokens(sorted(token for token in named if every[token] not in listed))
    decoder = backend.get_added_tokens_decoder()
    if not own:
        raise TokenizerUnusable("found an empty vocabulary in tokenizer.json, expected tokens; check the file")
    n_own_ids = number_of_ids(own - listed)
    while n_own_ids not in listed and backend.id_to_token(n_own_ids) is not None:
        n_own_ids += 1  # a list of unigrams may end with a token that it has twice
    disputed = disputed_ids(stated, every) | disputed_ids(beside, every) | contradicted
    n_ids = max(n_own_ids, number_of_ids(decoder), number_of_ids(every.values()), number_of_ids(disputed))
    special = {id for id, token in decoder.items() if token.special} | {every[token] for token in named}
    return from_backend(
        backend,
        TokenizerInfo(f"tokenizers {type(backend.model).__name__}", len(every), n_ids, n_own_ids),
        added=decoder,
        special=special,
        disputed=disputed,
    )


def from_backend(
    backend: "tokenizers.Tokenizer",
    info: TokenizerInfo,
    *,
    added: Iterable[int],
    special: Set[int],
    disputed: Set[int] = frozenset(),
    unused: Set[int] = frozenset(),
) -> Tokenizer:
    """A tokenizer of the tokenizers library. The ids that are ``disputed`` have no piece."""
    backend.no_truncation()
    backend.no_padding()
    pieces = [None if id in disputed else backend.id_to_token(id) for id in range(info.n_ids)]

    def texts(ids: Sequence[int]) -> list[str]:
        return backend.decode_batch([[id] for id in ids], skip_special_tokens=False)

    return Tokenizer(
        info,
        pieces,
        texts,
        spelling_of(backend),
        added=frozenset(added),
        special=frozenset(special),
        unused=frozenset(unused),
        backend=backend,
    )


def spelling_of(backend: "tokenizers.Tokenizer") -> Spelling:
    """How the pieces of the vocabulary spell bytes: as the decoder reads them, otherwise as the pre-tokenizer and the
    model make them."""
    model = backend.model
    decoder, pre_tokenizer = _parts(backend.decoder), _parts(backend.pre_tokenizer)
    if getattr(model, "end_of_word_suffix", None) or any(part["type"] == "BPEDecoder" for part in decoder):
        return "unknown"  # a piece also says where a word ends
    for parts in (decoder, pre_tokenizer):
        if any(part["type"] == "ByteLevel" for part in parts):
            return "byte-level"
        if any(_writes_sentencepiece(part) for part in parts):
            return "sentencepiece"
    prefix = getattr(model, "continuing_subword_prefix", None)
    if type(model).__name__ == "WordPiece" and prefix == "##":
        return "wordpiece"
    return "unknown" if prefix else "plain"


def _parts(part: object) -> list[dict[str, object]]:
    """The parts of a decoder or pre-tokenizer that is a sequence, or itself. The library tells what they are only where
    it pickles them."""
    if part is None:
        return []
    found = json.loads(cast("bytes", part.__getstate__()))
    return list(found.get("decoders") or found.get("pretokenizers") or [found])


def _writes_sentencepiece(part: Mapping[str, object]) -> bool:
    if part["type"] == "Replace":
        return part.get("pattern") == {"String": "▁"} and part.get("content") == " "
    return part["type"] == "ByteFallback" or (part["type"] == "Metaspace" and part.get("replacement") == "▁")
