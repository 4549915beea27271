"""Rows of a matrix as they are stored, and the numbers they stand for."""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

Block = NDArray[np.uint8]
"""(n, row_nbytes) uint8: consecutive rows, byte for byte as stored."""

FLOAT_DTYPES: Final = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
}
"""The dtypes W may have, by the names safetensors gives them."""


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


def as_tensor(block: Block, dtype: str) -> torch.Tensor:
    """The numbers in a block: (n, hidden_size) of the stored dtype, sharing the block's memory."""
    return torch.from_numpy(block).view(FLOAT_DTYPES[dtype])


def as_float64(block: Block, dtype: str) -> NDArray[np.float64]:
    """The numbers in a block as (n, hidden_size) float64, exactly."""
    return as_tensor(block, dtype).to(torch.float64).numpy()


def without_negative_zeros(block: Block, dtype: str) -> Block:
    """The rows with each −0 replaced by +0: adding +0 does that, and changes no other number."""
    return (as_tensor(block, dtype) + 0.0).view(torch.uint8).numpy()


def centred(block: Block, dtype: str, mu: NDArray[np.float32]) -> NDArray[np.float32]:
    """γ′ of these rows: (n, hidden_size) float32, float32(W) − mu."""
    with np.errstate(invalid="ignore", over="ignore"):
        return with_one_nan(as_tensor(block, dtype).to(torch.float32).numpy() - mu)


def with_one_nan(values: NDArray[np.float32]) -> NDArray[np.float32]:
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
