"""What one pass over W's rows measures, as a fold: add blocks of rows of any size, in order."""

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray

from job.geometry.digests import Digest, Digests, blake2b_128, row_digests
from job.geometry.rows import Block, Encoding, canonical_nans, row_norms, value_bytes


class Measurement:
    """The fold over W's rows. Holds 43 bytes per row and one number per column.

    The results do not depend on how the rows are divided into blocks.
    """

    def __init__(self, n_rows: int, hidden_size: int, encoding: Encoding, digest: Digest = blake2b_128) -> None:
        self.encoding = encoding
        self.digest = digest
        self.n_seen = 0
        self.sha256 = hashlib.sha256()
        self.digests: Digests = np.empty((n_rows, 2), np.uint64)
        """(n_rows, 2) uint64: the digests of the rows as stored."""
        self.value_digests: Digests = np.empty((n_rows, 2), np.uint64)
        """(n_rows, 2) uint64: the digests of the rows' ``value_bytes``. For a row with a NaN it means nothing."""
        self.norms: NDArray[np.float64] = np.empty(n_rows, np.float64)
        """(n_rows,) float64: the Euclidean norm of each row."""
        self.has_nan: NDArray[np.bool_] = np.zeros(n_rows, np.bool_)
        self.has_infinity: NDArray[np.bool_] = np.zeros(n_rows, np.bool_)
        self.has_negative_zero: NDArray[np.bool_] = np.zeros(n_rows, np.bool_)
        self._sum: NDArray[np.float64] = np.zeros(hidden_size, np.float64)

    def add(self, block: Block) -> None:
        """Add the next rows, (n, row_nbytes) uint8."""
        rows = slice(self.n_seen, self.n_seen + len(block))
        self.n_seen = rows.stop
        self.sha256.update(block.reshape(-1).data)
        self.digests[rows] = self.value_digests[rows] = row_digests(block, self.digest)
        numbers = self.encoding.numbers(block)
        values: NDArray[np.float64] = numbers.to(torch.float64).numpy()
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are counted, and the results show them
            # One row at a time: the rounding of a sum over a block would depend on the block's size.
            for row in values:
                self._sum += row
            norms = row_norms(values)
        self.norms[rows] = norms
        finite = np.isfinite(norms)
        if not finite.all():
            self.has_nan[rows] = np.isnan(values).any(axis=1)
            self.has_infinity[rows] = np.isinf(values).any(axis=1)
        negative_zero = ((values == 0) & np.signbit(values)).any(axis=1)
        self.has_negative_zero[rows] = negative_zero
        # If bytes and numbers are one to one, only a −0 gives a row another digest by value. A row with a NaN equals no
        # other row, so it needs no digest.
        differs = negative_zero if self.encoding.one_to_one else np.ones(len(block), np.bool_)
        differs &= ~self.has_nan[rows]
        if differs.any():
            by_value = value_bytes(numbers[torch.from_numpy(differs)])
            self.value_digests[rows][differs] = row_digests(by_value, self.digest)

    @property
    def mu(self) -> NDArray[np.float32]:
        """(hidden_size,) float32: the centroid of the rows, summed in float64 in the rows' order, rounded once."""
        with np.errstate(invalid="ignore", over="ignore"):
            return canonical_nans((self._sum / self.n_seen).astype(np.float32))

    @property
    def values_may_disagree(self) -> bool:
        """Whether rows could be equal by value but differ in their bytes, or the reverse."""
        return bool(self.has_nan.any() or self.has_negative_zero.any()) or not self.encoding.one_to_one
