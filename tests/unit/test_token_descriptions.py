"""What is said of each token: its exact bytes, its class, the script of its text, and the columns that hold them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # it ships no types
import pytest
import tokenizers
from tokenizers import decoders, models
from unicodedataplus import script  # type: ignore[import-not-found]  # it ships no types

from job.tokens.classes import CLASSES, classify, is_reserved_name
from job.tokens.columns import read_tokens, write_token_columns
from job.tokens.descriptions import describe_tokens
from job.tokens.scripts import scripts
from job.tokens.token_bytes import exact_bytes
from job.tokens.tokenizer import Spelling, Token, Tokenizer, TokenizerInfo
from job.tokens.tokenizer_json import from_backend


def tokenizer_of(
    pieces: Sequence[str | None],
    spelling: Spelling = "plain",
    texts: Sequence[str] | None = None,
    *,
    added: frozenset[int] = frozenset(),
    special: frozenset[int] = frozenset(),
    unused: frozenset[int] = frozenset(),
) -> Tokenizer:
    """A tokenizer with these pieces, which decode to ``texts``, by default to themselves."""
    n = len(pieces)
    decoded = [piece or "" for piece in pieces] if texts is None else texts
    info = TokenizerInfo("tests", n_tokens=n, n_ids=n, n_own_ids=n)
    return Tokenizer(
        info, pieces, lambda ids: [decoded[id] for id in ids], spelling, added, special, unused, backend=None
    )


def bytes_of(piece: str, text: str, spelling: Spelling, *, is_added: bool = False) -> bytes | None:
    added = frozenset({0}) if is_added else frozenset()
    return exact_bytes(tokenizer_of([piece], spelling, [text], added=added), [text])[0]


def by_the_library(pieces: Sequence[str], decoder: decoders.Decoder) -> list[str]:
    backend = tokenizers.Tokenizer(
        models.WordLevel({piece: id for id, piece in enumerate(pieces)}, unk_token=pieces[0])
    )
    backend.decoder = decoder
    return [backend.decode([id], skip_special_tokens=False) for id in range(len(pieces))]


BYTES: dict[str, tuple[str, str, Spelling, bool, bytes | None]] = {
    "byte-level": ("Ġthe", " the", "byte-level", False, b" the"),
    "byte-level, a newline": ("Ċ", "\n", "byte-level", False, b"\n"),
    "byte-level, part of a character": ("æĹ", "�", "byte-level", False, b"\xe6\x97"),
    "byte-level, not of its characters": ("▁a", "▁a", "byte-level", False, "▁a".encode()),
    "byte-level, decoded as plain text": ("<|é|>", "<|é|>", "byte-level", False, "<|é|>".encode()),
    "byte-level, added": ("é", "�", "byte-level", True, "é".encode()),
    "byte-level, added with ▁": ("<｜end▁of｜>", "<｜end▁of｜>", "byte-level", True, "<｜end▁of｜>".encode()),
    "sentencepiece, a space that the library strips": ("▁the", "the", "sentencepiece", False, b" the"),
    "sentencepiece, a byte": ("<0xE6>", "�", "sentencepiece", False, b"\xe6"),
    "sentencepiece, nearly a byte": ("<0xE6>>", "<0xE6>>", "sentencepiece", False, b"<0xE6>>"),
    "sentencepiece, added spaces": ("▁▁", "  ", "sentencepiece", True, b"  "),
    "sentencepiece, added with ▁ as such": ("<a▁b>", "<a▁b>", "sentencepiece", True, "<a▁b>".encode()),
    "sentencepiece, an added byte": ("<0x41>", "<0x41>", "sentencepiece", True, b"<0x41>"),
    "wordpiece, within a word": ("##ing", "##ing", "wordpiece", False, b"ing"),
    "wordpiece, a word": ("#", "#", "wordpiece", False, b"#"),
    "plain": ("Ġ▁", "Ġ▁", "plain", False, "Ġ▁".encode()),
    "plain, yet decoded otherwise": ("the</w>", "the ", "plain", False, None),
    "unknown": ("the</w>", "the", "unknown", False, None),
    "unknown, added": ("<s>", "<s>", "unknown", True, b"<s>"),
    "half of a surrogate pair": ("\ud800", "�", "sentencepiece", False, None),
    "NUL": ("\0", "\0", "plain", False, b"\0"),
}


@pytest.mark.parametrize(("piece", "text", "spelling", "is_added", "expected"), BYTES.values(), ids=BYTES)
def test_bytes_are_those_that_the_piece_spells(
    piece: str, text: str, spelling: Spelling, is_added: bool, expected: bytes | None
) -> None:
    assert bytes_of(piece, text, spelling, is_added=is_added) == expected


def test_byte_level_bytes_are_those_that_the_library_decodes() -> None:
    pieces = [*sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()), "Ġthe", "æĹ¥", "a b", "▁"]
    texts = by_the_library(pieces, decoders.ByteLevel())
    found = exact_bytes(tokenizer_of(pieces, "byte-level", texts), texts)
    assert [raw.decode(errors="replace") for raw in found if raw is not None] == texts
    assert {raw for raw in found[:256] if raw is not None} == {bytes([n]) for n in range(256)}


def test_sentencepiece_bytes_are_those_that_the_library_decodes() -> None:
    pieces = [*(f"<0x{n:02X}>" for n in range(256)), "▁the", "日", "▁▁"]
    texts = by_the_library(pieces, decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback()]))
    found = exact_bytes(tokenizer_of(pieces, "sentencepiece", texts), texts)
    assert [raw.decode(errors="replace") for raw in found if raw is not None] == texts
    assert found[:256] == [bytes([n]) for n in range(256)]


RESERVED = [
    *("<unused12>", "▁<unused0>", "[unused99]", "<|unused_3|>", "<|unused7|>", "[UNUSED_TOKEN_145]", ">>UNUSED_261<<"),
    *("<|reserved_special_token_3|>", "<|reserved_200017|>", "<|reserved_token_163839|>", "<reserved_106>"),
    *("<|vision_reserved_special_token_9|>", "[control_17]", "<SPECIAL_20>", "<extra_id_0>", "▁<extra_id_299>"),
    *("<|extra_id_7|>", "<|extra_0|>", "<|EXTRA_0_TOKEN|>", "<|extratoken_143|>", "<|placeholder1|>", "<|dummy_85|>"),
    *("<｜place▁holder▁no▁0｜>", "<[PLHD21_never_used_51bce0c785ca2f68081bfa7d91973934]>", "madeupword0001"),
    *("<dummy00032>", "[PAD151936]"),
]
NOT_RESERVED = [
    *("reserved", "unused", "Ġreserved", "▁unused", "extra", "placeholder", "SPECIAL", "dummy", "[PAD]", "<pad>", ""),
    *(
        "unused12",
        "<unused>",
        "<unused12",
        "x<unused12>",
        "<unused12>\n",
        "<unused१२>",
        "<|placeholder|>",
        "control_17",
    ),
    *(
        "<|extra|>",
        "<|fim_pad|>",
        "<s>",
        "<|im_start|>",
        "[INST]",
        "madeupword",
        "<0x12>",
        "]",
        ">",
        "12",
        "<｜User｜>",
    ),
]


@pytest.mark.parametrize("name", RESERVED)
def test_names_of_tokens_that_are_kept_for_later_use_are_reserved(name: str) -> None:
    assert is_reserved_name(name)


@pytest.mark.parametrize("name", NOT_RESERVED)
def test_names_that_only_resemble_them_are_not_reserved(name: str) -> None:
    assert not is_reserved_name(name)


def test_the_class_is_the_first_that_holds_and_the_flags_say_each_by_itself() -> None:
    pieces = ["Ġa", "<|unused_1|>", "<s>", "<|unused_2|>", "x", "æĹ", "æ", None, "kept"]
    texts = [" a", "<|unused_1|>", "<s>", "<|unused_2|>", "x", "�", "�", "", "kept"]
    marks = {"special": frozenset({2, 3, 7}), "added": frozenset({1, 2, 3, 7}), "unused": frozenset({8})}
    tokenizer = tokenizer_of(pieces, "byte-level", texts, **marks)
    classes = classify(tokenizer, exact_bytes(tokenizer, texts), 11)
    assert [CLASSES[index] for index in classes.class_index.tolist()] == [
        *("ordinary", "reserved", "special", "special", "byte", "partial_utf8", "byte", "beyond_tokenizer", "reserved"),
        *("beyond_tokenizer", "beyond_tokenizer"),
    ]
    assert np.flatnonzero(classes.is_special).tolist() == [2, 3]
    assert np.flatnonzero(classes.is_reserved).tolist() == [1, 3, 8]
    assert np.flatnonzero(classes.is_byte).tolist() == [4, 6]
    assert np.flatnonzero(classes.is_partial_utf8).tolist() == [5, 6]
    assert np.flatnonzero(classes.is_added).tolist() == [1, 2, 3]


def test_only_vocabularies_that_spell_bytes_have_byte_tokens() -> None:
    pieces = ["a", "<0x41>", "é"]
    of_spellings: dict[Spelling, list[bool]] = {
        "byte-level": [True, False, False],  # é is a character of the text, as the library decodes it
        "sentencepiece": [False, True, False],
        "wordpiece": [False, False, False],
        "plain": [False, False, False],
        "unknown": [False, False, False],
    }
    for spelling, expected in of_spellings.items():
        tokenizer = tokenizer_of(pieces, spelling)
        assert classify(tokenizer, exact_bytes(tokenizer, pieces), 3).is_byte.tolist() == expected


SCRIPTS = {
    " the": "Latin",
    "naïve": "Latin",
    "e\u0301": "Latin",  # an accent is of the script that it stands with
    " дом": "Cyrillic",
    "日本": "Han",
    "日本の": "Mixed",
    "ラーメン": "Katakana",  # the sound mark is used by two scripts, and counts for none
    "Aд": "Mixed",
    "ไทย": "Thai",
    "\u0e31": "Thai",  # a vowel sign alone
    "१२": "Devanagari",  # digits of a script
    "123 .,": "Common",
    "\u0301": "Common",
    "\ue000": "Common",  # for private use
    "𝒜": "Common",  # a mathematical letter
    "😀": "Common",
    "\n": "Common",
    "\u200f": "Common",
    "a\u200fb": "Latin",
    "": None,
}


@pytest.mark.parametrize(("text", "expected"), SCRIPTS.items())
def test_the_script_is_that_of_the_letters(text: str, expected: str | None) -> None:
    index, names = scripts([text])
    assert (names[index[0]] if index[0] >= 0 else None) == expected


def test_scripts_of_many_texts_are_those_of_each_by_itself() -> None:
    texts = [*SCRIPTS, None] * 1_000  # more than are looked at at a time
    index, names = scripts(texts)
    assert names == sorted(set(filter(None, SCRIPTS.values())))
    found = [names[n] if n >= 0 else None for n in index.tolist()]
    assert found == [*SCRIPTS.values(), None] * 1_000


def test_every_character_has_the_script_that_unicode_gives_it() -> None:
    texts = [chr(n) for n in range(0x110000) if not 0xD800 <= n < 0xE000]
    index, names = scripts(texts)
    none = {"Common", "Inherited", "Unknown"}
    for text, n in zip(texts, index.tolist(), strict=True):
        assert names[n] == ("Common" if script(text) in none else script(text))


def test_no_text_at_all_has_no_scripts() -> None:
    assert [values.tolist() if isinstance(values, np.ndarray) else values for values in scripts([])] == [[], []]


LONG = ("x" * 10_000, "é" * 10_000)
HOSTILE = ["\0", "\ud800", "a\udfffb", "\u202e\u200fabc", *LONG, "=cmd()", "a,b\n\"c'\r", "\ufffd", ""]


def columns_of(tokenizer: Tokenizer, n_rows: int, path: Path) -> "dict[str, list[object]]":
    claims = [None if piece is None else id % 2 == 0 for id, piece in enumerate(tokenizer.pieces)]
    write_token_columns(describe_tokens(tokenizer, n_rows), claims, claims[::-1], n_rows, path)
    with pa.ipc.open_file(path) as file:
        table = file.read_all()
    assert table.num_rows == n_rows
    columns: dict[str, list[object]] = table.to_pydict()
    return columns


def test_hostile_tokens_are_in_the_columns_as_they_are(tmp_path: Path) -> None:
    columns = columns_of(tokenizer_of(HOSTILE), len(HOSTILE), tmp_path / "tokens.arrow")
    expected = ["\0", "\ufffd", "a\ufffdb", *HOSTILE[3:]]
    assert columns["piece"] == columns["text"] == expected
    assert columns["bytes"] == [b"\0", None, None, *(text.encode() for text in HOSTILE[3:])]
    rows = list(reversed(range(len(HOSTILE))))
    assert list(read_tokens(tmp_path / "tokens.arrow", rows)) == [Token(n, *[expected[n]] * 2) for n in reversed(rows)]


def test_columns_have_the_agreed_names_and_types(tmp_path: Path) -> None:
    columns_of(tokenizer_of(["a", None, "д"]), 5, path := tmp_path / "tokens.arrow")
    with pa.ipc.open_file(path) as file:
        schema = file.schema
    flag, names = pa.bool_(), pa.string()
    assert schema.names == [
        *("piece", "text", "bytes", "class", "is_special", "is_reserved", "is_byte", "is_partial_utf8", "is_added"),
        *("round_trips", "reachable", "script"),
    ]
    assert schema.types == [
        *(names, names, pa.binary(), pa.dictionary(pa.int8(), names), *[flag] * 7, pa.dictionary(pa.int16(), names)),
    ]
    assert [schema.field(name).name for name in schema.names if not schema.field(name).nullable] == schema.names[3:9]


@pytest.mark.parametrize("n_rows", [1, 2, 3, 5, 16_384, 40_000])
def test_there_is_a_row_for_each_row_of_w_whatever_the_number_of_tokens(tmp_path: Path, n_rows: int) -> None:
    columns = columns_of(tokenizer_of(["a", None, "д"]), n_rows, tmp_path / "tokens.arrow")
    rest = [None] * (n_rows - 3)
    assert columns["piece"] == ["a", None, "д", *rest][:n_rows]
    assert columns["class"] == ["ordinary", "beyond_tokenizer", "ordinary", *["beyond_tokenizer"] * len(rest)][:n_rows]
    assert columns["script"] == ["Latin", None, "Cyrillic", *rest][:n_rows]
    assert columns["round_trips"] == [True, None, True, *rest][:n_rows]
    assert columns["is_added"] == [False] * n_rows


def test_rows_are_the_same_in_whatever_batch_they_are(tmp_path: Path) -> None:
    pieces = [chr(0x400 + n % 5_000) for n in range(40_000)]
    columns = columns_of(tokenizer_of(pieces), 40_000, tmp_path / "tokens.arrow")
    assert columns["piece"] == pieces
    assert columns["bytes"] == [piece.encode() for piece in pieces]
    assert columns["script"][:5_000] * 8 == columns["script"]
    wanted = [0, 16_383, 16_384, 39_999]
    assert list(read_tokens(tmp_path / "tokens.arrow", wanted)) == [Token(n, pieces[n], pieces[n]) for n in wanted]


def test_parts_of_characters_have_no_script_but_the_replacement_character_has(tmp_path: Path) -> None:
    pieces = ["æĹ", "ï¿½", "aæĹ", "Ã"]
    texts = by_the_library(pieces, decoders.ByteLevel())
    assert texts == ["�", "�", "a�", "�"]
    columns = columns_of(tokenizer_of(pieces, "byte-level", texts), 4, tmp_path / "tokens.arrow")
    assert columns["script"] == [None, "Common", "Latin", None]
    assert columns["is_partial_utf8"] == [True, False, True, True]


def test_a_tokenizer_of_the_library_is_described_as_it_decodes(tmp_path: Path) -> None:
    backend = tokenizers.Tokenizer(models.BPE({"<s>": 0, "Ġ": 1, "a": 2, "Ġa": 3}, [("Ġ", "a")]))
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(["<s>"])
    info = TokenizerInfo("tests", 4, 4, 4)
    tokenizer = from_backend(backend, info, added={0}, special={0})
    columns = columns_of(tokenizer, 4, tmp_path / "tokens.arrow")
    assert columns["text"] == ["<s>", " ", "a", " a"]
    assert columns["class"] == ["special", "byte", "byte", "ordinary"]
