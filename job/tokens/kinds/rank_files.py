"""Loads the rank files of the tiktoken library: a token in base64 and its rank on each line. The rank is the id.

The format: ``load_tiktoken_bpe`` in https://github.com/openai/tiktoken/blob/main/tiktoken/load.py
"""

import binascii
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from job.tokens.kinds.added_tokens import ids_stated_beside, names_of_special_tokens
from job.tokens.kinds.ranked_bytes import AddedNames, Splitting, from_ranks
from job.tokens.kinds.tokenizer_class import stated_class
from job.tokens.tokenizer import Tokenizer, TokenizerUnusable

_CONTRACTIONS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_ONE_DIGIT: Final = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_REST}"
_THREE_DIGITS: Final = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_REST}"

_BY_CLASS: Final[Mapping[str, Splitting]] = {
    # https://huggingface.co/Qwen/Qwen-7B/blob/main/tokenization_qwen.py
    "QWenTokenizer": Splitting(_ONE_DIGIT, nfc=True),
    # https://huggingface.co/THUDM/glm-4-9b-chat/blob/main/tokenization_chatglm.py
    "ChatGLM4Tokenizer": Splitting(_THREE_DIGITS),
}
"""How the tokenizers in checkpoints' own code split texts."""

_BY_CONTENT: Final[Mapping[str, Splitting]] = {
    # https://github.com/meta-llama/llama3/blob/main/llama/tokenizer.py
    "82e9d31979e92ab929cd544440f129d9ecd797b69e327f80f17e1c50d5551b55": Splitting(_THREE_DIGITS),
}
"""The same by the sha-256 of the rank file."""

_QWEN_NAMES: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{n}|>" for n in range(205)))
"""The names that tokenization_qwen.py gives to the ids after the ranks."""
_N_QWEN_RANKS: Final = 151_643
"""Later models of this name have more, and other names."""


def is_rank_file(path: Path) -> bool:
    """Whether a file begins with a token in base64 and its rank, 0."""
    with path.open("rb") as file:
        first = file.readline(100).split()
    return len(first) == 2 and first[1] == b"0" and first[0].isascii() and len(first[0]) % 4 == 0


def load_rank_file(path: Path) -> Tokenizer:
    """The tokenizer of a rank file, with the added tokens that the files beside it state.

    Raises:
        TokenizerUnusable: the file is not one of ranks.
    """
    content = path.read_bytes()
    tokens = _parse(content, path.name)
    is_qwen = len(tokens) == _N_QWEN_RANKS and path.name == "qwen.tiktoken"
    name = stated_class(path.parent) or ("QWenTokenizer" if is_qwen else "")
    splitting = _BY_CLASS.get(name) or _BY_CONTENT.get(hashlib.sha256(content).hexdigest())
    names, special = _stated_names(path.parent)
    if name == "QWenTokenizer" and is_qwen:
        own = dict(enumerate(_QWEN_NAMES, start=_N_QWEN_RANKS))
        names, special = own | names, special | own.keys()
    return from_ranks("tiktoken", tokens, AddedNames(names, frozenset(special)), splitting)


def _parse(content: bytes, file: str) -> dict[int, bytes]:
    """The tokens by rank.

    Raises:
        TokenizerUnusable: a line has something else, or two lines have one token or one rank.
    """
    tokens: dict[int, bytes] = {}
    for number, line in enumerate(content.splitlines(), start=1):
        parts = line.split()
        if not parts:
            continue
        try:
            token, rank = binascii.a2b_base64(parts[0], strict_mode=True), int(parts[1]) if parts[1].isdigit() else -1
        except (ValueError, IndexError):  # as binascii.Error is
            token, rank = b"", -1
        if len(parts) > 2 or not token or rank < 0 or rank in tokens:
            raise TokenizerUnusable(
                f"{file}: found {line!r:.80} in line {number:,}, expected a token in base64 and a rank of its own; get "
                "the file again"
            )
        tokens[rank] = token
    if len(set(tokens.values())) < len(tokens) or not tokens:
        raise TokenizerUnusable(
            f"{file}: found {len(set(tokens.values())):,} different tokens for {len(tokens):,} ranks, expected one for "
            "each; get the file again"
        )
    return dict(sorted(tokens.items()))


def _stated_names(folder: Path) -> tuple[dict[int, str], set[int]]:
    """The names of added tokens by id, and the ids of special ones."""
    ids, named = ids_stated_beside(folder), names_of_special_tokens(folder)
    return {id: token for token, id in ids.items()}, {id for token, id in ids.items() if token in named}
