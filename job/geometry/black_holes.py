"""Black holes: groups of rows that are bit-for-bit identical. Digests only find candidates; the bytes decide."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from job.geometry.digests import Digests
from job.geometry.rows import Block, Encoding, value_bytes

Labels = NDArray[np.int64]
"""(n_rows,) int64: rows with the same label are in the same group. The numbers themselves mean nothing."""

RowReader = Callable[[NDArray[np.int64]], Block]
"""Reads the stored bytes of the rows with these ids: (n,) int64 → (n, row_nbytes) uint8."""

_BATCH_NBYTES: Final = 4 << 20
"""How many bytes of rows are held at once for each side of a comparison."""


@dataclass(frozen=True)
class BlackHoles:
    """The black holes of a matrix, ordered by population, descending, then by smallest member id, ascending."""

    ids: NDArray[np.int32]
    """(n_rows,) int32: 0 = not in a hole; 1 = the most populous hole, 2 = the next, …"""
    populations: NDArray[np.int64]
    """(n_holes,) int64: rows in hole 1, 2, …"""
    first_members: NDArray[np.int64]
    """(n_holes,) int64: the smallest row id in hole 1, 2, …"""

    @property
    def n_holes(self) -> int:
        return len(self.populations)

    @property
    def n_tokens(self) -> int:
        """How many rows are in a hole."""
        return int(self.populations.sum())

    @property
    def duplicate_rows(self) -> int:
        """Rows minus unique rows. Each hole has one unique row, so this is ``n_tokens - n_holes``."""
        return self.n_tokens - self.n_holes

    @property
    def unique_rows(self) -> int:
        return len(self.ids) - self.duplicate_rows

    def members(self, max_holes: int | None = None) -> list[NDArray[np.int64]]:
        """The row ids in hole 1, 2, …, up to ``max_holes``, each (population,) int64, ascending."""
        by_hole = np.argsort(self.ids, kind="stable")[len(self.ids) - self.n_tokens :]
        ends = np.cumsum(self.populations)[:max_holes]
        return np.split(by_hole[: ends[-1]], ends[:-1]) if len(ends) else []


def number_holes(labels: Labels) -> BlackHoles:
    """The groups of at least two rows as black holes, numbered in their order."""
    _, first, inverse, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    holes = np.flatnonzero(counts > 1)
    holes = holes[np.lexsort((first[holes], -counts[holes]))]
    number_of_group = np.zeros(len(counts), np.int32)
    number_of_group[holes] = np.arange(1, len(holes) + 1)
    return BlackHoles(
        ids=number_of_group[inverse],
        populations=counts[holes].astype(np.int64),
        first_members=first[holes].astype(np.int64),
    )


def group_by_digest(digests: Digests, read_rows: RowReader, row_nbytes: int) -> Labels:
    """Group identical rows: compare the bytes of rows whose digests agree.

    Memory: a few numbers per row, and two buffers of 4 MiB each (or of one row, if it is longer).
    """
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    ordered = digests[order]
    starts = np.ones(len(order), np.bool_)
    starts[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    labels = np.empty(len(order), np.int64)
    labels[order] = np.cumsum(starts)
    return _split_by_bytes(labels, read_rows, max(1, _BATCH_NBYTES // row_nbytes))


def _split_by_bytes(labels: Labels, read_rows: RowReader, rows_at_once: int) -> Labels:
    """Compare each row with the first row of its group. Rows that differ form a new group, which is compared again."""
    labels = labels.copy()
    suspects = np.arange(len(labels))
    while True:
        _, first, inverse, counts = np.unique(
            labels[suspects], return_index=True, return_inverse=True, return_counts=True
        )
        leaders = suspects[first[inverse]]
        followers = (counts[inverse] > 1) & (suspects != leaders)
        pairs = np.stack((suspects[followers], leaders[followers]))
        differ = np.empty(pairs.shape[1], np.bool_)
        for begin in range(0, pairs.shape[1], rows_at_once):
            batch = slice(begin, begin + rows_at_once)
            differ[batch] = (read_rows(pairs[0, batch]) != read_rows(pairs[1, batch])).any(axis=1)
        suspects = pairs[0, differ]
        if not len(suspects):
            return labels
        labels[suspects] = labels.max() + 1 + np.unique(labels[suspects], return_inverse=True)[1]


def group_by_value_digest(
    digests: Digests, has_nan: NDArray[np.bool_], read_rows: RowReader, row_nbytes: int, encoding: Encoding
) -> Labels:
    """Group rows whose *values* are equal, as in ``torch.unique``: −0 equals +0, and a NaN equals nothing.

    ``digests``: (n_rows, 2) uint64, of the rows' ``value_bytes``. ``has_nan``: (n_rows,) bool.
    """
    comparable = np.flatnonzero(~has_nan)
    labels = -1 - np.arange(len(digests))
    labels[comparable] = group_by_digest(
        digests[comparable], lambda ids: value_bytes(read_rows(comparable[ids]), encoding), row_nbytes
    )
    return labels
