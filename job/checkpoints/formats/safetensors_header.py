"""The header of a safetensors file: where its tensors lie. Takes bytes and returns values; fetches nothing.

The format: https://github.com/huggingface/safetensors#format
"""

import json
from collections import Counter
from collections.abc import Mapping
from math import prod
from typing import TypeGuard

from job.checkpoints.checkpoint import TensorLocation
from job.checkpoints.formats.foreign_content import FIRST_BYTES, recognise
from job.checkpoints.formats.json_text import claim_for_json
from job.errors import CorruptCheckpoint, UnsupportedCheckpoint

LENGTH_NBYTES = 8
"""A file starts with the length of its JSON header, an unsigned little-endian integer."""

FIRST_READ_NBYTES = 100_000
"""Holds the whole header of 97 % of the Hub's files, as huggingface_hub measured over the top 1000 models
(``HfApi.parse_safetensors_file_metadata``)."""

MAX_HEADER = 25_000_000
"""Bytes. huggingface_hub accepts as many (``SAFETENSORS_MAX_HEADER_LENGTH``): over 150,000 tensors in one file."""

MAX_DIMENSIONS = 64
"""torch accepts as many. The limit bounds the arithmetic on a shape."""

MAX_SIZE = 2**63 - 1

BITS: Mapping[str, int] = {
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
    "BOOL": 8, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8,
    "I16": 16, "U16": 16, "F16": 16, "BF16": 16,
    "I32": 32, "U32": 32, "F32": 32,
    "I64": 64, "U64": 64, "F64": 64, "C64": 64,
}  # fmt: skip
"""Bits per element of the dtypes that safetensors 0.8 knows. Other dtypes are not checked: they matter only in W."""

FLOAT_DTYPES = frozenset({"F64", "F32", "F16", "BF16"})
"""The dtypes whose numbers are stored as they are, with no scale beside them. GGUF gives them the same names."""


def header_end(prefix: bytes, file_size: int, where: str) -> int:
    """The offset at which the header ends and the data begin, from the file's first bytes.

    Raises:
        CorruptCheckpoint: the file is no safetensors file, or is shorter than its header claims.
        UnsupportedCheckpoint: the file is in another format, or its header is too long.
    """
    is_object = prefix[LENGTH_NBYTES : LENGTH_NBYTES + 1] == b"{"
    is_enough = len(prefix) >= min(file_size, FIRST_BYTES)
    if not is_object and is_enough and (foreign := recognise(prefix, file_size, where)):
        raise foreign
    length = int.from_bytes(prefix[:LENGTH_NBYTES], "little")
    if len(prefix) < LENGTH_NBYTES or LENGTH_NBYTES + length > file_size or (length > MAX_HEADER and not is_object):
        problem = "the file is cut off: finish the download, or" if is_object else "it is no safetensors file:"
        raise CorruptCheckpoint(
            f"{where}: found a header of {length:,} bytes in a file of {file_size:,}, expected no more than it can"
            f" hold; {problem} get it again"
        )
    if length > MAX_HEADER:
        raise UnsupportedCheckpoint(
            f"{where}: found a header of {length:,} bytes, expected at most {MAX_HEADER:,}; save the model again in"
            " smaller shards"
        )
    return LENGTH_NBYTES + length


def parse_header(header: bytes, file: str, file_size: int, where: str) -> dict[str, TensorLocation]:
    """Every tensor of ``file`` by name, with offsets from the start of the file.

    Args:
        header: the JSON between the length and the data.
        file: the file's name in the checkpoint.
        file_size: its size in bytes.
        where: the start of error messages.

    Raises:
        CorruptCheckpoint: safetensors itself would refuse the layout, or a key occurs twice.
    """
    tensors = {
        name: _location(entry, file, LENGTH_NBYTES + len(header), f"{where}: tensor {name!r:.200}")
        for name, entry in _parse_object(header, where).items()
        if name != "__metadata__"
    }
    _check_data_is_covered(tensors, LENGTH_NBYTES + len(header), file_size, where)
    return tensors


def _parse_object(text: bytes, where: str) -> dict[str, object]:
    claim_for_json(text, where)
    try:
        parsed = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
        if isinstance(parsed, dict):
            "".join(parsed).encode()  # raises ValueError if a name holds a lone surrogate, written as an escape
    except (ValueError, RecursionError) as error:
        raise CorruptCheckpoint(
            f"{where}: found invalid JSON in the header ({error}), expected an object; get the file again"
        ) from None
    if not isinstance(parsed, dict):
        raise CorruptCheckpoint(
            f"{where}: found a JSON {type(parsed).__name__} as its header, expected an object; get the file again"
        )
    return parsed


def _without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        name, times = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {name!r:.200} occurs {times} times")
    return unique


def _location(entry: object, file: str, data_begin: int, where: str) -> TensorLocation:
    if not isinstance(entry, dict):
        raise CorruptCheckpoint(
            f"{where}: found {entry!r:.200}, expected an object that describes it; get the file again"
        )
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not (isinstance(dtype, str) and _are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2):
        raise CorruptCheckpoint(
            f"{where}: found {entry!r:.200}, expected a dtype, a shape and two data_offsets; get the file again"
        )
    begin, end = offsets
    bits = prod(shape) * BITS.get(dtype, 0)
    if dtype in BITS and bits != 8 * (end - begin):
        raise CorruptCheckpoint(
            f"{where}: found {end - begin:,} bytes, expected {bits:,} bits for {dtype} of shape {shape}; get the file"
            " again"
        )
    return TensorLocation(file, data_begin + begin, data_begin + end, dtype, tuple(shape))


def _are_sizes(values: object) -> TypeGuard[list[int]]:
    # `type(…) is int`, because True is an int too.
    return (
        isinstance(values, list)
        and len(values) <= MAX_DIMENSIONS
        and all(type(value) is int and 0 <= value <= MAX_SIZE for value in values)
    )


def _check_data_is_covered(tensors: Mapping[str, TensorLocation], data_begin: int, file_size: int, where: str) -> None:
    """Check as safetensors does: the tensors cover the file from its header to its end, without a gap or an overlap."""
    position = data_begin
    for name, tensor in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != position or tensor.end < position:
            raise CorruptCheckpoint(
                f"{where}: found tensor {name!r:.200} at bytes {tensor.begin:,} to {tensor.end:,}, expected it to begin"
                f" at {position:,}, where the one before it ends; get the file again"
            )
        position = tensor.end
    if position != file_size:
        is_cut = "the file is cut off: finish the download, or " if position > file_size else ""
        raise CorruptCheckpoint(
            f"{where}: found the end of the tensors at byte {position:,}, expected it at {file_size:,}, the end of the"
            f" file; {is_cut}get the file again"
        )
