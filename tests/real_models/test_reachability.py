"""Which tokens of real vocabularies round-trip and can be reached: published figures, and a text in all scripts."""

import re
import unicodedata
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from job.tokens.claims.reachability import Claims, encoding_claims
from tests.encoders import MINILM, Described, describe, qwen, tekken

BACKENDS: dict[str, Callable[[], Tokenizer]] = {
    "qwen": qwen,
    "tekken": tekken,
    "minilm": partial(Tokenizer.from_file, str(MINILM)),
}


@cache
def described(name: str) -> tuple[Tokenizer, Described, Claims]:
    backend = BACKENDS[name]()
    about = describe(backend)
    return backend, about, encoding_claims(backend, *about)


@cache
def multilingual_text() -> list[str]:
    """Lines in all scripts: names of characters, the characters, pairs of neighbours, and Python's own files."""
    lines = []
    for code in range(0x20, 0x1_4000):
        char = chr(code)
        if unicodedata.category(char) not in ("Cn", "Cs", "Co"):
            pair = char + (chr(code + 1) if code + 1 != 0xD800 else "")
            lines.append(f"{char} {unicodedata.name(char, '')} {pair}a{char}1")
    library = Path(unicodedata.__file__ or __file__).parent
    modules = sorted(Path(pytest.__file__).parent.parent.glob("*.dist-info/METADATA")) or [library]
    return lines + [line for path in modules for line in path.read_text("utf-8", errors="replace").splitlines()]


def is_partial(data: bytes | None) -> bool:
    try:
        (data or b"").decode()
    except UnicodeDecodeError:
        return True
    return False


def looks_like_a_control_token(piece: str) -> bool:
    """As magikarp's report takes it: in brackets, with an ASCII letter, and no byte (``<0x41>``)."""
    return re.fullmatch(r"(?!<0x)[\[<].*[A-Za-z].*[\]>]", piece, re.DOTALL) is not None


def test_qwen_has_the_published_number_of_tokens_that_round_trip() -> None:
    _, about, claims = described("qwen")
    assert len(about.pieces) == 151_669
    assert claims.round_trips.count(True) == 148_312
    assert claims.round_trips.count(False) == 3_357
    assert sum("\ufffd" in (text or "") for text in about.texts) == 1_457


def test_what_does_not_round_trip_in_qwen_is_unreachable_text_or_part_of_a_character() -> None:
    _, about, claims = described("qwen")
    partial = {id for id, data in enumerate(about.token_bytes) if is_partial(data)}
    failing = {id for id, value in enumerate(claims.round_trips) if value is False}
    unreachable = {id for id, value in enumerate(claims.reachable) if value is False}
    assert (len(partial), len(failing - partial)) == (1_448, 1_909)
    assert partial <= failing
    assert failing - partial <= unreachable  # each of them proved
    changed = {id for id in failing - partial if unicodedata.normalize("NFC", text := about.texts[id] or "") != text}
    assert len(changed) == 248  # the others hold a border of words: mostly a letter before a mark
    assert len(unreachable & partial) == 22
    undecided = [id for id, value in enumerate(claims.reachable) if value is None]
    assert [about.token_bytes[id] for id in undecided] == [b"\xe7\x8f\x8a\xf3"]


def test_the_other_published_counts_of_qwen_follow_from_the_same_sets() -> None:
    """cohere-ai/magikarp's report on Qwen3-32B: 256 bytes, 29 special, 1,320 parts of characters, 1,906 unreachable.

    It counts as parts what decodes to U+FFFD, does not round-trip and is not a single byte; as bytes the 256 tokens of
    one byte, 128 of which are ASCII and round-trip. What looks like a control token is special, and in no other count.
    """
    _, about, claims = described("qwen")
    single = {id for id, data in enumerate(about.token_bytes) if data and len(data) == 1}
    failing = {id for id, value in enumerate(claims.round_trips) if value is False}
    undecodable = {id for id in failing if "\ufffd" in (about.texts[id] or "")}
    special = {id for id, piece in enumerate(about.pieces) if looks_like_a_control_token(piece or "")}
    assert (len(single), len(single & failing)) == (256, 128)
    assert len(special) == 29
    assert {id: about.pieces[id] for id in special & failing} == {128_244: "<unk>", 128_245: "<s>", 128_247: "</s>"}
    assert special - failing == about.added
    assert len(undecodable - single - special) == 1_320
    assert len(failing - undecodable - single - special) == 1_906


@pytest.mark.parametrize("name", BACKENDS)
def test_whatever_occurs_in_a_text_in_all_scripts_is_reachable(name: str) -> None:
    backend, about, claims = described(name)
    seen = {
        id
        for encoding in backend.encode_batch_fast(multilingual_text(), add_special_tokens=False)
        for id in encoding.ids
    }
    assert len(seen) > 5_000
    assert {about.pieces[id] for id in seen if claims.reachable[id] is not True} == set()


@pytest.mark.parametrize(("name", "n_unreachable", "n_undecided"), [("tekken", 14, 0), ("minilm", 1_331, 0)])
def test_the_other_vocabularies_are_decided(name: str, n_unreachable: int, n_undecided: int) -> None:
    _, _, claims = described(name)
    assert (claims.reachable.count(False), claims.reachable.count(None)) == (n_unreachable, n_undecided)
