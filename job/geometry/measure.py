"""Everything that is learnt from W in one pass over its rows, as a fold: feed it blocks of any size, in order."""

import hashlib

import numpy as np
import torch
from numpy.typing import NDArray

from job.geometry.digests import Digest, Digests, blake2b_128, row_digests
from job.geometry.rows import Block, Encoding, canonical_nans, row_norms, value_bytes


class Measurement:
    """The fold over W's rows. Holds 43 bytes a row and a number a column, whatever W's size.

    Each result is the same for any division of the rows into blocks.
    """

    def __init__(self, n_rows: int, hidden_size: int, encoding: Encoding, digest: Digest = blake2b_128) -> None:
        self.encoding = encoding
        self.digest = digest
        self.n_seen = 0
        self.sha256 = hashlib.sha256()
        self.digests: Digests = np.empty((n_rows, 2), np.uint64)
        """(n_rows, 2) uint64: of the rows as stored."""
        self.value_digests: Digests = np.empty((n_rows, 2), np.uint64)
        """(n_rows, 2) uint64: of the rows' ``value_bytes``, where they hold no NaN."""
        self.norms: NDArray[np.float64] = np.empty(n_rows, np.float64)
        """(n_rows,) float64: the Euclidean norm of each row."""
        self.has_nan: NDArray[np.bool_] = np.zeros(n_rows, np.bool_)
        self.has_infinity: NDArray[np.bool_] = np.zeros(n_rows, np.bool_)
        self.has_negative_zero: NDArray[np.bool_] = np.zeros(n_rows, np.bool_)
        self._sum: NDArray[np.float64] = np.zeros(hidden_size, np.float64)

    def add(self, block: Block) -> None:
        """Take the next (n, row_nbytes) rows."""
        rows = slice(self.n_seen, self.n_seen + len(block))
        self.n_seen = rows.stop
        self.sha256.update(block.reshape(-1).data)
        self.digests[rows] = self.value_digests[rows] = row_digests(block, self.digest)
        numbers = self.encoding.numbers(block)
        values: NDArray[np.float64] = numbers.to(torch.float64).numpy()
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are counted, and show in the results
            # Row after row: a sum over the block would round differently for every division into blocks.
            for row in values:
                self._sum += row
            norms = row_norms(values)
        self.norms[rows] = norms
        finite = np.isfinite(norms)
        if not finite.all():
            self.has_nan[rows] = np.isnan(values).any(axis=1)
            self.has_infinity[rows] = np.isinf(values).any(axis=1)
        signed = ((values == 0) & np.signbit(values)).any(axis=1)
        self.has_negative_zero[rows] = signed
        # Of rows whose bytes are their numbers, only those with a −0 have another digest by value; and a NaN equals
        # nothing, whatever the zeros beside it are.
        other = signed if self.encoding.one_to_one else np.ones(len(block), np.bool_)
        other &= ~self.has_nan[rows]
        if other.any():
            self.value_digests[rows][other] = row_digests(value_bytes(numbers[torch.from_numpy(other)]), self.digest)

    @property
    def mu(self) -> NDArray[np.float32]:
        """(hidden_size,) float32: the centroid of the rows, summed in float64 in the rows' order, rounded once."""
        with np.errstate(invalid="ignore", over="ignore"):
            return canonical_nans((self._sum / self.n_seen).astype(np.float32))

    @property
    def values_may_disagree(self) -> bool:
        """Whether equality of values could differ from identity of bytes."""
        return bool(self.has_nan.any() or self.has_negative_zero.any()) or not self.encoding.one_to_one
