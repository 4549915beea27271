"""Rank files and tekken.json: bytes, texts and encodings as the tiktoken library has them."""

import json
from pathlib import Path

import pytest
import tiktoken

from job.tokens.kinds.loading import load_tokenizer
from job.tokens.tokenizer import Tokenizer, TokenizerUnusable
from tests.vocabularies import PATTERN, random_texts, rank_file, ranks, tekken, write_files

GLM4 = {"tokenizer_class": "ChatGLM4Tokenizer"}
GLM4_PATTERN = rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|{PATTERN}"
# From https://huggingface.co/THUDM/glm-4-9b-chat/blob/main/tokenization_chatglm.py


def load(folder: Path, content: bytes, name: str = "tokenizer.model", **config: object) -> Tokenizer:
    return load_tokenizer(write_files(folder, {name: content, "tokenizer_config.json": json.dumps(config)}))


def check_alike(tokenizer: Tokenizer, pattern: str, tokens: dict[bytes, int], first: int = 0) -> None:
    """Check that the tokenizer is that of the tiktoken library, whose ids begin at ``first``."""
    own = tiktoken.Encoding("own", pat_str=pattern, mergeable_ranks=tokens, special_tokens={})
    assert tokenizer.texts([first + rank for rank in tokens.values()]) == [
        own.decode([rank]) for rank in tokens.values()
    ]
    assert tokenizer.spelling == "byte-level"
    assert tokenizer.backend
    found = [encoding.ids for encoding in tokenizer.backend.encode_batch(random_texts(), add_special_tokens=False)]
    assert found == [[first + id for id in own.encode_ordinary(text)] for text in random_texts()]


def test_a_rank_file_of_a_known_class_encodes_as_the_library_does(tmp_path: Path) -> None:
    tokenizer = load(tmp_path, rank_file(ranks()), **GLM4)
    check_alike(tokenizer, GLM4_PATTERN, ranks())
    assert (tokenizer.info.kind, tokenizer.info.n_ids) == ("tiktoken", 400)


def test_a_rank_file_of_another_class_has_bytes_but_does_not_encode(tmp_path: Path) -> None:
    for name in ("tokenizer.model", "tiktoken.model", "tokenizer.tiktoken"):
        tokenizer = load(tmp_path / name, rank_file(ranks()), name, tokenizer_class="OwnTokenizer")
        assert tokenizer.backend is None
        assert tokenizer.texts([0xC3, 0x41]) == ["�", "A"]
        assert tokenizer.pieces[0x20] == "Ġ"


def test_a_file_of_qwens_name_with_other_ranks_is_not_taken_for_qwens(tmp_path: Path) -> None:
    tokenizer = load(tmp_path, rank_file(ranks()), "qwen.tiktoken")
    assert (tokenizer.info.n_ids, tokenizer.backend) == (400, None)


def test_stated_tokens_have_their_ids_and_marks(tmp_path: Path) -> None:
    entries = {"402": {"content": "<|a|>", "special": True}, "400": {"content": "<é>", "special": False}}
    tokenizer = load(tmp_path, rank_file(ranks()), **GLM4, added_tokens_decoder=entries)
    assert tokenizer.pieces[400:] == ["<é>", None, "<|a|>"]
    assert tokenizer.texts([400, 402]) == ["<é>", "<|a|>"]
    assert tokenizer.added == {400, 402}
    assert tokenizer.special == {402}
    assert (tokenizer.info.n_tokens, tokenizer.info.n_ids, tokenizer.info.n_own_ids) == (402, 403, 400)
    assert tokenizer.backend
    assert tokenizer.backend.encode("a<|a|>b<é>").ids == [ranks()[b"a"], 402, ranks()[b"b"], 400]


def test_an_added_token_with_the_id_of_another_token_has_no_name(tmp_path: Path) -> None:
    tokenizer = load(tmp_path, rank_file(ranks()), added_tokens_decoder={"7": {"content": "<a>", "special": True}})
    assert tokenizer.pieces[6:9] == ["Ć", None, "Ĉ"]


def test_ranks_may_leave_ids_out(tmp_path: Path) -> None:
    gaps = {token: rank if rank < 300 else rank + 10 for token, rank in ranks().items()}
    tokenizer = load(tmp_path, rank_file(gaps), **GLM4)
    assert tokenizer.pieces[300:310] == [None] * 10
    check_alike(tokenizer, GLM4_PATTERN, gaps)


DAMAGED = {
    "no base64": b"IQ== 0\nI?== 1\n",
    "no rank": b"IQ== 0\nIg==\n",
    "a rank twice": b"IQ== 0\nIg== 0\n",
    "a token twice": b"IQ== 0\nIQ== 1\n",
    "a negative rank": b"IQ== 0\nIg== -1\n",
    "an empty token": b"IQ== 0\n 1\n",
    "a third word": b"IQ== 0\nIg== 1 2\n",
    "a high rank": b"IQ== 0\nIg== 9999999999\n",
    "a rank of many digits": b"IQ== 0\nIg== " + b"9" * 10_000 + b"\n",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_rank_file_is_refused_with_a_reason(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(TokenizerUnusable, match=r"found .*, expected .*; (get|check)"):
        load(tmp_path, content)


def test_a_token_of_any_length_is_read(tmp_path: Path) -> None:
    long = b"ab" * 5_000
    tokenizer = load(tmp_path, rank_file(ranks() | {long: 400}), **GLM4)
    assert tokenizer.texts([400]) == [long.decode()]
    assert tokenizer.backend
    assert tokenizer.backend.encode(long.decode()).ids == [400]


def test_tekken_has_special_tokens_before_the_ranks_and_fewer_ranks_than_the_file(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(write_files(tmp_path, {"tekken.json": tekken(ranks(), n_special=30)}))
    check_alike(tokenizer, PATTERN, {token: rank for token, rank in ranks().items() if rank < 350}, first=30)
    assert tokenizer.info.n_ids == 380
    assert tokenizer.pieces[:3] == ["<unk>", "<s>", "</s>"]
    assert tokenizer.pieces[19:21] == ["[TOOL_CONTENT]", "<SPECIAL_20>"]
    assert tokenizer.special == tokenizer.added == set(range(30))
    assert tokenizer.unused == set(range(20, 30))


def test_tekken_names_its_special_tokens(tmp_path: Path) -> None:
    names = [
        {"rank": 0, "token_str": "<a>", "is_control": True},
        {"rank": 1, "token_str": "<b>", "is_control": False},
    ]
    file = tekken(ranks(), n_special=3, special_tokens=names, config={"version": "v13"})
    tokenizer = load_tokenizer(write_files(tmp_path, {"tekken.json": file}))
    assert tokenizer.pieces[:4] == ["<a>", "<b>", "<SPECIAL_2>", "Ā"]
    assert tokenizer.added == {0, 1, 2}
    assert tokenizer.special == {0, 2}
    assert tokenizer.unused == {2}


WRONG = {
    "no vocab": tekken(ranks(), n_special=30, vocab=None),
    "no config": b"{}",
    "no JSON": b"{",
    "no text": b"{\xff}",
    "a list": b"[]",
    "no pattern": tekken(ranks(), n_special=30, config={"pattern": None}),
    "fewer tokens than special ones": tekken(ranks(), n_special=30, config={"default_num_special_tokens": 1000}),
    "more tokens than there are": tekken(ranks(), n_special=30, config={"default_vocab_size": 4000}),
    "negative": tekken(ranks(), n_special=-1),
    "no special tokens in a version that has some": tekken(ranks(), n_special=30, config={"version": "v11"}),
    "a rank out of order": tekken(ranks(), n_special=30, special_tokens=[{"rank": 1, "token_str": "<a>"}]),
    "a name twice": tekken(
        ranks(), n_special=30, special_tokens=[{"rank": rank, "token_str": "<a>"} for rank in range(2)]
    ),
    "too many names": tekken(
        ranks(), n_special=1, special_tokens=[{"rank": rank, "token_str": f"<{rank}>"} for rank in range(2)]
    ),
    "names that are numbers": tekken(ranks(), n_special=30, special_tokens=[{"rank": 0, "token_str": 7}]),
    "no base64": tekken(ranks(), n_special=30, vocab=[{"rank": rank, "token_bytes": "?"} for rank in range(400)]),
    "a token twice": tekken(
        ranks(), n_special=30, vocab=[{"rank": rank, "token_bytes": "IQ=="} for rank in range(400)]
    ),
    "ranks out of order": tekken(ranks(), n_special=30, vocab=[{"rank": 1, "token_bytes": "IQ=="}] * 400),
}


@pytest.mark.parametrize("content", WRONG.values(), ids=WRONG)
def test_another_tekken_file_than_mistrals_library_reads_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(TokenizerUnusable, match=r"tekken.json: found .*, expected what Mistral's library writes; get"):
        load_tokenizer(write_files(tmp_path, {"tekken.json": content}))


def test_tekken_with_a_pattern_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerUnusable, match="cannot be read"):
        load_tokenizer(write_files(tmp_path, {"tekken.json": tekken(ranks(), n_special=30, config={"pattern": "["})}))
