"""Which ids round-trip and which can be reached: against the encodings of all short texts."""

import random
from itertools import product

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from job.tokens.claims.reachability import Claims, encoding_claims
from tests.encoders import QWEN_PATTERN, byte_characters, describe, random_bpe, spell


def claims_of(backend: Tokenizer) -> Claims:
    return encoding_claims(backend, *describe(backend))


def seen_in_all_texts(backend: Tokenizer, alphabet: str, length: int) -> set[int]:
    """The ids in the encodings of all texts of up to so many characters of an alphabet."""
    texts = ["".join(chars) for n in range(1, length + 1) for chars in product(alphabet, repeat=n)]
    return {id for encoding in backend.encode_batch(texts, add_special_tokens=False) for id in encoding.ids}


def ids_that_are(claim: bool | None, found: list[bool | None]) -> set[int]:
    return {id for id, value in enumerate(found) if value is claim}


def byte_level_bpe(seed: int, *, ignore_merges: bool) -> Tokenizer:
    backend = Tokenizer(random_bpe(seed, spell("ab ́".encode()), 12, ignore_merges=ignore_merges))
    split = pre_tokenizers.Split(Regex(QWEN_PATTERN), "isolated")
    words = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, words])
    backend.decoder = decoders.ByteLevel()
    return backend


def metaspace_bpe(seed: int, *, ignore_merges: bool) -> Tokenizer:
    model = random_bpe(seed, "ab▁", 12, ignore_merges=ignore_merges)
    model.unk_token = "?"
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=seed % 2 == 0)
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    return backend


def unigram(seed: int) -> Tokenizer:
    source = random.Random(seed)  # noqa: S311 - for no secrets
    pieces = dict.fromkeys(["<unk>", "a", "b", "▁", *("".join(source.choices("ab▁", k=k)) for k in (2, 2, 3, 3, 3, 4))])
    backend = Tokenizer(models.Unigram([(piece, -source.uniform(1, 6)) for piece in pieces], unk_id=0))
    backend.normalizer = normalizers.Replace(" ", "▁")
    return backend


def word_piece(seed: int) -> Tokenizer:
    source = random.Random(seed)  # noqa: S311 - for no secrets
    words = ["".join(source.choices("abc", k=k)) for k in (2, 2, 3, 3)]
    inner = ["##" + "".join(source.choices("abc", k=k)) for k in (1, 1, 2, 2, 3)]
    pieces = dict.fromkeys(["[UNK]", "a", "b", ".", "a.", "A", "##.", *words, *inner])
    backend = Tokenizer(models.WordPiece({piece: id for id, piece in enumerate(pieces)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return backend


@pytest.mark.parametrize("ignore_merges", [False, True], ids=["merges", "ignore_merges"])
@pytest.mark.parametrize("seed", range(3))
def test_byte_level_bpe_agrees_with_all_short_texts(seed: int, ignore_merges: bool) -> None:
    backend = byte_level_bpe(seed, ignore_merges=ignore_merges)
    claims, seen = claims_of(backend), seen_in_all_texts(backend, "ab ́", 6)
    assert seen <= ids_that_are(True, claims.reachable)  # other characters may hold the same bytes
    assert ids_that_are(None, claims.reachable) == set()


@pytest.mark.parametrize("ignore_merges", [False, True], ids=["merges", "ignore_merges"])
@pytest.mark.parametrize("seed", range(3))
def test_bpe_with_marks_for_spaces_agrees_with_all_short_texts(seed: int, ignore_merges: bool) -> None:
    backend = metaspace_bpe(seed, ignore_merges=ignore_merges)
    claims, seen = claims_of(backend), seen_in_all_texts(backend, "ab c", 6)
    assert ids_that_are(True, claims.reachable) == seen
    undecided = ids_that_are(None, claims.reachable)
    assert not undecided or ignore_merges  # no merges make it, and nothing here proves that it is not a whole word


@pytest.mark.parametrize("seed", range(4))
def test_unigrams_agree_with_all_short_texts(seed: int) -> None:
    backend = unigram(seed)
    claims, seen = claims_of(backend), seen_in_all_texts(backend, "ab c", 6)
    assert ids_that_are(True, claims.reachable) == seen
    assert ids_that_are(None, claims.reachable) == set()


@pytest.mark.parametrize("seed", range(4))
def test_word_pieces_agree_with_all_short_texts(seed: int) -> None:
    backend = word_piece(seed)
    claims, seen = claims_of(backend), seen_in_all_texts(backend, "abc. A", 5)
    assert ids_that_are(True, claims.reachable) == seen
    assert ids_that_are(None, claims.reachable) <= {0}


def test_bytes_are_reached_by_characters_that_the_vocabulary_lacks() -> None:
    pieces = ["<unk>", "▁", "A", "é", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend = Tokenizer(models.BPE({piece: id for id, piece in enumerate(pieces)}, [], byte_fallback=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    reachable = claims_of(backend).reachable
    unreachable = {pieces[id] for id in ids_that_are(False, reachable)} - {"<unk>"}
    never = {0x20, 0x41, 0xC0, 0xC1, *range(0xF5, 0x100)}  # ▁ and A have pieces; no text holds the others
    assert unreachable == {f"<0x{byte:02X}>" for byte in never}
    assert ids_that_are(None, reachable) <= {0}


def test_no_text_holds_bytes_that_utf8_does_not_have() -> None:
    data = [*(bytes([byte]) for byte in range(256)), b"\xc3\xa9", b"\xe2\x82", b"\xc3("]
    merges = [("Ã", "©"), (spell(b"\xe2"), spell(b"\x82")), (spell(b"\xc3"), "(")]
    backend = Tokenizer(models.BPE({spell(each): id for id, each in enumerate(data)}, merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    claims = claims_of(backend)
    assert {data[id] for id in ids_that_are(False, claims.reachable)} == {
        b"\xc3(",
        *(bytes([byte]) for byte in (0xC0, 0xC1, *range(0xF5, 0x100))),
    }
    assert claims.round_trips[data.index(b"\xe2\x82")] is False
    assert claims.reachable[data.index(b"\xe2\x82")] is True


def test_a_piece_that_the_normaliser_changes_is_unreachable() -> None:
    backend = Tokenizer(models.WordLevel({"a": 0, "A": 1, "é": 2, "e\u0301": 3, "[UNK]": 4}, unk_token="[UNK]"))
    backend.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.NFC()])
    assert claims_of(backend).reachable[:4] == [
        True,
        None,
        True,
        False,
    ]  # NFC after Lowercase: what A becomes is not told
    backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    assert claims_of(backend).reachable[1] is False


def test_a_piece_that_holds_an_added_token_is_unreachable() -> None:
    backend = Tokenizer(models.WordLevel({"a<b>c": 0, "d": 1, "[UNK]": 2}, unk_token="[UNK]"))
    assert claims_of(backend).reachable[0] is True
    backend.add_tokens([AddedToken("<b>", normalized=False)])
    claims = claims_of(backend)
    assert claims.reachable[0] is False
    assert claims.round_trips[3] is True


def test_ids_without_a_piece_are_not_judged() -> None:
    backend = Tokenizer(models.WordLevel({"a": 0, "b": 3}, unk_token="[UNK]"))
    pieces, texts, data, added = describe(backend)
    claims = encoding_claims(backend, [None, *pieces[1:]], texts, data, added)
    assert claims == Claims([None, None, None, True], [None, None, None, True])


def test_nothing_is_said_of_a_model_that_draws_its_merges() -> None:
    backend = Tokenizer(models.BPE({"a": 0, "b": 1, "ab": 2}, [("a", "b")], dropout=0.5))
    assert claims_of(backend) == Claims([None] * 3, [None] * 3)


def test_the_settings_of_the_tokenizer_are_as_before() -> None:
    backend = byte_level_bpe(0, ignore_merges=True)
    backend.enable_truncation(2)
    backend.enable_padding(length=8)
    before = backend.to_str()
    claims_of(backend)
    assert backend.to_str() == before


def test_a_tokenizer_that_cuts_texts_short_is_asked_for_whole_ones() -> None:
    backend = word_piece(0)
    plain = claims_of(backend)
    backend.enable_truncation(1)
    backend.enable_padding(length=8)
    assert claims_of(backend) == plain


def test_the_bytes_have_their_own_characters() -> None:
    assert len(set(byte_characters())) == 256
