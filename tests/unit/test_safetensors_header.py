"""The header parser, held against the safetensors library itself."""

import json
import struct

import pytest
import safetensors
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from job.checkpoints.checkpoint import TensorLocation
from job.checkpoints.formats.safetensors_header import BITS, MAX_HEADER, header_end, parse_header
from job.errors import CorruptCheckpoint, UnsupportedCheckpoint


def parse(content: bytes) -> dict[str, TensorLocation]:
    end = header_end(content[:8], len(content), "here")
    return parse_header(content[8:end], "model.safetensors", len(content), "here")


def names_by_safetensors(content: bytes) -> set[str]:
    """The oracle."""
    return {name for name, _ in safetensors.deserialize(content)}  # type: ignore[no-untyped-call]  # as it is shipped


def file_of(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(begin: int, end: int, shape: list[int], dtype: str = "U8") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_offsets_count_from_the_start_of_the_file() -> None:
    tensors = {
        "lm_head.weight": torch.arange(12, dtype=torch.bfloat16).view(4, 3),
        "norm.weight": torch.ones(3),
        "empty": torch.zeros(0, 5, dtype=torch.int8),
        "scalar": torch.tensor(7, dtype=torch.int64),
    }
    content = save(tensors, {"format": "pt"})
    parsed = parse(content)
    assert {name: location.shape for name, location in parsed.items()} == {
        k: tuple(t.shape) for k, t in tensors.items()
    }
    for name, tensor in tensors.items():
        stored = content[parsed[name].begin : parsed[name].end]
        assert stored == tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    assert parsed["lm_head.weight"].dtype == "BF16"
    assert parsed["lm_head.weight"].file == "model.safetensors"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="an empty file"),
        pytest.param(b"\x08\0\0\0", id="a cut length"),
        pytest.param(struct.pack("<Q", 100) + b"{}", id="a header longer than the file"),
        pytest.param(struct.pack("<Q", 2**63) + b"{}", id="an absurd length"),
        pytest.param(file_of(b""), id="an empty header"),
        pytest.param(file_of(b"[]"), id="a list"),
        pytest.param(file_of(b"{"), id="cut JSON"),
        pytest.param(file_of(b'{"\xff": 1}'), id="not UTF-8"),
        pytest.param(file_of(b'{"a":' + b"[" * 100_000), id="JSON nested too deeply"),
        pytest.param(file_of({"a": 1}), id="a tensor that is no object"),
        pytest.param(file_of({"a": {"dtype": "U8", "shape": [1]}}, b"x"), id="no offsets"),
        pytest.param(file_of({"a": entry(0, 1, [1.0])}, b"x"), id="a broken shape"),  # type: ignore[list-item]  # on purpose
        pytest.param(file_of({"a": entry(0, 1, [True])}, b"x"), id="a shape of booleans"),
        pytest.param(file_of({"a": entry(0, 1, [-1])}, b"x"), id="a negative size"),
        pytest.param(file_of({"a": entry(0, 0, [2**70, 0])}), id="a size beyond 64 bits"),
        pytest.param(file_of({"a": entry(1, 0, [1])}, b"x"), id="an end before its begin"),
        pytest.param(file_of({"a": entry(0, 9, [9])}, b"x"), id="data beyond the file"),
        pytest.param(file_of({"a": entry(0, 1, [1])}, b"xy"), id="data that no tensor covers"),
        pytest.param(file_of({"a": entry(0, 1, [1]), "b": entry(2, 3, [1])}, b"xyz"), id="a hole"),
        pytest.param(file_of({"a": entry(0, 2, [2]), "b": entry(1, 3, [2])}, b"xyz"), id="an overlap"),
        pytest.param(
            file_of({"a": entry(0, 4, [2], "BF16"), "b": entry(0, 4, [2], "F16")}, b"wxyz"), id="twice the same"
        ),
        pytest.param(file_of({"a": entry(0, 4, [3], "BF16")}, b"wxyz"), id="fewer bytes than the shape takes"),
    ],
)
def test_a_file_that_contradicts_itself_is_corrupt_for_safetensors_too(content: bytes) -> None:
    with pytest.raises(safetensors.SafetensorError):
        names_by_safetensors(content)
    with pytest.raises(CorruptCheckpoint, match="here"):
        parse(content)


def test_a_key_that_occurs_twice_is_corrupt_although_safetensors_takes_the_last() -> None:
    one = json.dumps(entry(0, 1, [1]))
    with pytest.raises(CorruptCheckpoint, match="'a' occurs 2 times"):
        parse(file_of(f'{{"a": {one}, "a": {one}}}'.encode(), b"x"))


def test_a_shape_of_more_dimensions_than_torch_takes_is_corrupt() -> None:
    with pytest.raises(CorruptCheckpoint, match="tensor 'a'"):
        parse(file_of({"a": entry(0, 1, [1] * 65)}, b"x"))


def test_a_header_longer_than_any_sound_one_is_refused_before_it_is_read() -> None:
    with pytest.raises(CorruptCheckpoint, match="25,000,001"):
        header_end(struct.pack("<Q", MAX_HEADER + 1), 10**12, "here")


def test_a_sound_header_that_is_too_long_is_not_called_damaged() -> None:
    with pytest.raises(UnsupportedCheckpoint, match=r"25,000,001 bytes, expected .* smaller shards"):
        header_end(struct.pack("<Q", MAX_HEADER + 1) + b'{"a":', 10**12, "here")


def test_a_file_cut_off_is_to_be_downloaded_to_its_end() -> None:
    content = file_of({"a": entry(0, 9, [9])}, b"x" * 9)
    with pytest.raises(CorruptCheckpoint, match="cut off: finish the download"):
        parse(content[:-1])
    with pytest.raises(CorruptCheckpoint, match="cut off: finish the download"):
        header_end(content[:20], 20, "here")


def test_a_header_that_begins_as_another_format_does_is_a_header() -> None:
    header = json.dumps({"a": entry(0, 1, [1])}).encode()
    length = int.from_bytes(b"\x1f\x8b\x08", "little")
    content = struct.pack("<Q", length) + header + b" " * (length - len(header)) + b"x"
    assert names_by_safetensors(content) == set(parse(content)) == {"a"}


def test_a_dtype_of_the_future_is_kept_as_it_is() -> None:
    assert parse(file_of({"a": entry(0, 3, [7], "F3")}, b"xyz"))["a"].dtype == "F3"


@pytest.mark.parametrize("dtype", sorted(BITS))
def test_the_width_of_each_dtype_is_the_one_safetensors_takes(dtype: str) -> None:
    content = file_of({"a": entry(0, BITS[dtype], [8], dtype)}, b"x" * BITS[dtype])
    assert names_by_safetensors(content) == {"a"}
    assert parse(content)["a"].shape == (8,)


SIZES = st.one_of(st.integers(-2, 9), st.integers(0, 2**70), st.floats(), st.none())
ENTRIES = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["U8", "BF16", "F32", "F4"]),
        "shape": st.lists(SIZES, max_size=3),
        "data_offsets": st.lists(SIZES, max_size=3),
    }
)


@given(header=st.dictionaries(st.text(max_size=3), ENTRIES, max_size=3), n_data=st.integers(0, 9))
def test_any_header_is_either_accepted_by_both_or_refused_by_this_parser(
    header: dict[str, object], n_data: int
) -> None:
    content = file_of(header, b"x" * n_data)
    try:
        parsed = parse(content)
    except CorruptCheckpoint:
        return
    assert names_by_safetensors(content) == set(parsed)


@given(st.lists(st.tuples(st.sampled_from(sorted(BITS)), st.lists(st.integers(0, 5), max_size=3)), max_size=4))
def test_any_sound_layout_is_read(tensors: list[tuple[str, list[int]]]) -> None:
    header, position = {}, 0
    for index, (dtype, shape) in enumerate(tensors):
        bits = BITS[dtype]
        for size in shape:
            bits *= size
        if bits % 8:
            continue
        header[f"t{index}"] = entry(position, position + bits // 8, shape, dtype)
        position += bits // 8
    content = file_of(header, b"x" * position)
    assert names_by_safetensors(content) == set(parse(content)) == set(header)


@given(st.binary(max_size=64))
def test_any_bytes_are_a_header_or_refused(junk: bytes) -> None:
    try:
        parse(junk)
    except (CorruptCheckpoint, UnsupportedCheckpoint) as error:
        assert str(error).startswith("here: ")  # noqa: PT017 - either outcome is right
