"""GGUF headers: what the gguf package writes and reads is the oracle, and nothing hostile costs more than an error."""

from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFEndian, TokenType
from gguf.gguf_reader import GGUFReader
from gguf.gguf_writer import GGUFWriter
from hypothesis import given
from hypothesis import strategies as st

from job.checkpoints.formats.gguf_file import GgufFile, Vocabulary
from job.checkpoints.formats.gguf_header import parse_gguf_header
from job.checkpoints.formats.needs_more import NeedsMore
from job.errors import CorruptCheckpoint, UnsupportedCheckpoint
from tests.ggufs import header, planted_rows, text, u32, u64, write_gguf

TYPES = tuple(kind.name for kind in GGMLQuantizationType)
BLOCKS = {kind.name: sizes for kind, sizes in GGML_QUANT_SIZES.items()}


def parse(content: bytes, file_size: int | None = None) -> GgufFile:
    return parse_gguf_header(content, "a.gguf", len(content) if file_size is None else file_size, "here: a.gguf")


def tensor(name: str, shape: list[int], kind: int, offset: int) -> bytes:
    return text(name) + u32(len(shape)) + b"".join(map(u64, shape)) + u32(kind) + u64(offset)


def with_tensors(*tensors: bytes, nbytes: int, keys: tuple[bytes, ...] = ()) -> bytes:
    """A file of these tensors, and so many bytes of data."""
    head = header(len(tensors), len(keys), b"".join(keys) + b"".join(tensors))
    return head + bytes(-len(head) % 32 + nbytes)


@pytest.mark.parametrize("alignment", [None, 8, 4096])
def test_every_type_of_value_and_tensor_is_read_as_the_package_reads_it(tmp_path: Path, alignment: int | None) -> None:
    writer = GGUFWriter(tmp_path / "a.gguf", "llama")
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    writer.add_uint8("u8", 255)
    writer.add_int8("i8", -128)
    writer.add_uint16("u16", 65535)
    writer.add_int16("i16", -32768)
    writer.add_uint32("u32", 2**32 - 1)
    writer.add_int32("i32", -(2**31))
    writer.add_uint64("u64", 2**64 - 1)
    writer.add_int64("i64", -(2**63))
    writer.add_float32("f32", 1.5)
    writer.add_float64("f64", 1e300)
    writer.add_bool("bool", True)
    writer.add_string("text", "naïve 漢")
    writer.add_array("integers", [1, 2, 3])
    writer.add_array("floats", [1.0, 2.0])
    writer.add_array("truths", [True, False, True])
    writer.add_array("texts", ["a", "", "漢"])
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "Ġa", "漢"])
    for number, dtype in enumerate(TYPES):
        _, nbytes = BLOCKS[dtype]
        rows = np.zeros((number + 1, 3 * nbytes), np.uint8)
        writer.add_tensor(f"blk.{number}.{dtype}", rows, raw_dtype=GGMLQuantizationType[dtype])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    parsed = parse((tmp_path / "a.gguf").read_bytes())
    oracle = GGUFReader(tmp_path / "a.gguf")
    arrays = {"integers", "floats", "truths", "texts", "tokenizer.ggml.tokens"}
    assert parsed.metadata == {
        key: field.contents() for key, field in oracle.fields.items() if key not in arrays and key[:5] != "GGUF."
    }
    assert parsed.vocabulary == Vocabulary("a.gguf", "", ("<s>", "Ġa", "漢"))
    assert parsed.architecture == "llama"
    assert list(parsed.tensors) == [found.name for found in oracle.tensors]
    for found in oracle.tensors:
        location = parsed.tensors[found.name]
        assert location.file == "a.gguf"
        assert location.shape == tuple(found.shape[::-1].tolist())
        assert location.dtype == found.tensor_type.name
        assert (location.begin, location.nbytes) == (found.data_offset, found.n_bytes)


def test_tokens_are_marked_by_their_types(tmp_path: Path) -> None:
    kinds = [TokenType.NORMAL, TokenType.UNKNOWN, TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNUSED]
    types = [*kinds, TokenType.BYTE, 77]
    rows = {"output.weight": (planted_rows("Q8_0", 7), "Q8_0")}
    tokens = [f"t{n}" for n in range(len(types))]
    vocabulary = parse(write_gguf(tmp_path / "a.gguf", rows, tokens=tokens, token_types=types).read_bytes()).vocabulary
    assert vocabulary == Vocabulary(
        "a.gguf", "", tuple(tokens), added=frozenset({2, 3}), special=frozenset({1, 2}), unused=frozenset({4})
    )


def test_version_2_is_read_as_version_3_is(tmp_path: Path) -> None:
    content = write_gguf(tmp_path / "a.gguf", {"output.weight": (planted_rows("Q8_0", 3), "Q8_0")}).read_bytes()
    older = b"GGUF" + u32(2) + content[8:]
    assert parse(older) == parse(content)


def test_a_header_that_is_cut_says_how_much_is_needed_until_it_is_whole(tmp_path: Path) -> None:
    rows = planted_rows("F32", 4)
    path = write_gguf(
        tmp_path / "a.gguf", {"output.weight": (rows, "F32")}, {"x": 1, "y": "text"}, tokens=[f"t{n}" for n in range(9)]
    )
    content = path.read_bytes()
    whole = parse(content)
    header_nbytes = len(content) - rows.nbytes
    padding = 31
    for have in range(header_nbytes - padding):
        with pytest.raises(NeedsMore) as cut:
            parse(content[:have], len(content))
        assert have < cut.value.nbytes <= header_nbytes
    assert parse(content[:header_nbytes], len(content)) == whole


def test_arrays_in_arrays_are_stepped_over() -> None:
    inner = u32(4) + u64(2) + u32(7) + u32(8)
    texts = u32(8) + u64(1) + text("x")
    content = header(0, 2, text("deep") + u32(9) + u32(9) + u64(2) + inner + texts + text("after") + u32(4) + u32(5))
    assert parse(content).metadata == {"after": 5}


def test_a_big_endian_file_is_refused_as_such(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "a.gguf", {"x": (planted_rows("F32", 1), "F32")}, endianess=GGUFEndian.BIG)
    with pytest.raises(UnsupportedCheckpoint, match="found a big-endian GGUF file, expected a little-endian one"):
        parse(path.read_bytes())


@pytest.mark.parametrize("version", [1, 4])
def test_a_version_of_another_layout_is_refused_as_such(version: int) -> None:
    with pytest.raises(UnsupportedCheckpoint, match=f"found GGUF version {version}, expected 2 or 3"):
        parse(header(version=version))


def test_a_tensor_of_a_type_that_is_not_known_reaches_to_the_next() -> None:
    content = with_tensors(tensor("a", [8], 4, 0), tensor("b", [8], 0, 64), tensor("c", [8], 31, 96), nbytes=200)
    tensors = parse(content).tensors
    begin = tensors["a"].begin
    assert (tensors["a"].dtype, tensors["a"].end) == ("ggml type 4", begin + 64)
    assert (tensors["b"].dtype, tensors["b"].end) == ("F32", begin + 96)
    assert tensors["c"].end == len(content)


HUGE = 2**63
UNSOUND = {
    "empty": (b"", "found an empty file"),
    "other-magic": (b"PZ\x03\x04" + bytes(20), "found b'PZ"),
    "no-room-for-counts": (b"GGUF" + u32(3) + bytes(8), "a header of 24 bytes or more, expected at most 16"),
    "many-tensors": (header(HUGE), "found 9,223,372,036,854,775,808 tensors"),
    "more-tensors-than-fit": (header(50, 0, bytes(100)), "found 50 tensors"),
    "many-keys": (header(0, HUGE), "keys"),
    "long-key": (header(0, 1, u64(HUGE) + bytes(20)), "expected at most 52"),
    "key-no-utf-8": (header(0, 1, text(b"\xff") + u32(4) + u32(0)), "found the name b'"),
    "key-beyond-bounds": (header(0, 1, text("k" * 65_536) + u32(4) + u32(0)), "expected UTF-8 of at most 65,535 bytes"),
    "duplicate-key": (header(0, 2, 2 * (text("k") + u32(4) + u32(0))), "found the key 'k' twice"),
    "unknown-value": (header(0, 1, text("k") + u32(13) + u64(0)), "value of type 13"),
    "long-text": (header(0, 1, text("k") + u32(8) + u64(HUGE)), "at most"),
    "long-array": (header(0, 1, text("k") + u32(9) + u32(10) + u64(HUGE)), "at most"),
    "many-texts": (header(0, 1, text("k") + u32(9) + u32(8) + u64(HUGE)), "strings"),
    "text-beyond": (header(0, 1, text("k") + u32(9) + u32(8) + u64(2) + u64(HUGE) + bytes(8)), "at most"),
    "array-of-nothing": (header(0, 1, text("k") + u32(9) + u32(99) + u64(0)), "values of type 99"),
    "many-arrays": (header(0, 1, text("k") + u32(9) + u32(9) + u64(10_001) + bytes(130_000)), "arrays in arrays"),
    "deep-arrays": (header(0, 1, text("k") + u32(9) + 10 * (u32(9) + u64(1)) + bytes(12)), "4 deep"),
    "tokens-no-texts": (header(0, 1, text("tokenizer.ggml.tokens") + u32(9) + u32(4) + u64(0)), "expected strings"),
    "many-tokens": (header(0, 1, text("tokenizer.ggml.tokens") + u32(9) + u32(8) + u64(HUGE)), "tokens"),
    "odd-alignment": (header(0, 1, text("general.alignment") + u32(4) + u32(3)), "found general.alignment 3"),
    "no-alignment": (header(0, 1, text("general.alignment") + u32(4) + u32(0)), "found general.alignment 0"),
    "text-alignment": (header(0, 1, text("general.alignment") + u32(8) + text("x")), "found general.alignment 'x'"),
    "duplicate-tensor": (with_tensors(*2 * [tensor("t", [8], 0, 0)], nbytes=32), "found 1 names for 2 tensors"),
    "many-dimensions": (with_tensors(tensor("t", 5 * [1], 0, 0), nbytes=32), "5 dimensions"),
    "huge-shape": (with_tensors(tensor("t", 4 * [2**64 - 1], 0, 0), nbytes=32), "to end by byte"),
    "part-of-a-block": (with_tensors(tensor("t", [33], 8, 0), nbytes=64), "expected a multiple of 32"),
    "beyond-the-file": (with_tensors(tensor("t", [9], 0, 0), nbytes=32), "to end by byte"),
    "begins-beyond": (with_tensors(tensor("t", [0], 0, 64), nbytes=32), "to end by byte"),
    "huge-offset": (with_tensors(tensor("t", [8], 0, 2**64 - 32), nbytes=32), "to end by byte"),
    "unaligned": (with_tensors(tensor("t", [4], 0, 4), nbytes=32), "to begin at a multiple of 32"),
    "overlapping": (with_tensors(tensor("t", [16], 0, 0), tensor("u", [8], 0, 32), nbytes=64), "found tensor 't' at"),
}


@pytest.mark.parametrize(("content", "message"), UNSOUND.values(), ids=UNSOUND)
def test_an_unsound_header_is_refused_with_what_was_found(content: bytes, message: str) -> None:
    with pytest.raises(CorruptCheckpoint) as refused:
        parse(content)
    assert message in str(refused.value)
    assert str(refused.value).startswith("here: a.gguf: ")
    assert len(str(refused.value)) < 1000


def test_a_header_longer_than_any_is_refused_without_asking_for_it() -> None:
    content = header(0, 1, text("k") + u32(9) + u32(0) + u64(1 << 30))
    with pytest.raises(CorruptCheckpoint, match="expected at most 67,108,864"):
        parse(content, 1 << 40)


def sound_file() -> bytes:
    keys = (
        text("general.architecture") + u32(8) + text("llama"),
        text("general.alignment") + u32(4) + u32(32),
        text("nested") + u32(9) + u32(9) + u64(1) + u32(8) + u64(2) + text("a") + text("b"),
        text("tokenizer.ggml.tokens") + u32(9) + u32(8) + u64(2) + text("x") + text("y"),
    )
    return with_tensors(
        tensor("token_embd.weight", [32, 2], 8, 0), tensor("output.weight", [8, 2], 1, 96), nbytes=128, keys=keys
    )


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A sound file with some of its bytes and numbers changed, pieces of it repeated, or its end cut off."""
    content = bytearray(sound_file())
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, max(0, len(content) - 8)))
        new = draw(st.binary(min_size=1, max_size=8) | st.integers(0, 2**64 - 1).map(u64) | st.integers(0, 40).map(u64))
        content[place : place + len(new)] = new
    if draw(st.booleans()):
        begin, end = sorted((draw(st.integers(0, len(content))), draw(st.integers(0, len(content)))))
        content[end:end] = content[begin:end]
    return bytes(content[: draw(st.integers(0, len(content)) | st.just(len(content)))])


@given(damaged(), st.sampled_from([0, 1 << 20, 1 << 50]))
def test_a_damaged_header_is_read_or_refused_and_never_leaves_the_file(content: bytes, beyond: int) -> None:
    file_size = len(content) + beyond
    try:
        parsed = parse(content, file_size)
    except (CorruptCheckpoint, UnsupportedCheckpoint):
        return
    except NeedsMore as cut:
        asked: int | None = cut.nbytes
    else:
        asked = None
    if asked is not None:
        assert len(content) < asked <= file_size
        return
    positions = sorted((found.begin, found.end) for found in parsed.tensors.values())
    assert all(0 <= begin <= end <= file_size for begin, end in positions)
    assert all(end <= begin for (_, end), (begin, _) in pairwise(positions))


@given(st.binary(max_size=200))
def test_any_bytes_after_the_magic_are_read_or_refused(content: bytes) -> None:
    with suppress(CorruptCheckpoint, UnsupportedCheckpoint):
        parse(b"GGUF" + u32(3) + content)
