"""Rows of a matrix as they are stored, and the numbers that they stand for."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

Block = NDArray[np.uint8]
"""(n, row_nbytes) uint8: consecutive rows, byte for byte as stored."""


@dataclass(frozen=True)
class Encoding:
    """How the stored bytes of a row encode its numbers."""

    name: str
    """The dtype's name in the checkpoint's format: ``BF16``, ``Q8_0``, …"""
    numbers: Callable[[Block], torch.Tensor]
    """(n, row_nbytes) uint8 → (n, hidden_size) in a float dtype that holds the numbers exactly. The numbers of a row
    depend only on its own bytes."""
    one_to_one: bool
    """Whether rows with different bytes have different numbers, apart from ±0 and NaN. True for floats, but not for
    quantised rows: if the scale of a block is 0, all its numbers are 0."""


def _float_encoding(name: str, dtype: torch.dtype) -> Encoding:
    return Encoding(name, partial(_view_as, dtype), one_to_one=True)


def _view_as(dtype: torch.dtype, block: Block) -> torch.Tensor:
    return torch.from_numpy(block).view(dtype)


FLOATS: Final[Mapping[str, Encoding]] = {
    "F64": _float_encoding("F64", torch.float64),
    "F32": _float_encoding("F32", torch.float32),
    "F16": _float_encoding("F16", torch.float16),
    "BF16": _float_encoding("BF16", torch.bfloat16),
}
"""The encodings that store numbers as they are, by safetensors' names. Their tensors share the block's memory."""


def row_blocks(chunks: Iterable[bytes | memoryview], row_nbytes: int, block_nbytes: int) -> Iterator[Block]:
    """Cut a stream of bytes at row borders, into blocks of about ``block_nbytes``, each of at least one row.

    Raises:
        ValueError: the stream ends inside a row.
    """
    rows_per_block = max(1, block_nbytes // row_nbytes)
    block = np.empty((rows_per_block, row_nbytes), np.uint8)
    filled = 0
    for chunk in chunks:
        rest = np.frombuffer(chunk, np.uint8)
        while rest.size:
            taken = min(rest.size, block.size - filled)
            block.reshape(-1)[filled : filled + taken] = rest[:taken]
            filled += taken
            rest = rest[taken:]
            if filled == block.size:
                yield block
                # A new array each time, because the caller may still hold the last one.
                block = np.empty_like(block)
                filled = 0
    n_rows, left_over = divmod(filled, row_nbytes)
    if left_over:
        raise ValueError(f"the stream ends {left_over} bytes into a row of {row_nbytes}")
    if n_rows:
        yield block[:n_rows]


def as_float32(block: Block, encoding: Encoding) -> NDArray[np.float32]:
    """The numbers in a block as (n, hidden_size) float32; exact, except for F64."""
    return encoding.numbers(block).to(torch.float32).numpy()


def value_bytes(numbers: torch.Tensor) -> NDArray[np.uint8]:
    """(n, hidden_size) floats → their bytes, row by row, with each −0 replaced by +0. Adding +0 does that, and changes
    no other number."""
    return (numbers + 0.0).view(torch.uint8).numpy()


def centred(block: Block, encoding: Encoding, mu: NDArray[np.float32]) -> NDArray[np.float32]:
    """γ′ of these rows, float32(W) − mu: (n, hidden_size) float32."""
    with np.errstate(invalid="ignore", over="ignore"):
        return canonical_nans(as_float32(block, encoding) - mu)


def canonical_nans(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same array, changed in place: each NaN gets the same bits. Else they would depend on the processor."""
    values[np.isnan(values)] = np.nan
    return values


def row_norms(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) float64: the Euclidean norm of each row.

    numpy sums each row separately, so the norm of a row does not depend on its block. torch and BLAS may split the sum
    among threads.
    """
    squares: NDArray[np.float64] = np.add.reduce(np.square(values), axis=1)
    return np.sqrt(squares)
