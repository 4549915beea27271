"""Rows of a matrix as they are stored, and the numbers that they stand for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

Block = NDArray[np.uint8]
"""(n, row_nbytes) uint8: consecutive rows, byte for byte as stored."""

Numbers = NDArray[np.float32] | NDArray[np.float64]
"""(n, hidden_size): the numbers that rows stand for, exactly."""


@dataclass(frozen=True)
class Encoding:
    """How the stored bytes of a row encode its numbers."""

    name: str
    """The dtype's name in the checkpoint's format: ``BF16``, ``Q8_0``, …"""
    numbers: Callable[[Block], Numbers]
    """(n, row_nbytes) uint8 → (n, hidden_size). The numbers of a row depend only on its own bytes. They may share the
    block's memory."""
    bits: DTypeLike | None = None
    """The unsigned integer of the size of a stored number, whose highest bit is the number's sign. None if rows are
    quantised: then rows with different bytes may have the same numbers (if the scale of a block is 0, all are 0)."""

    @property
    def one_to_one(self) -> bool:
        """Whether rows with different bytes have different numbers, apart from ±0 and NaN."""
        return self.bits is not None


def _bfloat16(block: Block) -> NDArray[np.float32]:
    """A BF16 is the upper half of a float32."""
    return np.left_shift(block.view(np.uint16), 16, dtype=np.uint32).view(np.float32)


FLOATS: Final[Mapping[str, Encoding]] = {
    "F64": Encoding("F64", lambda block: block.view(np.float64), np.uint64),
    "F32": Encoding("F32", lambda block: block.view(np.float32), np.uint32),
    "F16": Encoding("F16", lambda block: block.view(np.float16).astype(np.float32), np.uint16),
    "BF16": Encoding("BF16", _bfloat16, np.uint16),
}
"""The encodings that store numbers as they are, by safetensors' names."""


def value_bytes(block: Block, encoding: Encoding) -> Block:
    """Bytes that are equal for rows whose numbers are: (n, row_nbytes) uint8, with each −0 replaced by +0.

    Of quantised rows, those of their numbers.
    """
    if encoding.bits is None:
        return (encoding.numbers(block) + 0.0).view(np.uint8)  # adding +0 changes no number but −0
    bits = block.view(encoding.bits).copy()
    bits[bits == _sign_bit(bits)] = 0
    return bits.view(np.uint8)


def negative_zeros(numbers: Numbers) -> NDArray[np.bool_]:
    """(n,) bool: the rows that hold a −0."""
    bits = numbers.view(f"u{numbers.itemsize}")
    found: NDArray[np.bool_] = (bits == _sign_bit(bits)).any(axis=1)
    return found


def _sign_bit(bits: NDArray[np.unsignedinteger]) -> np.unsignedinteger:
    """The integer whose only bit is the sign: that of −0."""
    return bits.dtype.type(1 << (8 * bits.itemsize - 1))


def centred(block: Block, encoding: Encoding, mu: NDArray[np.float32]) -> NDArray[np.float32]:
    """γ′ of these rows, float32(W) − mu: (n, hidden_size) float32."""
    with np.errstate(invalid="ignore", over="ignore"):
        return canonical_nans(encoding.numbers(block).astype(np.float32, copy=False) - mu)


def canonical_nans(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same array, changed in place: each NaN gets the same bits. Else they would depend on the processor."""
    nans = np.isnan(values)
    if nans.any():
        values[nans] = np.nan
    return values


def row_norms(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n,) float64: the Euclidean norm of each row. Overwrites ``values`` with their squares.

    numpy sums each row separately, so the norm of a row does not depend on its block. torch and BLAS may split the sum
    among threads.
    """
    np.square(values, out=values)
    squares: NDArray[np.float64] = np.add.reduce(values, axis=1)
    return np.sqrt(squares)
