"""The real vocabularies that packages carry: tokens, and encoded texts, as the libraries that own them have them."""

import base64
import json
import shutil
import unicodedata
from pathlib import Path

import pytest
import sentencepiece
import tiktoken
from tiktoken.load import load_tiktoken_bpe

from job.tokens.kinds.loading import load_tokenizer
from job.tokens.tokenizer import Tokenizer
from tests.vocabularies import MISTRAL, QWEN, random_texts

QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""From https://huggingface.co/Qwen/Qwen-7B/blob/main/tokenization_qwen.py"""


def load(folder: Path, file: Path, name: str) -> Tokenizer:
    shutil.copy(file, folder / name)
    return load_tokenizer(folder)


@pytest.mark.parametrize(
    ("file", "encodes"),
    [
        ("tokenizer.model.v1", True),
        ("mistral_instruct_tokenizer_240216.model.v2", True),
        ("mistral_instruct_tokenizer_240323.model.v3", False),
        ("mistral_instruct_tokenizer_241114.model.v7", False),
    ],
)
def test_mistrals_sentencepiece_models_are_read_as_the_library_reads_them(
    tmp_path: Path, file: str, encodes: bool
) -> None:
    own = sentencepiece.SentencePieceProcessor(model_file=str(MISTRAL / file))
    tokenizer = load(tmp_path, MISTRAL / file, "tokenizer.model")
    ids = range(own.get_piece_size())
    assert tokenizer.pieces == [own.id_to_piece(id) for id in ids]
    plain = sorted(set(ids) - tokenizer.special)
    assert tokenizer.texts(plain) == [own.decode([id]) for id in plain]
    assert (tokenizer.backend is not None) == encodes  # where symbols are the user's own, no encoder agrees
    if tokenizer.backend:
        found = tokenizer.backend.encode_batch_fast(random_texts(), add_special_tokens=False)
        assert [encoding.ids for encoding in found] == own.encode(random_texts())


def check_alike(tokenizer: Tokenizer, own: tiktoken.Encoding, first: int, *, nfc: bool) -> None:
    ranks = range(own.n_vocab)
    assert tokenizer.texts([first + rank for rank in ranks]) == [own.decode([rank]) for rank in ranks]
    # Of every fifth token: the library takes long for one text after the other.
    texts = random_texts(2000) + [text for text in map(own.decode, ([rank] for rank in ranks[::5])) if "�" not in text]
    assert tokenizer.backend
    found = [encoding.ids for encoding in tokenizer.backend.encode_batch_fast(texts, add_special_tokens=False)]
    prepared = [unicodedata.normalize("NFC", text) for text in texts] if nfc else texts
    assert found == [[first + rank for rank in ranks] for ranks in own.encode_ordinary_batch(prepared)]


def test_qwens_ranks_encode_as_the_library_does(tmp_path: Path) -> None:
    tokenizer = load(tmp_path, QWEN, "qwen.tiktoken")
    ranks = load_tiktoken_bpe(str(QWEN))
    own = tiktoken.Encoding("qwen", pat_str=QWEN_PATTERN, mergeable_ranks=ranks, special_tokens={})
    check_alike(tokenizer, own, 0, nfc=True)
    assert (tokenizer.info.n_own_ids, tokenizer.info.n_ids) == (151_643, 151_851)
    assert tokenizer.pieces[151_643:151_647] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|extra_0|>"]


@pytest.mark.parametrize("file", ["tekken_240718.json", "tekken_240911.json"])
def test_mistrals_tekken_encodes_as_the_library_does(tmp_path: Path, file: str) -> None:
    tokenizer = load(tmp_path, MISTRAL / file, "tekken.json")
    parsed = json.loads((MISTRAL / file).read_bytes())
    ranked = parsed["vocab"][: 131_072 - 1000]
    ranks = {base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in ranked}
    pattern = parsed["config"]["pattern"]
    check_alike(
        tokenizer,
        tiktoken.Encoding("tekken", pat_str=pattern, mergeable_ranks=ranks, special_tokens={}),
        1000,
        nfc=False,
    )
    assert tokenizer.info.n_ids == 131_072
    assert tokenizer.pieces[:4] == ["<unk>", "<s>", "</s>", "[INST]"]
    assert tokenizer.pieces[999] == "<SPECIAL_999>"
