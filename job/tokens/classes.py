"""What kind of token each row of W stands for."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from job.tokens.token_bytes import is_partial_utf8, single_bytes
from job.tokens.tokenizer import Tokenizer

CLASSES: Final = ("ordinary", "special", "reserved", "byte", "partial_utf8", "beyond_tokenizer")
"""The class of a row is the first that holds, in the order beyond_tokenizer, special, reserved, byte, partial_utf8."""

_RESERVED_NAMES: Final = (
    r"▁?<unused\d+>",  # Gemma, PaliGemma; ▁ as some SentencePiece lists have it
    r"\[unused\d+\]",  # BERT, ModernBERT
    r"<\|unused_?\d+\|>",  # Granite, MiLM
    r"<\|unused_token_\d+\|>",
    r"\[UNUSED_TOKEN_\d+\]",  # InternLM 2
    r">>UNUSED_\d+<<",  # Falcon 3
    r"<\|reserved_?\d+\|>",  # gpt-oss, LFM 2
    r"<\|reserved_token_\d+\|>",  # Kimi
    r"<\|reserved_special_token_\d+\|>",  # Llama 3
    r"<\|(text_post_train|vision)_reserved_special_token_\d+\|>",  # Llama 4
    r"<reserved_\d+>",  # Baichuan
    r"\[control_\d+\]",  # Mistral's SentencePiece vocabularies
    r"<SPECIAL_\d+>",  # Mistral's tekken, Nemotron
    r"▁?<extra_id_\d+>",  # T5, and with ▁ UMT5
    r"<\|extra_id_\d+\|>",  # OLMo 2
    r"<\|extra_?\d+\|>",  # Qwen, Hunyuan
    r"<\|EXTRA_\d+_TOKEN\|>",  # Command R
    r"<\|extratoken_\d+\|>",  # GPT-J
    r"<\|placeholder_?\d+\|>",  # Phi-3
    r"<\|dummy_\d+\|>",  # Phi-4
    r"<｜place▁holder▁no▁\d+｜>",  # DeepSeek V3
    r"<\[PLHD\d+_never_used(_[0-9a-f]+)?\]>",  # Seed
    r"madeupword\d{4}|<madeupword\d+>",  # fairseq: OPT, RoBERTa; XGLM
    r"<dummy\d{5}>|\[PAD\d+\]",  # llama.cpp's converters, for rows beyond the tokenizer
)
"""Names of tokens that vocabularies keep for later use. A model may have been trained to use one all the same."""
_RESERVED_NAME: Final = re.compile("|".join(_RESERVED_NAMES), re.ASCII)
_ENDS_OF_RESERVED_NAMES: Final = frozenset(">]<0123456789")
"""The last characters of these names. To compare whole names of 150,000 tokens takes a tenth of a second."""


@dataclass(frozen=True)
class TokenClasses:
    """What holds for each row, all (n_rows,)."""

    class_index: NDArray[np.int8]
    """Into ``CLASSES``."""
    is_special: NDArray[np.bool_]
    is_reserved: NDArray[np.bool_]
    is_byte: NDArray[np.bool_]
    is_partial_utf8: NDArray[np.bool_]
    is_added: NDArray[np.bool_]


def is_reserved_name(piece: str) -> bool:
    """Whether a token is named as one that is kept for later use. The whole name has to match."""
    return piece[-1:] in _ENDS_OF_RESERVED_NAMES and _RESERVED_NAME.fullmatch(piece) is not None


def classify(tokenizer: Tokenizer, token_bytes: Sequence[bytes | None], n_rows: int) -> TokenClasses:
    """The classes of the rows of W, which has ``n_rows``. Rows without a token are beyond the tokenizer.

    Args:
        token_bytes: ``exact_bytes`` of the tokenizer, by id.
    """
    pieces = tokenizer.pieces
    has_token = _mask([id for id, piece in enumerate(pieces) if piece is not None], n_rows)
    named = [id for id, piece in enumerate(pieces) if piece and is_reserved_name(piece)]
    partial = [id for id, raw in enumerate(token_bytes) if raw is not None and is_partial_utf8(raw)]
    special = has_token & _mask(tokenizer.special, n_rows)
    reserved = has_token & (_mask(tokenizer.unused, n_rows) | _mask(named, n_rows))
    byte, partial_utf8 = _mask(single_bytes(tokenizer, token_bytes), n_rows), _mask(partial, n_rows)
    conditions = {
        "beyond_tokenizer": ~has_token,
        "special": special,
        "reserved": reserved,
        "byte": byte,
        "partial_utf8": partial_utf8,
    }
    indices = [np.int8(CLASSES.index(name)) for name in conditions]
    class_index = np.select(list(conditions.values()), indices, np.int8(CLASSES.index("ordinary")))
    return TokenClasses(
        class_index.astype(np.int8), special, reserved, byte, partial_utf8, has_token & _mask(tokenizer.added, n_rows)
    )


def _mask(ids: Collection[int], n_rows: int) -> NDArray[np.bool_]:
    """(n_rows,): which rows are among these ids."""
    mask = np.zeros(n_rows, np.bool_)
    rows = np.fromiter(ids, np.int64, len(ids))
    mask[rows[rows < n_rows]] = True
    return mask
