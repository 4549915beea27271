"""Rows of a matrix as they are stored, and the numbers they stand for."""

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
    """How the stored bytes of a row stand for its numbers."""

    name: str
    """As the checkpoint's format calls it: ``BF16``, ``Q8_0``, …"""
    numbers: Callable[[Block], torch.Tensor]
    """(n, row_nbytes) uint8 → (n, hidden_size), of a float dtype that holds the numbers exactly. A row's numbers
    depend on its own bytes alone."""
    one_to_one: bool
    """Whether rows of different bytes are different numbers, but for ±0 and NaN. True of floats, not of quantised
    rows: where a block's scale is 0, whatever is scaled by it is 0."""


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
"""Rows that are their numbers, by the names that safetensors gives their dtypes. They share the block's memory."""


def row_blocks(chunks: Iterable[bytes], row_nbytes: int, block_nbytes: int) -> Iterator[Block]:
    """Cut a stream of bytes at row borders: blocks of about ``block_nbytes``, at least a row each, none empty.

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
                # A new one each time: whoever was given the last may still be holding it.
                block = np.empty_like(block)
                filled = 0
    n_rows, left_over = divmod(filled, row_nbytes)
    if left_over:
        raise ValueError(f"the stream ends {left_over} bytes into a row of {row_nbytes}")
    if n_rows:
        yield block[:n_rows]


def as_float32(block: Block, encoding: Encoding) -> NDArray[np.float32]:
    """The numbers in a block as (n, hidden_size) float32, which is exact but for F64."""
    return encoding.numbers(block).to(torch.float32).numpy()


def value_bytes(numbers: torch.Tensor) -> NDArray[np.uint8]:
    """(n, hidden_size) floats → their bytes, row by row, with each −0 replaced by +0: adding +0 does that, and changes
    no other number."""
    return (numbers + 0.0).view(torch.uint8).numpy()


def centred(block: Block, encoding: Encoding, mu: NDArray[np.float32]) -> NDArray[np.float32]:
    """γ′ of these rows: (n, hidden_size) float32, float32(W) − mu."""
    with np.errstate(invalid="ignore", over="ignore"):
        return canonical_nans(as_float32(block, encoding) - mu)


def canonical_nans(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same array with the bits of one NaN in place of any: which they are depends on the processor's path."""
    values[np.isnan(values)] = np.nan
    return values


def row_norms(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) float64: the Euclidean norm of each row.

    numpy sums each row on its own, so that a row's norm does not depend on the block that it came in; torch's and
    BLAS's reductions may split a row among threads.
    """
    squares: NDArray[np.float64] = np.add.reduce(np.square(values), axis=1)
    return np.sqrt(squares)
