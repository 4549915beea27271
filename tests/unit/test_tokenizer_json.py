"""tokenizer.json: how each kind of model spells its pieces, and what the files mark."""

import json
from pathlib import Path

import pytest
import tokenizers
from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers

from job.tokens.claims.reachability import encoding_claims
from job.tokens.descriptions import describe_tokens
from job.tokens.kinds.byte_level import CHARACTERS
from job.tokens.kinds.loading import load_tokenizer
from job.tokens.tokenizer import Tokenizer, TokenizerUnusable

VOCABULARY = {"a": 0, "b": 1, "ab": 2, "Ġa": 3, "▁a": 4, "##a": 5, "[UNK]": 6}
SENTENCEPIECE = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])


def bpe(**options: str) -> models.BPE:
    return models.BPE(VOCABULARY, [("a", "b")], **options)


KINDS = {
    "bytes": (bpe(), None, decoders.ByteLevel(), "byte-level"),
    "bytes within a sequence": (
        bpe(),
        pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.ByteLevel()]),
        None,
        "byte-level",
    ),
    "Llama": (bpe(), None, SENTENCEPIECE, "sentencepiece"),
    "unigrams": (
        models.Unigram([(piece, 0.0) for piece in VOCABULARY], 6),
        None,
        decoders.Metaspace(),
        "sentencepiece",
    ),
    "spaces only": (bpe(), None, decoders.Replace("▁", " "), "sentencepiece"),
    "WordPiece": (models.WordPiece(VOCABULARY, unk_token="[UNK]"), None, decoders.WordPiece(), "wordpiece"),
    "WordPiece with another prefix": (
        models.WordPiece(VOCABULARY, unk_token="[UNK]", continuing_subword_prefix="@@"),
        None,
        None,
        "unknown",
    ),
    "words": (models.WordLevel(VOCABULARY, unk_token="[UNK]"), pre_tokenizers.Whitespace(), None, "plain"),
    "ends of words": (bpe(end_of_word_suffix="</w>"), pre_tokenizers.ByteLevel(), decoders.ByteLevel(), "unknown"),
}


@pytest.mark.parametrize(("model", "pre_tokenizer", "decoder", "spelling"), KINDS.values(), ids=KINDS)
def test_the_spelling_is_what_the_decoder_or_the_pre_tokenizer_says(
    tmp_path: Path,
    model: models.Model,
    pre_tokenizer: pre_tokenizers.PreTokenizer | None,
    decoder: decoders.Decoder | None,
    spelling: str,
) -> None:
    written = tokenizers.Tokenizer(model)
    if pre_tokenizer:
        written.pre_tokenizer = pre_tokenizer
    if decoder:
        written.decoder = decoder
    tokenizer = save_and_load(tmp_path, written)
    assert tokenizer.spelling == spelling
    assert tokenizer.pieces == list(VOCABULARY)
    assert tokenizer.texts(range(7)) == [written.decode([id], skip_special_tokens=False) for id in range(7)]


def save_and_load(folder: Path, written: tokenizers.Tokenizer, **config: object) -> Tokenizer:
    written.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return load_tokenizer(folder)


def words() -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer(models.WordLevel({f"t{id}": id for id in range(10)}, unk_token="t0"))


def test_added_tokens_are_special_where_a_file_says_so(tmp_path: Path) -> None:
    written = words()
    written.add_special_tokens(["<s>"])
    written.add_tokens([AddedToken("<think>"), AddedToken("<pad>"), "<x>"])
    entries = {"12": {"content": "<pad>", "special": True}, "14": {"content": "<call>", "special": False}}
    config = {"added_tokens_decoder": entries, "eos_token": {"content": "t3"}, "bos_token": "<s>", "unk_token": None}
    tokenizer = save_and_load(tmp_path, written, **config)
    assert tokenizer.pieces[10:] == ["<s>", "<think>", "<pad>", "<x>", "<call>"]
    assert tokenizer.added == {3, 10, 11, 12, 13, 14}
    assert tokenizer.special == {3, 10, 12}
    assert tokenizer.unused == frozenset()


def test_a_token_that_ends_answers_is_valid_though_only_the_config_names_it(tmp_path: Path) -> None:
    pieces = [*CHARACTERS, "</s>", "a>"]
    written = tokenizers.Tokenizer(models.BPE({piece: id for id, piece in enumerate(pieces)}, [("a", ">")]))
    written.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    written.decoder = decoders.ByteLevel()
    tokenizer = save_and_load(tmp_path, written, eos_token="</s>")
    assert tokenizer.special == {256}
    assert tokenizer.info.n_own_ids == 258
    assert tokenizer.backend
    tokens = describe_tokens(tokenizer, 258)
    claims = encoding_claims(tokenizer.backend, tokens.pieces, tokens.texts, tokens.token_bytes, tokenizer.added)
    # As transformers does, which takes a named token out of a text before it is split.
    assert (claims.round_trips[256], claims.reachable[256]) == (True, True)
    assert claims.reachable[257] is False


def test_the_backend_neither_cuts_nor_pads(tmp_path: Path) -> None:
    written = words()
    written.pre_tokenizer = pre_tokenizers.Whitespace()
    written.enable_truncation(2)
    written.enable_padding(length=9)
    backend = save_and_load(tmp_path, written).backend
    assert backend
    assert backend.encode("t1 t2 t3 t4").ids == [1, 2, 3, 4]


def test_a_list_by_id_is_not_made_for_any_id(tmp_path: Path) -> None:
    written = tokenizers.Tokenizer(models.WordLevel({"a": 0, "b": 2_000_000}, unk_token="a"))
    with pytest.raises(
        TokenizerUnusable, match=r"found a token with id 2,000,000, expected ids below 2,000,000; check"
    ):
        save_and_load(tmp_path, written)


def test_a_normaliser_does_not_change_what_is_read(tmp_path: Path) -> None:
    written = words()
    written.normalizer = normalizers.Lowercase()
    assert save_and_load(tmp_path, written).pieces == [f"t{id}" for id in range(10)]


SLOW = {
    "vocab.json and merges.txt": (
        {
            "vocab.json": json.dumps({"a": 0, "b": 1, "ab": 2, "Ġab": 3, "Ġ": 4, "<|endoftext|>": 5}),
            "merges.txt": "#version: 0.2\na b\nĠ ab\n",
        },
        "GPT2Tokenizer",
        "byte-level",
        " ab",
    ),
    "vocab.txt": ({"vocab.txt": "[PAD]\n[UNK]\n[CLS]\nab\n##b\n[SEP]\n[MASK]\n"}, "BertTokenizer", "wordpiece", "ab"),
}


@pytest.mark.parametrize(("files", "kind", "spelling", "text"), SLOW.values(), ids=SLOW)
def test_the_files_of_a_slow_tokenizer_have_the_backend_of_its_class(
    tmp_path: Path, files: dict[str, str], kind: str, spelling: str, text: str
) -> None:
    for name, content in {**files, "tokenizer_config.json": json.dumps({"tokenizer_class": kind})}.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "config.json").write_text("{}")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.spelling == spelling
    assert tokenizer.texts([3]) == [text]
    assert tokenizer.backend
    assert tokenizer.backend.encode(text, add_special_tokens=False).ids == [3]
    assert {tokenizer.pieces[id] for id in tokenizer.special} >= {"<|endoftext|>" if kind[0] == "G" else "[MASK]"}


def test_the_pieces_of_a_class_in_python_are_spelled_in_a_way_that_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    (tmp_path / "config.json").write_text("{}")
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.spelling == "unknown"
    assert tokenizer.backend is None
    assert tokenizer.texts([3 + ord("a")]) == ["a"]
    assert {tokenizer.pieces[id] for id in (0, 1, 2)} == {"<pad>", "</s>", "<unk>"}
    assert {0, 1, 2} <= tokenizer.special
