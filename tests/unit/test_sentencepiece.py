"""SentencePiece models: pieces, marks and texts as the sentencepiece library has them, and an encoder that agrees."""

import json
from pathlib import Path

import pytest
import sentencepiece

from job.tokens.kinds.loading import load_tokenizer
from job.tokens.tokenizer import Tokenizer, TokenizerUnusable
from tests.vocabularies import random_texts, sentencepiece_model, write_files

MODELS: dict[str, dict[str, str | int]] = {
    "unigrams": {},
    "unigrams with bytes": {"byte_fallback": True, "vocab_size": 400, "normalization_rule_name": "identity"},
    "merges": {"model_type": "bpe"},
    "merges as Llama has them": {
        "model_type": "bpe",
        "vocab_size": 420,
        "byte_fallback": True,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "split_digits": True,
    },
    "no space before the text": {
        "model_type": "bpe",
        "add_dummy_prefix": False,
        "remove_extra_whitespaces": False,
        "normalization_rule_name": "identity",
    },
    "T5's order of ids": {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1},
}


def load(folder: Path, model: bytes, name: str = "tokenizer.model", **config: object) -> Tokenizer:
    files: dict[str, bytes | str] = {name: model}
    if config:
        files["tokenizer_config.json"] = json.dumps(config)
    return load_tokenizer(write_files(folder, files))


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS)
def test_a_model_encodes_and_decodes_as_the_library_does(tmp_path: Path, options: dict[str, str | int]) -> None:
    model = sentencepiece_model(**options)
    own = sentencepiece.SentencePieceProcessor(model_proto=model)
    tokenizer = load(tmp_path, model)
    ids = range(own.get_piece_size())
    assert tokenizer.pieces == [own.id_to_piece(id) for id in ids]
    assert tokenizer.special == {id for id in ids if own.is_control(id) or own.is_unknown(id)}
    plain = sorted(set(ids) - tokenizer.special)
    assert tokenizer.texts(plain) == [own.decode([id]) for id in plain]
    assert tokenizer.texts(sorted(tokenizer.special)) == [own.id_to_piece(id) for id in sorted(tokenizer.special)]
    assert tokenizer.spelling == "sentencepiece"
    assert tokenizer.backend
    found = [encoding.ids for encoding in tokenizer.backend.encode_batch(random_texts(), add_special_tokens=False)]
    assert found == own.encode(random_texts())


def test_where_no_encoder_agrees_with_the_library_there_is_none(tmp_path: Path) -> None:
    # The library sets a space before such a symbol, and an encoder of the tokenizers library does not.
    tokenizer = load(tmp_path / "a", sentencepiece_model(user_defined_symbols="<sep>", control_symbols="<ctl>"))
    assert tokenizer.backend is None
    assert (tokenizer.pieces[3:5], 3 in tokenizer.special, 4 in tokenizer.special) == (["<ctl>", "<sep>"], True, False)
    assert {3, 4} <= tokenizer.added
    assert load(tmp_path / "b", sentencepiece_model(model_type="char", vocab_size=60)).backend is None


def test_unused_pieces_are_marked(tmp_path: Path) -> None:
    from sentencepiece import sentencepiece_model_pb2

    proto = sentencepiece_model_pb2.ModelProto.FromString(sentencepiece_model())  # type: ignore[attr-defined]
    for id in (20, 21):
        proto.pieces[id].type = proto.SentencePiece.Type.UNUSED
    tokenizer = load(tmp_path, proto.SerializeToString())
    assert tokenizer.unused == {20, 21}
    assert tokenizer.backend is None


def test_the_first_ids_of_fairseq_are_those_of_the_class(tmp_path: Path) -> None:
    own = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model())
    name = "sentencepiece.bpe.model"
    tokenizer = load(tmp_path, sentencepiece_model(), name, tokenizer_class="XLMRobertaTokenizer")
    assert tokenizer.pieces[:4] == ["<s>", "<pad>", "</s>", "<unk>"]
    n_pieces = own.get_piece_size()
    assert tokenizer.pieces[4:] == [*(own.id_to_piece(id) for id in range(3, n_pieces)), "<mask>"]
    assert tokenizer.special == {0, 1, 2, 3, n_pieces + 1}


def test_the_tokens_that_t5_adds_are_its_own(tmp_path: Path) -> None:
    options = MODELS["T5's order of ids"]
    tokenizer = load(tmp_path, sentencepiece_model(**options), "spiece.model", tokenizer_class="T5Tokenizer")
    assert tokenizer.pieces[-100:] == [f"<extra_id_{number}>" for number in reversed(range(100))]
    assert tokenizer.info.n_own_ids == tokenizer.info.n_ids - 100


def test_a_class_that_is_not_known_to_keep_the_ids_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerUnusable, match=r"found tokenizer.model for the tokenizer class 'OwnTokenizer'"):
        load(tmp_path, sentencepiece_model(), tokenizer_class="OwnTokenizer")
    auto_map = {"AutoTokenizer": ["tokenization_own.OwnTokenizer", None]}
    with pytest.raises(TokenizerUnusable, match=r"tokenization_own.OwnTokenizer"):
        load(tmp_path / "b", sentencepiece_model(), auto_map=auto_map)


def test_stated_added_tokens_have_the_ids_that_are_stated(tmp_path: Path) -> None:
    n_pieces = sentencepiece.SentencePieceProcessor(model_proto=sentencepiece_model()).get_piece_size()
    entries = {n_pieces + 2: ("<a>", True), n_pieces: ("<b>", False), 2: ("</s>", True), 5: ("<c>", False)}
    decoder = {str(id): {"content": token, "special": special} for id, (token, special) in entries.items()}
    tokenizer = load(tmp_path, sentencepiece_model(), tokenizer_class="LlamaTokenizer", added_tokens_decoder=decoder)
    assert tokenizer.pieces[n_pieces:] == ["<b>", None, "<a>"]
    assert tokenizer.pieces[5] is None
    assert tokenizer.texts([n_pieces, n_pieces + 2]) == ["<b>", "<a>"]
    assert tokenizer.special == {0, 1, 2, n_pieces + 2}
    assert tokenizer.info.n_own_ids == n_pieces


DAMAGED = {
    "cut off": lambda model: model[: len(model) // 2],
    "empty": lambda _: b"",
    "other bytes": lambda _: b"\xff" * 1000,
    "text": lambda _: b"<!DOCTYPE html><html>",
    "a piece twice": lambda model: model[: model.index(b"\n", 30)] * 2,
}


@pytest.mark.parametrize("damage", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_model_is_refused_with_a_reason(tmp_path: Path, damage: object) -> None:
    assert callable(damage)
    with pytest.raises(
        TokenizerUnusable, match=r"tokenizer.model: found [\d,]+ bytes that are not a SentencePiece model"
    ):
        load(tmp_path, damage(sentencepiece_model()))


@pytest.mark.parametrize(("model_type", "first"), [("xlm-roberta", "<s>"), ("llama", "<unk>"), ("own", "<unk>")])
def test_without_a_stated_class_it_is_that_of_the_model(tmp_path: Path, model_type: str, first: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    assert load(tmp_path, sentencepiece_model(), "sentencepiece.bpe.model").pieces[0] == first


def test_a_general_class_leaves_the_models_ids(tmp_path: Path) -> None:
    tokenizer = load(tmp_path, sentencepiece_model(), tokenizer_class="PreTrainedTokenizerFast")
    assert tokenizer.info.kind == "sentencepiece"
