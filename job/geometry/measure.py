"""What one pass over W's rows measures, as a fold: add blocks of rows of any size, in order."""

import numpy as np
from numpy.typing import NDArray

from job.geometry.digests import Digest, Digests, row_digests
from job.geometry.methods import NUMBERS_PER_BLOCK
from job.geometry.rows import Block, Encoding, canonical_nans, negative_zeros, row_norms, value_bytes


class Measurement:
    """The fold over W's rows. Holds 43 bytes per row, one number per column, and one block of numbers.

    The results do not depend on how the rows are divided into blocks, nor on ``digest``.
    """

    def __init__(self, n_rows: int, hidden_size: int, encoding: Encoding, digest: Digest) -> None:
        self.encoding = encoding
        self.digest = digest
        self.n_seen = 0
        self.digests: Digests = np.empty((n_rows, 2), np.uint64)
        """(n_rows, 2) uint64: the digests of the rows as stored."""
        self.value_digests: Digests = np.empty((n_rows, 2), np.uint64)
        """(n_rows, 2) uint64: the digests of the rows' ``value_bytes``. For a row with a NaN it means nothing."""
        self.norms: NDArray[np.float64] = np.empty(n_rows, np.float64)
        """(n_rows,) float64: the Euclidean norm of each row."""
        self.has_nan: NDArray[np.bool_] = np.zeros(n_rows, np.bool_)
        self.has_infinity: NDArray[np.bool_] = np.zeros(n_rows, np.bool_)
        self.has_negative_zero: NDArray[np.bool_] = np.zeros(n_rows, np.bool_)
        self._hidden_size = hidden_size
        self._rows_at_once = max(1, NUMBERS_PER_BLOCK // hidden_size)
        # Row 0 is the sum of all rows before. numpy adds whole rows one after another, so that the rounding of the sum
        # does not depend on blocks. It would add the numbers of a single column in pairs: hence at least two columns.
        self._summands: NDArray[np.float64] = np.zeros((1 + self._rows_at_once, max(2, hidden_size)), np.float64)

    def add(self, block: Block) -> None:
        """Add the next rows, (n, row_nbytes) uint8."""
        for first in range(0, len(block), self._rows_at_once):
            self._add(block[first : first + self._rows_at_once])

    def _add(self, block: Block) -> None:
        rows = slice(self.n_seen, self.n_seen + len(block))
        self.n_seen = rows.stop
        self.digests[rows] = self.value_digests[rows] = row_digests(block, self.digest)
        summands = self._summands[: 1 + len(block)]
        values = summands[1:, : self._hidden_size]
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are counted, and the results show them
            numbers = self.encoding.numbers(block)
            np.copyto(values, numbers)
            self._summands[0] = np.add.reduce(summands, axis=0)
            self.norms[rows] = row_norms(values)
        if not np.isfinite(self.norms[rows]).all():
            self.has_nan[rows] = np.isnan(numbers).any(axis=1)
            self.has_infinity[rows] = np.isinf(numbers).any(axis=1)
        self.has_negative_zero[rows] = negative_zeros(numbers)
        # If bytes and numbers are one to one, only a −0 gives a row another digest by value. A row with a NaN equals no
        # other row, so it needs no digest.
        differs = ~self.has_nan[rows] & (self.has_negative_zero[rows] | (not self.encoding.one_to_one))
        if differs.any():
            self.value_digests[rows][differs] = row_digests(value_bytes(block[differs], self.encoding), self.digest)

    @property
    def mu(self) -> NDArray[np.float32]:
        """(hidden_size,) float32: the centroid of the rows, summed in float64 in the rows' order, rounded once."""
        with np.errstate(invalid="ignore", over="ignore"):
            return canonical_nans((self._summands[0, : self._hidden_size] / self.n_seen).astype(np.float32))

    @property
    def values_may_disagree(self) -> bool:
        """Whether rows could be equal by value but differ in their bytes, or the reverse."""
        return bool(self.has_nan.any() or self.has_negative_zero.any()) or not self.encoding.one_to_one
