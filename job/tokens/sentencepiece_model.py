"""Loads a SentencePiece model, where something says that its ids are those of the checkpoint's rows."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from job.tokens.added_tokens import ids_stated_beside, names_of_special_tokens
from job.tokens.sentencepiece_backend import backend_of
from job.tokens.sentencepiece_proto import SentencePieceModel, read_sentencepiece
from job.tokens.tokenizer import Tokenizer, TokenizerInfo, TokenizerUnusable, number_of_ids
from job.tokens.tokenizer_class import stated_class
from job.tokens.transformers_files import load_by_transformers

SENTENCEPIECE_FILES: Final = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model")

_KEEP_IDS: Final = frozenset({"", "LlamaTokenizer", "CodeLlamaTokenizer", "GemmaTokenizer"})
"""The classes with the model's own ids and no others, and no class: then the model is all there is."""

_OFFSETS: Final[Mapping[str, int]] = {
    "BigBirdTokenizer": 0,
    "T5Tokenizer": 0,  # and tokens of its own after them
    "XLNetTokenizer": 0,
    "XLMRobertaTokenizer": 1,  # fairseq's order of the first tokens, here and in the next ones
    "MBartTokenizer": 1,
    "MBart50Tokenizer": 1,
    "CamembertTokenizer": 4,
    "PegasusTokenizer": 103,  # tokens of its own before them
}
"""What a class adds to the model's ids of ordinary pieces, as its slow tokenizer did in version 4 of transformers."""


def is_known_class(name: str) -> bool:
    """Whether a class is known to have the model's ids, or what it adds to them."""
    return name in _OFFSETS or (name in _KEEP_IDS and name != "")


def load_sentencepiece(path: Path) -> Tokenizer:
    """The tokenizer of a SentencePiece model, which is of the class that the files beside it state.

    Raises:
        TokenizerUnusable: the model cannot be read; or nothing says which rows its pieces are.
    """
    model = read_sentencepiece(path)
    name = stated_class(path.parent)
    if name in _KEEP_IDS:
        return _of_model(model, path.parent)
    if name not in _OFFSETS:
        raise TokenizerUnusable(
            f"found {path.name} for the tokenizer class {name!r:.80}, expected a class that is known to keep its ids, "
            "or a tokenizer.json; so nothing says that row i of W is token i"
        )
    tokenizer = load_by_transformers(path.parent)
    _check_offset(model, tokenizer, name)
    return tokenizer


def _of_model(model: SentencePieceModel, folder: Path) -> Tokenizer:
    """The tokenizer that the model itself is, with the added tokens that the files beside it state."""
    stated = ids_stated_beside(folder)
    number_of_ids(stated.values())
    by_id: dict[int, str | None] = dict(enumerate(model.pieces))
    own = {piece: id for id, piece in enumerate(model.pieces)}
    for token, id in stated.items():
        # Two names for an id, or two ids for a name: nothing says which of both the model was trained with.
        is_disputed = own.get(token, id) != id or by_id.get(id, token) != token
        by_id |= {id: None, own.get(token, id): None} if is_disputed else {id: token}
    pieces = [by_id.get(id) for id in range(max(by_id) + 1)]
    named = names_of_special_tokens(folder)
    special = model.ids("CONTROL", "UNKNOWN") | {id for id, piece in by_id.items() if piece in named}
    plain = model.ids("CONTROL", "UNKNOWN") | {id for id in by_id if id >= len(model.pieces)}

    def texts(ids: Sequence[int]) -> list[str]:
        decoded = model.processor.decode([[] if id in plain else [id] for id in ids])
        return [pieces[id] or "" if id in plain else text for id, text in zip(ids, decoded, strict=True)]

    return Tokenizer(
        TokenizerInfo("sentencepiece", len(model.pieces) + len(stated.keys() - own), len(pieces), len(model.pieces)),
        pieces,
        texts,
        "sentencepiece",
        added=plain | model.ids("USER_DEFINED") | {stated[token] for token in stated},
        special=special,
        unused=model.ids("UNUSED"),
        backend=backend_of(model) if stated.keys() <= own.keys() else None,
    )


def _check_offset(model: SentencePieceModel, tokenizer: Tokenizer, name: str) -> None:
    """Check that the class has the model's ordinary pieces at its offset.

    Raises:
        TokenizerUnusable: it has another piece there.
    """
    for id in sorted(model.ids("NORMAL", "BYTE")):
        row = id + _OFFSETS[name]
        found = tokenizer.pieces[row] if row < tokenizer.info.n_ids else None
        if found != model.pieces[id]:
            raise TokenizerUnusable(
                f"found the piece {found!r:.80} for id {row:,} of the {name}, expected {model.pieces[id]!r:.80}, which "
                "the SentencePiece model has; so nothing says that row i of W is token i"
            )
