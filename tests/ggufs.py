"""GGUF files as the gguf package writes them, and the pieces of a header to write one by hand."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFEndian
from gguf.gguf_writer import GGUFWriter
from gguf.quants import quantize
from numpy.typing import NDArray

from job.checkpoints.formats.gguf_file import Value

Rows = NDArray[np.uint8]
"""(n_rows, row_nbytes) uint8: rows of a ggml type, as stored."""

WRITABLE = ("F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "MXFP4")
"""The types in which the gguf package can write numbers."""

READABLE = (
    *WRITABLE, "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS",
    "IQ3_S", "IQ4_NL", "IQ4_XS", "NVFP4",
)  # fmt: skip
"""The types that it can also read back."""

HIDDEN_SIZE = 512
"""Two blocks of the types with the longest blocks."""


def planted_rows(dtype: str, n_rows: int, groups: Sequence[Sequence[int]] = ()) -> Rows:
    """Random rows of a type, those of each group identical; of any bytes at all where the package cannot write it."""
    random = np.random.default_rng(0)
    if dtype in WRITABLE:
        numbers = random.standard_normal((n_rows, HIDDEN_SIZE), np.float32)
        rows = quantize(numbers, GGMLQuantizationType[dtype]).view(np.uint8)
    else:
        block, nbytes = GGML_QUANT_SIZES[GGMLQuantizationType[dtype]]
        rows = random.integers(0, 256, (n_rows, HIDDEN_SIZE // block * nbytes), np.uint8)
    for group in groups:
        rows[group] = rows[group[0]].copy()
    return rows


def write_gguf(
    path: Path,
    tensors: Mapping[str, tuple[Rows, str]],
    keys: Mapping[str, Value] | None = None,
    *,
    architecture: str = "llama",
    tokens: Sequence[str] = (),
    token_types: Sequence[int] = (),
    alignment: int | None = None,
    endianess: GGUFEndian = GGUFEndian.LITTLE,
    tensors_in_a_part: int = 0,
) -> Path:
    """A GGUF file of these tensors, each stored rows and their type; or its parts, named as llama.cpp names them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = GGUFWriter(path, architecture, endianess=endianess, split_max_tensors=tensors_in_a_part)
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    for key, value in (keys or {}).items():
        match value:
            case bool():
                writer.add_bool(key, value)
            case int():
                writer.add_uint32(key, value)
            case float():
                writer.add_float64(key, value)
            case str():
                writer.add_string(key, value)
    writer.add_array("tokenizer.ggml.tokens", tokens)
    if token_types:
        writer.add_token_types(token_types)
    for name, (rows, dtype) in tensors.items():
        writer.add_tensor(name, rows, raw_dtype=GGMLQuantizationType[dtype])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def u32(value: int) -> bytes:
    return struct.pack("<I", value)


def u64(value: int) -> bytes:
    return struct.pack("<Q", value)


def header(n_tensors: int = 0, n_keys: int = 0, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + u32(version) + u64(n_tensors) + u64(n_keys) + rest
